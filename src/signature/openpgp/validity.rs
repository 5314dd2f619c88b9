//! Whether a signature and the key behind it are valid now, and if not, why.
//!
//! Everything is judged as of `now`, the way gpg does it for containers/image, not as of the time of signing: a key
//! that expired since then is refused, one whose expiry was extended is accepted, and a revocation of any kind and date
//! refuses for good.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::cert::Cert;
use sequoia_openpgp::cert::amalgamation::key::{ErasedKeyAmalgamation, PrimaryKey};
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use sequoia_openpgp::cert::prelude::ValidCert;
use sequoia_openpgp::crypto::mpi;
use sequoia_openpgp::packet::key::{KeyRole, PublicParts};
use sequoia_openpgp::packet::{Key, Signature};
use sequoia_openpgp::policy::{AsymmetricAlgorithm, HashAlgoSecurity, Policy, StandardPolicy};
use sequoia_openpgp::types::{HashAlgorithm, RevocationStatus};
use sequoia_openpgp::{Error, Fingerprint, KeyHandle};

use super::super::SignatureError;
use super::KeyAlgorithm;

/// How far in the future a signature may be dated, for clocks that differ.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The algorithms accepted at `now`.
///
/// The weak ones are refused at any time, not from a date on: a clock set back must not bring them back. What remains
/// of the cut-off dates is DSA of 2048 bits and more, accepted until February 2030.
pub(super) fn policy(now: SystemTime) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(now);
    for weak in [HashAlgorithm::MD5, HashAlgorithm::SHA1, HashAlgorithm::RipeMD] {
        policy.reject_hash(weak);
    }
    for weak in [AsymmetricAlgorithm::RSA1024, AsymmetricAlgorithm::DSA1024, AsymmetricAlgorithm::ElGamal1024] {
        policy.reject_asymmetric_algo(weak);
    }
    policy
}

/// Until when signatures by a new key of this algorithm and size are accepted, if there is an end; the error says that they
/// are not, and why.
pub(super) fn check_algorithm(
    algorithm: KeyAlgorithm,
    bits: u32,
    now: SystemTime,
) -> Result<Option<SystemTime>, String> {
    use AsymmetricAlgorithm as A;
    let sized = match (algorithm, bits) {
        (KeyAlgorithm::Rsa, ..2048) => A::RSA1024,
        (KeyAlgorithm::Rsa, ..3072) => A::RSA2048,
        (KeyAlgorithm::Rsa, ..4096) => A::RSA3072,
        (KeyAlgorithm::Rsa, _) => A::RSA4096,
        (KeyAlgorithm::Dsa, ..2048) => A::DSA1024,
        (KeyAlgorithm::Dsa, ..3072) => A::DSA2048,
        (KeyAlgorithm::Dsa, ..4096) => A::DSA3072,
        (KeyAlgorithm::Dsa, _) => A::DSA4096,
        (KeyAlgorithm::Ed25519, _) => A::Cv25519,
    };
    match policy(now).asymmetric_algo_cutoff(sized) {
        Some(end) if end <= now => Err(format!("{} of {bits} bits is too weak", algorithm.label())),
        end => Ok(end),
    }
}

/// Checks what the signature packet says about itself: dates, digest algorithm, critical subpackets.
pub(super) fn check_signature(sig: &Signature, policy: &dyn Policy, now: SystemTime) -> Result<(), SignatureError> {
    let invalid = |why: String| Err(SignatureError::NotValid(why));
    let Some(created) = sig.signature_creation_time() else {
        return invalid("the signature has no creation time".to_owned());
    };
    if created.duration_since(now).is_ok_and(|ahead| ahead > CLOCK_TOLERANCE) {
        return invalid(format!("the signature is dated in the future ({})", date(created)));
    }
    if let Some(expiry) = sig.signature_expiration_time().filter(|expiry| *expiry <= now) {
        return invalid(format!("the signature expired on {}", date(expiry)));
    }
    policy.signature(sig, HashAlgoSecurity::CollisionResistance).or_else(|error| {
        let algorithm = sig.hash_algo();
        match violation(&error) {
            Some(what) if what == algorithm.to_string() => invalid(format!(
                "the signature's digest algorithm {what} is too weak; sign again with SHA256 or better"
            )),
            Some(what) => invalid(format!("the signature is not acceptable: {what}")),
            None => invalid(format!("the signature's digest algorithm {algorithm} is not supported")),
        }
    })
}

/// Says so when nothing by this key can be verified here, whatever it signed, its own certificate included.
pub(super) fn check_supported<R: KeyRole>(key: &Key<PublicParts, R>) -> Result<(), String> {
    let curve = match key.mpis() {
        mpi::PublicKey::ECDSA { curve, .. } | mpi::PublicKey::EdDSA { curve, .. } => Some(curve),
        _ => None,
    };
    let what = match curve.filter(|curve| !curve.is_supported()) {
        Some(curve) => curve.to_string(),
        None if !key.pk_algo().is_supported() => key.pk_algo().to_string(),
        None => return Ok(()),
    };
    Err(format!("{what} of key {} is not supported; use Ed25519, RSA or a NIST curve", key.fingerprint()))
}

/// The certificate, if it is valid at `now`; else why it is not.
pub(super) fn check_cert<'a>(cert: &'a Cert, policy: &'a dyn Policy, now: SystemTime) -> Result<ValidCert<'a>, String> {
    let name = format!("key {}", cert.fingerprint());
    let primary = cert.primary_key();
    check_supported(primary.key())?;
    if primary.key().creation_time() > now {
        return Err(format!("{name} is not valid before {}", date(primary.key().creation_time())));
    }
    check_revocations(&name, cert, policy, primary.self_revocations(), primary.other_revocations())?;
    let valid = cert.with_policy(policy, now).map_err(|error| match violation(&error) {
        Some(what) => format!("{name} is refused: {what} is too weak"),
        None => format!("{name} has no self-signature that is valid now"),
    })?;
    // The common ways to be revoked are found above; this adds whatever else the library knows.
    if let RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err(format!("{name} is revoked"));
    }
    if valid.alive().is_err() {
        return Err(not_alive(&name, valid.primary_key().key_expiration_time()));
    }
    Ok(valid)
}

/// Whether `key` may sign at `now`: the time at which that ends, if it does; else why it may not.
pub(super) fn check_key<'a>(
    key: &ErasedKeyAmalgamation<'a, PublicParts>,
    policy: &'a dyn Policy,
    now: SystemTime,
) -> Result<Option<SystemTime>, String> {
    let cert = key.cert();
    let valid_cert = check_cert(cert, policy, now)?;
    let name = if key.primary() {
        format!("key {}", cert.fingerprint())
    } else {
        format!("subkey {} of key {}", key.key().fingerprint(), cert.fingerprint())
    };
    if key.key().creation_time() > now {
        return Err(format!("{name} is not valid before {}", date(key.key().creation_time())));
    }
    check_revocations(&name, cert, policy, key.self_revocations(), key.other_revocations())?;
    let valid = key.with_policy(policy, now).map_err(|error| match violation(&error) {
        Some(what) => format!("{name} is refused: {what} is too weak"),
        None => format!("{name} is not bound to it by a signature that is valid now"),
    })?;
    if let RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err(format!("{name} is revoked"));
    }
    if valid.alive().is_err() {
        return Err(not_alive(&name, valid.key_expiration_time()));
    }
    // A primary key whose self-signature states no purpose is for every one its algorithm has, as GnuPG reads it; keys
    // that long-lived vendors still sign with were made that way. A subkey has to say what it is for.
    let unstated = valid.primary() && valid.key_flags().is_none() && key.key().pk_algo().for_signing();
    if !valid.for_signing() && !unstated {
        return Err(format!("{name} is not for signing"));
    }
    let primary = valid_cert.primary_key();
    Ok([
        valid.key_expiration_time(),
        primary.key_expiration_time(),
        valid.binding_signature().signature_expiration_time(),
        primary.binding_signature().signature_expiration_time(),
    ]
    .into_iter()
    .flatten()
    .min())
}

/// Any revocation whose signature is good refuses, whatever its reason, date and digest, and even if the key was
/// certified again later: gpg treats revoked keys so.
///
/// A revocation in the name of a revoker the certificate appoints counts as well, without a look at the revoker's key:
/// that is usually not at hand, and this errs on the safe side.
fn check_revocations<'a>(
    name: &str,
    cert: &Cert,
    policy: &dyn Policy,
    mut own: impl Iterator<Item = &'a Signature>,
    others: impl Iterator<Item = &'a Signature>,
) -> Result<(), String> {
    if let Some(revocation) = own.next() {
        return Err(match revocation.reason_for_revocation() {
            Some((reason, _)) => format!("{name} is revoked ({})", reason.to_string().to_lowercase()),
            None => format!("{name} is revoked"),
        });
    }
    let mut others = others.peekable();
    if others.peek().is_some() {
        let appointed: Vec<KeyHandle> =
            cert.revocation_keys(policy).map(|key| KeyHandle::from(key.revoker().1.clone())).collect();
        let by_appointed = |sig: &Signature| {
            sig.get_issuers().iter().any(|issuer| appointed.iter().any(|revoker| revoker.aliases(issuer)))
        };
        if others.any(by_appointed) {
            return Err(format!("{name} is revoked by a revoker it appoints"));
        }
    }
    Ok(())
}

fn not_alive(name: &str, expiry: Option<SystemTime>) -> String {
    match expiry {
        Some(time) => format!("{name} expired on {}", date(time)),
        None => format!("{name} is not valid now"),
    }
}

/// What the policy objects to, if that is why `error` happened.
fn violation(error: &sequoia_openpgp::anyhow::Error) -> Option<String> {
    match error.downcast_ref::<Error>() {
        Some(Error::PolicyViolation(what, _)) => Some(what.clone()),
        _ => None,
    }
}

/// A time as people read it (RFC 3339, UTC).
pub(super) fn date(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}

/// Upper-case hexadecimal, without spaces.
pub(super) fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.to_hex()
}
