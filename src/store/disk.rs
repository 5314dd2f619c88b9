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

mod files;
mod place;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags};

use self::files::{Fresh, Lock};
use self::place::signature_name;
pub use self::place::{Name, NameError, Place, PlaceError, signature_number};
pub use self::walk::{Seen, Walk};
use crate::domain::digest::Digest;

/// How long a writer waits for others that write to the same digest.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is tried again when the folder was removed meanwhile.
const TRIES: usize = 5;

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

    /// The same; the folder is made, as far as it is missing.
    pub fn create(path: &Path, limits: DirLimits) -> Result<Self, DiskError> {
        std::fs::create_dir_all(path).map_err(|e| failed(format!("cannot make the folder {}", path.display()), e))?;
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
        let Some(file) = opened.map_err(|e| self.on(place, number, e))? else { return Ok(None) };
        let content = files::read(&file, self.0.limits.size).map_err(|e| self.on(place, number, e))?;
        self.blob(place, number, &file, content).map(Some)
    }

    /// The same, answered only if that takes no waiting for the disk; `None` means that [`Self::read`] has to be asked.
    pub fn read_at_once(&self, place: &Place, number: usize) -> Option<Option<Blob>> {
        let Some(file) = files::open_cached_file(&self.0.root, place.file(number)).ok()? else { return Some(None) };
        let length = usize::try_from(file.metadata().ok()?.len()).ok().filter(|n| *n <= self.0.limits.size)?;
        let mut content = vec![0; length];
        let mut buffers = [io::IoSliceMut::new(&mut content)];
        let read = rustix::io::preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT).ok()?;
        if read != length {
            return None;
        }
        self.blob(place, number, &file, content).ok().map(Some)
    }

    fn blob(&self, place: &Place, number: usize, file: &File, content: Vec<u8>) -> Result<Blob, DiskError> {
        if content.len() > self.0.limits.size {
            return Err(DiskError::TooLarge(self.0.limits.size));
        }
        let modified = file.metadata().map_err(|e| self.on(place, number, e))?.mtime();
        Ok(Blob { content, modified })
    }

    /// The signatures of a digest in the order of their numbers, up to the first that is missing. One that is too large
    /// or cannot be read is left out.
    pub fn list(&self, place: &Place) -> Result<Vec<Kept>, DiskError> {
        let opened = files::open_folder(&self.0.root, place.folders().join("/").as_str());
        let Some(folder) = opened.map_err(|e| self.on_folder(place, e))? else { return Ok(Vec::new()) };
        let (kept, _) = self.load(&folder).map_err(|e| self.on_folder(place, e))?;
        Ok(kept)
    }

    /// Stores a signature under the next number, or gives the one that has the same bytes.
    ///
    /// When this returns it is on the disk: complete, with its name, and with the folders that lead to it. Without a
    /// `name` it gets the one that its content has. `content` is not looked at.
    pub fn append(&self, place: &Place, content: &[u8], name: Option<&Name>) -> Result<Stored, DiskError> {
        self.store(place, content, &Wanted { name, number: None })
    }

    /// The same under this number and no other; [`DiskError::NotNext`] if it is not the next one.
    pub fn append_as(&self, place: &Place, content: &[u8], number: usize) -> Result<Stored, DiskError> {
        self.store(place, content, &Wanted { name: None, number: Some(number) })
    }

    fn store(&self, place: &Place, content: &[u8], wanted: &Wanted<'_>) -> Result<Stored, DiskError> {
        if content.is_empty() {
            return Err(DiskError::Empty);
        }
        if content.len() > self.0.limits.size {
            return Err(DiskError::TooLarge(self.0.limits.size));
        }
        for _ in 0..TRIES {
            match self.try_append(place, content, wanted) {
                // The folder was removed while we held it open.
                Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Err(DiskError::Busy)
    }

    fn try_append(&self, place: &Place, content: &[u8], wanted: &Wanted<'_>) -> Result<Stored, DiskError> {
        let on_folder = |error| self.on_folder(place, error);
        let mut way = Vec::new();
        for folder in place.folders() {
            let next = files::make_folder(way.last().unwrap_or(&self.0.root), &folder).map_err(on_folder)?;
            way.push(next);
        }
        let Some(folder) = way.last() else { return Err(on_folder(io::ErrorKind::InvalidInput.into())) };
        let lock = Lock::take(folder, PATIENCE).map_err(on_folder)?.ok_or(DiskError::Busy)?;
        lock.sweep().map_err(on_folder)?;
        let (kept, next) = self.load(lock.folder()).map_err(on_folder)?;
        let stored = match self.same(&kept, content, wanted.name)? {
            Some(stored) => stored,
            None => self.add(&lock, &kept, next, content, wanted).map_err(|error| match error {
                AddError::Disk(error) => error,
                AddError::Io(error) => on_folder(error),
            })?,
        };
        // Also for one that was there: its writer may have been killed before this. From the inside to the outside, and
        // all of them, because another writer may have made a folder and not have come so far.
        for folder in way.iter().rev().chain([&self.0.root]) {
            files::sync(folder).map_err(on_folder)?;
        }
        Ok(stored)
    }

    /// The signature that has these bytes.
    fn same(&self, kept: &[Kept], content: &[u8], name: Option<&Name>) -> Result<Option<Stored>, DiskError> {
        if let Some(same) = kept.iter().find(|kept| kept.content == content) {
            return Ok(Some(Stored { number: same.number, name: same.name.clone(), new: false }));
        }
        match name {
            Some(name) if kept.iter().any(|kept| kept.name == *name) => Err(DiskError::NameTaken(name.clone())),
            _ => Ok(None),
        }
    }

    fn add(
        &self,
        lock: &Lock<'_>,
        kept: &[Kept],
        next: usize,
        content: &[u8],
        wanted: &Wanted<'_>,
    ) -> Result<Stored, AddError> {
        let max = self.0.limits.signatures;
        let is_wanted = |free: usize| wanted.number.is_none_or(|number| number == free);
        if !is_wanted(next) {
            return Err(AddError::Disk(DiskError::NotNext { next }));
        }
        if next > max {
            return Err(AddError::Disk(DiskError::TooMany(max)));
        }
        let hash = Digest::sha256(content);
        let own = Name::derived(&hash, |name| kept.iter().any(|k| k.name == *name));
        let name = wanted.name.unwrap_or(&own).clone();
        if name == own {
            // One may be left of a writer that was killed before it stored the signature.
            files::remove(lock, &name_file(&hash))?;
        } else {
            Fresh::write(lock, name.as_str().as_bytes())?.replace(&name_file(&hash))?;
        }
        let mut fresh = Fresh::write(lock, content)?;
        // Others that lock nothing may take numbers meanwhile.
        for number in next..=max {
            if !is_wanted(number) {
                return Err(AddError::Disk(DiskError::NotNext { next: number }));
            }
            if fresh.take_name(&signature_name(number))? {
                return Ok(Stored { number, name, new: true });
            }
        }
        Err(AddError::Disk(DiskError::TooMany(max)))
    }

    /// The signatures in a folder, and the first number that is free.
    fn load(&self, folder: &OwnedFd) -> io::Result<(Vec<Kept>, usize)> {
        let limits = self.0.limits;
        let (mut kept, mut names) = (Vec::new(), HashSet::new());
        for number in 1..=limits.signatures {
            let Some(file) = files::open_file(folder, signature_name(number).as_str())? else {
                return Ok((kept, number));
            };
            let content = files::read(&file, limits.size)?;
            if content.len() > limits.size {
                continue;
            }
            let hash = Digest::sha256(&content);
            let chosen = chosen_name(folder, &hash)?.filter(|name| !names.contains(name));
            let name = chosen.unwrap_or_else(|| Name::derived(&hash, |name| names.contains(name)));
            names.insert(name.clone());
            kept.push(Kept { number, name, content });
        }
        Ok((kept, limits.signatures + 1))
    }

    fn on(&self, place: &Place, number: usize, error: io::Error) -> DiskError {
        failed(format!("{}/{place}/signature-{number}", self.0.path.display()), error)
    }

    fn on_folder(&self, place: &Place, error: io::Error) -> DiskError {
        failed(format!("{}/{place}", self.0.path.display()), error)
    }
}

/// What the caller chose.
struct Wanted<'a> {
    name: Option<&'a Name>,
    number: Option<usize>,
}

/// Why nothing could be added.
enum AddError {
    Disk(DiskError),
    Io(io::Error),
}

impl From<io::Error> for AddError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
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
    format!(".name-{}", content.hex())
}

/// The name that was chosen for this content.
fn chosen_name(folder: &OwnedFd, content: &Digest) -> io::Result<Option<Name>> {
    let Some(file) = files::open_file(folder, name_file(content).as_str())? else { return Ok(None) };
    let mut bytes = [0; Name::LENGTH + 1];
    let length = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}
