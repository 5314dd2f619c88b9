//! `podseal check --cluster`: what the webhook would say of the Pods that run already.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::StreamExt as _;
use kube::Client;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::is_exempt;
use super::report::{Output, Tally};
use super::rows::{Row, Worth, row};
use crate::admission::images::{NamedImage, Shape, Workload};
use crate::cli::args::CheckCommand;
use crate::cli::documents::Configuration;
use crate::cli::output::complain;
use crate::cli::serve;
use crate::cluster::files::Overlay;
use crate::cluster::remote::RemoteObjects;
use crate::cluster::roots::ClusterRoots;
use crate::cluster::{Snapshot, read};
use crate::domain::verdict::ImageVerdict;
use crate::telemetry::Metrics;
use crate::verify::{CacheLimits, PodContext, Verifier};

/// Images judged at the same time.
const CONCURRENT: usize = 16;
/// How often somebody who waits is told how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Judges all Pods. The error is one of usage; what cannot be read of the cluster is no verdict.
pub(super) async fn check(command: &CheckCommand, files: Configuration) -> Result<ExitCode, String> {
    let kubernetes = serve::kube_config(command.kubeconfig.as_deref(), command.context.as_deref()).await?;
    let url = kubernetes.cluster_url.clone();
    let client = Client::try_from(kubernetes).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let mut configuration = match complete(command, &client, files).await {
        Ok(configuration) => configuration,
        Err(error) => return Ok(undecided(&error)),
    };
    for remark in &configuration.remarks {
        complain(remark);
    }
    let snapshot = configuration.inputs().current();
    // Every Secret by `get`, those of podseal's namespace, too: whoever runs this need not be allowed to list them.
    let remote = RemoteObjects::new(client.clone(), "", Arc::new(ArcSwapOption::empty()));
    let objects = Arc::new(Overlay { files: std::mem::take(&mut configuration.objects), cluster: remote });
    let addresses = match serve::find_api_servers(client.clone(), url.clone(), Vec::new()).await {
        Ok(addresses) => addresses,
        Err(_) => serve::api_server_addresses(&url, &[]),
    };
    let serving = Some((CacheLimits::default(), addresses));
    let metrics = Arc::new(Metrics::new());
    let verifier = serve::verifier(&command.source, &command.decision, serving, objects, metrics)?;
    let roots = ClusterRoots::new(client.clone(), &command.decision.own_namespace).only_reading();
    let verifier = verifier.with_roots(Arc::new(roots));
    super::refresh(command, &verifier).await;
    let survey = Survey { command, verifier, snapshot, known: HashMap::new(), tally: Tally::default() };
    survey.run(&client).await
}

/// The namespace that kubectl would take.
pub(super) async fn namespace_of_context(command: &CheckCommand) -> Result<String, String> {
    let kubernetes = serve::kube_config(command.kubeconfig.as_deref(), command.context.as_deref()).await?;
    Ok(kubernetes.default_namespace)
}

/// What the files leave open, from the cluster: policies when no file holds any, the whitelist when no file holds it.
async fn complete(
    command: &CheckCommand,
    client: &Client,
    mut configuration: Configuration,
) -> Result<Configuration, String> {
    if configuration.has_no_policy() {
        for policy in read::policies(client, command.namespace.as_deref()).await? {
            configuration.add_policy(policy, "cluster");
        }
    } else {
        configuration.remarks.push("the policies given with --policy stand in for all those of the cluster".to_owned());
    }
    if !configuration.has_whitelist() {
        configuration.set_whitelist(read::whitelist(client, &command.decision.own_namespace).await?);
    }
    if configuration.has_no_policy() && !command.decision.deny_without_policy {
        configuration.remarks.push("there is no policy, and without one images are allowed".to_owned());
    }
    Ok(configuration)
}

fn undecided(error: &str) -> ExitCode {
    complain(error);
    ExitCode::from(Worth::Error.code())
}

/// Everything that a verdict about an image of a Pod depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    namespace: String,
    image: String,
    service_account: String,
    pull_secrets: Vec<String>,
}

/// One run over the Pods.
struct Survey<'a> {
    command: &'a CheckCommand,
    verifier: Verifier,
    snapshot: Arc<Snapshot>,
    /// Verdicts about images of the namespace that is being looked at, so that replicas are judged once.
    known: HashMap<Question, ImageVerdict>,
    tally: Tally,
}

/// A Pod taken apart.
struct Subject {
    object: String,
    namespace: String,
    service_account: String,
    pull_secrets: Vec<String>,
    images: Vec<NamedImage>,
    mirror: bool,
    /// The untyped Pod.
    data: Value,
}

impl Survey<'_> {
    async fn run(mut self, client: &Client) -> Result<ExitCode, String> {
        let mut output = Output::new(self.command);
        let mut pages = read::pods(client, self.command.namespace.as_deref());
        let mut told = Instant::now();
        let ended = loop {
            match pages.next().await {
                Ok(Some(page)) => output.rows(&self.page(page).await),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let Tally { denied, .. } = self.tally;
                complain(&format!("{} Pods so far, {denied} of them would be denied", self.tally.judged()));
            }
        };
        self.finish(&output, ended)
    }

    fn finish(&self, output: &Output<'_>, ended: Result<(), String>) -> Result<ExitCode, String> {
        let tally = &self.tally;
        let worst = [(tally.denied, Worth::Denied), (tally.undecided, Worth::Error)];
        let worst = worst.into_iter().find(|(count, _)| *count > 0).map_or(Worth::Allowed, |(_, worth)| worth);
        output.end(tally, ended.is_ok() && worst == Worth::Allowed, ended.is_ok());
        if let Err(error) = ended {
            return Ok(undecided(&format!("not all Pods were looked at: {error}")));
        }
        if tally.judged() + tally.exempt == 0 {
            // A namespace that was misspelt must not pass for one in which all is well.
            let place = self.command.namespace.as_ref().map_or("the cluster".to_owned(), |n| format!("namespace {n}"));
            return Err(format!("no Pod runs in {place}"));
        }
        Ok(ExitCode::from(worst.code()))
    }

    /// The rows of a page of Pods.
    async fn page(&mut self, pods: Vec<DynamicObject>) -> Vec<Row> {
        let mut subjects = Vec::new();
        let last = pods.last().and_then(ResourceExt::namespace);
        for pod in pods {
            if is_exempt(self.command, &pod.namespace().unwrap_or_default()) {
                self.tally.exempt += 1;
                continue;
            }
            match Subject::of(pod) {
                Ok(subject) => subjects.push(subject),
                Err(error) => {
                    complain(&error);
                    self.tally.add(Worth::Error);
                }
            }
        }
        self.judge(&subjects).await;
        let mut rows = Vec::new();
        for subject in &subjects {
            let found: Vec<_> = subject.images.iter().map(|named| self.row(subject, named)).collect();
            self.tally.add(found.iter().map(Row::worth).max().unwrap_or(Worth::Allowed));
            rows.extend(found);
        }
        self.known.retain(|question, _| Some(&question.namespace) == last.as_ref());
        rows
    }

    /// Judges what is not known yet, each image of a namespace once.
    async fn judge(&mut self, subjects: &[Subject]) {
        let questions = subjects.iter().filter(|subject| !subject.mirror).flat_map(Subject::questions);
        let mut open: Vec<Question> = questions.filter(|question| !self.known.contains_key(question)).collect();
        let mut seen = std::collections::HashSet::new();
        open.retain(|question| seen.insert(question.clone()));
        let (verifier, snapshot, timeout) = (&self.verifier, &self.snapshot, self.command.timeout);
        let judging = open.into_iter().map(async |question| {
            let context = PodContext {
                namespace: &question.namespace,
                pull_secrets: &question.pull_secrets,
                service_account: &question.service_account,
                dry_run: false,
            };
            let deadline = tokio::time::Instant::now() + timeout;
            let verdict = verifier.judge(snapshot, &question.image, &context, deadline).await;
            (question, verdict)
        });
        let found: Vec<_> = futures::stream::iter(judging).buffer_unordered(CONCURRENT).collect().await;
        self.known.extend(found);
    }

    fn row(&self, subject: &Subject, named: &NamedImage) -> Row {
        let verdict = self.known.get(&subject.question(named)).filter(|_| !subject.mirror);
        let Some(verdict) = verdict else {
            let why = "a mirror Pod of a static Pod is not judged when its node creates it";
            return Row::exempt(&subject.object, named, "MirrorPod", why);
        };
        let mut row = row(&subject.object, named, verdict);
        row.set_running(subject.running(named));
        row
    }
}

impl Subject {
    fn of(pod: DynamicObject) -> Result<Self, String> {
        let namespace = pod.namespace().unwrap_or_default();
        let object = format!("{namespace}/Pod/{}", pod.name_any());
        let mirror = is_mirror(&pod);
        let data = pod.data;
        let workload: Workload = serde_path_to_error::deserialize(json!({"spec": data.get("spec")}))
            .map_err(|e| format!("{object}: {e}"))?;
        let spec = workload.pod_spec(Shape::Pod).map_err(|e| format!("{object}: {e}"))?;
        let (pull_secrets, images) = (spec.pull_secrets(), spec.images(None));
        let service_account = spec.service_account().to_owned();
        Ok(Self { object, namespace, service_account, pull_secrets, images, mirror, data })
    }

    fn questions(&self) -> impl Iterator<Item = Question> {
        self.images.iter().map(|named| self.question(named))
    }

    fn question(&self, named: &NamedImage) -> Question {
        Question {
            namespace: self.namespace.clone(),
            image: named.image.clone(),
            service_account: self.service_account.clone(),
            pull_secrets: self.pull_secrets.clone(),
        }
    }

    /// The digest that the node reports for a container, as far as it reports one.
    fn running(&self, named: &NamedImage) -> Option<String> {
        let pointer = named.pointer();
        let container = pointer.strip_suffix("/image")?;
        let name = self.data.pointer(&format!("{container}/name"))?;
        let statuses = match pointer.split('/').nth(2)? {
            "containers" => "/status/containerStatuses",
            "initContainers" => "/status/initContainerStatuses",
            "ephemeralContainers" => "/status/ephemeralContainerStatuses",
            _ => return None,
        };
        let statuses = self.data.pointer(statuses)?.as_array()?;
        let image = statuses.iter().find(|status| status.get("name") == Some(name))?.get("imageID")?.as_str()?;
        // Without a name in front it is the runtime's own ID and no digest of a manifest.
        image.rsplit_once('@').map(|(_, digest)| digest.to_owned())
    }
}

/// As the kubelet makes them: with its annotation, and owned by the node. A user could write both, so such Pods are shown.
fn is_mirror(pod: &DynamicObject) -> bool {
    let owned = pod.owner_references().iter().any(|owner| owner.kind == "Node" && owner.controller == Some(true));
    owned && pod.annotations().contains_key("kubernetes.io/config.mirror")
}
