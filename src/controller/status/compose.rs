//! From a policy and what its references hold to the status that says so. Pure.

mod entry;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

use super::material::{Key, Material, Purpose};
use super::reason::Reason;
use super::shadow::Shadow;
use crate::api::{KeyStatus, RegistryStatus};
use crate::domain::policy::{Check, Entry, ObjectRef, Policy};

/// Entries that the status lists, and keys and signer names of all of them together. The rest is left out, so that a status
/// never grows beyond what the API server stores.
const MAX_ENTRIES: usize = 1000;
const MAX_KEYS: usize = 1000;
const MAX_SIGNERS: usize = 1000;
/// Of a registry or a name, in characters.
const MAX_TEXT: usize = 300;
/// What one message tells, at most, and its bytes.
const MAX_TOLD: usize = 10;
const MAX_MESSAGE: usize = 8 * 1024;

/// A Secret or `ConfigMap` and what it is named for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) purpose: Purpose,
    pub(super) reference: ObjectRef,
}

/// Why a reference gives nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not exist; or, for a namespaced policy, cannot be used for whatever reason.
    NotFound,
    /// podseal may not read it.
    Forbidden,
    /// Larger than a namespaced policy may name.
    TooLarge,
    /// The namespace's policies name too many.
    TooMany,
    /// The API server did not say.
    Unavailable(String),
}

/// What each reference of a policy gives.
pub(super) type Found = HashMap<Target, Result<Arc<Material>, Trouble>>;

/// A status without times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// What is hidden, if something is: the reason and the message.
    pub(super) shadowed: Option<(&'static str, String)>,
    pub(super) registries: Vec<RegistryStatus>,
    /// When it has to be composed anew even if nothing changes.
    pub(super) until: Option<SystemTime>,
}

/// All references of a policy, each once.
pub(super) fn targets(policy: &Policy) -> Vec<Target> {
    let mut all: Vec<Target> = policy.entries.iter().flat_map(|entry| targets_of(entry)).collect();
    all.sort();
    all.dedup();
    all
}

fn targets_of(entry: &Entry) -> Vec<Target> {
    let Check::Signed(check) = &entry.check else { return Vec::new() };
    let named = [
        (Purpose::Cosign, check.cosign.as_ref().and_then(|cosign| cosign.key_ref.as_ref())),
        (Purpose::Gpg, check.gpg.as_ref().map(|gpg| &gpg.key_ref)),
        (Purpose::Certificates, check.transport.ca_ref.as_ref()),
        (Purpose::TrustRoot, check.cosign.as_ref().and_then(|cosign| cosign.trust_root.as_ref())),
    ];
    let target =
        |(purpose, reference): (Purpose, Option<&ObjectRef>)| Some(Target { purpose, reference: reference?.clone() });
    named.into_iter().filter_map(target).collect()
}

/// The status of a policy. `registries` are the entries' registries as written.
pub(super) fn compose(policy: &Policy, registries: &[String], found: &Found, shadow: &Shadow) -> Draft {
    let mut draft = Composer { policy, found, issues: Vec::new(), notes: Vec::new(), until: None };
    draft.problems();
    for entry in &policy.entries {
        draft.entry(entry);
    }
    for index in &shadow.wholly {
        let text = "no cluster policy names this registry, and this installation takes registries from cluster policies \
                    alone: its images are denied";
        draft.issue(Reason::Shadowed, format!("spec.registries[{index}]"), text.to_owned());
    }
    if shadow.rest_denied {
        draft.notes.push("images of registries that no policy names are denied".to_owned());
    }
    let registries = draft.registries(registries);
    let (reason, message) = draft.ready();
    Draft { reason, message, shadowed: shadowed(shadow), registries, until: draft.until }
}

fn shadowed(shadow: &Shadow) -> Option<(&'static str, String)> {
    let mut texts: Vec<String> = Vec::new();
    for index in &shadow.wholly {
        texts.push(format!("spec.registries[{index}]: no cluster policy names its registry"));
    }
    texts.extend(shadow.partly.iter().cloned());
    let left_out = texts.len().saturating_sub(MAX_TOLD) + shadow.more;
    texts.truncate(MAX_TOLD);
    let mut message = texts.join("; ");
    if left_out > 0 {
        let _ = write!(message, "; and {left_out} more");
    }
    let reason = if shadow.wholly.is_empty() { "MoreSpecificEntry" } else { "RegistriesRestricted" };
    (!texts.is_empty()).then(|| (reason, bounded(&message, MAX_MESSAGE)))
}

/// Something that keeps an entry from being used.
struct Issue {
    reason: Reason,
    field: String,
    text: String,
}

struct Composer<'a> {
    policy: &'a Policy,
    found: &'a Found,
    issues: Vec<Issue>,
    notes: Vec<String>,
    until: Option<SystemTime>,
}

impl Composer<'_> {
    fn issue(&mut self, reason: Reason, field: String, text: String) {
        self.issues.push(Issue { reason, field, text });
    }

    fn namespaced(&self) -> bool {
        self.policy.id.namespace.is_some()
    }

    /// What the reading of the object found.
    fn problems(&mut self) {
        for problem in &self.policy.problems {
            if problem.error {
                self.issues.push(Issue {
                    reason: Reason::InvalidEntry,
                    field: problem.field.clone(),
                    text: problem.message.clone(),
                });
            } else {
                self.notes.push(problem.to_string());
            }
        }
    }

    /// One element per entry of the object, in its order, as many as fit.
    fn registries(&mut self, written: &[String]) -> Vec<RegistryStatus> {
        let mut list: Vec<RegistryStatus> = written
            .iter()
            .take(MAX_ENTRIES)
            .map(|registry| RegistryStatus { registry: bounded(registry, MAX_TEXT), ..RegistryStatus::default() })
            .collect();
        let (mut keys, mut signers, mut left_out) = (MAX_KEYS, MAX_SIGNERS, written.len() > MAX_ENTRIES);
        for entry in &self.policy.entries {
            let Some(status) = list.get_mut(entry.index) else { continue };
            for target in targets_of(entry) {
                let Some(Ok(material)) = self.found.get(&target) else { continue };
                left_out |= material.keys.len() > keys || material.signers.len() > signers;
                status.keys.extend(material.keys.iter().take(keys).map(|key| key_status(key, &target.reference)));
                status.signers.extend(material.signers.iter().take(signers).map(|name| bounded(name, MAX_TEXT)));
                keys = keys.saturating_sub(material.keys.len());
                signers = signers.saturating_sub(material.signers.len());
            }
        }
        if left_out {
            self.notes.push("status.registries does not list everything, because there is too much".to_owned());
        }
        list
    }

    /// The reason and the message: what is wrong first, then what is worth knowing.
    fn ready(&self) -> (Reason, String) {
        let reason = self.issues.iter().map(|issue| issue.reason).min().unwrap_or(Reason::Usable);
        let mut issues: Vec<&Issue> = self.issues.iter().collect();
        issues.sort_by_key(|issue| issue.reason);
        let issues = issues.iter().map(|issue| format!("{}: {}", issue.field, issue.text));
        let mut message = if self.issues.is_empty() {
            "every entry can be used".to_owned()
        } else {
            listed(issues, self.issues.len())
        };
        if !self.notes.is_empty() {
            let notes = listed(self.notes.iter().cloned(), self.notes.len());
            let _ = write!(message, ". Note: {notes}");
        }
        (reason, bounded(&message, MAX_MESSAGE))
    }
}

fn listed(texts: impl Iterator<Item = String>, all: usize) -> String {
    let mut text = texts.take(MAX_TOLD).collect::<Vec<_>>().join("; ");
    if all > MAX_TOLD {
        let _ = write!(text, "; and {} more", all - MAX_TOLD);
    }
    text
}

fn key_status(key: &Key, reference: &ObjectRef) -> KeyStatus {
    let expires = key.expires.and_then(|end| Timestamp::try_from(end).ok());
    KeyStatus {
        fingerprint: key.fingerprint.clone(),
        expires: expires.and_then(|end| Timestamp::from_second(end.as_second()).ok()).map(|end| end.to_string()),
        source: bounded(&format!("{reference}/{}", key.file), 2 * MAX_TEXT),
    }
}

/// At most `max` characters, without control characters.
fn bounded(text: &str, max: usize) -> String {
    let mut short: String = text.chars().take(max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
