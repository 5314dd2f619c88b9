//! The simple-signing payload, read as strictly as containers/image reads it.

use super::digest::Digest;

/// What a simple signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimplePayload {
    /// `critical.image.docker-manifest-digest`.
    pub digest: Digest,
    /// `critical.identity.docker-reference`, as written.
    pub reference: String,
    /// `optional.creator`.
    pub creator: Option<String>,
    /// `optional.timestamp`, seconds since 1970.
    pub timestamp: Option<i64>,
}

/// Why a payload is not a simple-signing payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PayloadError(pub String);

impl SimplePayload {
    /// Reads the signed bytes. Call it only on bytes whose signature was verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let _ = bytes;
        Err(PayloadError(String::new()))
    }
}
