//! `cosign` of an entry, wire → domain.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entry::EntryReader;
use super::fields::{Fields, Report, shown};
use super::identity::read_identity;
use super::policy::MAX_NAME;
use super::sigstore::{MAX_ANNOTATION, MAX_ANNOTATIONS, MAX_ATTESTATIONS, MAX_IDENTITIES, MAX_TYPE};
use crate::domain::expression::Expression;
use crate::domain::image::Repository;
use crate::domain::keyless::{KeylessIdentity, MAX_RULE, Pattern, TextRule, Workflow};
use crate::domain::policy::{AttestationCheck, CosignCheck, ObjectRef};

/// Fields of `cosign`.
pub(super) const COSIGN: [&str; 9] = [
    "annotations",
    "identities",
    "threshold",
    "trustRootRef",
    "transparencyLog",
    "sct",
    "repository",
    "signedIdentity",
    "attestations",
];
/// Fields of one of `cosign.identities`.
pub(super) const KEYLESS: [&str; 5] = ["issuer", "issuerRegExp", "subject", "subjectRegExp", "githubWorkflow"];
/// Fields of `githubWorkflow`.
pub(super) const WORKFLOW: [&str; 5] = ["name", "ref", "repository", "sha", "trigger"];
/// Fields of one of `cosign.attestations`.
pub(super) const ATTESTATION: [&str; 2] = ["predicateType", "expression"];

/// Longest name of a cosign annotation.
const MAX_ANNOTATION_NAME: usize = 253;

/// The predicate type of cosign's signatures.
const SIGNATURE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Names that `cosign attest --type` takes, and the predicate types that it writes for them.
const SHORT_TYPES: [(&str, &str); 10] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
];

/// What `cosign` says, before it is known whether there is a key.
#[derive(Debug)]
pub(super) struct Demand {
    check: CosignCheck,
    /// Identities that are listed, unreadable ones included.
    identities: usize,
    /// Fields that need something else to have an effect.
    log: Option<bool>,
    sct: bool,
}

impl Demand {
    /// What is asked with or without a key; `None` when neither key nor identity is there.
    pub(super) fn with_key(self, key_ref: Option<ObjectRef>) -> Option<CosignCheck> {
        let check = CosignCheck { key_ref, ..self.check };
        (check.key_ref.is_some() || !check.identities.is_empty()).then_some(check)
    }

    /// Whether identities are listed.
    pub(super) fn keyless(&self) -> bool {
        self.identities > 0
    }

    /// What has no effect, or can never be fulfilled, under an entry that has a key or has none.
    pub(super) fn judge(&self, key: bool, report: &mut Report) {
        if !key && !self.keyless() {
            report.warn("cosign", "has no effect without cosignKeyRef or cosign.identities");
            return;
        }
        if !key && self.check.threshold > self.identities {
            report.refuse("cosign.threshold", "more than there are identities: it could never be reached");
        }
        if self.check.threshold > 1 {
            self.warn_equal(report);
        }
        if self.check.trust_root.is_some() && !self.keyless() && self.log != Some(true) {
            let message = "has no effect on signatures by a key unless transparencyLog is Required";
            report.warn("cosign.trustRootRef", message);
        }
        if self.sct && !self.keyless() {
            report.warn("cosign.sct", "has no effect without cosign.identities");
        }
    }
}

impl Demand {
    /// Whoever fits two rules counts for the first one.
    fn warn_equal(&self, report: &mut Report) {
        let identities = &self.check.identities;
        if identities.len() < self.identities {
            // Positions are not those of the list.
            return;
        }
        for (position, identity) in identities.iter().enumerate() {
            if let Some(first) = identities.iter().take(position).position(|earlier| earlier == identity) {
                let message = format!("the same as identities[{first}]: a signer counts for the first alone");
                report.warn(&format!("cosign.identities[{position}]"), &message);
            }
        }
    }
}

/// `cosign`; `None` when it is absent.
pub(super) fn read_cosign<'a>(entry: Fields<'a>, reader: &mut EntryReader<'a>, report: &mut Report) -> Option<Demand> {
    let cosign = Fields::new(entry.object("cosign", report)?, "cosign.", &COSIGN, report);
    let log = read_requirement(cosign, "transparencyLog", report);
    let sct = read_requirement(cosign, "sct", report);
    let check = CosignCheck {
        key_ref: None,
        annotations: read_annotations(cosign, report),
        identities: read_identities(cosign, reader, report),
        threshold: read_threshold(cosign, report),
        trust_root: reader.new_ref(cosign, "trustRootRef", report),
        log_for_keys: log == Some(true),
        log_for_identities: log != Some(false),
        sct: sct != Some(false),
        repository: read_repository(cosign, report),
        identity: read_identity(cosign, "cosign.signedIdentity.", report),
        attestations: read_attestations(cosign, reader, report),
    };
    let identities = cosign.value("identities").and_then(Value::as_array).map_or(0, Vec::len);
    Some(Demand { check, identities, log, sct: sct.is_some() })
}

fn read_requirement(cosign: Fields<'_>, name: &str, report: &mut Report) -> Option<bool> {
    match cosign.text(name, MAX_NAME, report)? {
        "Required" => Some(true),
        "NotRequired" => Some(false),
        _ => {
            report.refuse(&cosign.path(name), "must be Required or NotRequired");
            None
        }
    }
}

fn read_threshold(cosign: Fields<'_>, report: &mut Report) -> usize {
    let Some(value) = cosign.value("threshold") else { return 1 };
    if let Some(number @ 1..=MAX_IDENTITIES) = value.as_u64().and_then(|number| usize::try_from(number).ok()) {
        return number;
    }
    report.refuse("cosign.threshold", &format!("must be a whole number of 1 to {MAX_IDENTITIES}"));
    1
}

/// The full form alone: a bare name would silently become one of Docker Hub.
fn read_repository(cosign: Fields<'_>, report: &mut Report) -> Option<Repository> {
    let text = cosign.filled("repository", MAX_NAME, report)?;
    match Repository::parse(text) {
        Ok(repository) if repository.to_string() == text => Some(repository),
        Ok(repository) => {
            report.refuse("cosign.repository", &format!("must be written in full, as {repository}"));
            None
        }
        Err(error) => {
            report.refuse("cosign.repository", &format!("must be host[:port]/path without tag and digest: {error}"));
            None
        }
    }
}

fn read_identities<'a>(cosign: Fields<'a>, reader: &mut EntryReader<'a>, report: &mut Report) -> Vec<KeylessIdentity> {
    let list = bounded(cosign, "identities", MAX_IDENTITIES, report);
    let read = |(i, value): (usize, &Value)| {
        let Value::Object(map) = value else {
            report.refuse(&format!("cosign.identities[{i}]"), "must be an object with issuer and subject");
            return None;
        };
        let fields = Fields::element(map, "cosign.identities", i, &KEYLESS, report);
        let issuer = read_rule(fields, ["issuer", "issuerRegExp"], reader, report);
        let subject = read_rule(fields, ["subject", "subjectRegExp"], reader, report);
        let workflow = read_workflow(fields, report);
        Some(KeylessIdentity { issuer: issuer?, subject: subject?, workflow })
    };
    (0..).zip(list).filter_map(read).collect()
}

/// Exactly one of the text and the pattern: a rule without either would take everybody.
fn read_rule(
    fields: Fields<'_>,
    [exact, pattern]: [&str; 2],
    reader: &mut EntryReader<'_>,
    report: &mut Report,
) -> Option<TextRule> {
    let text = fields.filled(exact, MAX_RULE, report);
    let source = fields.filled(pattern, MAX_RULE, report);
    match (text, source) {
        (Some(text), None) => Some(TextRule::Exact(text.to_owned())),
        (None, Some(_)) if !reader.may_compile(&fields.path(pattern), report) => None,
        (None, Some(source)) => match Pattern::new(source) {
            Ok(found) => {
                if [".*", ".+", "^.*$", "^.+$"].contains(&source) {
                    report.warn(&fields.path(pattern), "takes everybody: say who may sign");
                }
                Some(TextRule::Pattern(found))
            }
            Err(error) => {
                report.refuse(&fields.path(pattern), &error);
                None
            }
        },
        (None, None) => {
            report.refuse(&fields.path(exact), &format!("required: {exact} or {pattern}"));
            None
        }
        (Some(_), Some(_)) => {
            report.refuse(&fields.path(exact), &format!("only one of {exact} and {pattern} can be given"));
            None
        }
    }
}

fn read_workflow(fields: Fields<'_>, report: &mut Report) -> Workflow {
    let Some(map) = fields.object("githubWorkflow", report) else { return Workflow::default() };
    let workflow = fields.inner(map, "githubWorkflow.", &WORKFLOW, report);
    let mut text = |name| {
        let text = workflow.text(name, MAX_RULE, report)?;
        // Taken for absent it would lift a restriction that somebody meant to set.
        if text.is_empty() {
            report.refuse(&workflow.path(name), "must not be empty: leave the field out if any value may sign");
        }
        Some(text.to_owned())
    };
    Workflow {
        trigger: text("trigger"),
        sha: text("sha"),
        name: text("name"),
        repository: text("repository"),
        reference: text("ref"),
    }
}

fn read_attestations<'a>(
    cosign: Fields<'a>,
    reader: &mut EntryReader<'a>,
    report: &mut Report,
) -> Vec<AttestationCheck> {
    let list = bounded(cosign, "attestations", MAX_ATTESTATIONS, report);
    let read = |(i, value): (usize, &Value)| {
        let Value::Object(map) = value else {
            report.refuse(&format!("cosign.attestations[{i}]"), "must be an object with predicateType");
            return None;
        };
        let fields = Fields::element(map, "cosign.attestations", i, &ATTESTATION, report);
        let predicate_type = fields.filled("predicateType", MAX_TYPE, report);
        if predicate_type.is_none() && fields.value("predicateType").is_none_or(|value| value.as_str() == Some("")) {
            report.refuse(&fields.path("predicateType"), "required: the in-toto predicate type");
        }
        if let Some(kind) = predicate_type {
            warn_type(&fields.path("predicateType"), kind, report);
        }
        let source = fields.text("expression", usize::MAX, report);
        let source = source.filter(|_| reader.may_compile(&fields.path("expression"), report));
        let expression = source.and_then(|source| {
            Expression::new(source).map_err(|error| report.refuse(&fields.path("expression"), &error)).ok()
        });
        if expression.as_ref().is_some_and(Expression::is_never_true) {
            report.warn(&fields.path("expression"), "is never true, so no image passes: compare with something");
        }
        Some(AttestationCheck { predicate_type: predicate_type?.to_owned(), expression })
    };
    (0..).zip(list).filter_map(read).collect()
}

/// Types that no attestation has.
fn warn_type(field: &str, kind: &str, report: &mut Report) {
    if kind == SIGNATURE_TYPE {
        report.warn(field, "is the type of signatures, so no attestation ever has it: signatures are asked for anyway");
    } else if let Some((_, whole)) = SHORT_TYPES.iter().find(|(short, _)| *short == kind) {
        let message =
            format!("is cosign's short name and no predicate type, so no attestation ever has it: write {whole}");
        report.warn(field, &message);
    }
}

fn bounded<'a>(cosign: Fields<'a>, name: &str, most: usize, report: &mut Report) -> &'a [Value] {
    let list = cosign.list(name, report).unwrap_or_default();
    if list.len() > most {
        report.refuse(&cosign.path(name), &format!("more than {most} elements"));
        return &[];
    }
    list
}

fn read_annotations(cosign: Fields<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let Some(map) = cosign.object("annotations", report) else { return annotations };
    if map.len() > MAX_ANNOTATIONS {
        report.refuse("cosign.annotations", &format!("more than {MAX_ANNOTATIONS} annotations"));
        return annotations;
    }
    for (name, value) in map {
        let field = format!("cosign.annotations[{}]", shown(name));
        if name.is_empty() || name.len() > MAX_ANNOTATION_NAME {
            report.refuse(&field, &format!("the name must have 1 to {MAX_ANNOTATION_NAME} bytes"));
        }
        match value {
            Value::String(text) if text.len() <= MAX_ANNOTATION => {
                annotations.insert(name.clone(), text.clone());
            }
            Value::String(_) => report.refuse(&field, &format!("longer than {MAX_ANNOTATION} bytes")),
            _ => report.refuse(&field, "must be a string"),
        }
    }
    annotations
}
