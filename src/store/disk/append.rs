//! Adding a signature.

use std::io;
use std::os::fd::OwnedFd;
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
        self.append_unless(place, content, Choice { name, number: None }, &Rules::NONE)
    }

    /// The same under this number and no other; [`DiskError::NotNext`] if it is not the next one.
    pub fn append_as(&self, place: &Place, content: &[u8], number: usize) -> Result<Stored, DiskError> {
        self.append_unless(place, content, Choice { name: None, number: Some(number) }, &Rules::NONE)
    }

    /// The same, unless the rules speak against it: they are asked while no other writer of this module adds a signature,
    /// and not for bytes that are there already.
    pub fn append_unless(
        &self,
        place: &Place,
        content: &[u8],
        choice: Choice<'_>,
        rules: &Rules<'_>,
    ) -> Result<Stored, DiskError> {
        let wanted = &Wanted { choice, rules };
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
        if files::open_folder(&self.0.root, place.folders().join("/").as_str()).map_err(on_folder)?.is_none() {
            // What is not going to be stored must leave no folder: whoever may upload could make millions of them.
            self.admit(&[], 1, wanted)?;
        }
        let mut way = Way::default();
        let stored = self.append_on(&mut way, place, content, wanted);
        if stored.is_err() {
            way.take_back(&self.0.root);
        }
        stored.map_err(|error| match error {
            DiskError::Io { what, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                DiskError::NotAllowed { right: self.missing_right(place), what, source }
            }
            error => error,
        })
    }

    fn append_on(
        &self,
        way: &mut Way,
        place: &Place,
        content: &[u8],
        wanted: &Wanted<'_>,
    ) -> Result<Stored, DiskError> {
        let on_folder = |error| self.on_folder(place, error);
        for name in place.folders() {
            way.make(&self.0.root, name).map_err(on_folder)?;
        }
        let Some(folder) = way.0.last().map(|step| &step.folder) else {
            return Err(on_folder(io::ErrorKind::InvalidInput.into()));
        };
        let lock = Lock::take(folder, PATIENCE).map_err(on_folder)?.ok_or(DiskError::Busy)?;
        lock.sweep().map_err(on_folder)?;
        let (Listing { kept, .. }, next) = self.load(place, lock.folder()).map_err(on_folder)?;
        let stored = match Self::same(&kept, content, wanted)? {
            Some(stored) => stored,
            None => self.add(&lock, &kept, next, content, wanted).map_err(|error| match error {
                AddError::Disk(error) => error,
                AddError::Io(error) => on_folder(error),
            })?,
        };
        // Also for one that was there: its writer may have been killed before this. From the inside to the outside, and
        // all of them, because another writer may have made a folder and not have come so far.
        for folder in way.0.iter().rev().map(|step| &step.folder).chain([&self.0.root]) {
            files::sync(folder).map_err(on_folder)?;
        }
        Ok(stored)
    }

    /// What somebody who may has to do for whoever may not write here: the innermost folder that there is says why.
    fn missing_right(&self, place: &Place) -> String {
        let root = &self.0.path;
        let mut folder = root.clone();
        for name in place.folders() {
            let inner = folder.join(name);
            if !inner.is_dir() {
                break;
            }
            folder = inner;
        }
        format!(
            "whoever signs writes to {folder} ({rights}), and this user may not: as root, chgrp -R GROUP {root} && find {root} \
             -type d -exec chmod 2775 {{}} +, with a group of all who sign",
            folder = folder.display(),
            rights = files::rights_of(&folder),
            root = root.display(),
        )
    }

    /// The signature that has these bytes, or else another form of it.
    fn same(kept: &[Kept], content: &[u8], wanted: &Wanted<'_>) -> Result<Option<Stored>, DiskError> {
        let identical = kept.iter().find(|kept| kept.content == content);
        if let Some(same) = identical.or_else(|| kept.iter().find(|kept| (wanted.rules.same)(kept))) {
            return Ok(Some(Stored { number: same.number, name: same.name.clone(), new: false }));
        }
        match wanted.choice.name {
            Some(name) if kept.iter().any(|kept| kept.name == *name) => Err(DiskError::NameTaken(name.clone())),
            _ => Ok(None),
        }
    }

    /// Whether one more may be added under the next number.
    fn admit(&self, kept: &[Kept], next: usize, wanted: &Wanted<'_>) -> Result<(), DiskError> {
        if !wanted.is(next) {
            return Err(DiskError::NotNext { next });
        }
        if next > self.0.limits.signatures {
            return Err(DiskError::TooMany(self.0.limits.signatures));
        }
        (wanted.rules.objection)(kept).map_or(Ok(()), |why| Err(DiskError::Refused(why)))
    }

    fn add(
        &self,
        lock: &Lock<'_>,
        kept: &[Kept],
        next: usize,
        content: &[u8],
        wanted: &Wanted<'_>,
    ) -> Result<Stored, AddError> {
        self.admit(kept, next, wanted).map_err(AddError::Disk)?;
        let hash = Digest::sha256(content);
        let own = Name::derived(&hash, |name| kept.iter().any(|k| k.name == *name));
        let name = wanted.choice.name.unwrap_or(&own).clone();
        // The larger one first: on a full disk nothing is named before all of it is there.
        let mut fresh = Fresh::write(lock, content)?;
        let name_file = name_file(&hash);
        if name == own {
            // One may be left of a writer that was killed before it stored the signature.
            files::remove(lock, &name_file)?;
        } else {
            Fresh::write(lock, name.as_str().as_bytes())?.replace(&name_file)?;
        }
        let number = self.take_number(&mut fresh, next, wanted);
        if number.is_err() {
            // Nothing has that content, so the name is nobody's.
            let _ = files::remove(lock, &name_file);
        }
        Ok(Stored { number: number?, name, new: true })
    }

    /// Gives a signature the first number that is free, from `next` on.
    fn take_number(&self, fresh: &mut Fresh<'_>, next: usize, wanted: &Wanted<'_>) -> Result<usize, AddError> {
        let max = self.0.limits.signatures;
        // Others that lock nothing may take numbers meanwhile.
        for number in next..=max {
            if !wanted.is(number) {
                return Err(AddError::Disk(DiskError::NotNext { next: number }));
            }
            if fresh.take_name(&signature_name(number))? {
                return Ok(number);
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

/// What whoever stores says of a signature beside those that there are. Both may take their time.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Whether this is the same signature in another form, and nothing is to be stored.
    pub same: &'a dyn Fn(&Kept) -> bool,
    /// Why it must not be stored beside these, if so.
    pub objection: &'a dyn Fn(&[Kept]) -> Option<String>,
}

impl Rules<'_> {
    /// Only the same bytes are the same, and everything is stored.
    const NONE: Rules<'static> = Rules { same: &|_| false, objection: &|_| None };
}

/// What the caller wants.
struct Wanted<'a> {
    choice: Choice<'a>,
    rules: &'a Rules<'a>,
}

impl Wanted<'_> {
    /// Whether the caller wants this number.
    fn is(&self, free: usize) -> bool {
        self.choice.number.is_none_or(|number| number == free)
    }
}

/// The folders that lead to a place, from the outside to the inside.
#[derive(Default)]
struct Way(Vec<Step>);

struct Step {
    folder: OwnedFd,
    name: String,
    /// It was not there before.
    made: bool,
}

impl Way {
    /// One more folder in the last.
    fn make(&mut self, root: &OwnedFd, name: String) -> io::Result<()> {
        let (folder, made) = files::make_folder(self.0.last().map_or(root, |step| &step.folder), &name)?;
        self.0.push(Step { folder, name, made });
        Ok(())
    }

    /// Removes what was made, as far as nobody has put anything into it. Another writer that is in one of them begins anew.
    fn take_back(mut self, root: &OwnedFd) {
        while let Some(step) = self.0.pop().filter(|step| step.made) {
            let outer = self.0.last().map_or(root, |step| &step.folder);
            if files::remove_empty(outer, &step.name).is_err() {
                return;
            }
        }
    }
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
