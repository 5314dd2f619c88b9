//! When a file may be believed, and when its disappearance.
//!
//! Files are written in pieces, and directories are unmounted, exchanged and emptied by accident. So a file is read once it
//! was left alone for [`QUIET`], longer while somebody has it open for writing; and a file counts as withdrawn only if it
//! was seen to go from a directory that stayed the same, stayed readable and kept another file with a key. Pure: the
//! moments are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::directory::{Found, Identity, Listing};
use super::name::KeyName;

/// A file, or its absence, is believed when nothing changed for so long.
pub const QUIET: Duration = Duration::from_millis(500);
/// The same while it is open for writing. Not for ever: who keeps it open must not keep it from being read.
const WRITING: Duration = Duration::from_secs(10);
/// After so long a file is read although it changes and changes.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Seen {
    /// As last listed; `None` when it is gone.
    entry: Option<(KeyName, Found)>,
    /// When it was first listed, last changed, and first changed after it was last read.
    first: Instant,
    changed: Instant,
    pending: Option<Instant>,
    writing: bool,
    /// Whether it held a key when it was last read; `None` before.
    held: Option<bool>,
}

impl Seen {
    fn change(&mut self, now: Instant) {
        self.changed = now;
        self.pending.get_or_insert(now);
    }

    /// When it may be believed; `None` when nothing changed since it was.
    fn due(&self) -> Option<Instant> {
        let pause = if self.writing && self.entry.is_some() { WRITING } else { QUIET };
        self.pending.map(|pending| (self.changed + pause).min(pending + PATIENCE))
    }

    fn is_gone(&self, now: Instant) -> bool {
        self.entry.is_none() && self.due().is_some_and(|at| at <= now)
    }
}

/// A file that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its name.
    pub file: String,
    /// Whether its Secret is to go as well.
    pub withdrawn: bool,
}

/// What is known about the directory since it was last lost.
#[derive(Debug, Default)]
pub struct Tracker {
    identity: Option<Identity>,
    files: BTreeMap<String, Seen>,
}

impl Tracker {
    /// The directory could not be listed. What is missing when it comes back was not seen to go.
    pub fn lost(&mut self) {
        *self = Self::default();
    }

    /// The directory as it was listed `now`. Gives whether it is another one than before: then all that was known is not
    /// any more, and nothing of it was seen to go.
    pub fn observe(&mut self, listing: &Listing, now: Instant) -> bool {
        let another = self.identity != Some(listing.identity);
        if another {
            self.lost();
            self.identity = Some(listing.identity);
        }
        for (file, seen) in &mut self.files {
            if seen.entry.is_some() && !listing.files.contains_key(file) {
                seen.entry = None;
                seen.change(now);
            }
        }
        for (file, entry) in &listing.files {
            let seen = self.files.entry(file.clone()).or_insert_with(|| Seen {
                entry: None,
                first: now,
                changed: now,
                pending: None,
                writing: false,
                held: None,
            });
            if seen.entry.as_ref() != Some(entry) {
                seen.entry = Some(entry.clone());
                seen.change(now);
            }
        }
        another
    }

    /// Something was done to a file; `writing` says that more is to come.
    pub fn touched(&mut self, file: &str, writing: bool, now: Instant) {
        if let Some(seen) = self.files.get_mut(file) {
            seen.writing = writing;
            seen.change(now);
        }
    }

    /// Something was done, and it is not known to what.
    pub fn touched_something(&mut self, now: Instant) {
        self.files.values_mut().for_each(|seen| seen.change(now));
    }

    /// Has every file that was believed read again.
    pub fn recheck(&mut self) {
        for seen in self.files.values_mut() {
            seen.pending.get_or_insert(seen.changed);
        }
    }

    /// The files to be read now.
    pub fn due(&self, now: Instant) -> Vec<(KeyName, Found)> {
        let due = self.files.values().filter(|seen| seen.due().is_some_and(|at| at <= now));
        due.filter_map(|seen| seen.entry.clone()).collect()
    }

    /// A file was read in the state that was listed.
    pub fn believed(&mut self, file: &str, holds_key: bool) {
        if let Some(seen) = self.files.get_mut(file) {
            seen.pending = None;
            seen.writing = false;
            seen.held = Some(holds_key);
        }
    }

    /// Whether [`Self::gone`] would name a file.
    pub fn someone_gone(&self, now: Instant) -> bool {
        self.complete() && self.files.values().any(|seen| seen.is_gone(now))
    }

    /// The files whose disappearance is to be believed now; each is told once.
    pub fn gone(&mut self, now: Instant) -> Vec<Gone> {
        if !self.complete() {
            // Whether another key stayed is not known yet.
            return Vec::new();
        }
        let files = self.files.iter().filter(|(_, seen)| seen.is_gone(now));
        let files: Vec<_> = files.map(|(file, _)| file.clone()).collect();
        let stays = |went: Instant| {
            self.files.values().any(|seen| seen.entry.is_some() && seen.held == Some(true) && seen.first <= went)
        };
        let withdrawn = |file: &String| self.files.get(file).is_some_and(|seen| stays(seen.changed));
        let gone: Vec<_> = files.iter().map(|file| Gone { file: file.clone(), withdrawn: withdrawn(file) }).collect();
        self.files.retain(|file, _| !files.contains(file));
        gone
    }

    /// Whether every file that is there was read at least once.
    pub fn complete(&self) -> bool {
        self.files.values().all(|seen| seen.entry.is_none() || seen.held.is_some())
    }

    /// Whether the file is there, or its absence not believed yet.
    pub fn tracks(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        self.files.values().filter_map(Seen::due).min()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::directory::list;
    use super::*;

    /// A real directory, a clock that is moved by hand, and a reader that finds a key in every file but `empty…`.
    struct Desk {
        folder: tempfile::TempDir,
        tracker: Tracker,
        now: Instant,
    }

    impl Desk {
        fn new(files: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("keys")).unwrap();
            let mut desk = Self { folder, tracker: Tracker::default(), now: Instant::now() };
            for file in files {
                desk.write(file, "x");
            }
            desk.pass(0);
            desk.pass(500);
            desk.read();
            desk
        }

        fn path(&self, file: &str) -> std::path::PathBuf {
            self.folder.path().join("keys").join(file)
        }

        fn write(&mut self, file: &str, text: &str) {
            fs::write(self.path(file), text).unwrap();
        }

        fn remove(&mut self, file: &str) {
            fs::remove_file(self.path(file)).unwrap();
        }

        fn pass(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
            match list(&self.folder.path().join("keys")) {
                Ok(listing) => drop(self.tracker.observe(&listing, self.now)),
                Err(_) => self.tracker.lost(),
            }
        }

        fn due(&self) -> Vec<String> {
            self.tracker.due(self.now).into_iter().map(|(name, _)| name.file).collect()
        }

        fn read(&mut self) -> Vec<String> {
            let due = self.due();
            for file in &due {
                self.tracker.believed(file, !file.starts_with("empty"));
            }
            due
        }

        /// What is told to be gone after everything was left alone.
        fn gone(&mut self) -> Vec<(String, bool)> {
            self.pass(0);
            self.pass(500);
            self.read();
            self.tracker.gone(self.now).into_iter().map(|gone| (gone.file, gone.withdrawn)).collect()
        }
    }

    fn told(file: &str, withdrawn: bool) -> Vec<(String, bool)> {
        vec![(file.to_owned(), withdrawn)]
    }

    #[test]
    fn a_file_is_read_once_it_was_left_alone() {
        let mut desk = Desk::new(&["a.pgp"]);
        assert!(desk.due().is_empty());
        desk.write("b.pgp", "half");
        desk.pass(0);
        assert_eq!(desk.tracker.next(), Some(desk.now + QUIET));
        desk.pass(400);
        desk.write("b.pgp", "half and half");
        desk.pass(50);
        desk.pass(499);
        assert!(desk.due().is_empty());
        desk.pass(1);
        assert_eq!(desk.read(), ["b.pgp"]);
        assert_eq!(desk.tracker.next(), None);
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for_but_not_for_ever() {
        let mut desk = Desk::new(&["a.pgp"]);
        desk.tracker.touched("a.pgp", true, desk.now);
        desk.pass(9_900);
        assert!(desk.due().is_empty());
        desk.tracker.touched("a.pgp", false, desk.now);
        desk.pass(500);
        assert_eq!(desk.read(), ["a.pgp"], "closed");
        desk.tracker.touched("a.pgp", true, desk.now);
        desk.pass(10_000);
        assert_eq!(desk.read(), ["a.pgp"], "open and left alone");
        for _ in 0..100 {
            desk.tracker.touched("a.pgp", true, desk.now);
            desk.pass(301);
        }
        assert_eq!(desk.read(), ["a.pgp"], "written and written");
    }

    #[test]
    fn a_file_that_is_rewritten_within_one_tick_of_the_clock_is_read_again() {
        let mut desk = Desk::new(&["a.pgp"]);
        desk.tracker.touched("a.pgp", false, desk.now);
        desk.pass(500);
        assert_eq!(desk.read(), ["a.pgp"]);
        desk.tracker.touched_something(desk.now);
        desk.pass(500);
        assert_eq!(desk.read(), ["a.pgp"]);
        desk.tracker.recheck();
        assert_eq!(desk.read(), ["a.pgp"]);
    }

    #[test]
    fn a_file_that_goes_while_another_stays_is_withdrawn() {
        let mut desk = Desk::new(&["a.pgp", "b.pgp"]);
        desk.remove("a.pgp");
        desk.pass(0);
        desk.pass(499);
        assert!(desk.tracker.gone(desk.now).is_empty(), "an editor may put it back");
        assert_eq!(desk.gone(), told("a.pgp", true));
        assert!(desk.gone().is_empty(), "once");
    }

    #[test]
    fn a_file_that_comes_back_soon_was_never_gone() {
        let mut desk = Desk::new(&["a.pgp", "b.pgp"]);
        desk.remove("a.pgp");
        desk.pass(300);
        desk.write("a.pgp", "new");
        assert!(desk.gone().is_empty());
    }

    #[test]
    fn the_last_file_is_not_withdrawn_nor_are_all_at_once() {
        let mut desk = Desk::new(&["a.pgp"]);
        desk.remove("a.pgp");
        assert_eq!(desk.gone(), told("a.pgp", false));
        let mut desk = Desk::new(&["a.pgp", "b.pgp"]);
        desk.remove("a.pgp");
        desk.remove("b.pgp");
        assert_eq!(desk.gone(), [told("a.pgp", false), told("b.pgp", false)].concat());
    }

    #[test]
    fn a_file_without_a_key_and_a_file_that_came_later_are_no_others_that_stayed() {
        let mut desk = Desk::new(&["a.pgp", "empty.pgp"]);
        desk.remove("a.pgp");
        assert_eq!(desk.gone(), told("a.pgp", false));
        let mut desk = Desk::new(&["a.pgp"]);
        desk.remove("a.pgp");
        desk.pass(0);
        desk.pass(100);
        desk.write("b.pgp", "x");
        desk.pass(0);
        assert_eq!(desk.gone(), told("a.pgp", false));
    }

    #[test]
    fn nothing_is_withdrawn_before_all_others_were_read() {
        let mut desk = Desk::new(&[]);
        desk.write("a.pgp", "x");
        desk.write("b.pgp", "x");
        desk.pass(0);
        desk.remove("a.pgp");
        desk.pass(100);
        desk.pass(500);
        assert!(!desk.tracker.complete() && desk.tracker.gone(desk.now).is_empty());
        assert_eq!(desk.gone(), told("a.pgp", true));
    }

    #[test]
    fn what_is_missing_after_the_directory_was_lost_was_not_seen_to_go() {
        let mut desk = Desk::new(&["a.pgp", "b.pgp"]);
        desk.tracker.lost();
        desk.remove("a.pgp");
        assert!(desk.gone().is_empty());

        let mut desk = Desk::new(&["a.pgp", "b.pgp"]);
        let keys = desk.folder.path().join("keys");
        fs::rename(&keys, desk.folder.path().join("elsewhere")).unwrap();
        assert!(desk.gone().is_empty(), "the whole directory went");
        fs::create_dir(&keys).unwrap();
        desk.write("b.pgp", "x");
        assert!(desk.gone().is_empty(), "another directory has not lost what it never had");
    }
}
