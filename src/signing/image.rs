//! One digest, signed: looked for first, verified before and after.
//!
//! ```text
//!  existing ── signed by this key under this name already? ── done, unless another one is wanted
//!  payload ── sign ── verified with the public key ── put ── read back ── done
//! ```

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::deposit::Depot;
use super::payload::{self, PayloadError};
use super::signer::{Made, Signer, SignerError};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// Why a digest is not signed now.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// What is to be signed.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The registry, the store or the folder.
    #[error("{}", .0.message())]
    Fault(Fault),
}

impl From<Fault> for SignError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl SignError {
    /// Whether the same may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.kind().retryable())
    }
}

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the image is, and under which path its signature is looked for.
    pub repository: &'a Repository,
    /// Of its manifest.
    pub digest: &'a Digest,
    /// The name that the signature says it has.
    pub identity: &'a str,
    /// Sign it, whether this key has done so or not.
    pub again: bool,
}

/// When a signature ends by its own account, if it does.
pub type Ends = Option<SystemTime>;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Signed; the place is for people.
    Signed(String, Ends),
    /// This key had signed this digest under this name before.
    WasSigned(Ends),
    /// Another one was wanted, and the very same bytes are there already.
    SameBytes,
}

/// Signs one digest, and puts the signature where it belongs. Nothing is left behind when it fails, but for what a store
/// took and could not show.
pub async fn sign(signer: &Arc<Signer>, depot: &Depot, wanted: Wanted<'_>) -> Result<Outcome, SignError> {
    if !wanted.again {
        let existing = depot.existing(wanted.repository, wanted.digest).await?;
        if let Some(ends) = signed_until(signer, existing, wanted).await? {
            return Ok(Outcome::WasSigned(ends));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let payload = payload::write(wanted.identity, wanted.digest, payload::CREATOR, now)?;
    // gpg may wait for a person, or a card for a finger.
    let key = signer.clone();
    let made = blocking(move || key.sign(&payload, SystemTime::now)).await?;
    let Made { blob, ends } = made?;
    let blob = Bytes::from(blob);
    // With the same second and a key that draws no random numbers even the bytes are the same.
    if wanted.again && depot.existing(wanted.repository, wanted.digest).await?.contains(&blob) {
        return Ok(Outcome::SameBytes);
    }
    let place = depot.put(wanted.repository, wanted.digest, &blob).await?;
    Ok(Outcome::Signed(place, ends))
}

/// If one of these is a good signature of this key that says the same: when the last of them ends.
async fn signed_until(
    signer: &Arc<Signer>,
    existing: Vec<Bytes>,
    wanted: Wanted<'_>,
) -> Result<Option<Ends>, SignError> {
    let (key, digest, identity) = (signer.clone(), wanted.digest.clone(), wanted.identity.to_owned());
    blocking(move || {
        let now = SystemTime::now();
        let payloads = existing.iter().filter_map(|blob| key.payload(blob, now));
        let same = payloads.filter(|(payload, _)| payload.digest == digest && payload.reference == identity);
        // What never ends comes after everything that does.
        same.map(|(_, ends)| ends).max_by_key(|ends| (ends.is_none(), *ends))
    })
    .await
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, SignError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|_| SignError::Fault(Fault::new(FaultKind::Internal, "signing failed in podseal itself")))
}
