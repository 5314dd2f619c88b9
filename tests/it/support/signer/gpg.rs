//! gpg homes with keys of every kind, made when a test wants them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::scratch;
use crate::support::tools::{self, Ran};

/// A home with keys. Its agent ends with it.
#[derive(Debug)]
pub struct Gpg {
    home: PathBuf,
}

/// A primary key or a subkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpgKey {
    /// 40 hexadecimal digits.
    pub fingerprint: String,
}

/// What key to make. Times are `20240101T000000`, in UTC.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec<'a> {
    /// Such as `Image Maker <immkk8s@registry.local/k8s-c10f1>`.
    pub user_id: &'a str,
    /// `ed25519`, `rsa3072`, `dsa2048`, `nistp256`, …
    pub algorithm: &'a str,
    /// `sign`, `cert`, `cert,sign`.
    pub usage: &'a str,
    /// `never`, `30d`, `1y`.
    pub expires: &'a str,
    /// When it seems to be made; now, when absent.
    pub at: Option<&'a str>,
}

impl<'a> KeySpec<'a> {
    /// An Ed25519 key that signs and does not expire.
    pub fn new(user_id: &'a str) -> Self {
        Self { user_id, algorithm: "ed25519", usage: "sign", expires: "never", at: None }
    }
}

/// Why a key is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody else has it: nothing that it ever signed counts.
    Compromised,
    /// It is no longer used.
    Retired,
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::Compromised => 1,
            Self::Retired => 3,
        }
    }
}

/// How to sign.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignSpec<'a> {
    /// When the signature seems to be made, not before the key; now, when absent.
    pub at: Option<&'a str>,
    /// After what time the signature itself expires, such as `30d`.
    pub expires: Option<&'a str>,
    /// `SHA1`, `SHA512`, …
    pub hash: Option<&'a str>,
}

impl Gpg {
    /// An empty one.
    pub fn new() -> Self {
        let home = scratch::folder("gpg");
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { home }
    }

    /// The folder, for `GNUPGHOME`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `gpg ARGS` with this input, at a pretended time if one is given.
    #[must_use]
    pub fn gpg(&self, at: Option<&str>, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command("gpg");
        command.args(["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]);
        if let Some(at) = at {
            // The exclamation mark stops the clock there.
            command.args(["--faked-system-time", &format!("{at}!")]);
        }
        tools::run_with(command.args(args), input)
    }

    /// Makes a key.
    #[track_caller]
    pub fn generate(&self, spec: &KeySpec<'_>) -> GpgKey {
        let args = ["--status-fd", "1", "--quick-generate-key", spec.user_id, spec.algorithm, spec.usage, spec.expires];
        let ran = self.gpg(spec.at, &args, b"").succeeded();
        let created = ran.stdout.lines().find_map(|line| line.strip_prefix("[GNUPG:] KEY_CREATED "));
        let fingerprint = created.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("{ran}"));
        GpgKey { fingerprint: fingerprint.to_owned() }
    }

    /// Gives a key a subkey; sign with it by its own fingerprint.
    #[track_caller]
    pub fn add_subkey(&self, key: &GpgKey, algorithm: &str, usage: &str, expires: &str, at: Option<&str>) -> GpgKey {
        let before = self.fingerprints(key);
        self.gpg(at, &["--quick-add-key", &key.fingerprint, algorithm, usage, expires], b"").succeeded();
        let new = self.fingerprints(key).into_iter().find(|fingerprint| !before.contains(fingerprint));
        GpgKey { fingerprint: new.unwrap() }
    }

    /// Gives a key another user id.
    #[track_caller]
    pub fn add_user_id(&self, key: &GpgKey, user_id: &str) {
        self.gpg(None, &["--quick-add-uid", &key.fingerprint, user_id], b"").succeeded();
    }

    /// Revokes one user id.
    #[track_caller]
    pub fn revoke_user_id(&self, key: &GpgKey, user_id: &str) {
        self.gpg(None, &["--quick-revoke-uid", &key.fingerprint, user_id], b"").succeeded();
    }

    /// Changes when a key expires: `0` for never, `30d`, ….
    #[track_caller]
    pub fn set_expiry(&self, key: &GpgKey, expires: &str, at: Option<&str>) {
        self.gpg(at, &["--quick-set-expire", &key.fingerprint, expires], b"").succeeded();
    }

    /// Revokes a key for an unknown reason, which spoils its older signatures, too.
    #[track_caller]
    pub fn revoke(&self, key: &GpgKey) {
        let file = self.home.join("openpgp-revocs.d").join(format!("{}.rev", key.fingerprint));
        let text = std::fs::read_to_string(file).unwrap();
        // The file has a colon in front of the armour, so that nobody imports it by mistake.
        self.gpg(None, &["--import"], text.replace("\n:---", "\n---").as_bytes()).succeeded();
    }

    /// Revokes a key because it is no longer used: older signatures stay good.
    #[track_caller]
    pub fn retire(&self, key: &GpgKey) {
        self.revoke_for(key, Reason::Retired, None);
    }

    /// Revokes a key for this reason at a pretended time.
    #[track_caller]
    pub fn revoke_for(&self, key: &GpgKey, reason: Reason, at: Option<&str>) {
        let file = self.home.join(format!("{}.revoked", key.fingerprint));
        let mut command = self.dialogue(at);
        command.arg("--output").arg(&file).args(["--gen-revoke", &key.fingerprint]);
        tools::run_with(&mut command, format!("y\n{}\n\ny\n", reason.code()).as_bytes()).succeeded();
        self.gpg(None, &["--import", file.to_str().unwrap()], b"").succeeded();
    }

    /// Revokes the only subkey of a key for this reason.
    #[track_caller]
    pub fn revoke_subkey(&self, key: &GpgKey, reason: Reason, at: Option<&str>) {
        self.edit(key, at, &format!("key 1\nrevkey\ny\n{}\n\ny\nsave\n", reason.code()));
    }

    /// Takes from a key what it may be used for, or gives it more: `S` signing, `E` encryption, each turned over.
    /// `what` selects the key: empty for the primary one, `key 1` for the first subkey.
    #[track_caller]
    pub fn change_usage(&self, key: &GpgKey, what: &str, flags: &[&str]) {
        let flags = flags.join("\n");
        self.edit(key, None, &format!("{what}\nchange-usage\n{flags}\nQ\nsave\n"));
    }

    /// What someone types at `gpg --edit-key`.
    #[track_caller]
    fn edit(&self, key: &GpgKey, at: Option<&str>, typed: &str) {
        tools::run_with(self.dialogue(at).args(["--edit-key", &key.fingerprint]), typed.trim_start().as_bytes())
            .succeeded();
    }

    /// gpg as one talks to it.
    fn dialogue(&self, at: Option<&str>) -> Command {
        let mut command = self.command("gpg");
        command.args(["--no-tty", "--yes", "--command-fd", "0", "--status-fd", "2", "--pinentry-mode", "loopback"]);
        command.args(["--passphrase", ""]);
        if let Some(at) = at {
            command.args(["--faked-system-time", &format!("{at}!")]);
        }
        command
    }

    /// The certificates of these keys, binary.
    #[track_caller]
    pub fn export(&self, keys: &[&GpgKey]) -> Vec<u8> {
        self.export_as(keys, &["--export"])
    }

    /// The certificates of these keys, armoured.
    #[track_caller]
    pub fn export_armored(&self, keys: &[&GpgKey]) -> Vec<u8> {
        self.export_as(keys, &["--armor", "--export"])
    }

    /// The certificates of these keys in a file.
    #[track_caller]
    pub fn export_file(&self, keys: &[&GpgKey]) -> PathBuf {
        let file = scratch::folder("pub").join("key.gpg");
        std::fs::write(&file, self.export(keys)).unwrap();
        file
    }

    /// The secret key in a file that only its owner may read.
    #[track_caller]
    pub fn secret_file(&self, key: &GpgKey) -> PathBuf {
        let file = scratch::folder("secret").join("key.pgp");
        std::fs::write(&file, self.gpg(None, &["--export-secret-keys", &key.fingerprint], b"").succeeded().bytes)
            .unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// Signs bytes as the blob of a lookaside store has them: a message with the content inside.
    #[track_caller]
    pub fn sign(&self, key: &GpgKey, content: &[u8]) -> Vec<u8> {
        self.sign_with(key, content, &SignSpec::default())
    }

    /// The same with more to choose.
    #[track_caller]
    pub fn sign_with(&self, key: &GpgKey, content: &[u8], spec: &SignSpec<'_>) -> Vec<u8> {
        // Without the exclamation mark gpg picks a subkey by itself.
        let user = format!("{}!", key.fingerprint);
        let mut args = vec!["--local-user", &user];
        if let Some(expires) = spec.expires {
            args.extend(["--default-sig-expire", expires]);
        }
        if let Some(hash) = spec.hash {
            args.extend(["--digest-algo", hash]);
        }
        args.push("--sign");
        self.gpg(spec.at, &args, content).succeeded().bytes
    }

    /// A program that uses this home.
    pub fn command(&self, program: &str) -> Command {
        let mut command = tools::command(program);
        command.env("GNUPGHOME", &self.home).env("LC_ALL", "C");
        command
    }

    #[track_caller]
    fn export_as(&self, keys: &[&GpgKey], how: &[&str]) -> Vec<u8> {
        let fingerprints: Vec<_> = keys.iter().map(|key| key.fingerprint.as_str()).collect();
        self.gpg(None, &[how, &fingerprints].concat(), b"").succeeded().bytes
    }

    #[track_caller]
    fn fingerprints(&self, key: &GpgKey) -> Vec<String> {
        let args = ["--with-colons", "--with-subkey-fingerprint", "--list-keys", &key.fingerprint];
        let listed = self.gpg(None, &args, b"").succeeded().stdout;
        let field = |line: &str| line.strip_prefix("fpr:").map(|rest| rest.trim_matches(':').to_owned());
        listed.lines().filter_map(field).collect()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = tools::run(self.command("gpgconf").args(["--kill", "all"]));
    }
}
