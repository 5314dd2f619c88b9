//! Files that others read at any time: they are there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::store::disk::files::{names, rights_of};

/// The key directory.
pub(super) const KEYS: &str = "keys";
/// Readable by everybody: public keys, and who has them.
const FILE_MODE: u32 = 0o644;
/// For the directory's group to lock.
const LOCK_MODE: u32 = 0o664;

/// Makes the directories of a signing host as far as they are not there: the one itself for its owner to write, keys and
/// signatures also for its group. What is there stays as it is.
pub fn lay_out(directory: &Path) -> Result<(), String> {
    for (path, mode) in
        [(directory.to_owned(), 0o755), (directory.join(KEYS), 0o775), (directory.join("sigstore"), 0o775)]
    {
        let named = |error: std::io::Error| format!("{}: {error}", path.display());
        if path.is_dir() {
            continue;
        }
        fs::create_dir_all(&path).map_err(named)?;
        // Whatever the umask is.
        give_mode(&path, mode).map_err(named)?;
    }
    Ok(())
}

/// Gives a folder that was just made its mode; the group that it hands on is kept. Who may write to the directory may have
/// put something else in its place meanwhile: a link is not followed, and a folder in use stays as it is.
fn give_mode(folder: &Path, mode: u32) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(folder, flags, rustix::fs::Mode::empty())?);
    let about = opened.metadata()?;
    if names(&opened)?.next().is_some() {
        return Err(std::io::Error::other("somebody put another folder in its place"));
    }
    opened.set_permissions(Permissions::from_mode((about.mode() & 0o7000) | mode))
}

/// The file that whoever changes something here locks; the group of the directory may, too. The error says which right
/// is missing.
pub(super) fn lock_file(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.write(true);
    let opened = match options.clone().create_new(true).mode(LOCK_MODE).open(path) {
        // Whatever the umask is.
        Ok(file) => file.set_permissions(Permissions::from_mode(LOCK_MODE)).map(|()| file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    };
    opened.map_err(|error| {
        let why = format!("{}: {error}", path.display());
        if error.kind() == ErrorKind::PermissionDenied { format!("{why}; {}", missing_right(path)) } else { why }
    })
}

/// What somebody who may has to do for whoever may not write here.
fn missing_right(lock: &Path) -> String {
    let folder = lock.parent().unwrap_or(Path::new(".")).display();
    let (place, mode) = if lock.exists() { (lock.display(), "664") } else { (folder, "2775") };
    let shown = rights_of(Path::new(&place.to_string()));
    format!(
        "image makers write to {place} ({shown}), and this user may not: as root, chgrp GROUP {place} && chmod {mode} \
         {place}, with a group of all who make image makers"
    )
}

/// A regular file of bounded size.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // Anything else, such as a named pipe, could block for ever.
    if !fs::metadata(path).map_err(|e| named(&e))?.is_file() {
        return Err(named(&"not a regular file"));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(|e| named(&e))?;
    file.take(limit + 1).read_to_end(&mut content).map_err(|e| named(&e))?;
    if content.len() as u64 > limit {
        return Err(named(&format_args!("larger than {limit} bytes")));
    }
    Ok(content)
}

/// Writes a file that must not be there yet.
pub(super) fn publish_new(path: &Path, content: &[u8]) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let beside = write_beside(path, content)?;
    // A link, unlike a rename, takes no other file's place.
    let linked = fs::hard_link(&beside, path);
    let _ = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(named(&"there is such a file already, and it is left alone"))
        }
        other => other.and_then(|()| sync_folder(path)).map_err(|e| named(&e)),
    }
}

/// Writes a file in the place of the one that may be there.
pub(super) fn publish_over(path: &Path, content: &[u8]) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let beside = write_beside(path, content)?;
    let moved = fs::rename(&beside, path);
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved.and_then(|()| sync_folder(path)).map_err(named)
}

/// Takes a file away, if it is there.
pub(super) fn withdraw(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| sync_folder(path)).map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// The content on disk under a name that no reader of keys takes for a key file.
fn write_beside(path: &Path, content: &[u8]) -> Result<PathBuf, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let named = |error: std::io::Error| format!("{}: {error}", beside.display());
    // Left behind by a run that was killed, under the same number.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&beside).map_err(named)?;
    let written = file
        .set_permissions(Permissions::from_mode(FILE_MODE))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(named(error));
    }
    Ok(beside)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_a_new_folder_changes_no_mode() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let (own, other, link) = (folder.path().join("own"), folder.path().join("other"), folder.path().join("link"));
        for path in [&own, &other] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o2700)).unwrap();
        }
        std::os::unix::fs::symlink(&other, &link).unwrap();
        give_mode(&link, 0o775).unwrap_err();
        assert_eq!(mode(&other), 0o2700);
        give_mode(&own, 0o775).unwrap();
        assert_eq!(mode(&own), 0o2775, "the group is handed on as before");
        // A folder with others in it is not the one that was made.
        fs::create_dir(other.join("x")).unwrap();
        give_mode(&other, 0o775).unwrap_err();
    }

    #[test]
    fn a_lock_is_for_the_directorys_group_and_a_missing_right_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let shown = missing_right(&path);
        assert!(shown.contains(&format!("chmod 2775 {}", folder.path().display())), "{shown}");
        for _ in 0..2 {
            lock_file(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o664);
        }
        let shown = missing_right(&path);
        assert!(shown.contains("mode 0664") && shown.contains(&format!("chmod 664 {}", path.display())), "{shown}");
    }
}
