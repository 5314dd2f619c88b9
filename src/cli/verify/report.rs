//! What is printed: every signature with its verdict, and what was recorded.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::save::Change;
use crate::cli::output::columns;
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

/// The rows as a table, each with the sentences that belong to it.
pub(in crate::cli) fn table(rows: &[Row]) -> String {
    let dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    let line = |row: &Row| {
        let cells = [row.reason.to_owned(), row.by.clone(), dash(row.created.as_ref()), dash(row.identity.as_ref())];
        let key = row.fingerprint.as_ref().map(|fingerprint| format!("key {fingerprint}"));
        let why = (!row.verified).then(|| row.message.clone());
        (cells, key.into_iter().chain(why).chain([row.place.clone()]).collect())
    };
    let heading = (["VERDICT", "SIGNER", "MADE", "IDENTITY"].map(str::to_owned), Vec::new());
    columns(&[heading].into_iter().chain(rows.iter().map(line)).collect::<Vec<_>>())
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
