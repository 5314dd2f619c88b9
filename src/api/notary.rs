//! `notary` and `notaryTrust` of an entry.

use serde_json::Value;

use super::entry::EntryReader;
use super::fields::{Fields, Report};
use super::policy::MAX_ROOT_KEYS;
use crate::domain::policy::{NotaryCheck, NotaryTrust};
use crate::source::notary::NotaryUrl;

/// Fields of `notaryTrust`.
pub(super) const NOTARY_TRUST: [&str; 3] = ["rootKeyIds", "caRef", "firstUse"];

/// What an entry says about Notary, before it is known whether a signature is asked for.
#[derive(Debug, Default)]
pub(super) struct NotaryDemand<'a> {
    server: Option<&'a str>,
    /// Whether the field is there at all, readable or not.
    trust_given: bool,
    trust: Option<NotaryTrust>,
}

impl<'a> NotaryDemand<'a> {
    /// Reads both fields; the older one carries no constraint that it did not always have.
    pub(super) fn read(reader: &mut EntryReader<'a>, fields: Fields<'a>, report: &mut Report) -> Self {
        let server = fields.filled("notary", usize::MAX, report);
        let demand = Self {
            server,
            trust_given: fields.value("notaryTrust").is_some(),
            trust: read_trust(reader, fields, report),
        };
        if demand.trust == Some(NotaryTrust::FirstUse) && server.is_some_and(|url| !url.starts_with("https://")) {
            // Whoever is on the way could put in a root of his own, and it would be remembered.
            report.refuse("notaryTrust.firstUse", "needs a notary whose URL begins with https://");
        }
        demand
    }

    /// Whether a server is named.
    pub(super) fn is_named(&self) -> bool {
        self.server.is_some()
    }

    /// What is suspicious, for an entry that asks for signatures. `others`: whether keys of other methods are named.
    pub(super) fn warn(&self, others: bool, report: &mut Report) {
        let Some(server) = self.server else {
            if self.trust_given {
                report.warn("notaryTrust", "has no effect without notary");
            }
            return;
        };
        match NotaryUrl::from_policy(server) {
            // The URL is not repeated: it may hold a password.
            Err(why) => report.warn("notary", &format!("cannot be used: {why}")),
            Ok(url) if url.is_plain() => report.warn(
                "notary",
                "plain HTTP: whoever is on the way sees what is asked and can hold back newer data; credentials are \
                 not sent",
            ),
            Ok(_) => {}
        }
        if !self.trust_given {
            let message = if others {
                "is not used without notaryTrust, which says whose root counts: until then the keys of this entry \
                 decide alone"
            } else {
                "is not used without notaryTrust, which says whose root counts; give it, or cosignKeyRef or gpgKeyRef"
            };
            report.warn("notary", message);
        }
    }

    /// The check, when a server is named.
    pub(super) fn into_check(self) -> Option<NotaryCheck> {
        let Self { server, trust, .. } = self;
        server.map(|server| NotaryCheck { server: server.to_owned(), trust })
    }
}

fn read_trust<'a>(reader: &mut EntryReader<'a>, fields: Fields<'a>, report: &mut Report) -> Option<NotaryTrust> {
    let fields = Fields::new(fields.object("notaryTrust", report)?, "notaryTrust.", &NOTARY_TRUST, report);
    let keys = read_root_keys(fields, report).map(NotaryTrust::RootKeys);
    let authority = reader.new_ref(fields, "caRef", report).map(NotaryTrust::Authority);
    let first_use = match fields.flag("firstUse", report) {
        Some(false) => {
            report.refuse("notaryTrust.firstUse", "can only be true; take it out");
            None
        }
        first_use => first_use.map(|_| NotaryTrust::FirstUse),
    };
    let given = NOTARY_TRUST.iter().filter(|name| match fields.value(name) {
        Some(Value::String(text)) => !text.is_empty(),
        value => value.is_some(),
    });
    if given.count() != 1 {
        report.refuse("notaryTrust", "exactly one of rootKeyIds, caRef and firstUse is required");
    }
    keys.or(authority).or(first_use)
}

fn read_root_keys(fields: Fields<'_>, report: &mut Report) -> Option<Vec<String>> {
    let list = fields.list("rootKeyIds", report)?;
    if list.is_empty() || list.len() > MAX_ROOT_KEYS {
        report.refuse("notaryTrust.rootKeyIds", &format!("1 to {MAX_ROOT_KEYS} key ids are required"));
        return None;
    }
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut keys = Vec::with_capacity(list.len());
    for (position, value) in list.iter().enumerate() {
        match value {
            Value::String(id) if hex(id) => keys.push(id.clone()),
            _ => report.refuse(
                &format!("notaryTrust.rootKeyIds[{position}]"),
                "must be a key id of 64 hexadecimal digits in lower case",
            ),
        }
    }
    Some(keys)
}
