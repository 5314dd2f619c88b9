//! Keys and signatures are made here, at test time; nothing expires.

mod bundle;
mod keys;
mod legacy;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_lc_rs::encoding::{AsBigEndian, AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
};
use aws_lc_rs::{rsa, signature};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Digest as _;
use serde_json::{Value, json};

use super::PublicKeys;
use crate::domain::digest::Digest;

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A private key with its public half.
pub(super) struct Signer {
    name: String,
    spki: Vec<u8>,
    sign: Sign,
}

impl Signer {
    fn new(name: &str, spki: impl AsRef<[u8]>, sign: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Self {
        Self { name: name.to_owned(), spki: spki.as_ref().to_vec(), sign: Box::new(sign) }
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    fn keys(&self) -> PublicKeys {
        let (keys, problems) = PublicKeys::from_pem(self.pem().as_bytes());
        assert_eq!(problems, [""; 0], "{}", self.name);
        keys
    }

    fn fingerprint(&self) -> String {
        Digest::sha256(&self.spki).hex().to_owned()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    fn sign_base64(&self, message: &[u8]) -> String {
        STANDARD.encode(self.sign(message))
    }

    /// A bundle as `cosign sign --key` writes it, around this statement.
    fn bundle(&self, statement: &Value) -> Value {
        self.bundle_of(statement.to_string().as_bytes())
    }

    fn bundle_of(&self, payload: &[u8]) -> Value {
        let signature = self.sign_base64(&pae("application/vnd.in-toto+json", payload));
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": STANDARD.encode(digest(&self.spki))}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": signature}],
            },
        })
    }
}

fn digest(bytes: &[u8]) -> impl AsRef<[u8]> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
}

/// Written apart from the code under test: DSSE v1, "PAE".
fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = b"DSSEv1".to_vec();
    for part in [kind.as_bytes(), payload] {
        out.extend(format!(" {} ", part.len()).bytes());
        out.extend(part);
    }
    out
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn image() -> Digest {
    Digest::sha256(b"the image")
}

fn payload(image: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": "registry.example/app"},
            "image": {"docker-manifest-digest": image.as_str()},
            "type": "cosign container image signature",
        },
        "optional": {"signer": "alice@example.com"},
    })
}

fn statement(image: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex()}, "annotations": {"signer": "alice@example.com"}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
}

fn ecdsa(name: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Signer {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let spki = spki.as_ref().to_vec();
    Signer::new(name, spki, move |m| pair.sign(&SystemRandom::new(), m).unwrap().as_ref().to_vec())
}

fn p256() -> Signer {
    ecdsa("P-256", &ECDSA_P256_SHA256_ASN1_SIGNING)
}

fn rsa_with(name: &str, size: rsa::KeySize, encoding: &'static dyn RsaEncoding) -> Signer {
    let pair = signature::RsaKeyPair::generate(size).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let spki = spki.as_ref().to_vec();
    Signer::new(name, spki, move |m| {
        let mut out = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), m, &mut out).unwrap();
        out
    })
}

fn ed25519() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let spki = spki.as_ref().to_vec();
    Signer::new("Ed25519", spki, move |m| pair.sign(m).as_ref().to_vec())
}

fn ed25519ph() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let seed = pair.seed().unwrap().as_be_bytes().unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(seed.as_ref().try_into().unwrap());
    Signer::new("Ed25519ph", spki.as_ref(), move |m| {
        key.sign_prehashed(ed25519_dalek::Sha512::new_with_prefix(m), None).unwrap().to_vec()
    })
}

/// A key of the `openssl` program, or nothing where the program is missing. For digests aws-lc-rs does not sign with.
fn openssl(name: &str, genpkey: &[&str], hash: &'static str) -> Option<Signer> {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let made =
        Command::new("openssl").arg("genpkey").args(genpkey).arg("-out").arg(&key).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let spki = run(&["pkey", "-pubout", "-outform", "DER", "-in"], &key, b"");
    Some(Signer::new(name, spki, move |m| run(&["dgst", hash, "-sign"], &dir.path().join("key.pem"), m)))
}

fn run(args: &[&str], key: &Path, input: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(args).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Every kind of key with every digest that is accepted for it.
fn every_kind() -> Vec<Signer> {
    let curve = |curve: &'static str| ["-algorithm".to_owned(), "EC".into(), "-pkeyopt".into(), curve.into()];
    let made_elsewhere = [
        ("P-384 with SHA-256", curve("ec_paramgen_curve:P-384"), "-sha256"),
        ("P-521 with SHA-256", curve("ec_paramgen_curve:P-521"), "-sha256"),
        ("P-256 of openssl", curve("ec_paramgen_curve:P-256"), "-sha256"),
        (
            "RSA with SHA-384",
            ["-algorithm".into(), "RSA".into(), "-pkeyopt".into(), "rsa_keygen_bits:3072".into()],
            "-sha384",
        ),
    ];
    let made_elsewhere = made_elsewhere
        .iter()
        .filter_map(|(name, args, hash)| openssl(name, &args.iter().map(String::as_str).collect::<Vec<_>>(), hash));
    [
        p256(),
        ecdsa("P-384", &ECDSA_P384_SHA384_ASN1_SIGNING),
        ecdsa("P-521", &ECDSA_P521_SHA512_ASN1_SIGNING),
        rsa_with("RSA 2048", rsa::KeySize::Rsa2048, &RSA_PKCS1_SHA256),
        rsa_with("RSA 4096 with SHA-512", rsa::KeySize::Rsa4096, &RSA_PKCS1_SHA512),
        ed25519(),
        ed25519ph(),
    ]
    .into_iter()
    .chain(made_elsewhere)
    .collect()
}
