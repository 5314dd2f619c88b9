//! Watches that survive API server restarts and malformed objects.
//!
//! A watch that breaks is taken up again with growing pauses; meanwhile the last complete state stays in force. Only when
//! the API server says that the list itself cannot be had (the CRD is gone, access is forbidden) is the state dropped:
//! then nothing is known, and "no policy exists" must not be concluded from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use super::objects::{SYNCED_KEY_LABEL, SYNCED_KEY_PREFIX, SecretData};
use super::snapshot::{Inputs, Source};
use crate::api::{GROUP, VERSION, read_policy};
use crate::domain::policy::{Policy, PolicyId};
use crate::domain::whitelist::Whitelist;
use crate::fault::causes;
use crate::telemetry::Metrics;

/// The whitelist `ConfigMap`'s name.
pub const WHITELIST_NAME: &str = "image-validation-webhook-whitelist";
/// The type of the Secret in which the controller keeps the keys of its authorities: what answers reviews never reads it.
pub const AUTHORITY_TYPE: &str = "podseal.io/certificate-authority";
/// Before a watch that was refused is begun anew: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same trouble with a resource is told once in this time.
const REPEAT: Duration = Duration::from_secs(60);
/// Events that are ready at once are taken together, so that a burst rebuilds the index once.
const BURST: usize = 512;

/// Secrets of podseal's namespace by name; `None` until they were listed.
pub type OwnSecrets = Arc<ArcSwapOption<HashMap<String, Arc<SecretData>>>>;

/// What a batch of events amounts to.
enum Change<K> {
    /// The complete list.
    All(Vec<K>),
    /// Single changes, in order; `false` means deleted.
    Some(Vec<(K, bool)>),
}

/// Runs all watches until the process ends.
pub async fn run(client: Client, namespace: String, inputs: Arc<Inputs>, own: OwnSecrets, metrics: Arc<Metrics>) {
    let policies = |source, kind| watch_policies(client.clone(), source, kind, inputs.clone(), metrics.clone());
    tokio::join!(
        policies(Source::ClusterPolicies, "ClusterRegistrySecurityPolicy"),
        policies(Source::NamespacedPolicies, "RegistrySecurityPolicy"),
        watch_whitelist(client.clone(), &namespace, inputs.clone(), metrics.clone()),
        watch_secrets(client.clone(), &namespace, inputs.clone(), own, metrics.clone()),
    );
}

async fn watch_policies(client: Client, source: Source, kind: &str, inputs: Arc<Inputs>, metrics: Arc<Metrics>) {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), source.label());
    // Untyped on purpose: an object of the wrong shape must not stop the watch, and its registry still governs.
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    follow(api, watcher::Config::default(), source, &listed(source, &inputs, &metrics), |change| {
        match change {
            Change::All(objects) => {
                inputs.replace_policies(source, objects.into_iter().map(|o| policy(source, &o)).collect());
            }
            Change::Some(changes) => inputs.change_policies(
                changes
                    .into_iter()
                    .map(|(o, exists)| (policy_id(source, &o), exists.then(|| policy(source, &o))))
                    .collect(),
            ),
        }
        report_inventory(&inputs, &metrics);
    })
    .await;
}

fn policy_id(source: Source, object: &DynamicObject) -> PolicyId {
    let name = object.name_any();
    match source {
        Source::ClusterPolicies => PolicyId::cluster(&name),
        _ => PolicyId::namespaced(&object.namespace().unwrap_or_default(), &name),
    }
}

fn policy(source: Source, object: &DynamicObject) -> Policy {
    let policy = read_policy(policy_id(source, object), &object.data);
    for problem in &policy.problems {
        warn!(policy = %policy.id, field = %problem.field, error = problem.error, "{}", problem.message);
    }
    policy
}

async fn watch_whitelist(client: Client, namespace: &str, inputs: Arc<Inputs>, metrics: Arc<Metrics>) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={WHITELIST_NAME}"));
    follow(api, config, Source::Whitelist, &listed(Source::Whitelist, &inputs, &metrics), |change| {
        let data = match change {
            Change::All(objects) => objects.into_iter().next().and_then(|o| o.data),
            Change::Some(changes) => changes.into_iter().last().and_then(|(o, exists)| o.data.filter(|_| exists)),
        };
        let whitelist = Whitelist::parse(&data.unwrap_or_default());
        for problem in &whitelist.problems {
            warn!(config_map = WHITELIST_NAME, key = %problem.key, line = problem.line, skipped = problem.skipped, "{}", problem.message);
        }
        inputs.set_whitelist(whitelist);
        report_inventory(&inputs, &metrics);
    })
    .await;
}

async fn watch_secrets(client: Client, namespace: &str, inputs: Arc<Inputs>, own: OwnSecrets, metrics: Arc<Metrics>) {
    follow_secrets(client, namespace, &own, &listed(Source::Keys, &inputs, &metrics), || {
        inputs.set_synced(Source::Keys, true);
    })
    .await;
}

/// Watches the Secrets of a namespace that the administrator lists, besides podseal's own. Where the list is refused,
/// nothing is known of them, and they can be read one by one. Never returns.
pub async fn watch_further(client: Client, namespace: String, secrets: OwnSecrets) {
    let listed = |known: bool| {
        if !known {
            secrets.store(None);
        }
    };
    follow_secrets(client, &namespace, &secrets, &listed, || {}).await;
}

async fn follow_secrets(
    client: Client,
    namespace: &str,
    secrets: &OwnSecrets,
    listed: &(dyn Fn(bool) + Sync),
    mut after: impl FnMut(),
) {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    // Helm keeps whole releases in Secrets of its own type; they are large and never hold keys.
    let config = watcher::Config::default().fields(&format!("type!=helm.sh/release.v1,type!={AUTHORITY_TYPE}"));
    let mut known: HashMap<String, Arc<SecretData>> = HashMap::new();
    follow(api, config, Source::Keys, listed, |change| {
        match change {
            Change::All(secrets) => {
                known = secrets.into_iter().map(|s| (s.name_any(), Arc::new(secret_data(s)))).collect();
            }
            Change::Some(changes) => {
                for (secret, exists) in changes {
                    if exists {
                        known.insert(secret.name_any(), Arc::new(secret_data(secret)))
                    } else {
                        known.remove(&secret.name_any())
                    };
                }
            }
        }
        secrets.store(Some(Arc::new(known.clone())));
        after();
    })
    .await;
}

/// A Secret's data, and whether the controller keeps it for a key file: name and label must both say so.
pub fn secret_data(secret: Secret) -> SecretData {
    let synced = secret.metadata.labels.as_ref().is_some_and(|l| l.contains_key(SYNCED_KEY_LABEL))
        && secret.metadata.name.as_deref().is_some_and(|n| n.starts_with(SYNCED_KEY_PREFIX));
    let data: BTreeMap<_, _> = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0.into())).collect();
    SecretData::new(data, synced)
}

fn report_inventory(inputs: &Inputs, metrics: &Metrics) {
    let (policies, broken, bad_lines) = inputs.inventory();
    metrics.inventory(policies, broken, inputs.current().whitelist.len(), bad_lines);
}

/// Says whether the list of a resource is complete (`true`) or was refused.
fn listed<'a>(source: Source, inputs: &'a Inputs, metrics: &'a Metrics) -> impl Fn(bool) + Sync + 'a {
    move |known| {
        if !known {
            inputs.set_synced(source, false);
        }
        metrics.watch(source.label(), known);
    }
}

/// Follows one resource for ever and hands on complete lists and batches of changes; `listed` hears of lists, complete or
/// refused.
async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    source: Source,
    listed: &(dyn Fn(bool) + Sync),
    mut apply: impl FnMut(Change<K>),
) where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let (mut pause, mut said) = (FIRST_PAUSE, Said::default());
    loop {
        // Boxed: a watch is long-lived and large, and there are few.
        let stream = watch_objects(api.clone(), config.clone()).default_backoff().ready_chunks(BURST);
        let mut stream = Box::pin(stream);
        let mut listing: Option<Vec<K>> = None;
        let mut refused = false;
        let begun = Instant::now();
        while let Some(events) = stream.next().await {
            let mut changes = Vec::new();
            for event in events {
                match event {
                    Ok(Event::Init) => listing = Some(Vec::new()),
                    Ok(Event::InitApply(object)) => listing.get_or_insert_default().push(object),
                    Ok(Event::InitDone) => {
                        let objects = listing.take().unwrap_or_default();
                        changes.clear();
                        info!(resource = source.label(), objects = objects.len(), "list complete");
                        apply(Change::All(objects));
                        listed(true);
                    }
                    Ok(Event::Apply(object)) => changes.push((object, true)),
                    Ok(Event::Delete(object)) => changes.push((object, false)),
                    Err(error) => refused |= report(source, listed, &error, &mut said),
                }
            }
            if !changes.is_empty() {
                apply(Change::Some(changes));
            }
            if refused {
                break;
            }
        }
        // A watch that was refused goes on without a list once it is allowed again, so nothing would say that all is
        // known; a new one begins with a list.
        tokio::time::sleep(pause).await;
        pause = if begun.elapsed() > LONGEST_PAUSE * 3 { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// Logs the error, and says whether the API server refused the resource: no such resource, or forbidden. If it refused
/// the list, nothing is known any more; anything else leaves the last state in force.
fn report(source: Source, listed: &dyn Fn(bool), error: &watcher::Error, said: &mut Said) -> bool {
    let (status, list) = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => (Some(status), true),
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => {
            (Some(status), false)
        }
        _ => (None, false),
    };
    let code = status.map(|status| status.code);
    let text = status.map_or_else(|| causes(error), |status| words(source, status));
    // A watch that is too old is taken up again with a list, as it should be.
    if code == Some(410) {
        debug!(resource = source.label(), "watch: {text}");
    } else if said.is_new(&text, Instant::now()) {
        warn!(resource = source.label(), status = code, "watch: {text}");
    }
    let refused = matches!(code, Some(403 | 404));
    if refused && list {
        listed(false);
    }
    refused
}

/// What the API server has against it, and what to do.
fn words(source: Source, status: &kube::core::Status) -> String {
    let message = if status.message.is_empty() { &status.reason } else { &status.message };
    match (status.code, source) {
        (404, Source::ClusterPolicies | Source::NamespacedPolicies) => {
            format!("{} is not installed: podseal crds | kubectl apply -f - ({message})", source.label())
        }
        (403, _) => format!("podseal's role lacks list and watch on {}: {message}", source.resource()),
        _ => message.clone(),
    }
}

/// What was said of one resource, so that the same is not said again before a minute is over.
#[derive(Debug, Default)]
struct Said(Option<(String, Instant)>);

impl Said {
    fn is_new(&mut self, text: &str, now: Instant) -> bool {
        if self.0.as_ref().is_some_and(|(last, at)| last == text && now.duration_since(*at) < REPEAT) {
            return false;
        }
        self.0 = Some((text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests;
