//! What a simple signature says about itself, for people and for stores; nothing is verified.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::super::SignatureError;
use super::keyring::MAX_ISSUERS;
use super::message;

/// A blob of the right structure. Anybody may have made it: nothing in it proves anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntrustedSignature {
    /// The signed bytes, at most 1 MiB.
    pub content: Vec<u8>,
    /// The keys it says it was made by: fingerprints and key IDs, upper-case hexadecimal, each once, fingerprints (the
    /// longer ones) first. Empty if it names none.
    pub issuers: Vec<String>,
    /// When it says it was made.
    pub created: Option<SystemTime>,
}

/// Reads one signature blob as verification does (see `Keyring::verify`), without a key: the same blobs are refused as
/// malformed, so that what this refuses never verifies for anybody.
///
/// `blob` is untrusted and may be at most 4 MiB. Specification: containers-signature(5), "OpenPGP signature
/// verification"; RFC 9580, section 10.3.
pub fn inspect(blob: &[u8]) -> Result<UntrustedSignature, SignatureError> {
    let message = message::read(blob)?;
    let named = message.signature.get_issuers();
    if named.len() > MAX_ISSUERS {
        return Err(SignatureError::Malformed("the signature names too many issuers".to_owned()));
    }
    let unique: BTreeSet<String> = named.iter().map(sequoia_openpgp::KeyHandle::to_hex).collect();
    let mut issuers: Vec<String> = unique.into_iter().collect();
    issuers.sort_by_key(|issuer| std::cmp::Reverse(issuer.len()));
    Ok(UntrustedSignature { content: message.content, issuers, created: message.signature.signature_creation_time() })
}
