//! Metrics of the controller, one section per part. They are counted by the replica that leads.

mod status;

use prometheus_client::registry::Registry;

pub use self::status::{READY_REASONS, StatusMetrics};

/// What the parts of the controller count.
#[derive(Debug)]
pub struct ControllerMetrics {
    /// Statuses of policies.
    pub status: StatusMetrics,
}

impl ControllerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self { status: StatusMetrics::new(registry) }
    }
}
