//! The Sigstore bundle in its JSON form, as far as a check with a configured key needs it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::dsse::Envelope;
use super::json::{self, Json, Object, malformed, shown};
use crate::domain::digest::hex;
use crate::signature::SignatureError;

/// The whole bundle with its log entries. Real ones have some 10 KiB.
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
    /// The envelope.
    pub(super) envelope: Envelope,
    /// The key's SHA-256 in hexadecimal, if the hint has the form cosign gives it. Unsigned: good for messages only.
    pub(super) hint: Option<String>,
}

/// Reads a bundle with a public key's hint and a DSSE envelope.
///
/// Members that are not known are skipped, as newer writers may add some. A key cannot come with the bundle: were
/// there a member with one, it would be such a skipped member.
pub(super) fn read(text: &[u8]) -> Result<Bundle, SignatureError> {
    let bundle = json::parse(text, MAX_BUNDLE, "the bundle")?;
    let bundle = bundle.object("the bundle")?;
    let media_type = bundle.text("mediaType")?;
    if !MEDIA_TYPES.contains(&media_type) {
        return Err(malformed(format!("unknown bundle media type \"{}\"", shown(media_type))));
    }
    let material = bundle.object("verificationMaterial")?;
    if one_of(material, ["publicKey", "certificate", "x509CertificateChain"])? != "publicKey" {
        let text = "signed with a certificate (keyless), while this check asks for a configured public key";
        return Err(SignatureError::Mismatch(text.to_owned()));
    }
    let hint = hint(material.object("publicKey")?)?;
    // A message signature covers bytes that are not in the bundle. cosign makes it for blobs; for images it would have
    // no predicate type to tell a signature from anything else.
    match one_of(bundle, ["dsseEnvelope", "messageSignature"])? {
        "dsseEnvelope" => Ok(Bundle { envelope: Envelope::read(bundle.object("dsseEnvelope")?)?, hint }),
        _ => Err(SignatureError::Mismatch("a signature over a blob is not an image signature".to_owned())),
    }
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
