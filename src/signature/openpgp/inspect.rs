//! What a simple signature says about itself, for people and for stores; nothing is verified.

use std::collections::BTreeSet;
use std::time::SystemTime;

use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::serialize::MarshalInto as _;

use super::super::SignatureError;
use super::keyring::MAX_ISSUERS;
use super::message::{self, UntrustedMessage};
use crate::domain::digest::Digest;

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
    /// SHA-256 of all that the signature is over: the signed bytes, its kind, algorithms and hashed subpackets (RFC 9580,
    /// section 5.2.4). Blobs that differ only in what nobody signed (unhashed subpackets, the two bytes that are to save
    /// work, compression, forms of packets and lengths, a file name) have the same.
    pub statement: Digest,
    /// SHA-256 of the values by which the statement is signed, without zeros in front. There may be several for one
    /// statement that are good, and who has one can make others without the key: of ECDSA's (r, s) also (r, -s).
    pub values: Digest,
}

/// Reads one signature blob as verification does (see `Keyring::verify`), without a key: the same blobs are refused as
/// malformed, so that what this refuses never verifies for anybody.
///
/// `blob` is untrusted and may be at most 4 MiB. Specification: containers-signature(5), "`OpenPGP` signature
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
    Ok(UntrustedSignature {
        issuers,
        created: message.signature.signature_creation_time(),
        statement: statement(&message)?,
        values: Digest::sha256(&written(message.signature.mpis().to_vec())?),
        content: message.content,
    })
}

/// See [`UntrustedSignature::statement`]. Every part has its length before it, so that no two run into one another.
fn statement(message: &UntrustedMessage) -> Result<Digest, SignatureError> {
    let signature = &message.signature;
    let kind = [signature.version(), signature.typ().into(), signature.pk_algo().into(), signature.hash_algo().into()];
    let salt: &[u8] = if let Signature::V6(signature) = signature { signature.salt() } else { &[] };
    let (hashed, signed) = (written(signature.hashed_area().to_vec())?, message.signed_bytes());
    let mut all = Vec::with_capacity(hashed.len() + signed.len() + 64);
    for part in [&kind, salt, &hashed, signed.as_ref()] {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    Ok(Digest::sha256(&all))
}

/// What was read can be written again; if not, it is not taken.
fn written(bytes: sequoia_openpgp::Result<Vec<u8>>) -> Result<Vec<u8>, SignatureError> {
    bytes.map_err(|_| SignatureError::Malformed("damaged or truncated OpenPGP data".to_owned()))
}
