//! Signatures whose key is in a certificate: whether all evidence fits together, and what the certificate says.

use sigstore_types::bundle::{
    CertificateContent, MessageSignature, TimestampVerificationData, VerificationMaterial, VerificationMaterialContent,
    X509Certificate,
};
use sigstore_types::{Artifact, Bundle, DerCertificate, MediaType, SignatureBytes, SignatureContent};
use sigstore_verify::VerificationPolicy;
use x509_parser::certificate::X509Certificate as Parsed;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::entry::{self, RekorBundle};
use super::{TrustRoot, not_valid};
use crate::domain::keyless::{Certified, Workflow};
use crate::signature::SignatureError;

/// Log entries and timestamps of one signature. Each costs a verification; real ones have one of each.
const MAX_ENTRIES: usize = 4;
const MAX_TIMESTAMPS: usize = 4;
/// Nodes on the way to a log's root: enough for 2^64 entries.
const MAX_HASHES: usize = 64;
/// Certificates that come with a signature.
const MAX_CHAIN: usize = 8;
/// Bytes of a certificate. Those with all workflow extensions have about 2 KiB.
const MAX_CERTIFICATE: usize = 16 << 10;
/// Names in one certificate.
const MAX_NAMES: usize = 32;

/// What is asked beside the chain of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Proof of an entry in a transparency log; without, a signed timestamp suffices.
    pub log: bool,
    /// Proof of the certificate in a certificate transparency log.
    pub sct: bool,
}

/// What a signature is over.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// An envelope: the payload as the caller read it, and the digest that one of its subjects must have, as algorithm
    /// and bytes.
    Envelope { payload: &'a [u8], subject: (&'a str, &'a [u8]) },
    /// These bytes.
    Message(&'a [u8]),
}

/// What stands beside a legacy signature.
#[derive(Debug, Clone, Copy, Default)]
pub struct LegacyEvidence<'a> {
    /// PEM.
    pub certificate: &'a [u8],
    /// PEM, may be empty.
    pub chain: &'a [u8],
    /// JSON with the signed entry timestamp.
    pub bundle: Option<&'a [u8]>,
    /// JSON with a token of RFC 3161.
    pub timestamp: Option<&'a [u8]>,
}

impl TrustRoot {
    /// Verifies a bundle with a certificate and says whom it names. The text was read strictly before, and is bounded.
    pub(crate) fn verify_bundle(
        &self,
        text: &[u8],
        content: Content<'_>,
        evidence: Evidence,
    ) -> Result<Certified, SignatureError> {
        let text = std::str::from_utf8(text).map_err(|_| malformed("the bundle is not text"))?;
        let bundle = Bundle::from_json(text).map_err(|error| not_valid("the bundle cannot be read", &error))?;
        self.verify(bundle, content, evidence)
    }

    /// The same for a legacy layer: `signature` over `payload`.
    pub(crate) fn verify_legacy(
        &self,
        payload: &[u8],
        signature: &[u8],
        beside: LegacyEvidence<'_>,
        evidence: Evidence,
    ) -> Result<Certified, SignatureError> {
        let signature = MessageSignature::new(SignatureBytes::from_bytes(signature));
        let bundle = legacy(SignatureContent::MessageSignature(signature), beside)?;
        self.verify(bundle, Content::Message(payload), evidence)
    }

    /// The same for a legacy attestation: an envelope in JSON.
    pub(crate) fn verify_legacy_envelope(
        &self,
        envelope: &[u8],
        content: Content<'_>,
        beside: LegacyEvidence<'_>,
        evidence: Evidence,
    ) -> Result<Certified, SignatureError> {
        let envelope =
            serde_json::from_slice(envelope).map_err(|error| not_valid("the envelope cannot be read", &error))?;
        let bundle = legacy(SignatureContent::DsseEnvelope(envelope), beside)?;
        self.verify(bundle, content, evidence)
    }

    fn verify(
        &self,
        mut bundle: Bundle,
        content: Content<'_>,
        evidence: Evidence,
    ) -> Result<Certified, SignatureError> {
        bounded(&bundle)?;
        let material = &mut bundle.verification_material;
        let promised = material.tlog_entries.iter().any(|entry| entry.inclusion_promise.is_some());
        if !self.timestamps && promised {
            // Nobody here could judge them, and the log says the time. The crate would refuse the whole.
            material.timestamp_verification_data = TimestampVerificationData::default();
        }
        if evidence.log && material.tlog_entries.is_empty() {
            return Err(not_valid("not logged", &"the signature has no proof of an entry in a transparency log"));
        }
        let artifact = match content {
            Content::Message(message) => Artifact::from_blob(message),
            Content::Envelope { payload, subject } => {
                // What was read and what is verified here are the same bytes, or two readers differ.
                match &bundle.content {
                    SignatureContent::DsseEnvelope(envelope) if envelope.payload.as_bytes() == payload => {}
                    _ => return Err(malformed("the payload of the envelope is ambiguous")),
                }
                entry::artifact(subject)?
            }
        };
        let mut policy = VerificationPolicy::any_identity();
        if !evidence.log {
            policy = policy.skip_tlog_unsafe();
        }
        if !evidence.sct {
            policy = policy.skip_sct();
        }
        let verified = self.verifier.verify(artifact, &bundle, &policy);
        let verified = verified.map_err(|error| match error {
            sigstore_verify::Error::ArtifactMismatch(_) => SignatureError::OtherDigest("unknown".to_owned()),
            error => not_valid("the evidence does not hold", &error),
        })?;
        // What the crate did is what was asked of it, whatever its next version makes of the policy.
        let done = verified.certificate_verified()
            && (verified.sct_verified() || !evidence.sct)
            && (verified.tlog_verified() || !evidence.log)
            && !verified.verified_timestamps().is_empty();
        if !done {
            return Err(not_valid("the evidence does not hold", &"not every part of it was verified"));
        }
        if evidence.log {
            self.second_in_time(&bundle.verification_material.tlog_entries, verified.verified_timestamps())?;
        }
        let certificate = bundle.signing_certificate().ok_or_else(|| malformed("the bundle has no certificate"))?;
        certified(certificate.as_bytes())
    }
}

/// A bundle of the oldest version, whose rules are those of legacy signatures: the promise of the log suffices.
fn legacy(content: SignatureContent, beside: LegacyEvidence<'_>) -> Result<Bundle, SignatureError> {
    let mut certificates = entry::pem_certificates(beside.certificate, 1)?;
    if certificates.is_empty() {
        return Err(malformed("the certificate beside the signature is not PEM"));
    }
    certificates.extend(entry::pem_certificates(beside.chain, MAX_CHAIN)?);
    let certificates: Vec<_> =
        certificates.into_iter().map(|der| X509Certificate::new(DerCertificate::new(der))).collect();
    let logged = beside.bundle.map(RekorBundle::read).transpose()?;
    // With a promise the version that demands one; without, the next, which asks for proof or a timestamp.
    let version = if logged.is_some() { MediaType::Bundle0_1 } else { MediaType::Bundle0_2 };
    let single = |certificate: &X509Certificate| {
        VerificationMaterialContent::Certificate(CertificateContent::new(certificate.raw_bytes.clone()))
    };
    let content_of = match certificates.as_slice() {
        [one] => single(one),
        _ => VerificationMaterialContent::X509CertificateChain { certificates },
    };
    let mut material = VerificationMaterial::new(content_of);
    if let Some(logged) = logged {
        material = material.with_tlog_entries(vec![logged.into_entry()?]);
    }
    if let Some(timestamp) = beside.timestamp {
        material = material.with_timestamp_verification_data(entry::timestamp(timestamp)?);
    }
    Ok(Bundle::new(version, material, content))
}

/// Refuses what would make the crate work for long.
fn bounded(bundle: &Bundle) -> Result<(), SignatureError> {
    let material = &bundle.verification_material;
    let certificates: Vec<&[u8]> = match &material.content {
        VerificationMaterialContent::Certificate(certificate) => vec![certificate.raw_bytes.as_bytes()],
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            certificates.iter().map(|certificate| certificate.raw_bytes.as_bytes()).collect()
        }
        _ => return Err(malformed("the bundle has no certificate")),
    };
    let large = certificates.iter().any(|certificate| certificate.len() > MAX_CERTIFICATE);
    let proofs = material.tlog_entries.iter().filter_map(|entry| entry.inclusion_proof.as_ref());
    let long = proofs.into_iter().any(|proof| {
        let signatures = proof.checkpoint.checkpoint().map_or(0, |checkpoint| checkpoint.signatures().len());
        proof.hashes.len() > MAX_HASHES || signatures > MAX_HASHES
    });
    if large
        || long
        || certificates.len() > 1 + MAX_CHAIN
        || material.tlog_entries.len() > MAX_ENTRIES
        || material.timestamp_verification_data.rfc3161_timestamps.len() > MAX_TIMESTAMPS
    {
        return Err(malformed("the bundle has more certificates, log entries or timestamps than is sensible"));
    }
    Ok(())
}

/// What a certificate says, whose chain was verified.
fn certified(der: &[u8]) -> Result<Certified, SignatureError> {
    let bad = |what: &str| SignatureError::Malformed(format!("the certificate: {what}"));
    let (rest, certificate) = Parsed::from_der(der).map_err(|_| bad("is not X.509"))?;
    if !rest.is_empty() {
        return Err(bad("has something behind it"));
    }
    let claim = |number: u64| extension(&certificate, number);
    // The newer extension is a DER string, the older one bare text. Where both are there they must agree.
    let newer = claim(8)?.map(|value| der_string(value).ok_or_else(|| bad("its issuer is malformed"))).transpose()?;
    let older = claim(1)?.map(|value| bare_string(value).ok_or_else(|| bad("its issuer is malformed"))).transpose()?;
    let issuer = match (newer, older) {
        (Some(newer), Some(older)) if newer != older => return Err(bad("it names two issuers")),
        (Some(issuer), _) | (None, Some(issuer)) => issuer,
        (None, None) => return Err(bad("it names no issuer")),
    };
    let text = |number| Ok::<_, SignatureError>(claim(number)?.and_then(bare_string));
    let workflow =
        Workflow { trigger: text(2)?, sha: text(3)?, name: text(4)?, repository: text(5)?, reference: text(6)? };
    Ok(Certified { issuer, subjects: names(&certificate)?, workflow })
}

/// The value of `1.3.6.1.4.1.57264.1.<number>`; twice the same would leave open which counts.
fn extension<'a>(certificate: &'a Parsed<'_>, number: u64) -> Result<Option<&'a [u8]>, SignatureError> {
    let oid = Oid::from(&[1, 3, 6, 1, 4, 1, 57264, 1, number])
        .map_err(|_| malformed("the certificate: an extension cannot be named"))?;
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid == oid);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(malformed("the certificate: an extension is there twice")),
        (found, None) => Ok(found.map(|extension| extension.value)),
    }
}

/// All names of the kinds that Fulcio gives: e-mail, URI, DNS, and a user name in an other name of its own.
fn names(certificate: &Parsed<'_>) -> Result<Vec<String>, SignatureError> {
    let extension = certificate.subject_alternative_name();
    let extension = extension.map_err(|_| malformed("the certificate: its names are malformed"))?;
    let Some(extension) = extension else { return Err(malformed("the certificate: it names nobody")) };
    let mut names = Vec::new();
    for name in extension.value.general_names.iter().take(MAX_NAMES) {
        match name {
            GeneralName::RFC822Name(text) | GeneralName::URI(text) | GeneralName::DNSName(text) => {
                names.push((*text).to_owned());
            }
            GeneralName::OtherName(oid, value) => {
                let fulcio = Oid::from(&[1, 3, 6, 1, 4, 1, 57264, 1, 7]).is_ok_and(|own| own == *oid);
                names.extend(fulcio.then(|| other_name(value)).flatten());
            }
            _ => {}
        }
    }
    Ok(names)
}

/// `[0] EXPLICIT UTF8String`, with or without the outer tag, which parsers strip or leave.
fn other_name(value: &[u8]) -> Option<String> {
    match value {
        [0xa0, length, rest @ ..] if usize::from(*length) == rest.len() => der_string(rest),
        _ => der_string(value),
    }
}

/// A whole DER `UTF8String`.
fn der_string(value: &[u8]) -> Option<String> {
    let text = match value {
        [0x0c, length, rest @ ..] if *length < 0x80 && usize::from(*length) == rest.len() => rest,
        [0x0c, 0x81, length, rest @ ..] if *length >= 0x80 && usize::from(*length) == rest.len() => rest,
        [0x0c, 0x82, high, low, rest @ ..]
            if *high > 0 && usize::from(u16::from_be_bytes([*high, *low])) == rest.len() =>
        {
            rest
        }
        _ => return None,
    };
    String::from_utf8(text.to_vec()).ok()
}

fn bare_string(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok().filter(|text| !text.is_empty())
}

fn malformed(text: &str) -> SignatureError {
    SignatureError::Malformed(text.to_owned())
}
