//! What is known about key files, and about the Secrets that stand for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::content::{self, Content, HeldKey, Refusal};
use super::name::KeyName;
use crate::cluster::objects::SYNCED_KEY_LABEL;

/// Together with [`SYNCED_KEY_LABEL`] it says that the Secret is podseal's.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "podseal");
/// What a key file was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Public keys.
    Held(Content),
    /// None: what it held before does not count any more.
    Refused(Refusal),
    /// It cannot be told; what it held before still counts.
    Unreadable(String),
}

/// A key file, wherever it comes from.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// Its name.
    pub name: KeyName,
    /// What it holds.
    pub state: Arc<FileState>,
    /// `directory`, or the address without what may be secret in it.
    pub source: String,
}

/// The key directory as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Directory {
    /// It is not looked at: what is in the cluster is not compared with anything.
    #[default]
    NotAsked,
    /// There is none by configuration: all key files come from elsewhere.
    None,
    /// It was listed.
    Listed,
    /// It cannot be listed, and why.
    Unreadable(String),
}

/// All that is known about key files.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// By name.
    pub files: BTreeMap<String, KeyFile>,
    /// Those that cannot be used, and why.
    pub refused: BTreeMap<String, String>,
    /// The directory.
    pub directory: Directory,
}

/// A Secret as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// Its name.
    pub name: String,
    /// Its identity and version, for preconditions.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its data.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl Live {
    /// The file that podseal keeps it for; `None` when it is somebody else's. A copy under another name is no Secret of
    /// podseal's, although it carries the labels.
    pub fn owner(&self) -> Option<KeyName> {
        let ours = self.labels.get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
        let file = self.labels.get(SYNCED_KEY_LABEL).filter(|_| ours)?;
        KeyName::read(file)?.ok().filter(|name| name.secret == self.name)
    }

    /// The keys in it.
    pub(super) fn keys(&self, now: SystemTime) -> Vec<HeldKey> {
        let file = self.labels.get(SYNCED_KEY_LABEL).and_then(|file| KeyName::read(file)?.ok());
        let values = file.iter().flat_map(|name| self.data.values().map(move |value| (name, value)));
        values
            .filter_map(|(name, value)| content::read(name, value, now).ok())
            .flat_map(|content| content.keys)
            .collect()
    }
}

/// How a key file and its Secret stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The Secret holds what the file does.
    InSync,
    /// There is no Secret yet.
    Missing,
    /// The Secret holds something else.
    Differs,
    /// Not compared, because there is nothing to compare with.
    NotCompared,
    /// A Secret of podseal's without a file.
    Orphan,
    /// The Secret of that name is somebody else's.
    Foreign,
    /// It cannot be told what the file holds; the Secret stays as it is.
    Unreadable,
    /// The file holds no key, and neither does its Secret.
    NoKey,
    /// The file holds secret key material; the Secret holds nothing.
    SecretKey,
    /// The file's name cannot be used, or another file has its Secret.
    Refused,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::InSync,
        Self::Missing,
        Self::Differs,
        Self::NotCompared,
        Self::Orphan,
        Self::Foreign,
        Self::Unreadable,
        Self::NoKey,
        Self::SecretKey,
        Self::Refused,
    ];

    /// Stable, for tables, JSON and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::NotCompared => "not-compared",
            Self::Orphan => "orphan",
            Self::Foreign => "foreign",
            Self::Unreadable => "unreadable",
            Self::NoKey => "no-key",
            Self::SecretKey => "secret-key",
            Self::Refused => "refused",
        }
    }
}
