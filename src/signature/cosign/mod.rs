//! cosign signatures with public keys: the legacy `.sig` layer and the bundle.

use std::collections::BTreeMap;

use super::SignatureError;
use crate::domain::digest::Digest;

/// Trusted public keys of one `cosign.pub`.
#[derive(Debug, Default)]
pub struct PublicKeys {}

/// What a verified cosign signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignClaim {
    /// Signed annotations: the payload's `optional` strings, or the statement's subject annotations.
    pub annotations: BTreeMap<String, String>,
    /// SHA-256 of the key's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub key: String,
}

impl PublicKeys {
    /// Reads PEM blocks. The second value says which blocks were left out and why; good ones stay usable.
    pub fn from_pem(text: &[u8]) -> (Self, Vec<String>) {
        let _ = text;
        (Self {}, Vec::new())
    }

    /// Whether there is no usable key ("no public keys imported").
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Fingerprints of the keys (SHA-256 of SubjectPublicKeyInfo, lower-case hexadecimal).
    pub fn fingerprints(&self) -> Vec<String> {
        Vec::new()
    }

    /// Verifies a legacy signature layer: `payload` are the layer's bytes, `signature` its annotation in base64.
    pub fn verify_legacy(
        &self,
        payload: &[u8],
        signature: &str,
        image: &Digest,
    ) -> Result<CosignClaim, SignatureError> {
        let _ = (payload, signature, image);
        Err(SignatureError::Bad)
    }

    /// Verifies a bundle (`application/vnd.dev.sigstore.bundle.v0.3+json` and older) that holds a cosign signature statement.
    pub fn verify_bundle(&self, bundle: &[u8], image: &Digest) -> Result<CosignClaim, SignatureError> {
        let _ = (bundle, image);
        Err(SignatureError::Bad)
    }
}
