//! Names on the disk, checked before they become paths.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::domain::digest::Digest;
use crate::domain::image::{Repository, valid_path};

/// Longest repository path, in bytes; the limit of registries for a name.
const MAX_PATH: usize = 255;
/// Longest name of a folder on usual file systems, in bytes.
const MAX_COMPONENT: usize = 255;

/// Where the signatures of one digest are kept: a repository's path, without the registry's host, and the digest.
///
/// Both were checked, so that a place only ever adds folders below a root: no component is empty, begins with a dot or
/// holds a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    path: Box<str>,
    digest: Digest,
}

/// The text names no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The part before the digest.
    #[error("not a repository path: lower-case letters, digits and single separators, without a registry's host")]
    Path,
    /// The part after the `@`.
    #[error("not a digest: expected sha256 and 64 lower-case hex digits")]
    Digest,
    /// The path is longer than 255 bytes, or its last part does not fit into a file name together with the digest.
    #[error("the repository path is too long")]
    TooLong,
}

impl Place {
    /// From a repository path without host, such as `team/app`, and a digest.
    pub fn new(path: &str, digest: &Digest) -> Result<Self, PlaceError> {
        if !valid_path(path) {
            return Err(PlaceError::Path);
        }
        let place = Self { path: path.into(), digest: digest.clone() };
        let last = place.folders().last().map_or(0, |folder| folder.len());
        if path.len() > MAX_PATH || last > MAX_COMPONENT {
            return Err(PlaceError::TooLong);
        }
        Ok(place)
    }

    /// Where the signatures of this image are; the registry's host is no part of it.
    pub fn of(repository: &Repository, digest: &Digest) -> Result<Self, PlaceError> {
        Self::new(repository.path(), digest)
    }

    /// The repository path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The image's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The folders from the root to the signatures, one name each.
    pub(super) fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> = self.path.split('/').map(str::to_owned).collect();
        if let Some(last) = folders.last_mut() {
            last.push_str(&format!("@{}={}", self.digest.algorithm_name(), self.digest.hex()));
        }
        folders
    }

    /// The path below the root of the signature with this number.
    pub(super) fn file(&self, number: usize) -> PathBuf {
        let mut path: PathBuf = self.folders().iter().collect();
        path.push(signature_name(number));
        path
    }
}

/// `<path>@<algorithm>=<hex>`, as in URLs and on the disk.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}={}", self.path, self.digest.algorithm_name(), self.digest.hex())
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (path, digest) = text.split_once('@').ok_or(PlaceError::Digest)?;
        let (algorithm, hex) = digest.split_once('=').ok_or(PlaceError::Digest)?;
        let digest = format!("{algorithm}:{hex}").parse().map_err(|_| PlaceError::Digest)?;
        Self::new(path, &digest)
    }
}

/// `signature-<n>`.
pub(super) fn signature_name(number: usize) -> String {
    format!("signature-{number}")
}

/// The number in `signature-<n>`: decimal, from 1, without leading zeros, at most six digits.
pub fn signature_number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("signature-")?;
    let plain =
        (1..=6).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The name of a signature, unique among those of its digest: 32 lower-case letters and digits.
///
/// Whoever uploads may choose it. One that nobody chose is the first half of the content's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// The text is not a signature's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature's name has 32 characters, lower-case letters and digits")]
pub struct NameError;

impl Name {
    /// How long every name is.
    pub const LENGTH: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first of the names that this content gets when nobody chose one and the others are taken; `taken` counts.
    pub(super) fn derived(content: &Digest, is_taken: impl Fn(&Self) -> bool) -> Self {
        let mut hash = content.clone();
        loop {
            let name = Self(hash.hex().chars().take(Self::LENGTH).collect());
            // Who wanted to go on here for long would have to find names that hash to one another.
            if !is_taken(&name) {
                return name;
            }
            hash = Digest::sha256(hash.as_str().as_bytes());
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        if text.len() == Self::LENGTH && text.bytes().all(fits) { Ok(Self(text.into())) } else { Err(NameError) }
    }
}
