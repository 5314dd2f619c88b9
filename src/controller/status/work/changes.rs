//! What each change means for the policies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    CALM, Change, Done, FIRST_RETRY, GATHER, Held, LAST_RETRY, LONGEST, Look, LookDone, Observed, PACE, QUIET, Target,
    Worker, Written,
};
use crate::api::PolicyKind;
use crate::cluster::SecretData;
use crate::controller::status::material::Purpose;
use crate::controller::status::shadow::Shadow;
use crate::domain::policy::{ObjectRef, PolicyId};

impl Worker {
    pub(super) fn policies_changed(&mut self, kind: PolicyKind, change: Change<Observed>) {
        match change {
            Change::All(objects) => {
                let there: HashSet<PolicyId> = objects.iter().map(|o| o.policy.id.clone()).collect();
                let cluster = kind == PolicyKind::Cluster;
                let of_kind = self.policies.keys().filter(|id| id.namespace.is_none() == cluster);
                let gone: Vec<PolicyId> = of_kind.filter(|id| !there.contains(*id)).cloned().collect();
                for id in &gone {
                    self.remove(id);
                }
                for object in objects {
                    self.put(object);
                }
                self.complete[usize::from(!cluster)] = true;
            }
            Change::Put(object) => self.put(object),
            Change::Gone(object) => self.remove(&object.policy.id),
        }
    }

    fn put(&mut self, observed: Observed) {
        let id = observed.policy.id.clone();
        let now = Instant::now();
        if let Some(held) = self.policies.get_mut(&id)
            && held.observed.same_spec(&observed)
        {
            // Mostly the echo of an own write, or of what came before it.
            if !observed.is_old_beside(&held.observed) && held.observed.status != observed.status {
                let calm = held.written.map_or(now, |written| now.max(written + CALM));
                held.observed = Arc::new(observed);
                self.queue.schedule(&id, calm);
            }
            return;
        }
        let before = self.policies.remove(&id);
        let same_object = before.filter(|held| held.observed.uid == observed.uid);
        let written = same_object.as_ref().and_then(|held| held.written);
        let reason = same_object.and_then(|held| held.reason);
        if reason.is_none() {
            self.tally.set(&id, None);
        }
        let held = Held { observed: Arc::new(observed), shadow: None, reason, written, failures: 0 };
        self.policies.insert(id.clone(), held);
        self.waiting.insert(id);
        self.shadows_due.get_or_insert(now + GATHER);
    }

    fn remove(&mut self, id: &PolicyId) {
        if self.policies.remove(id).is_some() {
            self.queue.forget(id);
            self.waiting.remove(id);
            self.tally.set(id, None);
            self.refer(id, Vec::new());
            self.shadows_due.get_or_insert(Instant::now() + GATHER);
        }
    }

    pub(super) fn secrets_changed(&mut self, change: Change<(String, Arc<SecretData>)>) {
        let before = self.secrets.clone();
        match change {
            Change::All(secrets) => {
                self.secrets = secrets.into_iter().collect();
                self.complete[2] = true;
            }
            Change::Put((name, secret)) => _ = self.secrets.insert(name, secret),
            Change::Gone((name, _)) => _ = self.secrets.remove(&name),
        }
        self.own.store(Some(Arc::new(self.secrets.clone())));
        let content = |secret: Option<&Arc<SecretData>>| secret.map(|s| (s.hash, s.synced_key));
        let names: HashSet<&String> = before.keys().chain(self.secrets.keys()).collect();
        let changed = names.into_iter().filter(|name| content(before.get(*name)) != content(self.secrets.get(*name)));
        let changed: Vec<String> = changed.cloned().collect();
        for name in changed {
            let reference = ObjectRef { namespace: self.context.namespace.clone(), name: name.as_str().into() };
            for purpose in Purpose::ALL {
                self.touch(&Target { purpose, reference: reference.clone() });
            }
        }
    }

    /// Has the policies that name an object worked on, and no others.
    fn touch(&mut self, target: &Target) {
        let now = Instant::now();
        for id in self.references.naming(target) {
            let written = self.policies.get(id).and_then(|held| held.written);
            self.queue.schedule(id, written.map_or(now, |written| now.max(written + PACE)));
        }
    }

    pub(super) fn looked(&mut self, (target, result): LookDone) {
        self.looks_due.done(&target);
        if self.references.naming(&target).next().is_none() {
            return;
        }
        self.looks_due.schedule(&target, Instant::now() + self.interval());
        let look = match result {
            Ok(Some(secret)) => Look::Content(secret.hash, secret.synced_key),
            Ok(None) => Look::Absent,
            Err(fault) if !fault.kind().retryable() => Look::Refused,
            // Nothing is known now that was not known before.
            Err(_) => return,
        };
        // The first look comes after the policy was worked on, which may have been long before a change.
        if self.seen.insert(target.clone(), look.clone()) != Some(look) {
            self.touch(&target);
        }
    }

    pub(super) fn shaded(&mut self, mut found: HashMap<PolicyId, Shadow>) {
        let now = Instant::now();
        let waiting = std::mem::take(&mut self.waiting);
        for (id, held) in &mut self.policies {
            let Some(shadow) = found.remove(id) else {
                // It came while this was worked out, or that failed.
                if waiting.contains(id) {
                    self.waiting.insert(id.clone());
                    self.shadows_due.get_or_insert(now + GATHER);
                }
                continue;
            };
            if waiting.contains(id) || held.shadow.as_deref() != Some(&shadow) {
                held.shadow = Some(Arc::new(shadow));
                self.queue.schedule(id, held.written.map_or(now, |written| now.max(written + PACE)));
            }
        }
    }

    pub(super) fn finish(&mut self, done: Done) {
        let Done { id, draft, found, written } = done;
        self.queue.done(&id);
        let Some(held) = self.policies.get_mut(&id) else { return };
        let now = Instant::now();
        let until = draft.until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        self.queue.schedule(&id, now + until.unwrap_or(LONGEST).clamp(PACE, LONGEST));
        for (target, material) in found {
            // A namespace may name what is synced; that it may not name something says nothing of its keys.
            if id.namespace.is_none() || (material.is_ok() && self.reader.is_watched(&target)) {
                self.tally.keys(&target, material.as_ref().ok());
            }
        }
        if held.reason != Some(draft.reason) {
            info!(policy = %id, ready = draft.reason.ready(), reason = draft.reason.label(), detail = draft.message, "policy status");
        }
        held.reason = Some(draft.reason);
        self.tally.set(&id, Some(draft.reason));
        match written {
            Written::Same => held.failures = 0,
            Written::Now(object) => {
                self.context.metrics.controller.status.written(true);
                held.failures = 0;
                held.written = Some(now);
                // So that the watch's echo is known for what it is; unless the watch has seen more by now.
                if held.observed.same_spec(&object) && !object.is_old_beside(&held.observed) {
                    held.observed = Arc::new(*object);
                }
            }
            Written::Gone => self.retry(&id, now),
            Written::Failed(error) => self.failed(&id, &error, now),
        }
    }

    fn failed(&mut self, id: &PolicyId, error: &kube::Error, now: Instant) {
        self.context.metrics.controller.status.written(false);
        self.retry(id, now);
        if self.complained.is_none_or(|last| last.elapsed() > QUIET) {
            self.complained = Some(now);
            warn!(policy = %id, "a policy's status could not be written: {error}");
        }
    }

    /// Later and later. Also what seems to be gone: a CRD without the subresource answers in the same way.
    fn retry(&mut self, id: &PolicyId, now: Instant) {
        if let Some(held) = self.policies.get_mut(id) {
            let pause = FIRST_RETRY * 2_u32.saturating_pow(held.failures.min(10));
            held.failures = held.failures.saturating_add(1);
            self.queue.schedule(id, now + pause.min(LAST_RETRY));
        }
    }
}
