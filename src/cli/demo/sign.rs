//! The signing side of the demo: keys made now, kept in memory and forgotten at the end, and signatures in the three
//! forms that podseal verifies without further services. Real images are signed by skopeo, podman, gpg and cosign.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use sequoia_openpgp::types::KeyFlags;
use serde_json::{Value, json};

use super::failed;
use crate::domain::digest::Digest;
use crate::signing::payload;

/// The form of bundles, which is also the artifact type of the manifests that hold them.
pub(super) const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What a signature in bundle form states: "this image is signed", and not some other attestation.
pub(super) const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// An image maker with a key pair (Ed25519) as gpg makes it.
pub(super) struct ImageMaker(Cert);

impl ImageMaker {
    /// Makes the key; `user_id` such as `Image maker <imagemaker@registry.local>`.
    pub(super) fn new(user_id: &str) -> Result<Self, String> {
        let flags = KeyFlags::empty().set_certification().set_signing();
        let builder = CertBuilder::new().set_cipher_suite(CipherSuite::Cv25519).add_userid(user_id);
        let (cert, _revocation) =
            builder.set_primary_key_flags(flags).generate().map_err(failed("make an OpenPGP key"))?;
        Ok(Self(cert))
    }

    /// The public key, ASCII-armored.
    pub(super) fn public_key(&self) -> Result<String, String> {
        let bytes = self.0.armored().to_vec().map_err(failed("write an OpenPGP key"))?;
        String::from_utf8(bytes).map_err(failed("write an OpenPGP key"))
    }

    /// A simple signature, after containers-signature(5): this digest was published under this reference.
    pub(super) fn sign(&self, reference: &str, digest: &Digest) -> Result<Vec<u8>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let payload = payload::write(reference, digest, "podseal demo", now).map_err(failed("write a payload"))?;
        self.message(&payload).map_err(failed("sign with an OpenPGP key"))
    }

    /// One signature around one literal, as `gpg --sign` makes it.
    fn message(&self, content: &[u8]) -> sequoia_openpgp::Result<Vec<u8>> {
        let key = self.0.primary_key().key().clone().parts_into_secret()?.into_keypair()?;
        let mut blob = Vec::new();
        let message = Signer::new(Message::new(&mut blob), key)?.build()?;
        let mut literal = LiteralWriter::new(message).build()?;
        literal.write_all(content)?;
        literal.finalize()?;
        Ok(blob)
    }
}

/// A cosign key pair (ECDSA P-256), as `cosign generate-key-pair` makes it.
pub(super) struct CosignKey(EcdsaKeyPair);

impl CosignKey {
    /// Makes the key pair.
    pub(super) fn new() -> Result<Self, String> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        pair.map(Self).map_err(failed("make a cosign key"))
    }

    /// `cosign.pub`.
    pub(super) fn public_key(&self) -> Result<String, String> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(failed("write a cosign key"))?;
        let text = BASE64_STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for (i, character) in text.chars().enumerate() {
            if i > 0 && i % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PUBLIC KEY-----\n");
        Ok(pem)
    }

    /// A bundle around a signed statement about this digest.
    pub(super) fn bundle(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digest.hex()}}],
            "predicateType": SIGNATURE_PREDICATE,
            "predicate": {},
        })
        .to_string();
        // DSSE v1, "PAE": what is signed is the type and the content, each with its length.
        let signed = format!("DSSEv1 {} {STATEMENT_TYPE} {} {statement}", STATEMENT_TYPE.len(), statement.len());
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(failed("write a cosign key"))?;
        let bundle: Value = json!({
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": BASE64_STANDARD.encode(aws_lc_rs::digest::digest(
                    &aws_lc_rs::digest::SHA256, der.as_ref()))},
            },
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(&statement),
                "payloadType": STATEMENT_TYPE,
                "signatures": [{"sig": self.sign(signed.as_bytes())?}],
            },
        });
        Ok(bundle.to_string().into_bytes())
    }

    /// The older form: a payload, and the signature over it in base64.
    pub(super) fn legacy(&self, repository: &str, digest: &Digest) -> Result<(Vec<u8>, String), String> {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest.as_str()},
                "type": "cosign container image signature",
            },
            "optional": {},
        });
        let payload = payload.to_string().into_bytes();
        let signature = self.sign(&payload)?;
        Ok((payload, signature))
    }

    fn sign(&self, message: &[u8]) -> Result<String, String> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(failed("sign with a cosign key"))?;
        Ok(BASE64_STANDARD.encode(signature.as_ref()))
    }
}
