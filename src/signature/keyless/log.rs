//! That a signature by a configured key stands in a transparency log.
//!
//! Own code, because the crate verifies such a signature only together with its log and lacks P-521, P-384 with SHA-256
//! and Ed25519ph, which cosign signs with. What has to hold: the entry is about this message, this signature and this key
//! (all three, or the entry of another signature would do), and a log of the trust root vouches for the entry, by its
//! signed promise (Rekor v1) or by a proof of inclusion under a signed checkpoint (v1 and v2).

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use sigstore_crypto::VerificationKey;
use sigstore_types::bundle::{InclusionProof, KindVersion, TransparencyLogEntry};
use sigstore_types::{Bundle, MediaType, Sha256Hash, SignatureBytes};

use super::entry::RekorBundle;
use super::{TrustRoot, not_valid};
use crate::domain::digest::hex;
use crate::signature::SignatureError;
use crate::signature::json::{self, Object};

const MAX_ENTRIES: usize = 4;
const MAX_HASHES: usize = 64;
/// Bytes of an entry.
const MAX_BODY: usize = 2 << 20;

/// What an entry must be about.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// What was signed: a payload, or the pre-authentication encoding of an envelope.
    pub message: &'a [u8],
    /// The envelope's payload, if it is one.
    pub payload: Option<&'a [u8]>,
    /// The signature.
    pub signature: &'a [u8],
    /// The key's `SubjectPublicKeyInfo`.
    pub key: &'a [u8],
}

impl TrustRoot {
    /// Proves that one of a bundle's log entries is about the signature.
    pub(crate) fn prove_bundle(&self, text: &[u8], binding: Binding<'_>) -> Result<(), SignatureError> {
        let text = std::str::from_utf8(text).map_err(|_| failed("the bundle is not text"))?;
        let bundle = Bundle::from_json(text).map_err(|error| not_valid("the bundle cannot be read", &error))?;
        let entries = &bundle.verification_material.tlog_entries;
        if entries.len() > MAX_ENTRIES {
            return Err(failed("more log entries than is sensible"));
        }
        // Bundles of the first version, and they alone, may do with the log's promise.
        let promise_suffices = bundle.media_type() == MediaType::Bundle0_1;
        let mut why = failed("the signature has no proof of an entry in a transparency log");
        for entry in entries {
            match self.prove(entry, promise_suffices, binding) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The same for a legacy signature with the annotation that holds the log's promise.
    pub(crate) fn prove_legacy(&self, promise: Option<&[u8]>, binding: Binding<'_>) -> Result<(), SignatureError> {
        let promise = promise.ok_or_else(|| failed("the signature has no proof of an entry in a transparency log"))?;
        self.prove(&RekorBundle::read(promise)?.into_entry()?, true, binding)
    }

    /// That the entries of Rekor's second version stand in the log that they name, and that its key was to be trusted at
    /// every proven time. The crate, for want of a time in the entry, goes by any key whose time has begun.
    pub(super) fn second_in_time(
        &self,
        entries: &[TransparencyLogEntry],
        times: &[jiff::Timestamp],
    ) -> Result<(), SignatureError> {
        for entry in entries.iter().filter(|entry| entry.kind_version == KindVersion::HashedRekordV002) {
            let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes());
            let proof = entry.inclusion_proof.as_ref().and_then(|proof| proof.checkpoint.checkpoint());
            let untrusted = || failed("the log entry is of a log that is not trusted, or was not at its time");
            let id = id.map_err(|_| untrusted())?;
            let checkpoint = proof.ok_or_else(|| failed("the log entry has no proof of inclusion"))?;
            let signed_by = |time: &jiff::Timestamp| {
                self.logs.key_at(&id, *time).is_some_and(|key| {
                    let mut signatures = checkpoint.signatures().iter();
                    signatures.any(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok())
                })
            };
            if !times.iter().all(signed_by) {
                return Err(untrusted());
            }
        }
        Ok(())
    }

    fn prove(
        &self,
        entry: &TransparencyLogEntry,
        promise_suffices: bool,
        binding: Binding<'_>,
    ) -> Result<(), SignatureError> {
        about(entry, binding)?;
        let second = entry.kind_version == KindVersion::HashedRekordV002;
        // Without the promise nothing proves when the entry was made: then only a key that is trusted today counts, or whoever
        // has one that was retired could make entries for ever.
        let mut time = jiff::Timestamp::now();
        if entry.inclusion_promise.is_some() && !second {
            time = self.promised(entry)?;
        }
        match &entry.inclusion_proof {
            Some(proof) => self.included(entry, proof, time),
            None if promise_suffices && entry.inclusion_promise.is_some() && !second => Ok(()),
            None => Err(failed("the log entry has no proof of inclusion")),
        }
    }

    /// The signed entry timestamp: the log's signature over the entry, its place and its time, which is given back.
    fn promised(&self, entry: &TransparencyLogEntry) -> Result<jiff::Timestamp, SignatureError> {
        let bad = || failed("the log's promise does not hold");
        let promise = entry.inclusion_promise.as_ref().ok_or_else(bad)?;
        let time = entry.integrated_time.ok_or_else(bad)?;
        if time > jiff::Timestamp::now() {
            return Err(failed("the log entry is from the future"));
        }
        let id = entry.log_id.key_id.as_bytes();
        let key = Sha256Hash::try_from(id).ok().and_then(|id| self.logs.key_at(&id, time));
        let key = key.ok_or_else(|| failed("the log entry is of a log that is not trusted, or was not at its time"))?;
        // Canonical JSON (RFC 8785): members in order, and nothing in them that would be escaped.
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(entry.canonicalized_body.as_bytes()),
            time.as_second(),
            hex(id),
            entry.log_index.get()
        );
        let signature = SignatureBytes::from_bytes(promise.signed_entry_timestamp.as_bytes());
        key.verify(signed, &signature).map(|()| time).map_err(|_| bad())
    }

    /// The entry hashes up to a root that its log signed with a key that is to be trusted at this time.
    fn included(
        &self,
        entry: &TransparencyLogEntry,
        proof: &InclusionProof,
        time: jiff::Timestamp,
    ) -> Result<(), SignatureError> {
        let second = entry.kind_version == KindVersion::HashedRekordV002;
        let checkpoint =
            proof.checkpoint.checkpoint().ok_or_else(|| failed("the proof of inclusion has no checkpoint"))?;
        if proof.hashes.len() > MAX_HASHES || checkpoint.signatures().len() > MAX_HASHES {
            return Err(failed("the proof of inclusion is longer than any log needs"));
        }
        // In the second version of Rekor what the proof repeats is not authenticated; in the first it must agree.
        let (index, size) = if second {
            (entry.log_index.get(), checkpoint.tree_size())
        } else {
            (proof.log_index.get(), proof.tree_size)
        };
        if !second && proof.root_hash != *checkpoint.root_hash() {
            return Err(failed("the proof of inclusion is for another checkpoint"));
        }
        let leaf = sigstore_merkle::hash_leaf(entry.canonicalized_body.as_bytes());
        sigstore_merkle::verify_inclusion_proof(&leaf, index, size, &proof.hashes, checkpoint.root_hash())
            .map_err(|error| not_valid("the proof of inclusion does not hold", &error))?;
        let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes()).ok();
        let key = id.and_then(|id| self.logs.key_at(&id, time));
        let signed = |key: &VerificationKey| {
            let mut signatures = checkpoint.signatures().iter();
            signatures.any(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok())
        };
        if key.is_some_and(signed) {
            Ok(())
        } else {
            Err(failed("the checkpoint is not signed by a log that is trusted, or was not at its time"))
        }
    }
}

/// Whether an entry is about this message, this signature and this key.
fn about(entry: &TransparencyLogEntry, binding: Binding<'_>) -> Result<(), SignatureError> {
    let body = json::parse(entry.canonicalized_body.as_bytes(), MAX_BODY, "the log entry")?;
    let spec = body.object("the log entry")?.object("spec")?;
    let same = match entry.kind_version {
        KindVersion::HashedRekordV001 => {
            let signature = spec.object("signature")?;
            let hash = spec.object("data")?.object("hash")?;
            hash.text("value")? == hex(&hashed(hash.text("algorithm")?, binding.message)?)
                && decoded(signature.text("content")?)? == binding.signature
                && pem_key(signature.object("publicKey")?.text("content")?)? == binding.key
        }
        KindVersion::HashedRekordV002 => {
            let record = spec.object("hashedRekordV002")?;
            let (data, signature) = (record.object("data")?, record.object("signature")?);
            let key = signature.object("verifier")?.object("publicKey")?.text("rawBytes")?;
            decoded(data.text("digest")?)? == hashed(data.text("algorithm")?, binding.message)?
                && decoded(signature.text("content")?)? == binding.signature
                && decoded(key)? == binding.key
        }
        KindVersion::DsseV001 => {
            let hash = spec.object("payloadHash")?;
            let signature = only(spec, "signatures")?;
            hash.text("value")? == hex(&payload_hash(hash, binding)?)
                && decoded(signature.text("signature")?)? == binding.signature
                && pem_key(signature.text("verifier")?)? == binding.key
        }
        KindVersion::IntotoV002 => {
            let content = spec.object("content")?;
            let hash = content.object("payloadHash")?;
            let signature = only(content.object("envelope")?, "signatures")?;
            // One more layer of base64 than elsewhere.
            let twice = decoded(signature.text("sig")?)?;
            let once = std::str::from_utf8(&twice).map_err(|_| failed("the log entry is malformed"))?;
            hash.text("value")? == hex(&payload_hash(hash, binding)?)
                && decoded(once)? == binding.signature
                && pem_key(signature.text("publicKey")?)? == binding.key
        }
        _ => return Err(failed("the log entry is of an unknown kind")),
    };
    if same { Ok(()) } else { Err(failed("the log entry is about another signature")) }
}

fn only<'a>(object: Object<'a>, list: &'static str) -> Result<Object<'a>, SignatureError> {
    match object.list(list, 1)? {
        [one] => one.object("a signature of the log entry"),
        _ => Err(failed("the log entry has not exactly one signature")),
    }
}

/// Of the payload alone: the type beside it is the one that every signature here has.
fn payload_hash(hash: Object<'_>, binding: Binding<'_>) -> Result<Vec<u8>, SignatureError> {
    let payload = binding.payload.ok_or_else(|| failed("the log entry is about an envelope, and this is none"))?;
    hashed(hash.text("algorithm")?, payload)
}

fn hashed(algorithm: &str, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
    let algorithm: &Algorithm = match algorithm {
        "sha256" | "SHA2_256" => &SHA256,
        "sha384" | "SHA2_384" => &SHA384,
        "sha512" | "SHA2_512" => &SHA512,
        _ => return Err(failed("the log entry has a digest of an unknown kind")),
    };
    Ok(digest(algorithm, message).as_ref().to_vec())
}

fn decoded(text: &str) -> Result<Vec<u8>, SignatureError> {
    STANDARD.decode(text).map_err(|_| failed("the log entry is not base64"))
}

/// The key of base64 over PEM.
fn pem_key(text: &str) -> Result<Vec<u8>, SignatureError> {
    let pem = decoded(text)?;
    SubjectPublicKeyInfoDer::from_pem_slice(&pem)
        .map(|key| key.to_vec())
        .map_err(|_| failed("the log entry is of a certificate, not of a key"))
}

fn failed(text: &str) -> SignatureError {
    SignatureError::NotValid(text.to_owned())
}
