//! What is printed: a row for each image, as a table or as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::admission::images::NamedImage;
use crate::domain::verdict::{Basis, Finding, ImageVerdict, Method, Outcome};
use crate::verify::{describe, reason_of};

/// One image's line in the result.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Row {
    object: String,
    image: String,
    field: String,
    digest: Option<String>,
    verdict: Worth,
    reason: &'static str,
    policy: Option<String>,
    method: Option<&'static str>,
    signer: Option<String>,
    /// The digest that the node reports for a container that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<String>,
    /// Sentences for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
}

impl Row {
    /// An image that is not judged for this reason, which everybody is to see.
    pub(in crate::cli) fn exempt(object: &str, named: &NamedImage, reason: &'static str, message: &str) -> Self {
        Self {
            object: object.to_owned(),
            image: named.image.clone(),
            field: named.field.clone(),
            digest: None,
            verdict: Worth::Allowed,
            reason,
            policy: None,
            method: None,
            signer: None,
            running: None,
            messages: vec![message.to_owned()],
        }
    }

    /// What it comes to.
    pub(in crate::cli) fn worth(&self) -> Worth {
        self.verdict
    }

    /// `Allowed` and the like, and why.
    pub(in crate::cli) fn verdict(&self) -> (&'static str, &'static str) {
        (self.verdict.label(), self.reason)
    }

    /// Sentences for people.
    pub(in crate::cli) fn messages(&self) -> &[String] {
        &self.messages
    }

    /// Who signed.
    pub(in crate::cli) fn signer(&self) -> Option<&str> {
        self.signer.as_deref()
    }

    /// Whether there is more to say than that all is well.
    pub(in crate::cli) fn is_remarkable(&self) -> bool {
        self.verdict != Worth::Allowed || !self.messages.is_empty()
    }

    /// Adds what the node says that it runs. A tag that has moved since is worth a word.
    pub(in crate::cli) fn set_running(&mut self, running: Option<String>) {
        if let (Some(running), Some(digest)) = (&running, &self.digest)
            && running != digest
            && !self.image.contains('@')
        {
            self.messages.push(format!("the node reports {running}; judged was {digest}, which the tag names now"));
        }
        self.running = running;
    }
}

/// What an image, or all of them, come to; the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::cli) enum Worth {
    /// May run.
    Allowed,
    /// No verdict.
    Error,
    /// A verdict against it.
    Denied,
}

impl Worth {
    /// The exit status.
    pub(in crate::cli) fn code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Denied => 1,
            Self::Error => 2,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Error => "Error",
            Self::Denied => "Denied",
        }
    }
}

/// The row of an image of an object.
pub(in crate::cli) fn row(object: &str, named: &NamedImage, verdict: &ImageVerdict) -> Row {
    let mut row = Row {
        object: object.to_owned(),
        image: named.image.clone(),
        field: named.field.clone(),
        digest: verdict.digest.as_ref().map(ToString::to_string),
        verdict: Worth::Allowed,
        reason: "",
        policy: None,
        method: None,
        signer: None,
        running: None,
        messages: verdict.remarks.clone(),
    };
    let lines = |findings: &[Finding]| {
        findings.iter().flat_map(|f| describe(&named.image, &named.field, f)).map(|l| l.to_string()).collect::<Vec<_>>()
    };
    match &verdict.outcome {
        Outcome::Allowed(basis) => {
            row.reason = match basis {
                Basis::WhitelistedNamespace => "WhitelistedNamespace",
                Basis::WhitelistedImage(_) => "WhitelistedImage",
                Basis::NoPolicy => "NoPolicy",
                Basis::Policy { pass, .. } if pass.method.is_some() => "Signed",
                Basis::Policy { .. } => "Unchecked",
            };
            if let Basis::Policy { policy, pass } = basis {
                row.policy = Some(policy.clone());
                row.method = pass.method.map(Method::label);
                row.signer.clone_from(&pass.signer);
            }
        }
        Outcome::Denied(findings) | Outcome::Undecided(findings) => {
            row.verdict = if matches!(verdict.outcome, Outcome::Denied(_)) { Worth::Denied } else { Worth::Error };
            row.reason = reason_of(&verdict.outcome);
            row.policy = findings.first().and_then(|f| f.policy.clone());
            row.method = findings.iter().flat_map(|f| &f.failures).find_map(|f| f.method).map(Method::label);
            row.messages.extend(lines(findings));
        }
    }
    row.messages.extend(lines(&verdict.warned).into_iter().map(|l| format!("warning: {l}")));
    row.messages.extend(lines(&verdict.audited).into_iter().map(|l| format!("audit: {l}")));
    row
}

/// A table whose columns grow with what is printed, as rows come in.
#[derive(Debug, Default)]
pub(super) struct Table {
    widths: [usize; COLUMNS.len()],
    begun: bool,
}

const COLUMNS: [&str; 5] = ["VERDICT", "REASON", "OBJECT", "IMAGE", "SIGNER"];

impl Table {
    /// The lines of these rows, under a heading when they are the first.
    pub(super) fn print<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) -> String {
        let rows: Vec<_> = rows.into_iter().collect();
        let cells = |r: &'a Row| [r.verdict.label(), r.reason, &r.object, &r.image, r.signer.as_deref().unwrap_or("-")];
        for line in rows.iter().map(|row| cells(row)).chain([COLUMNS]) {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: [&str; COLUMNS.len()]| {
            let padded: Vec<_> = cells.iter().zip(&self.widths).map(|(c, w)| format!("{c:w$}")).collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        let mut text = if self.begun { String::new() } else { line(COLUMNS) };
        for row in &rows {
            text.push_str(&line(cells(row)));
            for message in &row.messages {
                let _ = writeln!(text, "  {message}");
            }
        }
        self.begun = true;
        text
    }
}
