//! cosign signatures and attestations: the legacy `.sig` and `.att` layers and the bundle.
//!
//! ```text
//! PublicKeys::from_pem ── pem ── key
//!   Trust ├─ legacy:  base64 signature over the payload bytes         ── then the payload is read ── claim
//!         └─ bundle:  bundle ── DSSE envelope, signature over its PAE ── then the statement is read ── claim
//!              by a configured key (with a log entry, if asked for), or by a certificate with its evidence (keyless)
//! ```
//! What counts is that somebody who is trusted signed a cosign signature for exactly this image digest. Keys and hints
//! that come with a signature are never trusted, and certificates only as far as a trust root vouches for them. Signed
//! content is read only after its signature was found good. Unless they are asked for, log entries and timestamps of
//! signatures by a key are not looked at: they would say when it was used, and a configured key is trusted until it is
//! taken away.
//!
//! Specifications: cosign `SIGNATURE_SPEC`, Sigstore bundle, DSSE v1, in-toto Statement v1.

mod bundle;
mod dsse;
pub(super) mod key;
mod legacy;
mod pem;
mod statement;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::key::PublicKey;
pub use self::trust::{Claim, Layer, Signer, Statement, Trust};
use super::keyless::LegacyEvidence;
use super::{SignatureError, json};
use crate::domain::digest::Digest;

/// Signed bytes: a legacy payload or a statement. Real ones have a few hundred bytes plus their annotations, while
/// attestations (which are no signatures) can be large. Bounds the work per key.
const MAX_SIGNED: usize = 128 * 1024;
/// Characters of one signature in base64. An RSA signature of 8192 bits has 1368.
const MAX_SIGNATURE: usize = 4096;

/// Trusted public keys of one `cosign.pub`.
#[derive(Debug, Default)]
pub struct PublicKeys {
    keys: Vec<PublicKey>,
}

/// What a verified cosign signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignClaim {
    /// Signed annotations: the payload's `optional` strings, or the statement's subject annotations.
    pub annotations: BTreeMap<String, String>,
    /// SHA-256 of the key's `SubjectPublicKeyInfo`, lower-case hexadecimal.
    pub key: String,
}

impl CosignClaim {
    fn of(claim: Claim) -> Result<Self, SignatureError> {
        match (claim.signer, claim.statement) {
            (Signer::Key(key), Statement::Signature { annotations, .. }) => Ok(Self { annotations, key }),
            _ => Err(SignatureError::Mismatch("not a signature by a key".to_owned())),
        }
    }
}

impl PublicKeys {
    /// Reads PEM blocks. The second value says which blocks were left out and why; good ones stay usable.
    ///
    /// Understood are `PUBLIC KEY` (`SubjectPublicKeyInfo`) with ECDSA P-256, P-384 and P-521, RSA of 2048 to 8192
    /// bits and Ed25519, and `RSA PUBLIC KEY` (PKCS#1). At most 64 blocks within 1 MiB are read. The texts never hold
    /// anything of a block's content.
    pub fn from_pem(text: &[u8]) -> (Self, Vec<String>) {
        let (blocks, cut) = pem::blocks(text);
        let mut problems = Vec::new();
        let mut keys: Vec<PublicKey> = Vec::new();
        if blocks.is_empty() {
            problems.push("no PEM block found: expected -----BEGIN PUBLIC KEY-----".to_owned());
        }
        for (number, block) in (1..).zip(&blocks) {
            match read_block(block) {
                Ok(key) if keys.iter().any(|known| known.fingerprint == key.fingerprint) => {}
                Ok(key) => keys.push(key),
                Err(why) => problems.push(format!("block {number} ({}): {why}", block.label)),
            }
        }
        if cut {
            problems.push(format!("only the first {} blocks within 1 MiB are read; split the keys", pem::MAX_BLOCKS));
        }
        (Self { keys }, problems)
    }

    /// One key, from its `SubjectPublicKeyInfo` in DER. The error says why it cannot be used.
    pub fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        Ok(Self { keys: vec![PublicKey::from_spki(der)?] })
    }

    /// Whether there is no usable key ("no public keys imported").
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Fingerprints of the keys (SHA-256 of `SubjectPublicKeyInfo`, lower-case hexadecimal).
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.fingerprint.clone()).collect()
    }

    /// The keys as one PEM text of `PUBLIC KEY` blocks, and nothing else that stood around them.
    pub fn to_pem(&self) -> String {
        self.keys.iter().map(|key| pem::write("PUBLIC KEY", &key.spki)).collect()
    }

    /// Verifies a legacy signature layer: `payload` are the layer's bytes, `signature` its annotation in base64.
    ///
    /// The claim comes from a payload of type `cosign container image signature` for exactly `image`. The payload's
    /// `docker-reference` is not compared with anything, as in cosign: what binds is the digest.
    pub fn verify_legacy(
        &self,
        payload: &[u8],
        signature: &str,
        image: &Digest,
    ) -> Result<CosignClaim, SignatureError> {
        let layer = Layer { content: payload, signature, beside: LegacyEvidence::default() };
        CosignClaim::of(Trust::of_keys(self).legacy(layer, image)?)
    }

    /// Verifies a bundle (`application/vnd.dev.sigstore.bundle.v0.3+json` and older) that holds a cosign signature statement.
    ///
    /// The envelope must carry an in-toto statement with predicate type `https://sigstore.dev/cosign/sign/v1` and
    /// `image` among its subjects; any other attestation by the same key is a [`SignatureError::Mismatch`]. So is a
    /// bundle with a certificate. Log entries and timestamps are ignored, present or not.
    pub fn verify_bundle(&self, bundle: &[u8], image: &Digest) -> Result<CosignClaim, SignatureError> {
        CosignClaim::of(Trust::of_keys(self).bundle(bundle, image)?)
    }

    fn not_empty(&self) -> Result<(), SignatureError> {
        if self.is_empty() { Err(SignatureError::Key("no public keys imported".to_owned())) } else { Ok(()) }
    }

    fn signer(&self, message: &[u8], signature: &[u8]) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.verifies(message, signature))
    }

    /// The hint only words the refusal. cosign writes the SHA-256 of the key there.
    fn unverified(&self, hint: Option<String>) -> SignatureError {
        match hint {
            Some(hint) if self.keys.iter().any(|key| key.fingerprint == hint) => SignatureError::Bad,
            hint => SignatureError::UntrustedKey(hint),
        }
    }
}

fn read_block(block: &pem::Block) -> Result<PublicKey, &'static str> {
    if block.is_private() {
        return Err("a private key, ignored: it does not belong here, store the public key alone");
    }
    let content = block.content.as_deref().map_err(|why| *why)?;
    match block.label.as_str() {
        "PUBLIC KEY" => PublicKey::from_spki(content),
        "RSA PUBLIC KEY" => PublicKey::from_pkcs1(content),
        "CERTIFICATE" => Err("a certificate is not a public key: extract it with openssl x509 -pubkey -noout"),
        _ => Err("not a public key: expected PUBLIC KEY"),
    }
}

fn decode_signature(text: &str) -> Result<Vec<u8>, SignatureError> {
    let signature = decode_base64(text, MAX_SIGNATURE, "the signature")?;
    if signature.is_empty() { Err(json::malformed("the signature is empty")) } else { Ok(signature) }
}

/// Decodes base64 as leniently as the formats ask: DSSE has readers take the standard and the URL-safe alphabet, the
/// JSON form of protocol buffers leaves padding open, and signatures made by hand have line ends. None of it changes
/// what is verified, which is always the decoded bytes.
fn decode_base64(text: &str, max: usize, name: &str) -> Result<Vec<u8>, SignatureError> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

    if text.len() > max {
        return Err(json::malformed(format!("{name} has more than {max} characters")));
    }
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let engine = if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { URL_SAFE } else { STANDARD };
    engine.decode(text).map_err(|_| json::malformed(format!("{name} is not valid base64")))
}
