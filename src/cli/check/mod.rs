//! `podseal check`: the webhook's decision about files, without a cluster, or about the Pods of one.

mod cluster;
mod containers;
mod report;
pub(super) mod rows;

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use self::rows::{Row, Table, Worth, row};
use super::args::{CheckCommand, Format};
use super::documents::{self, Configuration, Document};
use super::output::{complain, print};
use super::{USAGE, runtime};
use crate::admission::images::{Shape, Workload};
use crate::admission::review::Kind;
use crate::cluster::Snapshot;
use crate::domain::verdict::ImageVerdict;
use crate::telemetry::Metrics;
use crate::verify::{PodContext, Verifier};

const NOTHING_TO_JUDGE: &str = "no Pod and no Pod template in the files given with -f";

/// Who asks by kubectl means the cluster, and would take what no policy forbids for allowed there.
const ASK_THE_CLUSTER: &str = "files and images are judged by the policies given with --policy, not by the cluster's, and \
    none was given: kubectl podseal explain IMAGE -n NAMESPACE judges by the cluster's policies, and so does kubectl podseal \
    check, about the Pods that run";

/// `plugin`: as `kubectl podseal`, where one namespace is meant unless all are.
pub(super) fn run(mut command: Box<CheckCommand>, plugin: bool, verbose: u8) -> ExitCode {
    // Keys that are left out are not in the answer, and whoever made the Secret is the one who reads this.
    let _logs = super::serve::logs(super::args::LogFormat::Text, verbose, "error,podseal::verify::keys=warn");
    if plugin && command.cluster && command.namespace.is_none() && !command.all_namespaces {
        match runtime().and_then(|runtime| runtime.block_on(cluster::namespace_of_context(&command))) {
            Ok(namespace) => command.namespace = Some(namespace),
            Err(error) => {
                complain(&error);
                return ExitCode::from(USAGE);
            }
        }
    }
    decide(&command, plugin)
}

/// The command without its log, which is one for the whole process and so not for tests.
pub(super) fn decide(command: &CheckCommand, plugin: bool) -> ExitCode {
    configuration(command).and_then(|configuration| judge_all(command, configuration, plugin)).unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(USAGE)
    })
}

fn judge_all(command: &CheckCommand, mut configuration: Configuration, plugin: bool) -> Result<ExitCode, String> {
    if command.cluster {
        return runtime()?.block_on(cluster::check(command, configuration));
    }
    let subjects = subjects(command, &mut configuration)?;
    if plugin && is_without_policy(command, &configuration) {
        return Err(ASK_THE_CLUSTER.to_owned());
    }
    runtime()?.block_on(check(command, subjects, configuration))
}

/// Whether everything is allowed because there is nothing to judge by.
fn is_without_policy(command: &CheckCommand, configuration: &Configuration) -> bool {
    command.containers_policy.is_none() && configuration.has_no_policy() && !command.decision.deny_without_policy
}

/// Reads the files given with --policy.
fn configuration(command: &CheckCommand) -> Result<Configuration, String> {
    let mut configuration = Configuration::in_namespace(default_namespace(command));
    for path in &command.policy {
        let documents = documents::read(path)?;
        if documents.is_empty() {
            // Such as what is left where the command that was to write it failed.
            return Err(format!("--policy {}: holds no object", path.display()));
        }
        for document in documents {
            if !configuration.take(&document, &command.decision.own_namespace)? {
                configuration.remarks.push(format!(
                    "{}: a {} configures nothing and was left out",
                    document.origin,
                    document.kind()
                ));
            }
        }
    }
    Ok(configuration)
}

/// Reads what is to be judged; objects of the `-f` files that configure (policies, Secrets, …) count as such.
fn subjects(command: &CheckCommand, configuration: &mut Configuration) -> Result<Vec<Document>, String> {
    let mut subjects = Vec::new();
    for path in &command.filename {
        for document in documents::read(path)? {
            if !configuration.take(&document, &command.decision.own_namespace)? {
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
    if command.containers_policy.is_some() {
        configuration.remarks.extend(containers::ignored(configuration));
    } else if is_without_policy(command, configuration) {
        configuration.remarks.push("no policy was given, and without one images are allowed: give --policy".to_owned());
    }
    Ok(subjects)
}

/// The namespace of objects that name none.
fn default_namespace(command: &CheckCommand) -> &str {
    command.namespace.as_deref().unwrap_or("default")
}

/// Whether nothing in the namespace is ever judged.
fn is_exempt(command: &CheckCommand, namespace: &str) -> bool {
    let decision = &command.decision;
    namespace == "kube-system"
        || namespace == decision.own_namespace
        || decision.exempt_namespace.iter().any(|exempt| exempt == namespace)
}

async fn check(
    command: &CheckCommand,
    subjects: Vec<Document>,
    mut configuration: Configuration,
) -> Result<ExitCode, String> {
    for remark in &configuration.remarks {
        complain(remark);
    }
    let judge = if let Some(file) = &command.containers_policy {
        containers::judge(command, file, std::mem::take(&mut configuration.objects))?
    } else {
        let snapshot = configuration.inputs().current();
        let objects = Arc::new(std::mem::take(&mut configuration.objects));
        let metrics = Arc::new(Metrics::new());
        let verifier = super::serve::verifier(&command.source, &command.decision, None, objects, metrics)?;
        refresh(command, &verifier).await;
        Judge::Policies(verifier, snapshot)
    };
    let mut rows = Vec::new();
    let mut known = false;
    for subject in &subjects {
        known |= judge_subject(command, &judge, subject, &mut rows).await?;
    }
    if !known {
        // A kind that was misspelt must not pass for a Pod that is allowed.
        return Err(NOTHING_TO_JUDGE.to_owned());
    }
    let code = rows.iter().map(Row::worth).max().map_or(0, Worth::code);
    match command.output {
        Format::Json => print(&format!("{:#}\n", json!({"allowed": code == 0, "images": rows}))),
        Format::Table => print(&Table::default().print(&rows)),
    }
    Ok(ExitCode::from(code))
}

/// Who decides.
enum Judge {
    /// The webhook's own verifier, by policies and whitelist.
    Policies(Verifier, Arc<Snapshot>),
    /// The same verifier, by a policy.json.
    Containers(Verifier, Box<containers::ByFile>),
}

impl Judge {
    async fn judge(&self, image: &str, pod: &PodContext<'_>, deadline: Instant) -> ImageVerdict {
        match self {
            Self::Policies(verifier, snapshot) => verifier.judge(snapshot, image, pod, deadline).await,
            Self::Containers(verifier, file) => file.judge(verifier, image, pod, deadline).await,
        }
    }
}

/// Brings the trust root up to date, if that is wanted; what is built in serves when it cannot be.
async fn refresh(command: &CheckCommand, verifier: &Verifier) {
    if command.source.sigstore_tuf
        && let Err(problem) = super::serve::refresh_by_tuf(command.source.ca_file.as_deref(), verifier).await
    {
        complain(&format!("{problem}; the one that is built in is used"));
    }
}

/// Whether the object holds a Pod, with a row for each of its images.
async fn judge_subject(
    command: &CheckCommand,
    judge: &Judge,
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
    let namespace = subject.text("/metadata/namespace").unwrap_or(default_namespace(command));
    let object = format!("{namespace}/{}/{}", kind.kind, subject.text("/metadata/name").unwrap_or(""));
    if is_exempt(command, namespace) {
        complain(&format!("{object}: the namespace {namespace} is exempt"));
        return Ok(true);
    }
    let pod = workload.pod_spec(shape).map_err(|e| format!("{}: {e}", subject.origin))?;
    let pull_secrets = pod.pull_secrets();
    let context =
        PodContext { namespace, pull_secrets: &pull_secrets, service_account: pod.service_account(), dry_run: false };
    for named in pod.images(None) {
        let verdict = judge.judge(&named.image, &context, Instant::now() + command.timeout).await;
        rows.push(row(&object, &named, &verdict));
    }
    Ok(true)
}

/// The error names the field.
fn read_workload(object: &Value) -> Result<Workload, impl std::fmt::Display> {
    serde_path_to_error::deserialize(object)
}
