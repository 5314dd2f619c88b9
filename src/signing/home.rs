//! A `GnuPG` home for the time of one command.
//!
//! It holds a secret key from a file, so it is its owner's alone and goes with the command, however that ends: when it is
//! dropped, and through [`remove_all`] when a signal ends the process. What `kill -9` leaves, the agent with the key among
//! it, the next command removes ([`sweep`]); until then it is what the file was that the key came from: as well protected
//! as the passphrase makes it, in a folder that nobody else may enter, and in memory where there is a place for that.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::FlockOperation;

use super::gnupg::Gnupg;
use crate::domain::digest::hex;

/// Homes that are there now.
static HOMES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// How their names begin; random hex digits follow.
const PREFIX: &str = "podseal-";
/// Bytes of them.
const RANDOM: usize = 8;
/// Entries of a place that are looked at for what others left.
const MAX_ENTRIES: usize = 10_000;
/// What `statfs` calls a file system in memory.
const TMPFS: u64 = 0x0102_1994;

/// A new, empty home.
#[derive(Debug)]
pub struct TemporaryHome {
    path: PathBuf,
    /// Locked as long as the process lives: so others know that the home is in use.
    _lock: File,
}

impl TemporaryHome {
    /// Makes it, in memory where the system has a place for that. Its path is short, as the agent's socket needs it.
    pub fn new() -> io::Result<Self> {
        Self::within(&places())
    }

    /// In the first of these places that takes it.
    fn within(places: &[PathBuf]) -> io::Result<Self> {
        let mut random = [0; RANDOM];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
        let name = format!("{PREFIX}{}", hex(&random));
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in places.iter().map(|place| place.join(&name)) {
            // Made anew, never taken over; and known before it is filled.
            if let Err(error) = DirBuilder::new().mode(0o700).create(&path) {
                last = error;
                continue;
            }
            homes(|all| all.push(path.clone()));
            match locked(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                Ok(None) => last = io::Error::from(io::ErrorKind::WouldBlock),
                Err(error) => last = error,
            }
            let _ = std::fs::remove_dir(&path);
            homes(|all| all.retain(|other| *other != path));
        }
        Err(last)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        remove(&self.path);
        homes(|all| all.retain(|path| *path != self.path));
    }
}

/// Removes the homes of this user whose processes were killed, and ends their agents.
pub fn sweep() {
    // The owner of one's own process is who runs it.
    let Ok(own) = std::fs::metadata("/proc/self") else { return };
    for place in places() {
        sweep_in(&place, own.uid());
    }
}

fn sweep_in(place: &Path, user: u32) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.take(MAX_ENTRIES).map_while(Result::ok) {
        let (name, path) = (entry.file_name(), entry.path());
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let ours = random.is_some_and(|hex| hex.len() == 2 * RANDOM && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        // Nobody else's, and no link: gpg believes what is in a home.
        let about = std::fs::symlink_metadata(&path);
        let own = |about: &std::fs::Metadata| about.is_dir() && about.uid() == user && about.mode() & 0o777 == 0o700;
        if ours
            && about.is_ok_and(|about| own(&about))
            && let Ok(Some(_lock)) = locked(&path)
        {
            remove(&path);
        }
    }
}

/// The folder, locked; `None` if it is in use, or was swept away meanwhile.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let folder = File::open(path)?;
    if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let (held, there) = (folder.metadata()?, std::fs::symlink_metadata(path)?);
    Ok(((held.dev(), held.ino()) == (there.dev(), there.ino())).then_some(folder))
}

/// Where homes may be, the best first: none of the first two is on a disk.
fn places() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let shared = Some(PathBuf::from("/dev/shm")).filter(|path| is_shared_memory(path));
    runtime.into_iter().chain(shared).chain([std::env::temp_dir()]).collect()
}

/// Whether this is the system's: in memory, root's, and with nobody able to take away what others made.
fn is_shared_memory(path: &Path) -> bool {
    let about = std::fs::symlink_metadata(path);
    let safe = about.is_ok_and(|about| about.is_dir() && about.uid() == 0 && about.mode() & 0o1000 != 0);
    safe && rustix::fs::statfs(path).is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| kind == TMPFS))
}

/// Removes every temporary home of this process, before it ends by a signal.
pub fn remove_all() {
    for path in homes(std::mem::take) {
        remove(&path);
    }
}

fn homes<T>(act: impl FnOnce(&mut Vec<PathBuf>) -> T) -> T {
    act(&mut HOMES.lock().unwrap_or_else(PoisonError::into_inner))
}

fn remove(path: &Path) {
    Gnupg::new(Some(path.to_owned())).stop_agent();
    // The agent removes its sockets as it ends, perhaps at this very moment.
    for _ in 0..5 {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            _ => return,
        }
    }
    tracing::warn!(path = %path.display(), "the temporary GnuPG home could not be removed: remove it by hand");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_home_is_its_owners_alone_and_goes_with_its_user() {
        let home = TemporaryHome::new().expect("a home");
        let path = home.path().to_owned();
        let mode = std::fs::metadata(&path).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(path.join("secret"), "s").expect("a file");
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let place = tempfile::tempdir().expect("a folder");
        let made = |name: &str| {
            let path = place.path().join(name);
            DirBuilder::new().mode(0o700).create(&path).expect("a folder");
            std::fs::write(path.join("secret"), "s").expect("a file");
            path
        };
        let user = std::fs::metadata(place.path()).expect("a folder").uid();
        let alive = TemporaryHome::within(&[place.path().to_owned()]).expect("a home");
        let (dead, other) = (made("podseal-0123456789abcdef"), made("podseal-mine"));
        let link = place.path().join("podseal-0123456789abcde0");
        std::os::unix::fs::symlink(&other, &link).expect("a link");
        sweep_in(place.path(), user + 1);
        assert!(dead.exists(), "it is somebody else's");
        sweep_in(place.path(), user);
        assert!(!dead.exists() && alive.path().exists() && other.join("secret").exists() && link.is_symlink());
    }

    #[test]
    fn a_home_is_in_memory_where_the_system_has_a_place() {
        let places = places();
        assert_eq!(places.last(), Some(&std::env::temp_dir()));
        let shared = Path::new("/dev/shm");
        assert_eq!(places.contains(&shared.to_owned()), is_shared_memory(shared));
        assert!(!is_shared_memory(Path::new("/usr")) && !is_shared_memory(Path::new("/none")));
    }
}
