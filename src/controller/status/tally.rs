//! What metrics say of statuses and keys; taken back when this replica leads no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::compose::Target;
use super::material::Material;
use super::reason::Reason;
use crate::domain::policy::{ObjectRef, PolicyId};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::READY_REASONS;

/// Policies by reason, and the keys that were counted.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    reasons: HashMap<PolicyId, Reason>,
    counts: [usize; READY_REASONS.len()],
    keys: HashMap<ObjectRef, Arc<Material>>,
}

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, reasons: HashMap::new(), counts: [0; READY_REASONS.len()], keys: HashMap::new() }
    }

    /// A policy's reason; `None` when the policy is gone.
    pub(super) fn set(&mut self, id: &PolicyId, reason: Option<Reason>) {
        let before = match reason {
            Some(reason) => self.reasons.insert(id.clone(), reason),
            None => self.reasons.remove(id),
        };
        if before == reason {
            return;
        }
        if let Some(count) = before.and_then(|before| self.counts.get_mut(before.place())) {
            *count -= 1;
        }
        if let Some(count) = reason.and_then(|reason| self.counts.get_mut(reason.place())) {
            *count += 1;
        }
        for reason in before.into_iter().chain(reason) {
            self.metrics.controller.status.policies(reason.place(), self.counts[reason.place()]);
        }
    }

    /// The keys of an object that the administrator keeps.
    pub(super) fn keys(&mut self, target: &Target, material: &Arc<Material>) {
        let known = self.keys.get(&target.reference);
        if material.keys.is_empty() || known.is_some_and(|known| Arc::ptr_eq(known, material)) {
            return;
        }
        let source = target.reference.to_string();
        self.metrics.forget_keys(&source);
        for key in &material.keys {
            let expires = key.expires.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).map(|end| end.as_secs_f64());
            self.metrics.key(&key.fingerprint, &format!("{source}/{}", key.file), expires);
        }
        self.keys.insert(target.reference.clone(), material.clone());
    }

    /// No policy names the object any more.
    pub(super) fn forget(&mut self, reference: &ObjectRef) {
        if self.keys.remove(reference).is_some() {
            self.metrics.forget_keys(&reference.to_string());
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        for place in 0..READY_REASONS.len() {
            self.metrics.controller.status.policies(place, 0);
        }
    }
}
