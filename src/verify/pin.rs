//! Which digest an image may be pinned to, so that the node pulls what was checked.
//!
//! Pinning never changes a verdict. Under its tag an image may be judged differently than under its digest: a signed
//! identity can ask for the very tag, and `requireDigest` for a digest that the author of the Pod wrote. So an image is
//! pinned only when it passes as it stands and passes under the digest as well; whatever else it is left to the judge
//! as it was written.

use std::sync::Arc;

use tokio::time::Instant;

use super::{PodContext, Verifier, clean, reason_of, undecided};
use crate::cluster::Snapshot;
use crate::domain::evaluate::Route;
use crate::domain::image::ImageRef;
use crate::domain::policy::{Action, Check, Entry};
use crate::domain::verdict::{Cause, ImageVerdict, Outcome};

/// What comes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Nothing asks for a pin, and why.
    Left(&'static str),
    /// The image as it was written with `@` and its digest added.
    Pinned(String),
    /// A pin is due and cannot be had, and why; the judge decides about the image as it stands.
    Failed(String),
}

impl Verifier {
    /// Finds the digest for an image that some governing entry with `signCheck: true` and `action: Enforce` speaks for.
    /// An index is pinned by its own digest. Never fails and never takes longer than the deadline.
    pub async fn pin(&self, snapshot: &Snapshot, image: &str, pod: &PodContext<'_>, deadline: Instant) -> Pin {
        let parsed = image.parse::<ImageRef>();
        if parsed.as_ref().is_ok_and(|image| image.digest().is_some()) {
            return Pin::Left("has a digest");
        }
        match (self.route(snapshot, pod.namespace, &parsed), parsed) {
            (Route::Decided(Outcome::Allowed(_)), _) => Pin::Left("is not judged by an entry"),
            (Route::Decided(Outcome::Denied(_)), _) => Pin::Left("is denied with any digest"),
            (Route::Decided(outcome), _) => Pin::Failed(cause(&outcome)),
            (Route::Judge(_), Err(error)) => Pin::Failed(error.to_string()),
            (Route::Judge(entries), Ok(_)) if !entries.iter().any(|entry| is_enforced(entry)) => {
                Pin::Left("is under no enforced signature check")
            }
            (Route::Judge(entries), Ok(parsed)) => self.pinned(&entries, image, &parsed, pod, deadline).await,
        }
    }

    async fn pinned(
        &self,
        entries: &[Arc<Entry>],
        image: &str,
        parsed: &ImageRef,
        pod: &PodContext<'_>,
        deadline: Instant,
    ) -> Pin {
        let judge = async |image: &ImageRef| {
            let mut verdict: ImageVerdict = undecided("", image.digest().cloned());
            self.judge_entries(entries.to_vec(), image, pod, deadline, &mut verdict).await;
            verdict
        };
        let verdict = judge(parsed).await;
        let digest = match (&verdict.outcome, verdict.digest) {
            (Outcome::Allowed(_), Some(digest)) => digest,
            (Outcome::Allowed(_), None) => return Pin::Failed("no digest was found".to_owned()),
            (outcome, _) => return Pin::Failed(cause(outcome)),
        };
        // Only appended: everybody finds his own spelling again, and a name without a tag is as good with a digest.
        let pinned = format!("{image}@{digest}");
        let Ok(parsed) = pinned.parse::<ImageRef>() else {
            return Pin::Failed("its name takes no digest".to_owned());
        };
        match judge(&parsed).await.outcome {
            Outcome::Allowed(_) => Pin::Pinned(pinned),
            outcome => Pin::Failed(format!("it passes by its tag and not by its digest: {}", cause(&outcome))),
        }
    }
}

fn is_enforced(entry: &Entry) -> bool {
    entry.action == Action::Enforce && matches!(entry.check, Check::Signed(_))
}

/// The first cause of an outcome that is no allowance, in short: the judge says it at length.
fn cause(outcome: &Outcome) -> String {
    let (Outcome::Denied(findings) | Outcome::Undecided(findings)) = outcome else { return String::new() };
    let mut causes = findings.iter().flat_map(|finding| &finding.failures).map(|failure| &failure.cause);
    match causes.find_map(|cause| if let Cause::Undecided(fault) = cause { Some(fault) } else { None }) {
        Some(fault) if matches!(outcome, Outcome::Undecided(_)) => clean(fault.message()),
        _ => reason_of(outcome).to_owned(),
    }
}
