//! The folder of public keys, for serving and for the page.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};

use super::paths::is_key_name;
use crate::domain::digest::Digest;
use crate::signature::openpgp::{KeyInfo, Keyring, holds_secret_key};

/// Largest key file, in bytes; most files; bytes of all.
const MAX_FILE: u64 = 4 << 20;
const MAX_FILES: usize = 500;
const MAX_TOTAL: usize = 64 << 20;
/// How long what was read is served without looking again.
const FRESH: Duration = Duration::from_secs(2);

/// A key file that may be served.
#[derive(Debug, Clone)]
pub(super) struct KeyFile {
    pub(super) content: Bytes,
    /// Seconds since 1970.
    pub(super) modified: i64,
}

/// What the folder holds.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The files that are served, by name.
    pub(super) files: BTreeMap<String, KeyFile>,
    /// The OpenPGP certificates in them.
    pub(super) ring: Keyring,
    /// What people are shown of those.
    pub(super) certificates: Vec<KeyInfo>,
    /// Changes when any file does.
    pub(super) generation: Option<Digest>,
}

/// Reads the folder now and then.
#[derive(Debug)]
pub(super) struct KeyFolder {
    path: PathBuf,
    seen: Mutex<Option<(Instant, Arc<Keys>)>>,
}

impl KeyFolder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Mutex::new(None) }
    }

    /// What the folder held a moment ago, if that was looked at.
    pub(super) fn fresh(&self) -> Option<Arc<Keys>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, keys)| Arc::clone(keys))
    }

    /// The same, read if need be; may block. Who comes while it is read waits for that.
    pub(super) fn look(&self) -> Arc<Keys> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, keys)) = seen.as_ref()
            && at.elapsed() < FRESH
        {
            return Arc::clone(keys);
        }
        let files = self.read().unwrap_or_else(|error| {
            tracing::debug!(%error, folder = %self.path.display(), "the folder of public keys cannot be read");
            BTreeMap::new()
        });
        let generation = generation(&files);
        // Parsing is what takes time: the same files are not parsed again.
        let keys = match seen.take() {
            Some((_, before)) if before.generation.as_ref() == Some(&generation) => before,
            _ => Arc::new(parse(files, generation)),
        };
        *seen = Some((Instant::now(), Arc::clone(&keys)));
        keys
    }

    fn read(&self) -> io::Result<BTreeMap<String, KeyFile>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.path, flags, Mode::empty())?;
        let mut names: Vec<String> = Vec::new();
        for entry in Dir::read_from(&folder)? {
            names.extend(entry?.file_name().to_str().ok().filter(|name| is_key_name(name)).map(str::to_owned));
        }
        names.sort();
        let (mut files, mut total) = (BTreeMap::new(), 0);
        for name in names.into_iter().take(MAX_FILES) {
            let Some(file) = read_file(&folder, &name) else { continue };
            total += file.content.len();
            if total > MAX_TOTAL {
                break;
            }
            if let Err(why) = may_be_served(&name, &file.content) {
                tracing::warn!(file = %name, "a file in the folder of public keys is not served: {why}");
                continue;
            }
            files.insert(name, file);
        }
        Ok(files)
    }
}

/// Links are followed inside the folder, because volumes of Secrets and ConfigMaps consist of them.
fn read_file(folder: &OwnedFd, name: &str) -> Option<KeyFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve).ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).ok()?;
    let fits = content.len() as u64 <= MAX_FILE;
    fits.then(|| KeyFile { content: content.into(), modified: metadata.mtime() })
}

/// Whether nothing in a file is secret: it is certificates alone, or text that cannot be a key. A file that lost its key
/// is served as it is, as a web server would, so that who fetches it sees that there is none.
fn may_be_served(name: &str, content: &[u8]) -> Result<(), &'static str> {
    let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
    if holds(b"PRIVATE KEY") || holds_secret_key(content) {
        return Err("it holds secret key material; move it away, and consider the key known to others");
    }
    let is_text = std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0'));
    if is_text && !holds(b"-----BEGIN PGP") {
        return Ok(());
    }
    let (ring, _) = Keyring::from_files([(name, content)]);
    if ring.is_empty() { Err("it holds no public key that can be read") } else { Ok(()) }
}

fn generation(files: &BTreeMap<String, KeyFile>) -> Digest {
    let parts =
        files.iter().map(|(name, file)| format!("{name} {} {}\n", file.modified, Digest::sha256(&file.content)));
    Digest::sha256(parts.collect::<String>().as_bytes())
}

fn parse(files: BTreeMap<String, KeyFile>, generation: Digest) -> Keys {
    let openpgp = files.iter().filter(|(name, _)| !name.ends_with(".pub"));
    let (ring, _) = Keyring::from_files(openpgp.map(|(name, file)| (name.as_str(), file.content.as_ref())));
    let certificates = ring.keys(SystemTime::now());
    Keys { files, ring, certificates, generation: Some(generation) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use sequoia_openpgp::cert::CertBuilder;
    use sequoia_openpgp::serialize::SerializeInto as _;

    use super::*;

    fn served(folder: &tempfile::TempDir) -> Vec<String> {
        KeyFolder::new(folder.path()).look().files.keys().cloned().collect()
    }

    #[test]
    fn public_keys_are_served_and_secret_ones_never() {
        let (cert, _) = CertBuilder::general_purpose(Some("a@example.org")).generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let public = cert.to_vec().unwrap();
        let secret = cert.as_tsk().to_vec().unwrap();
        let armored = cert.as_tsk().armored().to_vec().unwrap();
        write("public.pgp", &public);
        write("armored.asc", &cert.armored().to_vec().unwrap());
        write("cosign.pub", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
        write("corrupt.pgp", b"aaa\n");
        write("empty.gpg", b"");
        write("secret.gpg", &secret);
        write("secret.asc", &armored);
        write("mixed.pgp", &[public.clone(), secret].concat());
        write("disguised.asc", &String::from_utf8(armored).unwrap().replace("PRIVATE", "PUBLIC").into_bytes());
        write("cosign-key.pub", b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n");
        write("binary.pgp", &[0, 1, 2]);
        write(".hidden.pgp", &public);
        write("public.pgp.tmp", &public);
        write("imagemakers.json", b"{}");
        assert_eq!(served(&folder), ["armored.asc", "corrupt.pgp", "cosign.pub", "empty.gpg", "public.pgp"]);
        let keys = KeyFolder::new(folder.path()).look();
        assert_eq!(keys.certificates.len(), 1);
    }

    #[test]
    fn links_are_followed_inside_the_folder_alone() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        std::fs::write(folder.path().join("..data/in.pgp"), "aaa").unwrap();
        symlink("..data/in.pgp", folder.path().join("in.pgp")).unwrap();
        symlink(outside.path(), folder.path().join("out.pgp")).unwrap();
        symlink("/proc/self/environ", folder.path().join("environ.pub")).unwrap();
        assert_eq!(served(&folder), ["in.pgp"]);
        assert!(KeyFolder::new(&folder.path().join("none")).look().files.is_empty());
    }
}
