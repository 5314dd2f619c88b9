//! Denied Pods, as people find out about them who never see the answer to a review.

use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::{Cluster, Namespace};
use crate::support::podseal::Podseal;
use crate::support::process::within;

const IMAGE: &str = "unnamed.invalid/web:1";

/// A `ReplicaSet` whose Pods no controller makes, and its uid.
fn replica_set(namespace: &Namespace<'_>, name: &str) -> String {
    let text = format!(
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: c, image: '{IMAGE}'}}]}}\n"
    );
    namespace.apply(&text).succeeded();
    namespace.kubectl(&["get", "rs", name, "-o", "jsonpath={.metadata.uid}"]).succeeded().stdout
}

/// What the controller of a `ReplicaSet` would create.
fn pod(name: &str, uid: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: {name}-\n  labels: {{app: {name}}}\n  ownerReferences:\n  \
         - {{apiVersion: apps/v1, kind: ReplicaSet, name: {name}, uid: {uid}, controller: true, blockOwnerDeletion: true}}\n\
         spec: {{containers: [{{name: c, image: '{IMAGE}'}}]}}\n"
    )
}

fn events(namespace: &Namespace<'_>) -> Vec<Value> {
    let ran = namespace.kubectl(&["get", "events.events.k8s.io", "-o", "json"]).succeeded();
    let list: Value = serde_json::from_str(&ran.stdout).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn the_owner_of_a_denied_pod_says_why_there_is_none() {
    let namespace = Cluster::shared().namespace(Podseal::shared(), "told");
    namespace.policy("none", "[]");
    let uid = replica_set(&namespace, "web");
    let create = |text: &str| namespace.kubectl_as(crate::support::cluster::User::Admin, &["create", "-f", "-"], text);
    let before = events(&namespace).len();
    for _ in 0..5 {
        create(&pod("web", &uid)).failed();
    }
    let told = Cluster::shared()
        .wait_for(&["-n", &namespace.name, "describe", "rs", "web"], |text| text.contains("ImageDenied"));
    assert!(told.contains(IMAGE) && told.contains("no policy names the registry"), "{told}");
    // Five denials are one Event; its count follows.
    let counted = within(Duration::from_secs(60), || {
        let all = events(&namespace);
        let own: Vec<_> = all.iter().filter(|event| event["regarding"]["kind"] == "ReplicaSet").collect();
        assert_eq!(own.len(), 1, "{own:?}");
        (own[0]["series"]["count"] == 5).then(|| own[0].clone())
    });
    let event = counted.expect("the count of denials");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], uid);
    assert!(events(&namespace).len() > before);
}

fn a_denied_pod_without_owner_is_told_of_in_its_namespace_and_a_dry_run_is_not() {
    let namespace = Cluster::shared().namespace(Podseal::shared(), "bare");
    namespace.policy("none", "[]");
    let of = |text: &str| {
        let all = events(&namespace);
        all.iter().filter(|event| event["note"].as_str().is_some_and(|note| note.contains(text))).count()
    };
    namespace.kubectl(&["run", "tried", "--image", IMAGE, "--dry-run=server"]).failed();
    namespace.run("alone", IMAGE).failed();
    assert!(within(Duration::from_secs(30), || (of("Pod alone was denied") == 1).then_some(())).is_some());
    assert_eq!(of("Pod tried"), 0);
    let event = events(&namespace).into_iter().find(|event| event["note"].to_string().contains("alone")).unwrap();
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["name"]),
        (&"Namespace".into(), &namespace.name.as_str().into())
    );
    // An owner that nobody can have written about.
    let odd = pod("web", "1").replace("name: web, uid", "name: '../../../x', uid");
    let ran = namespace.kubectl_as(crate::support::cluster::User::Admin, &["create", "-f", "-"], &odd).failed();
    assert!(ran.stderr.contains("denied") || ran.stderr.contains("Invalid"), "{ran}");
}

crate::tests! {
    needs [Cluster];
    the_owner_of_a_denied_pod_says_why_there_is_none,
    a_denied_pod_without_owner_is_told_of_in_its_namespace_and_a_dry_run_is_not,
}
