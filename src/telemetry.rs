//! Metrics and logs.

use std::time::Duration;

use crate::domain::verdict::Method;
use crate::fault::FaultKind;

/// How a review or an image ended, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ending {
    /// May run.
    Allowed,
    /// A verdict against it.
    Denied,
    /// Could not decide.
    #[default]
    Error,
}

impl Ending {
    /// Stable lower-case label for metrics, logs and audit annotations.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// Which upstream server a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamKind {
    /// A registry.
    Registry,
    /// A token service.
    Token,
    /// A signature store.
    Store,
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Self {
        Self {}
    }
    /// One answered review.
    pub fn review(&self, ending: Ending, elapsed: Duration) {
        let _ = (ending, elapsed);
    }
    /// One judged image: how it ended, and the method that passed it (`None`: none was needed or none passed).
    pub fn image(&self, ending: Ending, method: Option<Method>) {
        let _ = (ending, method);
    }
    /// One allowance that the whitelist gave (`image` or `namespace`).
    pub fn whitelisted(&self, by: &'static str) {
        let _ = by;
    }
    /// One fault met while judging.
    pub fn fault(&self, kind: FaultKind) {
        let _ = kind;
    }
    /// One look into the verdict cache.
    pub fn cache(&self, hit: bool) {
        let _ = hit;
    }
    /// One request to an upstream server: its HTTP status or what went wrong.
    pub fn upstream(&self, kind: UpstreamKind, elapsed: Duration, result: Result<u16, FaultKind>) {
        let _ = (kind, elapsed, result);
    }
    /// One review turned away because too many were in flight.
    pub fn shed(&self) {}
    /// Number of policy objects with problems, bad whitelist lines, policies and whitelist lines in force.
    pub fn inventory(&self, policies: usize, broken_policies: usize, whitelist_lines: usize, bad_lines: usize) {
        let _ = (policies, broken_policies, whitelist_lines, bad_lines);
    }
    /// A key came into use: fingerprint, where it came from, expiry in seconds since 1970 if it expires.
    pub fn key(&self, fingerprint: &str, source: &str, expires: Option<f64>) {
        let _ = (fingerprint, source, expires);
    }
    /// Whether a watch (`clusterregistrysecuritypolicies`, …) is in sync.
    pub fn watch(&self, what: &'static str, synced: bool) {
        let _ = (what, synced);
    }
    /// The text of `/metrics`.
    pub fn encode(&self) -> String {
        String::new()
    }
}
