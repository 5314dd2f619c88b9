//! The `GnuPG` homes that the registry records. It may lie in a directory that a whole group writes, and gpg does what the
//! configuration in a home says: run programs, for one. So a recorded home is used only when nobody else can have made it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::signing::gnupg::Gnupg;
use crate::signing::makers::Maker;

/// Write for the group or for all.
const OTHERS_WRITE: u32 = 0o022;
/// Entries of others cannot be renamed.
const STICKY: u32 = 0o1000;

/// gpg with the home that keeps a maker's keys, if that is the caller's own; a home that is not there is for the caller of
/// this to notice, before gpg makes one. The error says who could have changed what is in it.
pub(super) fn gnupg_of(maker: &Maker) -> Result<Gnupg, Failure> {
    let Some(home) = &maker.gnupg_home else { return Ok(Gnupg::new(None)) };
    let trusted = own(home).map_err(|why| {
        Failure::Failed(format!(
            "the GnuPG home {} that imagemakers.json records for {}: {why}; gpg would do what its configuration says: run this \
             as who keeps that key, take the right of others away (chmod go-w), or put gnupgHome right",
            home.display(),
            maker.name
        ))
    })?;
    Ok(Gnupg::new(Some(trusted.unwrap_or_else(|| home.clone()))))
}

/// The recorded home, for messages.
pub(super) fn place(maker: &Maker) -> String {
    Gnupg::new(maker.gnupg_home.clone()).place()
}

/// The home with its whole path; `None` if it is not there. The error says why it is not the caller's alone.
pub(super) fn own(home: &Path) -> Result<Option<PathBuf>, String> {
    let whole = match home.canonicalize() {
        Ok(whole) => whole,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let me = rustix::process::geteuid().as_raw();
    for (at, folder) in whole.ancestors().enumerate() {
        let about = folder.symlink_metadata().map_err(|error| format!("{}: {error}", folder.display()))?;
        let owner = about.uid();
        if owner != me && (at == 0 || owner != 0) {
            return Err(format!("{} belongs to uid {owner}, and this runs as uid {me}", folder.display()));
        }
        if about.mode() & OTHERS_WRITE != 0 && (at == 0 || about.mode() & STICKY == 0) {
            return Err(format!("others than its owner may write in {}", folder.display()));
        }
    }
    Ok(Some(whole))
}

/// A command for people to paste, which deletes a key for good.
pub(super) fn deletion(home: Option<&Path>, fingerprint: &str) -> String {
    let home = home.map(|home| format!("--homedir {} ", quoted(&home.to_string_lossy()))).unwrap_or_default();
    format!("gpg {home}--delete-secret-and-public-key {fingerprint}")
}

/// One word of a shell, whatever is in it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_home_is_ones_own_when_nobody_else_can_write_there_or_on_the_way() {
        let around = tempfile::tempdir().unwrap();
        let (outer, home) = (around.path().join("outer"), around.path().join("outer/home"));
        fs::create_dir_all(&home).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&outer, 0o755);
        mode(&home, 0o700);
        assert_eq!(own(&home), Ok(Some(home.canonicalize().unwrap())));
        assert_eq!(own(&around.path().join("none")), Ok(None));
        // What a link leads to is what is looked at, and used.
        symlink(&home, around.path().join("link")).unwrap();
        assert_eq!(own(&around.path().join("link")), Ok(Some(home.canonicalize().unwrap())));
        for (path, wrong) in [(&home, 0o770), (&home, 0o1777), (&outer, 0o775), (&outer, 0o757)] {
            mode(path, wrong);
            let error = own(&home).unwrap_err();
            assert_eq!(error, format!("others than its owner may write in {}", path.canonicalize().unwrap().display()));
            mode(path, 0o700);
        }
        mode(&outer, 0o1777);
        assert!(own(&home).is_ok(), "as in /tmp");
    }

    #[test]
    fn what_is_printed_to_be_pasted_is_one_word() {
        let command = |home: &str| deletion(Some(Path::new(home)), "ABC");
        assert_eq!(command("/var/lib/gnupg"), "gpg --homedir /var/lib/gnupg --delete-secret-and-public-key ABC");
        assert_eq!(command("/my home"), "gpg --homedir '/my home' --delete-secret-and-public-key ABC");
        assert_eq!(command("/x; rm 'y'"), r"gpg --homedir '/x; rm '\''y'\''' --delete-secret-and-public-key ABC");
        assert_eq!(deletion(None, "ABC"), "gpg --delete-secret-and-public-key ABC");
    }
}
