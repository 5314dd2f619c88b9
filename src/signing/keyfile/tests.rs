use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::types::KeyFlags;

use super::*;
use crate::signature::openpgp::Keyring;

const CONTENT: &[u8] = b"the payload";

fn key(suite: CipherSuite, password: Option<&str>) -> Cert {
    let flags = KeyFlags::empty().set_certification().set_signing();
    let builder = CertBuilder::new().set_cipher_suite(suite).add_userid("M <m@r.local>");
    let builder = builder.set_primary_key_flags(flags).set_password(password.map(Into::into));
    builder.generate().expect("a key").0
}

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.pgp");
    std::fs::write(&path, content).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    (folder, path)
}

fn secret(text: &str) -> Passphrase {
    Passphrase::Prompted(Secret::new(text.into()).expect("a passphrase"))
}

fn open(content: &[u8], passphrase: &Passphrase) -> Result<KeyFile, KeyFileError> {
    let (_folder, path) = file(content);
    let mut ask = |_: &str| Err(GnupgError::Passphrase("no terminal".to_owned()));
    KeyFile::open(&path, passphrase, Path::new("gpg"), SystemTime::now(), &mut ask)
}

#[track_caller]
fn assert_signs(key: &KeyFile) {
    let blob = key.sign(CONTENT).expect("a signature");
    let (keyring, problems) = Keyring::from_files([("k", key.public_key())]);
    assert_eq!(problems, Vec::<String>::new(), "the public part only");
    let signed = keyring.verify(&blob, SystemTime::now()).expect("a good signature");
    assert_eq!((signed.content.as_slice(), signed.signer.fingerprint.as_str()), (CONTENT, key.fingerprint()));
}

#[test]
fn keys_on_curves_sign_here() {
    for suite in [CipherSuite::Cv25519, CipherSuite::P256, CipherSuite::P384, CipherSuite::P521] {
        let cert = key(suite, None);
        for bytes in [cert.as_tsk().to_vec(), cert.as_tsk().armored().to_vec()] {
            let key = open(&bytes.expect("bytes"), &Passphrase::Agent).expect("a key");
            assert!(matches!(key.how, How::InProcess(_)));
            assert_signs(&key);
        }
    }
}

#[test]
fn a_passphrase_unlocks_and_a_wrong_one_does_not() {
    let bytes = key(CipherSuite::Cv25519, Some("open")).as_tsk().to_vec().expect("bytes");
    assert_signs(&open(&bytes, &secret("open")).expect("a key"));
    for (passphrase, said) in [(secret("shut"), "does not open it"), (Passphrase::Agent, "no terminal")] {
        let error = open(&bytes, &passphrase).expect_err("an error").to_string();
        assert!(error.contains(said) && !error.contains("shut"), "{error}");
    }
}

#[test]
fn what_is_no_usable_secret_key_is_refused() {
    let cert = key(CipherSuite::Cv25519, None);
    let public = cert.clone().strip_secret_key_material().to_vec().expect("bytes");
    let two = [cert.as_tsk().to_vec().expect("bytes"), key(CipherSuite::P256, None).as_tsk().to_vec().expect("bytes")];
    let flags = KeyFlags::empty().set_certification();
    let certifier = CertBuilder::new().set_cipher_suite(CipherSuite::Cv25519).add_userid("M <m@r.local>");
    let certifier = certifier.set_primary_key_flags(flags).generate().expect("a key").0;
    let expired = CertBuilder::new()
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(SystemTime::now() - Duration::from_secs(1000))
        .set_validity_period(Duration::from_secs(10))
        .add_signing_subkey()
        .generate();
    let expired = expired.expect("a key").0;
    for (bytes, said) in [
        (public, "holds a public key only"),
        (two.concat(), "several keys"),
        (certifier.as_tsk().to_vec().expect("bytes"), "none of its keys may sign now"),
        (expired.as_tsk().to_vec().expect("bytes"), "may not sign now"),
        (b"hello".to_vec(), "not an OpenPGP key"),
        (Vec::new(), "not an OpenPGP key"),
    ] {
        let error = open(&bytes, &Passphrase::Agent).expect_err(said).to_string();
        assert!(error.contains(said) && error.contains("key.pgp"), "{error}");
    }
    let ask = &mut |_: &str| Err(GnupgError::Passphrase("no terminal".to_owned()));
    let nothing = KeyFile::open(Path::new("/dev/null"), &Passphrase::Agent, Path::new("gpg"), SystemTime::now(), ask);
    assert!(nothing.expect_err("an error").to_string().contains("not a regular file"));
}

#[test]
fn rsa_is_never_signed_with_here() {
    let bytes = key(CipherSuite::RSA2k, None).as_tsk().to_vec().expect("bytes");
    match open(&bytes, &Passphrase::Agent) {
        Ok(key) => {
            let How::ByGpg { _home: home, .. } = &key.how else { panic!("signed in process") };
            let folder = home.path().to_owned();
            assert_signs(&key);
            drop(key);
            assert!(!folder.exists(), "the temporary home is removed");
        }
        // A machine without gpg.
        Err(error) => assert!(error.to_string().contains("install GnuPG"), "{error}"),
    }
    let bytes = key(CipherSuite::RSA2k, Some("open")).as_tsk().to_vec().expect("bytes");
    match open(&bytes, &secret("open")) {
        Ok(key) => assert_signs(&key),
        Err(error) => assert!(error.to_string().contains("install GnuPG"), "{error}"),
    }
    match open(&bytes, &secret("shut")) {
        Ok(key) => drop(key.sign(CONTENT).expect_err("an error")),
        Err(error) => assert!(error.to_string().contains("install GnuPG"), "{error}"),
    }
}
