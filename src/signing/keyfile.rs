//! A secret key in a file, as `gpg --export-secret-keys` and `sq key generate` write it.
//!
//! ```text
//!  Ed25519, Ed448, ECDSA ── signed with here, in process
//!  RSA, DSA ─────────────── a temporary GnuPG home, and gpg signs
//! ```
//! The pure Rust implementation of RSA takes a time that depends on the private key (RUSTSEC-2023-0071), and that of DSA
//! has had no review either; whoever can have many signatures made and measures could learn it. libgcrypt, which gpg
//! signs with, blinds these operations.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::crypto::KeyPair;
use sequoia_openpgp::packet::Key;
use sequoia_openpgp::packet::key::{SecretParts, UnspecifiedRole};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use sequoia_openpgp::types::PublicKeyAlgorithm;

use super::gnupg::{Gnupg, GnupgError, Passphrase, Secret};
use super::home::TemporaryHome;
use super::secret_file::exposed;

/// Bytes of a file with one secret key.
const MAX_FILE: u64 = 1 << 20;

/// Why a key file cannot be signed with. No message holds anything of the key but its fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read, or holds something else.
    #[error("the key file {0}: {1}")]
    Unusable(String, String),
    /// The passphrase is missing or wrong.
    #[error("the key file {0}: {1}")]
    Locked(String, String),
    /// gpg, with which RSA and DSA keys sign.
    #[error(transparent)]
    Gnupg(#[from] GnupgError),
    /// The library; nothing that was read is known to cause it.
    #[error("the message cannot be signed: {0}")]
    Signing(String),
}

/// One secret key that may sign now.
#[derive(Debug)]
pub struct KeyFile {
    public: Vec<u8>,
    fingerprint: String,
    how: How,
}

enum How {
    InProcess(Box<KeyPair>),
    ByGpg { gnupg: Gnupg, key: String, passphrase: Passphrase, _home: TemporaryHome },
}

impl std::fmt::Debug for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::InProcess(_)) { "InProcess(…)" } else { "ByGpg(…)" })
    }
}

impl KeyFile {
    /// Reads the file (binary or armored) and unlocks its key. `ask` is called when the key has a passphrase and none
    /// was given.
    pub fn open(
        path: &Path,
        passphrase: &Passphrase,
        gpg: &Path,
        now: SystemTime,
        ask: &mut dyn FnMut(&str) -> Result<Secret, GnupgError>,
    ) -> Result<Self, KeyFileError> {
        let unusable = |why: String| KeyFileError::Unusable(path.display().to_string(), why);
        let (bytes, exposed) = read(path).map_err(unusable)?;
        let cert = one_secret_key(&bytes).map_err(unusable)?;
        if let Some(why) = exposed {
            return Err(unusable(why));
        }
        let key = signing_key(&cert, now).map_err(unusable)?;
        let public = cert.clone().strip_secret_key_material().to_vec();
        let public = public.map_err(|error| unusable(format!("its public part cannot be written: {error}")))?;
        let fingerprint = cert.fingerprint().to_hex();
        let unlocked = key.has_unencrypted_secret();
        let passphrase = match passphrase {
            _ if unlocked => Passphrase::Agent,
            // There is no agent that could know it.
            Passphrase::Agent => Passphrase::Prompted(ask(&format!("Passphrase of {}", path.display()))?),
            given => given.clone(),
        };
        let how = if by_gpg(key.pk_algo()) {
            Self::through_gpg(gpg, &bytes, &key.fingerprint().to_hex(), passphrase)?
        } else {
            let key = if unlocked { key } else { unlock(path, key, &passphrase)? };
            let pair = key.into_keypair();
            How::InProcess(Box::new(pair.map_err(|error| unusable(format!("its key cannot be used: {error}")))?))
        };
        Ok(Self { public, fingerprint, how })
    }

    fn through_gpg(gpg: &Path, bytes: &[u8], key: &str, passphrase: Passphrase) -> Result<How, KeyFileError> {
        let home = TemporaryHome::new()
            .map_err(|error| GnupgError::Failed("make a temporary home".to_owned(), error.to_string()))?;
        let gnupg = Gnupg { program: gpg.to_owned(), home: Some(home.path().to_owned()) };
        gnupg.import(bytes)?;
        Ok(How::ByGpg { gnupg, key: format!("{key}!"), passphrase, _home: home })
    }

    /// The certificate, binary, without anything secret.
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// Of the primary key, upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A binary signed message around these bytes, as `gpg --sign` makes it.
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>, KeyFileError> {
        match &self.how {
            How::ByGpg { gnupg, key, passphrase, .. } => Ok(gnupg.sign(key, content, passphrase)?),
            How::InProcess(pair) => message(pair, content).map_err(|error| KeyFileError::Signing(format!("{error:#}"))),
        }
    }
}

/// One signature around one literal.
fn message(pair: &KeyPair, content: &[u8]) -> sequoia_openpgp::Result<Vec<u8>> {
    let mut blob = Vec::new();
    let message = Signer::new(Message::new(&mut blob), pair.clone())?.build()?;
    let mut literal = LiteralWriter::new(message).build()?;
    literal.write_all(content)?;
    literal.finalize()?;
    Ok(blob)
}

fn by_gpg(algorithm: PublicKeyAlgorithm) -> bool {
    #[allow(deprecated)]
    let here = [PublicKeyAlgorithm::EdDSA, PublicKeyAlgorithm::ECDSA, PublicKeyAlgorithm::Ed25519];
    !here.contains(&algorithm)
}

/// The content, and why others may read it, if so.
fn read(path: &Path) -> Result<(Vec<u8>, Option<String>), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE { Err("larger than 1 MiB".to_owned()) } else { Ok((bytes, exposed(&about, path))) }
}

/// The one certificate in the file; it must hold secret parts.
fn one_secret_key(bytes: &[u8]) -> Result<Cert, String> {
    let parser = CertParser::from_bytes(bytes).map_err(|_| "not an OpenPGP key".to_owned())?;
    let mut found: Vec<Cert> = Vec::new();
    for cert in parser.take(2) {
        found.push(cert.map_err(|_| "not an OpenPGP key, or one that cannot be read".to_owned())?);
    }
    match (found.pop(), found.is_empty()) {
        (Some(cert), true) if cert.is_tsk() => Ok(cert),
        (Some(_), true) => {
            Err("it holds a public key only; export the secret one with gpg --export-secret-keys".into())
        }
        (Some(_), false) => Err("it holds several keys; give a file with one".to_owned()),
        (None, _) => Err("not an OpenPGP key".to_owned()),
    }
}

/// The newest of its keys that may sign now: what gpg takes, too.
fn signing_key(cert: &Cert, now: SystemTime) -> Result<Key<SecretParts, UnspecifiedRole>, String> {
    let policy = StandardPolicy::at(now);
    let valid = cert.with_policy(&policy, now).map_err(|error| format!("its key may not sign now: {error}"))?;
    valid.alive().map_err(|error| format!("its key may not sign now: {error}"))?;
    let usable = valid.keys().secret().alive().revoked(false).for_signing();
    let newest = usable.map(|key| key.key().clone().role_into_unspecified()).max_by_key(Key::creation_time);
    newest.ok_or_else(|| "none of its keys may sign now: expired, revoked, or not made for signing".to_owned())
}

fn unlock(
    path: &Path,
    key: Key<SecretParts, UnspecifiedRole>,
    passphrase: &Passphrase,
) -> Result<Key<SecretParts, UnspecifiedRole>, KeyFileError> {
    let locked = |why: &str| KeyFileError::Locked(path.display().to_string(), why.to_owned());
    let secret = passphrase.secret()?.ok_or_else(|| locked("it has a passphrase: give it with --passphrase-file"))?;
    key.decrypt_secret(secret.password()).map_err(|_| locked("the passphrase does not open it"))
}

#[cfg(test)]
mod tests;
