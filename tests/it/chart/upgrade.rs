//! From the earlier webhook to podseal, as docs/upgrade.md has it: its definitions, objects and legacy whitelist are there,
//! and podseal is installed over them.

use serde_json::{Value, json};

use super::{folder, helm, root};
use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::podseal::{Options, Podseal};
use crate::support::review::{Answer, Review};

crate::tests! {
    needs [Cluster, Helm];
    h8_objects_of_the_earlier_webhook_stay_valid_and_mean_the_same,
}

/// A definition as the earlier webhook brought it: fields and their types, nothing else.
fn definition(kind: &str, short: &str, scope: &str) -> Value {
    let plural = kind.to_lowercase().replace("policy", "policies");
    let text = json!({"type": "string"});
    let entry = json!({
        "type": "object", "required": ["registry", "signCheck"],
        "properties": {
            "registry": text, "signCheck": {"type": "boolean"}, "notary": text, "cosignKeyRef": text,
            "signer": {"type": "array", "items": text},
        },
    });
    let spec = json!({"type": "object", "required": ["registries"], "properties": {"registries": {"type": "array", "items": entry}}});
    let schema = json!({
        "type": "object", "required": ["spec"],
        "properties": {"apiVersion": text, "kind": text, "metadata": {"type": "object"}, "spec": spec},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.tmax.io")},
        "spec": {
            "group": "tmax.io", "scope": scope,
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
                "shortNames": [short],
            },
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

const OBJECTS: &str = r#"
apiVersion: tmax.io/v1
kind: ClusterRegistrySecurityPolicy
metadata: {name: site}
spec:
  registries:
  - {registry: open.example.com, signCheck: false}
  - {registry: signed.example.com, notary: '', cosignKeyRef: k8s://registry-system/cosign-key, signCheck: true, signer: [a, b]}
---
apiVersion: tmax.io/v1
kind: RegistrySecurityPolicy
metadata: {name: team, namespace: team}
spec:
  registries:
  - {registry: team.example.com, signCheck: false, notary: https://notary.example.com}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: image-validation-webhook-whitelist, namespace: registry-system}
data:
  whitelist-image.json: '["tools.example.com/*", "registry:2.7.1"]'
  whitelist-namespace.json: '["monitoring"]'
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: image-validation-admission}
"#;

fn earlier(cluster: &Cluster) {
    for (kind, short, scope) in
        [("RegistrySecurityPolicy", "rsp", "Namespaced"), ("ClusterRegistrySecurityPolicy", "crsp", "Cluster")]
    {
        cluster.apply(&definition(kind, short, scope).to_string()).succeeded();
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).succeeded();
    for namespace in [OWN_NAMESPACE, "team"] {
        cluster.kubectl(&["create", "namespace", namespace]).succeeded();
    }
    cluster.wait_for(&["get", "crsp,rsp", "-A"], |_| true);
    cluster.apply(OBJECTS).succeeded();
}

/// Specs of all policies, and the whitelist.
fn objects(cluster: &Cluster) -> Vec<String> {
    let policies = cluster.kubectl(&["get", "crsp,rsp", "-A", "-o", "jsonpath={.items[*].spec}"]).succeeded().stdout;
    let whitelist =
        ["-n", OWN_NAMESPACE, "get", "configmap", "image-validation-webhook-whitelist", "-o", "jsonpath={.data}"];
    vec![policies, cluster.kubectl(&whitelist).succeeded().stdout]
}

fn h8_objects_of_the_earlier_webhook_stay_valid_and_mean_the_same() {
    let cluster = Cluster::empty();
    earlier(&cluster);
    let before = objects(&cluster);
    let (chart, kubeconfig) = (folder(), cluster.kubeconfig(User::Admin));
    let install = [
        "install",
        "podseal",
        chart.to_str().unwrap(),
        "-n",
        OWN_NAMESPACE,
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
    ];
    helm(&install).succeeded();
    // As the controller does it, and `podseal crds | kubectl apply` without it.
    let crds = root().join("crds");
    let apply =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=podseal", "-f", crds.to_str().unwrap()];
    cluster.kubectl(&apply).succeeded();
    cluster.wait_for(&["explain", "crsp.spec.registries.gpgKeyRef"], |text| text.contains("FIELD"));
    assert_eq!(objects(&cluster), before);
    cluster.apply(OBJECTS).succeeded();
    assert_eq!(objects(&cluster), before);

    let mut options = Options::new("upgraded");
    options.user = User::Admin;
    let podseal = Podseal::start(&cluster, &options);
    let ask = |namespace: &str, image: &str| podseal.review(&Review::pod(namespace).container("c", image));
    for (namespace, image) in [
        ("default", "open.example.com/a:1"),
        ("team", "team.example.com/a:1"),
        ("default", "tools.example.com/a/b:1"),
        ("default", "registry:2.7.1"),
        ("monitoring", "anything.example.com/a:1"),
    ] {
        assert!(ask(namespace, image).allowed, "{image} in {namespace}");
    }
    for (namespace, image) in [
        ("default", "signed.example.com/a:1"),
        ("default", "team.example.com/a:1"),
        ("default", "other.example.com/a:1"),
        ("team", "other.example.com/a:1"),
    ] {
        let answer: Answer = ask(namespace, image);
        assert!(
            !answer.allowed && answer.message.starts_with("Pod is not valid:"),
            "{image} in {namespace}: {answer:?}"
        );
        assert!(answer.message.contains(image), "{answer:?}");
    }
    // Nobody but the administrator takes the earlier one away, and as long as it is there, it goes on.
    cluster.kubectl(&["delete", "mutatingwebhookconfiguration", "image-validation-admission"]).succeeded();
}
