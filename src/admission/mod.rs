//! ONE request: which images, which exemptions, and the fold of all verdicts into one answer.
//!
//! ```text
//! body ─ review ─► exempt? ─► images (changed ones, each once) ─► verify, concurrently ─► fold ─► answer
//! ```

mod fold;
pub mod images;
mod policy;
pub mod review;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;
use tracing::{info, warn};

use self::fold::Judged;
use self::images::{NamedImage, PodSpec, Shape, Workload};
use self::review::{Decision, Request};
use crate::cluster::Inputs;
use crate::cluster::denials::{Denial, Denials};
use crate::telemetry::{Ending, Metrics};
use crate::verify::{PodContext, Verifier};

/// What goes back over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status: 200 for every `AdmissionReview`, 4xx when the body is none.
    pub status: u16,
    /// `application/json` for 200, plain text otherwise.
    pub body: Bytes,
}

/// What is done about Pod templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Templates {
    /// Failing images are warnings.
    #[default]
    Warn,
    /// Judged like Pods.
    Enforce,
    /// Allowed unseen.
    Off,
}

/// What the administrator set for admission.
#[derive(Debug, Clone)]
pub struct AdmissionConfig {
    /// Namespaces that are never judged: podseal's own, kube-system, and those the installation adds.
    pub exempt_namespaces: Vec<String>,
    /// What is done about Pod templates.
    pub templates: Templates,
}

/// Judges admission reviews.
#[derive(Debug)]
pub struct Admission {
    config: AdmissionConfig,
    verifier: Arc<Verifier>,
    inputs: Arc<Inputs>,
    metrics: Arc<Metrics>,
    denials: Denials,
}

/// Distinct images of one review judged at the same time, at most.
const CONCURRENT_IMAGES: usize = 16;
/// Images of one object, at most: many times what any real one holds.
const MAX_IMAGES: usize = 256;

impl Admission {
    /// Puts the parts together.
    pub fn new(config: AdmissionConfig, verifier: Arc<Verifier>, inputs: Arc<Inputs>, metrics: Arc<Metrics>) -> Self {
        Self { config, verifier, inputs, metrics, denials: Denials::off() }
    }

    /// Has denials told by Events, too.
    #[must_use]
    pub fn with_denials(self, denials: Denials) -> Self {
        Self { denials, ..self }
    }

    /// `/validate`: a review of a Pod or a Pod template, to be answered within the budget.
    pub async fn validate(&self, body: Bytes, budget: Duration) -> Answer {
        let started = Instant::now();
        let request = match review::read::<Workload>(&body) {
            Ok(request) => request,
            Err(error) => return self.unreadable(&body, &error, started),
        };
        let judged = self.decide(&request, started + budget).await;
        let encoded = judged.decision.encode(&request.uid);
        self.record(&request, &judged, started.elapsed());
        self.tell(&request, &judged);
        Answer { status: 200, body: encoded.into() }
    }

    /// `/validate-policy`: a review of a policy object.
    pub fn validate_policy(&self, body: &[u8]) -> Answer {
        let started = Instant::now();
        match review::read::<serde_json::Value>(body) {
            Ok(request) => {
                let decision = policy::decide(&request);
                record_policy(&request, &decision);
                Answer { status: 200, body: decision.encode(&request.uid).into() }
            }
            Err(error) => self.unreadable(body, &error, started),
        }
    }

    /// The answer to a review that is turned away because too many are in flight.
    pub fn overloaded(&self, body: &[u8]) -> Answer {
        let message = "podseal has too many reviews in flight; try again";
        self.apology(body, 503, "ServiceUnavailable", message)
    }

    /// The answer to a review that met a defect of podseal itself.
    pub fn internal_error(&self, body: &[u8]) -> Answer {
        self.metrics.fault(crate::fault::FaultKind::Internal);
        self.apology(body, 500, "InternalError", "podseal met an internal error and cannot decide; see its log")
    }

    /// `Ok` when policies, whitelist and keys are loaded; else what is missing.
    pub fn ready(&self) -> Result<(), String> {
        let snapshot = self.inputs.current();
        if snapshot.missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not loaded yet: {}", snapshot.missing.join(", ")))
        }
    }

    fn apology(&self, body: &[u8], code: u16, reason: &'static str, message: &str) -> Answer {
        self.metrics.review(Ending::Error, Duration::ZERO);
        let decision = Decision { code, reason, message: message.to_owned(), ..Decision::default() };
        let uid = review::salvage_uid(body).unwrap_or_default();
        Answer { status: 200, body: decision.encode(&uid).into() }
    }

    /// With a uid the API server gets a denial that says why; without one the body is no review at all.
    fn unreadable(&self, body: &[u8], error: &str, started: Instant) -> Answer {
        let error = crate::verify::clean(error);
        warn!(%error, "unreadable review");
        self.metrics.review(Ending::Error, started.elapsed());
        let message = format!("the admission review cannot be read: {error}");
        match review::salvage_uid(body) {
            Some(uid) => {
                let decision = Decision { code: 400, reason: "BadRequest", message, ..Decision::default() };
                Answer { status: 200, body: decision.encode(&uid).into() }
            }
            None => Answer { status: 400, body: message.into() },
        }
    }

    async fn decide(&self, request: &Request<Workload>, deadline: Instant) -> Judged {
        match request.operation.as_str() {
            "CREATE" | "UPDATE" => {}
            "DELETE" | "CONNECT" => return Judged::allowed("operation is never judged"),
            other => return Judged::refused(format!("podseal does not know the operation {:?}", review::short(other))),
        }
        let namespace = request.namespace.as_deref().unwrap_or("");
        if namespace.is_empty() {
            return Judged::refused("the review names no namespace".to_owned());
        }
        if self.is_exempt(namespace) {
            return Judged::allowed("exempt namespace");
        }
        let Some(shape) = Shape::of(&request.kind) else {
            return Judged::refused(format!(
                "podseal does not know how to read {}/{}",
                request.kind.group, request.kind.kind
            ));
        };
        let template = shape != Shape::Pod;
        if template && self.config.templates == Templates::Off {
            return Judged::allowed("templates are not judged");
        }
        let Some(object) = &request.object else {
            return Judged::refused("the review holds no object".to_owned());
        };
        if shape == Shape::Pod && object.is_mirror() && from_node(request) {
            return Judged::allowed("mirror Pod of a static Pod");
        }
        let pod = match object.pod_spec(shape) {
            Ok(pod) => pod,
            Err(error) => return Judged::refused(format!("the {} cannot be read: {error}", request.kind.kind)),
        };
        let old = request.old_object.as_ref().filter(|_| request.operation == "UPDATE");
        let images = pod.images(old.and_then(|old| old.pod_spec(shape).ok()));
        if images.len() > MAX_IMAGES {
            return Judged::refused(format!("the {} names more than {MAX_IMAGES} images", request.kind.kind));
        }
        let judged = self.judge(namespace, pod, images, deadline).await;
        if template && self.config.templates == Templates::Warn { judged.into_warnings() } else { judged }
    }

    /// Judges each distinct image once, several at a time, by one generation of policies.
    async fn judge(&self, namespace: &str, pod: PodSpec<'_>, images: Vec<NamedImage>, deadline: Instant) -> Judged {
        let snapshot = self.inputs.current();
        let pull_secrets = pod.pull_secrets();
        let context = PodContext { namespace, pull_secrets: &pull_secrets, service_account: pod.service_account() };
        let mut seen = HashSet::new();
        let distinct: Vec<&str> = images.iter().map(|i| i.image.as_str()).filter(|image| seen.insert(*image)).collect();
        let verdicts = if let [image] = distinct.as_slice() {
            vec![self.verifier.judge(&snapshot, image, &context, deadline).await]
        } else {
            let mut judging = Vec::with_capacity(distinct.len());
            for image in &distinct {
                judging.push(self.verifier.judge(&snapshot, image, &context, deadline));
            }
            futures::stream::iter(judging).buffered(CONCURRENT_IMAGES).collect().await
        };
        fold::fold(&images, &verdicts)
    }

    fn record(&self, request: &Request<Workload>, judged: &Judged, elapsed: Duration) {
        self.metrics.review(judged.ending, elapsed);
        let name = request.name.as_deref().filter(|n| !n.is_empty());
        // Texts as they are, without `%`: formatting them would copy each once more.
        info!(
            target: "podseal::review",
            uid = request.uid,
            operation = request.operation,
            kind = request.kind.kind,
            sub_resource = request.sub_resource.as_deref(),
            namespace = request.namespace.as_deref(),
            name = name.or_else(|| request.object.as_ref().map(|o| o.name())),
            outcome = judged.ending.label(),
            micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            cached = judged.cached,
            whitelisted = judged.whitelisted(),
            detail = judged.log,
            "review"
        );
    }

    /// Tells people of a denial. A dry run leaves nothing behind, and nothing is told about exempt namespaces.
    fn tell(&self, request: &Request<Workload>, judged: &Judged) {
        let namespace = request.namespace.as_deref().unwrap_or("");
        let dry_run = request.dry_run == Some(true);
        if judged.decision.allowed || dry_run || namespace.is_empty() || self.is_exempt(namespace) {
            return;
        }
        let name = request.name.as_deref().filter(|n| !n.is_empty());
        self.denials.report(&Denial {
            namespace,
            owner: request.object.as_ref().and_then(|object| object.controller()),
            kind: &request.kind.kind,
            name: name.or_else(|| request.object.as_ref().map(|o| o.name())).unwrap_or_default(),
            undecided: judged.ending == Ending::Error,
            would: false,
            message: &judged.decision.message,
        });
    }

    fn is_exempt(&self, namespace: &str) -> bool {
        self.config.exempt_namespaces.iter().any(|exempt| exempt == namespace)
    }
}

fn record_policy(request: &Request<serde_json::Value>, decision: &Decision) {
    let user = request.user_info.as_ref().and_then(|user| user.username.as_deref());
    let detail = Some(decision.message.as_str()).filter(|message| !message.is_empty());
    info!(
        target: "podseal::policy",
        uid = request.uid,
        operation = request.operation,
        kind = request.kind.kind,
        namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty()),
        name = request.name.as_deref(),
        user,
        allowed = decision.allowed,
        detail,
        "policy review"
    );
}

/// Nodes authenticate as `system:node:<name>` in the group `system:nodes`; both are set by the API server.
fn from_node(request: &Request<Workload>) -> bool {
    request.user_info.as_ref().is_some_and(|user| {
        user.username.as_deref().is_some_and(|name| name.starts_with("system:node:"))
            && user.groups.iter().flatten().any(|group| group == "system:nodes")
    })
}
