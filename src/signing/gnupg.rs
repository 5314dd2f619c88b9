//! gpg as the keeper of secret keys.
//!
//! Secret keys stay where gpg, podman and skopeo find them, and the agent or a card does the private-key operations: no
//! secret key is ever in podseal's own memory. gpg says what it did in status lines (doc/DETAILS of `GnuPG`); its messages
//! for people are read for people alone.

mod keys;
mod listing;
mod process;
mod secret;

use std::path::PathBuf;

pub use keys::{Algorithm, NewKey, Reason};
pub use listing::{SecretKey, SecretSubkey};
pub use secret::{Passphrase, Secret};

use process::{Input, Output};

/// Most bytes of a message that is signed, and of what a key export may have.
const MAX_DATA: usize = 16 << 20;

/// Why gpg did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GnupgError {
    /// There is no such program, or it cannot be started.
    #[error("{0} cannot be started ({1}): install GnuPG 2.2 or later, or give its path")]
    Program(String, String),
    /// The passphrase cannot be had.
    #[error("{0}")]
    Passphrase(String),
    /// No such key, or more than one.
    #[error("{0}")]
    Key(String),
    /// It tried and says why not.
    #[error("gpg could not {0}: {1}")]
    Failed(String, String),
    /// It took longer than a person and a card may take.
    #[error("gpg did not {0} within {1} seconds")]
    Timeout(String, u64),
}

impl GnupgError {
    /// Whether the key was there and the passphrase not its own, as gpg says it.
    pub fn is_wrong_passphrase(&self) -> bool {
        matches!(self, Self::Failed(_, why) if why.contains("Bad passphrase"))
    }
}

/// gpg with one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gnupg {
    /// The program; a name without `/` is looked for in `PATH`.
    pub program: PathBuf,
    /// The home; without one, that of the environment (`GNUPGHOME`, `~/.gnupg`).
    pub home: Option<PathBuf>,
}

impl Default for Gnupg {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Gnupg {
    /// The gpg of the path, with this home or that of the environment.
    pub fn new(home: Option<PathBuf>) -> Self {
        Self { program: "gpg".into(), home }
    }

    /// Signs a message: a binary signed message (RFC 9580, section 10.3) with the content inside, as signature stores
    /// hold them. `key` is a fingerprint, with `!` behind it for exactly that subkey, or an address; the caller makes sure
    /// that it names one key ([`Gnupg::secret_key`]).
    pub fn sign(&self, key: &str, message: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, GnupgError> {
        if message.len() > MAX_DATA {
            return Err(GnupgError::Failed("sign".to_owned(), format!("the message has more than {MAX_DATA} bytes")));
        }
        let arguments = [
            "--no-armor",
            "--no-textmode",
            "--compress-algo",
            "none",
            "--personal-digest-preferences",
            "SHA512 SHA384 SHA256",
            "--local-user",
            key,
            "--output",
            "-",
            "--sign",
        ];
        let output = self.run("sign", &arguments, Input { passphrase: Some(passphrase), data: message })?;
        // Without this line there is no signature, whatever the exit status says.
        if output.status("SIG_CREATED").is_none() || output.data.is_empty() {
            return Err(output.failure("sign"));
        }
        Ok(output.data)
    }

    /// The certificate of a key, binary. The error says when there is none.
    pub fn export(&self, key: &str) -> Result<Vec<u8>, GnupgError> {
        self.export_with(key, &["--no-armor"])
    }

    /// The certificate of a key, armored.
    pub fn export_armored(&self, key: &str) -> Result<Vec<u8>, GnupgError> {
        self.export_with(key, &["--armor"])
    }

    fn export_with(&self, key: &str, how: &[&str]) -> Result<Vec<u8>, GnupgError> {
        let arguments = [how, &["--output", "-", "--export", "--", key]].concat();
        let output =
            self.run("export the public key", &arguments, Input::default())?.succeeded("export the public key")?;
        if output.data.is_empty() {
            return Err(GnupgError::Key(format!("there is no key {key} in {}", self.place())));
        }
        Ok(output.data)
    }

    /// Every certificate of the home, binary, one after another; empty when there is none.
    pub fn export_all(&self) -> Result<Vec<u8>, GnupgError> {
        let arguments = ["--no-armor", "--output", "-", "--export"];
        Ok(self.run("export the public keys", &arguments, Input::default())?.succeeded("export the public keys")?.data)
    }

    /// Takes keys into the home, secret ones and revocations, too. The passphrase is not asked for: secret keys keep
    /// theirs.
    pub fn import(&self, keys: &[u8]) -> Result<(), GnupgError> {
        let input = Input { passphrase: None, data: keys };
        let output = self.run("import the key", &["--import"], input)?;
        // How many keys or revocations were read.
        let read = output.status("IMPORT_RES").and_then(|counts| counts.split(' ').next());
        if read.is_none_or(|read| read == "0") {
            return Err(output.failure("import the key"));
        }
        output.succeeded("import the key").map(drop)
    }

    /// The keys whose secret part is at hand: in the home, or on a card that it knows.
    pub fn secret_keys(&self) -> Result<Vec<SecretKey>, GnupgError> {
        let arguments = ["--with-colons", "--fixed-list-mode", "--with-secret", "--list-secret-keys"];
        let output =
            self.run("list the secret keys", &arguments, Input::default())?.succeeded("list the secret keys")?;
        Ok(listing::read(&String::from_utf8_lossy(&output.data)))
    }

    /// Every secret key that this names, as [`Gnupg::secret_key`] reads names; usable or not.
    pub fn secret_keys_named(&self, name: &str) -> Result<Vec<SecretKey>, GnupgError> {
        let mut keys = self.secret_keys()?;
        keys.retain(|key| key.is_named(name));
        Ok(keys)
    }

    /// The one secret key that this names: a fingerprint or long key ID of the primary key or of a subkey (spaces and `0x`
    /// tolerated), or the address of a User ID. Expired and revoked keys are passed over when an address is given.
    pub fn secret_key(&self, name: &str) -> Result<SecretKey, GnupgError> {
        let mut found = self.secret_keys_named(name)?;
        if found.len() > 1 {
            found.retain(SecretKey::is_usable);
        }
        match (found.pop(), found.as_slice()) {
            (Some(key), []) => Ok(key),
            (None, _) => Err(no_key(name, &self.place())),
            (Some(last), others) => {
                let all: Vec<_> = others.iter().chain([&last]).map(|key| key.fingerprint.as_str()).collect();
                Err(GnupgError::Key(format!(
                    "several secret keys in {} carry {name:?}: give the fingerprint of one ({})",
                    self.place(),
                    all.join(", ")
                )))
            }
        }
    }

    /// Ends the agent of this home, for a home that is going to be removed.
    pub fn stop_agent(&self) {
        if self.home.is_some() {
            // An agent without a home ends by itself, too, only later.
            let _ = self.run_program("gpgconf".as_ref(), "end the agent", &["--kill", "all"], Input::default());
        }
    }

    /// The folder of the home, as gpg finds it; it may not be there.
    pub fn folder(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| {
            let given = std::env::var_os("GNUPGHOME").filter(|home| !home.is_empty()).map(PathBuf::from);
            given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".gnupg")))
        })
    }

    /// The home, for messages.
    pub fn place(&self) -> String {
        match &self.home {
            Some(home) => home.display().to_string(),
            None => std::env::var("GNUPGHOME").unwrap_or_else(|_| "~/.gnupg".to_owned()),
        }
    }

    fn run(&self, what: &str, arguments: &[&str], input: Input<'_>) -> Result<Output, GnupgError> {
        let mut all = vec!["--batch", "--no-tty", "--yes", "--quiet", "--no-auto-check-trustdb", "--status-fd", "2"];
        if input.passphrase.is_some_and(|passphrase| !matches!(passphrase, Passphrase::Agent)) {
            all.extend(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]);
        }
        all.extend(arguments);
        self.run_program(&self.program, what, &all, input)
    }
}

/// Nothing of that name; what would have been one.
pub(super) fn no_key(name: &str, place: &str) -> GnupgError {
    let way = if name.contains('@') { "" } else { "; a key is named by e-mail, fingerprint or key ID" };
    GnupgError::Key(format!(
        "there is no secret key {name:?} in {place}: gpg --list-secret-keys shows what there is{way}"
    ))
}

#[cfg(test)]
mod tests;
