//! Adding a signature.

use std::io;
use std::time::Duration;

use super::files::{self, Fresh, Lock};
use super::place::signature_name;
use super::{DiskError, Kept, Listing, Name, Place, SignatureDir, Stored, name_file};
use crate::domain::digest::Digest;

/// How long a writer waits for others that write to the same digest.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is tried again when the folder was removed meanwhile.
const TRIES: usize = 5;

impl SignatureDir {
    /// Stores a signature under the next number, or gives the one that has the same bytes.
    ///
    /// When this returns it is on the disk: complete, with its name, and with the folders that lead to it. Without a
    /// `name` it gets the one that its content has. `content` is not looked at.
    pub fn append(&self, place: &Place, content: &[u8], name: Option<&Name>) -> Result<Stored, DiskError> {
        self.append_unless(place, content, Choice { name, number: None }, &|_| None)
    }

    /// The same under this number and no other; [`DiskError::NotNext`] if it is not the next one.
    pub fn append_as(&self, place: &Place, content: &[u8], number: usize) -> Result<Stored, DiskError> {
        self.append_unless(place, content, Choice { name: None, number: Some(number) }, &|_| None)
    }

    /// The same, unless something speaks against it: `objection` is asked while no other writer of this module adds a
    /// signature, with those that there are, and not for bytes that are there already.
    pub fn append_unless(
        &self,
        place: &Place,
        content: &[u8],
        choice: Choice<'_>,
        objection: &dyn Fn(&[Kept]) -> Option<String>,
    ) -> Result<Stored, DiskError> {
        let wanted = &Wanted { name: choice.name, number: choice.number, objection };
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
        let (Listing { kept, .. }, next) = self.load(place, lock.folder()).map_err(on_folder)?;
        let stored = match Self::same(&kept, content, wanted.name)? {
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
    fn same(kept: &[Kept], content: &[u8], name: Option<&Name>) -> Result<Option<Stored>, DiskError> {
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
        if let Some(why) = (wanted.objection)(kept) {
            return Err(AddError::Disk(DiskError::Refused(why)));
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
}

/// What is chosen for a signature that is to be stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Its name.
    pub name: Option<&'a Name>,
    /// Its number, and no other.
    pub number: Option<usize>,
}

/// What the caller chose.
struct Wanted<'a> {
    name: Option<&'a Name>,
    number: Option<usize>,
    objection: &'a dyn Fn(&[Kept]) -> Option<String>,
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
