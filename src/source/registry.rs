//! A registry client after the OCI distribution specification, made for hostile registries and many tenants.

use bytes::Bytes;

use super::SourceConfig;
use super::access::Access;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::Fault;

/// Connections, tokens and limits for all upstream servers. One per process; cheap to share in an `Arc`.
#[derive(Debug)]
pub struct Upstream {}

/// A manifest or index whose bytes have the stated digest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type, equal in header and document.
    pub media_type: String,
    /// As received.
    pub bytes: Bytes,
}

/// An entry of a referrers list, untrusted until its content was fetched by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its artifact type, if stated.
    pub artifact_type: Option<String>,
}

impl Upstream {
    /// Sets up clients and limits.
    pub fn new(config: SourceConfig) -> Result<Self, String> {
        let _ = config;
        Ok(Self {})
    }

    /// Asks once, by HEAD, what digest a tag has; `None` when there is no such image.
    pub async fn resolve(&self, repository: &Repository, tag: &str, access: &Access) -> Result<Option<Digest>, Fault> {
        let _ = (repository, tag, access);
        Ok(None)
    }

    /// A manifest by digest; `None` on a definite 404. The bytes have the digest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<Option<Manifest>, Fault> {
        let _ = (repository, digest, access);
        Ok(None)
    }

    /// A manifest by tag, for tags that signature formats prescribe (`sha256-….sig`); `None` on a definite 404.
    pub async fn tagged_manifest(
        &self,
        repository: &Repository,
        tag: &str,
        access: &Access,
    ) -> Result<Option<Manifest>, Fault> {
        let _ = (repository, tag, access);
        Ok(None)
    }

    /// A blob of at most `limit` bytes; `None` on a definite 404. The bytes have the digest.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
        access: &Access,
    ) -> Result<Option<Bytes>, Fault> {
        let _ = (repository, digest, limit, access);
        Ok(None)
    }

    /// What refers to a digest: the referrers API with all its pages, or the fallback tag.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<Vec<Referrer>, Fault> {
        let _ = (repository, digest, access);
        Ok(Vec::new())
    }
}
