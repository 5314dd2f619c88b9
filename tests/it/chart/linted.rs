//! Rules that linters of manifests know, held against everything the chart can render.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{MATRIX, object, rendered};

crate::tests! {
    needs [Helm];
    pods_have_no_more_power_than_they_need,
    pods_say_how_they_are_and_what_they_use,
    selectors_find_exactly_their_pods,
    h5_a_single_replica_can_be_drained,
    i8_no_role_holds_a_wildcard_or_what_leads_to_other_rights,
    what_is_bound_exists,
    objects_of_a_release_lie_in_its_namespace_or_in_one_that_was_named,
}

/// Pod specs with the names of what holds them.
fn pods(objects: &[Value]) -> Vec<(String, Value)> {
    let pods = objects.iter().filter_map(|object| match object["kind"].as_str() {
        Some("Deployment") => Some((object, &object["spec"]["template"]["spec"])),
        Some("Pod") => Some((object, &object["spec"])),
        _ => None,
    });
    pods.map(|(object, spec)| (object["metadata"]["name"].as_str().unwrap().to_owned(), spec.clone())).collect()
}

fn pods_have_no_more_power_than_they_need() {
    for settings in MATRIX {
        for (name, pod) in pods(&rendered(settings)) {
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{name}");
            assert!(security["runAsUser"].as_u64().unwrap() > 10_000, "{name}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert!(pod.get("hostPID").is_none() && pod.get("hostIPC").is_none(), "{name}");
            let asked = settings.contains(&"hostNetwork=true") && name == "podseal";
            assert_eq!(pod.get("hostNetwork").is_some(), asked, "{name}");
            assert_ne!(pod["serviceAccountName"], Value::Null, "{name}");
            for container in pod["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
                assert!(
                    security["capabilities"].get("add").is_none() && security.get("privileged").is_none(),
                    "{name}"
                );
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    let written = name == "podseal-store" && mount["name"] == "sigstore";
                    assert_eq!(mount["readOnly"].as_bool().unwrap_or_default(), !written, "{name}: {mount}");
                }
            }
        }
    }
}

fn pods_say_how_they_are_and_what_they_use() {
    for settings in MATRIX {
        let objects = rendered(settings);
        for (name, pod) in pods(&objects) {
            for container in pod["containers"].as_array().unwrap() {
                let image = container["image"].as_str().unwrap();
                let tag = image.rsplit(['/']).next().unwrap();
                assert!(tag.contains([':', '@']) && !tag.ends_with(":latest"), "{name}: {image}");
                let resources = &container["resources"];
                assert!(
                    resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string(),
                    "{name}"
                );
                assert!(
                    resources["limits"]["memory"].is_string() && resources["limits"].get("cpu").is_none(),
                    "{name}"
                );
                if name != "podseal-test" {
                    for probe in ["livenessProbe", "readinessProbe"] {
                        assert_eq!(container[probe]["httpGet"]["port"], "plain", "{name}");
                    }
                }
            }
        }
        // What is in flight is finished: drain delay, the longest review, and some time besides.
        let webhook = object(&objects, "Deployment", "podseal");
        assert!(webhook["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() >= 35);
    }
    let objects = rendered(&[]);
    for name in ["podseal", "podseal-controller"] {
        let pod = &object(&objects, "Deployment", name)["spec"]["template"]["spec"];
        assert_eq!(pod["priorityClassName"], "system-cluster-critical");
        let over: Vec<_> =
            pod["topologySpreadConstraints"].as_array().unwrap().iter().map(|c| &c["topologyKey"]).collect();
        assert_eq!(over, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    }
}

/// Whether a map of labels holds all of another.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().expect("labels");
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn selectors_find_exactly_their_pods() {
    for settings in MATRIX {
        let objects = rendered(settings);
        let all = ["podseal", "podseal-controller", "podseal-store"];
        let there = if settings.contains(&"store.enabled=true") { 3 } else { 2 };
        let pods: Vec<_> = all[..there]
            .iter()
            .map(|name| (*name, &object(&objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"]))
            .collect();
        let found = |selector: &Value| -> Vec<&str> {
            pods.iter().filter(|(_, labels)| selects(selector, labels)).map(|(name, _)| *name).collect()
        };
        for object in &objects {
            let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            let spec = &object["spec"];
            match kind {
                "Deployment" | "PodDisruptionBudget" => {
                    assert_eq!(found(&spec["selector"]["matchLabels"]), [name], "{kind}");
                }
                "NetworkPolicy" => assert_eq!(found(&spec["podSelector"]["matchLabels"]), [name], "{kind}"),
                "Service" if name == "podseal" => assert_eq!(found(&spec["selector"]), ["podseal"]),
                "Service" if name == "podseal-store" => assert_eq!(found(&spec["selector"]), ["podseal-store"]),
                "Service" => assert_eq!(found(&spec["selector"]).len(), there),
                _ => {}
            }
        }
    }
}

fn h5_a_single_replica_can_be_drained() {
    for settings in [&[][..], &["replicas=1", "controller.replicas=1"]] {
        let objects = rendered(settings);
        for name in ["podseal", "podseal-controller"] {
            let budget = &object(&objects, "PodDisruptionBudget", name)["spec"];
            assert_eq!(budget["maxUnavailable"], 1);
            assert_eq!(
                (budget.get("minAvailable"), &budget["unhealthyPodEvictionPolicy"]),
                (None, &"AlwaysAllow".into())
            );
        }
    }
}

/// Verbs that change something.
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];

/// The rules of every role, with the name of the role.
fn rules(objects: &[Value]) -> Vec<(String, Value)> {
    let holders = objects.iter().filter(|o| matches!(o["kind"].as_str(), Some("Role" | "ClusterRole")));
    holders
        .flat_map(|role| {
            let name = format!("{} {}", role["kind"].as_str().unwrap(), role["metadata"]["name"].as_str().unwrap());
            let held = role["rules"].as_array().cloned().unwrap_or_default();
            held.into_iter().map(move |rule| (name.clone(), rule)).collect::<Vec<_>>()
        })
        .collect()
}

fn i8_no_role_holds_a_wildcard_or_what_leads_to_other_rights() {
    let has = |rule: &Value, field: &str, one: &[&str]| {
        rule[field].as_array().into_iter().flatten().any(|value| one.contains(&value.as_str().unwrap()))
    };
    for settings in MATRIX {
        for (role, rule) in rules(&rendered(settings)) {
            for field in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(!has(&rule, field, &["*"]), "{role}: {rule}");
            }
            assert!(!has(&rule, "verbs", &["escalate", "bind", "impersonate", "deletecollection"]), "{role}: {rule}");
            assert!(!has(&rule, "apiGroups", &["rbac.authorization.k8s.io", "certificates.k8s.io"]), "{role}: {rule}");
            assert!(!has(&rule, "resources", &["pods/exec", "nodes", "serviceaccounts/token"]), "{role}: {rule}");
            // Of the cluster, Secrets are read by name alone, and nobody writes them.
            if has(&rule, "resources", &["secrets"]) && role.starts_with("ClusterRole") {
                assert_eq!(rule["verbs"], json!(["get"]), "{role}");
            }
            // The webhook parses what comes from outside: it writes Events and one object that has a name.
            if role.ends_with(" podseal") && has(&rule, "verbs", WRITE) && rule["resources"] != json!(["events"]) {
                assert_eq!(rule["resourceNames"], json!(["podseal-notary-trust"]), "{role}");
                assert_eq!((&rule["resources"], &rule["verbs"]), (&json!(["configmaps"]), &json!(["get", "update"])));
            }
            // What can be named is named.
            let named = &["validatingwebhookconfigurations", "customresourcedefinitions"];
            if has(&rule, "resources", named) && has(&rule, "verbs", WRITE) {
                assert!(rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty()), "{role}: {rule}");
                assert!(!has(&rule, "verbs", &["create", "delete"]), "{role}: {rule}");
            }
            if has(&rule, "resources", &["pods"]) && has(&rule, "verbs", WRITE) {
                assert_eq!(role, "Role podseal-test", "{rule}");
            }
        }
    }
}

fn what_is_bound_exists() {
    for settings in MATRIX {
        let objects = rendered(settings);
        for binding in objects.iter().filter(|o| o["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding"))) {
            let place = |object: &Value| object["metadata"].get("namespace").cloned();
            let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
            let role = objects
                .iter()
                .find(|o| o["kind"] == *kind && o["metadata"]["name"] == *name && place(o) == place(binding));
            assert!(role.is_some(), "{binding}");
            for subject in binding["subjects"].as_array().unwrap() {
                assert_eq!(
                    (&subject["kind"], &subject["namespace"]),
                    (&"ServiceAccount".into(), &"registry-system".into())
                );
                object(&objects, "ServiceAccount", subject["name"].as_str().unwrap());
            }
        }
    }
}

fn objects_of_a_release_lie_in_its_namespace_or_in_one_that_was_named() {
    const OF_THE_CLUSTER: [&str; 4] =
        ["ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];
    for settings in MATRIX {
        let mut names = BTreeSet::new();
        for object in rendered(settings) {
            let (kind, metadata) = (object["kind"].as_str().unwrap().to_owned(), &object["metadata"]);
            let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
            assert_eq!(namespace.is_empty(), OF_THE_CLUSTER.contains(&kind.as_str()), "{object}");
            assert!(["", "registry-system", "default", "team-a", "team-b"].contains(&namespace.as_str()), "{object}");
            // The whitelist is the administrator's: an upgrade must not write it, nor an uninstallation take it away.
            assert_ne!(metadata["name"], "image-validation-webhook-whitelist");
            // Without hooks every name is there once, as tools that know no Helm want it.
            let hook = metadata["annotations"]["helm.sh/hook"].to_string();
            assert!(hook != "\"pre-delete\"" || !settings.contains(&"uninstallHooks=false"), "{object}");
            assert!(names.insert((kind, namespace, metadata["name"].to_string(), hook)), "twice: {object}");
        }
    }
}
