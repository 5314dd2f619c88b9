//! Reading the fields of one entry: every wrong type and every unknown field is reported, none is passed over.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::domain::policy::Problem;

/// Faults whose text goes into the denial of a broken entry.
const FAULTS_SHOWN: usize = 3;
/// Characters of a name from the object that a message shows.
const SHOWN: usize = 64;

/// What was found at one entry.
#[derive(Debug)]
pub(super) struct Report {
    index: usize,
    pub(super) problems: Vec<Problem>,
    faults: Vec<String>,
    more_faults: usize,
}

impl Report {
    /// For the entry at this position of `spec.registries`.
    pub(super) fn new(index: usize) -> Self {
        Self { index, problems: Vec::new(), faults: Vec::new(), more_faults: 0 }
    }

    /// Something that breaks the entry and for which the object is refused. An empty `field` means the entry itself.
    pub(super) fn refuse(&mut self, field: &str, message: &str) {
        self.fault(field, message);
        self.add(field, message, true);
    }

    /// Something that breaks the entry in a field that was never constrained: the object still applies, and the images
    /// of the entry are denied.
    pub(super) fn unusable(&mut self, field: &str, message: &str) {
        self.fault(field, message);
        self.add(field, &format!("{message}; until then the images of this entry are denied"), false);
    }

    /// Something suspicious that changes nothing.
    pub(super) fn warn(&mut self, field: &str, message: &str) {
        self.add(field, message, false);
    }

    /// What breaks the entry, in one line; `None` when nothing does.
    pub(super) fn broken(&self) -> Option<String> {
        if self.faults.is_empty() {
            return None;
        }
        let mut text = self.faults.join("; ");
        if self.more_faults > 0 {
            let _ = write!(text, "; and {} more", self.more_faults);
        }
        Some(text)
    }

    fn fault(&mut self, field: &str, message: &str) {
        if self.faults.len() < FAULTS_SHOWN {
            let separator = if field.is_empty() { "" } else { ": " };
            self.faults.push(format!("{field}{separator}{message}"));
        } else {
            self.more_faults += 1;
        }
    }

    fn add(&mut self, field: &str, message: &str, error: bool) {
        let separator = if field.is_empty() { "" } else { "." };
        let field = format!("spec.registries[{}]{separator}{field}", self.index);
        self.problems.push(Problem { field, message: message.to_owned(), error });
    }
}

/// The fields of one object inside an entry. `null` is the same as absent, as in the API server's own types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    prefix: &'static str,
    /// Of an element of a list: its position, and the way from there.
    element: Option<(usize, &'static str)>,
}

impl<'a> Fields<'a> {
    /// Reports every field that is not among the `known` ones. `prefix` is the way from the entry, such as `cosign.`.
    pub(super) fn new(map: &'a Map<String, Value>, prefix: &'static str, known: &[&str], report: &mut Report) -> Self {
        Self { map, prefix, element: None }.known(known, report)
    }

    /// The same for the element of a list, such as `cosign.identities` and 3.
    pub(super) fn element(
        map: &'a Map<String, Value>,
        list: &'static str,
        position: usize,
        known: &[&str],
        report: &mut Report,
    ) -> Self {
        Self { map, prefix: list, element: Some((position, "")) }.known(known, report)
    }

    /// The same for an object inside this element of a list; `way` is its name and a dot.
    pub(super) fn inner(
        &self,
        map: &'a Map<String, Value>,
        way: &'static str,
        known: &[&str],
        report: &mut Report,
    ) -> Self {
        let element = self.element.map(|(position, _)| (position, way));
        Self { map, prefix: self.prefix, element }.known(known, report)
    }

    fn known(self, known: &[&str], report: &mut Report) -> Self {
        for name in self.map.keys().filter(|name| !known.contains(&name.as_str())) {
            let message = format!("unknown field; the fields here are {}", known.join(", "));
            report.refuse(&self.path(&shown(name)), &message);
        }
        self
    }

    /// The way of a field from the entry.
    pub(super) fn path(&self, name: &str) -> String {
        match self.element {
            None => format!("{}{name}", self.prefix),
            Some((position, way)) => format!("{}[{position}].{way}{name}", self.prefix),
        }
    }

    /// A field's value.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A string, empty ones included, of at most `max` bytes.
    pub(super) fn text(&self, name: &str, max: usize, report: &mut Report) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if text.len() <= max => Some(text),
            Value::String(_) => {
                report.refuse(&self.path(name), &format!("longer than {max} bytes"));
                None
            }
            _ => self.wrong(name, "must be a string", report),
        }
    }

    /// A string that counts as absent when it is empty.
    pub(super) fn filled(&self, name: &str, max: usize, report: &mut Report) -> Option<&'a str> {
        self.text(name, max, report).filter(|text| !text.is_empty())
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &str, report: &mut Report) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => self.wrong(name, "must be true or false, without quotes", report),
        }
    }

    /// A list.
    pub(super) fn list(&self, name: &str, report: &mut Report) -> Option<&'a [Value]> {
        match self.value(name)? {
            Value::Array(list) => Some(list),
            _ => self.wrong(name, "must be a list", report),
        }
    }

    /// An object.
    pub(super) fn object(&self, name: &str, report: &mut Report) -> Option<&'a Map<String, Value>> {
        match self.value(name)? {
            Value::Object(map) => Some(map),
            _ => self.wrong(name, "must be an object", report),
        }
    }

    fn wrong<T>(&self, name: &str, message: &str, report: &mut Report) -> Option<T> {
        report.refuse(&self.path(name), message);
        None
    }
}

/// A name from the object as a message may show it: shortened, control characters escaped.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}
