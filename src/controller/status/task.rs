//! The work on one policy: read what it names, compose its status, write it if it differs.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};

use super::compose::{Draft, Found, Target, compose, targets};
use super::held::{Observed, status};
use super::merge::{body, wanted};
use super::reader::Reader;
use super::shadow::Shadow;
use crate::api::{GROUP, PolicyKind, PolicyStatus, VERSION};
use crate::controller::FIELD_MANAGER;
use crate::domain::policy::PolicyId;

/// What one policy needs.
pub(super) struct Task {
    pub(super) reader: Arc<Reader>,
    pub(super) client: Client,
    pub(super) observed: Arc<Observed>,
    pub(super) shadow: Arc<Shadow>,
    pub(super) followed: HashSet<Target>,
}

/// How the writing went.
#[derive(Debug)]
pub(super) enum Written {
    /// It was stored already.
    Same,
    /// It was written; this is what is stored now.
    Now(Option<PolicyStatus>),
    /// The object is gone, or is another one now; the watch says more.
    Gone,
    /// It could not be written.
    Failed(kube::Error),
}

/// What came of it.
pub(super) struct Done {
    pub(super) id: PolicyId,
    pub(super) draft: Draft,
    pub(super) found: Found,
    pub(super) written: Written,
}

impl Task {
    pub(super) async fn run(self) -> Done {
        let policy = &self.observed.policy;
        let mut found = Found::new();
        for target in targets(policy) {
            let result = self.reader.found(&policy.id, &target, self.followed.contains(&target)).await;
            found.insert(target, result);
        }
        let draft = compose(policy, &self.observed.registries, &found, &self.shadow);
        let stored = self.observed.status.as_ref();
        let written = match wanted(&draft, self.observed.generation, stored, Timestamp::now()) {
            None => Written::Same,
            Some(status) => self.write(&status).await,
        };
        Done { id: policy.id.clone(), draft, found, written }
    }

    async fn write(&self, status_now: &PolicyStatus) -> Written {
        let id = &self.observed.policy.id;
        let body = body(id, &self.observed.uid, status_now);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api(self.client.clone(), id).patch_status(&id.name, &params, &Patch::Apply(&body)).await {
            Ok(object) => Written::Now(status(&object.data)),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Written::Gone,
            Err(error) => Written::Failed(error),
        }
    }
}

/// Objects of one kind, untyped: one of the wrong shape must not stop a watch.
pub(super) fn resource(kind: PolicyKind) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind.kind()), kind.plural())
}

fn api(client: Client, id: &PolicyId) -> Api<DynamicObject> {
    match &id.namespace {
        None => Api::all_with(client, &resource(PolicyKind::Cluster)),
        Some(namespace) => Api::namespaced_with(client, namespace, &resource(PolicyKind::Namespaced)),
    }
}
