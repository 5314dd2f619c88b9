//! Keys for the unit tests, made when they are wanted.

use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::serialize::SerializeInto;

pub struct GpgKey {
    pub binary: Vec<u8>,
    pub armored: String,
    pub fingerprint: String,
}

fn cert(user_id: &str, days: Option<u64>) -> sequoia_openpgp::Cert {
    let builder = CertBuilder::new().set_cipher_suite(CipherSuite::Cv25519).add_userid(user_id).add_signing_subkey();
    let made = SystemTime::now() - Duration::from_secs(60);
    let builder = builder.set_creation_time(made).set_validity_period(days.map(|d| Duration::from_secs(d * 86_400)));
    builder.generate().unwrap().0
}

pub fn gpg_key(user_id: &str, days: Option<u64>) -> GpgKey {
    let cert = cert(user_id, days).strip_secret_key_material();
    let armored = String::from_utf8(cert.armored().to_vec().unwrap()).unwrap();
    GpgKey { binary: cert.to_vec().unwrap(), armored, fingerprint: cert.fingerprint().to_hex() }
}

pub fn secret_gpg_key(user_id: &str) -> GpgKey {
    let cert = cert(user_id, None);
    let (binary, armored) = (cert.as_tsk().to_vec().unwrap(), cert.as_tsk().armored().to_vec().unwrap());
    GpgKey { binary, armored: String::from_utf8(armored).unwrap(), fingerprint: cert.fingerprint().to_hex() }
}

pub fn cosign_key() -> String {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}
