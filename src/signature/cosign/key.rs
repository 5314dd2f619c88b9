//! One trusted public key: strict reading of `SubjectPublicKeyInfo` (RFC 5280, RFC 5480, RFC 8410) and verification.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
};
use ed25519_dalek::{Digest as _, Sha512, VerifyingKey};
use rustls_pki_types::alg_id;

use crate::domain::digest::Digest;

const UNSUPPORTED: &str = "unsupported kind of key: use ECDSA P-256, P-384 or P-521, RSA or Ed25519";
const NOT_A_KEY: &str = "not a public key in DER form";

/// A key that can verify.
#[derive(Debug)]
pub(super) struct PublicKey {
    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hexadecimal.
    pub(super) fingerprint: String,
    /// The `SubjectPublicKeyInfo` itself, in DER.
    pub(super) spki: Vec<u8>,
    /// The signature schemes to try, most likely first. Each is sound alone, so trying several weakens nothing: a
    /// forgery would have to be one under at least one of them.
    schemes: Vec<Scheme>,
}

#[derive(Debug)]
enum Scheme {
    Plain(ParsedPublicKey),
    /// RFC 8032 section 5.1 with `phflag` 1, SHA-512 and an empty context.
    Ed25519ph(VerifyingKey),
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER. The error says why the key cannot be used.
    ///
    /// cosign signs with the digest that belongs to the curve and by default verifies with SHA-256, so both are tried.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        let (algorithm, key) = split_spki(der).ok_or(NOT_A_KEY)?;
        let schemes = if algorithm == alg_id::ECDSA_P256.as_ref() {
            ecdsa(key, &[&ECDSA_P256_SHA256_ASN1])
        } else if algorithm == alg_id::ECDSA_P384.as_ref() {
            ecdsa(key, &[&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA256_ASN1])
        } else if algorithm == alg_id::ECDSA_P521.as_ref() {
            ecdsa(key, &[&ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA256_ASN1])
        } else if algorithm == alg_id::RSA_ENCRYPTION.as_ref() {
            rsa(key)
        } else if algorithm == alg_id::ED25519.as_ref() {
            ed25519(key)
        } else {
            Err(UNSUPPORTED)
        }?;
        Ok(Self { fingerprint: Digest::sha256(der).hex().to_owned(), spki: der.to_vec(), schemes })
    }

    /// Reads an `RSAPublicKey` in DER (RFC 8017 appendix A.1.1).
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, &'static str> {
        // Checked before it is wrapped, so that the encoder below sees nothing longer than it can encode.
        rsa(der)?;
        let key = encode(0x03, &[&[0], der].concat());
        Self::from_spki(&encode(0x30, &[encode(0x30, alg_id::RSA_ENCRYPTION.as_ref()), key].concat()))
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.schemes.iter().any(|scheme| match scheme {
            Scheme::Plain(key) => key.verify_sig(message, signature).is_ok(),
            Scheme::Ed25519ph(key) => ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| {
                key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
            }),
        })
    }
}

fn plain(key: &[u8], algorithms: &[&'static dyn VerificationAlgorithm]) -> Result<Vec<Scheme>, &'static str> {
    let parse = |algorithm: &&'static dyn VerificationAlgorithm| ParsedPublicKey::new(*algorithm, key);
    algorithms.iter().map(|a| parse(a).map(Scheme::Plain).map_err(|_| NOT_A_KEY)).collect()
}

fn ecdsa(point: &[u8], algorithms: &[&'static dyn VerificationAlgorithm]) -> Result<Vec<Scheme>, &'static str> {
    // Uncompressed only, as cosign reads them: one key, one fingerprint.
    match point.first() {
        Some(0x04) => plain(point, algorithms),
        _ => Err("an elliptic curve key whose point is not in uncompressed form"),
    }
}

fn rsa(key: &[u8]) -> Result<Vec<Scheme>, &'static str> {
    check_rsa(key)?;
    plain(key, &[&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_2048_8192_SHA512, &RSA_PKCS1_2048_8192_SHA384])
}

/// Whether an `RSAPublicKey` in DER has a size that is safe and a cost that is bounded.
pub(in crate::signature) fn check_rsa(key: &[u8]) -> Result<(), &'static str> {
    let Some((numbers, [])) = element(0x30, key) else { return Err(NOT_A_KEY) };
    let Some((exponent, [])) = element(0x02, numbers).and_then(|(_, rest)| element(0x02, rest)) else {
        return Err(NOT_A_KEY);
    };
    // What a verification costs grows with it, and nothing in use has a larger one than 65537.
    if exponent.len() > 4 || exponent.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) > 65537 {
        return Err("an RSA key whose public exponent is larger than 65537");
    }
    match RsaParameters::public_modulus_len(key) {
        Ok(2048..=8192) => Ok(()),
        Ok(..2048) => Err("an RSA key of fewer than 2048 bits"),
        Ok(_) => Err("an RSA key of more than 8192 bits"),
        Err(_) => Err(NOT_A_KEY),
    }
}

fn ed25519(key: &[u8]) -> Result<Vec<Scheme>, &'static str> {
    let point = VerifyingKey::try_from(key).map_err(|_| NOT_A_KEY)?;
    if point.is_weak() {
        // Under a point of small order one signature fits many messages.
        return Err("an Ed25519 key of small order, which proves nothing");
    }
    let mut schemes = plain(key, &[&ED25519])?;
    schemes.push(Scheme::Ed25519ph(point));
    Ok(schemes)
}

/// Splits `SEQUENCE { SEQUENCE { algorithm }, BIT STRING }` into the algorithm's content and the key's bytes.
pub(in crate::signature) fn split_spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = element(0x30, der)?;
    let (algorithm, key) = element(0x30, content)?;
    let (bits, behind) = element(0x03, key)?;
    let (unused, key) = bits.split_first()?;
    (rest.is_empty() && behind.is_empty() && *unused == 0).then_some((algorithm, key))
}

/// Reads one DER element with this tag and a length in its shortest form: its content and what follows.
fn element(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *input {
        [t, length, ref rest @ ..] if t == tag && length < 0x80 => (usize::from(length), rest),
        [t, 0x81, length, ref rest @ ..] if t == tag && length >= 0x80 => (usize::from(length), rest),
        [t, 0x82, high, low, ref rest @ ..] if t == tag && high > 0 => {
            (usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Writes one DER element. Content above 65,535 bytes, which no caller has, would come out as an unreadable element.
fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(0).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}
