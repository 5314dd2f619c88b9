//! Passphrases: by a prompt, a file or the agent, never as an argument and never in the environment.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use sequoia_openpgp::crypto::Password;
use sequoia_openpgp::crypto::mem::Protected;

use super::GnupgError;
use crate::signing::secret_file::exposed;

/// The longest passphrase, in bytes: what gpg's agent takes.
const MAX_PASSPHRASE: usize = 255;

/// How a secret key is unlocked.
#[derive(Debug, Clone, Default)]
pub enum Passphrase {
    /// The agent asks, or knows it, or the key has none.
    #[default]
    Agent,
    /// The first line of this file, which nobody else may read.
    File(PathBuf),
    /// Already asked for.
    Prompted(Secret),
}

/// A passphrase in memory: encrypted there while it is not used, overwritten when it is dropped, and never shown.
#[derive(Debug, Clone)]
pub struct Secret(Password);

impl Secret {
    /// Takes it over; the given bytes are overwritten when it is dropped. One line, of at most 255 bytes, not empty
    /// unless the key is to have none ([`Secret::none`]).
    pub fn new(text: Vec<u8>) -> Result<Self, GnupgError> {
        let text = Protected::from(text);
        let wrong = if text.is_empty() {
            "the passphrase is empty: --no-passphrase makes a key without one"
        } else if text.len() > MAX_PASSPHRASE {
            "the passphrase is longer than 255 bytes"
        } else if text.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            "the passphrase has more than one line"
        } else {
            return Ok(Self(Password::from(text.to_vec())));
        };
        Err(GnupgError::Passphrase(wrong.to_owned()))
    }

    /// That there is none.
    pub fn none() -> Self {
        Self(Password::from(Vec::new()))
    }

    /// The first line of a file that belongs to its owner alone.
    pub fn read(path: &Path) -> Result<Self, GnupgError> {
        let named = |what: &dyn std::fmt::Display| {
            GnupgError::Passphrase(format!("the passphrase file {}: {what}", path.display()))
        };
        // Looked at as it was opened, so that nothing can take its place in between.
        let file = File::open(path).map_err(|e| named(&e))?;
        let about = file.metadata().map_err(|e| named(&e))?;
        if !about.is_file() && !about.file_type().is_fifo() {
            return Err(named(&"neither a file nor a pipe"));
        }
        if let Some(why) = exposed(&about, path) {
            return Err(named(&why));
        }
        // With its capacity from the start: growing would leave copies behind.
        let mut text = Vec::with_capacity(4096);
        file.take(4096).read_to_end(&mut text).map_err(|e| named(&e))?;
        let text = Protected::from(text);
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Self::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()).map_err(|error| named(&error))
    }

    /// A copy, overwritten when it is dropped, too.
    pub fn bytes(&self) -> Protected {
        self.0.map(|text| Protected::from(text.to_vec()))
    }

    /// For those who unlock a key themselves.
    pub(in crate::signing) fn password(&self) -> &Password {
        &self.0
    }

    /// Lets something be done with it.
    pub(super) fn with<T>(&self, act: impl FnMut(&[u8]) -> T) -> T {
        let mut act = act;
        self.0.map(|text| act(text))
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.with(|one| other.with(|two| one == two))
    }
}

impl Passphrase {
    /// What is to be handed to gpg; `None` when the agent has it.
    pub(in crate::signing) fn secret(&self) -> Result<Option<Secret>, GnupgError> {
        match self {
            Self::Agent => Ok(None),
            Self::File(path) => Secret::read(path).map(Some),
            Self::Prompted(secret) => Ok(Some(secret.clone())),
        }
    }
}
