//! The image makers of a signing host: who signs for which path, with which keys.
//!
//! ```text
//!   DIR/keys/NAME.pgp        public keys, armored; the key directory that the controller follows
//!   DIR/sigstore/            signatures
//!   DIR/imagemakers.json     this registry
//! ```
//! Secret keys are in `GnuPG` homes and nowhere below DIR, which web servers serve.

mod fields;
mod files;
mod folder;
mod period;
mod record;

pub use fields::{check_text, maker_path, store_url};
pub use files::{lay_out, read_bounded};
pub use period::Period;
pub use record::{Maker, MakerKey, State, date};

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sequoia_openpgp::armor::{Kind, Writer};

use crate::signature::openpgp::{KeyInfo, Keyring};

/// Largest registry, in bytes.
const MAX_REGISTRY: u64 = 16 << 20;
/// Largest key file, in bytes, as its readers have it.
const MAX_KEY_FILE: u64 = 4 << 20;
/// How long another command may be at work.
const PATIENCE: Duration = Duration::from_secs(10);

/// The makers of a directory.
#[derive(Debug)]
pub struct Makers {
    directory: PathBuf,
    list: Vec<Maker>,
    /// Whose first key is being made, or was when that was broken off; without keys.
    begun: Vec<Maker>,
    /// While it is there nobody else changes anything.
    _lock: Option<File>,
}

impl Makers {
    /// Reads the registry; without a file there are none. Nothing can be changed.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let (list, begun) = record::read(&directory.join(record::FILE))?;
        Ok(Self { directory: directory.to_owned(), list, begun, _lock: None })
    }

    /// The same to change it: nobody else does until this is dropped.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let path = directory.join(".imagemakers.lock");
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let lock = files::lock_file(&path)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(named(&"another podseal imagemaker is at work here: wait for its end"));
                }
                Err(TryLockError::Error(error)) => return Err(named(&error)),
            }
        }
        Ok(Self { _lock: Some(lock), ..Self::read(directory)? })
    }

    /// All of them, by name.
    pub fn list(&self) -> &[Maker] {
        &self.list
    }

    /// The one of that name; the error names those there are.
    pub fn get(&self, name: &str) -> Result<&Maker, String> {
        self.list.iter().find(|maker| maker.name == name).ok_or_else(|| {
            let names: Vec<_> = self.list.iter().map(|maker| maker.name.as_str()).collect();
            let known =
                if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
            format!("{}: no image maker {name:?}; {known}", self.directory.join(record::FILE).display())
        })
    }

    /// Says why a maker of this name and path cannot be added, if so.
    pub fn refuse(&self, name: &str, path: &str) -> Option<String> {
        for maker in &self.list {
            if maker.name == name {
                return Some(format!("there is an image maker {name} already, for {}", maker.path));
            }
            if maker.path == path {
                let way = "no two makers have the same path";
                return Some(format!("{path} belongs to the image maker {} already: {way}", maker.name));
            }
        }
        self.file_in_the_way(name)
    }

    fn file_in_the_way(&self, name: &str) -> Option<String> {
        let path = self.key_file(&format!("{name}.pgp"));
        if self.half_added(name).is_some() {
            return None;
        }
        std::fs::symlink_metadata(&path).is_ok().then(|| {
            format!("{} is there already, and no image maker's: take it away or choose another name", path.display())
        })
    }

    /// Which maker has this key.
    pub fn holder(&self, fingerprint: &str) -> Option<&Maker> {
        self.list.iter().find(|maker| maker.keys.iter().any(|key| key.fingerprint == fingerprint))
    }

    /// Where a key file lies.
    pub fn key_file(&self, file: &str) -> PathBuf {
        self.directory.join(files::KEYS).join(file)
    }

    /// The bytes of a maker's key file.
    pub fn key_file_of(&self, maker: &Maker) -> Result<Vec<u8>, String> {
        read_bounded(&self.key_file(&maker.key_file), MAX_KEY_FILE)
    }

    /// The certificates in a maker's key file as of `now`.
    pub fn certificates(&self, maker: &Maker, now: SystemTime) -> Result<Vec<KeyInfo>, String> {
        Ok(certificates(&maker.key_file, &self.key_file_of(maker)?, now))
    }

    /// A certificate as the maker's key file holds it, binary; the error says that it does not.
    pub fn published(&self, maker: &Maker, fingerprint: &str) -> Result<Vec<u8>, String> {
        let file = self.key_file_of(maker)?;
        let (keyring, _) = Keyring::from_files([(maker.key_file.as_str(), file.as_slice())]);
        let bytes = keyring.to_bytes_of(|held| held == fingerprint)?;
        if bytes.is_empty() { Err(format!("{} does not hold {fingerprint}", maker.key_file)) } else { Ok(bytes) }
    }

    /// Makers whose first key was begun and which were not added: their keys may be in their homes.
    pub fn begun(&self) -> &[Maker] {
        &self.begun
    }

    /// Records that the first key of this maker is being made, so that it is found when that is broken off.
    pub fn begin(&mut self, maker: Maker) -> Result<(), String> {
        self.begun.retain(|other| other.name != maker.name);
        self.begun.push(Maker { keys: Vec::new(), ..maker });
        self.save()
    }

    /// The opposite: no key of it was made, or it is gone again.
    pub fn give_up(&mut self, name: &str) -> Result<(), String> {
        if self.begun.iter().all(|maker| maker.name != name) {
            return Ok(());
        }
        self.begun.retain(|other| other.name != name);
        self.save()
    }

    /// The one of that name whose key file is published with nothing but its key, and who is not recorded: [`Makers::add`]
    /// was broken off.
    pub fn half_added(&self, name: &str) -> Option<&Maker> {
        let maker = self.begun.iter().find(|maker| maker.name == name && !maker.keys.is_empty())?;
        let held = self.certificates(maker, SystemTime::now()).ok()?;
        let own = check_own(maker, &self.key_file(&maker.key_file)).is_ok();
        (own && !held.is_empty()).then_some(maker)
    }

    /// Adds a maker and publishes its key file, which must not be there yet. Either both are done or neither; broken off in
    /// between, it can be done again with the same key.
    pub fn add(&mut self, maker: Maker, key_file: &[u8]) -> Result<(), String> {
        let path = self.key_file(&maker.key_file);
        let before = (self.list.clone(), self.begun.clone());
        let half = self.half_added(&maker.name).is_some_and(|half| {
            half.keys.iter().map(|key| &key.fingerprint).eq(maker.keys.iter().map(|key| &key.fingerprint))
        });
        // Whose key it is, before it counts.
        self.begun.retain(|other| other.name != maker.name);
        self.begun.push(maker.clone());
        let published = self.save().and_then(|()| {
            if half { files::publish_over(&path, key_file) } else { files::publish_new(&path, key_file) }
        });
        if let Err(why) = published {
            self.begun = before.1;
            return Err(self
                .save()
                .err()
                .filter(|more| *more != why)
                .map_or(why.clone(), |more| format!("{why}; {more}")));
        }
        self.begun.retain(|other| other.name != maker.name);
        self.list.push(maker);
        self.list.sort_by(|a, b| a.name.cmp(&b.name));
        self.save().inspect_err(|_| {
            (self.list, self.begun) = before;
            // Nobody was told of it yet.
            let _ = std::fs::remove_file(&path);
            let _ = self.save();
        })
    }

    /// Publishes a maker's new key file in place of the old one and records its keys. The file must hold nothing but keys
    /// that are recorded as the maker's: whatever else is in it was put there by somebody for a reason.
    pub fn update(&mut self, changed: Maker, key_file: &[u8]) -> Result<(), String> {
        let path = self.key_file(&changed.key_file);
        check_own(&changed, &path)?;
        let Some(at) = self.list.iter().position(|maker| maker.name == changed.name) else {
            return Err(format!("no image maker {}", changed.name));
        };
        let before = self.list.clone();
        let known = |key: &MakerKey| {
            before.get(at).is_some_and(|maker| maker.keys.iter().any(|other| other.fingerprint == key.fingerprint))
        };
        let adds = !changed.keys.iter().all(known);
        if let Some(place) = self.list.get_mut(at) {
            *place = changed;
        }
        // A new key is recorded before it is published, so that it is never taken for somebody else's; anything else
        // after it, so that it can be done again when this is interrupted.
        if adds {
            self.save()?;
        }
        let published = files::publish_over(&path, key_file);
        if let Err(why) = published {
            self.list = before;
            return Err(if adds {
                self.save().err().map_or(why.clone(), |more| format!("{why}; {more}"))
            } else {
                why
            });
        }
        // Saved already, a new key counts: an error now would have its secret part deleted.
        if adds { Ok(()) } else { self.save() }
    }

    /// Takes a maker out, and its key file with it unless that is to stay. A file that goes must hold nothing but keys that
    /// are recorded as the maker's.
    pub fn remove(&mut self, name: &str, keep_file: bool) -> Result<Maker, String> {
        let maker = self.get(name)?.clone();
        if !keep_file {
            let path = self.key_file(&maker.key_file);
            check_own(&maker, &path)?;
            // The file first: what is still recorded can be removed again when this is interrupted.
            files::withdraw(&path)?;
        }
        self.list.retain(|other| other.name != name);
        self.save().map(|()| maker)
    }

    fn save(&self) -> Result<(), String> {
        // Nothing is written that could not be read again.
        fields::check(&self.list).and_then(|()| fields::check_begun(&self.begun))?;
        files::publish_over(&self.directory.join(record::FILE), record::text(&self.list, &self.begun)?.as_bytes())
    }
}

/// Whether a file holds nothing but keys of this maker.
fn check_own(maker: &Maker, path: &Path) -> Result<(), String> {
    let Ok(about) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !about.is_file() {
        return Err(format!("{}: not a regular file, and left alone", path.display()));
    }
    let held: BTreeSet<_> = certificates(&maker.key_file, &read_bounded(path, MAX_KEY_FILE)?, SystemTime::now())
        .into_iter()
        .map(|key| key.fingerprint)
        .collect();
    let foreign: Vec<_> =
        held.into_iter().filter(|print| maker.keys.iter().all(|key| key.fingerprint != *print)).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} holds keys that are not the maker {}'s ({}), and is left alone: move them to a file of their own",
        path.display(),
        maker.name,
        foreign.join(", ")
    ))
}

/// The certificates of a key file as of `now`; one that cannot be read is not among them.
pub fn certificates(file: &str, bytes: &[u8], now: SystemTime) -> Vec<KeyInfo> {
    Keyring::from_files([(file, bytes)]).0.keys(now)
}

/// Binary certificates as one armored block.
pub fn armored(certificates: &[u8]) -> Result<Vec<u8>, String> {
    let write = || {
        let mut writer = Writer::new(Vec::new(), Kind::PublicKey)?;
        writer.write_all(certificates)?;
        writer.finalize()
    };
    write().map_err(|error: std::io::Error| format!("the key file cannot be written: {error}"))
}

#[cfg(test)]
mod tests;
