//! What keeps an installation in order: key files become Secrets, policies get a status, certificates are renewed, the
//! webhooks are registered once somebody answers them.
//!
//! ```text
//!  lease ── one replica leads ──► keys          key directory → Secrets sigstore-key-*
//!                                 status        policies → conditions and keys
//!                                 certificates  CA and serving certificate → Secret
//!                                 webhooks      wanted configurations + CA → API server, once podseal is ready
//!                                 schema        the CRDs that this version knows
//!                                 signatures    signatures of images in use → unverified records, if wanted
//! ```
//!
//! Each part is a future that never ends by itself and is dropped when the lease is lost; none of them stands on the way
//! of a review.

pub mod certificates;
pub mod keys;
pub mod lease;
mod report;
pub mod schema;
pub mod signatures;
pub mod status;
mod wake;
pub mod webhooks;
pub mod whitelist;

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

pub use self::report::{Quiet, describe};
pub use self::wake::Wakes;

use crate::telemetry::Metrics;

/// Field manager of everything that podseal applies.
pub const FIELD_MANAGER: &str = "podseal";

/// What every part works with; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// podseal's own namespace.
    pub namespace: Arc<str>,
    /// Tells people, by Events on the objects concerned.
    pub recorder: Recorder,
    /// Tells machines.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// `instance` tells replicas apart in Events: the Pod's name, or the host's.
    pub fn new(client: Client, namespace: &str, instance: &str, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: "podseal.io/podseal".to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client.clone(), reporter), client, namespace: namespace.into(), metrics }
    }

    /// Leaves an Event on an object. That it cannot be left is logged and stops nothing.
    pub async fn tell(&self, about: &ObjectReference, notice: Notice, text: &str) {
        // The API server takes no more than a kilobyte.
        let note = text.chars().take(1000).collect();
        let event = Event {
            type_: notice.type_,
            reason: notice.reason.to_owned(),
            note: Some(note),
            action: notice.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(reason = notice.reason, "an Event was not left: {}", describe(&error));
        }
    }
}

/// The fixed parts of an Event.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Normal or warning.
    pub type_: EventType,
    /// Why, in one word, such as `Armed`.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
