//! `podseal check`: the webhook's decision about files, without a cluster.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::{CheckCommand, Format};
use super::documents::{self, Configuration, Document};
use super::output::{complain, print};
use super::{USAGE, runtime};
use crate::admission::images::{NamedImage, Shape, Workload};
use crate::admission::review::Kind;
use crate::cluster::Snapshot;
use crate::domain::verdict::{Basis, Finding, ImageVerdict, Method, Outcome};
use crate::telemetry::Metrics;
use crate::verify::{PodContext, Verifier, describe, reason_of};

const DENIED: u8 = 1;
const UNDECIDED: u8 = 2;
const NOTHING_TO_JUDGE: &str = "no Pod and no Pod template in the files given with -f";

/// One image's line in the result.
#[derive(Debug, Serialize)]
struct Row {
    object: String,
    image: String,
    field: String,
    digest: Option<String>,
    verdict: &'static str,
    reason: &'static str,
    policy: Option<String>,
    method: Option<&'static str>,
    signer: Option<String>,
    /// Sentences for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
}

pub(super) fn run(command: &CheckCommand, verbose: u8) -> ExitCode {
    // Keys that are left out are not in the answer, and whoever made the Secret is the one who reads this.
    let _logs = super::serve::logs(super::args::LogFormat::Text, verbose, "error,podseal::verify::keys=warn");
    decide(command)
}

/// The command without its log, which is one for the whole process and so not for tests.
pub(super) fn decide(command: &CheckCommand) -> ExitCode {
    match prepare(command) {
        Ok((subjects, configuration)) => match runtime() {
            Ok(runtime) => {
                runtime.block_on(check(command, subjects, configuration)).unwrap_or_else(|error| usage(&error))
            }
            Err(error) => usage(&error),
        },
        Err(error) => usage(&error),
    }
}

fn usage(error: &str) -> ExitCode {
    complain(error);
    ExitCode::from(USAGE)
}

/// Reads all files; objects of the `-f` files that configure (policies, Secrets, …) count as such.
fn prepare(command: &CheckCommand) -> Result<(Vec<Document>, Configuration), String> {
    let own = &command.decision.own_namespace;
    let mut configuration = Configuration::in_namespace(&command.namespace);
    for path in &command.policy {
        for document in documents::read(path)? {
            if !configuration.take(&document, own)? {
                configuration.remarks.push(format!(
                    "{}: a {} configures nothing and was left out",
                    document.origin,
                    document.kind()
                ));
            }
        }
    }
    let mut subjects = Vec::new();
    for path in &command.filename {
        for document in documents::read(path)? {
            if !configuration.take(&document, own)? {
                subjects.push(document);
            }
        }
    }
    for image in &command.image {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "image"},
            "spec": {"containers": [{"name": "image", "image": image}]}});
        subjects.push(Document { origin: "--image".to_owned(), object });
    }
    if subjects.is_empty() {
        return Err(NOTHING_TO_JUDGE.to_owned());
    }
    if configuration.policies.is_empty() && !command.decision.deny_without_policy {
        configuration.remarks.push("no policy was given, and without one images are allowed: give --policy".to_owned());
    }
    Ok((subjects, configuration))
}

async fn check(
    command: &CheckCommand,
    subjects: Vec<Document>,
    mut configuration: Configuration,
) -> Result<ExitCode, String> {
    for remark in &configuration.remarks {
        complain(remark);
    }
    let inputs = configuration.inputs();
    let metrics = Arc::new(Metrics::new());
    let objects = Arc::new(std::mem::take(&mut configuration.objects));
    let verifier = super::serve::verifier(&command.source, &command.decision, None, objects, metrics)?;
    let mut rows = Vec::new();
    let mut known = false;
    for subject in &subjects {
        known |= judge(command, &verifier, &inputs.current(), subject, &mut rows).await?;
    }
    if !known {
        // A kind that was misspelt must not pass for a Pod that is allowed.
        return Err(NOTHING_TO_JUDGE.to_owned());
    }
    let verdict = |name| rows.iter().any(|row: &Row| row.verdict == name);
    let code = if verdict("Denied") {
        DENIED
    } else if verdict("Error") {
        UNDECIDED
    } else {
        0
    };
    match command.output {
        Format::Json => print(&format!("{:#}\n", json!({"allowed": code == 0, "images": rows}))),
        Format::Table => print(&table(&rows)),
    }
    Ok(ExitCode::from(code))
}

/// Whether the object holds a Pod, with a row for each of its images.
async fn judge(
    command: &CheckCommand,
    verifier: &Verifier,
    snapshot: &Snapshot,
    subject: &Document,
    rows: &mut Vec<Row>,
) -> Result<bool, String> {
    let (group, version) = match subject.text("/apiVersion").map(|v| v.split_once('/').unwrap_or(("", v))) {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => return Err(format!("{}: apiVersion is missing", subject.origin)),
    };
    let kind = Kind { group, version, kind: subject.kind().to_owned() };
    let Some(shape) = Shape::of(&kind) else {
        complain(&format!("{}: a {} holds no Pod and was left out", subject.origin, kind.kind));
        return Ok(false);
    };
    let workload: Workload = read_workload(&subject.object).map_err(|e| format!("{}: {e}", subject.origin))?;
    let namespace = subject.text("/metadata/namespace").unwrap_or(&command.namespace);
    let object = format!("{namespace}/{}/{}", kind.kind, subject.text("/metadata/name").unwrap_or(""));
    let exempt = &command.decision.exempt_namespace;
    if namespace == "kube-system"
        || namespace == command.decision.own_namespace
        || exempt.iter().any(|n| n == namespace)
    {
        complain(&format!("{object}: the namespace {namespace} is exempt"));
        return Ok(true);
    }
    let pod = workload.pod_spec(shape).map_err(|e| format!("{}: {e}", subject.origin))?;
    let pull_secrets = pod.pull_secrets();
    let context = PodContext { namespace, pull_secrets: &pull_secrets, service_account: pod.service_account() };
    for named in pod.images(None) {
        let verdict = verifier.judge(snapshot, &named.image, &context, Instant::now() + command.timeout).await;
        rows.push(row(&object, &named, &verdict));
    }
    Ok(true)
}

/// The error names the field.
fn read_workload(object: &Value) -> Result<Workload, impl std::fmt::Display> {
    serde_path_to_error::deserialize(object)
}

fn row(object: &str, named: &NamedImage, verdict: &ImageVerdict) -> Row {
    let mut row = Row {
        object: object.to_owned(),
        image: named.image.clone(),
        field: named.field.clone(),
        digest: verdict.digest.as_ref().map(ToString::to_string),
        verdict: "Allowed",
        reason: "",
        policy: None,
        method: None,
        signer: None,
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
            row.verdict = if matches!(verdict.outcome, Outcome::Denied(_)) { "Denied" } else { "Error" };
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

fn table(rows: &[Row]) -> String {
    let cells: Vec<[&str; 5]> = rows
        .iter()
        .map(|r| [r.verdict, r.reason, r.object.as_str(), r.image.as_str(), r.signer.as_deref().unwrap_or("-")])
        .collect();
    let head = ["VERDICT", "REASON", "OBJECT", "IMAGE", "SIGNER"];
    let width = |i: usize| cells.iter().map(|c| c[i].chars().count()).chain([head[i].len()]).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    let line = |cells: &[&str; 5]| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&head);
    for (row, cells) in rows.iter().zip(&cells) {
        text.push_str(&line(cells));
        for message in &row.messages {
            let _ = writeln!(text, "  {message}");
        }
    }
    text
}
