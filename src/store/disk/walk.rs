//! What a folder of signatures holds, without reading the signatures.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::files::{self, Lock};
use super::place::{Place, signature_number};
use super::{DiskError, SignatureDir};

/// Deepest folder that is looked into: more than a repository path has parts.
const MAX_DEPTH: usize = 130;

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

    /// The same, and removes what writers that were killed left behind; the second value says how many files.
    pub fn walk_and_sweep(&self, limit: usize) -> Result<(Walk, usize), DiskError> {
        let mut walker = Walker { left: limit, walk: Walk::default(), swept: Some(0) };
        walker.start(self)?;
        Ok((walker.walk, walker.swept.unwrap_or_default()))
    }
}

struct Walker {
    left: usize,
    walk: Walk,
    swept: Option<usize>,
}

impl Walker {
    fn start(&mut self, dir: &SignatureDir) -> Result<(), DiskError> {
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
        Ok(())
    }

    fn look(&mut self, folder: &OwnedFd, path: &str, folders: &mut Vec<String>) {
        if let Ok(place) = path.parse::<Place>() {
            return self.count(folder, place);
        }
        let Ok(names) = files::names(folder) else { return };
        for name in names.map_while(Result::ok) {
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
    }

    fn count(&mut self, folder: &OwnedFd, place: Place) {
        if let Some(swept) = &mut self.swept
            // Whoever has the lock sweeps as well.
            && let Ok(Some(lock)) = Lock::take(folder, Duration::ZERO)
        {
            *swept += lock.sweep().unwrap_or_default();
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
