//! What must be so of a signature before it is stored.
//!
//! No key is asked: who may sign for whom is for the policies of those who verify. But nothing is kept that no key could
//! verify for this digest, so that the store is of no use for anything else, and one bad file cannot make readers give
//! up on all signatures of an image (containers/image does at the first blob that is of no known kind).

use std::time::SystemTime;

use super::disk::Place;
use crate::domain::digest::Digest;
use crate::domain::payload::SimplePayload;
use crate::signature::openpgp::inspect;

/// What a signature says, verified by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The image reference it is for.
    pub(super) reference: String,
    /// What made it, by its own account.
    pub(super) creator: Option<String>,
    /// Fingerprints and key IDs.
    pub(super) issuers: Vec<String>,
    /// When it was made.
    pub(super) created: Option<SystemTime>,
    /// Which signature it is, whatever form it has.
    pub(super) core: Core,
}

/// What there is of a signature in every form of it: see [`UntrustedSignature`].
///
/// [`UntrustedSignature`]: crate::signature::openpgp::UntrustedSignature
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Core {
    /// What it is over.
    pub(super) statement: Digest,
    /// By which values that is signed.
    pub(super) values: Digest,
}

/// Reads a signature that is to be stored for a place; the error says why it must not be.
pub(super) fn check(place: &Place, blob: &[u8]) -> Result<Said, String> {
    let seen = inspect(blob).map_err(|error| error.to_string())?;
    let payload = SimplePayload::parse(&seen.content).map_err(|error| format!("malformed signature: {error}"))?;
    if payload.digest != *place.digest() {
        return Err(format!("the signature is for {}, and not for {}", payload.digest, place.digest()));
    }
    Ok(Said {
        reference: payload.reference,
        creator: payload.creator,
        issuers: seen.issuers,
        created: seen.created,
        core: Core { statement: seen.statement, values: seen.values },
    })
}
