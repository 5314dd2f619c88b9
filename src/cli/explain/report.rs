//! The explanation as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::entries::{Governing, Overruled};
use super::keys::KeyList;
use crate::cli::check::rows::Row as Verdict;
use crate::cli::verify::report::table;
use crate::domain::printable::printable;

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub(super) image: String,
    pub(super) digest: Option<String>,
    pub(super) namespace: String,
    /// Why nothing else matters, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) whitelist: Option<String>,
    pub(super) governing: Vec<Governing>,
    pub(super) overruled: Vec<Overruled>,
    /// What is on record about the image; it decides nothing.
    pub(super) recorded: Vec<String>,
    /// What could not be read or found.
    pub(super) notes: Vec<String>,
    pub(super) verdict: Option<Verdict>,
}

impl Explanation {
    pub(super) fn text(&self) -> String {
        let mut text = format!("Image:      {}\n", self.image);
        let _ = writeln!(text, "Digest:     {}", self.digest.as_deref().unwrap_or("not found out"));
        let _ = writeln!(text, "Namespace:  {}", self.namespace);
        if let Some(whitelist) = &self.whitelist {
            let _ = writeln!(text, "Whitelist:  {whitelist}");
        }
        text.push_str("\nEntries that govern, all of which must pass:\n");
        if self.governing.is_empty() {
            text.push_str(if self.notes.is_empty() { "  none\n" } else { "  not known, see below\n" });
        }
        for entry in &self.governing {
            govern(&mut text, entry);
        }
        if !self.overruled.is_empty() {
            text.push_str("\nEntries that match and do not govern:\n");
        }
        for entry in &self.overruled {
            let _ = writeln!(text, "  {} ({})\n    {}", entry.entry, entry.registry, entry.why);
        }
        list(&mut text, "On record, which decides nothing:", &self.recorded);
        list(&mut text, "Not found out:", &self.notes);
        match &self.verdict {
            Some(verdict) => {
                let (label, reason) = verdict.verdict();
                let signer = verdict.signer().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
                let _ = writeln!(text, "\nVerdict:    {label} ({reason}{signer})");
                text.push_str(&verdict.messages().iter().fold(String::new(), |all, line| all + "  " + line + "\n"));
            }
            None => text.push_str("\nVerdict:    could not be found out\n"),
        }
        text.lines().fold(String::new(), |all, line| all + &printable(line) + "\n")
    }
}

fn govern(text: &mut String, entry: &Governing) {
    let _ = writeln!(text, "  {} ({})", entry.entry, entry.registry);
    let _ = writeln!(text, "    {}", entry.why);
    let digest = if entry.require_digest { ", and for a digest in the name" } else { "" };
    let _ = writeln!(text, "    asks for {}{digest}", entry.asks);
    if !entry.signers.is_empty() {
        let _ = writeln!(text, "    by one of: {}", entry.signers.join(", "));
    }
    if entry.action != "Enforce" {
        let _ = writeln!(text, "    action {}: a failure denies nothing", entry.action);
    }
    for list in &entry.keys {
        keys(text, list);
    }
    if !entry.signatures.is_empty() {
        let _ = write!(text, "    GPG signatures that were found:\n{}", indented(&table(&entry.signatures)));
    }
}

fn keys(text: &mut String, list: &KeyList) {
    let _ = writeln!(text, "    keys of {} ({}):", list.reference, list.method);
    for key in &list.keys {
        let who = key.user_ids.iter().fold(String::new(), |all, id| all + "  " + id);
        let until = key.expires.as_deref().map(|at| format!("  until {at}")).unwrap_or_default();
        let unusable = key.unusable.as_deref().map(|why| format!("  UNUSABLE: {why}")).unwrap_or_default();
        let _ = writeln!(text, "      {}{who}{until}{unusable}", key.fingerprint);
    }
    if let Some(note) = &list.note {
        let _ = writeln!(text, "      {note}");
    }
}

fn list(text: &mut String, heading: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{heading}");
    }
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "      " + line + "\n")
}
