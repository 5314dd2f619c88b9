//! The Pods that somebody tries to run, and what must come of each.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::failed;

/// What podseal must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Allowed,
    /// Allowed, with a warning that the Pods to come would be denied.
    Warned,
    Denied,
    /// Denied because the question could not be answered, and said so.
    Undecided,
}

impl Expected {
    /// As the table has it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Denied => "DENIED",
            Self::Undecided => "UNDECIDED",
        }
    }
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Scene {
    /// The object's name.
    pub(super) name: &'static str,
    /// What there is to know about it, for people.
    pub(super) about: &'static str,
    pub(super) expected: Expected,
    /// What podseal's own words must hold, so that it is right for the right reason.
    pub(super) because: &'static str,
    /// The object as a user would write it.
    pub(super) yaml: String,
}

/// All attempts; `host` is the registry's.
pub(super) fn scenes(host: &str) -> Vec<Scene> {
    use Expected::{Allowed, Denied, Undecided, Warned};
    let scene = |name, about, image: &str, expected, because| {
        let yaml = pod(name, &[if image.contains("nginx") { image.to_owned() } else { format!("{host}/{image}") }]);
        Scene { name, about, expected, because, yaml }
    };
    let maker = "GPG by imagemaker@registry.local";
    let mut ten = vec![format!("{host}/shop/web:1"); 9];
    ten.push(format!("{host}/shop/unsigned:1"));
    vec![
        scene("signed", "signed by the image maker, OpenPGP", "shop/web:1", Allowed, maker),
        scene("unsigned", "nobody signed it", "shop/unsigned:1", Denied, "no signature for"),
        scene("wrong-key", "signed, but by a stranger", "shop/stranger:1", Denied, "is invalid"),
        scene("replayed", "signed image under another name", "shop/payment:1", Denied, "signed under another name"),
        scene("tampered", "changed after it was signed", "shop/tampered:1", Denied, "different from the signed digest"),
        scene("cosign-bundle", "signed with cosign 3 (bundle)", "platform/api:1", Allowed, "Cosign by key"),
        scene("cosign-legacy", "signed with cosign 2 (.sig tag)", "platform/batch:1", Allowed, "Cosign by key"),
        scene("cosign-none", "nobody signed it", "platform/unsigned:1", Denied, "signature is empty"),
        scene("whitelisted", "unsigned, but on the whitelist", "tools/debug:1", Allowed, "whitelist line"),
        scene("open-registry", "policy has signCheck: false", "sandbox/anything:1", Allowed, "spec.registries[3]"),
        scene("unknown-registry", "no policy names its registry", "nginx:1.29", Denied, "does not meet"),
        Scene {
            name: "ten-containers",
            about: "nine are signed, the last is not",
            expected: Denied,
            because: "spec.containers[9].image",
            yaml: pod("ten-containers", &ten),
        },
        scene("store-down", "its signature store is down", "vault/ledger:1", Undecided, "could not be checked"),
        Scene {
            name: "deployment",
            about: "a Deployment of the unsigned image",
            expected: Warned,
            because: "Pods would be denied",
            yaml: deployment("deployment", &format!("{host}/shop/unsigned:1")),
        },
    ]
}

fn pod(name: &str, images: &[String]) -> String {
    let mut yaml =
        format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: demo\nspec:\n  containers:\n");
    for (i, image) in images.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(yaml, "  - name: c{i}\n    image: {image}");
    }
    yaml
}

fn deployment(name: &str, image: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: demo
spec:
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      containers:
      - name: c0
        image: {image}
"
    )
}

impl Scene {
    /// The question that a Kubernetes API server asks before it stores the object.
    pub(super) fn review(&self) -> Result<Value, String> {
        let object: Value = serde_saphyr::from_str(&self.yaml).map_err(failed("read a Pod of the demo"))?;
        let (group, kind, resource) = match object.get("kind").and_then(Value::as_str) {
            Some("Deployment") => ("apps", "Deployment", "deployments"),
            _ => ("", "Pod", "pods"),
        };
        Ok(json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": format!("demo-{}", self.name),
                "kind": {"group": group, "version": "v1", "kind": kind},
                "resource": {"group": group, "version": "v1", "resource": resource},
                "name": self.name,
                "namespace": "demo",
                "operation": "CREATE",
                "userInfo": {"username": "newcomer", "groups": ["system:authenticated"]},
                "object": object,
                "oldObject": null,
                "dryRun": false,
            },
        }))
    }
}
