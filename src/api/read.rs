//! A whole policy object, wire → domain.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::entry::EntryReader;
use super::fields::{Report, shown};
use super::fingerprint::fingerprint;
use crate::domain::policy::{Entry, Policy, PolicyId, Problem};
use crate::domain::scope::Scope;

/// Most entries of one object that is accepted.
const MAX_ENTRIES: usize = 10_000;
/// Errors that are listed, and warnings that are listed; the rest is counted.
const MAX_LISTED: usize = 50;

/// Reads a policy object (the whole JSON with `spec`), never failing: entries whose registry can be read govern, what
/// cannot be read is among the problems.
///
/// An object whose entries cannot be found at all gives a policy without entries. Such a policy still exists, and so allows
/// nothing by itself.
pub fn read_policy(id: PolicyId, object: &Value) -> Policy {
    let mut problems = Problems::default();
    let mut entries = Vec::new();
    let mut reader = EntryReader::default();
    for (index, value) in find_entries(object, &mut problems).iter().enumerate() {
        let mut report = Report::new(index);
        if let Some(content) = reader.read(value, &mut report) {
            entries.push(Arc::new(Entry {
                policy: id.clone(),
                index,
                scope: content.scope,
                check: content.check,
                require_digest: content.require_digest,
                action: content.action,
                fingerprint: fingerprint(&id, value),
            }));
        }
        problems.extend(report.problems);
    }
    problems.extend(repetitions(&entries));
    entries.shrink_to_fit();
    Policy { id, entries, problems: problems.into_list() }
}

fn find_entries<'a>(object: &'a Value, problems: &mut Problems) -> &'a [Value] {
    let Some(spec) = object.get("spec").filter(|spec| !spec.is_null()) else {
        problems.error("spec", "required");
        return &[];
    };
    let Value::Object(fields) = spec else {
        problems.error("spec", "must be an object with registries");
        return &[];
    };
    for name in fields.keys().filter(|name| *name != "registries") {
        problems.warning(&format!("spec.{}", shown(name)), "unknown field, without effect");
    }
    match fields.get("registries") {
        None | Some(Value::Null) => problems.error("spec.registries", "required: a list of entries"),
        Some(Value::Array(list)) => {
            if list.len() > MAX_ENTRIES {
                // Refused where policies are validated; one that is stored all the same keeps governing what it names.
                let message = format!("{} entries; one policy can have {MAX_ENTRIES}: divide it", list.len());
                problems.error("spec.registries", &message);
            }
            if list.is_empty() {
                let message = "empty: no registry is named, so every image that no other policy names is denied";
                problems.warning("spec.registries", message);
            }
            return list;
        }
        Some(_) => problems.error("spec.registries", "must be a list of entries"),
    }
    &[]
}

/// Entries that speak for the same as an earlier one.
fn repetitions(entries: &[Arc<Entry>]) -> Vec<Problem> {
    let mut first: HashMap<&Scope, usize> = HashMap::with_capacity(entries.len());
    let mut found = Vec::new();
    for entry in entries {
        let earlier = *first.entry(&entry.scope).or_insert(entry.index);
        if earlier != entry.index {
            let message = format!("also named by spec.registries[{earlier}]: an image must pass both entries");
            found.push(problem(&format!("spec.registries[{}].registry", entry.index), &message, false));
        }
    }
    found
}

/// Problems in bounded number, errors first, so that no flood of warnings hides an error.
#[derive(Debug, Default)]
struct Problems {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    more_errors: usize,
    more_warnings: usize,
}

impl Problems {
    fn error(&mut self, field: &str, message: &str) {
        self.push(problem(field, message, true));
    }

    fn warning(&mut self, field: &str, message: &str) {
        self.push(problem(field, message, false));
    }

    fn extend(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            self.push(problem);
        }
    }

    fn push(&mut self, problem: Problem) {
        let (list, more) = if problem.error {
            (&mut self.errors, &mut self.more_errors)
        } else {
            (&mut self.warnings, &mut self.more_warnings)
        };
        if list.len() < MAX_LISTED {
            list.push(problem);
        } else {
            *more += 1;
        }
    }

    fn into_list(self) -> Vec<Problem> {
        let mut list = self.errors;
        if self.more_errors > 0 {
            list.push(problem("spec.registries", &format!("{} more errors are not listed", self.more_errors), true));
        }
        list.extend(self.warnings);
        if self.more_warnings > 0 {
            let message = format!("{} more warnings are not listed", self.more_warnings);
            list.push(problem("spec.registries", &message, false));
        }
        list
    }
}

fn problem(field: &str, message: &str, error: bool) -> Problem {
    Problem { field: field.to_owned(), message: message.to_owned(), error }
}

#[cfg(test)]
mod tests;
