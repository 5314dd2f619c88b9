//! Signatures in a folder, laid out as containers/image reads and writes them.
//!
//! ```text
//! <root>/<repository path>@<algorithm>=<hex>/signature-<n>   n from 1, without a gap
//!                                           /.name-<sha256>  the name somebody chose for that content, if so
//!                                           /.new-<random>   being written; a leftover after a crash
//! ```
//! Specification: containers/image `docs/signature-protocols.md`, "lookaside". A reader stops at the first number that
//! is missing, so numbers are given without a gap and the file of a number is complete from the moment it is there.
//!
//! Writers of this module lock the folder of the digest, in whatever process they are. Others, such as skopeo, write
//! beside them and lock nothing: a number that they took is passed over and never written to. (They in turn overwrite
//! what they did not read before; that is not in our hands.) A writer that is killed leaves at most a file that nobody
//! reads and that the next writer removes. What [`SignatureDir::append`] has returned is on the disk, with all folders
//! that lead to it.
//!
//! Names: the file with a chosen name is on the disk before the signature it is for, and counts for the content it was
//! chosen for alone. So a crash in between leaves a name without a signature, which is none, and a signature that
//! somebody overwrites loses its name.
//!
//! Rights: folders are for everybody to read, and for the group of the folder around them to write if that one is; so
//! several signers can share one tree, and none is opened further than the one above it.

mod append;
pub(crate) mod files;
mod place;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};

pub use self::append::{Choice, Rules};
use self::place::signature_name;
pub use self::place::{Name, NameError, Place, PlaceError, signature_number};
pub use self::walk::{Seen, Walk};
use crate::domain::digest::Digest;
use crate::telemetry::seldom;

/// How names of files with chosen names begin.
const NAME_FILE: &str = ".name-";

/// How much one digest may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirLimits {
    /// Signatures of one digest. Readers look at 128.
    pub signatures: usize,
    /// Bytes of one signature. Real ones have about one thousand; readers take 4 MiB.
    pub size: usize,
}

impl Default for DirLimits {
    fn default() -> Self {
        Self { signatures: 128, size: 64 * 1024 }
    }
}

/// Why something could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Nothing to store.
    #[error("the signature is empty")]
    Empty,
    /// Larger than [`DirLimits::size`].
    #[error("the signature has more than {0} bytes")]
    TooLarge(usize),
    /// The number is taken, or those before it are not.
    #[error("the next free number is {next}")]
    NotNext {
        /// The number that is free.
        next: usize,
    },
    /// Who stores said that there are as many of this kind as there may be; the text says of what.
    #[error("{0}")]
    Refused(String),
    /// The digest has as many signatures as it may have.
    #[error("there are {0} signatures of this digest already, and no more are kept")]
    TooMany(usize),
    /// Another signature of the digest has the name.
    #[error("another signature of this digest has the name {0}")]
    NameTaken(Name),
    /// Other writers did not finish.
    #[error("other writers keep the folder of this digest locked; try again")]
    Busy,
    /// The file system is full, or the quota used up.
    #[error("no space left for signatures")]
    Full,
    /// The file system's rights.
    #[error("{what}: {source}; {right}")]
    NotAllowed {
        /// What was tried on what.
        what: String,
        /// Why it failed.
        source: io::Error,
        /// Which right is missing, and how it is given.
        right: String,
    },
    /// The file system.
    #[error("{what}: {source}")]
    Io {
        /// What was tried on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What became of a signature that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The `n` of `signature-<n>`.
    pub number: usize,
    /// Its name.
    pub name: Name,
    /// Whether it was stored now; false if the same bytes were there before.
    pub new: bool,
}

/// A signature that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The `n` of `signature-<n>`.
    pub number: usize,
    /// Its name.
    pub name: Name,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The signatures of a digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their numbers.
    pub kept: Vec<Kept>,
    /// Numbers under which there is something that cannot be read: no file, or too large, or not ours to read.
    pub left_out: Vec<usize>,
}

/// One signature's file, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its bytes.
    pub content: Vec<u8>,
    /// When it was changed, in seconds since 1970.
    pub modified: i64,
}

/// A folder of signatures. A cheap handle; all calls may block for as long as the disk does.
#[derive(Debug, Clone)]
pub struct SignatureDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: OwnedFd,
    path: PathBuf,
    limits: DirLimits,
}

impl SignatureDir {
    /// The store in this folder, which must exist. Links that lead to it are followed, none below it is.
    pub fn open(path: &Path, limits: DirLimits) -> Result<Self, DiskError> {
        let root =
            files::open_root(path).map_err(|e| failed(format!("cannot open the folder {}", path.display()), e))?;
        Ok(Self(Arc::new(Inner { root, path: path.to_owned(), limits })))
    }

    /// The same; the folder is made, as far as it is missing, for everybody to read.
    pub fn create(path: &Path, limits: DirLimits) -> Result<Self, DiskError> {
        files::make_root(path).map_err(|e| failed(format!("cannot make the folder {}", path.display()), e))?;
        Self::open(path, limits)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How much one digest may have.
    pub fn limits(&self) -> DirLimits {
        self.0.limits
    }

    /// The signature with this number; `None` if there is none. One above the limit of size is an error.
    pub fn read(&self, place: &Place, number: usize) -> Result<Option<Blob>, DiskError> {
        let opened = files::open_file(&self.0.root, place.file(number));
        let Some((file, metadata)) = opened.map_err(|e| self.on(place, number, e))? else { return Ok(None) };
        let content = files::read(&file, self.0.limits.size).map_err(|e| self.on(place, number, e))?;
        if content.len() > self.0.limits.size {
            return Err(DiskError::TooLarge(self.0.limits.size));
        }
        Ok(Some(Blob { content, modified: metadata.mtime() }))
    }

    /// The same, answered only if that takes no waiting for the disk; `None` means that [`Self::read`] has to be asked.
    pub fn read_at_once(&self, place: &Place, number: usize) -> Option<Option<Blob>> {
        let opened = files::open_cached_file(&self.0.root, place.file(number)).ok()?;
        let Some((file, metadata)) = opened else { return Some(None) };
        let length = usize::try_from(metadata.len()).ok().filter(|length| *length <= self.0.limits.size)?;
        let mut content = vec![0; length];
        let mut buffers = [io::IoSliceMut::new(&mut content)];
        let read = rustix::io::preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT).ok()?;
        (read == length).then_some(Some(Blob { content, modified: metadata.mtime() }))
    }

    /// The signatures of a digest in the order of their numbers, up to the first that is missing. One that is too large
    /// or cannot be read is left out, and the log says so.
    pub fn list(&self, place: &Place) -> Result<Vec<Kept>, DiskError> {
        Ok(self.listing(place)?.kept)
    }

    /// The same, with the numbers of those that are left out.
    pub fn listing(&self, place: &Place) -> Result<Listing, DiskError> {
        let opened = files::open_folder(&self.0.root, place.folders().join("/").as_str());
        let Some(folder) = opened.map_err(|e| self.on_folder(place, e))? else { return Ok(Listing::default()) };
        let (listing, _) = self.load(place, &folder).map_err(|e| self.on_folder(place, e))?;
        Ok(listing)
    }

    /// The signatures in a folder, and the first number that is free. What has a signature's name and is none that can be
    /// read takes that number and nothing else: others must not suffer from it.
    fn load(&self, place: &Place, folder: &OwnedFd) -> io::Result<(Listing, usize)> {
        let limits = self.0.limits;
        let (mut listing, mut names) = (Listing::default(), HashSet::new());
        for number in 1..=limits.signatures {
            let content = match files::open_file(folder, signature_name(number).as_str()) {
                Ok(None) => return Ok((listing, number)),
                Ok(Some((file, _))) => files::read(&file, limits.size),
                Err(error) => Err(error),
            };
            let why = match content {
                Ok(content) if content.len() <= limits.size => Ok(content),
                Ok(_) => Err(DiskError::TooLarge(limits.size).to_string()),
                Err(error) if files::is_of_entry(&error) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            let content = match why {
                Ok(content) => content,
                Err(why) => {
                    if seldom::says(&format!("{place} {number} {why}")) {
                        tracing::warn!(%place, number, "a signature is left out: {why}");
                    }
                    listing.left_out.push(number);
                    continue;
                }
            };
            let hash = Digest::sha256(&content);
            let chosen = chosen_name(folder, &hash)?.filter(|name| !names.contains(name));
            let name = chosen.unwrap_or_else(|| Name::derived(&hash, |name| names.contains(name)));
            names.insert(name.clone());
            listing.kept.push(Kept { number, name, content });
        }
        Ok((listing, limits.signatures + 1))
    }

    fn on(&self, place: &Place, number: usize, error: io::Error) -> DiskError {
        failed(format!("{}/{place}/signature-{number}", self.0.path.display()), error)
    }

    fn on_folder(&self, place: &Place, error: io::Error) -> DiskError {
        failed(format!("{}/{place}", self.0.path.display()), error)
    }
}

fn failed(what: String, source: io::Error) -> DiskError {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    match source.raw_os_error() {
        Some(number) if full.contains(&number) => DiskError::Full,
        _ => DiskError::Io { what, source },
    }
}

fn name_file(content: &Digest) -> String {
    format!("{NAME_FILE}{}", content.hex())
}

/// The name that was chosen for this content; none if what should hold it is no file that can be read.
fn chosen_name(folder: &OwnedFd, content: &Digest) -> io::Result<Option<Name>> {
    let file = match files::open_file(folder, name_file(content).as_str()) {
        Ok(Some((file, _))) => file,
        Ok(None) => return Ok(None),
        Err(error) if files::is_of_entry(&error) => {
            let text = format!("the name chosen for the signature {content} is left out: {error}");
            if seldom::says(&text) {
                tracing::warn!("{text}");
            }
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = [0; Name::LENGTH + 1];
    let length = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}
