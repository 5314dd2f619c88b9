//! Records that somebody else holds: finalizers, owners, and deletions that wait for them.

use std::path::Path;

use serde_json::{Value, json as object};

use super::save::{create, made_by_hand};
use super::world::{World, condition, json, records};
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::podseal_with;
use crate::support::registry::Image;
use crate::support::scratch;

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    nobody_holds_a_record_that_was_verified,
    a_finalizer_keeps_no_record_that_is_withdrawn,
    a_record_that_is_being_deleted_is_made_anew_and_never_verified,
    a_squatter_that_is_being_deleted_prevents_nothing,
    a_record_that_is_being_deleted_is_no_signature,
    what_cannot_be_let_go_of_is_withdrawn_and_not_called_removed,
}

const HELD: &str = r#"{"metadata": {"finalizers": ["evil.example.com/hold", "evil.example.com/too"]}}"#;

fn name_of(record: &Value) -> &str {
    record["metadata"]["name"].as_str().unwrap()
}

fn patch(name: &str, what: &str) {
    Cluster::shared().kubectl(&["patch", "imgsig", name, "--type=merge", "-p", what]).succeeded();
}

/// A verified record with finalizers.
fn held(world: &World, image: &Image) -> Value {
    world.save(User::Admin, image, &[]).succeeded();
    let [record] = &records(image)[..] else { panic!("one record") };
    patch(name_of(record), HELD);
    record.clone()
}

/// The same, whose deletion was asked for.
fn going(world: &World, image: &Image) -> Value {
    let record = held(world, image);
    Cluster::shared().kubectl(&["delete", "imgsig", name_of(&record), "--wait=false"]).succeeded();
    let [left] = &records(image)[..] else { panic!("it is held") };
    assert!(left["metadata"]["deletionTimestamp"].is_string() && condition(left, "Verified").0 == "True", "{left}");
    record
}

fn is_whole(record: &Value) {
    assert_eq!(condition(record, "Trusted").0, "True", "{record}");
    for member in ["finalizers", "ownerReferences", "deletionTimestamp"] {
        assert!(record["metadata"].get(member).is_none(), "{record}");
    }
}

fn nobody_holds_a_record_that_was_verified() {
    let world = World::shared();
    let image = world.signed("owned");
    world.save(User::Admin, &image, &[]).succeeded();
    let name = name_of(&records(&image)[0]).to_owned();
    Cluster::shared().kubectl(&["delete", "imgsig", &name]).succeeded();
    let blob = std::fs::read(world.store.file(&image, 1)).unwrap();
    let mut made = made_by_hand(&name, &image, &format!("{}/{}", image.host, image.repository), &blob);
    made["metadata"]["finalizers"] = object!(["evil.example.com/hold"]);
    // The garbage collector would take away what belongs to nobody.
    made["metadata"]["ownerReferences"] = object!([{
        "apiVersion": "v1", "kind": "Namespace", "name": "absent", "uid": "00000000-0000-0000-0000-000000000000",
    }]);
    made["metadata"]["labels"] = object!({"podseal.io/imported": "true", "mine": "kept"});
    create(&[made]);
    let ran = world.save(User::Admin, &image, &[]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "update", "{ran}");
    let [record] = &records(&image)[..] else { panic!("one record") };
    is_whole(record);
    assert_eq!(record["metadata"]["labels"], object!({"mine": "kept"}));
}

fn a_finalizer_keeps_no_record_that_is_withdrawn() {
    let world = World::shared();
    let image = world.signed("finalized");
    let wrong: [(&Path, String); 2] =
        [(&world.other_file, image.tagged()), (&world.maker_file, format!("{}2", image.tagged()))];
    for (key, name) in wrong {
        for hold in [held, going] {
            hold(world, &image);
            let ran = world.save_by(User::Admin, key, &name, &image, &[]);
            assert_eq!((ran.code, &json(&ran)["records"][0]["action"]), (Some(1), &"remove".into()), "{ran}");
            assert_eq!(records(&image), [] as [Value; 0]);
        }
    }
}

fn a_record_that_is_being_deleted_is_made_anew_and_never_verified() {
    let world = World::shared();
    let image = world.signed("going");
    let before = going(world, &image);
    let ran = world.save(User::Admin, &image, &["--dry-run"]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "renew", "{ran}");
    assert!(records(&image)[0]["metadata"]["deletionTimestamp"].is_string());
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let more = ["--save", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let key = ["--public-key", world.maker_file.to_str().unwrap()];
    let ran = world.verify(&image.pinned(), &image.tagged(), &[&more[..], &key].concat()).succeeded();
    assert!(ran.stdout.contains("renewed imagesignature sha256-"), "{ran}");
    assert!(ran.stdout.contains(": the one of its name was being deleted"), "{ran}");
    let [record] = &records(&image)[..] else { panic!("one record") };
    is_whole(record);
    assert_eq!(name_of(record), name_of(&before));
    assert_ne!(record["metadata"]["uid"], before["metadata"]["uid"]);
}

fn a_squatter_that_is_being_deleted_prevents_nothing() {
    let world = World::shared();
    let image = world.signed("squatted-and-held");
    world.save(User::Admin, &image, &[]).succeeded();
    let name = name_of(&records(&image)[0]).to_owned();
    Cluster::shared().kubectl(&["delete", "imgsig", &name]).succeeded();
    for deleted in [false, true] {
        let mut squatter = made_by_hand(&name, &image, "registry.local/elsewhere", b"squatter");
        squatter["metadata"]["finalizers"] = object!(["evil.example.com/hold"]);
        create(&[squatter]);
        if deleted {
            Cluster::shared().kubectl(&["delete", "imgsig", &name, "--wait=false"]).succeeded();
        }
        let ran = world.save(User::Admin, &image, &[]).succeeded();
        let action = if deleted { "renew" } else { "replace" };
        assert_eq!(json(&ran)["records"][0]["action"], action, "{ran}");
        let [record] = &records(&image)[..] else { panic!("one record") };
        is_whole(record);
        Cluster::shared().kubectl(&["delete", "imgsig", &name]).succeeded();
    }
}

fn a_record_that_is_being_deleted_is_no_signature() {
    let world = World::shared();
    let image = world.signed("going-only");
    going(world, &image);
    let before = records(&image);
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let empty = scratch::folder("registries.d");
    let args = ["verify", &image.digest, "--expected-identity", &image.tagged(), "--save", "--insecure"];
    let more = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--registries-d", empty.to_str().unwrap()];
    let key = ["--public-key", world.maker_file.to_str().unwrap()];
    let ran = podseal_with(&[&args[..], &more, &key].concat(), &[("HOME", "/nonexistent")], b"");
    assert!(ran.code == Some(2) && ran.stderr.contains("no signature store is configured"), "{ran}");
    assert_eq!(records(&image), before);
}

fn what_cannot_be_let_go_of_is_withdrawn_and_not_called_removed() {
    let world = World::shared();
    let image = world.signed("stuck");
    held(world, &image);
    // Somebody with most of an auditor's rights: finalizers are changed by an update.
    let rights = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: half-an-auditor}
rules:
- {apiGroups: [podseal.io], resources: [imagesignatures], verbs: [get, list, create, delete]}
- {apiGroups: [podseal.io], resources: [imagesignatures/status], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: half-an-auditor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: half-an-auditor}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: 'system:node:node-1'}]
";
    Cluster::shared().apply(rights).succeeded();
    let kubeconfig = Cluster::shared().kubeconfig(User::Node);
    let more = ["--save", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let key = ["--public-key", world.other_file.to_str().unwrap()];
    let save = || world.verify(&image.pinned(), &image.tagged(), &[&more[..], &key].concat());
    let ran = save();
    assert!(ran.code == Some(2) && !ran.stdout.contains("removed imagesignature"), "{ran}");
    assert!(ran.stdout.contains("not removed: cannot take finalizers and owners from imagesignature sha256-"), "{ran}");
    let [record] = &records(&image)[..] else { panic!("one record") };
    for type_ in ["Verified", "Trusted"] {
        assert_eq!(condition(record, type_), ("Unknown".to_owned(), "Withdrawn".to_owned()), "{record}");
    }
    assert!(record["status"].get("signer").is_none(), "{record}");
    let ran = world.save_by(User::Admin, &world.other_file, &image.tagged(), &image, &[]);
    assert_eq!((ran.code, records(&image).len()), (Some(1), 0), "{ran}");
}
