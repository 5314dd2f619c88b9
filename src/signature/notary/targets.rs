//! `targets.json` and the files of delegations: what each tag is, and who else may say so.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::document::{Envelope, Head};
use super::metadata::{FileMeta, Hashes};
use super::role::{Role, strings};
use super::{MAX_FILE, TARGETS};
use crate::signature::SignatureError;
use crate::signature::json::{Json, malformed, shown};

/// Delegations of one file, and paths of one delegation.
const MAX_DELEGATIONS: usize = 256;
/// Characters of a role's name, and components.
const MAX_NAME: usize = 255;
const MAX_DEPTH: usize = 8;

/// A verified file of targets.
#[derive(Debug, Clone)]
pub struct Targets {
    /// `targets` or `targets/<name>`.
    role: String,
    pub(super) head: Head,
    tags: BTreeMap<String, Hashes>,
    delegations: BTreeMap<String, Delegation>,
}

/// Somebody else who may say what certain tags are.
#[derive(Debug, Clone)]
pub struct Delegation {
    role: String,
    keys: Role,
    /// Beginnings of names; an empty one is for all names.
    paths: Vec<String>,
}

impl Targets {
    pub(super) fn read_top(
        bytes: &[u8],
        file: &FileMeta,
        keys: &Role,
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        Self::read(bytes, file, TARGETS, keys, &[String::new()], now)
    }

    fn read(
        bytes: &[u8],
        file: &FileMeta,
        role: &str,
        keys: &Role,
        paths: &[String],
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        let name = format!("{role}.json");
        file.check(bytes, &name)?;
        let envelope = Envelope::read(bytes, MAX_FILE, &name)?;
        keys.verify(&envelope)?;
        let signed = envelope.signed("Targets")?;
        let head = Head::read(signed)?;
        head.check(now, &name)?;
        let mut tags = BTreeMap::new();
        for (target, value) in signed.object("targets")?.members() {
            // A role that speaks of more than it may speaks of the rest for nothing.
            if is_within(target, paths) {
                let hashes = value.object(target)?.get("hashes").ok_or_else(|| malformed("a target without hashes"))?;
                tags.insert(target.clone(), Hashes::read(hashes)?);
            }
        }
        let delegations = read_delegations(&envelope, role, paths)?;
        Ok(Self { role: role.to_owned(), head, tags, delegations })
    }

    /// The role that signed it.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.head.version
    }

    /// When it expires.
    pub fn expires(&self) -> SystemTime {
        self.head.expires
    }

    /// The role below it with this full name, if there is one that may say anything.
    pub fn delegation(&self, role: &str) -> Option<&Delegation> {
        self.delegations.get(role)
    }

    pub(super) fn target(&self, tag: &str) -> Option<&Hashes> {
        self.tags.get(tag)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Hashes)> {
        self.tags.iter().map(|(tag, hashes)| (tag.as_str(), hashes))
    }
}

impl Delegation {
    /// Verifies the file of the role, which must be the one that the snapshot lists. `Key` and `NotValid` say that the
    /// role alone counts for nothing now; every other error says that the trust data is not sound.
    pub fn read(&self, bytes: &[u8], file: &FileMeta, now: SystemTime) -> Result<Targets, SignatureError> {
        Targets::read(bytes, file, &self.role, &self.keys, &self.paths, now)
    }
}

/// The delegations of a file with what they may speak of: never more than the file itself.
fn read_delegations(
    envelope: &Envelope,
    above: &str,
    above_paths: &[String],
) -> Result<BTreeMap<String, Delegation>, SignatureError> {
    let signed = envelope.signed("Targets")?;
    let mut found = BTreeMap::new();
    let Some(value) = signed.get("delegations") else { return Ok(found) };
    let delegations = value.object("delegations")?;
    let list = match delegations.get("roles") {
        None => return Ok(found),
        Some(Json::List(list)) if list.is_empty() => return Ok(found),
        Some(_) => delegations.list("roles", MAX_DELEGATIONS)?,
    };
    let keys = delegations.object("keys")?;
    for value in list {
        let object = value.object("a delegation")?;
        let name = object.text("name")?;
        if !is_role(name) || name.rsplit_once('/').map(|(parent, _)| parent) != Some(above) {
            return Err(malformed(format!("{above}.json delegates to {}, which is no role below it", shown(name))));
        }
        let paths = match object.get("paths") {
            Some(Json::List(paths)) if paths.len() <= MAX_DELEGATIONS => strings(paths),
            None => Some(Vec::new()),
            Some(_) => None,
        };
        let mut paths = paths.ok_or_else(|| malformed(format!("{name} has no list of paths")))?;
        paths.retain(|path| is_within(path, above_paths));
        let delegation = Delegation { role: name.to_owned(), keys: Role::read(object, keys)?, paths };
        if found.insert(name.to_owned(), delegation).is_some() {
            return Err(malformed(format!("{above}.json delegates to {name} twice")));
        }
    }
    Ok(found)
}

fn is_within(name: &str, paths: &[String]) -> bool {
    paths.iter().any(|path| name.starts_with(path.as_str()))
}

/// Whether a text is the full name of a delegation, and can be part of a URL's path without changing it.
pub(super) fn is_role(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let component = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
    name.len() <= MAX_NAME
        && name.split('/').count() <= MAX_DEPTH
        && name.strip_prefix("targets/").is_some_and(|rest| rest.split('/').all(component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e43_a_role_name_is_never_a_path() {
        for name in ["targets/releases", "targets/a", "targets/a-b_c.1", "targets/a/b"] {
            assert!(is_role(name), "{name}");
        }
        for name in [
            "",
            "targets",
            "targets/",
            "targets/a/",
            "targets//a",
            "targets/..",
            "targets/a/../b",
            "targets/.",
            "targets/A",
            "targets/a?b",
            "targets/a%2fb",
            "targets/a b",
            "root",
            "other/a",
            "targets/a/b/c/d/e/f/g/h",
        ] {
            assert!(!is_role(name), "{name}");
        }
        assert!(!is_role(&format!("targets/{}", "a".repeat(250))));
    }
}
