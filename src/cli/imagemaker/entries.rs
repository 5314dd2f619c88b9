//! The cluster's policy: an entry for each maker's path, which asks for the maker's key.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Failure;
use crate::api::{GROUP, VERSION, read_policy};
use crate::cli::args::imagemaker::EntryArguments;
use crate::cli::output::{complain, print};
use crate::cli::{runtime, serve};
use crate::cluster::describe;
use crate::cluster::objects::SYNCED_KEY_PREFIX;
use crate::domain::policy::PolicyId;
use crate::signing::makers::Maker;

const KIND: &str = "ClusterRegistrySecurityPolicy";
const FIELD_MANAGER: &str = "podseal-imagemaker";
/// The API server has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often somebody else may have been faster.
const TRIES: usize = 5;

/// The entry of a maker: its key file's Secret, which the controller keeps, and nothing else.
fn entry(maker: &Maker, namespace: &str) -> Map<String, Value> {
    let stem = maker.key_file.rsplit_once('.').map_or(maker.key_file.as_str(), |(stem, _)| stem);
    let mut entry = Map::new();
    entry.insert("registry".to_owned(), json!(maker.path));
    entry.insert("signCheck".to_owned(), json!(true));
    entry.insert("gpgKeyRef".to_owned(), json!(format!("k8s://{namespace}/{SYNCED_KEY_PREFIX}{stem}")));
    if let Some(lookaside) = &maker.lookaside {
        entry.insert("lookaside".to_owned(), json!(lookaside));
    }
    if maker.insecure {
        entry.insert("insecure".to_owned(), json!(true));
    }
    entry
}

fn policy(name: &str, entries: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"registries": entries},
    })
}

/// The policy of these makers. It is read as the webhook reads it, so that nothing is printed that could not be applied.
fn checked(makers: &[Maker], arguments: &EntryArguments) -> Result<Vec<Map<String, Value>>, Failure> {
    let entries: Vec<_> = makers.iter().map(|maker| entry(maker, &arguments.cluster.own_namespace)).collect();
    let whole: Vec<_> = entries.iter().cloned().map(Value::Object).collect();
    let id = PolicyId { namespace: None, name: arguments.policy_name.as_str().into() };
    let read = read_policy(id, &policy(&arguments.policy_name, &whole));
    match read.problems.iter().find(|problem| problem.error) {
        Some(problem) => Err(Failure::Failed(format!("the policy cannot be made: {problem}"))),
        None => Ok(entries),
    }
}

/// As YAML, for `kubectl apply -f -`.
pub(super) fn yaml(makers: &[Maker], arguments: &EntryArguments) -> Result<String, Failure> {
    let entries: Vec<_> = checked(makers, arguments)?.into_iter().map(Value::Object).collect();
    serde_saphyr::to_string(&policy(&arguments.policy_name, &entries)).map_err(|e| Failure::Failed(e.to_string()))
}

/// Puts the entries into the policy of the cluster.
pub(super) fn apply(makers: &[Maker], arguments: &EntryArguments) -> Result<(), Failure> {
    let entries = checked(makers, arguments)?;
    let done = runtime()?.block_on(async {
        match timeout(PATIENCE, apply_entries(&entries, arguments)).await {
            Ok(done) => done,
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    });
    done.map_err(|why| Failure::Failed(format!("the policy {} cannot be applied: {why}", arguments.policy_name)))
}

async fn apply_entries(ours: &[Map<String, Value>], arguments: &EntryArguments) -> Result<(), String> {
    let config = serve::kube_config_of(&arguments.cluster.connection).await?;
    let client = Client::try_from(config).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, VERSION, KIND),
        "clusterregistrysecuritypolicies",
    );
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let name = &arguments.policy_name;
    for _ in 0..TRIES {
        let live = api.get_opt(name).await.map_err(|e| describe(&e))?;
        let there = live.as_ref().and_then(|live| live.data.pointer("/spec/registries")).and_then(Value::as_array);
        let merged = merged(there.map_or(&[], Vec::as_slice), ours)?;
        let mut object = policy(name, &merged);
        // The list is one value to the API server: it must still be the one that was read.
        let version = live.as_ref().and_then(|live| live.metadata.resource_version.clone());
        if let Some(version) = &version {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(name, &parameters, &Patch::Apply(&object)).await {
            Ok(_) => {
                let what = if version.is_some() { "changed" } else { "created" };
                print(&format!(
                    "{KIND} {name} {what}: {} of its {} entries are these makers'\n",
                    ours.len(),
                    merged.len()
                ));
                others(&api, name, ours).await;
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(describe(&error)),
        }
    }
    Err("somebody else goes on changing it".to_owned())
}

/// The entries that are there with ours among them. Fields that others put into ours stay; an entry of somebody else's for
/// the same path is never touched.
fn merged(there: &[Value], ours: &[Map<String, Value>]) -> Result<Vec<Value>, String> {
    let mut list = there.to_vec();
    for entry in ours {
        let same = list.iter_mut().find(|other| other.get("registry") == entry.get("registry"));
        match same {
            None => list.push(Value::Object(entry.clone())),
            Some(Value::Object(other)) if other.get("gpgKeyRef") == entry.get("gpgKeyRef") => {
                other.extend(entry.clone());
            }
            Some(_) => {
                return Err(format!(
                    "it holds an entry for {} that asks for something else: remove it, or give another --policy-name (both \
                     must pass then)",
                    entry.get("registry").and_then(Value::as_str).unwrap_or_default()
                ));
            }
        }
    }
    Ok(list)
}

/// Other policies that speak for the same paths: whoever is surprised by a denial looks there.
async fn others(api: &Api<DynamicObject>, name: &str, ours: &[Map<String, Value>]) {
    let Ok(list) = api.list(&ListParams::default().limit(500)).await else { return };
    for policy in list.items.iter().filter(|policy| policy.metadata.name.as_deref() != Some(name)) {
        let entries = policy.data.pointer("/spec/registries").and_then(Value::as_array).into_iter().flatten();
        for registry in entries.filter_map(|entry| entry.get("registry")) {
            if ours.iter().any(|entry| entry.get("registry") == Some(registry)) {
                let other = policy.metadata.name.as_deref().unwrap_or_default();
                let registry = registry.as_str().unwrap_or_default();
                complain(&format!("note: the policy {other} speaks for {registry}, too: both must pass"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(registry: &str) -> Map<String, Value> {
        let entry = json!({"registry": registry, "signCheck": true, "gpgKeyRef": "k8s://ns/sigstore-key-a"});
        entry.as_object().unwrap().clone()
    }

    #[test]
    fn what_others_wrote_stays_and_ours_comes_to_it() {
        let theirs = json!({"registry": "docker.io", "signCheck": false});
        let edited = json!({"registry": "r.local", "signCheck": false, "gpgKeyRef": "k8s://ns/sigstore-key-a", "action": "Warn"});
        let list = merged(&[theirs.clone(), edited], &[ours("r.local"), ours("r.local/x")]).unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0], theirs);
        assert_eq!((list[1]["signCheck"].as_bool(), list[1]["action"].as_str()), (Some(true), Some("Warn")));
        assert_eq!(list[2], Value::Object(ours("r.local/x")));
        assert_eq!(merged(&list, &[ours("r.local"), ours("r.local/x")]).unwrap(), list, "again changes nothing");
    }

    #[test]
    fn an_entry_of_somebody_elses_for_the_same_path_is_not_overwritten() {
        for other in [
            json!({"registry": "r.local", "signCheck": false}),
            json!({"registry": "r.local", "signCheck": true, "gpgKeyRef": "k8s://ns/other"}),
        ] {
            let why = merged(&[other], &[ours("r.local")]).unwrap_err();
            assert!(why.contains("an entry for r.local that asks for something else"), "{why}");
        }
    }
}
