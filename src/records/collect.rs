//! All signatures that a place has for a digest, up to a bound, and whether there are more.

use bytes::Bytes;

use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};
use crate::source::access::Access;
use crate::source::lookaside::{MAX_SIGNATURES, StoreUrl};
use crate::source::registry::Upstream;

/// Signatures of one digest have so many bytes together; more are not looked at, because all are kept in memory.
const MAX_BYTES: usize = 32 << 20;

/// One signature as it was found; untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bytes, or why there are none.
    pub blob: Result<Bytes, String>,
    /// Where it was found, for people: `signature-1 in URL`.
    pub place: String,
    /// URL of the store or registry.
    pub store: String,
}

/// What a place has.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// In the order of the place.
    pub found: Vec<Found>,
    /// There are more than were looked at.
    pub more: bool,
}

/// Where signatures of a repository are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// How servers are asked.
    pub upstream: &'a Upstream,
    /// Whose signatures.
    pub repository: &'a Repository,
    /// How the registry and the store are reached.
    pub access: &'a Access,
}

impl Place<'_> {
    /// The signatures of a lookaside store, `limit` and 32 MiB at most. Reading ends at the first number that does not exist;
    /// every other answer than a signature is a fault.
    pub async fn in_store(&self, store: &StoreUrl, digest: &Digest, limit: usize) -> Result<Collected, Fault> {
        let (mut collected, mut bytes) = (Collected::default(), 0);
        for number in 1..=limit.min(MAX_SIGNATURES) {
            let asked = self.upstream.signature(store, self.repository, digest, number, self.access);
            let Some(blob) = asked.await? else { return Ok(collected) };
            bytes += blob.len();
            if bytes > MAX_BYTES {
                break;
            }
            let store = store.to_string();
            let place = format!("signature-{number} in {store}");
            collected.found.push(Found { blob: Ok(blob), place, store });
        }
        collected.more = true;
        Ok(collected)
    }

    /// The signatures that the registry itself keeps; `None` when it does not say that it keeps any.
    pub async fn in_registry(&self, digest: &Digest) -> Result<Option<Collected>, Fault> {
        if !self.upstream.offers_signatures(self.repository, self.access).await? {
            return Ok(None);
        }
        let own = self.upstream.own_signatures(self.repository, digest, self.access).await?;
        let store = format!("https://{}", self.repository.host());
        let found = own.signatures.into_iter().enumerate().map(|(i, blob)| Found {
            blob: blob.map_err(str::to_owned),
            place: format!("signature {} of the registry {}", i + 1, self.repository.host()),
            store: store.clone(),
        });
        Ok(Some(Collected { found: found.collect(), more: own.more }))
    }

    /// From the store if there is one, else from the registry. Neither is a fault: nothing is known then.
    pub async fn everywhere(&self, store: Option<&StoreUrl>, digest: &Digest) -> Result<Collected, Fault> {
        if let Some(store) = store {
            return self.in_store(store, digest, MAX_SIGNATURES).await;
        }
        self.in_registry(digest).await?.ok_or_else(|| {
            let host = self.repository.host();
            let what = format!(
                "no signature store is configured for {}, and the registry {host} does not say that it keeps signatures",
                self.repository
            );
            Fault::new(FaultKind::Configuration, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{Server, insecure, reply, upstream};

    async fn collected(size: usize, count: usize) -> Collected {
        let server = Server::plain(1, move |seen| {
            let number: usize = seen.target.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number");
            if number <= count { reply(200, vec![0; size]) } else { reply(404, "") }
        });
        let store = StoreUrl::from_policy(&format!("http://{}/s", server.host())).expect("a store");
        let (upstream, access, repository) = (upstream(), insecure(), Repository::new("r.local", "a").expect("a name"));
        let place = Place { upstream: &upstream, repository: &repository, access: &access };
        place.in_store(&store, &Digest::sha256(b"image"), MAX_SIGNATURES).await.expect("signatures")
    }

    #[tokio::test]
    async fn a_store_cannot_fill_the_memory() {
        let large = collected(4 << 20, MAX_SIGNATURES).await;
        assert!(large.more && large.found.len() == 8, "{}", large.found.len());
        let exact = collected(4 << 20, 8).await;
        assert!(!exact.more && exact.found.len() == 8, "{}", exact.found.len());
        let many = collected(1 << 10, 100).await;
        assert!(!many.more && many.found.len() == 100, "{}", many.found.len());
    }
}
