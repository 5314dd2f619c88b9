//! A policy object, reduced to what its status depends on.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::{PolicyKind, PolicyStatus, read_policy};
use crate::domain::policy::{Policy, PolicyId};

/// Registries that are kept as written, and characters of each: no more are listed.
const MAX_REGISTRIES: usize = 1001;
const MAX_REGISTRY: usize = 301;

/// What a watch said of a policy.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) uid: String,
    /// The resource version, by which two states of one object have an order; 0 when it cannot be read as a number.
    pub(super) version: u64,
    pub(super) generation: Option<i64>,
    pub(super) policy: Arc<Policy>,
    /// The entries' registries as written; empty where there is none.
    pub(super) registries: Vec<String>,
    /// The stored status, as far as it can be read.
    pub(super) status: Option<PolicyStatus>,
}

impl Observed {
    /// Never fails: what cannot be read of the object is among the policy's problems.
    pub(super) fn read(kind: PolicyKind, object: &DynamicObject) -> Self {
        let name = object.name_any();
        let id = match kind {
            PolicyKind::Cluster => PolicyId::cluster(&name),
            PolicyKind::Namespaced => PolicyId::namespaced(&object.namespace().unwrap_or_default(), &name),
        };
        Self {
            uid: object.uid().unwrap_or_default(),
            version: version(object),
            generation: object.metadata.generation,
            registries: registries(&object.data),
            status: status(&object.data),
            policy: Arc::new(read_policy(id, &object.data)),
        }
    }

    /// Whether it is an earlier state of the same object, or the same one.
    pub(super) fn is_old_beside(&self, other: &Self) -> bool {
        self.uid == other.uid && self.version != 0 && self.version <= other.version
    }

    /// Whether nothing but the status may have changed.
    pub(super) fn same_spec(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation == other.generation && self.policy == other.policy
    }
}

/// The resource version as a number; 0 when it is none.
fn version(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// The state after an own write.
pub(super) fn after_write(before: &Observed, object: &DynamicObject) -> Observed {
    Observed { version: version(object), status: status(&object.data), ..before.clone() }
}

/// The status as stored; `None` when there is none or when it is not of the known form.
fn status(object: &Value) -> Option<PolicyStatus> {
    let status = object.get("status")?;
    <PolicyStatus as serde::Deserialize>::deserialize(status).ok()
}

fn registries(object: &Value) -> Vec<String> {
    let list = object.pointer("/spec/registries").and_then(Value::as_array);
    let written = |entry: &Value| {
        let registry = entry.get("registry").and_then(Value::as_str).unwrap_or_default();
        registry.chars().take(MAX_REGISTRY).collect()
    };
    list.into_iter().flatten().take(MAX_REGISTRIES).map(written).collect()
}
