//! One element of `spec.registries`, wire → domain.
//!
//! ```text
//!   registry cannot be read      no entry, an error
//!   a field is wrong or unknown  the entry governs and denies (`Check::Broken`), an error
//!   cosignKeyRef has no form     the same, but a warning: objects that could always be stored still apply
//!   something is suspicious      the entry as written, a warning
//! ```

use std::collections::HashMap;

use serde_json::Value;

use super::cosign::{Demand, read_cosign};
use super::fields::{Fields, Report};
use super::identity::read_identity;
use super::notary::NotaryDemand;
use super::policy::{MAX_NAME, MAX_OBJECT_REF, MAX_URL};
use crate::domain::identity::SignedIdentity;
use crate::domain::policy::{Action, Check, CosignCheck, GpgCheck, ObjectRef, SignedCheck, TransportSpec};
use crate::domain::scope::Scope;

/// Fields of an entry.
pub(super) const ENTRY: [&str; 14] = [
    "registry",
    "signCheck",
    "notary",
    "notaryTrust",
    "cosignKeyRef",
    "signer",
    "gpgKeyRef",
    "lookaside",
    "signedIdentity",
    "cosign",
    "insecure",
    "caRef",
    "requireDigest",
    "action",
];

/// Regular expressions and CEL expressions of one policy: each takes a multiple of its text in memory once compiled.
const MAX_COMPILED: usize = 256;

/// An entry without its place.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) scope: Scope,
    pub(super) check: Check,
    pub(super) require_digest: bool,
    pub(super) action: Action,
}

/// Everything an entry names, before it is known whether a signature is asked for.
#[derive(Debug)]
struct Demands<'a> {
    notary: NotaryDemand<'a>,
    cosign_key: Option<&'a str>,
    cosign: Option<Demand>,
    gpg_key: Option<ObjectRef>,
    lookaside: Option<&'a str>,
    identity: Option<SignedIdentity>,
    signers: Vec<String>,
    transport: TransportSpec,
}

/// Reads the entries of one policy. Equal references share their text, which keeps large policies small.
#[derive(Debug, Default)]
pub(super) struct EntryReader<'a> {
    refs: HashMap<&'a str, ObjectRef>,
    compiled: usize,
}

impl<'a> EntryReader<'a> {
    /// The entry, broken or not; `None` when it cannot be known what it speaks for.
    pub(super) fn read(&mut self, value: &'a Value, report: &mut Report) -> Option<Content> {
        let Value::Object(map) = value else {
            report.refuse("", "must be an object with registry and signCheck");
            return None;
        };
        let fields = Fields::new(map, "", &ENTRY, report);
        let scope = read_scope(fields, report);
        let sign_check = fields.flag("signCheck", report);
        if fields.value("signCheck").is_none() {
            report.refuse("signCheck", "required: true asks for a signature, false allows every image");
        }
        let require_digest = fields.flag("requireDigest", report).unwrap_or(false);
        let action = read_action(fields, report);
        let demands = self.demands(fields, report);
        let check = match sign_check {
            Some(true) => Check::Signed(Box::new(self.signed(demands, report))),
            Some(false) => {
                demands.warn_unchecked(report);
                Check::Unchecked
            }
            // Reported above, so that the entry is broken in any case.
            None => Check::Broken(String::new()),
        };
        Some(match report.broken() {
            None => Content { scope: scope?, check, require_digest, action },
            Some(text) => {
                Content { scope: scope?, check: Check::Broken(text), require_digest, action: Action::Enforce }
            }
        })
    }

    fn demands(&mut self, fields: Fields<'a>, report: &mut Report) -> Demands<'a> {
        let insecure = fields.flag("insecure", report).unwrap_or(false);
        let ca_ref = self.new_ref(fields, "caRef", report);
        let notary = NotaryDemand::read(self, fields, report);
        // A Notary server on another host is verified in any case, by these certificates, too.
        if insecure && ca_ref.is_some() && !notary.is_named() {
            report.warn("caRef", "has no effect while insecure is true; take out insecure to have TLS verified");
        }
        Demands {
            notary,
            cosign_key: fields.filled("cosignKeyRef", usize::MAX, report),
            cosign: read_cosign(fields, self, report),
            gpg_key: self.new_ref(fields, "gpgKeyRef", report),
            lookaside: read_lookaside(fields, report),
            identity: read_identity(fields, "signedIdentity.", report),
            signers: read_signers(fields, report),
            transport: TransportSpec { insecure, ca_ref },
        }
    }

    fn signed(&mut self, demands: Demands<'a>, report: &mut Report) -> SignedCheck {
        let cosign_key = demands.cosign_key.map(|text| self.object_ref(text.strip_prefix("k8s://").unwrap_or(text)));
        let keys = matches!(cosign_key, Some(Some(_))) || demands.gpg_key.is_some() || demands.keyless();
        demands.warn_signed(keys, report);
        if matches!(cosign_key, Some(None)) {
            report.unusable("cosignKeyRef", "must be k8s://namespace/name of a Secret that holds cosign.pub");
        }
        let cosign_key = cosign_key.flatten();
        let cosign = match demands.cosign {
            Some(demand) => demand.with_key(cosign_key),
            None => cosign_key.map(|key| CosignCheck { key_ref: Some(key), ..CosignCheck::default() }),
        };
        SignedCheck {
            notary: demands.notary.into_check(),
            cosign: cosign.map(Box::new),
            gpg: demands.gpg_key.map(|key_ref| GpgCheck {
                key_ref,
                lookaside: demands.lookaside.map(str::to_owned),
                identity: demands.identity.unwrap_or_default(),
            }),
            signers: demands.signers,
            transport: demands.transport,
        }
    }

    /// Counts something that is compiled; `false`, and the field refused, when the policy has too many.
    pub(super) fn may_compile(&mut self, field: &str, report: &mut Report) -> bool {
        self.compiled += 1;
        if self.compiled > MAX_COMPILED {
            report.refuse(field, &format!("one policy can have {MAX_COMPILED} patterns and expressions: divide it"));
        }
        self.compiled <= MAX_COMPILED
    }

    /// A reference in a field that podseal added: only the full form.
    pub(super) fn new_ref(&mut self, fields: Fields<'a>, name: &str, report: &mut Report) -> Option<ObjectRef> {
        let text = fields.filled(name, MAX_OBJECT_REF, report)?;
        let found = text.strip_prefix("k8s://").and_then(|rest| self.object_ref(rest));
        if found.is_none() {
            report.refuse(&fields.path(name), "must be k8s://namespace/name");
        }
        found
    }

    /// `namespace/name`.
    fn object_ref(&mut self, text: &'a str) -> Option<ObjectRef> {
        if let Some(known) = self.refs.get(text) {
            return Some(known.clone());
        }
        let (namespace, name) = text.split_once('/')?;
        if !dns_label(namespace) || name.len() > 253 || !name.split('.').all(dns_part) {
            return None;
        }
        let object = ObjectRef { namespace: namespace.into(), name: name.into() };
        self.refs.insert(text, object.clone());
        Some(object)
    }
}

impl Demands<'_> {
    fn keyless(&self) -> bool {
        self.cosign.as_ref().is_some_and(Demand::keyless)
    }

    fn warn_unchecked(&self, report: &mut Report) {
        let keys = self.cosign_key.is_some() || self.gpg_key.is_some() || self.notary.is_named() || self.keyless();
        if keys || !self.signers.is_empty() {
            report
                .warn("signCheck", "false: the keys and signers of this entry are not used and every image is allowed");
        }
    }

    /// `keys`: whether keys are named that can be looked for.
    fn warn_signed(&self, keys: bool, report: &mut Report) {
        self.notary.warn(keys, report);
        if !self.notary.is_named() && self.cosign_key.is_none() && self.gpg_key.is_none() && !self.keyless() {
            let message = "true, but nothing is configured to check a signature with: the images of this entry are \
                           denied and the policy is not Ready; give cosignKeyRef, cosign.identities, gpgKeyRef, or \
                           notary with notaryTrust";
            report.warn("signCheck", message);
        }
        if let Some(cosign) = &self.cosign {
            cosign.judge(self.cosign_key.is_some(), report);
        }
        if self.gpg_key.is_none() {
            if self.lookaside.is_some() {
                report.warn("lookaside", "has no effect without gpgKeyRef");
            }
            if self.identity.is_some() {
                report.warn("signedIdentity", "has no effect without gpgKeyRef");
            }
        }
    }
}

fn read_scope(fields: Fields<'_>, report: &mut Report) -> Option<Scope> {
    if fields.value("registry").is_none() {
        report.refuse("registry", "required: the registry that the entry speaks for");
        return None;
    }
    match Scope::parse(fields.text("registry", usize::MAX, report)?) {
        Ok((scope, warnings)) => {
            for warning in warnings {
                report.warn("registry", &warning);
            }
            Some(scope)
        }
        Err(error) => {
            report.refuse("registry", &error.to_string());
            None
        }
    }
}

fn read_action(fields: Fields<'_>, report: &mut Report) -> Action {
    match fields.text("action", MAX_NAME, report) {
        None | Some("Enforce") => Action::Enforce,
        Some("Warn") => Action::Warn,
        Some("Audit") => Action::Audit,
        Some(_) => {
            report.refuse("action", "must be Enforce, Warn or Audit");
            Action::Enforce
        }
    }
}

/// All signers are kept as written, unusable ones too: without them a list could become empty, which any key satisfies.
fn read_signers(fields: Fields<'_>, report: &mut Report) -> Vec<String> {
    let list = fields.list("signer", report).unwrap_or_default();
    let mut signers = Vec::with_capacity(list.len());
    for (position, value) in list.iter().enumerate() {
        let field = format!("signer[{position}]");
        let Value::String(signer) = value else {
            report.refuse(&field, "must be a string");
            continue;
        };
        if signer.is_empty() {
            report.warn(&field, "is empty, which no signer is called");
        } else if signer.trim() != signer {
            report.warn(&field, "begins or ends with a blank; names are compared as written");
        }
        signers.push(signer.clone());
    }
    signers
}

fn read_lookaside<'a>(fields: Fields<'a>, report: &mut Report) -> Option<&'a str> {
    let text = fields.filled("lookaside", MAX_URL, report)?;
    match check_lookaside(text) {
        Ok(()) => Some(text),
        Err(message) => {
            report.refuse("lookaside", message);
            None
        }
    }
}

/// Whether a policy takes this as its signature store. The error does not repeat it: it may hold a password.
pub fn check_lookaside(text: &str) -> Result<(), &'static str> {
    let message = if text.len() > MAX_URL {
        "must have at most 2048 bytes"
    } else if !text.starts_with("http://") && !text.starts_with("https://") {
        "must be an http or https URL (other stores can only be given in the administrator's registries.d)"
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        "must not hold blanks, control characters or backslashes"
    } else {
        match url::Url::parse(text) {
            Err(_) => "is not a valid URL",
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "must not hold a user name or password"
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => "must not hold a query or fragment",
            Ok(_) => return Ok(()),
        }
    };
    Err(message)
}

/// RFC 1123 label: namespaces.
fn dns_label(text: &str) -> bool {
    text.len() <= 63 && dns_part(text)
}

/// One component of an RFC 1123 subdomain.
fn dns_part(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| alphanumeric(&b) || b == b'-')
        && text.as_bytes().first().is_some_and(alphanumeric)
        && text.as_bytes().last().is_some_and(alphanumeric)
}
