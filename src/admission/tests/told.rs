//! Which denials are told by Events, and about what.

use serde_json::{Value, json};

use super::{BAD, Desk, GOOD, away, but, desk, desk_with, pod_of, review};
use crate::admission::Templates;
use crate::cluster::denials::{Denials, Kept};

fn listening(desk: Desk) -> (Desk, Kept) {
    let (denials, kept) = Denials::kept();
    (Desk { admission: desk.admission.with_denials(denials), ..desk }, kept)
}

fn owned(review: &Value, owners: Value) -> Value {
    but(review, "/request/object/metadata/ownerReferences", owners)
}

#[tokio::test]
async fn a_denial_is_told_about_the_controller_or_the_namespace() {
    let (desk, mut kept) = listening(desk());
    let owners = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d8", "uid": "2", "controller": true},
    ]);
    desk.denies(&owned(&pod_of(&[BAD]), owners), BAD).await;
    let (about, saying) = kept.next().unwrap();
    assert_eq!(
        [about.namespace, about.api_version, about.kind, about.name, about.uid],
        ["team", "apps/v1", "ReplicaSet", "web-6d8", "2"]
    );
    assert_eq!(saying.reason, "ImageDenied");
    assert!(saying.note.starts_with(&format!("Pod was denied: Image '{BAD}' cannot be checked")), "{}", saying.note);

    desk.denies(&pod_of(&[&away()]), "away").await;
    let (about, saying) = kept.next().unwrap();
    assert_eq!([about.kind, about.name], ["Namespace", "team"]);
    assert_eq!(saying.reason, "ImageUndecided");
    assert!(saying.note.starts_with("Pod reviewed was denied: "), "{}", saying.note);
    assert!(kept.next().is_none());
}

#[tokio::test]
async fn nothing_is_told_of_allowances_dry_runs_and_exempt_namespaces() {
    let (desk, mut kept) = listening(desk());
    desk.allows(&pod_of(&[GOOD])).await;
    desk.denies(&but(&pod_of(&[BAD]), "/request/dryRun", true.into()), BAD).await;
    let strange = but(&pod_of(&[BAD]), "/request/operation", "PATCH".into());
    desk.denies(&but(&strange, "/request/namespace", "kube-system".into()), "operation").await;
    desk.denies(&but(&strange, "/request/namespace", Value::Null), "operation").await;
    assert!(kept.next().is_none());
    desk.denies(&strange, "operation").await;
    assert_eq!(kept.next().unwrap().0.name, "team");
}

#[tokio::test]
async fn templates_are_told_of_when_they_are_denied_and_not_when_they_only_warn() {
    let template = json!({"metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": BAD}]}}}});
    let deployment = review("apps", "Deployment", &template);
    let (desk, mut kept) = listening(desk());
    desk.denies(&deployment, BAD).await;
    assert!(kept.next().unwrap().1.note.starts_with("Deployment reviewed was denied: "));
    let (desk, mut kept) = listening(desk_with(Templates::Warn));
    desk.allows(&deployment).await;
    assert!(kept.next().is_none());
}

#[tokio::test]
async fn owners_of_any_form_change_no_verdict() {
    let (desk, _kept) = listening(desk());
    for owners in [json!(null), json!([]), json!([{}]), json!([{"controller": true}])] {
        desk.allows(&owned(&pod_of(&[GOOD]), owners.clone())).await;
        desk.denies(&owned(&pod_of(&[BAD]), owners), BAD).await;
    }
}
