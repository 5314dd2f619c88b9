//! Archives of images: OCI image layouts in a folder or a tar archive, as `podsec-save-oci`, `skopeo copy … oci-archive:`,
//! `buildah push … oci-archive:` and `docker save` (25 and later) make them.
//!
//! ```text
//!  file ── gzip, xz? ── unpacked into a file without a name ──┐
//!  .tar ──────────────────────────────────────────────────────┴─ Source: path ─► bytes at an offset
//!  folder ────────────────────────────────────────────────────── Source: path ─► file
//!  Source ── layout: index.json ── images of one architecture, each with the digests of all that it needs
//! ```
//! Nothing of an archive is ever written under a name that it chose, so it cannot climb out of a folder or lead somewhere
//! by a link: its members are only looked up. Symbolic links are no members; a hard link in a tar archive is the earlier
//! member that it names. Everything that is taken from it by digest is
//! hashed before it is used. Sizes, counts and what is unpacked are bounded.

mod layout;
mod spool;
mod tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};

pub use self::layout::{Architecture, ArchitectureError, Descriptor, ImageInArchive, images};
use crate::domain::digest::{Algorithm, Digest, hex};
use crate::domain::printable::printable;
use crate::source::registry::BlobContent;
use crate::store::disk::files;

/// Why an archive cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Damaged, made to do harm, or of a form that is not read.
    #[error("{}", printable(.0))]
    Unusable(String),
    /// It is for other architectures than the one that is wanted.
    #[error("{}", printable(.0))]
    Architecture(String),
}

/// Bytes read at a time.
const STEP: usize = 1 << 20;

/// An archive that can be looked into.
#[derive(Debug)]
pub struct Archive(Source);

#[derive(Debug)]
enum Source {
    Tar { file: Arc<File>, members: BTreeMap<String, (u64, u64)> },
    Folder { root: OwnedFd, path: PathBuf },
}

/// One file in an archive.
#[derive(Debug, Clone)]
pub struct Member {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Archive {
    /// Opens a folder, or a tar archive, plain or compressed by gzip or xz. What is compressed is unpacked into a file
    /// without a name in `scratch`; `progress` is told how many bytes of the archive were read, and of how many.
    pub fn open(path: &Path, scratch: &Path, progress: &dyn Fn(u64, u64)) -> Result<Self, ArchiveError> {
        let named = |why: String| ArchiveError::Unusable(format!("{}: {why}", path.display()));
        let about = std::fs::metadata(path).map_err(|error| named(error.to_string()))?;
        if about.is_dir() {
            let root = files::open_root(path).map_err(|error| named(error.to_string()))?;
            return Ok(Self(Source::Folder { root, path: path.to_owned() }));
        }
        if !about.is_file() {
            return Err(named("neither a file nor a folder".to_owned()));
        }
        let file = File::open(path).map_err(|error| named(error.to_string()))?;
        let file = Arc::new(spool::plain(file, about.len(), scratch, progress).map_err(named)?);
        let members = tar::members(&file).map_err(named)?;
        Ok(Self(Source::Tar { file, members }))
    }

    /// The file with this path, if there is one.
    fn member(&self, path: &str) -> Result<Option<Member>, ArchiveError> {
        match &self.0 {
            Source::Tar { file, members } => {
                Ok(members.get(path).map(|&(offset, size)| Member { file: file.clone(), offset, size }))
            }
            Source::Folder { root, path: folder } => {
                // Beneath the folder, and over no link: it may be somebody else's work.
                let opened = files::open_file(root, path);
                let opened =
                    opened.map_err(|error| ArchiveError::Unusable(format!("{}/{path}: {error}", folder.display())))?;
                Ok(opened.map(|(file, about)| Member { file: Arc::new(file), offset: 0, size: about.len() }))
            }
        }
    }

    /// The folders in it that hold an `index.json` and an `oci-layout`, with a `/` at the end unless it is the archive's
    /// own top.
    fn layouts(&self) -> Result<Vec<String>, ArchiveError> {
        let candidates: Vec<String> = match &self.0 {
            Source::Tar { members, .. } => {
                let indexes = members.keys().filter_map(|path| path.strip_suffix("index.json"));
                indexes.filter(|at| at.is_empty() || at.ends_with('/')).map(str::to_owned).collect()
            }
            Source::Folder { root, path } => {
                let failed = |error: io::Error| ArchiveError::Unusable(format!("{}: {error}", path.display()));
                let mut found = vec![String::new()];
                for name in files::names(root).map_err(failed)?.take(layout::MAX_LAYOUTS) {
                    let name = name.map_err(failed)?;
                    // A link beside the layouts is none of them.
                    if !std::fs::symlink_metadata(path.join(&name)).map_err(failed)?.is_symlink() {
                        found.push(format!("{name}/"));
                    }
                }
                found.sort();
                found
            }
        };
        let mut layouts = Vec::new();
        for at in candidates {
            let both = [format!("{at}index.json"), format!("{at}oci-layout")];
            if self.member(&both[0])?.is_some() && self.member(&both[1])?.is_some() {
                layouts.push(at);
            }
        }
        Ok(layouts)
    }

    /// A small file, whole.
    fn small(&self, path: &str, limit: u64) -> Result<Option<Bytes>, ArchiveError> {
        let Some(member) = self.member(path)? else { return Ok(None) };
        if member.size > limit {
            return Err(ArchiveError::Unusable(format!("{path} has more than {limit} bytes")));
        }
        let length = usize::try_from(member.size).unwrap_or(usize::MAX);
        member.read(0, length).map(Some).map_err(|error| ArchiveError::Unusable(format!("{path}: {error}")))
    }
}

impl Member {
    /// Whether its content has this digest; reads all of it.
    pub fn has_digest(&self, digest: &Digest) -> io::Result<bool> {
        if digest.algorithm() != Algorithm::Sha256 {
            return Ok(false);
        }
        let mut context = Context::new(&SHA256);
        let mut at = 0;
        while at < self.size {
            let length = usize::try_from(self.size - at).unwrap_or(STEP).min(STEP);
            context.update(&self.read(at, length)?);
            at += length as u64;
        }
        Ok(hex(context.finish().as_ref()) == digest.hex())
    }
}

impl BlobContent for Member {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut bytes, self.offset + offset)?;
        Ok(bytes.freeze())
    }
}
