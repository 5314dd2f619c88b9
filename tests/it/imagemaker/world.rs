//! A signing host: a directory that web servers could serve, and a GnuPG home that they could not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use podseal::signature::SignatureError;
use podseal::signature::openpgp::{KeyInfo, Keyring, SignedContent};
use serde_json::Value;

use crate::support::podseal::BINARY;
use crate::support::scratch;
use crate::support::signer::{Gpg, GpgKey};
use crate::support::tools::{self, Ran};

/// Flags that leave nothing open; the store of the host itself.
pub const PLAIN: [&str; 8] = [
    "--key-type",
    "ed25519",
    "--expires",
    "2y",
    "--full-name",
    "Image Maker",
    "--no-passphrase",
    "--lookaside=http://localhost:81/sigstore/",
];

/// Flags of a new key at a rotation that leave nothing open.
pub const NEW: [&str; 5] = ["--key-type", "ed25519", "--expires", "1y", "--no-passphrase"];

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A signing host.
pub struct Host {
    /// `--dir`.
    pub dir: PathBuf,
    /// Its home.
    pub gpg: Gpg,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: scratch::folder("host").join("sigstore"), gpg: Gpg::new() }
    }

    /// `podseal imagemaker ARGS` here.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = tools::once(Path::new(BINARY));
        command.arg("imagemaker").args(args).arg("--dir").arg(&self.dir).env("GNUPGHOME", self.gpg.home());
        tools::run(command.envs(env.iter().copied()))
    }

    /// `podseal imagemaker create` with flags that leave nothing open, and more.
    #[must_use]
    pub fn create(&self, args: &[&str]) -> Ran {
        self.run(&[&["create"], args, &PLAIN].concat())
    }

    /// The same with a passphrase, which this file holds.
    #[track_caller]
    pub fn create_locked(&self, name: &str, passphrase: &str) {
        let mut flags = PLAIN.to_vec();
        flags.splice(6..7, ["--passphrase-file", passphrase]);
        self.run(&[&["create", name], &flags[..]].concat()).succeeded();
        self.forget();
    }

    /// The same with the store and over plain HTTP, for registries of the tests.
    #[track_caller]
    pub fn create_for(&self, names: &[&str], store: &str) -> Ran {
        let mut plain = PLAIN.map(str::to_owned);
        plain[7] = format!("--lookaside={store}");
        let plain: Vec<_> = plain.iter().map(String::as_str).collect();
        self.run(&[&["create"], names, &["--insecure"], &plain[..]].concat()).succeeded()
    }

    /// The file of a maker's public keys.
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("keys/{name}.pgp"))
    }

    /// The key that a maker signs with.
    #[track_caller]
    pub fn key(&self, name: &str) -> GpgKey {
        let listed = self.list();
        let maker =
            listed.iter().find(|maker| maker["name"] == name).unwrap_or_else(|| panic!("no {name}: {listed:?}"));
        let key = maker["keys"].as_array().unwrap().iter().rfind(|key| key["state"] == "active");
        let key = key.unwrap_or_else(|| panic!("no active key: {maker}"));
        GpgKey { fingerprint: key["fingerprint"].as_str().unwrap().to_owned() }
    }

    /// `podseal imagemaker list -o json`, whatever it thinks of it.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let ran = self.run(&["list", "-o", "json"]);
        let listed: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        listed["makers"].as_array().unwrap().clone()
    }

    /// The states of a maker's keys in their order.
    #[track_caller]
    pub fn states(&self, name: &str) -> Vec<String> {
        let listed = self.list();
        let maker = listed.iter().find(|maker| maker["name"] == name).unwrap();
        maker["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
    }

    /// How many secret keys the home holds.
    pub fn secret_keys(&self) -> usize {
        let listed = self.gpg.gpg(None, &["--with-colons", "--list-secret-keys"], b"");
        listed.stdout.lines().filter(|line| line.starts_with("sec:")).count()
    }

    /// A file that nobody else may read, with a passphrase in it.
    pub fn passphrase(text: &str) -> String {
        let file = scratch::folder("passphrase").join("file");
        std::fs::write(&file, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// gpg that has forgotten every passphrase.
    pub fn forget(&self) {
        let _ = tools::run(self.gpg.command("gpgconf").args(["--kill", "all"]));
    }
}

/// What podseal says to a signature by the keys of a file at that time.
pub fn verify(file: &Path, blob: &[u8], at: SystemTime) -> Result<SignedContent, SignatureError> {
    keyring(file).verify(blob, at)
}

/// The keys of a file at that time.
pub fn keys(file: &Path, at: SystemTime) -> Vec<KeyInfo> {
    keyring(file).keys(at)
}

fn keyring(file: &Path) -> Keyring {
    let bytes = std::fs::read(file).unwrap();
    let (keyring, problems) = Keyring::from_files([("maker.pgp", bytes.as_slice())]);
    assert_eq!(problems, Vec::<String>::new(), "{}", file.display());
    keyring
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
