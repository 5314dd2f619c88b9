//! What exempts, and what only seems to.

use serde_json::{Value, json};

use super::{BAD, Desk, GOOD, but, desk, pod, pod_of, review, update};
use crate::admission::Templates;
use crate::cluster::snapshot::Source;
use crate::verify::testing::Lab;

#[tokio::test]
async fn b1_b2_b3_b4_nothing_that_an_author_writes_exempts() {
    let desk = desk();
    for metadata in [
        json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "u", "controller": true}]}),
        json!({"annotations": {"podseal.io/verified": "true", "kyverno.io/verify-images": "{}"}}),
        json!({"labels": {"app": "image-validation-admission", "podseal.io/skip": "true"}}),
        json!({"namespace": "kube-system"}),
        json!({"annotations": {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file"}}),
    ] {
        desk.denies(&but(&pod_of(&[BAD]), "/request/object/metadata", metadata.clone()), BAD).await;
        desk.allows(&but(&pod_of(&[GOOD]), "/request/object/metadata", metadata)).await;
    }
}

#[tokio::test]
async fn mirror_pods_are_exempt_for_nodes_alone() {
    let desk = desk();
    let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
    let by = |user: Value, review: &Value| but(review, "/request/userInfo", user);
    let node = json!({"username": "system:node:a", "groups": ["system:nodes", "system:authenticated"]});
    let pod = but(&pod_of(&[BAD]), "/request/object/metadata", mirror);
    desk.allows(&by(node.clone(), &pod)).await;
    desk.denies(&by(node, &pod_of(&[BAD])), BAD).await;
    for user in [
        json!({"username": "system:node:a", "groups": ["system:authenticated"]}),
        json!({"username": "alice", "groups": ["system:nodes"]}),
        json!({"username": "system:node:a", "groups": null}),
        json!({"username": null, "groups": ["system:nodes"]}),
        json!({}),
        json!(null),
    ] {
        desk.denies(&by(user, &pod), BAD).await;
    }
}

#[tokio::test]
async fn b5_b6_a_deletion_timestamp_buys_nothing() {
    let desk = desk();
    let dying = json!({"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
    let bad = but(&pod_of(&[BAD]), "/request/object/metadata", dying.clone());
    let good = but(&pod_of(&[GOOD]), "/request/object/metadata", dying);
    desk.denies(&bad, BAD).await;
    desk.allows(&good).await;
    desk.denies(&update(&good, &bad), BAD).await;
    desk.allows(&update(&bad, &good)).await;
}

#[tokio::test]
async fn b7_b8_b10_an_update_that_leaves_the_images_alone_is_allowed() {
    let desk = desk();
    let with = |metadata: Value| but(&pod_of(&[BAD, "not a reference"]), "/request/object/metadata", metadata);
    let old = with(json!({"finalizers": ["example.com/hold"], "deletionTimestamp": "2026-01-01T00:00:00Z"}));
    desk.allows(&update(&old, &with(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})))).await;
    desk.allows(&update(&old, &with(json!({"labels": {"a": "b"}})))).await;
    desk.denies(&old, BAD).await;
    let scale = |replicas: u32| {
        let spec = json!({"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "image": BAD}]}}});
        review("apps", "Deployment", &json!({"spec": spec}))
    };
    desk.allows(&update(&scale(3), &scale(0))).await;
    desk.denies(&scale(0), BAD).await;
}

#[tokio::test]
async fn b9_an_update_is_judged_by_list_name_and_text() {
    let desk = desk();
    let of = |lists: &[(&str, &str, &str)]| {
        let mut spec = json!({"containers": [], "initContainers": [], "volumes": []});
        for (list, name, image) in lists {
            let item = if *list == "volumes" {
                json!({"name": name, "image": {"reference": image}})
            } else {
                json!({"name": name, "image": image})
            };
            spec[list].as_array_mut().unwrap().push(item);
        }
        pod(&spec)
    };
    let (bad, other) = (BAD, "closed.invalid/other:1");
    let old = of(&[
        ("containers", "a", bad),
        ("containers", "b", other),
        ("initContainers", "i", bad),
        ("volumes", "v", bad),
    ]);
    for (change, new) in [
        ("the other order", of(&[("containers", "b", other), ("containers", "a", bad), ("volumes", "v", bad)])),
        ("one repaired", of(&[("containers", "a", GOOD), ("containers", "b", other)])),
    ] {
        let said = desk.ask(&update(&old, &new)).await;
        assert!(said.allowed, "{change}: {said:?}");
    }
    for (change, new) in [
        ("another image", of(&[("containers", "a", other), ("containers", "b", other)])),
        ("swapped", of(&[("containers", "a", other), ("containers", "b", bad)])),
        ("renamed", of(&[("containers", "c", bad)])),
        ("one more", of(&[("containers", "a", bad), ("containers", "c", bad)])),
        ("from another list", of(&[("containers", "i", bad)])),
        ("from a volume", of(&[("containers", "v", bad)])),
        ("into a volume", of(&[("containers", "b", other), ("volumes", "a", bad)])),
        ("another tag", of(&[("containers", "a", "closed.invalid/app:2")])),
    ] {
        let said = desk.ask(&update(&old, &new)).await;
        assert!(!said.allowed, "{change}: {said:?}");
    }
    // Without a name nothing says that it is the same container.
    let nameless = pod(&json!({"containers": [{"image": BAD}]}));
    desk.denies(&update(&nameless, &nameless), BAD).await;
}

#[tokio::test]
async fn b11_an_update_without_a_readable_old_object_is_a_creation() {
    let desk = desk();
    for old in [json!(null), json!({}), json!({"spec": null}), json!({"spec": {"containers": null}})] {
        let changed = |new: &Value| but(&update(&pod_of(&[BAD]), new), "/request/oldObject", old.clone());
        desk.denies(&changed(&pod_of(&[BAD])), BAD).await;
        desk.allows(&changed(&pod_of(&[GOOD]))).await;
    }
    let torn =
        but(&update(&pod_of(&[BAD]), &pod_of(&[BAD])), "/request/oldObject", json!({"spec": {"containers": "c"}}));
    desk.denies(&torn, "cannot be read").await;
    // On CREATE an old object has no business there and excuses nothing.
    let create = but(&update(&pod_of(&[BAD]), &pod_of(&[BAD])), "/request/operation", "CREATE".into());
    desk.denies(&create, BAD).await;
}

#[tokio::test]
async fn b12_deletion_is_never_blocked_and_an_unknown_operation_is() {
    let desk = desk();
    for operation in ["DELETE", "CONNECT"] {
        desk.allows(&but(&pod_of(&[BAD]), "/request/operation", operation.into())).await;
        let bare = but(&but(&pod_of(&[BAD]), "/request/operation", operation.into()), "/request/object", json!(null));
        desk.allows(&bare).await;
        desk.allows(&but(&bare, "/request/kind/kind", "Anything".into())).await;
    }
    for operation in ["", "create", "PATCH", "*"] {
        desk.denies(&but(&pod_of(&[GOOD]), "/request/operation", operation.into()), "operation").await;
    }
}

#[tokio::test]
async fn b13_exemptions_hold_for_creation_and_change_alike() {
    let desk = desk();
    desk.lab.whitelist("listed.invalid/app", "listed");
    let changed = |namespace: &str, image: &str| {
        but(&update(&pod_of(&[GOOD]), &pod_of(&[image])), "/request/namespace", namespace.into())
    };
    let created = |namespace: &str, image: &str| but(&pod_of(&[image]), "/request/namespace", namespace.into());
    for (namespace, image, allowed) in [
        ("kube-system", BAD, true),
        ("registry-system", BAD, true),
        ("listed", BAD, true),
        ("team", "listed.invalid/app:1", true),
        ("team", BAD, false),
        ("team", "listed.invalid/app2:1", false),
    ] {
        for review in [created(namespace, image), changed(namespace, image)] {
            assert_eq!(desk.ask(&review).await.allowed, allowed, "{namespace} {image}");
        }
    }
}

#[tokio::test]
async fn b4_b14_h1_exempt_namespaces_are_exact_names() {
    let desk = desk();
    desk.lab.whitelist("", "listed\r\n  blank  \n");
    for (namespace, allowed) in [
        ("kube-system", true),
        ("registry-system", true),
        ("listed", true),
        ("blank", true),
        ("kube-system-x", false),
        ("x-kube-system", false),
        ("KUBE-SYSTEM", false),
        ("kube-system ", false),
        ("listed2", false),
    ] {
        let review = but(&pod_of(&[BAD]), "/request/namespace", namespace.into());
        assert_eq!(desk.ask(&review).await.allowed, allowed, "{namespace}");
    }
    // The own namespace comes up although nothing is known of policies yet.
    let down = Desk::over(Lab::new(), Templates::Warn);
    down.lab.inputs.set_synced(Source::ClusterPolicies, false);
    down.allows(&but(&pod_of(&[BAD]), "/request/namespace", "registry-system".into())).await;
    down.denies(&pod_of(&[GOOD]), "does not know these objects").await;
}

#[tokio::test]
async fn b15_the_requests_namespace_alone_counts() {
    let desk = desk();
    desk.lab.whitelist("", "listed");
    for namespace in ["listed", "kube-system"] {
        let review = but(&pod_of(&[BAD]), "/request/object/metadata/namespace", namespace.into());
        desk.denies(&review, BAD).await;
        desk.allows(&but(&pod_of(&[BAD]), "/request/namespace", namespace.into())).await;
    }
    for nothing in [json!(null), json!("")] {
        desk.denies(&but(&pod_of(&[GOOD]), "/request/namespace", nothing), "names no namespace").await;
    }
}

#[tokio::test]
async fn b16_a_dry_run_is_judged_alike() {
    let desk = desk();
    for image in [GOOD, BAD] {
        let (wet, dry) = (pod_of(&[image]), but(&pod_of(&[image]), "/request/dryRun", true.into()));
        assert_eq!(desk.ask(&wet).await.json, desk.ask(&dry).await.json);
    }
}

#[tokio::test]
async fn h25_faults_do_not_hold_up_deletion_and_finalizers() {
    let desk = desk();
    for source in [Source::ClusterPolicies, Source::NamespacedPolicies, Source::Whitelist, Source::Keys] {
        desk.lab.inputs.set_synced(source, false);
    }
    desk.denies(&pod_of(&[GOOD]), "does not know these objects").await;
    desk.allows(&but(&pod_of(&[BAD]), "/request/operation", "DELETE".into())).await;
    let held = but(&pod_of(&[BAD]), "/request/object/metadata/finalizers", json!(["example.com/hold"]));
    desk.allows(&update(&held, &pod_of(&[BAD]))).await;
}
