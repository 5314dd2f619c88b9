//! How many policies are ready, and why the others are not.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::family;

/// The reasons of the condition `Ready`, each with the status it goes with.
pub const READY_REASONS: [(&str, &str); 14] = [
    ("Usable", "True"),
    ("InvalidEntry", "False"),
    ("NoVerifier", "False"),
    ("Shadowed", "False"),
    ("SecretNotFound", "False"),
    ("SecretForbidden", "False"),
    ("SecretTooLarge", "False"),
    ("NoPublicKeys", "False"),
    ("KeyExpired", "False"),
    ("KeyUnusable", "False"),
    ("InvalidCertificates", "False"),
    ("InvalidTrustRoot", "False"),
    ("TooManyReferences", "Unknown"),
    ("Unavailable", "Unknown"),
];

/// Metrics of policy statuses.
#[derive(Debug)]
pub struct StatusMetrics {
    policies: [Gauge; READY_REASONS.len()],
    writes: [Counter; 2],
}

impl StatusMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            policies: family(registry, "podseal_policy_ready", "Policy objects by their condition Ready.", |i| {
                let (reason, ready) = READY_REASONS[i];
                vec![("ready", ready), ("reason", reason)]
            }),
            writes: family(registry, "podseal_policy_status_writes", "Writes of policy statuses.", |i| {
                vec![("result", ["failed", "done"][i])]
            }),
        }
    }

    /// How many policies have the reason at this place of [`READY_REASONS`].
    pub fn policies(&self, place: usize, count: usize) {
        if let Some(gauge) = self.policies.get(place) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// One status was written, or could not be.
    pub fn written(&self, done: bool) {
        self.writes[usize::from(done)].inc();
    }
}
