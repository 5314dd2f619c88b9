//! The webhook: methods of one Pod, what was seen before, what is remembered by all replicas.

use serde_json::Value;

use crate::support::cluster::{Cluster, OWN_NAMESPACE, WebhookScope};
use crate::support::notary::Notary;
use crate::support::podseal::{Options, Podseal};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::review::Review;
use crate::support::signer::{CosignKey, Format, Gpg, KeySpec, Skopeo};
use crate::support::store::{Store, registries_d};

crate::tests! {
    needs [Cluster, Registry, Notary, Cosign, Gpg, Store];
    the_schema_takes_exactly_one_root_of_trust,
    a10_each_container_of_a_pod_passes_by_its_own_method,
    d11_a_replica_does_not_go_back_to_older_trust_data,
    e20_the_first_root_is_remembered_by_all_replicas_and_another_one_refused,
}

/// The `ConfigMap` with roots that were seen first.
const ROOTS: &str = "podseal-notary-trust";

/// Where no webhook looks at policies, the API server itself refuses them.
fn the_schema_takes_exactly_one_root_of_trust() {
    let cluster = Cluster::shared();
    let namespace = cluster.bare_namespace("schema");
    let apply = |trust: &str| {
        cluster.apply(&format!(
            "{{apiVersion: tmax.io/v1, kind: RegistrySecurityPolicy, metadata: {{name: p, namespace: {namespace}}}, \
             spec: {{registries: [{{registry: r.invalid, signCheck: true, notaryTrust: {trust}}}]}}}}"
        ))
    };
    let id = "0".repeat(64);
    for good in
        [format!("{{rootKeyIds: ['{id}']}}"), "{caRef: k8s://a/b}".to_owned(), "{firstUse: true, caRef: ''}".to_owned()]
    {
        apply(&good).succeeded();
    }
    for (bad, words) in [
        ("{}".to_owned(), "exactly one of rootKeyIds, caRef and firstUse is required"),
        ("{caRef: ''}".to_owned(), "exactly one of rootKeyIds, caRef and firstUse is required"),
        (
            format!("{{rootKeyIds: ['{id}'], firstUse: true}}"),
            "exactly one of rootKeyIds, caRef and firstUse is required",
        ),
        ("{firstUse: false}".to_owned(), "firstUse can only be true"),
        ("{rootKeyIds: []}".to_owned(), "should have at least 1 items"),
        (format!("{{rootKeyIds: ['{}']}}", "0".repeat(63)), "should match"),
        (format!("{{rootKeyIds: [{}]}}", vec![format!("'{id}'"); 33].join(", ")), "must have at most 32 items"),
        ("{caRef: a/b}".to_owned(), "should match"),
    ] {
        let ran = apply(&bad).failed();
        assert!(ran.stderr.contains(words), "{bad}: {ran}");
    }
}

fn a10_each_container_of_a_pod_passes_by_its_own_method() {
    let (registry, notary, store, gpg) = (Registry::start(), Notary::start(), Store::start(), Gpg::new());
    let namespace = Cluster::shared().namespace(Podseal::shared(), "methods");
    let [by_notary, by_cosign, by_gpg, unsigned] =
        ["notary", "cosign", "gpg", "unsigned"].map(|name| registry.push(&format!("k8s/{name}:1")));
    let (publisher, gun) = (notary.publisher(), format!("{}/k8s/notary", registry.host));
    publisher.init(&gun);
    publisher.sign(&gun, "1", by_notary.hex(), &[]);
    let key = CosignKey::new();
    key.sign(&registry, &by_cosign, Format::Bundle, &[]).succeeded();
    let maker = gpg.generate(&KeySpec::new("Maker <maker@example.org>"));
    let staging = format!("file://{}", store.folder().display());
    let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    skopeo.sign(&registry, &by_gpg, &maker).succeeded();
    namespace.secret("cosign", &[("cosign.pub", key.public.as_bytes())]);
    namespace.secret("gpg", &[("maker.pgp", &gpg.export(&[&maker]))]);
    namespace.policy(
        "all",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, notary: '{}', notaryTrust: {{rootKeyIds: [{}]}}, \
             cosignKeyRef: k8s://{name}/cosign, gpgKeyRef: k8s://{name}/gpg, lookaside: '{}'}}",
            registry.host,
            notary.url,
            notary.root_id(&gun),
            store.url,
            name = namespace.name,
        ),
    );
    let pod = |name: &str, images: &[String]| {
        let containers = images.iter().enumerate().map(|(i, image)| format!("{{name: c{i}, image: '{image}'}}"));
        let containers = containers.collect::<Vec<_>>().join(", ");
        namespace.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{containers}]}}}}"
        ))
    };
    let good = [by_notary.tagged(), by_cosign.tagged(), by_gpg.tagged()];
    pod("good", &good).succeeded();
    let pinned = [by_notary.pinned(), by_cosign.pinned(), by_gpg.pinned()];
    pod("pinned", &pinned).succeeded();
    let ran = pod("bad", &[&good[..], &[unsigned.tagged()]].concat()).failed();
    let said = namespace.said(&ran);
    for words in [
        "Notary: Image '127.0.0.1:PORT/k8s/unsigned:1' is invalid: http://127.0.0.1:PORT/ has no trust data for \
         127.0.0.1:PORT/k8s/unsigned (spec.containers[3].image",
        "Cosign: Image '127.0.0.1:PORT/k8s/unsigned:1' signature is empty",
        "GPG: Image '127.0.0.1:PORT/k8s/unsigned:1' is invalid: no signature",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(said.matches("Image '").count(), 3, "{said}");
}

fn d11_a_replica_does_not_go_back_to_older_trust_data() {
    let (registry, notary) = (Registry::start(), Notary::start());
    let namespace = Cluster::shared().namespace(Podseal::shared(), "rollback");
    let (image, newer) = (registry.push("k8s/app:1"), registry.push("k8s/app:2"));
    registry.copy(&image, "k8s/app:1-again");
    let (publisher, gun) = (notary.publisher(), format!("{}/k8s/app", registry.host));
    publisher.init(&gun);
    publisher.sign(&gun, "1", image.hex(), &[]);
    publisher.sign(&gun, "1-again", image.hex(), &[]);
    let proxy = Proxy::before(&notary.url);
    namespace.policy(
        "notary",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, notary: '{}', notaryTrust: {{rootKeyIds: [{}]}}}}",
            registry.host,
            proxy.url,
            notary.root_id(&gun),
        ),
    );
    let judge = |image: &str| Podseal::shared().review(&Review::pod(&namespace.name).container("a", image));
    assert!(judge(&image.tagged()).allowed, "{}", judge(&image.tagged()).message);
    let old = proxy.seen();
    publisher.sign(&gun, "2", newer.hex(), &[]);
    assert!(judge(&newer.tagged()).allowed, "{}", judge(&newer.tagged()).message);
    proxy.replay(old);
    let answer = judge(&format!("{}/k8s/app:1-again", registry.host));
    assert!(!answer.allowed);
    assert!(answer.message.contains("the server went back from version"), "{}", answer.message);
    assert_eq!(answer.code, 403, "a verdict, not a fault: {}", answer.message);
    proxy.honest();
    let fresh = judge(&format!("{}/k8s/app@{}", registry.host, image.digest));
    assert!(fresh.allowed, "{}", fresh.message);
}

fn e20_the_first_root_is_remembered_by_all_replicas_and_another_one_refused() {
    let cluster = Cluster::start();
    cluster.kubectl(&["-n", OWN_NAMESPACE, "create", "configmap", ROOTS]).succeeded();
    let (registry, notary) = (Registry::start(), Notary::tls());
    let image = registry.push("k8s/app:1");
    let (publisher, gun) = (notary.publisher(), format!("{}/k8s/app", registry.host));
    publisher.init(&gun);
    publisher.sign(&gun, "1", image.hex(), &[]);
    let first = Podseal::start(&cluster, &Options::new("first"));
    cluster.register(&first, WebhookScope::WithClusterPolicies);
    let namespace = cluster.namespace(&first, "first-use");
    namespace.secret("tls", &[("ca.crt", notary.authority.as_ref().unwrap().pem.as_bytes())]);
    // A namespaced policy may not lead to loopback; the addresses of the tests are allowed by a flag.
    namespace.policy(
        "notary",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, caRef: k8s://{}/tls, notary: '{}', \
             notaryTrust: {{firstUse: true}}}}",
            registry.host, namespace.name, notary.url,
        ),
    );
    let judge = |podseal: &Podseal| podseal.review(&Review::pod(&namespace.name).container("a", &image.tagged()));
    let remembered = || {
        let read = ["-n", OWN_NAMESPACE, "get", "configmap", ROOTS, "-o", "json"];
        let map: Value = serde_json::from_str(&cluster.kubectl(&read).succeeded().stdout).unwrap();
        map["data"].as_object().cloned().unwrap_or_default()
    };
    // Neither a dry run nor the question for pins leaves anything behind.
    let review = Review::pod(&namespace.name).container("a", &image.tagged());
    let mut dry = review.clone();
    dry.json["request"]["dryRun"] = true.into();
    let answer = first.review(&dry);
    assert!(answer.allowed, "{}", answer.message);
    let pins = first.post("/mutate", review.json.to_string().into_bytes());
    let pins: Value = serde_json::from_slice(&pins.body).unwrap();
    assert_eq!(pins["response"]["patchType"], "JSONPatch", "{pins}");
    assert!(remembered().is_empty());
    let answer = judge(&first);
    assert!(answer.allowed, "{}", answer.message);
    let kept = remembered();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let (key, entry) = kept.iter().next().unwrap();
    let entry: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
    assert_eq!((&entry["gun"], &entry["namespace"]), (&gun.as_str().into(), &namespace.name.as_str().into()));
    assert_eq!(entry["version"], 1);

    // Another root, as whoever gets hold of the server could put there.
    publisher.delete(&gun);
    let stranger = notary.publisher();
    stranger.init(&gun);
    stranger.sign(&gun, "1", image.hex(), &[]);
    let second = Podseal::start(&cluster, &Options::new("second"));
    let answer = judge(&second);
    assert!(!answer.allowed && answer.code == 403, "{}", answer.message);
    assert!(answer.message.contains("not the one that was seen first"), "{}", answer.message);
    assert!(
        answer.message.contains(&format!("the key {key} of the ConfigMap {OWN_NAMESPACE}/{ROOTS}")),
        "{}",
        answer.message
    );
    assert_eq!(remembered(), kept);

    // An administrator accepts it.
    let take_out = format!(r#"[{{"op": "remove", "path": "/data/{key}"}}]"#);
    cluster.kubectl(&["-n", OWN_NAMESPACE, "patch", "configmap", ROOTS, "--type=json", "-p", &take_out]).succeeded();
    let third = Podseal::start(&cluster, &Options::new("third"));
    assert!(judge(&third).allowed);
    assert_ne!(remembered(), kept);
    // A rotated root follows from it, and takes its place.
    stranger.rotate(&gun, "root");
    let fourth = Podseal::start(&cluster, &Options::new("fourth"));
    let answer = judge(&fourth);
    assert!(answer.allowed, "{}", answer.message);
    let entry: Value = serde_json::from_str(remembered()[key].as_str().unwrap()).unwrap();
    assert_eq!(entry["version"], 2);

    // What cannot be remembered is not trusted.
    cluster.kubectl(&["-n", OWN_NAMESPACE, "delete", "configmap", ROOTS]).succeeded();
    let fifth = Podseal::start(&cluster, &Options::new("fifth"));
    let answer = judge(&fifth);
    assert!(!answer.allowed && answer.code == 503, "{} {}", answer.code, answer.message);
    assert!(answer.message.contains("there is no ConfigMap"), "{}", answer.message);
}
