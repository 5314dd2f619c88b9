//! `/mutate`: images of Pods that stand under a signature check get their digest, by a JSON patch of the image fields
//! alone.
//!
//! Nothing is denied here, and nothing is made up: what is not pinned stays as it was written, and `/validate`, which
//! comes after all mutations, judges what is there then. So whatever goes wrong, the safe answer is to change nothing.
//! The API server applies the patch to the very object that it sent, and asks again when another webhook changed it
//! (`reinvocationPolicy: IfNeeded`); an image with a digest is never touched, so asking again changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;
use tracing::info;

use super::fold::{MAX_ANNOTATION, bounded_warnings, shorten};
use super::images::{NamedImage, Shape, Workload};
use super::review::{self, Decision, Replace, Request};
use super::subject::Subject;
use super::{Admission, Answer, CONCURRENT_IMAGES, Enforcement, Question};
use crate::telemetry::Pinning;
use crate::verify::{Pin, PodContext, clean};

/// An answer with what the log says about it.
struct Pins {
    decision: Decision,
    log: String,
}

impl Admission {
    /// `/mutate`: a review of a Pod whose images may be pinned, to be answered within the budget. Always allows.
    pub async fn mutate(&self, body: Bytes, budget: Duration) -> Answer {
        let started = Instant::now();
        let request = match review::read::<Workload>(&body) {
            Ok(request) => request,
            Err(error) => return self.unreadable(Question::Pins, &body, &error, started),
        };
        let pins = self.pins(&request, started + budget).await;
        let (encoded, elapsed) = (pins.decision.encode(&request.uid), started.elapsed());
        self.metrics.pin_review(elapsed);
        info!(
            target: "podseal::pin",
            uid = request.uid,
            operation = request.operation,
            sub_resource = request.sub_resource.as_deref(),
            namespace = request.namespace.as_deref(),
            name = request.object_name(),
            pinned = pins.decision.patch.len(),
            micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            detail = pins.log,
            "pins"
        );
        Answer { status: 200, body: encoded.into() }
    }

    /// The answer when nothing can be done about pins, for a reason that has nothing to do with an image.
    pub(super) fn without_pins(&self, uid: &str, why: &str, elapsed: Duration) -> Answer {
        self.metrics.pin_review(elapsed);
        self.metrics.pin(Pinning::Failed);
        Answer { status: 200, body: Pins::unread(why).decision.encode(uid).into() }
    }

    async fn pins(&self, request: &Request<Workload>, deadline: Instant) -> Pins {
        if self.config.enforcement == Enforcement::Audit {
            return Pins::left("a dry run changes nothing");
        }
        let subject = match Subject::of(&self.config, request) {
            Ok(subject) if subject.shape == Shape::Pod => subject,
            // What makes Pods keeps the text of its author; its Pods are pinned one by one.
            Ok(_) => return Pins::left("only Pods are pinned"),
            Err(judged) if judged.decision.allowed => return Pins::left(&judged.log),
            Err(judged) => {
                self.metrics.pin(Pinning::Failed);
                return Pins::unread(&judged.log);
            }
        };
        let snapshot = self.inputs.current();
        let pull_secrets = subject.pod.pull_secrets();
        // The judge comes afterwards in any case, and remembers what is to be remembered.
        let context = PodContext { dry_run: true, ..subject.context(&pull_secrets) };
        let distinct = subject.distinct();
        let mut pinning = Vec::with_capacity(distinct.len());
        for image in &distinct {
            pinning.push(self.verifier.pin(&snapshot, image, &context, deadline));
        }
        let found: Vec<_> = futures::stream::iter(pinning).buffered(CONCURRENT_IMAGES).collect().await;
        for pin in &found {
            self.metrics.pin(match pin {
                Pin::Left(_) => Pinning::Left,
                Pin::Pinned(_) => Pinning::Pinned,
                Pin::Failed(_) => Pinning::Failed,
            });
        }
        Pins::of(&subject.images, &distinct.into_iter().zip(found).collect())
    }
}

impl Pins {
    /// Nothing to do.
    fn left(why: &str) -> Self {
        Self { decision: Decision { allowed: true, ..Decision::default() }, log: why.to_owned() }
    }

    /// Nothing can be done; the webhook that judges refuses what cannot be read.
    fn unread(why: &str) -> Self {
        let why = clean(why);
        let warnings = bounded_warnings(vec![format!("podseal: no image was pinned to its digest: {why}")]);
        Self { decision: Decision { allowed: true, warnings, ..Decision::default() }, log: why }
    }

    /// A patch for each field whose image was pinned, a warning for each that should have been.
    fn of(images: &[NamedImage], pins: &HashMap<&str, Pin>) -> Self {
        let (mut patch, mut warnings, mut log) = (Vec::new(), Vec::new(), Vec::new());
        for named in images {
            let (field, image) = (&named.field, clean(&named.image));
            match pins.get(named.image.as_str()) {
                Some(Pin::Pinned(pinned)) => {
                    log.push(format!("{field}={pinned}"));
                    patch.push(Replace { path: named.pointer(), value: pinned.clone() });
                }
                Some(Pin::Failed(why)) => {
                    log.push(format!("{field}={image}: not pinned, {why}"));
                    warnings.push(format!("{field}: image '{image}' was not pinned to its digest: {why}"));
                }
                Some(Pin::Left(why)) => log.push(format!("{field}={image}: {why}")),
                None => {}
            }
        }
        let log = shorten(&log.join("; "), MAX_ANNOTATION);
        let audit = if patch.is_empty() { BTreeMap::new() } else { BTreeMap::from([("pins", log.clone())]) };
        let warnings = bounded_warnings(warnings);
        Self { decision: Decision { allowed: true, warnings, audit, patch, ..Decision::default() }, log }
    }
}
