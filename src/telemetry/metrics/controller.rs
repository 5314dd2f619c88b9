//! What the controller does, a section for each of its parts.

mod import;
mod keys;
mod status;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use self::import::{ImportMetrics, Unimported};
pub use self::keys::KeyMetrics;
pub use self::status::{READY_REASONS, StatusMetrics};
use super::{family, single};

/// The CRDs, as the label of their metric.
const CRDS: [&str; 3] = ["clusterregistrysecuritypolicies", "registrysecuritypolicies", "imagesignatures"];

/// The controller's metrics.
#[derive(Debug)]
pub struct ControllerMetrics {
    // Lease
    leader: Gauge,
    // Webhook configurations
    armed: Gauge,
    // CRDs
    crd_outdated: [Gauge; CRDS.len()],
    /// Key files and their Secrets.
    pub keys: KeyMetrics,
    /// Statuses of policies.
    pub status: StatusMetrics,
    /// Imported signatures.
    pub import: ImportMetrics,
}

impl ControllerMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            leader: single(r, "podseal_leader", "1 while this replica leads, else 0."),
            armed: single(
                r,
                "podseal_webhooks_armed",
                "1 when the webhook configurations hold what they should, else 0.",
            ),
            crd_outdated: family(
                r,
                "podseal_crd_outdated",
                "1 when the served CRD is older than this version's.",
                |i| vec![("crd", CRDS[i])],
            ),
            keys: KeyMetrics::new(r),
            status: StatusMetrics::new(r),
            import: ImportMetrics::new(r),
        }
    }

    /// Whether this replica leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(super) fn leads_no_more(&self) {
        self.leader(false);
        for gauge in &self.crd_outdated {
            gauge.set(0);
        }
        self.import.stand(0, 0);
    }

    /// Whether the webhook configurations hold what they should.
    pub fn armed(&self, armed: bool) {
        self.armed.set(i64::from(armed));
    }

    /// Whether the CRD of this plural name is served in an older version than this program's, or not at all.
    pub fn crd_outdated(&self, plural: &str, outdated: bool) {
        for (_, gauge) in CRDS.iter().zip(&self.crd_outdated).filter(|(name, _)| **name == plural) {
            gauge.set(i64::from(outdated));
        }
    }
}
