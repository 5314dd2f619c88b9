//! What is to say about one entry.

use super::{Composer, MAX_TEXT, MAX_TOLD, Target, Trouble, bounded, targets_of};
use crate::controller::status::material::{Material, Purpose};
use crate::controller::status::reason::Reason;
use crate::domain::policy::{Check, Entry, SignedCheck};
use crate::verify::{MAX_TENANT, unusable_text};

impl Composer<'_> {
    pub(super) fn entry(&mut self, entry: &Entry) {
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
                     cosignKeyRef, cosign.identities or gpgKeyRef"
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
        self.unmatched_signers(check, place);
    }

    fn trouble(&self, target: &Target, trouble: &Trouble) -> (Reason, String) {
        let reference = &target.reference;
        match trouble {
            // One and the same text for whatever a namespaced policy cannot use.
            Trouble::NotFound | Trouble::Forbidden if self.namespaced() => {
                (Reason::SecretNotFound, unusable_text(reference))
            }
            Trouble::NotFound => {
                let text = match target.purpose.object_key() {
                    Some(key) => format!("there is no Secret and no ConfigMap {reference} with the key {key}"),
                    None => format!("the Secret {reference} does not exist"),
                };
                (Reason::SecretNotFound, text)
            }
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
        if target.purpose == Purpose::TrustRoot {
            if let Some(why) = &material.bad_root {
                let text = format!("the trust root of {reference} {why}");
                self.issue(Reason::InvalidTrustRoot, field.to_owned(), text);
            }
            return;
        }
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
    fn unmatched_signers(&mut self, check: &SignedCheck, place: &str) {
        let (Some(gpg), None, None) = (&check.gpg, &check.cosign, &check.notary) else { return };
        let target = Target { purpose: Purpose::Gpg, reference: gpg.key_ref.clone() };
        let Some(Ok(material)) = self.found.get(&target) else { return };
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
}

/// The first few reasons why keys verify nothing.
fn some(unusable: &[&(String, bool)]) -> String {
    let first: Vec<&str> = unusable.iter().take(3).map(|(why, _)| why.as_str()).collect();
    let more = unusable.len() - first.len();
    let text = first.join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
}
