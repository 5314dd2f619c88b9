//! How often statuses are written, and what becomes of what others write.

use std::time::Duration;

use serde_json::json;

use super::{Leader, MANAGER, Policy, World, config, managers, settled, versions};
use crate::support::cluster::{Cluster, OWN_NAMESPACE};
use crate::support::process::within;
use crate::support::signer::CosignKey;

/// Statuses that keep to themselves are not written for so long.
const CALM: Duration = Duration::from_secs(8);

fn a_changed_secret_re_reads_the_policies_that_name_it_and_no_others() {
    let cluster = Cluster::start();
    let leader = Leader::start(&cluster, config("leader"));
    let namespace = cluster.bare_namespace("follow");
    let (one, other) = (CosignKey::new(), CosignKey::new());
    let entry = |secret: &str| format!("[{{registry: r.invalid, signCheck: true, cosignKeyRef: 'k8s://{secret}'}}]");
    for (namespace, name) in [(OWN_NAMESPACE, "own"), (&namespace, "elsewhere"), (&namespace, "third")] {
        cluster.secret(namespace, name, &[("cosign.pub", one.public.as_bytes())]);
    }
    let own = Policy::cluster(&cluster, "own");
    own.apply(&entry(&format!("{OWN_NAMESPACE}/own")));
    let elsewhere = Policy::namespaced(&cluster, &namespace, "elsewhere");
    elsewhere.apply(&entry(&format!("{namespace}/elsewhere")));
    let third = Policy::namespaced(&cluster, &namespace, "third");
    third.apply(&entry(&format!("{namespace}/third")));
    let fingerprint = |policy: &Policy<'_>| policy.keys().0.first().map(|key| key["fingerprint"].to_string());
    for policy in [&own, &elsewhere, &third] {
        policy.ready("True", "Usable");
    }
    let before = settled(&cluster);
    let first = fingerprint(&own);
    for (policy, namespace) in [(&own, OWN_NAMESPACE), (&elsewhere, namespace.as_str())] {
        cluster.secret(namespace, &policy.name, &[("cosign.pub", other.public.as_bytes())]);
        let changed = within(Duration::from_secs(30), || (fingerprint(policy) != first).then_some(()));
        assert!(changed.is_some(), "{}", policy.name);
    }
    let after = settled(&cluster);
    let touched: Vec<_> = before.keys().filter(|key| before[*key] != after[*key]).collect();
    assert_eq!(touched.len(), 2, "{touched:?}");
    assert!(touched.iter().all(|key| !key.ends_with("/third")), "{touched:?}");
    let metrics = leader.metrics.encode();
    assert!(metrics.contains("podseal_policy_ready{ready=\"True\",reason=\"Usable\"} 3\n"), "{metrics}");
    cluster.kubectl(&["delete", "crsp", "own"]).succeeded();
    let counted = || leader.metrics.encode().contains("podseal_policy_ready{ready=\"True\",reason=\"Usable\"} 2\n");
    assert!(within(Duration::from_secs(30), || counted().then_some(())).is_some());
}

fn what_others_write_into_a_status_is_put_right_and_their_conditions_are_theirs() {
    let cluster = &World::shared().cluster;
    let policy = Policy::cluster(cluster, "edited");
    policy.apply("[{registry: edited.invalid, signCheck: false}]");
    policy.ready("True", "Usable");
    let before = policy.condition("Ready", |_| true);
    let theirs = json!({
        "type": "Reviewed", "status": "True", "reason": "ByHand", "message": "looks good",
        "lastTransitionTime": "2024-01-01T00:00:00Z",
    });
    let mut forged = before.clone();
    forged["status"] = "False".into();
    forged["reason"] = "Forged".into();
    let patch = json!({"status": {"conditions": [theirs, forged], "registries": []}}).to_string();
    cluster.kubectl(&["patch", "crsp", "edited", "--subresource=status", "--type=merge", "-p", &patch]).succeeded();
    let after = policy.condition("Ready", |ready| ready["reason"] == "Usable");
    assert_eq!(after["status"], "True");
    // A new entry in the list of managers, and podseal's own.
    assert!(managers(&policy).iter().any(|manager| manager == MANAGER), "{:?}", managers(&policy));
    let object = policy.object();
    assert_eq!(object["status"]["registries"][0]["registry"], "edited.invalid");
    let conditions = object["status"]["conditions"].as_array().unwrap();
    assert!(conditions.contains(&theirs), "{conditions:?}");
    // Removed altogether, too.
    let patch = json!([{"op": "remove", "path": "/status"}]).to_string();
    cluster.kubectl(&["patch", "crsp", "edited", "--subresource=status", "--type=json", "-p", &patch]).succeeded();
    policy.ready("True", "Usable");
}

fn a_status_is_written_once_and_its_time_stays_while_it_says_the_same() {
    let cluster = &World::shared().cluster;
    let policy = Policy::cluster(cluster, "quiet");
    policy.apply("[{registry: quiet.invalid, signCheck: true}]");
    policy.ready("False", "NoVerifier");
    let before = policy.object();
    std::thread::sleep(CALM);
    let version = |object: &serde_json::Value| object["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&policy.object()), version(&before));
    std::thread::sleep(Duration::from_secs(1));
    policy.apply("[{registry: quiet.invalid, signCheck: true}, {registry: b.invalid, signCheck: true}]");
    let time = |condition: &serde_json::Value| condition["lastTransitionTime"].clone();
    let first = &before["status"]["conditions"][0];
    assert_eq!(time(&policy.condition("Ready", |_| true)), time(first), "still not ready");
    policy.apply("[{registry: quiet.invalid, signCheck: false}]");
    assert_ne!(time(&policy.condition("Ready", |ready| ready["status"] == "True")), time(first));
}

fn two_leaders_say_the_same_and_never_fight() {
    let cluster = Cluster::start();
    let namespace = cluster.bare_namespace("two");
    let _leaders = ["one", "two"].map(|name| Leader::start(&cluster, config(name)));
    let key = CosignKey::new();
    let policies: Vec<_> = (0..20)
        .flat_map(|i| {
            [Policy::cluster(&cluster, &format!("p{i}")), Policy::namespaced(&cluster, &namespace, &format!("p{i}"))]
        })
        .collect();
    let named = format!("[{{registry: r.invalid, signCheck: true, cosignKeyRef: 'k8s://{namespace}/key'}}]");
    for policy in &policies {
        policy.apply(&named);
    }
    for policy in &policies {
        policy.ready("False", "SecretNotFound");
    }
    cluster.secret(&namespace, "key", &[("cosign.pub", key.public.as_bytes())]);
    for policy in &policies {
        policy.ready("True", "Usable");
    }
    let before = settled(&cluster);
    std::thread::sleep(CALM * 2);
    assert_eq!(versions(&cluster), before);
}

fn c11_c12_bad_and_risky_lines_of_the_whitelist_are_events_on_it() {
    let cluster = &World::shared().cluster;
    cluster.whitelist(&["good.invalid/*", "a b", "nginx"], &["Not_A_Namespace"]);
    let describe = ["-n", OWN_NAMESPACE, "describe", "configmap", "image-validation-webhook-whitelist"];
    let told = cluster
        .wait_for(&describe, |text| text.contains("WhitelistLineSkipped") && text.contains("WhitelistLineRisky"));
    assert!(told.contains("\"a b\"") && told.contains("nginx") && told.contains("Not_A_Namespace"), "{told}");
    let events = told.split_once("Events:").unwrap().1;
    assert!(!events.contains("good.invalid"), "{events}");
    // An edit that leaves them alone is no news.
    cluster.whitelist(&["better.invalid/*"], &[]);
    std::thread::sleep(Duration::from_secs(12));
    let events = cluster.kubectl(&["-n", OWN_NAMESPACE, "get", "events", "-o", "name"]).succeeded().stdout;
    let about = events.lines().filter(|line| line.contains("image-validation-webhook-whitelist")).count();
    assert_eq!(about, 2, "{events}");
}

crate::tests! {
    needs [Cluster, Cosign];
    a_changed_secret_re_reads_the_policies_that_name_it_and_no_others,
    what_others_write_into_a_status_is_put_right_and_their_conditions_are_theirs,
    a_status_is_written_once_and_its_time_stays_while_it_says_the_same,
    two_leaders_say_the_same_and_never_fight,
    c11_c12_bad_and_risky_lines_of_the_whitelist_are_events_on_it,
}
