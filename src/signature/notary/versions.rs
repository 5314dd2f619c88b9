//! What was seen before: trust data never goes back to an older version.

use std::collections::BTreeMap;

use super::metadata::{Snapshot, Timestamp};
use super::root::Root;
use super::targets::Targets;
use crate::signature::SignatureError;

/// Roles whose versions are remembered for one repository.
const MAX_ROLES: usize = 64;

/// The highest versions of a repository's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, u64>);

impl Versions {
    /// Those of files that were verified together.
    pub fn of<'a>(
        root: &Root,
        timestamp: &Timestamp,
        snapshot: &Snapshot,
        targets: impl IntoIterator<Item = &'a Targets>,
    ) -> Self {
        let fixed =
            [("root", root.head.version), ("timestamp", timestamp.head.version), ("snapshot", snapshot.head.version)];
        let fixed = fixed.into_iter().map(|(name, version)| (name.to_owned(), version));
        let roles = targets.into_iter().map(|targets| (targets.role().to_owned(), targets.version()));
        Self(fixed.chain(roles).collect())
    }

    /// Refuses a version below one that was seen before.
    pub fn check(&self, before: &Self) -> Result<(), SignatureError> {
        for (role, version) in &self.0 {
            if let Some(seen) = before.0.get(role).filter(|seen| *seen > version) {
                let what = format!(
                    "the server went back from version {seen} of {role}.json to version {version}, which a server \
                     that holds back newer data does, too"
                );
                return Err(SignatureError::NotValid(what));
            }
        }
        Ok(())
    }

    /// The higher ones of both.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (role, version) in &other.0 {
            let room = self.0.len() < MAX_ROLES;
            match self.0.get_mut(role) {
                Some(known) => *known = (*known).max(*version),
                None if room => _ = self.0.insert(role.clone(), *version),
                None => {}
            }
        }
        self
    }
}
