//! The DSSE envelope, v1.0.

use super::{decode_base64, decode_signature};
use crate::signature::SignatureError;
use crate::signature::json::{Object, malformed, shown};

/// The payload type of in-toto statements, the only one cosign signs.
pub(super) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Signatures in one envelope. cosign makes one; each costs a verification per key.
pub(super) const MAX_SIGNATURES: usize = 4;

/// An envelope in its right form, nothing verified.
#[derive(Debug)]
pub(super) struct Envelope {
    /// What was signed together with [`PAYLOAD_TYPE`].
    pub(super) payload: Vec<u8>,
    /// One to [`MAX_SIGNATURES`] signatures.
    pub(super) signatures: Vec<Vec<u8>>,
}

impl Envelope {
    /// Reads an envelope with a payload of at most about `max_payload` bytes. A `keyid` is not looked at: it is not signed.
    pub(super) fn read(envelope: Object<'_>, max_payload: usize) -> Result<Self, SignatureError> {
        let payload_type = envelope.text("payloadType")?;
        if payload_type != PAYLOAD_TYPE {
            let text = format!("an envelope of payload type \"{}\" is not a cosign signature", shown(payload_type));
            return Err(SignatureError::Mismatch(text));
        }
        let payload = decode_base64(envelope.text("payload")?, max_payload / 3 * 4, "the payload of the envelope")?;
        let mut signatures = Vec::new();
        for signature in envelope.list("signatures", MAX_SIGNATURES)? {
            signatures.push(decode_signature(signature.object("a signature of the envelope")?.text("sig")?)?);
        }
        if payload.is_empty() {
            return Err(malformed("the payload of the envelope is empty"));
        }
        Ok(Self { payload, signatures })
    }

    /// The bytes that are signed. The lengths keep type and payload apart.
    pub(super) fn pre_authentication_encoding(&self) -> Vec<u8> {
        let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }
}
