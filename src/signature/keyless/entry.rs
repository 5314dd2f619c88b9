//! What stands beside legacy signatures, and the digests that the crate is asked with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sigstore_types::bundle::{
    InclusionPromise, KindVersion, LogId, Rfc3161Timestamp, TimestampVerificationData, TransparencyLogEntry,
};
use sigstore_types::{
    Artifact, ArtifactDigest, CanonicalizedBody, HashAlgorithm, LogIndex, LogKeyId, SignedTimestamp, TimestampToken,
};

use super::not_valid;
use crate::signature::SignatureError;
use crate::signature::cosign::json;

/// Bytes of the annotation with a log's promise: it holds the entry, with a certificate or a whole envelope.
const MAX_BUNDLE: usize = 2 << 20;
/// Bytes of the annotation with a timestamp.
const MAX_TIMESTAMP: usize = 64 << 10;
/// Bytes of the annotations with certificates.
const MAX_PEM: usize = 128 << 10;

/// The annotation `dev.sigstore.cosign/bundle`: a log's promise that it took an entry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RekorBundle {
    signed_entry_timestamp: String,
    payload: RekorPayload,
}

#[derive(Debug, Deserialize)]
struct RekorPayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// What every entry says of itself.
#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

impl RekorBundle {
    pub(super) fn read(text: &[u8]) -> Result<Self, SignatureError> {
        // First strictly: no member twice, objects as objects.
        json::parse(text, MAX_BUNDLE, "the log's promise")?.object("the log's promise")?.object("Payload")?;
        serde_json::from_slice(text).map_err(|error| not_valid("the log's promise cannot be read", &error))
    }

    pub(super) fn into_entry(self) -> Result<TransparencyLogEntry, SignatureError> {
        let body = STANDARD.decode(&self.payload.body).map_err(|_| malformed("the log entry is not base64"))?;
        json::parse(&body, MAX_BUNDLE, "the log entry")?.object("the log entry")?;
        let kind: Kind = serde_json::from_slice(&body).map_err(|error| not_valid("the log entry", &error))?;
        let kind = match (kind.kind.as_str(), kind.version.as_str()) {
            ("hashedrekord", "0.0.1") => KindVersion::HashedRekordV001,
            ("dsse", "0.0.1") => KindVersion::DsseV001,
            ("intoto", "0.0.2") => KindVersion::IntotoV002,
            _ => return Err(malformed("the log entry is of an unknown kind")),
        };
        let id = unhex(&self.payload.log_id).ok_or_else(|| malformed("the log's id is not 64 hexadecimal digits"))?;
        let index = LogIndex::new(self.payload.log_index).map_err(|_| malformed("the log entry's index"))?;
        let time = jiff::Timestamp::from_second(self.payload.integrated_time)
            .map_err(|_| malformed("the time of the log entry"))?;
        let promise = SignedTimestamp::from_base64(&self.signed_entry_timestamp)
            .map_err(|_| malformed("the log's promise is not base64"))?;
        Ok(TransparencyLogEntry::new(index, LogId::new(LogKeyId::new(id.to_vec())), kind, CanonicalizedBody::new(body))
            .with_integrated_time(time)
            .with_inclusion_promise(InclusionPromise::new(promise)))
    }
}

/// The annotation `dev.sigstore.cosign/rfc3161timestamp`.
pub(super) fn timestamp(text: &[u8]) -> Result<TimestampVerificationData, SignatureError> {
    let value = json::parse(text, MAX_TIMESTAMP, "the timestamp")?;
    let token = value.object("the timestamp")?.text("SignedRFC3161Timestamp")?;
    let token = TimestampToken::from_base64(token).map_err(|_| malformed("the timestamp is not base64"))?;
    Ok(TimestampVerificationData::new(vec![Rfc3161Timestamp::new(token)]))
}

/// The certificates of a PEM text, at most `max`.
pub(super) fn pem_certificates(text: &[u8], max: usize) -> Result<Vec<Vec<u8>>, SignatureError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    if text.len() > MAX_PEM {
        return Err(malformed("the certificates beside the signature are too large"));
    }
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|_| malformed("the certificates beside the signature are not PEM"))?;
        if found.len() == max {
            return Err(malformed("more certificates beside the signature than is sensible"));
        }
        found.push(certificate.to_vec());
    }
    Ok(found)
}

/// A digest, as algorithm and bytes, in the form that the crate asks for.
pub(super) fn artifact<'a>((algorithm, bytes): (&str, &[u8])) -> Result<Artifact<'a>, SignatureError> {
    let algorithm = match algorithm {
        "sha256" => HashAlgorithm::Sha2256,
        "sha512" => HashAlgorithm::Sha2512,
        _ => return Err(malformed("a digest that is neither SHA-256 nor SHA-512")),
    };
    let digest = ArtifactDigest::new(algorithm, bytes.to_vec()).map_err(|_| malformed("the digest's length"))?;
    Ok(Artifact::from_digest(digest))
}

/// 32 bytes from 64 hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (text.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

fn malformed(text: &str) -> SignatureError {
    SignatureError::Malformed(text.to_owned())
}
