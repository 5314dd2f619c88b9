//! The registry as a file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::fields::{check, check_begun};
use super::{MAX_REGISTRY, read_bounded};
use crate::domain::printable::printable;

/// Its name below the directory.
pub(super) const FILE: &str = "imagemakers.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document<M> {
    version: u32,
    makers: M,
    /// Makers whose first key is being made, without keys: what is there later was broken off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    begun: Vec<Maker>,
}

/// Who signs for a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Maker {
    /// Unique; the key file's name without its ending.
    pub name: String,
    /// What it signs for: `host[:port][/path]`, unique; the longest path that covers an image decides.
    pub path: String,
    /// The address in its keys.
    pub email: String,
    /// The holder's name.
    #[serde(default)]
    pub full_name: String,
    /// The comment in its keys.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The key file's name in the key directory.
    pub key_file: String,
    /// The `GnuPG` home that holds the secret keys; without it that of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gnupg_home: Option<PathBuf>,
    /// Where its signatures are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookaside: Option<String>,
    /// Whether the registry speaks plain HTTP, or has a certificate that cannot be verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Its keys, the oldest first.
    pub keys: Vec<MakerKey>,
}

/// A key of a maker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MakerKey {
    /// Upper-case hexadecimal.
    pub fingerprint: String,
    /// When it was made or taken over (RFC 3339).
    pub created: String,
    /// How it stands.
    pub state: State,
    /// When it ends because of a rotation (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// What is signed with.
    Active,
    /// Another one has taken its place; it verifies until its end.
    Retiring,
    /// It verifies nothing any more.
    Revoked,
}

impl State {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Revoked => "revoked",
        }
    }
}

impl MakerKey {
    /// A new one.
    pub fn active(fingerprint: &str, now: SystemTime) -> Self {
        Self { fingerprint: fingerprint.to_owned(), created: date(now), state: State::Active, until: None }
    }
}

impl Maker {
    /// The key that it signs with, the newest of those that are active.
    pub fn active(&self) -> Option<&MakerKey> {
        self.keys.iter().rfind(|key| key.state == State::Active)
    }
}

/// Whole seconds, in UTC (RFC 3339).
pub fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a time out of range".to_owned(), |time| time.to_string())
}

/// The makers, and those that were begun.
pub(super) fn read(path: &Path) -> Result<(Vec<Maker>, Vec<Maker>), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(format!("{}: {error}", path.display())),
        Ok(_) => {}
    }
    let named = |error: &dyn std::fmt::Display| {
        let why: String = printable(&error.to_string()).chars().take(500).collect();
        format!("{}: {why}; put that right in it, or restore the file", path.display())
    };
    let text = read_bounded(path, MAX_REGISTRY)?;
    let document: Document<serde_json::Value> = serde_json::from_slice(&text).map_err(|e| named(&e))?;
    if document.version != VERSION {
        return Err(format!("{}: of version {}, made by a newer podseal", path.display(), document.version));
    }
    let makers: Vec<Maker> = serde_json::from_value(document.makers).map_err(|e| named(&e))?;
    check(&makers).and_then(|()| check_begun(&document.begun)).map_err(|why| named(&why))?;
    Ok((makers, document.begun))
}

pub(super) fn text(makers: &[Maker], begun: &[Maker]) -> Result<String, String> {
    let document = Document { version: VERSION, makers, begun: begun.to_vec() };
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|e| format!("{FILE}: {e}"))
}
