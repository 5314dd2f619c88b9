//! What changed, which policies it touches, and the work on them: so many at once, each at most so often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Config;
use super::compose::{Target, targets};
use super::follow::{Change, follow, follow_as};
use super::held::Observed;
use super::material::{LONGEST, Materials, Purpose};
use super::queue::Queue;
use super::reader::Reader;
use super::reason::Reason;
use super::references::References;
use super::shadow::{Shadow, shadows};
use super::tally::Tally;
use super::task::{Done, Task, Written, resource};
use crate::api::PolicyKind;
use crate::cluster::SecretData;
use crate::cluster::remote::RemoteObjects;
use crate::cluster::watch::{OwnSecrets, secret_data};
use crate::controller::Context;
use crate::domain::policy::{ObjectRef, Policy, PolicyId};
use crate::fault::Fault;

/// Policies worked on at the same time, and objects looked at.
const TASKS: usize = 8;
const LOOKS: usize = 4;
/// Objects looked at per second, at most: with more of them, each is looked at less often.
const LOOKS_PER_SECOND: u32 = 50;
/// After a change of policies, before it is worked out who hides whom: changes come in bursts.
const GATHER: Duration = Duration::from_millis(200);
/// Between two writes of one status after changes of its policy, and after somebody else's writing.
const PACE: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(10);
/// After a write that failed: at first, and at most.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Between two log lines about writes that fail.
const QUIET: Duration = Duration::from_secs(60);
/// Changes that wait to be looked at.
const WAITING: usize = 256;

/// What the watches say.
enum News {
    Policies(PolicyKind, Change<Observed>),
    Secrets(Change<(String, Arc<SecretData>)>),
}

/// What an object was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Content([u8; 32], bool),
    Absent,
    Refused,
}

type LookDone = (Target, Result<Option<Arc<SecretData>>, Fault>);

/// A policy and what was done about it.
struct Held {
    observed: Arc<Observed>,
    shadow: Option<Arc<Shadow>>,
    reason: Option<Reason>,
    written: Option<Instant>,
    failures: u32,
}

/// Keeps all statuses, for ever.
pub(super) async fn run(context: Context, config: Config) {
    let (sender, mut news) = mpsc::channel(WAITING);
    let policies = |kind: PolicyKind| {
        let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource(kind));
        let read = move |object: DynamicObject| Observed::read(kind, &object);
        let wrap = move |change| News::Policies(kind, change);
        follow_as(api, watcher::Config::default(), kind.plural(), read, wrap, sender.clone())
    };
    let secrets = follow(
        Api::<Secret>::namespaced(context.client.clone(), &context.namespace),
        // As for reviews: releases of Helm are large and never hold keys.
        watcher::Config::default().fields("type!=helm.sh/release.v1"),
        |secret: Secret| (secret.name_any(), Arc::new(secret_data(secret))),
        News::Secrets,
        sender.clone(),
    );
    let mut worker = Worker::new(&context, config);
    tokio::join!(policies(PolicyKind::Cluster), policies(PolicyKind::Namespaced), secrets, worker.work(&mut news),);
}

struct Worker {
    context: Context,
    config: Config,
    reader: Arc<Reader>,
    own: OwnSecrets,
    secrets: HashMap<String, Arc<SecretData>>,
    policies: BTreeMap<PolicyId, Held>,
    /// Lists that are complete: of cluster policies, of namespaced ones, of Secrets.
    complete: [bool; 3],
    references: References,
    queue: Queue<PolicyId>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    looks_due: Queue<Target>,
    looks: FuturesUnordered<BoxFuture<'static, LookDone>>,
    seen: HashMap<Target, Look>,
    /// When it has to be worked out who hides whom, and the policies that wait for it.
    shadows_due: Option<Instant>,
    waiting: HashSet<PolicyId>,
    shading: FuturesUnordered<BoxFuture<'static, HashMap<PolicyId, Shadow>>>,
    tally: Tally,
    complained: Option<Instant>,
}

impl Worker {
    fn new(context: &Context, config: Config) -> Self {
        let own: OwnSecrets = Arc::new(ArcSwapOption::empty());
        let reader = Reader {
            objects: RemoteObjects::new(context.client.clone(), &context.namespace, own.clone()),
            materials: Materials::new(),
            own_namespace: context.namespace.clone(),
            shared_namespaces: config.shared_namespaces.clone(),
        };
        Self {
            context: context.clone(),
            config,
            reader: Arc::new(reader),
            own,
            secrets: HashMap::new(),
            policies: BTreeMap::new(),
            complete: [false; 3],
            references: References::default(),
            queue: Queue::new(),
            tasks: FuturesUnordered::new(),
            looks_due: Queue::new(),
            looks: FuturesUnordered::new(),
            seen: HashMap::new(),
            shadows_due: None,
            waiting: HashSet::new(),
            shading: FuturesUnordered::new(),
            tally: Tally::new(context.metrics.clone()),
            complained: None,
        }
    }

    async fn work(&mut self, news: &mut mpsc::Receiver<News>) {
        loop {
            self.begin();
            let idle = Instant::now() + LONGEST;
            let due = if self.tasks.len() < TASKS { self.queue.next() } else { None };
            let look = if self.looks.len() < LOOKS { self.looks_due.next() } else { None };
            let shade = if self.shading.is_empty() { self.shadows_due } else { None };
            let ready = self.complete.iter().all(|complete| *complete);
            let next = [due, look, shade].into_iter().flatten().filter(|_| ready).min().unwrap_or(idle);
            tokio::select! {
                changed = news.recv() => match changed {
                    Some(News::Policies(kind, change)) => self.policies_changed(kind, change),
                    Some(News::Secrets(change)) => self.secrets_changed(change),
                    None => return,
                },
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.finish(done),
                Some(look) = self.looks.next(), if !self.looks.is_empty() => self.looked(look),
                Some(found) = self.shading.next(), if !self.shading.is_empty() => self.shaded(found),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Begins whatever is due and has room. Nothing is known before every list is complete.
    fn begin(&mut self) {
        if self.complete.iter().any(|complete| !complete) {
            return;
        }
        let now = Instant::now();
        if self.shadows_due.is_some_and(|due| due <= now) && self.shading.is_empty() {
            self.shadows_due = None;
            let policies: Vec<Arc<Policy>> = self.policies.values().map(|held| held.observed.policy.clone()).collect();
            let restrict = self.config.restrict_namespaces;
            let work = tokio::task::spawn_blocking(move || shadows(&policies, restrict));
            self.shading.push(Box::pin(async move { work.await.unwrap_or_default() }));
        }
        while self.tasks.len() < TASKS
            && let Some(id) = self.queue.take(now)
        {
            self.start(&id);
        }
        while self.looks.len() < LOOKS
            && let Some(target) = self.looks_due.take(now)
        {
            let reader = self.reader.clone();
            self.looks.push(Box::pin(async move {
                let result = reader.look(&target).await;
                (target, result)
            }));
        }
    }

    fn start(&mut self, id: &PolicyId) {
        let Some((observed, shadow)) =
            self.policies.get(id).and_then(|held| Some((held.observed.clone(), held.shadow.clone()?)))
        else {
            self.queue.done(id);
            return;
        };
        let named: Vec<Target> =
            targets(&observed.policy).into_iter().filter(|target| self.reader.looks_at(id, target)).collect();
        self.refer(id, named.clone());
        let followed = named.into_iter().filter(|target| self.references.follows(id, target)).collect();
        let client = self.context.client.clone();
        let task = Task { reader: self.reader.clone(), client, observed, shadow, followed };
        self.tasks.push(Box::pin(task.run()));
    }

    /// Takes note of what a policy names.
    fn refer(&mut self, id: &PolicyId, targets: Vec<Target>) {
        let changed = self.references.set(id, targets);
        for target in changed.added.iter().filter(|target| !self.reader.is_watched(target)) {
            self.looks_due.schedule(target, Instant::now() + self.interval());
        }
        for target in &changed.removed {
            self.looks_due.forget(target);
            self.seen.remove(target);
            self.tally.forget(&target.reference);
        }
    }

    /// Between two looks at one object.
    fn interval(&self) -> Duration {
        let many = u32::try_from(self.references.len()).unwrap_or(u32::MAX) / LOOKS_PER_SECOND;
        self.config.poll.max(Duration::from_secs(many.into()))
    }

    fn policies_changed(&mut self, kind: PolicyKind, change: Change<Observed>) {
        match change {
            Change::All(objects) => {
                let there: HashSet<PolicyId> = objects.iter().map(|o| o.policy.id.clone()).collect();
                let cluster = kind == PolicyKind::Cluster;
                let of_kind = self.policies.keys().filter(|id| id.namespace.is_none() == cluster);
                let gone: Vec<PolicyId> = of_kind.filter(|id| !there.contains(*id)).cloned().collect();
                gone.iter().for_each(|id| self.remove(id));
                objects.into_iter().for_each(|object| self.put(object));
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
            // Mostly the echo of an own write.
            if held.observed.status != observed.status {
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

    fn secrets_changed(&mut self, change: Change<(String, Arc<SecretData>)>) {
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

    fn looked(&mut self, (target, result): LookDone) {
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

    fn shaded(&mut self, mut found: HashMap<PolicyId, Shadow>) {
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

    fn finish(&mut self, done: Done) {
        let Done { id, draft, found, written } = done;
        self.queue.done(&id);
        let Some(held) = self.policies.get_mut(&id) else { return };
        let now = Instant::now();
        let until = draft.until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        self.queue.schedule(&id, now + until.unwrap_or(LONGEST).clamp(PACE, LONGEST));
        for (target, material) in found {
            if let Ok(material) = material
                && (id.namespace.is_none() || self.reader.is_watched(&target))
            {
                self.tally.keys(&target, &material);
            }
        }
        if held.reason != Some(draft.reason) {
            info!(policy = %id, ready = draft.reason.ready(), reason = draft.reason.label(), detail = draft.message, "policy status");
        }
        held.reason = Some(draft.reason);
        self.tally.set(&id, Some(draft.reason));
        match written {
            Written::Same => held.failures = 0,
            Written::Now(status) => {
                self.context.metrics.controller.status.written(true);
                held.failures = 0;
                held.written = Some(now);
                // So that the watch's echo is known for what it is.
                held.observed = Arc::new(Observed { status, ..(*held.observed).clone() });
            }
            Written::Gone => self.queue.schedule(&id, now + FIRST_RETRY),
            Written::Failed(error) => self.failed(&id, &error, now),
        }
    }

    fn failed(&mut self, id: &PolicyId, error: &kube::Error, now: Instant) {
        self.context.metrics.controller.status.written(false);
        if let Some(held) = self.policies.get_mut(id) {
            let pause = FIRST_RETRY * 2_u32.saturating_pow(held.failures.min(10));
            held.failures += 1;
            self.queue.schedule(id, now + pause.min(LAST_RETRY));
        }
        if self.complained.is_none_or(|last| last.elapsed() > QUIET) {
            self.complained = Some(now);
            warn!(policy = %id, "a policy's status could not be written: {error}");
        }
    }
}
