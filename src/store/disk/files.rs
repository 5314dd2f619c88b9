//! Files and folders below a root, opened so that no name and no link leads out of it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::domain::digest::hex;

/// Names of files that are being written begin so; no repository, digest or signature does.
const TEMPORARY: &str = ".new-";
/// How often a name for one is drawn before it is said that something is wrong.
const DRAWS: usize = 8;
/// Between two tries for a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Modes of what is made.
const READABLE_FOLDER: u32 = 0o755;
const READABLE_FILE: u32 = 0o644;
/// That the group may write, and that whoever may write takes nothing away that is others'.
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe or a device in a file's place must not make us wait.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Nothing on the way may be a link, and nothing may lead above the folder it starts at.
fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// The folder at a path that the administrator names; links on the way are the administrator's.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A folder in this one; `None` if there is none of that name.
pub(super) fn open_folder(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<Option<OwnedFd>> {
    absent(rustix::fs::openat2(at, path, FOLDER, Mode::empty(), confined()))
}

/// A folder in this one, and whether it was missing and is made now.
pub(super) fn make_folder(at: impl AsFd, name: &str) -> io::Result<(OwnedFd, bool)> {
    match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            let opened = open_made(&at, name);
            if opened.is_err() {
                // Who is told of an error does not know that there is something to take back.
                let _ = remove_empty(&at, name);
            }
            return opened.map(|folder| (folder, true));
        }
        // There already, or made by another writer in between.
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::openat2(at, name, FOLDER, Mode::empty(), confined()) {
        Ok(folder) => Ok((folder, false)),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(io::Error::other("a file or a symbolic link in a folder's place")),
        Err(error) => Err(error.into()),
    }
}

/// A folder in this one that was just made, with the mode it is to have.
fn open_made(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let folder = rustix::fs::openat2(&at, name, FOLDER, Mode::empty(), confined())?;
    let (around, made) = (rustix::fs::fstat(&at)?, rustix::fs::fstat(&folder)?);
    open_to_readers(&folder, READABLE_FOLDER | handed_on(around.st_mode, around.st_gid == made.st_gid))?;
    Ok(folder)
}

/// What a folder with this mode hands on to those in it, so that who shares it shares them: that the group may write, and
/// with it the bit that bounds that. Not to another group, which the folder itself lets do nothing.
fn handed_on(around: u32, same_group: bool) -> u32 {
    if same_group && around & GROUP_WRITES != 0 { GROUP_WRITES | (around & STICKY) } else { 0 }
}

/// Owner, group and mode of a file or folder, for people.
pub(crate) fn rights_of(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(about) => format!("owner {}, group {}, mode {:04o}", about.uid(), about.gid(), about.mode() & 0o7777),
        Err(error) => error.to_string(),
    }
}

/// Removes a folder in this one that has nothing in it.
pub(super) fn remove_empty(at: impl AsFd, name: &str) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?)
}

/// Gives what we made its mode, whatever the umask is: web servers and stores under other accounts read it. The group
/// that a folder hands on is kept.
fn open_to_readers(made: impl AsFd, permissions: u32) -> io::Result<()> {
    let now = rustix::fs::fstat(&made)?.st_mode & 0o7777;
    let wanted = (now & 0o7000) | permissions;
    if now != wanted {
        rustix::fs::fchmod(&made, Mode::from_raw_mode(wanted))?;
    }
    Ok(())
}

/// Makes a folder and those that lead to it, as far as they are missing, for everybody to read.
pub(super) fn make_root(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(path)?;
    for made in missing.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
        open_to_readers(open_root(made)?, READABLE_FOLDER)?;
    }
    Ok(())
}

/// Whether an error is that of one entry, such as a folder, a link or a pipe in a file's place or a file that may not be
/// read. Others, as that there are too many open files, are everybody's.
pub(super) fn is_of_entry(error: &io::Error) -> bool {
    let own = [Errno::ACCESS, Errno::PERM, Errno::NXIO, Errno::NODEV, Errno::IO, Errno::ISDIR, Errno::LOOP];
    error.raw_os_error().is_none_or(|number| own.map(Errno::raw_os_error).contains(&number))
}

/// A regular file below this folder, and what the file system says of it; `None` if there is none of that name.
pub(crate) fn open_file(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<Option<(File, Metadata)>> {
    open_resolved(at, path, confined())
}

/// The same for one whose whole path the kernel has in memory; [`io::ErrorKind::WouldBlock`] for others.
pub(super) fn open_cached_file(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<Option<(File, Metadata)>> {
    open_resolved(at, path, confined() | ResolveFlags::CACHED)
}

fn open_resolved(
    at: impl AsFd,
    path: impl rustix::path::Arg,
    how: ResolveFlags,
) -> io::Result<Option<(File, Metadata)>> {
    let Some(file) = absent(rustix::fs::openat2(at, path, FILE, Mode::empty(), how))? else { return Ok(None) };
    let file = File::from(file);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Some((file, metadata))) } else { Err(irregular()) }
}

/// A missing file or folder is no error.
fn absent(opened: rustix::io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(Errno::LOOP | Errno::XDEV) => Err(io::Error::other("a symbolic link, which is not followed here")),
        Err(Errno::NOSYS) => Err(io::Error::other("this kernel has no openat2 (Linux 5.6), which keeps paths inside")),
        Err(error) => Err(error.into()),
    }
}

fn irregular() -> io::Error {
    io::Error::other("not a regular file")
}

/// The content of a file, at most one byte more than `limit`.
pub(super) fn read(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in a folder, but `.` and `..`.
pub(crate) fn names(folder: impl AsFd) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let entries = Dir::read_from(folder)?;
    Ok(entries.filter_map(|entry| match entry {
        // What is not text was not made by us and is not read by us.
        Ok(entry) => {
            entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(|n| Ok(n.to_owned()))
        }
        Err(error) => Some(Err(error.into())),
    }))
}

/// A lock on a folder, against all processes that ask for it; it ends with the process that has it.
pub(super) struct Lock<'a>(&'a OwnedFd);

impl<'a> Lock<'a> {
    /// Waits for the lock, but not longer than `patience`; `None` if others kept it for so long.
    pub(super) fn take(folder: &'a OwnedFd, patience: Duration) -> io::Result<Option<Self>> {
        let end = Instant::now() + patience;
        loop {
            match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self(folder))),
                Err(Errno::WOULDBLOCK) if Instant::now() < end => sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The locked folder.
    pub(super) fn folder(&self) -> &OwnedFd {
        self.0
    }

    /// Removes what writers that were killed left behind: who has the lock is the only one that writes here.
    pub(super) fn sweep(&self) -> io::Result<usize> {
        let left: Vec<String> = names(self.0)?
            .filter(|name| name.as_ref().is_ok_and(|n| n.starts_with(TEMPORARY)))
            .collect::<Result<_, _>>()?;
        for name in &left {
            match rustix::fs::unlinkat(self.0, name.as_str(), AtFlags::empty()) {
                Ok(()) => {}
                // No file of ours, and in nobody's way.
                Err(Errno::ISDIR | Errno::PERM) => tracing::debug!(%name, "left where signatures are written"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left.len())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// Removes a file, if there is one of that name.
pub(super) fn remove(lock: &Lock<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(lock.0, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file with its content on the disk, and without a name that anybody looks for yet.
pub(super) struct Fresh<'a> {
    folder: &'a OwnedFd,
    name: String,
    named: bool,
}

impl<'a> Fresh<'a> {
    /// Writes `content` and waits until it is on the disk.
    pub(super) fn write(lock: &Lock<'a>, content: &[u8]) -> io::Result<Self> {
        let folder = lock.0;
        let (name, file) = create(folder)?;
        let fresh = Self { folder, name, named: false };
        let mut file = File::from(file);
        open_to_readers(&file, READABLE_FILE)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(fresh)
    }

    /// Gives it its name, if nothing has that name; `false` if something has.
    pub(super) fn take_name(&mut self, name: &str) -> io::Result<bool> {
        let (folder, own) = (self.folder, self.name.as_str());
        match rustix::fs::renameat_with(folder, own, folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => self.named = true,
            Err(Errno::EXIST) => return Ok(false),
            // File systems without it (NFS) have links, which replace nothing either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::linkat(folder, own, folder, name, AtFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Gives it a name, and takes that from whatever had it.
    pub(super) fn replace(mut self, name: &str) -> io::Result<()> {
        rustix::fs::renameat(self.folder, self.name.as_str(), self.folder, name)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if !self.named {
            let _ = rustix::fs::unlinkat(self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

fn create(folder: &OwnedFd) -> io::Result<(String, OwnedFd)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut error = Errno::EXIST;
    for _ in 0..DRAWS {
        let mut random = [0; 12];
        rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
        let name = format!("{TEMPORARY}{}", hex(&random));
        match rustix::fs::openat(folder, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EXIST) => {}
            Err(other) => {
                error = other;
                break;
            }
        }
    }
    Err(error.into())
}

/// Waits until what was named in a folder is on the disk under that name.
pub(super) fn sync(folder: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(folder) {
        // File systems that cannot (some of FUSE) are not asked for more than they have.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
