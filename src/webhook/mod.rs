//! HTTP around admission: what the API server, the kubelet and Prometheus talk to.
//!
//! ```text
//! TCP → TLS → HTTP/1.1 or HTTP/2 (all in crate::server) → router → body → review → answer
//! ```
//!
//! | path | method | listener |
//! |---|---|---|
//! | `/validate`, `/validate-policy`, `/mutate` | POST, `application/json` | TLS alone |
//! | `/healthz`, `/readyz`, `/metrics` | GET | TLS, and plain HTTP where one is configured |
//!
//! Nothing here is without a bound: size and time of a body, bodies in memory, reviews in flight, connections, their
//! handshake, their first request and their idleness, streams and headers per connection, and the time of a drain.
//! Nothing that goes wrong here lets an image run: the API server is told so with a denial or an HTTP error.

mod budget;
mod review;
mod router;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::admission::{Admission, Answer, Question};
use crate::telemetry::Metrics;

pub use self::budget::{Budget, parse_go_duration};
pub use self::router::{probes, router};
use crate::server::load;
pub use crate::server::{Gate, Routes, Timing, Tls, serve, tls};

/// What judges reviews. [`Admission`] does; the tests put failing ones in its place, which the real one must not be
/// able to be made into. Dispatched statically.
pub trait Reviewer: Send + Sync + 'static {
    /// A review of a Pod or a Pod template, to be answered within the budget.
    fn validate(&self, body: Bytes, budget: Duration) -> impl Future<Output = Answer> + Send;
    /// A review of a Pod whose images may be pinned, to be answered within the budget.
    fn mutate(&self, body: Bytes, budget: Duration) -> impl Future<Output = Answer> + Send;
    /// A review of a policy object.
    fn validate_policy(&self, body: &[u8]) -> Answer;
    /// The answer to a review that is turned away.
    fn overloaded(&self, question: Question, body: &[u8]) -> Answer;
    /// The answer to a review that panicked or overran its time; counts it as an internal fault.
    fn internal_error(&self, question: Question, body: &[u8]) -> Answer;
    /// `Ok` when reviews can be answered, else what is missing.
    fn ready(&self) -> Result<(), String>;
}

impl Reviewer for Admission {
    fn validate(&self, body: Bytes, budget: Duration) -> impl Future<Output = Answer> + Send {
        self.validate(body, budget)
    }

    fn mutate(&self, body: Bytes, budget: Duration) -> impl Future<Output = Answer> + Send {
        self.mutate(body, budget)
    }

    fn validate_policy(&self, body: &[u8]) -> Answer {
        self.validate_policy(body)
    }

    fn overloaded(&self, question: Question, body: &[u8]) -> Answer {
        self.overloaded(question, body)
    }

    fn internal_error(&self, question: Question, body: &[u8]) -> Answer {
        self.internal_error(question, body)
    }

    fn ready(&self) -> Result<(), String> {
        self.ready()
    }
}

/// How much one process takes on.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body in bytes. The API server sends `object` and `oldObject` of up to about 3 MiB each.
    pub body: usize,
    /// Longest time for a body to arrive; the review's own budget ends it, too.
    pub body_time: Duration,
    /// Bytes of all bodies in memory. An ordinary review has some ten thousand.
    pub bodies: usize,
    /// Reviews in flight, those whose caller went away included; one more is turned away at once.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 8 * 1024 * 1024, body_time: Duration::from_secs(10), bodies: 128 * 1024 * 1024, in_flight: 512 }
    }
}

/// What the handlers share; a cheap handle.
#[derive(Debug)]
pub struct App<R>(Arc<Inner<R>>);

struct Inner<R> {
    reviewer: R,
    metrics: Arc<Metrics>,
    limits: Limits,
    load: Arc<load::Load>,
    draining: Arc<AtomicBool>,
    gate: Option<Gate>,
}

impl<R: std::fmt::Debug> std::fmt::Debug for Inner<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("reviewer", &self.reviewer).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<R> Clone for App<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Reviewer> App<R> {
    /// Reviews judged by `reviewer` within `limits`.
    pub fn new(reviewer: R, metrics: Arc<Metrics>, limits: Limits) -> Self {
        Self::behind(None, reviewer, metrics, limits)
    }

    /// The same, ready only once `gate` says so as well.
    pub fn gated(gate: Gate, reviewer: R, metrics: Arc<Metrics>, limits: Limits) -> Self {
        Self::behind(Some(gate), reviewer, metrics, limits)
    }

    fn behind(gate: Option<Gate>, reviewer: R, metrics: Arc<Metrics>, limits: Limits) -> Self {
        let load = Arc::new(load::Load::new(limits.in_flight, limits.bodies));
        Self(Arc::new(Inner { reviewer, metrics, limits, load, draining: Arc::default(), gate }))
    }

    /// What the listeners answer: reviews over TLS to those whom a client CA knows, and probes to everybody.
    pub fn routes(&self) -> Routes {
        Routes::new(router(self), probes(self), Arc::clone(&self.0.draining))
    }

    /// `Ok` when reviews can be answered and the process is not about to end, else what is missing.
    fn ready(&self) -> Result<(), String> {
        if self.0.draining.load(Ordering::Acquire) {
            return Err("shutting down".to_owned());
        }
        self.0.gate.as_ref().map_or(Ok(()), |gate| gate())?;
        self.0.reviewer.ready()
    }
}
