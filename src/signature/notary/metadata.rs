//! `timestamp.json` and `snapshot.json`: which files belong together, and that they are the newest.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::document::{Envelope, Head};
use super::role::Role;
use super::root::Root;
use super::{MAX_FILE, MAX_UNMEASURED, TARGETS};
use crate::domain::digest::hex;
use crate::signature::SignatureError;
use crate::signature::json::{Json, malformed, shown};

/// Files that a snapshot lists.
const MAX_LISTED: usize = 1024;

/// Length and hashes of a file. At least one hash is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    length: usize,
    hashes: Hashes,
}

/// Hashes of some bytes; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) sha256: Option<Vec<u8>>,
    pub(super) sha512: Option<Vec<u8>>,
}

impl Hashes {
    /// Reads `{"sha256": base64, "sha512": base64}`; algorithms that are not known are left out.
    pub(super) fn read(value: &Json) -> Result<Self, SignatureError> {
        let object = value.object("hashes")?;
        let hash = |name: &str, length: usize| match object.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => {
                let bytes = BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() == length);
                bytes.map(Some).ok_or_else(|| malformed(format!("{} is no {name} hash", shown(text))))
            }
            Some(_) => Err(malformed(format!("a {name} hash is no text"))),
        };
        let hashes = Self { sha256: hash("sha256", 32)?, sha512: hash("sha512", 64)? };
        if hashes.sha256.is_none() && hashes.sha512.is_none() {
            return Err(malformed("neither a sha256 nor a sha512 hash"));
        }
        Ok(hashes)
    }

    /// Whether the bytes have every hash there is.
    fn fit(&self, bytes: &[u8]) -> bool {
        let fits = |algorithm: &'static Algorithm, wanted: &Option<Vec<u8>>| {
            wanted.as_ref().is_none_or(|wanted| digest(algorithm, bytes).as_ref() == wanted.as_slice())
        };
        fits(&SHA256, &self.sha256) && fits(&SHA512, &self.sha512)
    }
}

impl FileMeta {
    /// Reads the member of `meta` with this name.
    fn read(value: &Json, name: &str) -> Result<Self, SignatureError> {
        let object = value.object(name)?;
        let length = usize::try_from(object.integer("length")?).ok().filter(|length| *length <= MAX_FILE);
        let length = length.ok_or_else(|| malformed(format!("{} has more than {MAX_FILE} bytes", shown(name))))?;
        let hashes = object.get("hashes").ok_or_else(|| malformed(format!("{} has no hashes", shown(name))))?;
        Ok(Self { length, hashes: Hashes::read(hashes)? })
    }

    /// How many bytes there are to fetch.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The SHA-256 hash in hexadecimal, by which servers keep files, if it is stated.
    pub fn sha256_hex(&self) -> Option<String> {
        self.hashes.sha256.as_deref().map(hex)
    }

    /// Refuses bytes of another length or with other hashes.
    pub(super) fn check(&self, bytes: &[u8], name: &str) -> Result<(), SignatureError> {
        if bytes.len() == self.length && self.hashes.fit(bytes) {
            return Ok(());
        }
        Err(SignatureError::Mismatch(format!("{name} is not the file that the rest of the trust data names")))
    }
}

/// A verified `timestamp.json`.
#[derive(Debug, Clone)]
pub struct Timestamp {
    pub(super) head: Head,
    /// The snapshot that is the newest.
    pub snapshot: FileMeta,
}

/// A verified `snapshot.json`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) head: Head,
    files: BTreeMap<String, FileMeta>,
}

impl Timestamp {
    /// When it expires.
    pub fn expires(&self) -> SystemTime {
        self.head.expires
    }

    pub(super) fn read(bytes: &[u8], role: &Role, now: SystemTime) -> Result<Self, SignatureError> {
        let envelope = Envelope::read(bytes, MAX_UNMEASURED, "timestamp.json")?;
        role.verify(&envelope)?;
        let signed = envelope.signed("Timestamp")?;
        let head = Head::read(signed)?;
        head.check(now, &envelope.name)?;
        let meta = signed.object("meta")?;
        let snapshot = meta.get("snapshot").ok_or_else(|| malformed("timestamp.json names no snapshot"))?;
        Ok(Self { head, snapshot: FileMeta::read(snapshot, "snapshot")? })
    }
}

impl Snapshot {
    pub(super) fn read(
        bytes: &[u8],
        timestamp: &Timestamp,
        role: &Role,
        root: &Root,
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        timestamp.snapshot.check(bytes, "snapshot.json")?;
        let envelope = Envelope::read(bytes, MAX_FILE, "snapshot.json")?;
        role.verify(&envelope)?;
        let signed = envelope.signed("Snapshot")?;
        let head = Head::read(signed)?;
        head.check(now, &envelope.name)?;
        let meta = signed.object("meta")?.members();
        if meta.len() > MAX_LISTED {
            return Err(malformed(format!("snapshot.json lists more than {MAX_LISTED} files")));
        }
        let mut files = BTreeMap::new();
        for (name, value) in meta {
            files.insert(name.clone(), FileMeta::read(value, name)?);
        }
        let snapshot = Self { head, files };
        // The root that all this was verified with must be the one that belongs to it, or an older root would still do.
        match snapshot.file("root") {
            Some(file) => root.is_file(file)?,
            None => return Err(malformed("snapshot.json does not list the root")),
        }
        if snapshot.file(TARGETS).is_none() {
            return Err(malformed("snapshot.json does not list the targets"));
        }
        Ok(snapshot)
    }

    /// When it expires.
    pub fn expires(&self) -> SystemTime {
        self.head.expires
    }

    /// What it says about the file of a role; `None` when there is no such file.
    pub fn file(&self, role: &str) -> Option<&FileMeta> {
        self.files.get(role)
    }
}
