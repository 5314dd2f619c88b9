//! Files that hold something secret: nobody but their owner may read them, whatever is in them.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sequoia_openpgp::crypto::mem::Protected;

/// Such a file, read. Its content is overwritten when it is dropped.
#[derive(Debug)]
pub struct SecretFile {
    /// Where it was.
    pub path: PathBuf,
    /// What it held; of [`Self::check`] nothing is known yet.
    pub content: Protected,
    exposed: Option<String>,
}

impl SecretFile {
    /// Reads a file or pipe of at most `limit` bytes. The error does not name it. Whether others may read it is for
    /// [`Self::check`] to say, after what is in it: whoever gives a public key is told that.
    pub fn read(path: &Path, limit: usize) -> Result<Self, String> {
        // Looked at as it was opened, so that nothing can take its place in between.
        let file = File::open(path).map_err(|error| error.to_string())?;
        let about = file.metadata().map_err(|error| error.to_string())?;
        if !about.is_file() && !about.file_type().is_fifo() {
            return Err("neither a file nor a pipe".to_owned());
        }
        // With its capacity from the start, where its length is known: growing would leave copies behind.
        let room = usize::try_from(about.len()).unwrap_or(limit).clamp(4096, limit.max(4096));
        let mut bytes = Vec::with_capacity(room + 1);
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = file.take(most).read_to_end(&mut bytes);
        let content = Protected::from(bytes);
        read.map_err(|error| error.to_string())?;
        if content.len() > limit {
            return Err(format!("larger than {limit} bytes"));
        }
        Ok(Self { path: path.to_owned(), content, exposed: exposed(&about, path) })
    }

    /// An error if somebody besides the owner may read it, with the way out.
    pub fn check(&self) -> Result<(), String> {
        self.exposed.clone().map_or(Ok(()), Err)
    }
}

/// Why a file is not its owner's alone, if so: the sentence that all secret files get.
pub(super) fn exposed(about: &Metadata, path: &Path) -> Option<String> {
    let mode = about.mode() & 0o7777;
    (mode & 0o077 != 0).then(|| format!("others may read it (mode {mode:04o}): chmod 600 {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_read_is_said_and_what_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, b"secret").expect("a file");
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            let file = SecretFile::read(&path, 6).expect("a file");
            assert_eq!(&file.content[..], b"secret");
            match file.check() {
                Ok(()) => assert!(good, "{mode:o}"),
                Err(why) => assert_eq!(
                    (why, good),
                    (format!("others may read it (mode {mode:04o}): chmod 600 {}", path.display()), false)
                ),
            }
            assert!(!format!("{file:?}").contains("secret"), "{file:?}");
        }
        assert!(SecretFile::read(&path, 5).expect_err("too large").contains("larger than 5 bytes"));
        assert!(SecretFile::read(folder.path(), 5).expect_err("a folder").contains("neither a file nor a pipe"));
        assert!(SecretFile::read(&folder.path().join("none"), 5).expect_err("nothing").contains("No such file"));
    }
}
