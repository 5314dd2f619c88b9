//! The API server goes away, objects are malformed, rights are missing.

use std::path::Path;
use std::time::Duration;

use super::{Leader, PATIENCE, Policy, config};
use crate::support::cluster::Cluster;
use crate::support::process::within;

const OPEN: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
    metadata: {name: registrysecuritypolicies.tmax.io}\nspec:\n  group: tmax.io\n  scope: Namespaced\n  \
    names: {plural: registrysecuritypolicies, singular: registrysecuritypolicy, kind: RegistrySecurityPolicy, shortNames: [rsp]}\n  versions:\n  \
    - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}\n";

fn h20_j11_statuses_survive_an_absent_api_server_and_malformed_objects() {
    let cluster = Cluster::start();
    let namespace = cluster.bare_namespace("trouble");
    // Objects that were stored before the schema came.
    cluster.kubectl(&["delete", "crd", "registrysecuritypolicies.tmax.io"]).succeeded();
    cluster.apply(OPEN).succeeded();
    let malformed = |name: &str, spec: &str| {
        let text = format!(
            "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n{spec}\n"
        );
        assert!(within(PATIENCE, || cluster.apply(&text).ok().then_some(())).is_some(), "{name}");
    };
    malformed("text", "spec: text");
    malformed(
        "misspelt",
        "spec: {registries: [{registry: misspelt.invalid, signCheck: true, cosignKeyref: k8s://a/b}]}",
    );
    malformed("torn", "spec: {registries: [7, {registry: torn.invalid, signCheck: 'no'}]}");
    let leader = Leader::start(&cluster, config("leader"));
    for name in ["text", "misspelt", "torn"] {
        Policy::namespaced(&cluster, &namespace, name).ready("False", "InvalidEntry");
    }
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", crds.to_str().unwrap()]).succeeded();
    let good = Policy::namespaced(&cluster, &namespace, "good");
    good.apply("[{registry: good.invalid, signCheck: false}]");
    good.ready("True", "Usable");

    cluster.restart(|| std::thread::sleep(Duration::from_secs(3)));
    good.apply("[{registry: good.invalid, signCheck: true}]");
    good.ready("False", "NoVerifier");
    drop(leader);
    good.apply("[{registry: good.invalid, signCheck: false}]");
    let _next = Leader::start(&cluster, config("next"));
    good.ready("True", "Usable");
}

fn i8_a_secret_that_podseal_may_not_read_is_named_to_the_administrator_alone() {
    let cluster = Cluster::start();
    let namespace = cluster.bare_namespace("rights");
    cluster.secret(&namespace, "key", &[("cosign.pub", b"x")]);
    let rules = "[{\"op\": \"replace\", \"path\": \"/rules/2/resources\", \"value\": [\"serviceaccounts\"]}]";
    cluster.kubectl(&["patch", "clusterrole", "podseal", "--type=json", "-p", rules]).succeeded();
    let _leader = Leader::start(&cluster, config("leader"));
    let entry = format!("[{{registry: r.invalid, signCheck: true, cosignKeyRef: 'k8s://{namespace}/key'}}]");
    let (wide, own) = (Policy::cluster(&cluster, "wide"), Policy::namespaced(&cluster, &namespace, "own"));
    wide.apply(&entry);
    own.apply(&entry);
    let message = wide.ready("False", "SecretForbidden");
    assert!(message.contains("podseal may not read") && message.contains(&namespace), "{message}");
    own.ready("False", "SecretNotFound");
    let rules = rules.replace("[\"serviceaccounts\"]", "[\"secrets\", \"configmaps\", \"serviceaccounts\"]");
    cluster.kubectl(&["patch", "clusterrole", "podseal", "--type=json", "-p", &rules]).succeeded();
    wide.ready("False", "NoPublicKeys");
    own.ready("False", "NoPublicKeys");
}

crate::tests! {
    needs [Cluster];
    h20_j11_statuses_survive_an_absent_api_server_and_malformed_objects,
    i8_a_secret_that_podseal_may_not_read_is_named_to_the_administrator_alone,
}
