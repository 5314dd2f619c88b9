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
            generation: object.metadata.generation,
            registries: registries(&object.data),
            status: status(&object.data),
            policy: Arc::new(read_policy(id, &object.data)),
        }
    }

    /// Whether nothing but the status may have changed.
    pub(super) fn same_spec(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation == other.generation && self.policy == other.policy
    }
}

/// The status as stored; `None` when there is none or when it is not of the known form.
pub(super) fn status(object: &Value) -> Option<PolicyStatus> {
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
