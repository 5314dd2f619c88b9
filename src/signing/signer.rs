//! A key that signs, wherever its secret part is.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::choice;
use super::gnupg::{Gnupg, GnupgError, Passphrase, Secret};
use super::keyfile::{KeyFile, KeyFileError};
use super::makers::Maker;
use crate::domain::payload::SimplePayload;
use crate::signature::SignatureError;
use crate::signature::openpgp::{Keyring, SignedContent};

/// Why nothing can be signed with a key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// gpg, or its home.
    #[error(transparent)]
    Gnupg(#[from] GnupgError),
    /// The key file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The key signs, and what it signs is accepted nowhere.
    #[error("the key {0} signs, but its signatures do not count: {1}")]
    Worthless(String, String),
}

/// A secret key, and the certificate it belongs to.
#[derive(Debug)]
pub struct Signer {
    how: How,
    fingerprint: String,
    public: Vec<u8>,
    keyring: Keyring,
    notes: Vec<String>,
}

/// What a key has signed.
#[derive(Debug)]
pub struct Made {
    /// The signature with what it is about.
    pub blob: Vec<u8>,
    /// When it ends by its own account, whatever becomes of the key.
    pub ends: Option<SystemTime>,
}

#[derive(Debug)]
enum How {
    Home { gnupg: Gnupg, passphrase: Passphrase },
    File(KeyFile),
}

/// Where to look for keys, and how they are unlocked.
pub struct Keys<'a> {
    /// gpg with the home that holds keys and knows cards.
    pub gnupg: Gnupg,
    /// How the key is unlocked.
    pub passphrase: Passphrase,
    /// The image makers of this host, who may have several keys of one address.
    pub makers: &'a [Maker],
    /// Asks a person for the passphrase of a key file.
    pub ask: &'a mut dyn FnMut(&str) -> Result<Secret, GnupgError>,
}

impl Signer {
    /// The key of this name: the path of a file when it has a `/` or such a file is there, else an address, fingerprint or
    /// key ID in the `GnuPG` home.
    pub fn open(name: &str, keys: Keys<'_>, now: SystemTime) -> Result<Self, SignerError> {
        super::home::sweep();
        let (makers, mut notes) = (keys.makers, Vec::new());
        let (how, fingerprint, public) = if let Some(path) = path_of(name) {
            let file = KeyFile::open(&path, &keys.passphrase, &keys.gnupg.program, now, keys.ask)?;
            let (fingerprint, public) = (file.fingerprint().to_owned(), file.public_key().to_owned());
            (How::File(file), fingerprint, public)
        } else {
            let named = keys.gnupg.secret_keys_named(name)?;
            let (key, why) = choice::choose(name, named, makers, &keys.gnupg.place())?;
            notes.extend(why);
            let fingerprint = key.fingerprint;
            let public = keys.gnupg.export(&fingerprint)?;
            (How::Home { gnupg: keys.gnupg, passphrase: keys.passphrase }, fingerprint, public)
        };
        let (keyring, _) = Keyring::from_files([("the signing key", public.as_slice())]);
        let expires = keyring.keys(now).into_iter().find(|key| key.fingerprint == fingerprint).and_then(|k| k.expires);
        notes.extend(choice::warning(&fingerprint, expires, makers, now));
        Ok(Self { how, fingerprint, public, keyring, notes })
    }

    /// What a person ought to know: why this key of several, and that it ends soon.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The primary key's fingerprint, upper-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The certificate, binary.
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// Signs a payload, and verifies it as podseal verifies everybody's: what no node would accept is not given out.
    pub fn sign(&self, payload: &[u8], now: impl Fn() -> SystemTime) -> Result<Made, SignerError> {
        let blob = match &self.how {
            How::Home { gnupg, passphrase } => gnupg.sign(&self.fingerprint, payload, passphrase)?,
            How::File(file) => file.sign(payload)?,
        };
        let worthless = |why: String| SignerError::Worthless(self.fingerprint.clone(), why);
        let signed = self.verify(&blob, now()).map_err(|error| worthless(error.to_string()))?;
        if signed.content != payload {
            return Err(worthless("it signed something else than it was given".to_owned()));
        }
        Ok(Made { blob, ends: signed.signature_ends })
    }

    /// Why a signature that it makes ends: podseal asks for no end, but gpg can be told to give every signature one.
    pub fn why_it_ends(&self) -> String {
        let home = match &self.how {
            How::Home { gnupg, .. } => format!("{}/gpg.conf, or in that of the system", gnupg.place()),
            How::File(_) => "the gpg.conf of the system".to_owned(),
        };
        format!("see default-sig-expire in {home}")
    }

    /// Verifies a signature against this key alone. `blob` is untrusted, and of at most 4 MiB.
    pub fn verify(&self, blob: &[u8], now: SystemTime) -> Result<SignedContent, SignatureError> {
        self.keyring.verify(blob, now)
    }

    /// What a signature says, and when it ends by its own account, if it is a good one of this key.
    pub fn payload(&self, blob: &[u8], now: SystemTime) -> Option<(SimplePayload, Option<SystemTime>)> {
        let signed = self.verify(blob, now).ok()?;
        Some((SimplePayload::parse(&signed.content).ok()?, signed.signature_ends))
    }
}

/// Whether this names a key by an address, and not by its file, fingerprint or ID.
pub fn is_address(name: &str) -> bool {
    path_of(name).is_none() && name.contains('@')
}

/// The path that is meant, if one is.
fn path_of(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    (name.contains('/') || path.is_file()).then(|| path.to_owned())
}
