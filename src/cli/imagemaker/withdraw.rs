//! The entry of a maker that is removed, out of the cluster's policy.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::Failure;
use super::entries::{FIELD_MANAGER, KIND, TRIES, entry, found, in_time, policies, policy, scope};
use crate::cli::args::imagemaker::EntryArguments;
use crate::cli::output::{complain, print};
use crate::cluster::describe;
use crate::signing::makers::Maker;

/// Takes a maker's entry out of the policy of the cluster, if it is ours; what else asks for its key is named.
pub(super) fn withdraw(maker: &Maker, arguments: &EntryArguments) -> Result<(), Failure> {
    let (name, entry) = (&arguments.policy_name, entry(maker, &arguments.cluster.own_namespace));
    in_time(async {
        let api = policies(arguments).await?;
        take_out(&api, name, &entry).await?;
        still_named(&api, &entry).await;
        Ok(())
    })?
    .map_err(|why| Failure::Failed(format!("the maker is removed, its entry in the policy {name} is not: {why}")))
}

async fn take_out(api: &Api<DynamicObject>, name: &str, ours: &Map<String, Value>) -> Result<(), String> {
    for _ in 0..TRIES {
        let live = api.get_opt(name).await.map_err(|e| describe(&e))?;
        let there = live.as_ref().and_then(|live| live.data.pointer("/spec/registries")).and_then(Value::as_array);
        let (rest, gone) = without(there.map_or(&[], Vec::as_slice), ours);
        if gone == 0 {
            print(&format!("{KIND} {name} has no entry of the maker\n"));
            return Ok(());
        }
        if rest.is_empty() {
            return Err(format!("it would be empty: kubectl delete crsp {name}"));
        }
        let mut object = policy(name, &rest);
        // The list is one value to the API server: it must still be the one that was read.
        object["metadata"]["resourceVersion"] = json!(live.and_then(|live| live.metadata.resource_version));
        match api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await {
            Ok(_) => {
                print(&format!("{KIND} {name} changed: the maker's entry is taken out, {} stay\n", rest.len()));
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(describe(&error)),
        }
    }
    Err("somebody else goes on changing it".to_owned())
}

/// The entries without the maker's, however its path is written, and how many those were. What asks for something else for
/// the same path is somebody else's.
fn without(there: &[Value], ours: &Map<String, Value>) -> (Vec<Value>, usize) {
    let own = scope(&Value::Object(ours.clone()));
    let is_ours = |entry: &&Value| scope(entry) == own && entry.get("gpgKeyRef") == ours.get("gpgKeyRef");
    let rest: Vec<_> = there.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    let gone = there.len() - rest.len();
    (rest, gone)
}

/// Entries of any cluster policy that still ask for the key file of a maker that is gone.
async fn still_named(api: &Api<DynamicObject>, ours: &Map<String, Value>) {
    let reference = ours.get("gpgKeyRef");
    let asks = |entry: &Value| reference.is_some() && entry.get("gpgKeyRef") == reference;
    for (other, registry) in found(api, asks).await {
        complain(&format!(
            "note: the policy {other} still asks for the maker's key, for {registry}: take that entry out"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_out_however_its_path_is_written_and_nobody_elses() {
        let ours = json!({"registry": "r.local", "signCheck": true, "gpgKeyRef": "k8s://ns/sigstore-key-a"});
        let ours = ours.as_object().unwrap();
        let (key, other) = ("k8s://ns/sigstore-key-a", "k8s://ns/sigstore-key-b");
        let there = [
            json!({"registry": "https://R.local/*", "signCheck": true, "gpgKeyRef": key, "action": "Warn"}),
            json!({"registry": "r.local", "signCheck": true, "gpgKeyRef": other}),
            json!({"registry": "r.local", "signCheck": false}),
            json!({"registry": "r.local/x", "signCheck": true, "gpgKeyRef": key}),
        ];
        assert_eq!(without(&there, ours), (there[1..].to_vec(), 1));
        assert_eq!(without(&there[1..], ours), (there[1..].to_vec(), 0));
    }
}
