//! Follows the directory: when to look, what to read, what became of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::content::{self, Refusal};
use super::directory::{self, Found, Listing, ReadError};
use super::model::{Directory, FileState, Files, KeyFile};
use super::name::KeyName;
use super::notices::{Notice, Notices, Watch};
use super::tracker::Tracker;

/// The regular look: what the kernel does not tell of (network file systems, links to elsewhere) is seen by it.
const LOOK: Duration = Duration::from_secs(10);
/// The same while nothing can be told by the kernel, or the directory is not there.
const LOOK_SOONER: Duration = Duration::from_secs(2);
/// Everything is read again so often, in case a stamp did not tell.
const RECHECK: Duration = Duration::from_secs(60);
/// Notices come in bursts.
const BURST: Duration = Duration::from_millis(20);
/// A file system that does not answer for so long counts as unreadable.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a file holds is judged again so often: User IDs and keys become invalid with time.
const JUDGE: Duration = Duration::from_secs(60 * 60);

/// What is in a directory, and the files that were seen to go as it takes to withdraw their keys.
pub type News = (Files, Vec<String>);

/// The watch, whether it is in place, and the list.
type Looked = (Watch, bool, Result<Listing, String>);

/// What a file was found to hold, and from which bytes.
#[derive(Debug, Clone)]
struct Known {
    hash: [u8; 32],
    judged: Instant,
    state: Arc<FileState>,
}

/// Looks again and again.
#[derive(Debug)]
pub struct Scanner {
    directory: Option<PathBuf>,
    notices: Notices,
    watch: Watch,
    watching: bool,
    tracker: Tracker,
    known: BTreeMap<String, Known>,
    refused: BTreeMap<String, String>,
    look_at: Instant,
    recheck_at: Instant,
    /// A look that is under way; a file system may not answer, and there is never more than one that waits for it.
    looking: Option<JoinHandle<Looked>>,
    unreadable: Option<String>,
    /// Something is known that was not handed on yet. Kept here, because a look may be dropped half-way.
    news: bool,
}

impl Scanner {
    /// Follows this directory; without one it never has any news.
    pub fn new(directory: Option<PathBuf>) -> Self {
        let (notices, ready) = Notices::new();
        if let (Err(error), Some(_)) = (ready, &directory) {
            warn!("the key directory is looked at every {LOOK_SOONER:?}, because inotify cannot be used: {error}");
        }
        let (watch, now) = (notices.watch(), Instant::now());
        Self {
            directory,
            notices,
            watch,
            watching: false,
            tracker: Tracker::default(),
            known: BTreeMap::new(),
            refused: BTreeMap::new(),
            look_at: now,
            recheck_at: now + RECHECK,
            looking: None,
            unreadable: None,
            news: true,
        }
    }

    /// Whether there is no directory to follow.
    pub fn is_idle(&self) -> bool {
        self.directory.is_none()
    }

    /// The next change of what is known. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Option<News> {
        let Some(directory) = self.directory.clone() else { return std::future::pending().await };
        loop {
            if self.looking.is_none() {
                tokio::select! {
                    notices = self.notices.next() => {
                        self.take_notice(&notices);
                        self.look_at = self.look_at.min(Instant::now() + BURST);
                        continue;
                    }
                    () = sleep_until(self.look_at) => {}
                }
            }
            match self.look(&directory).await {
                Ok(listing) => self.follow(&directory, &listing).await,
                Err(why) => self.lose(why),
            }
            self.look_at = self.next_look();
            if self.news && (self.unreadable.is_some() || self.tracker.complete()) {
                return Some(self.hand_on());
            }
        }
    }

    fn take_notice(&mut self, notices: &[Notice]) {
        let now = Instant::now();
        for notice in notices {
            match notice {
                Notice::File { name, writing } => self.tracker.touched(name, *writing, now),
                Notice::Something => self.tracker.touched_something(now),
            }
        }
    }

    fn next_look(&self) -> Instant {
        let regular = if self.watching && self.unreadable.is_none() { LOOK } else { LOOK_SOONER };
        let regular = Instant::now() + regular;
        self.tracker.next().map_or(regular, |due| due.min(regular)).max(Instant::now() + BURST)
    }

    /// Lists the directory on a thread that may block. Set first, the watch tells of whatever the list does not show.
    async fn look(&mut self, directory: &Path) -> Result<Listing, String> {
        let looking = self.looking.get_or_insert_with(|| {
            let (mut watch, directory) = (self.watch.clone(), directory.to_owned());
            tokio::task::spawn_blocking(move || {
                let watching = watch.set(&directory);
                (watch, watching, directory::list(&directory))
            })
        });
        let Ok(looked) = timeout(PATIENCE, looking).await else {
            return Err("the file system does not answer".to_owned());
        };
        self.looking = None;
        let (watch, watching, listing) = looked.map_err(|_| "it could not be looked at".to_owned())?;
        (self.watch, self.watching) = (watch, watching);
        listing
    }

    fn lose(&mut self, why: String) {
        self.tracker.lost();
        self.known.clear();
        self.news |= self.unreadable.as_ref() != Some(&why);
        self.unreadable = Some(why);
    }

    async fn follow(&mut self, directory: &Path, listing: &Listing) {
        let now = Instant::now();
        self.news |= self.unreadable.take().is_some() || self.refused != listing.refused;
        self.refused.clone_from(&listing.refused);
        if self.tracker.observe(listing, now) {
            self.known.clear();
            self.news = true;
        }
        if now >= self.recheck_at {
            self.recheck_at = now + RECHECK;
            self.tracker.recheck();
        }
        for (name, found) in self.tracker.due(now) {
            let Some(known) = self.read(directory, &name, &found).await else { continue };
            self.tracker.believed(&name.file, matches!(*known.state, FileState::Held(_)));
            let old = self.known.insert(name.file, known.clone());
            self.news |= old.is_none_or(|old| old.state != known.state);
        }
        self.news |= self.tracker.someone_gone(Instant::now());
    }

    /// What is known, once it is complete; a part of it would look as if the rest were not there.
    fn hand_on(&mut self) -> News {
        self.news = false;
        let gone = self.tracker.gone(Instant::now());
        self.known.retain(|file, _| self.tracker.tracks(file));
        (self.files(), gone.into_iter().filter(|gone| gone.withdrawn).map(|gone| gone.file).collect())
    }

    /// What a file holds; `None` when it changed meanwhile.
    async fn read(&self, directory: &Path, name: &KeyName, found: &Found) -> Option<Known> {
        let stamp = match found {
            Found::File(stamp) => *stamp,
            Found::Other(what) => {
                let refusal = Refusal::NoKey(format!("it is {what}, not a file"));
                return Some(Known::new([0; 32], FileState::Refused(refusal)));
            }
            Found::Unreadable(why) => return Some(Known::new([0; 32], FileState::Unreadable(why.clone()))),
        };
        let (path, name) = (directory.join(&name.file), name.clone());
        let known = self.known.get(&name.file).cloned();
        let reading = tokio::task::spawn_blocking(move || read(&path, &name, stamp, known));
        match timeout(PATIENCE, reading).await {
            Ok(Ok(known)) => known,
            Ok(Err(_)) => Some(Known::new([0; 32], FileState::Unreadable("it could not be read".to_owned()))),
            Err(_) => Some(Known::new([0; 32], FileState::Unreadable("the file system does not answer".to_owned()))),
        }
    }

    fn files(&self) -> Files {
        if let Some(why) = &self.unreadable {
            return Files { directory: Directory::Unreadable(why.clone()), ..Files::default() };
        }
        let file = |(file, known): (&String, &Known)| {
            let name = KeyName::read(file)?.ok()?;
            let file_state = KeyFile { name, state: known.state.clone(), source: "directory".to_owned() };
            Some((file.clone(), file_state))
        };
        let files = self.known.iter().filter_map(file).collect();
        Files { files, refused: self.refused.clone(), directory: Directory::Listed }
    }
}

impl Known {
    fn new(hash: [u8; 32], state: FileState) -> Self {
        Self { hash, judged: Instant::now(), state: Arc::new(state) }
    }
}

/// Reads a file, and judges it if its bytes are new or were judged long ago.
fn read(path: &Path, name: &KeyName, stamp: directory::Stamp, known: Option<Known>) -> Option<Known> {
    let bytes = match directory::read(path, stamp) {
        Ok(bytes) => bytes,
        Err(ReadError::Changed) => return None,
        Err(ReadError::Unreadable(why)) => return Some(Known::new([0; 32], FileState::Unreadable(why))),
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    if let Some(known) = known.filter(|known| known.hash == hash && known.judged.elapsed() < JUDGE) {
        return Some(known);
    }
    let state = match content::read(name, &bytes, SystemTime::now()) {
        Ok(content) => FileState::Held(content),
        Err(refusal) => FileState::Refused(refusal),
    };
    Some(Known::new(hash, state))
}

/// What a directory holds right now, without waiting for anything that may be half-written. Blocks.
pub fn once(directory: &Path) -> Files {
    let listing = match directory::list(directory) {
        Ok(listing) => listing,
        Err(why) => return Files { directory: Directory::Unreadable(why), ..Files::default() },
    };
    let read = |(file, (name, found)): (String, (KeyName, Found))| {
        let state = match found {
            Found::File(stamp) => match read(&directory.join(&file), &name, stamp, None) {
                Some(known) => known.state,
                None => Arc::new(FileState::Unreadable("it changes right now".to_owned())),
            },
            Found::Other(what) => Arc::new(FileState::Refused(Refusal::NoKey(format!("it is {what}, not a file")))),
            Found::Unreadable(why) => Arc::new(FileState::Unreadable(why)),
        };
        (file, KeyFile { name, state, source: "directory".to_owned() })
    };
    let files = listing.files.into_iter().map(read).collect();
    Files { files, refused: listing.refused, directory: Directory::Listed }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::gpg_key;
    use super::*;

    async fn news(scanner: &mut Scanner) -> News {
        timeout(Duration::from_secs(20), scanner.next()).await.expect("news").expect("a directory")
    }

    fn held(files: &Files) -> Vec<&str> {
        let held = files.files.values().filter(|file| matches!(*file.state, FileState::Held(_)));
        held.map(|file| file.name.file.as_str()).collect()
    }

    #[tokio::test]
    async fn news_are_complete_and_come_once() {
        let folder = tempfile::tempdir().unwrap();
        let key = gpg_key("a@x.io", None);
        for file in ["a.pgp", "b.pgp"] {
            fs::write(folder.path().join(file), &key.binary).unwrap();
        }
        let mut scanner = Scanner::new(Some(folder.path().to_owned()));
        let (files, withdrawn) = news(&mut scanner).await;
        assert_eq!(
            (held(&files), files.directory.clone(), withdrawn),
            (vec!["a.pgp", "b.pgp"], Directory::Listed, vec![])
        );
        assert!(timeout(Duration::from_secs(1), scanner.next()).await.is_err(), "nothing new");
        fs::remove_file(folder.path().join("a.pgp")).unwrap();
        let (files, withdrawn) = news(&mut scanner).await;
        assert_eq!((held(&files), withdrawn), (vec!["b.pgp"], vec!["a.pgp".to_owned()]));
    }

    #[tokio::test]
    async fn nothing_is_lost_when_a_look_is_dropped_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut scanner = Scanner::new(Some(folder.path().to_owned()));
        news(&mut scanner).await;
        fs::write(folder.path().join("a.pgp"), gpg_key("a@x.io", None).binary).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < until, "never told");
            if let Ok(Some((files, _))) = timeout(Duration::from_millis(3), scanner.next()).await {
                assert_eq!(held(&files), ["a.pgp"]);
                break;
            }
        }
    }

    #[tokio::test]
    async fn another_directory_is_news_even_if_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        fs::create_dir(&keys).unwrap();
        fs::write(keys.join("a.pgp"), gpg_key("a@x.io", None).binary).unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        let mut scanner = Scanner::new(Some(keys.clone()));
        assert_eq!(held(&news(&mut scanner).await.0), ["a.pgp"]);
        // In one step, as an unmount does it.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &keys,
            rustix::fs::CWD,
            folder.path().join("empty"),
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        let (files, withdrawn) = news(&mut scanner).await;
        assert!(files.files.is_empty() && files.directory == Directory::Listed && withdrawn.is_empty());
        fs::remove_dir(&keys).unwrap();
        assert!(matches!(news(&mut scanner).await.0.directory, Directory::Unreadable(_)));
    }
}
