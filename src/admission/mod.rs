//! ONE request: which images, which exemptions, and the fold of all verdicts into one answer.
//!
//! ```text
//! /validate  body ─ review ─► exempt? ─► images (changed ones, each once) ─► verify, concurrently ─► fold ─► answer
//! /mutate    body ─ review ─► exempt? ─► images (changed ones, each once) ─► pin, concurrently ─► patch ─► answer
//! ```

mod fold;
pub mod images;
mod pins;
mod policy;
pub mod review;
mod subject;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;
use tracing::{info, warn};

use self::fold::Judged;
use self::images::{Shape, Workload};
use self::review::{Decision, Request};
use self::subject::Subject;
use crate::cluster::Inputs;
use crate::cluster::denials::{Denial, Denials};
use crate::telemetry::{Ending, Metrics};
use crate::verify::Verifier;

/// What goes back over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status: 200 for every `AdmissionReview`, 4xx when the body is none.
    pub status: u16,
    /// `application/json` for 200, plain text otherwise.
    pub body: Bytes,
}

/// What a review is for: the path that it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `/validate`: may this Pod or template be.
    Verdict,
    /// `/mutate`: which images are to be pinned. What goes wrong there leaves the object as it is, for `/validate` to
    /// judge.
    Pins,
    /// `/validate-policy`: can this policy be used.
    Policy,
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

/// What comes of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Enforcement {
    /// What fails is denied
    #[default]
    Enforce,
    /// Everything is admitted, and what would be denied is reported
    Audit,
}

/// What the administrator set for admission.
#[derive(Debug, Clone, Default)]
pub struct AdmissionConfig {
    /// Namespaces that are never judged: podseal's own, kube-system, and those the installation adds.
    pub exempt_namespaces: Vec<String>,
    /// What is done about Pod templates.
    pub templates: Templates,
    /// What comes of a denial of `/validate`. With [`Enforcement::Audit`], `/mutate` changes nothing; `/validate-policy`
    /// refuses all the same, because a policy that cannot be read stops no Pod from running.
    pub enforcement: Enforcement,
}

impl AdmissionConfig {
    fn is_exempt(&self, namespace: &str) -> bool {
        self.exempt_namespaces.iter().any(|exempt| exempt == namespace)
    }
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
            Err(error) => return self.unreadable(Question::Verdict, &body, &error, started),
        };
        let judged = self.decide(&request, started + budget).await;
        self.tell(&request, &judged);
        let judged = self.enforced(judged);
        let encoded = judged.decision.encode(&request.uid);
        self.record(&request, &judged, started.elapsed());
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
            Err(error) => self.unreadable(Question::Policy, body, &error, started),
        }
    }

    /// The answer to a review that is turned away because too many are in flight.
    pub fn overloaded(&self, question: Question, body: &[u8]) -> Answer {
        let message = "podseal has too many reviews in flight; try again";
        let uid = review::salvage_uid(body).unwrap_or_default();
        self.unable(question, &uid, Judged::unable(503, "ServiceUnavailable", message.to_owned()), Duration::ZERO)
    }

    /// The answer to a review that met a defect of podseal itself.
    pub fn internal_error(&self, question: Question, body: &[u8]) -> Answer {
        self.metrics.fault(crate::fault::FaultKind::Internal);
        let message = "podseal met an internal error and cannot decide; see its log";
        let uid = review::salvage_uid(body).unwrap_or_default();
        self.unable(question, &uid, Judged::unable(500, "InternalError", message.to_owned()), Duration::ZERO)
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

    /// With a uid the API server gets an answer that says why; without one the body is no review at all.
    fn unreadable(&self, question: Question, body: &[u8], error: &str, started: Instant) -> Answer {
        let error = crate::verify::clean(error);
        warn!(%error, "unreadable review");
        let message = format!("the admission review cannot be read: {error}");
        if let Some(uid) = review::salvage_uid(body) {
            return self.unable(question, &uid, Judged::unable(400, "BadRequest", message), started.elapsed());
        }
        self.metrics.review(Ending::Error, started.elapsed());
        Answer { status: 400, body: message.into() }
    }

    /// The answer when podseal cannot do what it was asked for: a denial, but for pins, which are optional.
    fn unable(&self, question: Question, uid: &str, judged: Judged, elapsed: Duration) -> Answer {
        let judged = match question {
            Question::Verdict => self.enforced(judged),
            Question::Policy => judged,
            Question::Pins => return self.without_pins(uid, &judged.decision.message, elapsed),
        };
        self.count(&judged, elapsed);
        Answer { status: 200, body: judged.decision.encode(uid).into() }
    }

    /// The one place where a denial of a Pod or a template becomes an allowance, because nothing is enforced.
    fn enforced(&self, judged: Judged) -> Judged {
        match self.config.enforcement {
            Enforcement::Enforce => judged,
            Enforcement::Audit => judged.into_audited(),
        }
    }

    async fn decide(&self, request: &Request<Workload>, deadline: Instant) -> Judged {
        let subject = match Subject::of(&self.config, request) {
            Ok(subject) => subject,
            Err(judged) => return *judged,
        };
        let template = subject.shape != Shape::Pod;
        let judged = self.judge(&subject, deadline).await;
        if template && self.config.templates == Templates::Warn { judged.into_warnings() } else { judged }
    }

    /// Judges each distinct image once, several at a time, by one generation of policies.
    async fn judge(&self, subject: &Subject<'_>, deadline: Instant) -> Judged {
        let snapshot = self.inputs.current();
        let pull_secrets = subject.pod.pull_secrets();
        let context = subject.context(&pull_secrets);
        let distinct = subject.distinct();
        let verdicts = if let [image] = distinct.as_slice() {
            vec![self.verifier.judge(&snapshot, image, &context, deadline).await]
        } else {
            let mut judging = Vec::with_capacity(distinct.len());
            for image in &distinct {
                judging.push(self.verifier.judge(&snapshot, image, &context, deadline));
            }
            futures::stream::iter(judging).buffered(CONCURRENT_IMAGES).collect().await
        };
        fold::fold(&subject.images, &verdicts)
    }

    fn count(&self, judged: &Judged, elapsed: Duration) {
        self.metrics.review(judged.ending, elapsed);
        if let Some(would) = judged.would {
            self.metrics.would_deny(would);
        }
    }

    fn record(&self, request: &Request<Workload>, judged: &Judged, elapsed: Duration) {
        self.count(judged, elapsed);
        // Texts as they are, without `%`: formatting them would copy each once more.
        info!(
            target: "podseal::review",
            uid = request.uid,
            operation = request.operation,
            kind = request.kind.kind,
            sub_resource = request.sub_resource.as_deref(),
            namespace = request.namespace.as_deref(),
            name = request.object_name(),
            outcome = judged.ending.label(),
            would = judged.would.map(Ending::label),
            micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            cached = judged.cached,
            whitelisted = judged.whitelisted(),
            detail = judged.log,
            "review"
        );
    }

    /// Tells people of a denial, before it may become an allowance because nothing is enforced. A dry run leaves nothing
    /// behind, and nothing is told about exempt namespaces.
    fn tell(&self, request: &Request<Workload>, judged: &Judged) {
        let namespace = request.namespace.as_deref().unwrap_or("");
        let dry_run = request.dry_run == Some(true);
        if judged.decision.allowed || dry_run || namespace.is_empty() || self.config.is_exempt(namespace) {
            return;
        }
        self.denials.report(&Denial {
            namespace,
            owner: request.object.as_ref().and_then(|object| object.controller()),
            kind: &request.kind.kind,
            name: request.object_name().unwrap_or_default(),
            undecided: judged.ending == Ending::Error,
            would: self.config.enforcement == Enforcement::Audit,
            message: &judged.decision.message,
        });
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
