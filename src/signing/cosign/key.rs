//! A private key of cosign: `ENCRYPTED SIGSTORE PRIVATE KEY` (scrypt, and a secretbox around PKCS#8), or PKCS#8 itself.
//!
//! The private-key operations are those of aws-lc-rs, in constant time. Ed25519 is left out: cosign signs with it in a way
//! (Ed25519ph) that it cannot verify itself.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use sequoia_openpgp::crypto::mem::Protected;
use serde::Deserialize;

use crate::signature::cosign::PublicKeys;
use crate::signing::secret_file::SecretFile;

/// Bytes of a key's file.
pub const MAX_KEY_FILE: usize = 64 * 1024;
/// What scrypt may need: 128 · N · r bytes. cosign's own keys need 64 MiB.
const MAX_MEMORY: u64 = 256 << 20;
const MAX_PARALLEL: u32 = 16;
const ENCRYPTED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
const PLAIN: &str = "PRIVATE KEY";

/// Why a key cannot be signed with. Holds nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cosign key {file}: {why}")]
pub struct CosignKeyError {
    /// The file.
    pub file: String,
    /// In lower case, with the way out.
    pub why: String,
}

/// A key that signs.
#[derive(Debug)]
pub struct CosignKey {
    pair: Pair,
    /// Its public half.
    pub public: PublicKeys,
    spki: Vec<u8>,
}

#[derive(Debug)]
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

#[derive(Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Parameters,
    salt: String,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl CosignKey {
    /// Reads a key from its file, which must be its owner's alone. `password` is asked for when the key is encrypted.
    pub fn read(
        file: &SecretFile,
        password: impl FnOnce() -> Result<Protected, String>,
    ) -> Result<Self, CosignKeyError> {
        let failed = |why: String| CosignKeyError { file: file.path.display().to_string(), why };
        let (label, body) = block(&file.content).map_err(|why| failed(why.to_owned()))?;
        if label.contains("PUBLIC") {
            return Err(failed("a public key; the private one signs, cosign.key".to_owned()));
        }
        file.check().map_err(failed)?;
        let pkcs8 = if ENCRYPTED.contains(&label.as_str()) {
            let password = password().map_err(failed)?;
            unseal(&body, &password).map_err(|why| failed(why.to_owned()))?
        } else if label == PLAIN {
            body
        } else {
            return Err(failed(format!("{label} is not read; bring it into cosign's form: cosign import-key-pair")));
        };
        Self::from_pkcs8(&pkcs8).map_err(|why| failed(why.to_owned()))
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, &'static str> {
        const UNSUPPORTED: &str =
            "not a key that can be signed with: ECDSA (P-256, P-384, P-521) or RSA from 2048 bits";
        let curves =
            [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
        let on_curve = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_pkcs8(curve, pkcs8).ok());
        let pair = match on_curve {
            Some(pair) => Pair::Ecdsa(pair),
            None => Pair::Rsa(rsa::KeyPair::from_pkcs8(pkcs8).map_err(|_| UNSUPPORTED)?),
        };
        let der: PublicKeyX509Der<'_> = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(|_| UNSUPPORTED)?;
        let spki = der.as_ref().to_vec();
        Ok(Self { public: PublicKeys::from_spki(&spki)?, pair, spki })
    }

    /// What bundles hint at the key with.
    pub(super) fn hint(&self) -> String {
        BASE64_STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.spki))
    }

    /// SHA-256 of the public key, lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.public.fingerprints().pop().unwrap_or_default()
    }

    /// A signature in base64.
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, &'static str> {
        const FAILED: &str = "the message could not be signed";
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).map_err(|_| FAILED)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| FAILED)?;
                signature
            }
        };
        Ok(BASE64_STANDARD.encode(signature))
    }
}

/// The first PEM block: its label, and what is in it.
fn block(content: &[u8]) -> Result<(String, Protected), &'static str> {
    const NO_PEM: &str = "no private key in PEM form in it";
    if content.len() > MAX_KEY_FILE {
        return Err("larger than 64 KiB");
    }
    let text = std::str::from_utf8(content).map_err(|_| NO_PEM)?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(NO_PEM)?;
    let (label, rest) = rest.split_once("-----").ok_or(NO_PEM)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(NO_PEM)?;
    let packed = Protected::from(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>());
    let body = BASE64_STANDARD.decode(&packed).map_err(|_| NO_PEM)?;
    Ok((label.to_owned(), body.into()))
}

/// Opens what go-tuf's `encrypted` package sealed.
fn unseal(body: &[u8], password: &Protected) -> Result<Protected, &'static str> {
    const MALFORMED: &str = "it is not encrypted as cosign does it";
    let sealed: Sealed = serde_json::from_slice(body).map_err(|_| MALFORMED)?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(MALFORMED);
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| MALFORMED);
    let (salt, nonce, ciphertext) =
        (decode(&sealed.kdf.salt)?, decode(&sealed.cipher.nonce)?, decode(&sealed.ciphertext)?);
    let Parameters { n, r, p } = sealed.kdf.params;
    let memory = n.checked_mul(u64::from(r)).and_then(|blocks| blocks.checked_mul(128));
    if !n.is_power_of_two() || memory.is_none_or(|memory| memory > MAX_MEMORY) || p > MAX_PARALLEL {
        return Err("its password is stretched in a way that costs too much; encrypt it again with cosign");
    }
    let log = u8::try_from(n.trailing_zeros()).map_err(|_| MALFORMED)?;
    let parameters = scrypt::Params::new(log, r, p).map_err(|_| MALFORMED)?;
    let mut key = Protected::from(vec![0; 32]);
    scrypt::scrypt(password, &salt, &parameters, &mut key).map_err(|_| MALFORMED)?;
    if nonce.len() != 24 {
        return Err(MALFORMED);
    }
    let secretbox = XSalsa20Poly1305::new(Key::from_slice(&key));
    let opened = secretbox.decrypt(Nonce::from_slice(&nonce), ciphertext.as_slice());
    opened.map(Protected::from).map_err(|_| "the password does not open it")
}
