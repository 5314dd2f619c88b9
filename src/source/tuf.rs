//! The trust root of the public Sigstore, brought up to date by TUF (The Update Framework).
//!
//! What is trusted for it is the TUF root that was built in. Nothing is kept on disk, so every fetch begins there. The one
//! address that is asked is the public repository's.

use std::time::Duration;

use sigstore_trust_root::{TrustedRoot, TufBootstrap, TufConfig};

/// For a whole refresh, and for one request of it.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(20);

/// Where trust roots come from.
#[derive(Debug, Clone)]
pub struct TufSource {
    client: reqwest::Client,
    /// Another repository than the public one, with its own root.
    other: Option<(String, Vec<u8>)>,
}

impl TufSource {
    /// The public repository; `extra_ca` are PEM certificates of the administrator's. The error says what is wrong.
    pub fn public(extra_ca: Option<&[u8]>) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder().timeout(REQUEST).user_agent("podseal");
        if let Some(pem) = extra_ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| crate::fault::causes(&error))?;
        Ok(Self { client, other: None })
    }

    /// `trusted_root.json` as it is now, verified. The error says why there is none, in one line.
    pub async fn fetch(&self) -> Result<Vec<u8>, String> {
        let config = match &self.other {
            None => TufConfig::production(),
            Some((url, root)) => TufConfig::custom(url, TufBootstrap::trusted(root)),
        };
        let config = config.without_cache().with_http_client(self.client.clone());
        let fetched = tokio::time::timeout(PATIENCE, TrustedRoot::from_tuf(config)).await;
        let root = fetched.map_err(|_| "the repository did not answer in time".to_owned())?;
        let root = root.map_err(|error| crate::fault::causes(&error))?;
        serde_json::to_vec(&root).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{Server, reply};

    #[tokio::test]
    async fn a_repository_that_is_down_or_answers_nonsense_gives_an_error_and_no_root() {
        let server = Server::plain(1, |_| reply(200, "nonsense"));
        for url in [format!("http://{}", server.host()), "http://127.0.0.1:9".to_owned()] {
            for root in [b"{}".to_vec(), b"nonsense".to_vec()] {
                let mut source = TufSource::public(None).unwrap();
                source.other = Some((url.clone(), root));
                let error = source.fetch().await.unwrap_err();
                assert!(!error.is_empty() && !error.contains('\n'), "{error}");
            }
        }
        assert!(TufSource::public(Some(b"nonsense")).is_ok_and(|source| source.other.is_none()));
    }
}
