//! Adding a signature to those that a registry keeps itself: the writing half of the extension API.
//!
//! ```text
//!   PUT /extensions/v2/<repository>/signatures/<digest>
//!       {"schemaVersion": 2, "name": "sha256:…@<32 characters>", "type": "atomic", "content": "<base64>"}
//! ```

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::no_api;
use crate::domain::digest::{Digest, hex};
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};
use crate::source::access::Access;
use crate::source::http::Content;
use crate::source::registry::{Remote, Upstream, error_code};

/// So often is another name tried.
const MAX_NAMES: usize = 3;

impl Upstream {
    /// Adds a simple signature of a digest. The registry finds its place, so that nothing is replaced.
    pub async fn put_own_signature(
        &self,
        repository: &Repository,
        digest: &Digest,
        signature: &Bytes,
        access: &Access,
    ) -> Result<(), Fault> {
        let remote = Remote::new(self, repository, access)?;
        let path = format!("/extensions/v2/{}/signatures/{digest}", repository.path());
        for _ in 0..MAX_NAMES {
            let document = json!({
                "schemaVersion": 2,
                "name": format!("{digest}@{}", random_name(&remote)?),
                "type": "atomic",
                "content": BASE64_STANDARD.encode(signature),
            });
            let content = Content {
                bytes: Bytes::from(document.to_string()),
                media_type: Some(HeaderValue::from_static("application/json")),
                ..Content::default()
            };
            let answer = remote.write(Method::PUT, remote.absolute(&path)?, content).await?;
            if answer.status == StatusCode::CONFLICT {
                // Another name is of no use where the registry has as many signatures as it keeps.
                if error_code(&answer.body).as_deref() == Some("DENIED") {
                    let full =
                        "the registry keeps no more signatures of this image, or no more by this key (409, DENIED)";
                    return Err(remote.home().fault(FaultKind::TooLarge, full));
                }
                continue;
            }
            if answer.status == StatusCode::NOT_FOUND {
                return Err(no_api(&remote, FaultKind::Configuration));
            }
            return remote.expect(&answer, &[StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT]);
        }
        Err(remote.home().fault(FaultKind::BadAnswer, "the registry has every name that was tried for the signature"))
    }
}

fn random_name(remote: &Remote<'_>) -> Result<String, Fault> {
    let mut random = [0; 16];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| remote.home().fault(FaultKind::Internal, "no random numbers"))?;
    Ok(hex(&random))
}
