//! The whitelist `ConfigMap`: image lines and namespaces.
//!
//! An image line is an image name in which host, tag and digest may be left out and are then wildcards, and in which `*`
//! in the repository path stands for any characters, slashes included. Both ends are anchored, and both sides have the
//! normal form of image references.
//!
//! | line | admits | not |
//! |---|---|---|
//! | `r.io/a/b` | every tag and digest of `r.io/a/b` | `r.io/a/b/c` |
//! | `r.io/a/b:1` | `r.io/a/b:1` | `r.io/a/b:1@sha256:…`, because the digest decides what is pulled |
//! | `r.io/a/b@sha256:…`, with or without tag | this digest under any tag | `r.io/a/b:1` |
//! | `r.io/ns/*` | `r.io/ns/a`, `r.io/ns/a/b` | `r.io/ns`, `r.io/ns-evil/a` |
//! | `a/b` (reported as risky) | `a/b` of every registry | `x/a/b` |
//! | `nginx` (reported as risky) | `nginx` of every registry, `docker.io/library/nginx` | |
//! | `*` (reported as risky) | everything | |
//!
//! A line that cannot be read is skipped and reported, and all others stay in force.

mod index;
mod pattern;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use self::index::Index;
use self::pattern::Pattern;
use super::image::ImageRef;

/// `ConfigMap` key: image lines.
pub const IMAGES_KEY: &str = "whitelist-images";
/// `ConfigMap` key: namespace lines.
pub const NAMESPACES_KEY: &str = "whitelist-namespaces";
/// Legacy `ConfigMap` key: a JSON array of image lines, read when [`IMAGES_KEY`] is absent.
pub const LEGACY_IMAGES_KEY: &str = "whitelist-image.json";
/// Legacy `ConfigMap` key: a JSON array of namespaces, read when [`NAMESPACES_KEY`] is absent.
pub const LEGACY_NAMESPACES_KEY: &str = "whitelist-namespace.json";

/// So many problems are kept one by one; the rest is only counted, so that reports stay bounded.
const MAX_PROBLEMS: usize = 10_000;
/// So much of a line is quoted in a message.
const MAX_QUOTED: usize = 80;

/// Image lines and namespaces in force, and what is wrong or risky in the `ConfigMap`.
#[derive(Debug, Default)]
pub struct Whitelist {
    /// Bad lines (skipped) and risky lines (kept), for logs, events and metrics.
    pub problems: Vec<LineProblem>,
    /// Lines in force, in text order.
    lines: Vec<Arc<str>>,
    index: Index,
    namespaces: HashSet<Box<str>>,
}

/// A line that was skipped, or kept and reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// The `ConfigMap` key.
    pub key: String,
    /// Line number from 1 (element number for the legacy JSON arrays); 0 when the whole key is meant.
    pub line: usize,
    /// What is wrong, quoting the line shortened.
    pub message: String,
    /// Whether the line (or key) is not in force.
    pub skipped: bool,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.key, self.message),
            line => write!(f, "{} line {line}: {}", self.key, self.message),
        }
    }
}

impl Whitelist {
    /// Reads the `ConfigMap`'s `data`. Never fails: a bad line is skipped and reported.
    pub fn parse(data: &BTreeMap<String, String>) -> Self {
        let mut whitelist = Self::default();
        let mut report = Report::default();
        for line in read(data, IMAGES_KEY, LEGACY_IMAGES_KEY, &mut report) {
            whitelist.add_image(&line, &mut report);
        }
        for line in read(data, NAMESPACES_KEY, LEGACY_NAMESPACES_KEY, &mut report) {
            whitelist.add_namespace(&line, &mut report);
        }
        whitelist.problems = report.finish();
        whitelist
    }

    /// How many lines are in force, namespaces included.
    pub fn len(&self) -> usize {
        self.lines.len() + self.namespaces.len()
    }

    /// Whether no line is in force.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the namespace is listed (exact name).
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// The line that admits the image, if one does. Independent of the order of lines: the first in text order is named.
    pub fn allows_image(&self, image: &ImageRef) -> Option<Arc<str>> {
        self.index.first(image).and_then(|line| self.lines.get(line)).cloned()
    }

    fn add_image(&mut self, line: &Line<'_>, report: &mut Report) {
        let pattern = match Pattern::parse(&line.text) {
            Ok(pattern) => pattern,
            Err(reason) => return report.add(line, true, reason),
        };
        if pattern.admits_all() {
            report.add(line, false, "admits every image, so that nothing is checked: name registries, as in host/*");
        } else if pattern.host.is_none() {
            let risk = if pattern.path.contains('.') && !pattern.path.contains('/') {
                "is read as a repository path of every registry, not as a host: write host/* to name a registry"
            } else {
                "has no registry host and admits this name on every registry: write the host in front (docker.io/…)"
            };
            report.add(line, false, risk);
        }
        self.index.insert(&pattern, self.lines.len());
        self.lines.push(line.text.as_ref().into());
    }

    fn add_namespace(&mut self, line: &Line<'_>, report: &mut Report) {
        if is_dns_label(&line.text) {
            self.namespaces.insert(line.text.as_ref().into());
        } else {
            report.add(
                line,
                true,
                "is no namespace name: write one exact name per line (lower-case letters, digits, -)",
            );
        }
    }
}

/// The name of a namespace is a label as in RFC 1123.
fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A line that says something, without comment and surrounding blanks.
struct Line<'a> {
    key: &'static str,
    number: usize,
    text: Cow<'a, str>,
}

/// The lines of a key, or of the legacy key when it is absent.
fn read<'a>(
    data: &'a BTreeMap<String, String>,
    key: &'static str,
    legacy: &'static str,
    report: &mut Report,
) -> Vec<Line<'a>> {
    let Some(text) = data.get(key) else {
        return data.get(legacy).map(|json| read_legacy(json, legacy, report)).unwrap_or_default();
    };
    if data.contains_key(legacy) {
        report.add_key(legacy, format!("not read, because {key} is present: remove it"));
    }
    let line = |(i, text)| Line { key, number: i + 1, text: Cow::Borrowed(content(text)) };
    text.lines().enumerate().map(line).filter(|line| !line.text.is_empty()).collect()
}

/// The elements of a legacy key. `serde_json` bounds the depth, and the `ConfigMap` the size.
fn read_legacy<'a>(json: &str, key: &'static str, report: &mut Report) -> Vec<Line<'a>> {
    let elements: Vec<serde_json::Value> = match serde_json::from_str(json) {
        Ok(elements) => elements,
        Err(error) => {
            report.add_key(key, format!("not read, because it is no JSON array: {error}"));
            return Vec::new();
        }
    };
    let mut lines = Vec::new();
    for (i, element) in elements.into_iter().enumerate() {
        let text = element.as_str().map(|text| content(text).to_owned());
        let line = Line { key, number: i + 1, text: text.unwrap_or_else(|| element.to_string()).into() };
        if !element.is_string() {
            report.add(&line, true, "is no string: write a JSON array of strings");
        } else if !line.text.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// A line without surrounding blanks and without a comment, which starts with `#` at its beginning or after a blank.
fn content(line: &str) -> &str {
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| {
        let before = &line[..*at];
        before.is_empty() || before.ends_with(char::is_whitespace)
    });
    line[..comment.unwrap_or(line.len())].trim()
}

/// Problems, as many as are worth reading.
#[derive(Default)]
struct Report {
    problems: Vec<LineProblem>,
    left_out: usize,
    left_out_skipped: bool,
}

impl Report {
    fn add(&mut self, line: &Line<'_>, skipped: bool, reason: &str) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.left_out += 1;
            self.left_out_skipped |= skipped;
            return;
        }
        let message = format!("{} {reason}", quoted(&line.text));
        let message = if skipped { format!("skipped: {message}") } else { message };
        self.problems.push(LineProblem { key: line.key.to_owned(), line: line.number, message, skipped });
    }

    /// About a whole key, which is not in force. There are at most two of them, so they are never left out.
    fn add_key(&mut self, key: &str, message: String) {
        self.problems.push(LineProblem { key: key.to_owned(), line: 0, message, skipped: true });
    }

    fn finish(mut self) -> Vec<LineProblem> {
        if self.left_out > 0 {
            let message = format!("{} more lines are wrong or risky and not listed here", self.left_out);
            let key = IMAGES_KEY.to_owned();
            self.problems.push(LineProblem { key, line: 0, message, skipped: self.left_out_skipped });
        }
        self.problems
    }
}

/// A line in quotes for one line of a log: shortened, and whatever is not plain ASCII escaped.
fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_default).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        quoted.push_str("...");
    }
    format!("\"{quoted}\"")
}

#[cfg(test)]
mod tests;
