//! A `GnuPG` home for the time of one command.
//!
//! It holds a secret key from a file, so it is its owner's alone and goes with the command, however that ends: when it is
//! dropped, and through [`remove_all`] when a signal ends the process. What `kill -9` leaves is what the file was that
//! the key came from: as well protected as the passphrase makes it, in a folder that nobody else may enter.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use super::gnupg::Gnupg;
use crate::domain::digest::hex;

/// Homes that are there now.
static HOMES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A new, empty home.
#[derive(Debug)]
pub struct TemporaryHome(PathBuf);

impl TemporaryHome {
    /// Makes it, in memory where the system has a place for that. Its path is short, as the agent's socket needs it.
    pub fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
        let name = format!("podseal-{}", hex(&random));
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let places = runtime.into_iter().chain([std::env::temp_dir()]);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in places.map(|place| place.join(&name)) {
            // Made anew, never taken over; and known before it is filled.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    homes(|all| all.push(path.clone()));
                    return Ok(Self(path));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        remove(&self.0);
        homes(|all| all.retain(|path| *path != self.0));
    }
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
}
