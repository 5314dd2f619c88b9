//! What is recorded in the cluster, and what is taken away.

use super::world::{MAKER, Scripted, World, condition, json, records};
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::podseal_with;
use crate::support::tools::Ran;

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    what_verifies_is_recorded_with_signer_and_conditions,
    a_wrong_key_or_name_takes_the_records_away_and_leaves_the_store,
    a_dry_run_changes_nothing,
    h11_nothing_is_removed_when_the_store_does_not_answer,
    another_makers_record_stays_as_it_is,
    auditors_at_the_same_time_leave_one_whole_record,
    a_recorded_signature_verifies_without_a_store,
    the_definition_holds_what_it_says,
    a_registry_that_lies_about_a_digest_takes_nothing_away,
    a_record_of_another_repository_is_neither_stamped_nor_removed,
    who_takes_the_name_of_a_record_prevents_nothing,
    strangers_records_do_not_stop_an_auditor,
    without_the_right_nothing_is_recorded,
}

fn true_of(record: &serde_json::Value, type_: &str) -> bool {
    condition(record, type_).0 == "True"
}

fn what_verifies_is_recorded_with_signer_and_conditions() {
    let world = World::shared();
    let image = world.signed("recorded");
    let ran = world.save(User::Admin, &image, &[]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "create", "{ran}");
    let [record] = &records(&image)[..] else { panic!("{:?}", records(&image)) };
    let name = record["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with(&format!("sha256-{}-", image.hex())) && name.len() == 7 + 64 + 1 + 32, "{name}");
    assert!(true_of(record, "Verified") && true_of(record, "Trusted"), "{record}");
    let status = &record["status"];
    assert_eq!(status["signer"]["fingerprint"], world.maker.fingerprint.as_str());
    assert_eq!(status["signer"]["userIDs"][0], format!("Maker <{MAKER}>"));
    assert_eq!(status["identity"], image.tagged());
    assert_eq!(status["verifiedBy"], "admin");
    assert_eq!(record["spec"]["store"], world.store.url.as_str());
    // Once more: the same record, verified again, and its conditions as old as before.
    let ran = world.save(User::Admin, &image, &[]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "update", "{ran}");
    let [again] = &records(&image)[..] else { panic!("one record") };
    assert_eq!(again["status"]["conditions"], record["status"]["conditions"]);
    // People can read it.
    let table = Cluster::shared().kubectl(&["get", "imgsig", name]).succeeded().stdout;
    let heading: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "IMAGE", "IDENTITY", "SIGNER", "VERIFIED", "TRUSTED", "AGE"]);
    assert!(table.contains(MAKER) && table.contains(&image.tagged()), "{table}");
    let explained = Cluster::shared().kubectl(&["explain", "imagesignature.status.signer"]).succeeded().stdout;
    assert!(explained.contains("Fingerprint of the primary key"), "{explained}");
}

fn a_wrong_key_or_name_takes_the_records_away_and_leaves_the_store() {
    let world = World::shared();
    let (image, bystander) = (world.signed("withdrawn"), world.signed("bystander"));
    world.save(User::Admin, &bystander, &[]).succeeded();
    let in_store = std::fs::read(world.store.file(&image, 1)).unwrap();
    let wrong: [(&std::path::Path, String); 2] =
        [(&world.other_file, image.tagged()), (&world.maker_file, format!("{}2", image.tagged()))];
    for (key, name) in wrong {
        world.save(User::Admin, &image, &[]).succeeded();
        assert_eq!(records(&image).len(), 1);
        let ran = world.save_by(User::Admin, key, &name, &image, &[]);
        assert_eq!((ran.code, &json(&ran)["records"][0]["action"]), (Some(1), &"remove".into()), "{ran}");
        assert_eq!(records(&image), [] as [serde_json::Value; 0]);
    }
    assert_eq!(records(&bystander).len(), 1, "other images' records stay");
    assert_eq!(std::fs::read(world.store.file(&image, 1)).unwrap(), in_store, "the store is not touched");
}

fn a_dry_run_changes_nothing() {
    let world = World::shared();
    let image = world.signed("dry");
    let ran = world.save(User::Admin, &image, &["--dry-run"]).succeeded();
    assert_eq!((&json(&ran)["dryRun"], records(&image).len()), (&true.into(), 0), "{ran}");
    world.save(User::Admin, &image, &[]).succeeded();
    let before = records(&image);
    let ran = world.save_by(User::Admin, &world.other_file, &image.tagged(), &image, &["--dry-run"]);
    assert_eq!((ran.code, &json(&ran)["records"][0]["action"]), (Some(1), &"remove".into()), "{ran}");
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let more = ["--save", "--dry-run", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let key = ["--public-key", world.other_file.to_str().unwrap()];
    let table = world.verify(&image.pinned(), &image.tagged(), &[&more[..], &key].concat());
    assert!(table.stdout.contains("would remove imagesignature sha256-"), "{table}");
    assert_eq!(records(&image), before);
}

fn h11_nothing_is_removed_when_the_store_does_not_answer() {
    let world = World::shared();
    let image = world.signed("kept");
    world.save(User::Admin, &image, &[]).succeeded();
    let before = records(&image);
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let away = |store: &str, key: &std::path::Path| -> Ran {
        let args = ["verify", &image.pinned(), "--expected-identity", &image.tagged(), "--lookaside", store, "--save"];
        let more = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--public-key", key.to_str().unwrap()];
        podseal_with(&[&args[..], &more, &["--timeout", "20s"]].concat(), &[("HOME", "/nonexistent")], b"")
    };
    for key in [&world.maker_file, &world.other_file] {
        assert_eq!(away("http://127.0.0.1:1/", key).code, Some(2));
        assert_eq!(records(&image), before);
    }
    // Nor without a single key, nor when the expected name can be nobody's.
    let empty = crate::support::scratch::folder("empty").join("keys.pgp");
    std::fs::write(&empty, b"").unwrap();
    assert_eq!(world.save_by(User::Admin, &empty, &image.tagged(), &image, &[]).code, Some(2));
    let other = format!("{}/{}@sha256:{}", image.host, image.repository, "0".repeat(64));
    assert_eq!(world.save_by(User::Admin, &world.maker_file, &other, &image, &[]).code, Some(64));
    assert_eq!(records(&image), before);
    // An empty store is an answer: but what is recorded still verifies by itself.
    let empty = crate::support::scratch::folder("empty-store");
    let store = format!("file://{}/", empty.display());
    assert_eq!(away(&store, &world.maker_file).code, Some(0));
    assert_eq!(away(&store, &world.other_file).code, Some(1));
    assert_eq!(records(&image).len(), 0);
}

fn another_makers_record_stays_as_it_is() {
    let world = World::shared();
    let image = world.signed("two-makers");
    world.sign(&image, &world.other);
    world.save_by(User::Admin, &world.other_file, &image.tagged(), &image, &[]).succeeded();
    let [theirs] = &records(&image)[..] else { panic!("one record") };
    world.save(User::Admin, &image, &[]).succeeded();
    let all = records(&image);
    assert_eq!(all.len(), 2);
    assert!(all.contains(theirs) && all.iter().all(|record| true_of(record, "Trusted")));
}

fn auditors_at_the_same_time_leave_one_whole_record() {
    let world = World::shared();
    let image = world.signed("contended");
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let auditors: Vec<_> = (0..6).map(|_| scope.spawn(|| world.save(User::Admin, &image, &[]))).collect();
        auditors.into_iter().map(|auditor| auditor.join().unwrap()).collect()
    });
    // Whoever was late says so, and has changed nothing.
    for one in &ran {
        let late = one.code == Some(2) && one.stdout.contains("was changed by somebody else meanwhile");
        assert!(one.ok() || late, "{one}");
    }
    assert!(ran.iter().any(Ran::ok), "{ran:?}");
    let [record] = &records(&image)[..] else { panic!("one record") };
    assert!(true_of(record, "Verified") && true_of(record, "Trusted"), "{record}");
}

fn a_recorded_signature_verifies_without_a_store() {
    let world = World::shared();
    let image = world.signed("recorded-only");
    world.save(User::Admin, &image, &[]).succeeded();
    let [record] = &records(&image)[..] else { panic!("one record") };
    let name = record["metadata"]["name"].as_str().unwrap();
    // Somebody takes back what was found out; the signature is still there.
    Cluster::shared()
        .kubectl(&["patch", "imgsig", name, "--subresource=status", "--type=merge", "-p", r#"{"status": null}"#])
        .succeeded();
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let empty = crate::support::scratch::folder("registries.d");
    let args = ["verify", &image.digest, "--expected-identity", &image.tagged(), "--save", "--insecure"];
    let more = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--registries-d", empty.to_str().unwrap()];
    let key = ["--public-key", world.maker_file.to_str().unwrap()];
    let ran = podseal_with(&[&args[..], &more, &key].concat(), &[("HOME", "/nonexistent")], b"").succeeded();
    assert!(ran.stdout.contains("recorded as imagesignature"), "{ran}");
    assert!(ran.stderr.contains("what is recorded in the cluster is looked at"), "{ran}");
    assert!(true_of(&records(&image)[0], "Verified"));
}

fn the_definition_holds_what_it_says() {
    let world = World::shared();
    let image = world.signed("definition");
    world.save(User::Admin, &image, &[]).succeeded();
    let cluster = Cluster::shared();
    let record = &records(&image)[0];
    let name = record["metadata"]["name"].as_str().unwrap();
    for patch in [r#"{"spec": {"reference": "registry.local/x"}}"#, r#"{"spec": {"content": "AAAA"}}"#] {
        let ran = cluster.kubectl(&["patch", "imgsig", name, "--type=merge", "-p", patch]).failed();
        assert!(ran.stderr.contains("spec cannot be changed"), "{ran}");
    }
    let mut other = record.clone();
    other["metadata"] = serde_json::json!({"name": name});
    other.as_object_mut().unwrap().remove("status");
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut object = other.clone();
        change(&mut object);
        cluster.kubectl_as(User::Admin, &["create", "-f", "-"], &object.to_string()).failed()
    };
    let foreign = format!("sha256-{}-{}", "0".repeat(64), "0".repeat(32));
    let ran = with(&|object| object["metadata"]["name"] = foreign.as_str().into());
    assert!(ran.stderr.contains("the name must be sha256-HEX-NAME"), "{ran}");
    let free = format!("sha256-{}-{}", image.hex(), "2".repeat(32));
    for (field, value) in [
        ("reference", "registry.local/x\nsha256-0 forged"),
        ("reference", "registry.local/x y"),
        ("reference", "Registry.local/x"),
        ("reference", "registry.local"),
        ("store", "http://s.local/ forged"),
        ("store", "javascript:1"),
    ] {
        let ran = with(&|object| {
            object["metadata"]["name"] = free.as_str().into();
            object["spec"][field] = value.into();
        });
        assert!(ran.stderr.contains(&format!("spec.{field}")), "{ran}");
    }
    let short = format!("sha256-{}-x", image.hex());
    assert!(with(&|object| object["metadata"]["name"] = short.as_str().into()).stderr.contains("the name must be"));
    let fresh = format!("sha256-{}-{}", image.hex(), "1".repeat(32));
    let large = "AAAA".repeat(22_000);
    let ran = with(&|object| {
        object["metadata"]["name"] = fresh.as_str().into();
        object["spec"]["content"] = large.as_str().into();
    });
    assert!(ran.stderr.contains("spec.content") && ran.stderr.contains("may not be more than 87384"), "{ran}");
}

/// A record as an image signer could make it, without a status.
pub(super) fn made_by_hand(
    name: &str,
    image: &crate::support::registry::Image,
    reference: &str,
    blob: &[u8],
) -> serde_json::Value {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(blob);
    serde_json::json!({
        "apiVersion": "podseal.io/v1alpha1", "kind": "ImageSignature", "metadata": {"name": name},
        "spec": {"image": image.digest, "reference": reference, "type": "SimpleSigning", "content": content},
    })
}

pub(super) fn create(objects: &[serde_json::Value]) {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    Cluster::shared().kubectl_as(User::Admin, &["create", "-f", "-"], &list).succeeded();
}

fn a_registry_that_lies_about_a_digest_takes_nothing_away() {
    let world = World::shared();
    let victim = world.signed("victim");
    world.save(User::Admin, &victim, &[]).succeeded();
    let before = records(&victim);
    let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
    let locations = format!(
        "location = /v2/ {{ return 200; }}\nlocation /v2/evil/app/manifests/ {{ \
         default_type application/vnd.oci.image.manifest.v1+json; add_header Docker-Content-Digest {}; \
         return 200 '{manifest}'; }}",
        victim.digest
    );
    let evil = Scripted::start(&crate::support::scratch::folder("lying"), &locations);
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let (keys, name) = (world.maker_file.to_str().unwrap(), format!("{}/evil/app:1", evil.host));
    let more = ["--save", "--kubeconfig", kubeconfig.to_str().unwrap(), "--public-key", keys, "-o", "json"];
    let ran = world.verify(&name, &name, &more);
    assert!(ran.code == Some(2) && ran.stderr.contains("has another digest"), "{ran}");
    assert_eq!(records(&victim), before);
    // And a repository that really has the image, unsigned, is another one.
    let other = format!("{}/evil/app:1", evil.host);
    let ran = world.verify(&victim.digest, &other, &more);
    let step = &json(&ran)["records"][0];
    assert_eq!((ran.code, &step["action"]), (Some(1), &"leave".into()), "{ran}");
    assert_eq!(step["repository"], format!("{}/{}", victim.host, victim.repository), "{ran}");
    assert_eq!(step["identity"], victim.tagged(), "{ran}");
    let ran = world.verify(&victim.digest, &other, &more[..5]);
    assert!(
        ran.stdout.contains("left alone: imagesignature sha256-") && ran.stdout.contains(", of repository "),
        "{ran}"
    );
    assert_eq!(records(&victim), before);
}

fn a_record_of_another_repository_is_neither_stamped_nor_removed() {
    let world = World::shared();
    let image = world.signed("forged-reference");
    let blob = std::fs::read(world.store.file(&image, 1)).unwrap();
    let name = format!("sha256-{}-{}", image.hex(), "0".repeat(32));
    create(&[made_by_hand(&name, &image, "0evil.example.com/a", &blob)]);
    let ran = world.save(User::Admin, &image, &[]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "create", "{ran}");
    let all = records(&image);
    assert_eq!(all.len(), 2);
    for record in &all {
        let own = record["spec"]["reference"] == format!("{}/{}", image.host, image.repository);
        assert_eq!((true_of(record, "Trusted"), record.get("status").is_some()), (own, own), "{record}");
    }
    world.save_by(User::Admin, &world.other_file, &image.tagged(), &image, &[]);
    let [left] = &records(&image)[..] else { panic!("one record") };
    assert_eq!(left["metadata"]["name"], name);
}

fn who_takes_the_name_of_a_record_prevents_nothing() {
    let world = World::shared();
    let image = world.signed("squatted");
    world.save(User::Admin, &image, &[]).succeeded();
    let name = records(&image)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    Cluster::shared().kubectl(&["delete", "imgsig", &name]).succeeded();
    create(&[made_by_hand(&name, &image, "registry.local/elsewhere", b"squatter")]);
    let ran = world.save(User::Admin, &image, &["--dry-run"]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "replace", "{ran}");
    world.save(User::Admin, &image, &[]).succeeded();
    let [record] = &records(&image)[..] else { panic!("one record") };
    assert!(record["metadata"]["name"] == name.as_str() && true_of(record, "Trusted"), "{record}");
}

fn strangers_records_do_not_stop_an_auditor() {
    let world = World::shared();
    let image = world.signed("flooded");
    world.save(User::Admin, &image, &[]).succeeded();
    let flood = |n: usize| {
        let name = format!("sha256-{}-{n:032}", image.hex());
        made_by_hand(&name, &image, "registry.local/flood", n.to_string().as_bytes())
    };
    let flood: Vec<_> = (0..260).map(flood).collect();
    create(&flood);
    let ran = world.save(User::Admin, &image, &[]).succeeded();
    assert_eq!(json(&ran)["records"][0]["action"], "update", "{ran}");
    assert!(ran.stderr.contains("than are looked at: delete some"), "{ran}");
    let ran = world.save_by(User::Admin, &world.other_file, &image.tagged(), &image, &[]);
    assert_eq!((ran.code, &json(&ran)["records"][0]["action"]), (Some(1), &"remove".into()));
    assert_eq!(records(&image).len(), 260);
}

fn without_the_right_nothing_is_recorded() {
    let world = World::shared();
    let image = world.signed("no-right");
    let ran = world.save(User::Alice, &image, &[]);
    assert!(
        ran.code == Some(2) && ran.stderr.contains("cannot list imagesignatures") && ran.stdout.is_empty(),
        "{ran}"
    );
    assert_eq!(records(&image).len(), 0);
}
