//! Public keys as metadata holds them, their ids, and the five signature methods.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::alg_id;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::canonical;
use super::certificate::Bundle;
use crate::domain::digest::hex;
use crate::signature::SignatureError;
use crate::signature::cosign::key::{check_rsa, split_spki};
use crate::signature::json::{Json, Object, malformed, shown};

/// Characters of a key's `public`, decoded: a bundle of certificates.
const MAX_PUBLIC: usize = 64 << 10;

/// How a signature was made, as its `method` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Ecdsa,
    RsaPss,
    RsaPkcs1,
    Eddsa,
    /// RSA-PSS, too; the name is that of an old library.
    PyCrypto,
}

impl Method {
    /// Methods of other names verify nothing.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "ecdsa" => Self::Ecdsa,
            "rsapss" => Self::RsaPss,
            "rsapkcs1v15" => Self::RsaPkcs1,
            "eddsa" => Self::Eddsa,
            "pycrypto-pkcs#1 pss" => Self::PyCrypto,
            _ => return None,
        })
    }
}

/// The kinds of key with what verifying takes.
#[derive(Debug, Clone)]
enum Material {
    /// A point, and the bytes of one coordinate.
    Ecdsa(&'static dyn VerificationAlgorithm, usize, Vec<u8>),
    Rsa(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key that metadata names for a role.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// SHA-256 of the key object in canonical form.
    pub(super) id: String,
    /// The id that the same key has without its certificate; tells whether two keys are one.
    pub(super) plain_id: String,
    /// Its certificates, when it comes in some.
    pub(super) bundle: Option<Bundle>,
    material: Material,
}

impl Key {
    /// Reads the object that stands in metadata under `id`, which must be its id.
    pub(super) fn read(id: &str, value: &Json) -> Result<Self, SignatureError> {
        let name = format!("the key {}", shown(id));
        let object = value.object(&name)?;
        let kind = object.text("keytype")?;
        let values = object.object("keyval")?;
        if values.get("private").is_some() {
            return Err(malformed(format!("{name} holds a private key")));
        }
        let public = values.text("public")?;
        if id_of(kind, public)? != id {
            return Err(malformed(format!("{name} has another id than it stands under")));
        }
        let bytes = BASE64_STANDARD.decode(public).map_err(|_| malformed(format!("{name} is not base64")))?;
        if bytes.len() > MAX_PUBLIC {
            return Err(malformed(format!("{name} has more than {MAX_PUBLIC} bytes")));
        }
        let unusable = |why: &str| SignatureError::Key(format!("{name} cannot be used: {why}"));
        Self::of(id, kind, public, &bytes).map_err(|why| unusable(&why))
    }

    fn of(id: &str, kind: &str, public: &str, bytes: &[u8]) -> Result<Self, String> {
        let plain = |material| Self { id: id.to_owned(), plain_id: id.to_owned(), bundle: None, material };
        match kind {
            "ed25519" => Ok(plain(ed25519(bytes)?)),
            "ecdsa" => Ok(plain(ecdsa(bytes)?)),
            // With PEM inside it is the form that `pycrypto-pkcs#1 pss` is for.
            "rsa" => Ok(plain(match pem_spki(bytes) {
                Some(spki) => rsa(&spki)?,
                None => rsa(bytes)?,
            })),
            "ecdsa-x509" | "rsa-x509" => {
                let bundle = Bundle::read(bytes)?;
                let spki = bundle.first_key();
                let (plain_kind, material) =
                    if kind == "ecdsa-x509" { ("ecdsa", ecdsa(spki)?) } else { ("rsa", rsa(spki)?) };
                let plain_id = id_of(plain_kind, &BASE64_STANDARD.encode(spki)).map_err(|error| error.to_string())?;
                Ok(Self { id: id.to_owned(), plain_id, bundle: Some(bundle), material })
            }
            _ => Err(format!("its type {} is not known ({} bytes)", shown(kind), public.len())),
        }
    }

    /// Whether `signature` is this key's over `message` by this method. A key takes the methods of its own kind only.
    pub(super) fn verifies(&self, method: Method, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, method) {
            (Material::Ecdsa(algorithm, coordinate, point), Method::Ecdsa) => {
                let check =
                    |signature: &[u8]| UnparsedPublicKey::new(*algorithm, point).verify(message, signature).is_ok();
                // The two numbers one after the other, as Notary writes them, or in ASN.1.
                asn1(signature, *coordinate).is_some_and(|signature| check(&signature)) || check(signature)
            }
            (Material::Rsa(key), Method::RsaPss) => rsa_verifies(&RSA_PSS_2048_8192_SHA256, key, message, signature),
            (Material::Rsa(key), Method::RsaPkcs1) => {
                rsa_verifies(&RSA_PKCS1_2048_8192_SHA256, key, message, signature)
            }
            (Material::Rsa(key), Method::PyCrypto) if self.bundle.is_none() => {
                rsa_verifies(&RSA_PSS_2048_8192_SHA256, key, message, signature)
            }
            (Material::Ed25519(key), Method::Eddsa) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn rsa_verifies(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

/// SHA-256 over `{"keytype":…,"keyval":{"private":null,"public":…}}`.
pub(super) fn id_of(kind: &str, public: &str) -> Result<String, SignatureError> {
    let text = |text: &str| Json::Text(text.to_owned());
    let values = [("private".to_owned(), Json::Null), ("public".to_owned(), text(public))];
    let object = [("keytype".to_owned(), text(kind)), ("keyval".to_owned(), Json::Object(values.into()))];
    let canonical = canonical::write(&Json::Object(object.into()))?;
    Ok(hex(digest(&SHA256, &canonical).as_ref()))
}

/// The keys of an object `keys` that these ids name. Ids without a key are left out: they sign nothing.
pub(super) fn named(keys: Object<'_>, ids: &[String]) -> Result<Vec<Key>, SignatureError> {
    let found = ids.iter().filter_map(|id| keys.get(id).map(|value| Key::read(id, value)));
    // One key of an unknown kind must not make the others useless.
    found.filter(|key| !matches!(key, Err(SignatureError::Key(_)))).collect()
}

fn ecdsa(spki: &[u8]) -> Result<Material, String> {
    let (algorithm, point) = split_spki(spki).ok_or("it is not a public key in DER form")?;
    if point.first() != Some(&4) {
        return Err("its point is not in uncompressed form".to_owned());
    }
    let (scheme, coordinate): (&'static dyn VerificationAlgorithm, usize) = if algorithm == alg_id::ECDSA_P256.as_ref()
    {
        (&ECDSA_P256_SHA256_ASN1, 32)
    } else if algorithm == alg_id::ECDSA_P384.as_ref() {
        (&ECDSA_P384_SHA256_ASN1, 48)
    } else if algorithm == alg_id::ECDSA_P521.as_ref() {
        (&ECDSA_P521_SHA256_ASN1, 66)
    } else {
        return Err("it is not an ECDSA key on P-256, P-384 or P-521".to_owned());
    };
    Ok(Material::Ecdsa(scheme, coordinate, point.to_vec()))
}

fn rsa(spki: &[u8]) -> Result<Material, String> {
    match split_spki(spki) {
        Some((algorithm, key)) if algorithm == alg_id::RSA_ENCRYPTION.as_ref() => {
            check_rsa(key)?;
            Ok(Material::Rsa(key.to_vec()))
        }
        _ => Err("it is not an RSA key".to_owned()),
    }
}

fn ed25519(key: &[u8]) -> Result<Material, String> {
    let point = ed25519_dalek::VerifyingKey::try_from(key).map_err(|_| "it is not an Ed25519 key")?;
    // Under a point of small order one signature fits many messages.
    if point.is_weak() { Err("it is of small order".to_owned()) } else { Ok(Material::Ed25519(key.to_vec())) }
}

/// The content of one PEM block `PUBLIC KEY`.
fn pem_spki(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"-----BEGIN") {
        return None;
    }
    match <(SectionKind, Vec<u8>)>::from_pem_slice(bytes) {
        Ok((SectionKind::PublicKey, der)) => Some(der),
        _ => None,
    }
}

/// `SEQUENCE { INTEGER r, INTEGER s }` of two numbers of `coordinate` bytes each; `None` for another length.
fn asn1(signature: &[u8], coordinate: usize) -> Option<Vec<u8>> {
    if signature.len() != coordinate * 2 {
        return None;
    }
    let (r, s) = signature.split_at(coordinate);
    let numbers = [integer(r), integer(s)].concat();
    // Two numbers of at most 66 bytes: the length has one byte, or two.
    let length = u8::try_from(numbers.len()).ok()?;
    let head: &[u8] = if length < 0x80 { &[0x30, length] } else { &[0x30, 0x81, length] };
    Some([head, &numbers].concat())
}

/// An unsigned number of at most 66 bytes as a DER INTEGER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(first..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).unwrap_or(0);
    [&[0x02, length], sign, digits].concat()
}
