//! From a policy and what its references hold to the status that says so. Pure.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

use super::material::{Key, Material, Purpose};
use super::reason::Reason;
use super::shadow::Shadow;
use crate::api::{KeyStatus, RegistryStatus};
use crate::domain::policy::{Check, Entry, ObjectRef, Policy, SignedCheck};
use crate::verify::{MAX_TENANT, unusable_text};

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
        (Purpose::Cosign, check.cosign.as_ref().map(|cosign| &cosign.key_ref)),
        (Purpose::Gpg, check.gpg.as_ref().map(|gpg| &gpg.key_ref)),
        (Purpose::Certificates, check.transport.ca_ref.as_ref()),
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

    fn entry(&mut self, entry: &Arc<Entry>) {
        let place = format!("spec.registries[{}]", entry.index);
        match &entry.check {
            Check::Unchecked => {}
            Check::Broken(why) => {
                // What makes the webhook refuse the object is among the problems already.
                let within = |field: &str| {
                    field.strip_prefix(&place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                if !self.issues.iter().any(|issue| within(&issue.field)) {
                    self.notes.retain(|note| !note.starts_with(&format!("{place}.cosignKeyRef: ")));
                    self.issue(Reason::InvalidEntry, place, format!("{why}; its images are denied"));
                }
            }
            Check::Signed(check) if check.cosign.is_none() && check.gpg.is_none() => {
                let field = if check.notary.is_some() { "notary" } else { "signCheck" };
                let start = format!("{place}.{field}: ");
                self.notes.retain(|note| !note.starts_with(&start));
                let text = if check.notary.is_some() {
                    "Notary is not evaluated by this version, and nothing else is configured: its images are denied; \
                     give cosignKeyRef or gpgKeyRef as well"
                } else {
                    "true, but nothing is configured to check a signature with: its images are denied; give \
                     cosignKeyRef or gpgKeyRef"
                };
                self.issue(Reason::NoVerifier, format!("{place}.{field}"), text.to_owned());
            }
            Check::Signed(check) => self.signed(entry, check, &place),
        }
    }

    fn signed(&mut self, entry: &Entry, check: &SignedCheck, place: &str) {
        for target in targets_of(entry) {
            let field = format!("{place}.{}", target.purpose.field());
            match self.found.get(&target) {
                Some(Ok(material)) => self.material(&target, &field, &material.clone()),
                Some(Err(trouble)) => {
                    let (reason, text) = self.trouble(&target, trouble);
                    self.issue(reason, field, text);
                }
                None => self.issue(Reason::Unavailable, field, format!("{} was not read yet", target.reference)),
            }
        }
        self.unmatched_signers(entry, check, place);
    }

    fn trouble(&self, target: &Target, trouble: &Trouble) -> (Reason, String) {
        let reference = &target.reference;
        match trouble {
            // One and the same text for whatever a namespaced policy cannot use.
            Trouble::NotFound | Trouble::Forbidden if self.namespaced() => {
                (Reason::SecretNotFound, unusable_text(reference))
            }
            Trouble::NotFound if target.purpose == Purpose::Certificates => {
                (Reason::SecretNotFound, format!("there is no Secret and no ConfigMap {reference} with the key ca.crt"))
            }
            Trouble::NotFound => (Reason::SecretNotFound, format!("the Secret {reference} does not exist")),
            Trouble::Forbidden => (
                Reason::SecretForbidden,
                format!(
                    "podseal may not read {reference}: grant it `get` on Secrets of the namespace {}",
                    reference.namespace
                ),
            ),
            Trouble::TooLarge => (
                Reason::SecretTooLarge,
                format!("{reference} has more than {MAX_TENANT} bytes, too many for a namespaced policy"),
            ),
            Trouble::TooMany => (
                Reason::TooManyReferences,
                format!("{reference} is not looked at, because the policies of this namespace name too many objects"),
            ),
            Trouble::Unavailable(why) => (Reason::Unavailable, why.clone()),
        }
    }

    fn material(&mut self, target: &Target, field: &str, material: &Material) {
        self.until = self.until.into_iter().chain(material.until).min();
        let reference = &target.reference;
        if target.purpose == Purpose::Certificates {
            if material.certificates == 0 {
                let text = format!("ca.crt of {reference} holds no certificate in PEM form");
                self.issue(Reason::InvalidCertificates, field.to_owned(), text);
            }
            return;
        }
        let unusable: Vec<&(String, bool)> = material.keys.iter().filter_map(|key| key.unusable.as_ref()).collect();
        if material.keys.is_empty() {
            let text = format!("no public keys imported from {reference}{}", self.why(material));
            self.issue(Reason::NoPublicKeys, field.to_owned(), text);
        } else if unusable.len() == material.keys.len() {
            let expired = unusable.iter().all(|(_, expired)| *expired);
            let reason = if expired { Reason::KeyExpired } else { Reason::KeyUnusable };
            let text = format!("no key of {reference} can verify anything: {}", some(&unusable));
            self.issue(reason, field.to_owned(), text);
        } else {
            if !unusable.is_empty() {
                self.notes.push(format!("{field}: not every key counts: {}", some(&unusable)));
            }
            if !material.problems.is_empty() {
                self.notes.push(format!("{field}: something of {reference} was left out{}", self.why(material)));
            }
        }
        for address in &material.ambiguous {
            self.notes.push(format!(
                "{field}: the address {} names nobody, because different key files carry it: list the file or the \
                 fingerprint instead",
                bounded(address, MAX_TEXT)
            ));
        }
    }

    /// What is wrong inside a Secret names other things that lie there: for cluster policies alone.
    fn why(&self, material: &Material) -> String {
        match material.problems.as_slice() {
            [] => String::new(),
            _ if self.namespaced() => ": not everything in it can be read as keys".to_owned(),
            [first] => format!(": {first}"),
            [first, rest @ ..] => format!(": {first}; and {} more", rest.len()),
        }
    }

    /// Listed signers that no key's holder is called, where GPG is the only method: cosign's come with the signatures.
    fn unmatched_signers(&mut self, entry: &Entry, check: &SignedCheck, place: &str) {
        let (Some(gpg), None, None) = (&check.gpg, &check.cosign, &check.notary) else { return };
        let target = Target { purpose: Purpose::Gpg, reference: gpg.key_ref.clone() };
        let Some(Ok(material)) = self.found.get(&target).filter(|_| !entry_is_empty(entry)) else { return };
        if material.keys.is_empty() {
            return;
        }
        let known = |listed: &String| {
            material.keys.iter().any(|key| key.fingerprint.eq_ignore_ascii_case(listed))
                || material
                    .signers
                    .iter()
                    .any(|name| if listed.contains('@') { name.eq_ignore_ascii_case(listed) } else { name == listed })
        };
        let strangers: Vec<usize> = (0..).zip(&check.signers).filter(|(_, s)| !known(s)).map(|(i, _)| i).collect();
        let text = strangers
            .iter()
            .take(MAX_TOLD)
            .map(|i| format!("{place}.signer[{i}]: no key of {} has this holder", gpg.key_ref));
        self.notes.extend(text.collect::<Vec<_>>());
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

fn entry_is_empty(entry: &Entry) -> bool {
    !matches!(&entry.check, Check::Signed(check) if !check.signers.is_empty())
}

fn listed(texts: impl Iterator<Item = String>, all: usize) -> String {
    let mut text = texts.take(MAX_TOLD).collect::<Vec<_>>().join("; ");
    if all > MAX_TOLD {
        let _ = write!(text, "; and {} more", all - MAX_TOLD);
    }
    text
}

/// The first few reasons why keys verify nothing.
fn some(unusable: &[&(String, bool)]) -> String {
    let first: Vec<&str> = unusable.iter().take(3).map(|(why, _)| why.as_str()).collect();
    let more = unusable.len() - first.len();
    let text = first.join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
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
