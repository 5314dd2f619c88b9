//! Each reason, and what takes it away.

use super::{Leader, Policy, World, config};
use crate::support::cluster::{Cluster, OWN_NAMESPACE};
use crate::support::process::eventually;
use crate::support::signer::{CosignKey, Gpg, KeySpec};

/// Policies of both kinds that name what lies in this namespace.
fn both<'a>(cluster: &'a Cluster, namespace: &str, name: &str) -> [Policy<'a>; 2] {
    [Policy::cluster(cluster, &format!("{namespace}-{name}")), Policy::namespaced(cluster, namespace, name)]
}

fn entry(fields: &str) -> String {
    format!("[{{registry: r.invalid/team, signCheck: true, {fields}}}]")
}

fn i12_j11_nothing_to_check_with_is_not_ready_and_a_key_makes_it_so() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("no-verifier");
    cluster.secret(&namespace, "key", &[("cosign.pub", CosignKey::new().public.as_bytes())]);
    for policy in both(cluster, &namespace, "p") {
        policy.apply("[{registry: r.invalid, signCheck: true}]");
        let message = policy.ready("False", "NoVerifier");
        assert!(message.contains("spec.registries[0].signCheck: true, but nothing is configured"), "{message}");
        policy.apply("[{registry: r.invalid, signCheck: true, notary: 'https://notary.invalid'}]");
        let message = policy.ready("False", "NoVerifier");
        assert!(message.contains("spec.registries[0].notary: is not used without notaryTrust"), "{message}");
        policy.apply(&entry(&format!("cosignKeyRef: 'k8s://{namespace}/key'")));
        assert!(policy.ready("True", "Usable").starts_with("every entry can be used"));
    }
}

fn i13_j11_an_entry_that_cannot_be_read_is_not_ready_and_says_where() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("invalid");
    for policy in both(cluster, &namespace, "p") {
        for (entries, told) in [
            (
                "[{registry: a.invalid, signCheck: false}, {registry: 'b/c d', signCheck: false}]",
                "spec.registries[1].registry: ",
            ),
            (
                "[{registry: a.invalid, signCheck: true, cosignKeyRef: nothing}]",
                "spec.registries[0]: cosignKeyRef: must be",
            ),
        ] {
            policy.apply(entries);
            let message = policy.ready("False", "InvalidEntry");
            assert!(message.contains(told), "{message}");
            policy.apply("[{registry: a.invalid, signCheck: false}]");
            policy.ready("True", "Usable");
        }
    }
}

fn i17_missing_and_empty_secrets_are_told_apart_and_followed() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("secrets");
    let policies = both(cluster, &namespace, "p");
    let told = |status: &str, reason: &str| policies.each_ref().map(|policy| policy.ready(status, reason));
    for (field, data_key) in [("cosignKeyRef", "cosign.pub"), ("gpgKeyRef", "group1.pgp")] {
        for policy in &policies {
            policy.apply(&entry(&format!("{field}: 'k8s://{namespace}/{data_key}'")));
        }
        let [cluster_wide, own] = told("False", "SecretNotFound");
        assert!(
            cluster_wide.contains(&format!(
                "spec.registries[0].{field}: the Secret k8s://{namespace}/{data_key} does not exist"
            ))
        );
        assert!(own.contains("cannot be used: it does not exist, lacks the needed key, or may not be named here"));
        cluster.secret(&namespace, data_key, &[(data_key, b"no key")]);
        let [cluster_wide, own] = told("False", "NoPublicKeys");
        assert!(cluster_wide.contains("no public keys imported from") && own.contains("no public keys imported from"));
        // What else lies in a Secret is for the administrator.
        assert!(cluster_wide.contains(data_key), "{cluster_wide}");
        let key = if field == "cosignKeyRef" {
            CosignKey::new().public.into_bytes()
        } else {
            new_key("A <a@registry.local>")
        };
        cluster.secret(&namespace, data_key, &[(data_key, &key)]);
        told("True", "Usable");
        cluster.kubectl(&["-n", &namespace, "delete", "secret", data_key]).succeeded();
        told("False", "SecretNotFound");
    }
}

fn new_key(user_id: &str) -> Vec<u8> {
    let gpg = Gpg::new();
    let key = gpg.generate(&KeySpec::new(user_id));
    gpg.export(&[&key])
}

fn keys_are_listed_with_fingerprint_source_expiry_and_holders() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("listed");
    let (gpg, cosign) = (Gpg::new(), CosignKey::new());
    let never = gpg.generate(&KeySpec::new("Maker <Maker@registry.local>"));
    let ends = gpg.generate(&KeySpec { expires: "1y", ..KeySpec::new("Other <other@registry.local>") });
    cluster.secret(
        &namespace,
        "gpg",
        &[("group1.pgp", &gpg.export(&[&never])), ("group2.asc", &gpg.export_armored(&[&ends]))],
    );
    cluster.secret(&namespace, "cosign", &[("cosign.pub", cosign.public.as_bytes())]);
    for policy in both(cluster, &namespace, "p") {
        policy.apply(&entry(&format!("gpgKeyRef: 'k8s://{namespace}/gpg', cosignKeyRef: 'k8s://{namespace}/cosign'")));
        policy.ready("True", "Usable");
        let (keys, signers) = policy.keys();
        assert_eq!(signers, ["group1.pgp", "group2.asc", "maker@registry.local", "other@registry.local"]);
        let of = |fingerprint: &str| keys.iter().find(|key| key["fingerprint"] == fingerprint).unwrap();
        assert_eq!(of(&never.fingerprint)["source"], format!("k8s://{namespace}/gpg/group1.pgp"));
        assert!(of(&never.fingerprint)["expires"].is_null());
        let end = of(&ends.fingerprint)["expires"].as_str().unwrap().to_owned();
        assert!(end.starts_with("20") && end.ends_with('Z') && end.len() == 20, "{end}");
        let cosign = keys.iter().find(|key| key["fingerprint"].as_str().unwrap().starts_with("sha256:")).unwrap();
        assert_eq!(cosign["source"], format!("k8s://{namespace}/cosign/cosign.pub"));
        assert_eq!(keys.len(), 3);
    }
    let series =
        format!("podseal_key_expiry_timestamp_seconds{{key=\"{}\",source=\"k8s://{namespace}/", ends.fingerprint);
    let counted = || World::shared().leader.metrics.encode().contains(&series);
    assert!(counted());
    cluster.kubectl(&["-n", &namespace, "delete", "secret", "gpg"]).succeeded();
    eventually("the keys are counted no more", || !counted());
}

fn e22_a_key_that_expires_is_told_of_at_that_time_though_nothing_changes() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("expiry");
    let gpg = Gpg::new();
    let key = gpg.generate(&KeySpec { expires: "seconds=20", ..KeySpec::new("Brief <brief@registry.local>") });
    cluster.secret(&namespace, "key", &[("k.pgp", &gpg.export(&[&key]))]);
    let policy = Policy::namespaced(cluster, &namespace, "p");
    policy.apply(&entry(&format!("gpgKeyRef: 'k8s://{namespace}/key'")));
    policy.ready("True", "Usable");
    let message = policy.ready("False", "KeyExpired");
    assert!(message.contains(&format!("key {} expired on", key.fingerprint)), "{message}");
    // Extended, in the Secret.
    gpg.set_expiry(&key, "1y", None);
    cluster.secret(&namespace, "key", &[("k.pgp", &gpg.export(&[&key]))]);
    policy.ready("True", "Usable");
    // Revoked: no longer a matter of time.
    gpg.revoke(&key);
    cluster.secret(&namespace, "key", &[("k.pgp", &gpg.export(&[&key]))]);
    let message = policy.ready("False", "KeyUnusable");
    assert!(message.contains("revoked"), "{message}");
    // Beside a good one it is only mentioned.
    cluster.secret(&namespace, "key", &[("k.pgp", &gpg.export(&[&key])), ("n.pgp", &new_key("N <n@registry.local>"))]);
    let message = policy.ready("True", "Usable");
    assert!(message.contains("not every key counts") && message.contains("revoked"), "{message}");
}

fn certificates_are_looked_for_in_secrets_and_config_maps() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("ca");
    let pem = &cluster.authority().pem;
    cluster.secret(&namespace, "key", &[("cosign.pub", CosignKey::new().public.as_bytes())]);
    for policy in both(cluster, &namespace, "p") {
        policy.apply(&entry(&format!("caRef: 'k8s://{namespace}/ca', cosignKeyRef: 'k8s://{namespace}/key'")));
        let message = policy.ready("False", "SecretNotFound");
        assert!(message.contains("spec.registries[0].caRef: "), "{message}");
        for (data, status, reason) in [("nothing", "False", "InvalidCertificates"), (pem.as_str(), "True", "Usable")] {
            let literal = format!("--from-literal=ca.crt={data}");
            let ran = cluster.kubectl(&[
                "-n",
                &namespace,
                "create",
                "configmap",
                "ca",
                &literal,
                "--dry-run=client",
                "-o",
                "yaml",
            ]);
            cluster.apply(&ran.succeeded().stdout).succeeded();
            policy.ready(status, reason);
        }
        cluster.kubectl(&["-n", &namespace, "delete", "configmap", "ca"]).succeeded();
        policy.ready("False", "SecretNotFound");
        cluster.secret(&namespace, "ca", &[("ca.crt", pem.as_bytes())]);
        policy.ready("True", "Usable");
        cluster.kubectl(&["-n", &namespace, "delete", "secret", "ca"]).succeeded();
    }
}

fn i6_i7_statuses_hint_at_nothing_that_a_namespace_may_not_name() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("curious");
    let foreign = cluster.bare_namespace("foreign");
    let key = CosignKey::new();
    cluster.secret(&foreign, "exists", &[("cosign.pub", key.public.as_bytes())]);
    cluster.secret(OWN_NAMESPACE, "plain", &[("cosign.pub", key.public.as_bytes())]);
    let policy = Policy::namespaced(cluster, &namespace, "p");
    let told = |secret: &str| {
        policy.apply(&entry(&format!("cosignKeyRef: 'k8s://{secret}'")));
        let message = policy.ready("False", "SecretNotFound");
        let object = policy.object();
        let text = object["status"].to_string().replace(secret, "SECRET");
        assert!(policy.keys().0.is_empty());
        let generation = format!("\"observedGeneration\":{}", object["metadata"]["generation"]);
        let time = &object["status"]["conditions"][0]["lastTransitionTime"];
        (message.replace(secret, "SECRET"), text.replace(&generation, "GENERATION").replace(&time.to_string(), "TIME"))
    };
    let first = told(&format!("{foreign}/exists"));
    for secret in [
        format!("{foreign}/missing"),
        "no-such-namespace/missing".to_owned(),
        format!("{namespace}/missing"),
        format!("{OWN_NAMESPACE}/plain"),
        format!("{OWN_NAMESPACE}/missing"),
    ] {
        assert_eq!(told(&secret), first, "{secret}");
    }
    // A synced key of podseal's own namespace may be named.
    cluster.secret(OWN_NAMESPACE, "sigstore-key-status", &[("cosign.pub", key.public.as_bytes())]);
    policy.apply(&entry(&format!("cosignKeyRef: 'k8s://{OWN_NAMESPACE}/sigstore-key-status'")));
    policy.ready("False", "SecretNotFound");
    cluster
        .kubectl(&["-n", OWN_NAMESPACE, "label", "secret", "sigstore-key-status", "podseal.io/key-file=a"])
        .succeeded();
    policy.ready("True", "Usable");
    assert_eq!(policy.keys().0.len(), 1);
}

fn an_address_in_two_key_files_is_told_of() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("address");
    let [a, b] = [new_key("A <boss@registry.local>"), new_key("B <Boss@registry.local>")];
    cluster.secret(&namespace, "keys", &[("a.pgp", &a), ("b.pgp", &b)]);
    for policy in both(cluster, &namespace, "p") {
        policy.apply(&entry(&format!("gpgKeyRef: 'k8s://{namespace}/keys', signer: [boss@registry.local, a.pgp]")));
        let message = policy.ready("True", "Usable");
        assert!(message.contains("the address boss@registry.local names nobody"), "{message}");
        assert!(
            message.contains("spec.registries[0].signer[0]: no key of") && !message.contains("signer[1]"),
            "{message}"
        );
        assert_eq!(policy.keys().1, ["a.pgp", "b.pgp"]);
    }
}

fn i9_j11_a_policy_that_others_or_the_installation_keep_from_deciding_says_so() {
    let cluster = Cluster::start();
    let mut restricted = config("restricted");
    restricted.restrict_namespaces = true;
    let _leader = Leader::start(&cluster, restricted);
    let namespace = cluster.bare_namespace("restricted");
    let [first, second] = ["first", "second"].map(|name| Policy::cluster(&cluster, name));
    first.apply("[{registry: r.invalid, signCheck: false}]");
    let own = Policy::namespaced(&cluster, &namespace, "own");
    own.apply("[{registry: r.invalid/team, signCheck: false}, {registry: other.invalid, signCheck: false}]");
    let message = own.ready("False", "Shadowed");
    assert!(message.contains("spec.registries[1]: no cluster policy names this registry"), "{message}");
    assert!(!message.contains("spec.registries[0]"), "{message}");
    own.condition("Shadowed", |it| it["status"] == "True" && it["reason"] == "RegistriesRestricted");
    first.condition("Shadowed", |it| it["status"] == "False" && it["reason"] == "NotShadowed");
    // The cluster names it: now the namespace's entry counts, and says so without being touched.
    second.apply("[{registry: other.invalid, signCheck: false}, {registry: r.invalid/team, signCheck: false}]");
    own.ready("True", "Usable");
    own.condition("Shadowed", |it| it["status"] == "False");
    let hidden = first.condition("Shadowed", |it| it["status"] == "True" && it["reason"] == "MoreSpecificEntry");
    let told = "spec.registries[0] (r.invalid): ClusterRegistrySecurityPolicy/second spec.registries[1] decides for r.invalid/team";
    assert_eq!(hidden["message"], told);
    assert!(first.ready("True", "Usable").contains("images of registries that no policy names are denied"));
    cluster.kubectl(&["delete", "crsp", "second"]).succeeded();
    own.ready("False", "Shadowed");
    first.condition("Shadowed", |it| it["status"] == "False");
}

fn i10_a_first_policy_says_that_it_denies_what_it_does_not_name() {
    let cluster = &World::shared().cluster;
    let namespace = cluster.bare_namespace("first");
    let policy = Policy::namespaced(cluster, &namespace, "p");
    policy.apply("[{registry: r.invalid, signCheck: false}]");
    let told = "images of registries that no policy names are denied";
    assert!(policy.ready("True", "Usable").contains(told));
    policy.apply("[{registry: r.invalid, signCheck: false}, {registry: '*', signCheck: false}]");
    assert!(!policy.ready("True", "Usable").contains(told));
}

fn kubectl_get_shows_whether_a_policy_is_ready() {
    let cluster = &World::shared().cluster;
    let [good, bad] = ["column-good", "column-bad"].map(|name| Policy::cluster(cluster, name));
    good.apply("[{registry: column.invalid, signCheck: false}]");
    bad.apply("[{registry: column.invalid, signCheck: true}]");
    good.ready("True", "Usable");
    bad.ready("False", "NoVerifier");
    let table = cluster.kubectl(&["get", "crsp"]).succeeded().stdout;
    let row = |name: &str| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("NAME")[..3], ["NAME", "REGISTRIES", "READY"], "{table}");
    assert_eq!((row("column-good")[2].as_str(), row("column-bad")[2].as_str()), ("True", "False"), "{table}");
    cluster.kubectl(&["wait", "crsp/column-good", "--for=condition=Ready", "--timeout=30s"]).succeeded();
    let metrics = World::shared().leader.metrics.encode();
    let count = |line: &str| metrics.lines().find_map(|l| l.strip_prefix(line)).unwrap().trim().parse::<u32>().unwrap();
    assert!(count("podseal_policy_ready{ready=\"True\",reason=\"Usable\"}") > 0, "{metrics}");
    assert!(count("podseal_policy_ready{ready=\"False\",reason=\"NoVerifier\"}") > 0, "{metrics}");
}

crate::tests! {
    needs [Cluster, Gpg, Cosign];
    i12_j11_nothing_to_check_with_is_not_ready_and_a_key_makes_it_so,
    i13_j11_an_entry_that_cannot_be_read_is_not_ready_and_says_where,
    i17_missing_and_empty_secrets_are_told_apart_and_followed,
    keys_are_listed_with_fingerprint_source_expiry_and_holders,
    e22_a_key_that_expires_is_told_of_at_that_time_though_nothing_changes,
    certificates_are_looked_for_in_secrets_and_config_maps,
    i6_i7_statuses_hint_at_nothing_that_a_namespace_may_not_name,
    an_address_in_two_key_files_is_told_of,
    i9_j11_a_policy_that_others_or_the_installation_keep_from_deciding_says_so,
    i10_a_first_policy_says_that_it_denies_what_it_does_not_name,
    kubectl_get_shows_whether_a_policy_is_ready,
}
