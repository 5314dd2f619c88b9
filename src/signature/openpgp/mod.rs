//! Verification of simple signing with PGP keys (RFC 9580), valid as of now.
//!
//! ```text
//!  blob ── message::read ── one signature, one literal
//!                              │
//!  key files ── Keyring ── candidates (by issuer)
//!                              │
//!            validity: signature dates and digest ── mathematics ── key and certificate as of now
//!                              │
//!                        SignedContent (only now may the payload be parsed)
//! ```
//!
//! The rules are those of containers-signature(5) and of containers/image with gpgme, and stricter in these points:
//! no armor and no cleartext framework on any path, no signature dated in the future, no SHA-1, MD5 or RIPEMD-160 (in
//! self-signatures neither), no RSA or DSA below 2048 bits, no key without a key flag for signing.

use std::time::SystemTime;

use sequoia_openpgp::policy::Policy;
use sequoia_openpgp::serialize::Serialize;

use super::SignatureError;
use crate::domain::printable::printable;
use crate::domain::signer::GpgSigner;

mod compressed;
mod inspect;
mod keyfile;
mod keyring;
mod message;
#[cfg(test)]
mod tests;
mod validity;

pub use inspect::{UntrustedSignature, inspect};
pub use keyring::Keyring;

use keyring::{Candidate, Entry};
use message::UntrustedMessage;

/// A certificate for status, logs and `podseal keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// The key file.
    pub file: String,
    /// User IDs as text, valid ones only.
    pub user_ids: Vec<String>,
    /// Addresses by which policies can name the holder: of valid User IDs, lower case, sorted, without those that
    /// certificates of different key files carry.
    pub addresses: Vec<String>,
    /// When it stops verifying, if it does: the latest end of a key in it that may sign now, and if there is none, the
    /// primary key's own expiry.
    pub expires: Option<SystemTime>,
    /// Why it cannot verify anything now (expired, revoked, no signing key, weak), if so.
    pub unusable: Option<String>,
}

/// Whether a key file (binary or armored) holds secret key material, usable or not.
pub fn holds_secret_key(file: &[u8]) -> bool {
    keyfile::holds_secret_key(file)
}

/// Whether binary data hold packets of public keys from their first byte to their last, and nothing else.
pub fn is_public_alone(bytes: &[u8]) -> bool {
    keyfile::is_public_alone(bytes)
}

/// The algorithm of a key that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// RSA.
    Rsa,
    /// DSA.
    Dsa,
    /// Ed25519.
    Ed25519,
}

impl KeyAlgorithm {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Dsa => "DSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// Until when signatures by a new key of this algorithm and size are accepted, if there is an end; the error says that they
/// would not be at `now`, and why. To be asked before a key is made that nobody can use.
pub fn accepted_until(algorithm: KeyAlgorithm, bits: u32, now: SystemTime) -> Result<Option<SystemTime>, String> {
    validity::check_algorithm(algorithm, bits, now)
}

/// Content whose signature was verified.
#[derive(Debug, Clone)]
pub struct SignedContent {
    /// The signed bytes.
    pub content: Vec<u8>,
    /// Who signed.
    pub signer: GpgSigner,
    /// The earliest time at which this verdict ends: expiry of signature, key or certificate.
    pub valid_until: Option<SystemTime>,
    /// When the signature itself says that it ends.
    pub signature_ends: Option<SystemTime>,
}

impl Keyring {
    /// The certificates, as of `now`, by fingerprint.
    pub fn keys(&self, now: SystemTime) -> Vec<KeyInfo> {
        let policy = validity::policy(now);
        self.entries.iter().map(|entry| self.describe(entry, &policy, now)).collect()
    }

    /// The certificates as one binary key file (RFC 9580, section 10.1), by fingerprint: the same certificates give the
    /// same bytes, however the files that they were read from are written. Nothing secret is ever part of it.
    ///
    /// The error is one of the library's; no certificate that could be read is known to cause it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        self.to_bytes_of(|_| true)
    }

    /// The same of those certificates whose fingerprint (upper-case hexadecimal) is wanted.
    pub fn to_bytes_of(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            let fingerprint = validity::hex(&entry.cert.fingerprint());
            if wanted(&fingerprint) {
                entry.cert.serialize(&mut bytes).map_err(|e| format!("{fingerprint} cannot be written: {e}"))?;
            }
        }
        Ok(bytes)
    }

    /// Verifies one signature blob and gives its content.
    ///
    /// `blob` is untrusted and may be at most 4 MiB; `now` is the time at which signature, key and certificate must be
    /// valid. The key is only looked at once the mathematics fit, so that [`SignatureError::Key`] always speaks of the
    /// key that really signed; but for one whose algorithm is not supported, with which nothing can be found out.
    pub fn verify(&self, blob: &[u8], now: SystemTime) -> Result<SignedContent, SignatureError> {
        let message = message::read(blob)?;
        let candidates = self.candidates(&message.signature)?;
        let policy = validity::policy(now);
        validity::check_signature(&message.signature, &policy, now)?;
        let signed_bytes = message.signed_bytes();
        let mut error = SignatureError::Bad;
        for candidate in &candidates {
            match self.try_candidate(candidate, &message, &signed_bytes, &policy, now) {
                Ok((signer, valid_until)) => {
                    drop(signed_bytes);
                    let signature_ends = message.signature.signature_expiration_time();
                    return Ok(SignedContent { content: message.content, signer, valid_until, signature_ends });
                }
                // Another key with the same ID says nothing about this one; a named reason says more than "bad".
                Err(why) if error == SignatureError::Bad => error = why,
                Err(_) => {}
            }
        }
        Err(error)
    }

    fn describe(&self, entry: &Entry, policy: &dyn Policy, now: SystemTime) -> KeyInfo {
        let fingerprint = validity::hex(&entry.cert.fingerprint());
        let file = entry.file.clone();
        // For a certificate that is refused now, what it says about itself is still worth showing if it can be read.
        let readable = entry.cert.with_policy(policy, now).ok();
        let addresses = readable.as_ref().map(|cert| self.addresses(cert)).unwrap_or_default();
        let shown = |id: &sequoia_openpgp::packet::UserID| printable(&String::from_utf8_lossy(id.value())).into_owned();
        let user_ids = readable.iter().flat_map(keyring::valid_user_ids).map(shown).collect();
        let signing = validity::check_cert(&entry.cert, policy, now).and_then(|_| signing_end(entry, policy, now));
        let (expires, unusable) = match signing {
            Ok(end) => (end, None),
            Err(why) => (readable.and_then(|cert| cert.primary_key().key_expiration_time()), Some(why)),
        };
        KeyInfo { fingerprint, file, user_ids, addresses, expires, unusable }
    }

    fn try_candidate(
        &self,
        candidate: &Candidate<'_>,
        message: &UntrustedMessage,
        signed_bytes: &[u8],
        policy: &dyn Policy,
        now: SystemTime,
    ) -> Result<(GpgSigner, Option<SystemTime>), SignatureError> {
        let signature = &message.signature;
        let key = candidate.key.key();
        if signature.signature_creation_time().is_none_or(|created| created < key.creation_time()) {
            let made = validity::date(key.creation_time());
            return Err(SignatureError::NotValid(format!("the signature is dated before its key was made ({made})")));
        }
        validity::check_supported(key).map_err(SignatureError::Key)?;
        signature.verify_message(key, signed_bytes).map_err(|_| SignatureError::Bad)?;
        let key_end = validity::check_key(&candidate.key, policy, now).map_err(SignatureError::Key)?;
        let cert = validity::check_cert(&candidate.entry.cert, policy, now).map_err(SignatureError::Key)?;
        let signer = GpgSigner {
            fingerprint: validity::hex(&candidate.entry.cert.fingerprint()),
            file: candidate.entry.file.clone(),
            emails: self.addresses(&cert),
        };
        let valid_until = [key_end, signature.signature_expiration_time()].into_iter().flatten().min();
        Ok((signer, valid_until))
    }
}

/// When the last of the keys that may sign at `now` stops doing so, if ever; if none may, why not: the reasons of all
/// that could sign otherwise.
fn signing_end(entry: &Entry, policy: &dyn Policy, now: SystemTime) -> Result<Option<SystemTime>, String> {
    let (mut ends, mut reasons) = (Vec::new(), Vec::new());
    for key in entry.cert.keys() {
        match validity::check_key(&key, policy, now) {
            Ok(end) => ends.push(end),
            Err(why) if key.key().pk_algo().for_signing() => reasons.push(why),
            Err(_) => {}
        }
    }
    if let Some(last) = ends.iter().copied().max_by_key(|end| (end.is_none(), *end)) {
        return Ok(last);
    }
    reasons.truncate(3);
    Err(if reasons.is_empty() { "it has no key for signing".to_owned() } else { reasons.join("; ") })
}
