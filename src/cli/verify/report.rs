//! What is printed: every signature with its verdict, and what was recorded.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::save::Change;
use crate::domain::digest::Digest;
use crate::domain::printable::printable;
use crate::records::examine::{Examined, Outcome, shown};

/// One signature's line in the result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Row {
    verified: bool,
    reason: &'static str,
    message: String,
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(rename = "userIDs", skip_serializing_if = "Vec::is_empty")]
    user_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
    /// What the signature itself says, proved or not.
    issuers: Vec<String>,
    created: Option<String>,
    identity: Option<String>,
    #[serde(skip)]
    by: String,
}

impl Row {
    pub(in crate::cli) fn new(place: &str, examined: &Examined) -> Self {
        let signer = examined.signer.as_ref();
        Self {
            verified: examined.outcome == Outcome::Verified,
            reason: examined.outcome.reason(),
            message: printable(&examined.message).into_owned(),
            place: printable(place).into_owned(),
            fingerprint: signer.map(|s| s.fingerprint.clone()),
            user_ids: signer.map(|s| s.user_ids.iter().map(|id| shown(id)).collect()).unwrap_or_default(),
            key_file: signer.map(|s| printable(&s.file).into_owned()),
            issuers: examined.issuers.clone(),
            created: examined.made(),
            identity: examined.identity.clone(),
            by: shown(&examined.by()),
        }
    }

    /// Says that nothing could be found out about it, because its keys could not be read.
    pub(in crate::cli) fn not_judged(&mut self, why: &str) {
        self.reason = "NotJudged";
        why.clone_into(&mut self.message);
    }

    /// Whether it verified.
    pub(in crate::cli) fn verified(&self) -> bool {
        self.verified
    }
}

const COLUMNS: [&str; 4] = ["VERDICT", "SIGNER", "MADE", "IDENTITY"];

/// The rows as a table, each with the sentences that belong to it.
pub(in crate::cli) fn table(rows: &[Row]) -> String {
    let dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let lines: Vec<[String; COLUMNS.len()]> = rows
        .iter()
        .map(|row| [row.reason.to_owned(), row.by.clone(), dash(row.created.as_ref()), dash(row.identity.as_ref())])
        .collect();
    let heading = COLUMNS.map(str::to_owned);
    let mut widths = [0; COLUMNS.len()];
    for line in lines.iter().chain([&heading]) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&heading);
    for (row, cells) in rows.iter().zip(&lines) {
        text.push_str(&line(cells));
        if let Some(fingerprint) = &row.fingerprint {
            let _ = writeln!(text, "  key {fingerprint}");
        }
        if !row.verified {
            let _ = writeln!(text, "  {}", row.message);
        }
        let _ = writeln!(text, "  {}", row.place);
    }
    text
}

/// Everything, for people.
pub(super) fn text(digest: &Digest, expected: &str, rows: &[Row], changes: Option<&[Change]>, dry_run: bool) -> String {
    let mut text = if rows.is_empty() { String::new() } else { table(rows) };
    let good = rows.iter().filter(|row| row.verified).count();
    let verdict = match (good, rows.len()) {
        (0, 0) => "has no GPG signature".to_owned(),
        (0, all) => format!("is not verified: none of {all} signatures counts as {expected}"),
        (good, all) => format!("is verified as {expected}: {good} of {all} signatures"),
    };
    let _ = writeln!(text, "{digest} {verdict}");
    for change in changes.unwrap_or_default() {
        let _ = writeln!(text, "{}", change.sentence(dry_run));
    }
    if changes.is_some_and(<[Change]>::is_empty) {
        text.push_str(if dry_run { "nothing would be recorded or removed\n" } else { "nothing to record or remove\n" });
    }
    text
}

/// Everything, for programs.
pub(super) fn json(digest: &Digest, expected: &str, rows: &[Row], changes: Option<&[Change]>, dry_run: bool) -> String {
    let verified = rows.iter().any(|row| row.verified);
    let mut document =
        json!({"image": digest.to_string(), "expectedIdentity": expected, "verified": verified, "signatures": rows});
    if let (Some(changes), Some(document)) = (changes, document.as_object_mut()) {
        document.insert("dryRun".to_owned(), dry_run.into());
        document.insert("records".to_owned(), json!(changes));
    }
    format!("{document:#}\n")
}
