//! Signatures of images in use become records that nobody has verified.

use std::time::Duration;

use serde_json::Value;

use super::world::{Part, World, soon};
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::podseal_with;
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::signer::{Gpg, GpgKey, KeySpec, Payload};
use crate::support::store::{Store, registries_d};

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    signatures_of_images_in_use_are_imported_and_go_when_they_are_not,
    a_name_that_a_running_pod_was_given_later_makes_no_record,
    what_a_finalizer_holds_is_neither_counted_nor_in_the_way,
    a_record_that_the_cluster_refuses_keeps_no_other_from_being_made,
    a_hostile_store_fills_nothing,
    g5_a_policy_of_a_namespace_sends_the_import_nowhere,
    without_the_definition_the_import_says_so_and_the_rest_goes_on,
}

/// Everything that is imported from, with a cluster of its own: what is in use must be known.
struct Site {
    cluster: Cluster,
    registry: Registry,
    store: Store,
    gpg: Gpg,
    maker: GpgKey,
}

impl Site {
    fn new() -> Self {
        let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
        let maker = gpg.generate(&KeySpec::new("Maker <maker@registry.local>"));
        Self { cluster: Cluster::start(), registry, store, gpg, maker }
    }

    fn signature(&self, image: &Image, name: &str) -> Vec<u8> {
        self.gpg.sign(&self.maker, &Payload::new(&image.digest, name).bytes())
    }

    fn signed(&self, name: &str) -> Image {
        let image = self.registry.push(name);
        self.store.put(&image, 1, &self.signature(&image, &image.tagged()));
        image
    }

    /// A Pod of the image, which its node says it has pulled.
    fn run(&self, namespace: &str, pod: &str, image: &Image, by_tag: bool) {
        let name = if by_tag { image.tagged() } else { image.pinned() };
        self.wanted(namespace, pod, &name);
        let status = serde_json::json!({"status": {"containerStatuses": [{
            "name": pod, "image": name, "imageID": image.pinned(), "ready": true, "restartCount": 0,
        }]}});
        let patch = ["patch", "pod", pod, "--subresource=status", "--type=merge", "-p", &status.to_string()];
        self.cluster.kubectl(&[&["-n", namespace][..], &patch].concat()).succeeded();
    }

    /// A Pod of an image that no node has.
    fn wanted(&self, namespace: &str, pod: &str, name: &str) {
        self.cluster.kubectl(&["-n", namespace, "run", pod, &format!("--image={name}")]).succeeded();
    }

    fn records(&self) -> Vec<Value> {
        let ran = self.cluster.kubectl(&["get", "imagesignatures", "-o", "json"]).succeeded();
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["items"].as_array().unwrap().clone()
    }

    fn of(&self, image: &Image) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["spec"]["image"] == image.digest.as_str()).collect()
    }

    fn importer(&self, world: &World<'_>, name: &str, more: &[&str]) -> Part {
        let stores = registries_d(&[(&self.registry.host, &self.store.url)]);
        let args = ["--import-signatures", "--import-interval", "1s", "--registries-d", stores.to_str().unwrap()];
        world.bare_controller(name, &[&args[..], more].concat())
    }
}

fn ends(part: &Part) {
    part.process.signal("TERM");
    assert!(part.process.ended_within(Duration::from_secs(10)).is_some());
}

fn signatures_of_images_in_use_are_imported_and_go_when_they_are_not() {
    let site = Site::new();
    let world = World::new(&site.cluster, "import");
    let (tagged, pinned, audited) =
        (site.signed("use/tagged:1"), site.signed("use/pinned:1"), site.signed("use/audited:1"));
    let (unused, unsigned) = (site.signed("use/unused:1"), site.registry.push("use/unsigned:1"));
    for (pod, image, by_tag) in [("tagged", &tagged, true), ("pinned", &pinned, false), ("audited", &audited, false)] {
        site.run("default", pod, image, by_tag);
    }
    site.run("default", "unsigned", &unsigned, false);
    // A name that nobody could pull the image under makes no record of its signature.
    site.wanted("default", "named", &format!("0evil.example.com/use/unused@{}", unused.digest));
    let part = site.importer(&world, "importer", &[]);
    soon("three are imported", || (site.records().len() == 3).then_some(()));
    for image in [&tagged, &pinned, &audited] {
        let [record] = &site.of(image)[..] else { panic!("one record") };
        assert_eq!(record["metadata"]["labels"]["podseal.io/imported"], "true");
        assert_eq!(record["spec"]["reference"], format!("{}/{}", image.host, image.repository));
        assert!(record.get("status").is_none(), "{record}");
    }
    assert!(site.of(&unused).is_empty() && site.of(&unsigned).is_empty());
    assert_eq!(part.metric("podseal_imported_signatures_total"), Some(3.0));
    soon("it is counted", || (part.metric("podseal_image_signatures") == Some(3.0)).then_some(()));
    assert_eq!(part.metric("podseal_images_in_use"), Some(4.0));

    // An auditor verifies one of them; from then on it is not podseal's any more.
    let (kubeconfig, keys) = (site.cluster.kubeconfig(User::Admin), site.gpg.export_file(&[&site.maker]));
    let args = ["verify", &audited.digest, "--expected-identity", &audited.tagged(), "--save", "--insecure"];
    let more = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--public-key", keys.to_str().unwrap()];
    let there = ["--lookaside", &site.store.url];
    podseal_with(&[&args[..], &more, &there].concat(), &[], b"").succeeded();
    let verified = site.of(&audited);
    assert_eq!(verified[0]["status"]["conditions"][0]["status"], "True");
    let left = site.cluster.kubectl(&["get", "imgsig", "-l", "podseal.io/imported=true", "-o", "name"]).succeeded();
    assert_eq!(left.stdout.lines().count(), 2, "what is left to verify: {left}");
    // A second signature is imported, too, and a store that is away takes nothing away.
    site.store.put(&tagged, 2, &site.signature(&tagged, "registry.local/other:1"));
    soon("the second one is imported", || (site.of(&tagged).len() == 2).then_some(()));
    ends(&part);
    for pod in ["tagged", "audited"] {
        site.cluster.kubectl(&["delete", "pod", pod, "--force", "--grace-period=0"]).succeeded();
    }
    let patient = site.importer(&world, "patient", &[]);
    soon("it has looked", || (patient.metric("podseal_images_in_use") == Some(2.0)).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.records().len(), 4, "what is unused stays for a day");
    ends(&patient);
    let impatient = site.importer(&world, "impatient", &["--import-keep", "1s"]);
    soon("what is unused goes", || site.of(&tagged).is_empty().then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.of(&audited), verified, "what was verified stays as it is");
    assert_eq!(site.of(&pinned).len(), 1, "what is used stays");
    assert_eq!(impatient.metric("podseal_imported_signatures_removed_total"), Some(2.0));
}

fn a_name_that_a_running_pod_was_given_later_makes_no_record() {
    let site = Site::new();
    let world = World::new(&site.cluster, "renamed");
    let (image, victim) = (site.signed("renamed/image:1"), site.signed("renamed/victim:1"));
    for (pod, running) in [("renamed", &image), ("other", &image), ("moved", &victim)] {
        site.run("default", pod, running, false);
    }
    let rename = |pod: &str, name: &str| {
        let change = serde_json::json!({"spec": {"containers": [{"name": pod, "image": name}]}}).to_string();
        site.cluster.kubectl(&["patch", "pod", pod, "-p", &change]).succeeded();
    };
    // Neither another repository with the digest that runs, nor another image of the same repository.
    let elsewhere = Image { repository: "renamed/elsewhere".to_owned(), ..image.clone() };
    site.store.put(&elsewhere, 1, &site.signature(&elsewhere, &elsewhere.tagged()));
    rename("renamed", &elsewhere.pinned());
    let next = site.signed("renamed/victim:2");
    rename("moved", &next.pinned());
    let part = site.importer(&world, "importer", &[]);
    soon("what runs is imported", || (site.of(&image).len() + site.of(&victim).len() == 2).then_some(()));
    soon("it has looked", || (part.metric("podseal_images_in_use") == Some(2.0)).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.of(&image)[0]["spec"]["reference"], format!("{}/renamed/image", image.host));
    assert_eq!(site.records().len(), 2, "{:?}", site.records());
}

fn what_a_finalizer_holds_is_neither_counted_nor_in_the_way() {
    let site = Site::new();
    let world = World::new(&site.cluster, "held");
    let (used, unused) = (site.signed("held/used:1"), site.registry.push("held/unused:1"));
    site.run("default", "used", &used, false);
    // As an image signer could make them.
    let make = |image: &Image, n: usize| {
        let made = serde_json::json!({
            "apiVersion": "podseal.io/v1alpha1", "kind": "ImageSignature",
            "metadata": {
                "name": format!("sha256-{}-{n:032}", image.hex()), "finalizers": ["evil.example.com/hold"],
                "labels": {"podseal.io/imported": "true", "app.kubernetes.io/managed-by": "podseal"},
            },
            "spec": {"image": image.digest, "reference": "registry.local/a", "type": "SimpleSigning", "content": "kAA="},
        });
        site.cluster.kubectl_as(User::Admin, &["create", "-f", "-"], &made.to_string()).succeeded();
    };
    (0..16).for_each(|n| make(&used, n));
    site.cluster.kubectl(&["delete", "imgsig", "--all", "--wait=false"]).succeeded();
    assert_eq!(site.of(&used).len(), 16, "they are held");
    make(&unused, 0);
    let part = site.importer(&world, "importer", &["--import-keep", "1s"]);
    soon("they take no room", || (site.of(&used).len() == 17).then_some(()));
    let going = || site.of(&unused)[0]["metadata"]["deletionTimestamp"].is_string();
    soon("what is unused is deleted", || going().then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.of(&unused).len(), 1, "and held");
    assert!(matches!(part.metric("podseal_imported_signatures_removed_total"), None | Some(0.0)));
    let log = part.process.log();
    assert_eq!(log.matches("are being deleted and still there: finalizers hold them").count(), 1, "{log}");
}

fn a_record_that_the_cluster_refuses_keeps_no_other_from_being_made() {
    let site = Site::new();
    let world = World::new(&site.cluster, "refused");
    let mut images: Vec<_> = (0..4).map(|n| site.signed(&format!("use/image-{n}:1"))).collect();
    // The first one that is asked about.
    images.sort_by(|a, b| a.digest.cmp(&b.digest));
    let (refused, others) = images.split_first().unwrap();
    site.cluster
        .apply(&format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: foreign}}\n\
             spec:\n  failurePolicy: Fail\n  matchConstraints:\n    resourceRules:\n\
             \x20   - {{apiGroups: ['*'], apiVersions: ['*'], resources: [imagesignatures], operations: [CREATE]}}\n\
             \x20 validations:\n  - {{expression: \"object.spec.image != '{}'\", message: foreign}}\n---\n\
             apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n\
             metadata: {{name: foreign}}\nspec: {{policyName: foreign, validationActions: [Deny]}}\n",
            refused.digest
        ))
        .succeeded();
    // It takes the API server a moment.
    std::thread::sleep(Duration::from_secs(5));
    for (n, image) in images.iter().enumerate() {
        site.run("default", &format!("pod-{n}"), image, true);
    }
    let part = site.importer(&world, "importer", &[]);
    soon("the others are imported", || others.iter().all(|image| site.of(image).len() == 1).then_some(()));
    assert!(site.of(refused).is_empty());
    assert!(part.metric("podseal_signature_import_failures_total") >= Some(1.0));
    assert!(part.process.log().contains("a signature was not imported: "), "{}", part.process.log());
}

fn a_hostile_store_fills_nothing() {
    let site = Site::new();
    let world = World::new(&site.cluster, "hostile");
    let (many, odd) = (site.registry.push("hostile/many:1"), site.registry.push("hostile/odd:1"));
    for number in 1..=24 {
        site.store.put(&many, number, &site.signature(&many, &format!("registry.local/{number}:1")));
    }
    site.store.put(&odd, 1, b"<html>");
    site.store.put(&odd, 2, &vec![0x90; 70_000]);
    site.store.put(&odd, 3, &site.signature(&many, &odd.tagged()));
    site.store.put(&odd, 4, &site.gpg.sign(&site.maker, b"no payload"));
    site.store.put(&odd, 5, &site.signature(&odd, &odd.tagged()));
    for (pod, image) in [("many", &many), ("odd", &odd)] {
        site.run("default", pod, image, false);
    }
    let part = site.importer(&world, "importer", &[]);
    soon("there are as many as there may be", || (site.of(&many).len() == 16).then_some(()));
    soon("the good one among the odd ones is there", || (site.of(&odd).len() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.records().len(), 17);
    for (reason, least) in [("too-large", 1.0), ("malformed", 2.0), ("other-image", 1.0)] {
        let series = format!("podseal_signatures_not_imported_total{{reason=\"{reason}\"}}");
        assert!(part.metric(&series) >= Some(least), "{series}");
    }
    // Somebody else's signatures for the same image find no room, and those that there are stay.
    for number in 1..=16 {
        site.store.put(&many, number, &site.signature(&many, &format!("registry.local/again-{number}:1")));
    }
    soon("they are turned away", || {
        (part.metric("podseal_signatures_not_imported_total{reason=\"limit\"}") >= Some(16.0)).then_some(())
    });
    assert_eq!(site.of(&many).len(), 16);
}

fn g5_a_policy_of_a_namespace_sends_the_import_nowhere() {
    let site = Site::new();
    let world = World::new(&site.cluster, "led");
    let (tempting, named) = (Store::start(), Store::start());
    let (here, there) = (site.registry.push("led/here:1"), site.registry.push("led/there:1"));
    tempting.put(&here, 1, &site.signature(&here, &here.tagged()));
    named.put(&there, 1, &site.signature(&there, &there.tagged()));
    let entry = |registry: String, store: &str| {
        format!("{{registry: '{registry}', signCheck: true, gpgKeyRef: k8s://a/b, lookaside: '{store}'}}")
    };
    let policies = format!(
        "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: tempting, namespace: default}}\n\
         spec: {{registries: [{}]}}\n---\n\
         apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {{name: named}}\n\
         spec: {{registries: [{}]}}\n",
        entry(site.registry.host.clone(), &tempting.url),
        entry(format!("{}/led/there", site.registry.host), &named.url),
    );
    site.cluster.apply(&policies).succeeded();
    site.run("default", "here", &here, false);
    site.run("default", "there", &there, false);
    let nothing = scratch::folder("registries.d");
    let args = ["--import-signatures", "--import-interval", "1s", "--registries-d", nothing.to_str().unwrap()];
    let part = world.bare_controller("importer", &args);
    soon("the one of the cluster's policy is imported", || (site.of(&there).len() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((site.records().len(), tempting.requests().len()), (1, 0), "{}", part.process.log());
}

fn without_the_definition_the_import_says_so_and_the_rest_goes_on() {
    let site = Site::new();
    site.cluster.kubectl(&["delete", "crd", "imagesignatures.podseal.io"]).succeeded();
    let world = World::new(&site.cluster, "undefined");
    let part = site.importer(&world, "importer", &[]);
    soon("it is said", || {
        part.process.log().contains("podseal crds imagesignatures | kubectl apply --server-side -f -").then_some(())
    });
    assert!(part.leads() && part.metric("podseal_signature_import_failures_total") >= Some(1.0));
    soon("it is outdated", || {
        (part.metric("podseal_crd_outdated{crd=\"imagesignatures\"}") == Some(1.0)).then_some(())
    });
    // As soon as it is there, so are the records.
    let image = site.signed("use/late:1");
    site.run("default", "late", &image, false);
    assert!(site.cluster.install_crds());
    soon("it is imported", || (site.of(&image).len() == 1).then_some(()));
}
