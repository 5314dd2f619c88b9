//! Looks into the key directory: names and stamps first, then the bytes of what is worth reading.
//!
//! Whoever can write into the directory may put anything there: pipes, devices, links in circles, files of any size and
//! number. Nothing here blocks on a pipe, follows a link that leads nowhere, or reads more than a bounded amount.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::content::MAX_FILE;
use super::name::KeyName;

/// Entries of the directory, of whatever kind, at most.
const MAX_ENTRIES: usize = 10_000;
/// Key files that are kept, at most, and their bytes together.
const MAX_FILES: usize = 500;
const MAX_TOTAL: u64 = 16 << 20;

/// Which directory it is: device and inode. Another one under the same path (mounted, renamed) is another directory.
pub type Identity = (u64, u64);

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    file: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: identity(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// One entry with the name of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file, after links.
    File(Stamp),
    /// Something else: it holds no key, whatever was there before.
    Other(&'static str),
    /// It cannot be told what it holds.
    Unreadable(String),
}

/// What a directory holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which directory it was.
    pub identity: Identity,
    /// Key files by name.
    pub files: BTreeMap<String, (KeyName, Found)>,
    /// Key files that cannot be used because of their names or number, and why.
    pub refused: BTreeMap<String, String>,
}

/// Why the bytes of a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// It changed meanwhile; look again.
    Changed,
    /// The system said why not.
    Unreadable(String),
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Which directory stands at the path now, if any.
pub fn identify(directory: &Path) -> Option<Identity> {
    fs::metadata(directory).ok().filter(Metadata::is_dir).map(|metadata| identity(&metadata))
}

/// Lists the directory. The error says why it cannot be: then nothing is known about any file.
pub fn list(directory: &Path) -> Result<Listing, String> {
    let before = identify(directory).ok_or_else(|| match fs::metadata(directory) {
        Err(error) => error.to_string(),
        Ok(_) => "not a directory".to_owned(),
    })?;
    let mut listing = Listing { identity: before, files: BTreeMap::new(), refused: BTreeMap::new() };
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    for (count, entry) in entries.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} entries; only key files belong there"));
        }
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let name = name.to_string_lossy();
        match KeyName::read(&name) {
            None => {}
            Some(Err(why)) => drop(listing.refused.insert(super::content::cut(&name, 100), why)),
            Some(Ok(key)) => drop(listing.files.insert(name.into_owned(), (key, Found::Other("")))),
        }
    }
    for (name, (_, found)) in &mut listing.files {
        *found = look(&directory.join(name));
    }
    if identify(directory) != Some(before) {
        return Err("it was exchanged for another one while it was listed".to_owned());
    }
    limit(&mut listing);
    Ok(listing)
}

/// Looks at one entry, through links.
fn look(path: &Path) -> Found {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Found::File(Stamp::of(&metadata)),
        Ok(metadata) => Found::Other(kind(&metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Unreadable("a link that leads nowhere".to_owned()),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Leaves out what is too much: by name, so that it is always the same files.
fn limit(listing: &mut Listing) {
    let (mut files, mut total) = (0, 0_u64);
    let refused = &mut listing.refused;
    listing.files.retain(|name, (_, found)| {
        let size = match found {
            // A file that is too large by itself is not read, and tells so by itself.
            Found::File(stamp) if stamp.size <= MAX_FILE as u64 => stamp.size,
            _ => 0,
        };
        let fits = files < MAX_FILES && total.saturating_add(size) <= MAX_TOTAL;
        if fits {
            (files, total) = (files + 1, total + size);
        } else {
            let why = format!("more than {MAX_FILES} key files or {} MiB of them in all", MAX_TOTAL >> 20);
            refused.insert(name.clone(), why);
        }
        fits
    });
}

/// The bytes of a file whose stamp was seen, at most one more than [`MAX_FILE`], and only if it is in that state still.
pub fn read(path: &Path, stamp: Stamp) -> Result<Vec<u8>, ReadError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => ReadError::Changed,
        _ => ReadError::Unreadable(error.to_string()),
    };
    // Should a pipe have taken the file's place, opening it must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let mut file = File::from(opened.map_err(|error| failed(error.into()))?);
    unchanged(&file, stamp)?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    unchanged(&file, stamp)?;
    Ok(bytes)
}

fn unchanged(file: &File, stamp: Stamp) -> Result<(), ReadError> {
    let metadata = file.metadata().map_err(|error| ReadError::Unreadable(error.to_string()))?;
    if metadata.is_file() && Stamp::of(&metadata) == stamp { Ok(()) } else { Err(ReadError::Changed) }
}

#[cfg(test)]
mod tests;
