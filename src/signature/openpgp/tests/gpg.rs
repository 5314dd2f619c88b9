//! The same matrix with keys and signatures of the real gpg, also where the library cannot make them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::super::SignatureError;
use super::super::Keyring;
use super::support::{CONTENT, good, malformed, not_valid, now};

const MADE: &str = "20240101T000000";
const SIGNED: &str = "20240530T000000";

struct Gpg {
    home: TempDir,
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}

impl Gpg {
    /// None, and a line that says so, where there is no gpg.
    fn new() -> Option<Self> {
        let found = Command::new("gpg").arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: no gpg here");
            return None;
        }
        let home = tempfile::Builder::new().prefix("gpg").tempdir().unwrap();
        #[cfg(unix)]
        fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        fs::write(home.path().join("content"), CONTENT).unwrap();
        Some(Self { home })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, at: &str, args: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path()).args(["--batch", "--yes", "--quiet", "--no-tty"]);
        command.args(["--faked-system-time", at, "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, at: &str, args: &[&str]) -> Vec<u8> {
        let output = self.command(at, args).output().unwrap();
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn key(&self, algorithm: &str, expiry: &str) -> String {
        self.run(MADE, &["--quick-gen-key", "gpg <gpg@example.org>", algorithm, "sign", expiry]);
        let list = String::from_utf8(self.run(MADE, &["--with-colons", "--list-keys"])).unwrap();
        let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn sign(&self, args: &[&str]) -> Vec<u8> {
        let content = self.path("content");
        let last = ["--output", "-", "--sign", content.to_str().unwrap()];
        self.run(SIGNED, &[args, &last[..]].concat())
    }

    fn ring(&self) -> Keyring {
        let (ring, problems) = Keyring::from_files([("gpg.pgp", self.run(MADE, &["--export"]).as_slice())]);
        assert_eq!(problems, Vec::<String>::new());
        ring
    }
}

fn key_says(ring: &Keyring, blob: &[u8], why: &str) {
    match ring.verify(blob, now()) {
        Err(SignatureError::Key(reason)) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?} instead of {why}"),
    }
}

#[test]
fn rsa2048_in_every_compression_is_accepted_and_armor_and_cleartext_refused() {
    let Some(gpg) = Gpg::new() else { return };
    let fingerprint = gpg.key("rsa2048", "never");
    let ring = gpg.ring();
    for compression in ["zip", "zlib", "bzip2", "uncompressed"] {
        let verified = good(&ring, &gpg.sign(&["--compress-algo", compression]));
        assert_eq!(verified.signer.fingerprint, fingerprint);
        assert_eq!(verified.signer.emails, ["gpg@example.org"]);
    }
    good(&ring, &gpg.sign(&["--textmode"]));
    malformed(&ring, &gpg.sign(&["--armor"]), "armored");
    let content = gpg.path("content");
    let args = ["--output", "-", "--clearsign", content.to_str().unwrap()];
    malformed(&ring, &gpg.run(SIGNED, &args), "armored or cleartext");
    let args = ["--output", "-", "--detach-sign", content.to_str().unwrap()];
    malformed(&ring, &gpg.run(SIGNED, &args), "not a signed OpenPGP message");
    not_valid(&ring, &gpg.sign(&["--digest-algo", "SHA1"]), "digest algorithm SHA1 is too weak");
    not_valid(&ring, &gpg.sign(&["--default-sig-expire", "10d"]), "expired on");
    // Exported with trust packets, as a file of keyring format.
    let file = gpg.run(MADE, &["--export-options", "backup", "--export"]);
    let (with_trust, problems) = Keyring::from_files([("pubring.gpg", file.as_slice())]);
    assert_eq!(problems, Vec::<String>::new());
    good(&with_trust, &gpg.sign(&[]));
}

#[test]
fn ed25519_and_nistp256_are_accepted() {
    for algorithm in ["ed25519", "nistp256"] {
        let Some(gpg) = Gpg::new() else { return };
        gpg.key(algorithm, "never");
        good(&gpg.ring(), &gpg.sign(&[]));
    }
}

#[test]
fn unsupported_curve_is_named_instead_of_calling_the_signature_bad() {
    for curve in ["brainpoolP256r1", "secp256k1"] {
        let Some(gpg) = Gpg::new() else { return };
        gpg.key(curve, "never");
        let ring = gpg.ring();
        key_says(&ring, &gpg.sign(&[]), "is not supported");
        let unusable = ring.keys(now())[0].unusable.clone().unwrap();
        assert!(unusable.contains("is not supported"), "{unusable}");
        assert!(curve != "brainpoolP256r1" || unusable.contains(curve), "{unusable}");
    }
    let Some(supported) = Gpg::new() else { return };
    supported.key("nistp521", "never");
    assert_eq!(supported.ring().keys(now())[0].unusable, None);
    good(&supported.ring(), &supported.sign(&[]));
}

#[test]
fn e27_dsa2048_is_accepted_and_dsa1024_refused() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("dsa2048", "never");
    good(&gpg.ring(), &gpg.sign(&[]));
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("dsa1024", "never");
    not_valid(&gpg.ring(), &gpg.sign(&[]), "SHA1 is too weak");
    let unusable = gpg.ring().keys(now())[0].unusable.clone().unwrap();
    assert!(unusable.contains("is too weak"), "{unusable}");
}

#[test]
fn e27_rsa1024_is_refused() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("rsa1024", "never");
    key_says(&gpg.ring(), &gpg.sign(&[]), "RSA1024 is too weak");
}

#[test]
fn e22_expired_key_is_refused_until_its_expiry_is_extended() {
    let Some(gpg) = Gpg::new() else { return };
    let fingerprint = gpg.key("ed25519", "2024-08-01");
    let blob = gpg.sign(&[]);
    key_says(&gpg.ring(), &blob, "expired on");
    // gpg replaces the self-signature: there is none any more from before the signing.
    gpg.run("20250301T000000", &["--quick-set-expire", &fingerprint, "2026-01-01"]);
    assert!(good(&gpg.ring(), &blob).valid_until.is_some());
}

#[test]
fn e23_revoked_key_is_refused_hard_or_soft() {
    for (code, reason) in [("1", "compromised"), ("2", "superseded"), ("3", "retired")] {
        let Some(gpg) = Gpg::new() else { return };
        let fingerprint = gpg.key("ed25519", "never");
        let blob = gpg.sign(&[]);
        good(&gpg.ring(), &blob);
        let answers = gpg.path("answers");
        fs::write(&answers, format!("y\n{code}\n\ny\n")).unwrap();
        let out = gpg.path("revocation");
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(gpg.home.path()).args(["--quiet", "--no-tty", "--yes", "--command-fd", "0"]);
        command.args(["--faked-system-time", "20240901T000000", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.arg("--output").arg(&out).args(["--gen-revoke", &fingerprint]);
        command.stdin(fs::File::open(&answers).unwrap()).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
        gpg.run("20240902T000000", &["--import", out.to_str().unwrap()]);
        key_says(&gpg.ring(), &blob, "is revoked");
        println!("{reason}: refused");
    }
}

#[test]
fn e29_two_signers_are_refused() {
    let Some(gpg) = Gpg::new() else { return };
    let first = gpg.key("ed25519", "never");
    gpg.run(MADE, &["--quick-gen-key", "two <two@example.org>", "ed25519", "sign", "never"]);
    let blob = gpg.sign(&["-u", &first, "-u", "two@example.org"]);
    malformed(&gpg.ring(), &blob, "more than one");
    good(&gpg.ring(), &gpg.sign(&["-u", "two@example.org"]));
}

#[test]
fn signing_subkey_is_accepted_and_reported_by_its_primary_key() {
    let Some(gpg) = Gpg::new() else { return };
    let fingerprint = gpg.key("ed25519", "never");
    gpg.run(MADE, &["--quick-add-key", &fingerprint, "ed25519", "sign", "never"]);
    // gpg prefers the newest signing subkey.
    let verified = good(&gpg.ring(), &gpg.sign(&[]));
    assert_eq!(verified.signer.fingerprint, fingerprint);
}
