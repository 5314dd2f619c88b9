//! "Example flows of image validity check", and the sample policies.

use super::world::{MAKER, World};
use crate::support::cluster::Cluster;
use crate::support::podseal::Podseal;
use crate::support::process::eventually;
use crate::support::registry::Registry;
use crate::support::text::assert_text;

fn flow_1_whitelisted_image_is_valid_and_its_neighbour_is_not() {
    let world = World::shared();
    let namespace = world.namespace("whitelisted");
    namespace.policy("none-match", "[]");
    let listed = world.registry.push("whitelisted-1/app:1");
    namespace.run("early", &listed.tagged()).failed();
    Cluster::shared().whitelist(&["# quick start", "whitelisted-1/app"], &[]);
    eventually("the whitelist is in force", || namespace.run("listed", &listed.tagged()).ok());
    namespace.run("by-digest", &listed.pinned()).succeeded();
    namespace.run("neighbour", &format!("{}/whitelisted-1/app2:1", world.registry.host)).failed();
    namespace.run("below", &format!("{}/whitelisted-1/app/x:1", world.registry.host)).failed();
}

fn flow_1_whitelisted_namespace_is_valid_and_another_is_not() {
    let world = World::shared();
    let (listed, other) = (world.namespace("listed"), world.namespace("listed"));
    for namespace in [&listed, &other] {
        namespace.policy("none-match", "[]");
        namespace.run("early", "nginx").failed();
    }
    Cluster::shared().whitelist(&[], &[&listed.name]);
    eventually("the whitelist is in force", || listed.run("a", "nginx").ok());
    other.run("a", "nginx").failed();
}

fn flow_2_without_any_policy_every_image_is_valid() {
    let namespace = World::shared().namespace("no-policy");
    let _none = Cluster::shared().without_cluster_policies(Podseal::shared());
    let ran = namespace.run("a", "no-such-registry.invalid/x:1").succeeded();
    assert_text(&namespace.said(&ran), "");
}

fn flow_3_registry_in_no_policy_is_invalid() {
    let namespace = World::shared().namespace("no-match");
    namespace.policy("some", "- {registry: registry.local, signCheck: false}");
    let ran = namespace.run("a", "registry.local.evil.invalid/x:1").failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Image 'registry.local.evil.invalid/x:1' does not meet registry security policy. Please check the RegistrySecurityPolicy: no policy names the registry registry.local.evil.invalid for this repository (spec.containers[0].image)");
    assert!(!namespace.has_pod("a"));
}

fn flow_4_without_sign_check_every_image_of_the_registry_is_valid() {
    let namespace = World::shared().namespace("no-check");
    namespace.policy("some", "- {registry: registry.local, signCheck: false}");
    let ran = namespace.run("a", "registry.local/any/x:1").succeeded();
    assert_text(&namespace.said(&ran), "");
    namespace.run("b", "registry.local:5000/any/x:1").failed();
}

fn flow_5_cosign_signed_by_a_listed_signer_is_valid_in_either_format() {
    let world = World::shared();
    let namespace = world.namespace("cosign");
    namespace.policy("cosign", &world.cosign_entry(&namespace, &format!("signer: [somebody, '{MAKER}']")));
    for (i, image) in world.cosigned.iter().enumerate() {
        namespace.run(&format!("tag-{i}"), &image.tagged()).succeeded();
        namespace.run(&format!("digest-{i}"), &image.pinned()).succeeded();
    }
}

fn flow_5_cosign_signed_by_another_signer_is_invalid() {
    let world = World::shared();
    let namespace = world.namespace("cosign");
    namespace.policy("cosign", &world.cosign_entry(&namespace, "signer: [somebody]"));
    for image in &world.cosigned {
        let ran = namespace.run("a", &image.tagged()).failed();
        assert!(ran.stderr.contains("'s signer is invalid"), "{ran}");
    }
    let ran = namespace.run("a", &world.cosigned[0].tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Cosign: Image '127.0.0.1:PORT/k8s-c10f1/legacy:1''s signer is invalid: validly signed with the signer annotation \"immkk8s@registry.local/k8s-c10f1\", which is not listed (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/cosign spec.registries[0])");
}

fn flow_5_cosign_signed_with_another_key_or_not_at_all_is_invalid() {
    let world = World::shared();
    let namespace = world.namespace("cosign");
    namespace.policy("cosign", &world.cosign_entry(&namespace, ""));
    namespace.run("a", &world.cosigned[0].tagged()).succeeded();
    let ran = namespace.run("b", &world.other_key.tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Cosign: Image '127.0.0.1:PORT/k8s-c10f1/other-key:1' is invalid: signed by an untrusted key (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/cosign spec.registries[0])");
    let ran = namespace.run("c", &world.unsigned.tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Cosign: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' signature is empty: no cosign signature for sha256:DIGEST in 127.0.0.1:PORT/k8s-c10f1/unsigned (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/cosign spec.registries[0])");
}

fn flow_5_notary_that_does_not_speak_for_the_image_leaves_it_to_cosign() {
    let world = World::shared();
    let namespace = world.namespace("notary");
    namespace.policy("both", &world.cosign_entry(&namespace, "notary: 'https://127.0.0.1:1'"));
    namespace.run("a", &world.cosigned[0].tagged()).succeeded();
    let ran = namespace.run("b", &world.unsigned.tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (ServiceUnavailable): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Notary: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' could not be checked: notary is not used without notaryTrust: set rootKeyIds, caRef or firstUse in the policy (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/both spec.registries[0])
Cosign: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' signature is empty: no cosign signature for sha256:DIGEST in 127.0.0.1:PORT/k8s-c10f1/unsigned (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/both spec.registries[0])");
}

fn gpg_signed_by_a_listed_signer_is_valid_and_others_are_not() {
    let world = World::shared();
    let namespace = world.namespace("gpg");
    namespace.policy("gpg", &world.gpg_entry(&namespace, &format!("signer: ['{MAKER}']")));
    namespace.run("tag", &world.gpg_signed.tagged()).succeeded();
    namespace.run("digest", &world.gpg_signed.pinned()).succeeded();
    let ran = namespace.run("a", &world.unsigned.tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
GPG: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' is invalid: no signature for sha256:DIGEST in http://127.0.0.1:PORT/sigstore/ (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/gpg spec.registries[0])");
    namespace.policy("gpg", &world.gpg_entry(&namespace, "signer: [somebody]"));
    let ran = namespace.run("b", &world.gpg_signed.tagged()).failed();
    assert_text(
        &namespace.said(&ran),
        "\
Error from server (Forbidden): admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
GPG: Image '127.0.0.1:PORT/k8s-c10f1/gpg:1''s signer is invalid: signed by immkk8s@registry.local/k8s-c10f1 (FINGERPRINT), who is not among the listed signers (spec.containers[0].image; RegistrySecurityPolicy/NAMESPACE/gpg spec.registries[0])");
}

fn cluster_policy_works_in_every_namespace_and_a_namespace_only_tightens_it() {
    let world = World::shared();
    let registry = Registry::start();
    let (first, second) = (world.namespace("everywhere"), world.namespace("everywhere"));
    let free = registry.push("free/a:1");
    let unchecked = format!("- {{registry: '{}/free', signCheck: false}}", registry.host);
    let _policy = Cluster::shared().cluster_policy(&first, "quickstart-everywhere", &unchecked);
    for namespace in [&first, &second] {
        namespace.run("free", &free.tagged()).succeeded();
        namespace.run("other", &format!("{}/other/a:1", registry.host)).failed();
    }
    let checked = format!(
        "- {{registry: '{}/free', signCheck: true, insecure: true, cosignKeyRef: k8s://{}/cosign-key}}",
        registry.host, second.name
    );
    second.policy("tighter", &checked);
    second.run("unsigned", &free.tagged()).failed();
    first.run("still-free", &free.tagged()).succeeded();
}

fn the_sample_policies_apply_as_they_are_written() {
    let world = World::shared();
    let namespace = world.namespace("some-namespace");
    let sample = r#"
apiVersion: tmax.io/v1
kind: RegistrySecurityPolicy
metadata:
  name: sample-policy
  namespace: some-namespace
spec:
  registries:
    - registry: core.harbor.domain.io
      notary: https://notary.harbor.domain.io
      cosignKeyRef: k8s://<namespace>/<cosign_key_secret>
      signer: ["<signer1>","<signer2>"]
      signCheck: true
---
apiVersion: tmax.io/v1
kind: ClusterRegistrySecurityPolicy
metadata:
  name: sample-cluster-policy
spec:
  registries:
    - registry: core.harbor.domain.io
      notary: https://notary.harbor.domain.io
      cosignKeyRef: k8s://<namespace>/<cosign_key_secret>
      signer: ["<signer1>"]
      signCheck: true
"#;
    let sample = sample.replace("namespace: some-namespace", &format!("namespace: {}", namespace.name));
    // Keeps the trial of "no policy" away while the cluster policy is there.
    let _some = Cluster::shared().cluster_policy(&namespace, "quickstart-sample", "[]");
    let ran = Cluster::shared().apply(&sample);
    let deleted = Cluster::shared().kubectl(&["delete", "crsp", "sample-cluster-policy", "--ignore-not-found"]);
    ran.clone().succeeded();
    deleted.succeeded();
    assert_text(
        &namespace.said(&ran),
        "\
Warning: spec.registries[0].notary: is not used without notaryTrust, which says whose root counts; give it, or cosignKeyRef or gpgKeyRef
Warning: spec.registries[0].cosignKeyRef: must be k8s://namespace/name of a Secret that holds cosign.pub; until then the images of this entry are denied");
    let filled = sample.replace("<namespace>", &namespace.name).replace("<cosign_key_secret>", "cosign-key");
    let (namespaced, _) = filled.split_once("---").unwrap();
    let ran = Cluster::shared().apply(namespaced).succeeded();
    assert_text(
        &namespace.said(&ran),
        "\
Warning: spec.registries[0].notary: is not used without notaryTrust, which says whose root counts: until then the keys of this entry decide alone",
    );
}

crate::tests! {
    needs [Cluster, Registry, Gpg, Cosign, Store];
    flow_1_whitelisted_image_is_valid_and_its_neighbour_is_not,
    flow_1_whitelisted_namespace_is_valid_and_another_is_not,
    flow_2_without_any_policy_every_image_is_valid,
    flow_3_registry_in_no_policy_is_invalid,
    flow_4_without_sign_check_every_image_of_the_registry_is_valid,
    flow_5_cosign_signed_by_a_listed_signer_is_valid_in_either_format,
    flow_5_cosign_signed_by_another_signer_is_invalid,
    flow_5_cosign_signed_with_another_key_or_not_at_all_is_invalid,
    flow_5_notary_that_does_not_speak_for_the_image_leaves_it_to_cosign,
    gpg_signed_by_a_listed_signer_is_valid_and_others_are_not,
    cluster_policy_works_in_every_namespace_and_a_namespace_only_tightens_it,
    the_sample_policies_apply_as_they_are_written,
}
