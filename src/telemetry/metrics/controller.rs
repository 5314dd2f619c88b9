//! Metrics of the controller, one section per part. They are counted by the replica that leads.

mod keys;

use prometheus_client::registry::Registry;

pub use self::keys::KeyMetrics;

/// What the parts of the controller count.
#[derive(Debug)]
pub struct ControllerMetrics {
    /// Key files and their Secrets.
    pub keys: KeyMetrics,
}

impl ControllerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self { keys: KeyMetrics::new(registry) }
    }
}
