//! `root.json`: the keys of all roles, and where trust in them begins.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};

use super::authority::Authorities;
use super::document::{Envelope, Head};
use super::key::Key;
use super::metadata::{FileMeta, Snapshot, Timestamp};
use super::role::Role;
use super::targets::Targets;
use super::{MAX_UNMEASURED, TARGETS};
use crate::domain::digest::hex;
use crate::signature::SignatureError;
use crate::signature::json::malformed;

/// Which root certificates are trusted.
#[derive(Debug, Clone, Copy)]
pub enum Pin<'a> {
    /// Those with one of these ids, of the certificate or of the plain key.
    Keys(&'a [String]),
    /// Those that come from one of these authorities.
    Authorities(&'a Authorities),
    /// Any: whoever is seen first, or is known by the hash of the whole file.
    Any,
}

/// A root file that was read and is not verified.
#[derive(Debug)]
pub struct UntrustedRoot {
    envelope: Envelope,
    root: Root,
}

/// A verified root.
#[derive(Debug, Clone)]
pub struct Root {
    pub(super) head: Head,
    gun: String,
    /// Keys of the role `root` that come in a certificate for the repository.
    own: Role,
    timestamp: Role,
    snapshot: Role,
    targets: Role,
    bytes: Vec<u8>,
}

impl UntrustedRoot {
    /// Reads a root file of the repository `gun`, such as `docker.io/library/nginx`. Root keys whose certificate is not
    /// for that repository, or cannot be one of a root, count for nothing.
    pub fn read(bytes: &[u8], gun: &str) -> Result<Self, SignatureError> {
        let envelope = Envelope::read(bytes, MAX_UNMEASURED, "root.json")?;
        let signed = envelope.signed("Root")?;
        let (roles, keys) = (signed.object("roles")?, signed.object("keys")?);
        let role = |name| Role::read(roles.object(name)?, keys);
        let all = role("root")?;
        let own = all.only(|key| key.bundle.as_ref().is_some_and(|bundle| bundle.check_root(gun).is_ok()));
        if own.keys.is_empty() {
            let why = all.keys.iter().find_map(|key| key.bundle.as_ref().and_then(|b| b.check_root(gun).err()));
            let why = why.unwrap_or_else(|| "they come in no certificate".to_owned());
            return Err(SignatureError::Key(format!("root.json has no usable root key for {gun}: {why}")));
        }
        let root = Root {
            head: Head::read(signed)?,
            gun: gun.to_owned(),
            own,
            timestamp: role("timestamp")?,
            snapshot: role("snapshot")?,
            targets: role(TARGETS)?,
            bytes: bytes.to_vec(),
        };
        Ok(Self { envelope, root })
    }

    /// Its version, as it says.
    pub fn version(&self) -> u64 {
        self.root.head.version
    }

    /// SHA-256 of the file in hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.root.fingerprint()
    }

    /// The root, if enough of its keys are trusted and signed it; `Ok(None)` when none of its keys is trusted, so that
    /// only an older root could lead here. `now` is given for the newest root, whose certificates must be valid.
    pub fn establish(&self, pin: Pin<'_>, now: Option<SystemTime>) -> Result<Option<Root>, SignatureError> {
        let trusted = self.root.own.only(|key| is_trusted(key, pin, now));
        if trusted.keys.is_empty() {
            return Ok(None);
        }
        trusted.verify(&self.envelope)?;
        Ok(Some(self.root.clone()))
    }

    /// The root, if it is the next one after `previous`: signed by enough keys of that one, and by enough of its own.
    pub fn follow(&self, previous: &Root) -> Result<Root, SignatureError> {
        if self.version() != previous.head.version + 1 || self.root.gun != previous.gun {
            return Err(malformed(format!("root.json of version {} has another version", previous.head.version + 1)));
        }
        previous.own.verify(&self.envelope)?;
        self.root.own.verify(&self.envelope)?;
        Ok(self.root.clone())
    }

    /// Ids of its root keys, for messages.
    pub fn key_ids(&self) -> Vec<&str> {
        self.root.own.keys.iter().map(|key| key.id.as_str()).collect()
    }
}

fn is_trusted(key: &Key, pin: Pin<'_>, now: Option<SystemTime>) -> bool {
    let Some(bundle) = &key.bundle else { return false };
    if now.is_some_and(|now| !bundle.is_valid_at(now)) {
        return false;
    }
    match (pin, now) {
        (Pin::Keys(ids), _) => ids.iter().any(|id| *id == key.id || *id == key.plain_id),
        (Pin::Authorities(authorities), Some(now)) => authorities.issued(bundle, now),
        // Whether an authority's certificate was good once is not known.
        (Pin::Authorities(_), None) => false,
        (Pin::Any, _) => true,
    }
}

impl Root {
    /// Refuses the newest root when it has expired, or too few of its certificates are valid.
    pub fn check_current(&self, now: SystemTime) -> Result<(), SignatureError> {
        self.head.check(now, "root.json")?;
        if self.own.keys.iter().any(|key| key.bundle.as_ref().is_some_and(|bundle| bundle.is_valid_at(now))) {
            return Ok(());
        }
        Err(SignatureError::NotValid("no root certificate is valid now".to_owned()))
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.head.version
    }

    /// SHA-256 of the file in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(digest(&SHA256, &self.bytes).as_ref())
    }

    /// When it or the last of its certificates expires.
    pub fn valid_until(&self) -> SystemTime {
        let certificates = self.own.keys.iter().filter_map(|key| key.bundle.as_ref()?.valid_until()).max();
        certificates.into_iter().chain([self.head.expires]).min().unwrap_or(self.head.expires)
    }

    /// Verifies `timestamp.json`.
    pub fn timestamp(&self, bytes: &[u8], now: SystemTime) -> Result<Timestamp, SignatureError> {
        Timestamp::read(bytes, &self.timestamp, now)
    }

    /// Verifies `snapshot.json`, which must be the one that the timestamp names and list this very root.
    pub fn snapshot(&self, bytes: &[u8], timestamp: &Timestamp, now: SystemTime) -> Result<Snapshot, SignatureError> {
        Snapshot::read(bytes, timestamp, &self.snapshot, self, now)
    }

    /// Verifies `targets.json`, which must be the one that the snapshot lists.
    pub fn targets(&self, bytes: &[u8], snapshot: &Snapshot, now: SystemTime) -> Result<Targets, SignatureError> {
        let file = snapshot.file(TARGETS).ok_or_else(|| malformed("snapshot.json does not list the targets"))?;
        Targets::read_top(bytes, file, &self.targets, now)
    }

    pub(super) fn is_file(&self, file: &FileMeta) -> Result<(), SignatureError> {
        file.check(&self.bytes, "root.json")
    }
}
