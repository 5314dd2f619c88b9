//! What the kernel tells about the directory (inotify(7)): only to look sooner than the next regular look.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::directory::{Identity, identify};

/// Notices taken at a time; more stay in the kernel.
const MOST: usize = 4_096;

/// Something was done in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// To this file; `writing` when it is open and more may come.
    File {
        /// Its name.
        name: String,
        /// Whether it was written to and not closed yet.
        writing: bool,
    },
    /// To the directory itself, or to more than the kernel remembers.
    Something,
}

/// Watches one directory at a time.
#[derive(Debug)]
pub struct Notices {
    queue: Option<AsyncFd<Arc<OwnedFd>>>,
}

/// The watch as blocking code needs it.
#[derive(Debug, Clone)]
pub struct Watch {
    queue: Option<Arc<OwnedFd>>,
    on: Option<(Identity, i32)>,
}

impl Notices {
    /// An error is no obstacle: without notices the directory is looked at more often.
    pub fn new() -> (Self, Result<(), io::Error>) {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        // What took its place is unsafe because a type may give another descriptor each time. An `OwnedFd` gives its own,
        // and it is open as long as anybody holds it.
        #[expect(deprecated, reason = "its successor is unsafe, and for an OwnedFd nothing is gained by it")]
        match queue.and_then(|queue| AsyncFd::new(Arc::new(queue))) {
            Ok(queue) => (Self { queue: Some(queue) }, Ok(())),
            Err(error) => (Self { queue: None }, Err(error)),
        }
    }

    /// What sets the watch.
    pub fn watch(&self) -> Watch {
        Watch { queue: self.queue.as_ref().map(|queue| queue.get_ref().clone()), on: None }
    }

    /// The next notices, as soon as there are any; never, when there can be none. May be dropped at any time.
    pub async fn next(&self) -> Vec<Notice> {
        let Some(queue) = &self.queue else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = queue.readable().await else { return std::future::pending().await };
            let notices = drain(queue.get_ref());
            if notices.len() < MOST {
                ready.clear_ready();
            }
            if !notices.is_empty() {
                return notices;
            }
        }
    }
}

fn drain(queue: &OwnedFd) -> Vec<Notice> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8_192];
    let mut reader = inotify::Reader::new(queue, &mut buffer);
    let mut notices = Vec::new();
    while notices.len() < MOST {
        // Nothing more, or nothing that could be helped: the regular look comes anyway.
        let Ok(event) = reader.next() else { break };
        let writing = event.events().intersects(ReadFlags::MODIFY);
        notices.push(match event.file_name() {
            Some(name) => Notice::File { name: name.to_string_lossy().into_owned(), writing },
            None => Notice::Something,
        });
    }
    notices
}

impl Watch {
    /// Watches what stands at the path now; blocks as long as the file system does. Gives whether a watch is in place.
    pub fn set(&mut self, directory: &Path) -> bool {
        let Some(queue) = &self.queue else { return false };
        let identity = identify(directory);
        if let Some((watched, watch)) = self.on {
            if Some(watched) == identity {
                return true;
            }
            // An error says that the kernel has removed it already.
            let _ = inotify::remove_watch(queue, watch);
            self.on = None;
        }
        let Some(identity) = identity else { return false };
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        self.on = inotify::add_watch(queue, directory, flags).ok().map(|watch| (identity, watch));
        self.on.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    async fn told(notices: &Notices) -> Vec<Notice> {
        tokio::time::timeout(Duration::from_secs(10), notices.next()).await.unwrap()
    }

    fn file(name: &str, writing: bool) -> Notice {
        Notice::File { name: name.to_owned(), writing }
    }

    #[tokio::test]
    async fn writing_closing_and_going_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (notices, ready) = Notices::new();
        ready.unwrap();
        let mut watch = notices.watch();
        assert!(watch.set(folder.path()) && watch.set(folder.path()));
        let path = folder.path().join("a.pgp");
        let mut open = fs::File::create(&path).unwrap();
        open.write_all(b"half").unwrap();
        assert_eq!(told(&notices).await.last(), Some(&file("a.pgp", true)));
        drop(open);
        assert_eq!(told(&notices).await, [file("a.pgp", false)]);
        fs::remove_file(&path).unwrap();
        assert_eq!(told(&notices).await, [file("a.pgp", false)]);
    }

    #[tokio::test]
    async fn another_directory_under_the_path_is_watched_anew() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let (notices, _) = Notices::new();
        let mut watch = notices.watch();
        assert!(!watch.set(&keys), "there is none");
        fs::create_dir(&keys).unwrap();
        assert!(watch.set(&keys));
        fs::rename(&keys, folder.path().join("old")).unwrap();
        assert_eq!(told(&notices).await, [Notice::Something]);
        fs::create_dir(&keys).unwrap();
        assert!(watch.set(&keys));
        fs::write(keys.join("b.pgp"), b"").unwrap();
        assert!(told(&notices).await.contains(&file("b.pgp", false)));
    }
}
