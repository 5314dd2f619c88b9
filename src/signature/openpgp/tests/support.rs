//! A workshop for keys, signatures and messages, valid and not.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::crypto::hash::Hash;
use sequoia_openpgp::crypto::{KeyPair, Signer, mpi};
use sequoia_openpgp::packet::key::UnspecifiedRole;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::{Key, Literal, OnePassSig, Signature, key};
use sequoia_openpgp::serialize::stream::{Compressor, Message};
use sequoia_openpgp::serialize::{Serialize, SerializeInto};
use sequoia_openpgp::types::{CompressionAlgorithm, DataFormat, HashAlgorithm, KeyFlags, SignatureType};
use sequoia_openpgp::{Cert, Fingerprint, Packet};

use super::super::super::SignatureError;
use super::super::{Keyring, SignedContent};

pub const CONTENT: &[u8] = br#"{"critical":{"type":"atomic container signature"},"optional":{}}"#;
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 2024-01-01: keys are made.
pub fn made() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200)
}

/// 2024-05-30: signatures are made.
pub fn signed() -> SystemTime {
    made() + DAY * 150
}

/// 2025-05-15: they are verified.
pub fn now() -> SystemTime {
    made() + DAY * 500
}

pub fn builder(name: &str) -> CertBuilder<'_> {
    CertBuilder::new()
        .set_creation_time(made())
        .set_cipher_suite(CipherSuite::Cv25519)
        .add_userid(format!("{name} <{name}@example.org>"))
}

/// A certificate whose primary key signs, like those gpg makes.
pub fn signer(name: &str) -> Cert {
    builder(name).set_primary_key_flags(KeyFlags::empty().set_certification().set_signing()).generate().unwrap().0
}

/// A certificate whose primary key certifies only, and whose subkey signs.
pub fn subkey_signer(name: &str) -> Cert {
    builder(name)
        .set_primary_key_flags(KeyFlags::empty().set_certification())
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

pub fn pair(key: &Key<key::SecretParts, UnspecifiedRole>) -> KeyPair {
    key.clone().into_keypair().unwrap()
}

pub fn primary(cert: &Cert) -> KeyPair {
    pair(cert.primary_key().key().clone().parts_into_secret().unwrap().role_as_unspecified())
}

pub fn subkey(cert: &Cert) -> KeyPair {
    let subkey = cert.keys().subkeys().secret().next().unwrap();
    pair(subkey.key().role_as_unspecified())
}

pub fn public(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().to_vec().unwrap()
}

pub fn ring(certs: &[&Cert]) -> Keyring {
    let files: Vec<(String, Vec<u8>)> =
        certs.iter().enumerate().map(|(n, cert)| (format!("k{n}.pgp"), public(cert))).collect();
    let (ring, problems) = Keyring::from_files(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    assert_eq!(problems, Vec::<String>::new());
    ring
}

pub fn template() -> SignatureBuilder {
    SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(HashAlgorithm::SHA256)
        .set_signature_creation_time(signed())
        .unwrap()
}

pub fn sign(pair: &mut KeyPair) -> Signature {
    template().sign_message(pair, CONTENT).unwrap()
}

/// Signs a packet whose form `form` decides, from a digest prefix and the signature proper.
pub fn sign_raw(pair: &mut KeyPair, content: &[u8], form: impl Fn([u8; 2], mpi::Signature) -> Signature) -> Signature {
    let draft = form([0, 0], mpi::Signature::EdDSA { r: vec![0].into(), s: vec![0].into() });
    let mut digest = draft.hash_algo().context().unwrap().for_signature(draft.version());
    digest.update(content);
    draft.hash(&mut digest).unwrap();
    let digest = digest.into_digest().unwrap();
    let signature = pair.sign(draft.hash_algo(), &digest).unwrap();
    form([digest[0], digest[1]], signature)
}

pub fn literal(content: &[u8]) -> Packet {
    let mut literal = Literal::new(DataFormat::Binary);
    literal.set_body(content.to_vec());
    literal.into()
}

pub fn one_pass(sig: &Signature) -> Packet {
    Packet::OnePassSig(OnePassSig::try_from(sig).unwrap())
}

pub fn bytes(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        packet.serialize(&mut bytes).unwrap();
    }
    bytes
}

/// `[OnePass][Literal][Signature]`, the form gpg makes.
pub fn blob(sig: &Signature) -> Vec<u8> {
    bytes(&[one_pass(sig), literal(CONTENT), sig.clone().into()])
}

pub fn compress(algorithm: CompressionAlgorithm, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = Compressor::new(Message::new(&mut out)).algo(algorithm).build().unwrap();
    std::io::Write::write_all(&mut message, inner).unwrap();
    message.finalize().unwrap();
    out
}

pub fn good(ring: &Keyring, blob: &[u8]) -> SignedContent {
    let verified = ring.verify(blob, now()).unwrap();
    assert_eq!(verified.content, CONTENT);
    verified
}

pub fn refused(ring: &Keyring, blob: &[u8]) -> SignatureError {
    ring.verify(blob, now()).unwrap_err()
}

/// Refused for what the key is; the reason names the certificate's key and says `why`.
pub fn key_refused(ring: &Keyring, blob: &[u8], key: &Fingerprint, why: &str) {
    match refused(ring, blob) {
        SignatureError::Key(reason) => {
            assert!(reason.contains(&key.to_hex()) && reason.contains(why), "{reason:?} should say {why:?}");
        }
        other => panic!("{other:?} instead of a key that is {why}"),
    }
}

pub fn not_valid(ring: &Keyring, blob: &[u8], why: &str) {
    match refused(ring, blob) {
        SignatureError::NotValid(reason) => assert!(reason.contains(why), "{reason:?} should say {why:?}"),
        other => panic!("{other:?} instead of a signature that is {why}"),
    }
}

pub fn malformed(ring: &Keyring, blob: &[u8], why: &str) {
    match refused(ring, blob) {
        SignatureError::Malformed(reason) => assert!(reason.contains(why), "{reason:?} should say {why:?}"),
        other => panic!("{other:?} instead of {why}"),
    }
}
