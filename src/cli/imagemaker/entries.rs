//! The cluster's policy: an entry for each maker's path, which asks for the maker's key.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
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
use crate::domain::printable::printable;
use crate::domain::scope::Scope;
use crate::signing::makers::Maker;

pub(super) const KIND: &str = "ClusterRegistrySecurityPolicy";
pub(super) const FIELD_MANAGER: &str = "podseal-imagemaker";
/// The API server has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often somebody else may have been faster.
pub(super) const TRIES: usize = 5;

/// The entry of a maker: its key file's Secret, which the controller keeps, and nothing else.
pub(super) fn entry(maker: &Maker, namespace: &str) -> Map<String, Value> {
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

pub(super) fn policy(name: &str, entries: &[Value]) -> Value {
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
    in_time(apply_entries(&entries, arguments))?
        .map_err(|why| Failure::Failed(format!("the policy {} cannot be applied: {why}", arguments.policy_name)))
}

/// Runs what asks the API server, and not for ever.
pub(super) fn in_time(asking: impl Future<Output = Result<(), String>>) -> Result<Result<(), String>, Failure> {
    let slow = |_| Err("the API server does not answer".to_owned());
    Ok(runtime()?.block_on(async { timeout(PATIENCE, asking).await.unwrap_or_else(slow) }))
}

pub(super) async fn policies(arguments: &EntryArguments) -> Result<Api<DynamicObject>, String> {
    let config = serve::kube_config_of(&arguments.cluster.connection).await?;
    let client = Client::try_from(config).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, VERSION, KIND),
        "clusterregistrysecuritypolicies",
    );
    Ok(Api::all_with(client, &resource))
}

async fn apply_entries(ours: &[Map<String, Value>], arguments: &EntryArguments) -> Result<(), String> {
    let api = policies(arguments).await?;
    let name = &arguments.policy_name;
    for _ in 0..TRIES {
        let live = api.get_opt(name).await.map_err(|e| describe(&e))?;
        let there = live.as_ref().and_then(|live| live.data.pointer("/spec/registries")).and_then(Value::as_array);
        let (merged, notes) = merged(there.map_or(&[], Vec::as_slice), ours)?;
        let mut object = policy(name, &merged);
        // The list is one value to the API server: it must still be the one that was read.
        let version = live.as_ref().and_then(|live| live.metadata.resource_version.clone());
        let done = if let Some(version) = &version {
            object["metadata"]["resourceVersion"] = json!(version);
            api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await
        } else {
            // Applied, it would take the place of what somebody else has made since: a new object must be new.
            let new = serde_json::from_value(object).map_err(|error| error.to_string())?;
            let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            api.create(&parameters, &new).await
        };
        match done {
            Ok(_) => {
                let what = if version.is_some() { "changed" } else { "created" };
                print(&format!(
                    "{KIND} {name} {what}: {} of its {} entries are these makers'\n",
                    ours.len(),
                    merged.len()
                ));
                for note in &notes {
                    complain(note);
                }
                others(&api, name, ours).await;
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(describe(&error)),
        }
    }
    Err("somebody else goes on changing it".to_owned())
}

/// What an entry speaks for: one path can be written in several ways.
pub(super) fn scope(entry: &Value) -> Option<Scope> {
    entry.get("registry").and_then(Value::as_str).and_then(|text| Scope::parse(text).ok()).map(|(scope, _)| scope)
}

/// The entries that are there with ours among them, and what is to be said. Fields that others put into ours stay; an entry
/// of somebody else's for the same path is never touched.
fn merged(there: &[Value], ours: &[Map<String, Value>]) -> Result<(Vec<Value>, Vec<String>), String> {
    let (mut list, mut notes) = (there.to_vec(), Vec::new());
    for entry in ours {
        let own = scope(&Value::Object(entry.clone()));
        let path = entry.get("registry").and_then(Value::as_str).unwrap_or_default();
        let is_ours = |other: &Value| other.get("gpgKeyRef") == entry.get("gpgKeyRef");
        let same = |other: &&Value| own.is_some() && scope(other) == own;
        if let Some(other) = list.iter().filter(same).find(|other| !is_ours(other)) {
            let written = other.get("registry").and_then(Value::as_str).unwrap_or_default();
            return Err(format!(
                "it holds an entry for {path} that asks for something else ({written:?}), and an entry of somebody else's for \
                 the same path is not touched: remove it, or give another --policy-name (both must pass then)"
            ));
        }
        let several = list.iter().filter(same).count();
        if several > 1 {
            notes.push(format!(
                "note: {several} entries for {path} ask for the same key; one is enough, and the others stay: take them out"
            ));
        }
        match list.iter_mut().find(|other| own.is_some() && scope(other) == own) {
            Some(Value::Object(other)) => {
                notes.extend(changes(path, other, entry));
                other.extend(entry.clone());
            }
            _ => list.push(Value::Object(entry.clone())),
        }
    }
    Ok((list, notes))
}

/// What somebody changed in an entry of ours by hand: what stays, and what is put back.
fn changes(path: &str, found: &Map<String, Value>, ours: &Map<String, Value>) -> Vec<String> {
    let shown = |(field, value): (&String, &Value)| {
        printable(&format!("{field}: {value}")).chars().take(200).collect::<String>()
    };
    let more: Vec<_> = found.iter().filter(|(field, _)| !ours.contains_key(*field)).map(shown).collect();
    let other: Vec<_> = ours
        .iter()
        .filter(|(field, value)| *field != "registry" && found.get(*field).is_some_and(|found| found != *value))
        .map(shown)
        .collect();
    let mut notes = Vec::new();
    if !more.is_empty() {
        notes.push(format!("note: somebody put more into the entry for {path}, which stays: {}", more.join(", ")));
    }
    if !other.is_empty() {
        notes.push(format!("note: somebody changed the entry for {path}, which is put back: {}", other.join(", ")));
    }
    notes
}

/// Other policies that speak for the same paths: whoever is surprised by a denial looks there.
async fn others(api: &Api<DynamicObject>, name: &str, ours: &[Map<String, Value>]) {
    let own: Vec<_> = ours.iter().filter_map(|entry| scope(&Value::Object(entry.clone()))).collect();
    let same = |entry: &Value| scope(entry).is_some_and(|scope| own.contains(&scope));
    for (other, registry) in found(api, same).await.into_iter().filter(|(other, _)| other != name) {
        complain(&format!("note: the policy {other} speaks for {registry}, too: both must pass"));
    }
}

/// The entries of cluster policies which are wanted, each with its policy's name and its path.
pub(super) async fn found(api: &Api<DynamicObject>, wanted: impl Fn(&Value) -> bool) -> Vec<(String, String)> {
    // Only said: without the right to list there is nothing to say.
    let Ok(list) = api.list(&ListParams::default().limit(500)).await else { return Vec::new() };
    let mut found = Vec::new();
    for policy in &list.items {
        let other = policy.metadata.name.as_deref().unwrap_or_default();
        let entries = policy.data.pointer("/spec/registries").and_then(Value::as_array).into_iter().flatten();
        for registry in entries.filter(|entry| wanted(entry)).filter_map(|entry| entry.get("registry")) {
            let registry = printable(registry.as_str().unwrap_or_default()).into_owned();
            found.push((other.to_owned(), registry));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::cli::args::{ClusterArguments, ConnectionArguments};
    use crate::source::testing::{Seen, Server, reply};

    fn ours(registry: &str) -> Map<String, Value> {
        let entry = json!({"registry": registry, "signCheck": true, "gpgKeyRef": "k8s://ns/sigstore-key-a"});
        entry.as_object().unwrap().clone()
    }

    /// An API server that holds one policy, which somebody else makes right after it was said that there is none.
    fn api_server(late: Option<Value>) -> Server {
        let versioned = |mut late: Value| {
            late["metadata"]["resourceVersion"] = json!("7");
            late
        };
        let (kept, late) = (Mutex::new(None::<Value>), Mutex::new(late.map(versioned)));
        Server::plain(1, move |seen: &Seen| {
            let mut kept = kept.lock().unwrap();
            let answer =
                |status: u16, body: &Value| reply(status, body.to_string()).with("content-type", "application/json");
            let failure = |code: u16, reason: &str| {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": reason, "reason": reason, "code": code});
                answer(code, &status)
            };
            match seen.method.as_str() {
                "GET" if seen.target.contains("/imagemakers") => {
                    let found = kept.clone();
                    if let Some(late) = late.lock().unwrap().take() {
                        *kept = Some(late);
                    }
                    found.map_or_else(|| failure(404, "NotFound"), |found| answer(200, &found))
                }
                "GET" => answer(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []})),
                "POST" if kept.is_some() => failure(409, "AlreadyExists"),
                _ => {
                    let mut new: Value = serde_json::from_str(&seen.body).unwrap();
                    let same = |one: &Value| one.pointer("/metadata/resourceVersion").cloned();
                    let there = kept.as_ref().and_then(same);
                    if same(&new).is_some() && same(&new) != there {
                        return failure(409, "Conflict");
                    }
                    new["metadata"]["resourceVersion"] = json!("8");
                    *kept = Some(new.clone());
                    answer(201, &new)
                }
            }
        })
    }

    /// The entries' paths in what was written last.
    fn applied_to(server: &Server) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", server.host())}}]});
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let connection = ConnectionArguments { kubeconfig: Some(kubeconfig), context: None };
        let cluster = ClusterArguments { connection, own_namespace: "ns".to_owned() };
        let arguments = EntryArguments { apply: true, policy_name: "imagemakers".to_owned(), cluster };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(apply_entries(&[ours("r.local")], &arguments)).unwrap();
        let wrote = server.seen().into_iter().rfind(|seen| seen.method != "GET").unwrap();
        let wrote: Value = serde_json::from_str(&wrote.body).unwrap();
        let entries = wrote.pointer("/spec/registries").unwrap().as_array().unwrap().clone();
        entries.iter().map(|entry| entry["registry"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_policy_that_somebody_makes_at_the_same_time_loses_nothing() {
        let late = policy("imagemakers", &[json!({"registry": "theirs.local", "signCheck": false})]);
        assert_eq!(applied_to(&api_server(Some(late))), ["theirs.local", "r.local"]);
        assert_eq!(applied_to(&api_server(None)), ["r.local"]);
    }

    #[test]
    fn what_others_wrote_stays_and_ours_comes_to_it() {
        let theirs = json!({"registry": "docker.io", "signCheck": false});
        let edited = json!({"registry": "r.local", "signCheck": false, "gpgKeyRef": "k8s://ns/sigstore-key-a", "action": "Warn"});
        let (list, notes) = merged(&[theirs.clone(), edited], &[ours("r.local"), ours("r.local/x")]).unwrap();
        let [kept, back] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(kept.ends_with("the entry for r.local, which stays: action: \"Warn\""), "{kept}");
        assert!(back.ends_with("the entry for r.local, which is put back: signCheck: true"), "{back}");
        assert_eq!(list.len(), 3);
        assert_eq!(list[0], theirs);
        assert_eq!((list[1]["signCheck"].as_bool(), list[1]["action"].as_str()), (Some(true), Some("Warn")));
        assert_eq!(list[2], Value::Object(ours("r.local/x")));
        assert_eq!(merged(&list, &[ours("r.local"), ours("r.local/x")]).unwrap().0, list, "again changes nothing");
    }

    #[test]
    fn an_entry_of_somebody_elses_for_the_same_path_is_not_overwritten() {
        for other in [
            json!({"registry": "r.local/*", "signCheck": true, "gpgKeyRef": "k8s://ns/other"}),
            json!({"registry": "r.local/", "signCheck": false}),
            json!({"registry": "https://r.local", "signCheck": false}),
            json!({"registry": "R.Local", "signCheck": false}),
            json!({"registry": "r.local", "signCheck": false}),
            json!({"registry": "r.local", "signCheck": true, "gpgKeyRef": "k8s://ns/other"}),
        ] {
            let why = merged(&[other], &[ours("r.local")]).unwrap_err();
            assert!(why.contains("an entry for r.local that asks for something else"), "{why}");
            assert!(why.contains("not touched"), "{why}");
        }
        // Ours in another spelling is ours, and is not doubled.
        let mut spelled = ours("r.local");
        spelled.insert("registry".to_owned(), json!("https://R.local/*"));
        let (list, notes) = merged(&[Value::Object(spelled.clone())], &[ours("r.local")]).unwrap();
        assert_eq!((list, notes), (vec![Value::Object(ours("r.local"))], vec![]));
        // One that was doubled by hand is spoken of.
        let twice = [Value::Object(ours("r.local")), Value::Object(spelled)];
        let (list, notes) = merged(&twice, &[ours("r.local")]).unwrap();
        assert_eq!(list, twice);
        assert!(notes[0].contains("2 entries for r.local ask for the same key"), "{notes:?}");
    }
}
