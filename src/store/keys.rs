//! The folder of public keys, for serving and for the page.

mod secrets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};

use self::secrets::Serve;
use super::paths::{is_cosign_key, is_key_name};
use crate::domain::digest::Digest;
use crate::signature::openpgp::Keyring;
use crate::telemetry::seldom;

/// Largest key file, in bytes; most files; bytes of all.
const MAX_FILE: u64 = 4 << 20;
const MAX_FILES: usize = 500;
const MAX_TOTAL: usize = 64 << 20;
/// How long what was read is served without looking again.
const FRESH: Duration = Duration::from_millis(200);
/// The same while somebody else looks.
const STALE: Duration = Duration::from_secs(5);
/// Served for a file that has the name of an `OpenPGP` key file and no key: who fetches it sees that there is none, as
/// with a web server, and never what is there instead.
const NO_KEY: &[u8] = b"there is no public key in this file\n";

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
    /// The `OpenPGP` certificates in them.
    pub(super) ring: Keyring,
    /// Changes when any file does.
    pub(super) generation: Option<Digest>,
}

/// Reads the folder now and then.
#[derive(Debug)]
pub(super) struct KeyFolder {
    path: PathBuf,
    /// Held for a moment, never while the disk is waited for.
    seen: Mutex<Option<(Instant, Arc<Keys>)>>,
    /// Held by the one who reads.
    reading: Mutex<()>,
}

impl KeyFolder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Mutex::new(None), reading: Mutex::new(()) }
    }

    /// What the folder held a moment ago, if that was looked at. Waits for no disk.
    pub(super) fn fresh(&self) -> Option<Arc<Keys>> {
        self.seen_within(FRESH)
    }

    /// The same, read if need be; may block. Who comes while it is read gets what was there before, unless that is old.
    pub(super) fn look(&self) -> Arc<Keys> {
        if let Some(keys) = self.fresh() {
            return keys;
        }
        let _reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => match self.seen_within(STALE) {
                Some(keys) => return keys,
                None => self.reading.lock().unwrap_or_else(PoisonError::into_inner),
            },
        };
        if let Some(keys) = self.fresh() {
            return keys;
        }
        let files = self.read().unwrap_or_else(|error| {
            tracing::debug!(%error, folder = %self.path.display(), "the folder of public keys cannot be read");
            BTreeMap::new()
        });
        let generation = generation(&files);
        // Parsing is what takes time: the same files are not parsed again.
        let before = self.lock().as_ref().map(|(_, keys)| Arc::clone(keys));
        let keys = match before {
            Some(before) if before.generation.as_ref() == Some(&generation) => before,
            _ => Arc::new(parse(files, generation)),
        };
        *self.lock() = Some((Instant::now(), Arc::clone(&keys)));
        keys
    }

    fn seen_within(&self, time: Duration) -> Option<Arc<Keys>> {
        self.lock().as_ref().filter(|(at, _)| at.elapsed() < time).map(|(_, keys)| Arc::clone(keys))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Arc<Keys>)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
            match secrets::what_to_serve(&name, &file.content) {
                Ok(Serve::Content) => drop(files.insert(name, file)),
                Ok(Serve::NoKey) => {
                    let content = Bytes::from_static(NO_KEY);
                    files.insert(name, KeyFile { content, modified: file.modified });
                }
                Err(why) if seldom::says(&format!("{name} {why}")) => {
                    tracing::warn!(file = %name, "a file in the folder of public keys is not served: {why}");
                }
                Err(_) => {}
            }
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

fn generation(files: &BTreeMap<String, KeyFile>) -> Digest {
    let parts =
        files.iter().map(|(name, file)| format!("{name} {} {}\n", file.modified, Digest::sha256(&file.content)));
    Digest::sha256(parts.collect::<String>().as_bytes())
}

fn parse(files: BTreeMap<String, KeyFile>, generation: Digest) -> Keys {
    let openpgp = files.iter().filter(|(name, _)| !is_cosign_key(name));
    let (ring, _) = Keyring::from_files(openpgp.map(|(name, file)| (name.as_str(), file.content.as_ref())));
    Keys { files, ring, generation: Some(generation) }
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
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
        write("cosign.pub", pem.as_bytes());
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
        assert_eq!(keys.ring.keys(std::time::SystemTime::now()).len(), 1);
        assert_eq!(keys.files["public.pgp"].content, public);
        for spoilt in ["corrupt.pgp", "empty.gpg"] {
            assert_eq!(keys.files[spoilt].content, NO_KEY, "{spoilt}");
        }
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

    #[test]
    fn what_is_secret_in_other_forms_is_served_by_no_name() {
        use base64::Engine as _;
        let (cert, _) = CertBuilder::general_purpose(Some("a@example.org")).generate().unwrap();
        let (public, secret) = (cert.armored().to_vec().unwrap(), cert.as_tsk().to_vec().unwrap());
        let bare = base64::prelude::BASE64_STANDARD.encode(&secret);
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem().into_bytes();
        for canary in [
            "(private-key (rsa (n #00A1B2#) (d #00CANARY#)))",
            "(21:protected-private-key(3:rsa(1:n3:abc)))",
            "Created: 20310101T000000\nKey: (private-key (ecc (curve Ed25519)))",
            "Key: (shadowed-private-key (rsa))",
            "password: hunter2",
            "AGE-SECRET-KEY-1QQQ",
            &bare,
        ] {
            for (name, before) in [("a.pgp", &b""[..]), ("a.pub", b""), ("a.asc", &public), ("a.pub", &pem)] {
                let folder = tempfile::tempdir().unwrap();
                let content = [before, b"\n", canary.as_bytes(), b"\n"].concat();
                std::fs::write(folder.path().join(name), content).unwrap();
                let keys = KeyFolder::new(folder.path()).look();
                assert!(keys.files.values().all(|file| file.content == NO_KEY), "{name}: {canary}");
                assert!(before.is_empty() || keys.files.is_empty(), "{name}: {canary}");
            }
        }
        // Behind a binary key, and in text that is no UTF-8.
        let binary = cert.to_vec().unwrap();
        for (name, content) in [
            ("a.pgp", [&*binary, b"\npassword: hunter2\n"].concat()),
            ("a.pgp", [&*binary, b"hunter2"].concat()),
            ("a.pub", [&*pem, b"password: hunter2 \xE9\n"].concat()),
            ("a.pub", [&*pem, b"password: hunter2 \0\n"].concat()),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), content).unwrap();
            assert_eq!(served(&folder), Vec::<String>::new());
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.pub"), "the cellar is left of the stairs\n").unwrap();
        let with_remark = [b"# maker of web, since 2031\n", public.as_slice()].concat();
        std::fs::write(folder.path().join("remark.asc"), with_remark).unwrap();
        assert_eq!(served(&folder), ["remark.asc"]);
    }

    /// What openssl and gpg write for a certificate, a key of another kind, an RSA key in its own form, and two keys.
    fn blocks_that_are_served() -> Vec<(&'static str, Vec<u8>)> {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = key.public_key_pem();
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        // X25519 of RFC 7748: public, and none that could verify.
        let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n\
                     -----END PUBLIC KEY-----\n";
        let cert = |user_id| CertBuilder::general_purpose(Some(user_id)).generate().unwrap().0;
        let long = cert("imagemaker-k8s-c10f1@registry.production.company.example.com");
        let armored = [long.armored().to_vec().unwrap(), cert("a@example.org").armored().to_vec().unwrap()];
        let marked = |text: &str| [b"\xEF\xBB\xBF".as_slice(), text.as_bytes()].concat();
        vec![
            ("certificate.pub", format!("# cosign\n{pem}\n{certificate}").into_bytes()),
            ("other.pub", format!("{other}{pem}").into_bytes()),
            ("dos.pub", pem.replace('\n', "\r\n").into_bytes()),
            ("mac.pub", pem.replace('\n', "\r").into_bytes()),
            ("two.asc", armored.concat()),
            ("mixed.asc", [&armored[0], pem.as_bytes()].concat()),
            ("dos.asc", String::from_utf8(armored[0].clone()).unwrap().replace('\n', "\r\n").into_bytes()),
            ("marked.asc", marked(std::str::from_utf8(&armored[0]).unwrap())),
        ]
    }

    #[test]
    fn blocks_of_public_things_alone_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = Vec::new();
        for (name, content) in blocks_that_are_served() {
            std::fs::write(folder.path().join(name), content).unwrap();
            wanted.push(name.to_owned());
        }
        wanted.sort();
        assert_eq!(served(&folder), wanted);
    }

    #[test]
    fn a_block_is_no_place_to_hide_a_secret() {
        use base64::Engine as _;
        let (cert, _) = CertBuilder::general_purpose(Some("a@example.org")).generate().unwrap();
        let public = String::from_utf8(cert.armored().to_vec().unwrap()).unwrap();
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
        let secret = base64::prelude::BASE64_STANDARD.encode(cert.as_tsk().to_vec().unwrap());
        let pkcs8 = base64::prelude::BASE64_STANDARD.encode(rcgen::KeyPair::generate().unwrap().serialize_der());
        let lines = |text: &str| text.as_bytes().chunks(64).map(|l| [l, b"\n"].concat()).collect::<Vec<_>>().concat();
        let block = |label: &str, body: &str| {
            let body = String::from_utf8(lines(body)).unwrap();
            format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
        };
        let mut hidden = vec![
            "-----BEGIN NOTES-----\npassword: hunter2\n-----END NOTES-----\n".to_owned(),
            "-----BEGIN NOTES-----\npassword: hunter2\n".to_owned(),
            "-----BEGIN X-----\nhunter2\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\nhunter2\n".to_owned(),
            "-----BEGIN PUBLIC KEY\nhunter2\n".to_owned(),
            "-----BEGIN PUBLIC KEY-----\npassword: hunter2\n-----END PUBLIC KEY-----\n".to_owned(),
            pem.replace("-----END", "Note: hunter2\n-----END"),
            pem.replace("-----END PUBLIC", "-----END X"),
            public.replace("-----END", "hunter2xx\n-----END"),
            public.replace("-----END", "pass word\n-----END"),
            public.replace("BLOCK-----\n", "BLOCK-----\nComment: password hunter2\n"),
            public.replace("BLOCK-----\n", &format!("BLOCK-----\nComment: {secret}\n")),
        ];
        for label in ["FOO", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "PGP PUBLIC KEY BLOCK", "PGP MESSAGE"] {
            hidden.extend([&secret, &pkcs8, "aHVudGVyMg=="].map(|body| block(label, body)));
        }
        for (number, hidden) in hidden.iter().enumerate() {
            for (name, before) in [("a.asc", &public), ("a.pub", &pem)] {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join(name), format!("{before}{hidden}")).unwrap();
                assert_eq!(served(&folder), Vec::<String>::new(), "{number} {name}: {hidden}");
            }
        }
    }

    #[test]
    fn what_was_seen_is_there_while_somebody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        keys.look();
        let _reads = keys.reading.lock().unwrap();
        assert!(keys.fresh().is_some());
        std::thread::sleep(FRESH);
        // Both would wait for ever.
        assert!(keys.fresh().is_none());
        assert!(keys.look().files.is_empty());
    }
}
