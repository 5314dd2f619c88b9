//! Every kind of signature once, asked by a real API server.

use serde_json::{Value, json};

use super::cases::{DEV, Rule, Shared};
use super::rows::lenient;
use super::world::BY_IDENTITY;
use crate::support::cluster::{Cluster, Namespace};
use crate::support::podseal::Podseal;
use crate::support::registry::Image;
use crate::support::sigstore::{By, How, Identity, Log};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A namespace that has the trusted root and the key.
fn namespace(hint: &str) -> Namespace<'static> {
    let (shared, namespace) = (Shared::get(), Cluster::shared().namespace(Podseal::shared(), hint));
    namespace.secret("keys", &[("cosign.pub", shared.key.public.as_bytes())]);
    let root = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "root"},
        "data": {"trusted_root.json": shared.world.root.text()},
    });
    namespace.apply(&root.to_string()).succeeded();
    namespace
}

/// Images with a rule each, in repositories of their own.
fn kinds() -> Vec<(String, Rule, Image)> {
    let shared = Shared::get();
    let dev = By::Identity(Identity::mail(DEV));
    let mut kinds: Vec<_> = BY_IDENTITY
        .into_iter()
        .map(|how| (format!("{how:?}"), lenient(Rule::dev(), how), shared.signed(how)))
        .collect();
    for how in [How::BUNDLE, How::LEGACY, How::BUNDLE_BARE] {
        let log = if how.log == Log::None { "NotRequired" } else { "Required" };
        let rule = Rule::key(&shared.key).with("transparencyLog", log);
        kinds.push((format!("key, {how:?}"), rule, shared.keyed(how)));
    }
    for how in [How::BUNDLE, How::LEGACY] {
        let image = shared.sign(how, &dev, &[]);
        let predicate = (PROVENANCE, &json!({"level": 3}));
        shared.world.attest(&shared.registry, &image.pinned(), how, &dev, predicate).succeeded();
        let wanted = json!([{"predicateType": PROVENANCE, "expression": "predicate.level == 3"}]);
        kinds.push((format!("attested, {how:?}"), Rule::dev().with("attestations", wanted), image));
    }
    let children = [shared.image(), shared.image()];
    let index = shared.registry.push_index(&format!("{}:index", children[0].repository), &[&children[0], &children[1]]);
    shared.sign_too(&index, How::BUNDLE, &dev, &["-r"]);
    kinds.push(("index".to_owned(), Rule::dev(), index));
    kinds
}

fn policy_of(kinds: &[(String, Rule, Image)], namespace: &Namespace<'_>) -> String {
    let line = |(_, rule, image): &(String, Rule, Image)| {
        let entry = rule.entry_in(&namespace.name, &format!("{}/{}", image.host, image.repository));
        format!("- {entry}\n")
    };
    kinds.iter().map(line).collect()
}

fn pods_run_with_every_kind_of_signature() {
    let (kinds, namespace) = (kinds(), namespace("keyless"));
    namespace.policy("kinds", &policy_of(&kinds, &namespace));
    let mut wrong = Vec::new();
    for (number, (kind, _, image)) in kinds.iter().enumerate() {
        let ran = namespace.run(&format!("pod-{number}"), &image.tagged());
        if !ran.ok() {
            wrong.push(format!("{kind}: {ran}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn pods_with_signatures_by_others_do_not_run() {
    let (kinds, namespace) = (kinds(), namespace("keyless"));
    let other = |(kind, rule, image): (String, Rule, Image)| {
        let rule = if kind.starts_with("key") {
            rule.with("annotations", json!({"never": "given"}))
        } else {
            rule.identity("subject", Value::from("other@example.test"))
        };
        (kind, rule, image)
    };
    let kinds: Vec<_> = kinds.into_iter().map(other).collect();
    namespace.policy("kinds", &policy_of(&kinds, &namespace));
    let mut wrong = Vec::new();
    for (number, (kind, _, image)) in kinds.iter().enumerate() {
        let ran = namespace.run(&format!("pod-{number}"), &image.tagged());
        if ran.ok() || !ran.stderr.contains("denied the request") || !ran.stderr.contains("Cosign: Image") {
            wrong.push(format!("{kind}: {ran}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_root_that_is_missing_or_broken_denies_and_a_good_one_mends_it() {
    let shared = Shared::get();
    let namespace = Cluster::shared().namespace(Podseal::shared(), "keyless");
    let image = shared.signed(How::BUNDLE);
    let entry = Rule::dev().entry_in(&namespace.name, &image.host);
    namespace.policy("dev", &format!("- {entry}\n"));
    let denied = namespace.run("missing", &image.tagged()).failed();
    assert!(denied.stderr.contains("root"), "{denied}");
    let root = |text: &str| {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "root"},
            "data": {"trusted_root.json": text}});
        namespace.apply(&map.to_string()).succeeded();
    };
    root("{}");
    let denied = crate::support::process::within(std::time::Duration::from_secs(40), || {
        let ran = namespace.run("broken", &image.tagged());
        assert!(!ran.ok(), "{ran}");
        ran.stderr.contains("is no trust root").then_some(ran)
    });
    assert!(denied.is_some_and(|ran| ran.stderr.contains("denied the request")));
    root(&shared.world.root.text());
    crate::support::process::eventually("the root is mended", || namespace.run("mended", &image.tagged()).ok());
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry, Cluster];
    pods_run_with_every_kind_of_signature,
    pods_with_signatures_by_others_do_not_run,
    a_root_that_is_missing_or_broken_denies_and_a_good_one_mends_it,
}
