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
//! by a link: its members are only looked up, and links are no members. Everything that is taken from it by digest is
//! hashed before it is used. Sizes, counts and what is unpacked are bounded.

mod layout;
mod spool;
mod tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};

pub use self::layout::{Architecture, ArchitectureError, Descriptor, ImageInArchive, images};
use crate::domain::digest::{Algorithm, Digest, hex};
use crate::source::registry::BlobContent;

/// Why an archive cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveError(pub(super) String);

/// Bytes read at a time.
const STEP: usize = 1 << 20;

/// An archive that can be looked into.
#[derive(Debug)]
pub struct Archive(Source);

#[derive(Debug)]
enum Source {
    Tar { file: Arc<File>, members: BTreeMap<String, (u64, u64)> },
    Folder(PathBuf),
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
        let named = |why: String| ArchiveError(format!("{}: {why}", path.display()));
        let about = std::fs::metadata(path).map_err(|error| named(error.to_string()))?;
        if about.is_dir() {
            return Ok(Self(Source::Folder(path.to_owned())));
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
            Source::Folder(folder) => {
                let path = folder.join(path);
                let failed = |error: io::Error| ArchiveError(format!("{}: {error}", path.display()));
                match std::fs::symlink_metadata(&path) {
                    Ok(about) if about.is_file() => {}
                    Ok(_) => return Ok(None),
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(failed(error)),
                }
                let file = File::open(&path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok(Some(Member { file: Arc::new(file), offset: 0, size }))
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
            Source::Folder(folder) => {
                let failed = |error: io::Error| ArchiveError(format!("{}: {error}", folder.display()));
                let mut found = vec![String::new()];
                for entry in std::fs::read_dir(folder).map_err(failed)?.take(layout::MAX_LAYOUTS) {
                    let name = entry.map_err(failed)?.file_name();
                    found.extend(name.to_str().map(|name| format!("{name}/")));
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
            return Err(ArchiveError(format!("{path} has more than {limit} bytes")));
        }
        let length = usize::try_from(member.size).unwrap_or(usize::MAX);
        member.read(0, length).map(Some).map_err(|error| ArchiveError(format!("{path}: {error}")))
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
