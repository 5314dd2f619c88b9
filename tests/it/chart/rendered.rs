//! What the chart renders, read as the API servers of several releases read it.

use std::collections::BTreeSet;

use podseal::telemetry::Metrics;
use serde_json::Value;

use super::{MATRIX, object, rendered, root, template, wanted};
use crate::support::podseal::podseal;
use crate::support::tools::{self, DECODERS};

crate::tests! {
    needs [Helm, Decoders];
    every_rendering_is_read_strictly_by_each_release_of_kubernetes,
    a_field_that_does_not_exist_is_not_read,
    the_flags_in_the_pods_are_flags_of_the_binary,
    a_dry_run_and_early_feedback_refuse_nothing,
    exempt_namespaces_are_the_same_in_the_selector_and_in_the_binary,
    the_mounts_of_the_controller_fit_the_key_source,
    alerts_and_dashboard_name_metrics_that_exist,
    b4_no_label_that_people_set_decides_who_is_asked,
}

/// Groups of kinds that come from elsewhere.
const FOREIGN: &str = "cert-manager.io,monitoring.coreos.com";

fn every_rendering_is_read_strictly_by_each_release_of_kubernetes() {
    for settings in MATRIX {
        let ran = template("podseal", "registry-system", settings, &["--include-crds"]).succeeded();
        // What the controller puts in place is read as well.
        let webhooks = wanted(&super::documents(&ran.stdout), "podseal");
        let webhooks =
            webhooks.iter().fold(String::new(), |text, webhook| text + "---\n" + &webhook.to_string() + "\n");
        let all = ran.stdout + "\n" + &webhooks;
        for decoder in DECODERS {
            let read = tools::run_with(tools::command(decoder).args(["--foreign", FOREIGN]), all.as_bytes());
            let read = read.succeeded();
            assert!(read.stdout.matches("decoded: ").count() > 20, "{read}");
            assert!(read.stdout.contains("admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration"), "{read}");
        }
    }
}

fn a_field_that_does_not_exist_is_not_read() {
    let ran = template("podseal", "registry-system", &[], &[]).succeeded();
    let broken = ran.stdout.replace("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true");
    for decoder in DECODERS {
        let read = tools::run_with(&mut tools::command(decoder), broken.as_bytes()).failed();
        assert!(read.stdout.contains("unknown field"), "{read}");
    }
}

/// The containers of a rendering with the names of what they are in.
fn containers(objects: &[Value]) -> Vec<(String, &Value)> {
    let of = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let pods = objects.iter().filter_map(|object| match object["kind"].as_str() {
        Some("Deployment") => Some((of(object), &object["spec"]["template"]["spec"]["containers"])),
        Some("Pod") => Some((of(object), &object["spec"]["containers"])),
        _ => None,
    });
    pods.flat_map(|(name, list)| list.as_array().unwrap().iter().map(move |c| (name.clone(), c))).collect()
}

fn args(container: &Value) -> Vec<&str> {
    container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
}

fn the_flags_in_the_pods_are_flags_of_the_binary() {
    for settings in MATRIX {
        let objects = rendered(settings);
        let containers = containers(&objects);
        let store = usize::from(settings.contains(&"store.enabled=true"));
        assert_eq!(containers.len(), 3 + store, "two Deployments, the store and the test");
        for (_, container) in containers {
            // What stands before --help is read; what does not exist, or has no such value, is refused.
            podseal(&[&args(container)[..], &["--help"]].concat()).succeeded();
        }
    }
    podseal(&["serve", "--no-such-flag", "--help"]).failed();
    podseal(&["serve", "--enforcement=perhaps", "--help"]).failed();
}

/// `failurePolicy` by the name of the webhook.
fn failure_policies(settings: &[&str]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let webhooks = wanted(&rendered(settings), "podseal");
    let entries = webhooks.iter().flat_map(|configuration| configuration["webhooks"].as_array().unwrap());
    entries.map(|entry| (text(&entry["name"]), text(&entry["failurePolicy"]))).collect()
}

fn a_dry_run_and_early_feedback_refuse_nothing() {
    let of = |name: &str, policy: &str| (format!("{name}.podseal.tmax.io"), policy.to_owned());
    let [pods, templates, policies] = [of("pods", "Fail"), of("templates", "Ignore"), of("policies", "Ignore")];
    assert_eq!(failure_policies(&[]), [pods.clone(), templates, policies.clone()]);
    assert_eq!(failure_policies(&["templates=off"]), [pods.clone(), policies.clone()]);
    assert_eq!(failure_policies(&["templates=enforce"])[1], of("templates", "Fail"));
    assert_eq!(failure_policies(&["webhooks.policies=false", "templates=off"]), [pods]);
    assert_eq!(failure_policies(&["pinning.enabled=true"])[3], of("pins", "Ignore"));
    for settings in [&["enforcement=Audit"][..], &["enforcement=Audit", "templates=enforce"]] {
        assert!(failure_policies(settings).iter().all(|(_, policy)| policy == "Ignore"), "{settings:?}");
    }
}

fn exempt_namespaces_are_the_same_in_the_selector_and_in_the_binary() {
    let settings = ["exempt.namespaces={sandbox}", "exempt.nodeAgents={calico-system,sandbox}", "pinning.enabled=true"];
    let objects = rendered(&settings);
    let mut judging = 0;
    for entry in wanted(&objects, "podseal").iter().flat_map(|c| c["webhooks"].as_array().unwrap().clone()) {
        if entry["name"] == "policies.podseal.tmax.io" {
            continue;
        }
        let named = entry["namespaceSelector"]["matchExpressions"][0]["values"].as_array().unwrap().clone();
        assert_eq!(named, ["kube-system", "registry-system", "calico-system", "sandbox"]);
        judging += 1;
    }
    assert_eq!(judging, 3);
    for (name, container) in containers(&objects).into_iter().filter(|(name, _)| name != "podseal-test") {
        let exempt: Vec<_> = args(container).into_iter().filter(|arg| arg.starts_with("--exempt-namespace")).collect();
        assert_eq!(exempt, ["--exempt-namespace=calico-system", "--exempt-namespace=sandbox"], "{name}");
    }
}

fn b4_no_label_that_people_set_decides_who_is_asked() {
    for settings in MATRIX {
        for entry in wanted(&rendered(settings), "podseal").iter().flat_map(|c| c["webhooks"].as_array().unwrap()) {
            assert!(entry.get("objectSelector").is_none(), "{entry}");
            let expressions = entry["namespaceSelector"]["matchExpressions"].as_array().cloned().unwrap_or_default();
            assert!(expressions.iter().all(|e| e["key"] == "kubernetes.io/metadata.name"), "{entry}");
            assert!(entry["namespaceSelector"].get("matchLabels").is_none(), "{entry}");
        }
    }
}

fn the_mounts_of_the_controller_fit_the_key_source() {
    let node = "keys.hostPath.nodeSelector.key-host=yes";
    let cases: [(&[&str], &str, bool); 4] = [
        (&["keys.source=hostPath", node], "hostPath", true),
        (&["keys.source=pvc", "keys.pvc.claimName=keys"], "persistentVolumeClaim", true),
        (&["keys.source=configMap", "keys.configMap.name=keys"], "configMap", true),
        (&["keys.source=none"], "", false),
    ];
    for (settings, kind, mounted) in cases {
        let objects = rendered(settings);
        let spec = &object(&objects, "Deployment", "podseal-controller")["spec"];
        let pod = &spec["template"]["spec"];
        let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "keys");
        assert_eq!(volume.is_some_and(|volume| volume.get(kind).is_some()), mounted, "{settings:?}");
        assert_eq!(args(&pod["containers"][0]).contains(&"--keys-dir=/var/sigstore/keys"), mounted, "{settings:?}");
        // The directory of a host is seen from there alone.
        let pinned = kind == "hostPath";
        assert_eq!(spec["replicas"], if pinned { 1 } else { 2 }, "{settings:?}");
        assert_eq!(pod["nodeSelector"]["key-host"] == "yes", pinned, "{settings:?}");
        // Reviews are answered without any of it.
        let webhook = &object(&objects, "Deployment", "podseal")["spec"];
        assert_eq!((&webhook["replicas"], webhook["template"]["spec"].get("volumes")), (&Value::from(2), None));
    }
}

/// Words of a text that begin with `podseal_`, as metrics are called.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("podseal_")).map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

fn alerts_and_dashboard_name_metrics_that_exist() {
    let read = |file: &str| std::fs::read_to_string(root().join("charts/podseal/files").join(file)).unwrap();
    let metrics = Metrics::new();
    metrics.key("fingerprint", "k8s://ns/name", Some(1.0));
    metrics.watch("whitelist", true);
    metrics.certificate_expiry("webhook", 1.0);
    let mut existing = metrics_in(&metrics.encode());
    // Of metrics without a sample there is nothing on the page but in the docs, whose table another test compares.
    existing.extend(metrics_in(&std::fs::read_to_string(root().join("docs/install.md")).unwrap()));
    for file in ["alerts.yaml", "dashboard.json"] {
        let named = metrics_in(&read(file));
        assert!(named.len() > 8, "{named:?}");
        let unknown: Vec<_> = named.difference(&existing).collect();
        assert!(unknown.is_empty(), "{file} names metrics that do not exist: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    // The text goes through the chart as it is.
    let objects = rendered(&["prometheusRule.enabled=true", "dashboard.enabled=true"]);
    let rules = &object(&objects, "PrometheusRule", "podseal")["spec"]["groups"][0]["rules"];
    assert_eq!(*rules, super::documents(&read("alerts.yaml"))[0]);
    let board = &object(&objects, "ConfigMap", "podseal-dashboard")["data"]["podseal.json"];
    assert_eq!(serde_json::from_str::<Value>(board.as_str().unwrap()).unwrap(), dashboard);
}
