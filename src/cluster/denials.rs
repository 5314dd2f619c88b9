//! Tells people of denials where they look: by an Event on what controls the Pod (a `ReplicaSet`, a Job), or on the
//! namespace when nothing does.
//!
//! ```text
//! review ─ report ─► bounded queue ─► series: same object, same words? ─► one Event, then its count
//!            (never waits)               └ buckets per namespace and for all ─► counted, not told
//! ```
//! What a Pod says about its owner is whatever its author wrote. It is used only where it has the form of a reference,
//! and Events stay in the Pod's own namespace, so that nobody can put one elsewhere.

mod series;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::warn;

use self::series::{Series, Step, Taken};
use super::describe;
use super::events::{About, Publisher, Saying, note};
use crate::telemetry::{Metrics, Told};

/// Denials that wait, at most.
const WAITING: usize = 256;
/// For one request to the API server.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often counts of repeated denials are looked through.
const TICK: Duration = Duration::from_secs(5);
/// Between two log lines about Events that could not be written.
const QUIET: Duration = Duration::from_secs(60);

/// What an object names as its controller, as written there.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Group and version.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Name.
    pub name: &'a str,
    /// What tells it from other objects of that name.
    pub uid: &'a str,
}

/// One denied object.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// The request's namespace; the Event goes there and nowhere else.
    pub namespace: &'a str,
    /// What controls the object, if it names something.
    pub owner: Option<Owner<'a>>,
    /// The object's kind.
    pub kind: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// There was no verdict against an image; something stood in the way of one.
    pub undecided: bool,
    /// It was admitted all the same, because nothing is enforced.
    pub would: bool,
    /// Why: the text of the denial.
    pub message: &'a str,
}

/// Takes denials; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Denials(Option<Arc<Handle>>);

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
}

/// What is told of one denial.
#[derive(Debug)]
struct Notice {
    about: About,
    saying: Saying,
}

impl Denials {
    /// Tells nobody.
    pub fn off() -> Self {
        Self(None)
    }

    /// The handle, and the work that has to run beside. `instance` tells replicas apart: the Pod's name, or the host's.
    pub fn new(
        client: Client,
        instance: &str,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, notices) = mpsc::channel(WAITING);
        let worker = Worker {
            publisher: Publisher::new(client, instance),
            metrics: metrics.clone(),
            series: Series::new(),
            complained: None,
        };
        (Self(Some(Arc::new(Handle { queue, metrics }))), worker.run(notices))
    }

    /// Has people told. Never waits: when too much is waiting already, the denial is counted as dropped.
    pub fn report(&self, denial: &Denial<'_>) {
        let Some(handle) = &self.0 else { return };
        if handle.queue.try_send(Notice::of(denial)).is_err() {
            handle.metrics.denial_event(Told::Dropped);
        }
    }
}

/// What was reported, for tests.
#[cfg(test)]
pub(crate) struct Kept(mpsc::Receiver<Notice>);

#[cfg(test)]
impl Kept {
    /// The next one that waits.
    pub(crate) fn next(&mut self) -> Option<(About, Saying)> {
        self.0.try_recv().ok().map(|notice| (notice.about, notice.saying))
    }
}

#[cfg(test)]
impl Denials {
    /// Keeps what is reported instead of telling it.
    pub(crate) fn kept() -> (Self, Kept) {
        let (queue, notices) = mpsc::channel(WAITING);
        (Self(Some(Arc::new(Handle { queue, metrics: Arc::new(Metrics::new()) }))), Kept(notices))
    }
}

impl Notice {
    fn of(denial: &Denial<'_>) -> Self {
        let owner = denial.owner.and_then(|owner| owner.about(denial.namespace));
        let reason = match (denial.would, denial.undecided) {
            (true, _) => "ImageWouldBeDenied",
            (false, true) => "ImageUndecided",
            (false, false) => "ImageDenied",
        };
        let done = if denial.would { "would be denied" } else { "was denied" };
        // The Pods of one owner have names of their own; without them, they say the same and are counted together.
        let name = if owner.is_some() { String::new() } else { format!(" {}", note(denial.name)) };
        let message = denial.message.strip_prefix("Pod is not valid:").unwrap_or(denial.message);
        Self {
            about: owner.unwrap_or_else(|| About::namespace(denial.namespace)),
            saying: Saying {
                reason,
                action: "Admission",
                note: note(&format!("{}{name} {done}: {message}", denial.kind)),
            },
        }
    }
}

impl Owner<'_> {
    /// The owner as something to write about, if every part has the form that Kubernetes gives it.
    fn about(&self, namespace: &str) -> Option<About> {
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        let subdomain = |text: &str| text.len() <= 253 && text.split('.').all(label);
        let version = match self.api_version.split_once('/') {
            Some((group, version)) => subdomain(group) && label(version),
            None => label(self.api_version),
        };
        let kind = (1..=63).contains(&self.kind.len()) && self.kind.bytes().all(|b| b.is_ascii_alphanumeric());
        let uid = self.uid.len() <= 64 && self.uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (version && kind && uid && subdomain(self.name)).then(|| About {
            namespace: namespace.to_owned(),
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            uid: self.uid.to_owned(),
        })
    }
}

/// Writes Events, one request at a time.
struct Worker {
    publisher: Publisher,
    metrics: Arc<Metrics>,
    series: Series,
    complained: Option<Instant>,
}

impl Worker {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => self.take(notice).await,
                    None => return,
                },
                _ = tick.tick() => {
                    for step in self.series.due(Instant::now()) {
                        self.send(step).await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, Notice { about, saying }: Notice) {
        match self.series.take(about, saying, Instant::now()) {
            Taken::New(step) => self.send(step).await,
            Taken::Counted => self.metrics.denial_event(Told::Repeated),
            Taken::Limited => self.metrics.denial_event(Told::Limited),
        }
    }

    async fn send(&mut self, step: Step) {
        let sent = match &step {
            Step::Create(key) => timeout(PATIENCE, self.publisher.create(&key.0, &key.1)).await.map(|r| r.map(Some)),
            Step::Repeat { key, name, count } => {
                timeout(PATIENCE, self.publisher.repeat(&key.0.namespace, name, *count)).await.map(|r| r.map(|()| None))
            }
        };
        let created = matches!(step, Step::Create(_));
        match sent {
            Ok(Ok(name)) => {
                if created {
                    self.metrics.denial_event(Told::Created);
                }
                self.series.sent(step.key(), name, Instant::now());
            }
            Ok(Err(error)) => self.failed(&step, &describe(&error)),
            Err(_) => self.failed(&step, "the API server did not answer in time"),
        }
    }

    /// The series is forgotten: the next denial of its kind begins a new one.
    fn failed(&mut self, step: &Step, error: &str) {
        self.metrics.denial_event(Told::Failed);
        self.series.forget(step.key());
        if self.complained.is_none_or(|last| last.elapsed() > QUIET) {
            self.complained = Some(Instant::now());
            warn!(namespace = step.key().0.namespace, "an Event about a denial could not be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
