//! What a folder of signatures holds, without reading the signatures.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::fstat;

use super::files::{self, Lock};
use super::place::{Place, signature_number};
use super::{DiskError, NAME_FILE, SignatureDir};

/// Deepest folder that is looked into: more than a repository path has parts.
const MAX_DEPTH: usize = 130;
/// An empty folder is left of a writer that was killed if nothing was done in it for so long. Others are about to be used.
const FORSAKEN: Duration = Duration::from_secs(60 * 60);
/// How often it is looked again at what was not reached because of empty folders.
const ROUNDS: usize = 1000;

/// A digest with signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub place: Place,
    /// Its signatures, up to the first number that is missing.
    pub signatures: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// The digests with signatures, sorted by repository path and digest.
    pub seen: Vec<Seen>,
    /// Whether there is more than was looked at.
    pub more: bool,
}

impl SignatureDir {
    /// Looks through the whole folder, at `limit` entries of folders at the most. What has no name of ours is passed
    /// over, and so is what cannot be opened.
    pub fn walk(&self, limit: usize) -> Result<Walk, DiskError> {
        let mut walker = Walker { left: limit, walk: Walk::default(), swept: None };
        walker.start(self)?;
        Ok(walker.walk)
    }

    /// The same, and removes what writers that were killed left behind; the second value says how many files and folders.
    pub fn walk_and_sweep(&self, limit: usize) -> Result<(Walk, usize), DiskError> {
        let mut swept = 0;
        for _ in 0..ROUNDS {
            let mut walker = Walker { left: limit, walk: Walk::default(), swept: Some(Swept::default()) };
            let root = walker.start(self)?;
            let found = walker.swept.unwrap_or_default();
            let folders: usize = found.empty.iter().map(|path| remove_upwards(&root, path)).sum();
            swept += found.files + folders;
            if !walker.walk.more || folders == 0 {
                return Ok((walker.walk, swept));
            }
        }
        Ok((self.walk(limit)?, swept))
    }
}

struct Walker {
    left: usize,
    walk: Walk,
    swept: Option<Swept>,
}

/// What is left of writers that were killed.
#[derive(Default)]
struct Swept {
    /// Files that were removed.
    files: usize,
    /// Folders with nothing in them, by their path below the root.
    empty: Vec<String>,
}

/// Removes an empty folder, and those around it that are empty by that; the number of them.
fn remove_upwards(root: &OwnedFd, path: &str) -> usize {
    let (mut path, mut removed) = (path, 0);
    while !path.is_empty() {
        let (outer, name) = path.rsplit_once('/').unwrap_or(("", path));
        let gone = if outer.is_empty() {
            files::remove_empty(root, name)
        } else {
            let Ok(Some(folder)) = files::open_folder(root, outer) else { return removed };
            files::remove_empty(folder, name)
        };
        if gone.is_err() {
            return removed;
        }
        (path, removed) = (outer, removed + 1);
    }
    removed
}

impl Walker {
    fn start(&mut self, dir: &SignatureDir) -> Result<OwnedFd, DiskError> {
        let failed = |e| super::failed(format!("cannot look through {}", dir.path().display()), e);
        let root = files::open_root(dir.path()).map_err(failed)?;
        // Folders that are still to be looked into, by their path below the root: descriptors are few.
        let mut folders = vec![String::new()];
        while let Some(path) = folders.pop() {
            let opened =
                if path.is_empty() { root.try_clone().map(Some) } else { files::open_folder(&root, path.as_str()) };
            match opened {
                Ok(Some(folder)) => self.look(&folder, &path, &mut folders),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, folder = %path, "a folder of the signature store is passed over"),
            }
        }
        self.walk.seen.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(root)
    }

    fn look(&mut self, folder: &OwnedFd, path: &str, folders: &mut Vec<String>) {
        if let Ok(place) = path.parse::<Place>() {
            return self.count(folder, place);
        }
        let Ok(names) = files::names(folder) else { return };
        let mut empty = true;
        for name in names.map_while(Result::ok) {
            empty = false;
            if !self.admit() {
                return;
            }
            // No repository's part and no digest's folder begins with a dot or has other characters than these.
            let plain =
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@=".contains(&b)) && !name.starts_with('.');
            if plain && path.split('/').count() < MAX_DEPTH {
                folders.push(if path.is_empty() { name } else { format!("{path}/{name}") });
            }
        }
        if empty {
            self.is_empty(folder, path);
        }
    }

    /// Remembers a folder that nobody uses.
    fn is_empty(&mut self, folder: &OwnedFd, path: &str) {
        if let Some(swept) = &mut self.swept
            && is_forsaken(folder)
        {
            swept.empty.push(path.to_owned());
        }
    }

    fn count(&mut self, folder: &OwnedFd, place: Place) {
        if let Some(swept) = &mut self.swept {
            swept.digest(folder, &place);
        }
        let Ok(names) = files::names(folder) else { return };
        let mut numbers: Vec<usize> = Vec::new();
        for name in names.map_while(Result::ok) {
            if !self.admit() {
                break;
            }
            numbers.extend(signature_number(&name));
        }
        numbers.sort_unstable();
        let signatures = numbers.iter().zip(1..).take_while(|(number, wanted)| **number == *wanted).count();
        if signatures > 0 {
            self.walk.seen.push(Seen { place, signatures });
        }
    }

    fn admit(&mut self) -> bool {
        self.walk.more |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.walk.more
    }
}

impl Swept {
    /// Sweeps the folder of a digest. In one without signatures, names are those of signatures that could not be stored.
    fn digest(&mut self, folder: &OwnedFd, place: &Place) {
        // Asked first: what is removed changes the time.
        let forsaken = is_forsaken(folder);
        // Whoever has the lock sweeps as well, and stores something.
        let Ok(Some(lock)) = Lock::take(folder, Duration::ZERO) else { return };
        self.files += lock.sweep().unwrap_or_default();
        if !forsaken {
            return;
        }
        let Ok(names) = files::names(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) else { return };
        if !names.iter().all(|name| name.starts_with(NAME_FILE)) {
            return;
        }
        self.files += names.iter().filter(|name| files::remove(&lock, name).is_ok()).count();
        // A writer that waits for the lock finds the folder gone, and begins anew.
        self.empty.push(place.to_string());
    }
}

/// Whether nobody has done anything in this folder for long.
fn is_forsaken(folder: &OwnedFd) -> bool {
    let changed = fstat(folder).ok().and_then(|stat| u64::try_from(stat.st_mtime).ok());
    let changed = changed.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    changed.is_some_and(|at| at.elapsed().is_ok_and(|age| age > FORSAKEN))
}
