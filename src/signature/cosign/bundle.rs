//! The Sigstore bundle in its JSON form: its shape and what was signed. Evidence is read where it is verified.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::decode_signature;
use super::dsse::Envelope;
use crate::domain::digest::hex;
use crate::signature::SignatureError;
use crate::signature::json::{self, Json, Object, malformed, shown};

/// The whole bundle with its log entries, unless a larger payload is allowed. Real ones have some 10 KiB.
const MAX_BUNDLE: usize = 1 << 20;

/// Versions differ in what they say about the log and about certificates, which does not matter here.
const MEDIA_TYPES: [&str; 6] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle.v0.2+json",
    "application/vnd.dev.sigstore.bundle.v0.1+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
];

/// A bundle in its right form, nothing verified.
#[derive(Debug)]
pub(super) struct Bundle {
    /// What was signed.
    pub(super) signed: Signed,
    /// With what.
    pub(super) material: Material,
}

/// What was signed.
#[derive(Debug)]
pub(super) enum Signed {
    Envelope(Envelope),
    /// Bytes that are elsewhere: the signature over them.
    Message(Vec<u8>),
}

/// With what it was signed.
#[derive(Debug)]
pub(super) enum Material {
    /// A key that is elsewhere: its SHA-256 in hexadecimal, if the hint has the form cosign gives it. Unsigned: good for
    /// messages only.
    Key {
        hint: Option<String>,
    },
    Certificate,
}

/// Reads a bundle, whose payload may have `max_payload` bytes.
///
/// Members that are not known are skipped, as newer writers may add some. A key cannot come with the bundle: were
/// there a member with one, it would be such a skipped member.
pub(super) fn read(text: &[u8], max_payload: usize) -> Result<Bundle, SignatureError> {
    let bundle = json::parse(text, MAX_BUNDLE.max(2 * max_payload), "the bundle")?;
    let bundle = bundle.object("the bundle")?;
    let media_type = bundle.text("mediaType")?;
    if !MEDIA_TYPES.contains(&media_type) {
        return Err(malformed(format!("unknown bundle media type \"{}\"", shown(media_type))));
    }
    let material = bundle.object("verificationMaterial")?;
    let material = match one_of(material, ["publicKey", "certificate", "x509CertificateChain"])? {
        "publicKey" => Material::Key { hint: hint(material.object("publicKey")?)? },
        _ => Material::Certificate,
    };
    let signed = match one_of(bundle, ["dsseEnvelope", "messageSignature"])? {
        "dsseEnvelope" => Signed::Envelope(Envelope::read(bundle.object("dsseEnvelope")?, max_payload)?),
        _ => Signed::Message(decode_signature(bundle.object("messageSignature")?.text("signature")?)?),
    };
    Ok(Bundle { signed, material })
}

/// The name of the one member that is there. Two would leave open which of them counts.
fn one_of<const N: usize>(object: Object<'_>, names: [&'static str; N]) -> Result<&'static str, SignatureError> {
    let mut present = names.into_iter().filter(|name| object.get(name).is_some());
    match (present.next(), present.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(malformed(format!("the bundle has none of {}", names.join(", ")))),
        (Some(one), Some(two)) => Err(malformed(format!("the bundle has both {one} and {two}"))),
    }
}

fn hint(key: Object<'_>) -> Result<Option<String>, SignatureError> {
    match key.get("hint") {
        None => Ok(None),
        Some(Json::Text(hint)) => {
            Ok(STANDARD.decode(hint).ok().filter(|bytes| bytes.len() == 32).map(|bytes| hex(&bytes)))
        }
        Some(_) => Err(malformed("\"hint\" of publicKey is not a string")),
    }
}
