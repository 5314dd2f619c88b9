//! Who signed what, over all that was found.
//!
//! Different signers count, not signatures: a key by its fingerprint, a certificate by the first of the listed identities
//! that it fits. Whoever signs twice, or fits two rules, is one.

use std::collections::BTreeMap;

use crate::domain::digest::Digest;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::policy::CosignCheck;
use crate::domain::signer::cosign_signer_name;
use crate::domain::verdict::{Refusal, RefusalKind};
use crate::signature::cosign::{Claim, Signer, Statement};
use crate::verify::report::Best;

/// One who counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Key(String),
    Identity(usize),
}

/// What a place can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Signatures,
    Attestations,
    Either,
}

/// What a verified statement is to one of the attestations that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It is what was asked for.
    Fits,
    /// It has the type, and not what is asked of it.
    Differs(String),
    /// It is something else.
    Other,
}

/// One thing that must be signed.
#[derive(Debug, Default)]
struct Need {
    /// With the name of each.
    signers: BTreeMap<Who, String>,
    /// What was found instead.
    best: Best,
}

/// All that must be signed, and how far it is.
pub(super) struct Tally<'a> {
    check: &'a CosignCheck,
    listed: &'a [String],
    image: &'a ImageRef,
    signature: Need,
    attestations: Vec<Need>,
    /// What could not be verified and may be an attestation: its type is not known.
    unverified: Best,
}

impl<'a> Tally<'a> {
    pub(super) fn new(check: &'a CosignCheck, listed: &'a [String], image: &'a ImageRef) -> Self {
        let attestations = check.attestations.iter().map(|_| Need::default()).collect();
        Self { check, listed, image, signature: Need::default(), attestations, unverified: Best::new() }
    }

    /// Whether nothing is missing.
    pub(super) fn complete(&self) -> bool {
        let enough = |need: &Need| need.signers.len() >= self.check.threshold;
        enough(&self.signature) && self.attestations.iter().all(enough)
    }

    /// Those who signed the image, for people.
    pub(super) fn signer(&self) -> Option<String> {
        let names: Vec<&str> = self.signature.signers.values().map(String::as_str).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Counts a verified statement. `found` says for each attestation that is asked for what the statement is to it.
    pub(super) fn add(&mut self, claim: &Claim, found: &[Found]) {
        match &claim.statement {
            Statement::Signature { annotations, reference } => {
                match self.signed(&claim.signer, annotations, reference.as_deref()) {
                    Ok((who, name)) => drop(self.signature.signers.entry(who).or_insert(name)),
                    Err(refusal) => self.signature.best.add(refusal),
                }
            }
            Statement::Attestation { predicate_type, .. } => {
                let shown: String = predicate_type.chars().take(100).flat_map(char::escape_default).collect();
                let text = format!("an attestation of type {shown}, not a signature");
                self.signature.best.add(Refusal::new(RefusalKind::Invalid, text));
                let attested = self.attested(&claim.signer);
                for (need, found) in self.attestations.iter_mut().zip(found) {
                    match (found, &attested) {
                        (Found::Other, _) => {}
                        (Found::Differs(why), Ok(_)) => need.best.add(Refusal::new(RefusalKind::Invalid, why.as_str())),
                        (_, Err(refusal)) => need.best.add(refusal.clone()),
                        (Found::Fits, Ok((who, name))) => {
                            need.signers.entry(who.clone()).or_insert_with(|| name.clone());
                        }
                    }
                }
            }
        }
    }

    /// Notes something that could not be verified.
    pub(super) fn refuse(&mut self, place: Holds, refusal: Refusal) {
        if place != Holds::Signatures {
            self.unverified.add(refusal.clone());
        }
        if place != Holds::Attestations {
            self.signature.best.add(refusal);
        }
    }

    /// What is missing, once all places were searched.
    pub(super) fn refusal(&self, digest: &Digest, repository: &Repository) -> Refusal {
        let wanted = self.check.threshold;
        let found = self.signature.signers.len();
        if found >= wanted {
            return self.missing_attestation(digest);
        }
        if found > 0 {
            let by = self.signer().unwrap_or_default();
            let text = format!("signed by {found} of the {wanted} different keys or identities that must sign: {by}");
            return Refusal::new(RefusalKind::Invalid, text);
        }
        self.signature.best.refusal(|| format!("no cosign signature for {digest} in {repository}"))
    }

    fn missing_attestation(&self, digest: &Digest) -> Refusal {
        let missing = self.check.attestations.iter().zip(&self.attestations);
        let missing = missing.into_iter().find(|(_, need)| need.signers.len() < self.check.threshold);
        let Some((check, need)) = missing else {
            return Refusal::new(RefusalKind::Invalid, "an attestation is missing");
        };
        let kind = &check.predicate_type;
        if !need.signers.is_empty() {
            let (found, wanted) = (need.signers.len(), self.check.threshold);
            let text = format!("the attestation {kind} is signed by {found} of the {wanted} who must sign it");
            return Refusal::new(RefusalKind::Invalid, text);
        }
        let why = need.best.refusal(|| {
            let unverified = self.unverified.refusal(String::new).detail;
            if unverified.is_empty() {
                format!("none of this type for {digest}")
            } else {
                format!("none of this type that could be verified for {digest}; of what could not: {unverified}")
            }
        });
        let refusal_kind = if why.kind == RefusalKind::Unsigned { RefusalKind::Invalid } else { why.kind };
        Refusal::new(refusal_kind, format!("the attestation {kind} is missing: {}", why.detail))
    }

    /// Who signed, if the signature is as the entry asks.
    fn signed(
        &self,
        signer: &Signer,
        annotations: &BTreeMap<String, String>,
        reference: Option<&str>,
    ) -> Result<(Who, String), Refusal> {
        for (name, wanted) in &self.check.annotations {
            if annotations.get(name) != Some(wanted) {
                let detail = format!("the signature lacks the annotation {name}={wanted}");
                return Err(Refusal::new(RefusalKind::Invalid, detail));
            }
        }
        if let Some(identity) = &self.check.identity {
            let Some(reference) = reference else {
                let text = "the signature carries no image name, and cosign.signedIdentity asks for one";
                return Err(Refusal::new(RefusalKind::Identity, text));
            };
            if !identity.accepts(self.image, reference) {
                return Err(Refusal::new(RefusalKind::Identity, format!("signed for {reference:?}")));
            }
        }
        match signer {
            Signer::Key(fingerprint) => {
                let annotation = annotations.get("signer").map(String::as_str);
                let name = cosign_signer_name(self.listed, annotation, &key_name(fingerprint)).ok_or_else(|| {
                    let found = annotation
                        .map_or("no signer annotation".to_owned(), |a| format!("the signer annotation {a:?}"));
                    let text = format!("validly signed with {found}, which is not listed");
                    Refusal::new(RefusalKind::Signer, text)
                })?;
                Ok((Who::Key(fingerprint.clone()), name))
            }
            Signer::Certificate(_) => self.identified(signer),
        }
    }

    /// Who made an attestation. Listed signers are names of identities here: attestations carry no `signer` annotation.
    fn attested(&self, signer: &Signer) -> Result<(Who, String), Refusal> {
        match signer {
            Signer::Key(fingerprint) => Ok((Who::Key(fingerprint.clone()), key_name(fingerprint))),
            Signer::Certificate(_) => self.identified(signer),
        }
    }

    fn identified(&self, signer: &Signer) -> Result<(Who, String), Refusal> {
        let Signer::Certificate(certified) = signer else {
            return Err(Refusal::new(RefusalKind::Signer, "not signed with a certificate"));
        };
        let accept = |(place, rule): (usize, &crate::domain::keyless::KeylessIdentity)| {
            rule.accepts(certified).map(|subject| (place, subject.to_owned()))
        };
        let found = (0..).zip(&self.check.identities).find_map(accept);
        let Some((place, subject)) = found else {
            let text = format!(
                "validly signed by {:?} of the issuer {:?}, who is none of the identities",
                certified.subjects.join(", "),
                certified.issuer
            );
            return Err(Refusal::new(RefusalKind::Signer, text));
        };
        if let Some(name) = cosign_signer_name(self.listed, Some(&subject), &subject) {
            return Ok((Who::Identity(place), name));
        }
        let text = format!("validly signed by {subject:?}, who is not a listed signer");
        Err(Refusal::new(RefusalKind::Signer, text))
    }
}

fn key_name(fingerprint: &str) -> String {
    format!("key {}", fingerprint.get(..16).unwrap_or(fingerprint))
}

#[cfg(test)]
mod tests;
