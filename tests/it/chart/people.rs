//! The roles for people: what each may do, and that nobody gets a right by holding one that came before.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::{MATRIX, cluster, object, release, rendered};
use crate::support::cluster::{Cluster, User};

crate::tests! {
    needs [Cluster, Helm];
    security_administrators_write_policies_and_the_whitelist,
    image_makers_and_image_users_read_policies_and_write_none,
    owners_of_a_namespace_write_its_policies_where_that_is_granted,
    image_signers_add_signatures_and_say_nothing_about_them,
    image_auditors_say_what_is_verified,
    no_right_to_write_policies_comes_with_a_role_of_kubernetes,
}

const RELEASE: &str = "podseal-people";
const READ: [&str; 3] = ["get", "list", "watch"];

/// The rules of an aggregated role, put together as the control plane does it; there is no controller here.
fn aggregated(objects: &[Value], role: &str) -> Vec<Value> {
    let selector = &object(objects, "ClusterRole", role)["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"];
    let (label, value) = selector.as_object().unwrap().iter().next().unwrap();
    let parts =
        objects.iter().filter(|o| o["kind"] == "ClusterRole" && o["metadata"]["labels"][label.as_str()] == *value);
    parts.flat_map(|part| part["rules"].as_array().unwrap().clone()).collect()
}

fn installed() -> &'static Cluster {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cluster = cluster();
        cluster.kubectl(&["create", "namespace", "team"]).succeeded();
        release(cluster, &["install"], RELEASE, &[]).succeeded();
        let objects = rendered(&[]);
        for kind in ["security-administrator", "image-maker", "image-user"] {
            let rules = aggregated(&objects, &format!("podseal-{kind}"));
            let role = serde_json::json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": format!("filled-{kind}")}, "rules": rules,
            });
            cluster.apply(&role.to_string()).succeeded();
            let binding = [
                "create",
                "clusterrolebinding",
                kind,
                &format!("--clusterrole=filled-{kind}"),
                &format!("--user={kind}"),
            ];
            cluster.kubectl(&binding).succeeded();
        }
        let role = format!("--clusterrole={RELEASE}-namespace-policies-edit");
        cluster.kubectl(&["-n", "team", "create", "rolebinding", "owner", &role, "--user=owner"]).succeeded();
        for user in ["image-signer", "image-auditor"] {
            let role = format!("--clusterrole={RELEASE}-{user}");
            cluster.kubectl(&["create", "clusterrolebinding", user, &role, &format!("--user={user}")]).succeeded();
        }
        let role = format!("--role={RELEASE}-whitelist-edit");
        cluster
            .kubectl(&["-n", RELEASE, "create", "rolebinding", "w", &role, "--user=security-administrator"])
            .succeeded();
    });
    cluster()
}

fn may(user: &str, verb: &str, what: &str, namespace: &str) -> bool {
    installed().kubectl_as(User::Admin, &["auth", "can-i", verb, what, "-n", namespace, "--as", user], "").line()
        == "yes"
}

fn security_administrators_write_policies_and_the_whitelist() {
    let user = "security-administrator";
    for verb in ["get", "create", "patch", "delete"] {
        assert!(may(user, verb, "clusterregistrysecuritypolicies.tmax.io", "default"), "{verb}");
        assert!(may(user, verb, "registrysecuritypolicies.tmax.io", "team"), "{verb}");
    }
    assert!(may(user, "list", "pods", "team"));
    assert!(may(user, "patch", "configmaps/image-validation-webhook-whitelist", RELEASE));
    assert!(!may(user, "patch", "configmaps/other", RELEASE));
    assert!(!may(user, "get", "secrets", RELEASE));
    assert!(!may(user, "create", "pods", "team"));
}

fn image_makers_and_image_users_read_policies_and_write_none() {
    for user in ["image-maker", "image-user"] {
        for what in ["clusterregistrysecuritypolicies.tmax.io", "registrysecuritypolicies.tmax.io"] {
            assert!(may(user, "list", what, "team"), "{user} {what}");
            for verb in ["create", "update", "patch", "delete"] {
                assert!(!may(user, verb, what, "team"), "{user} {verb} {what}");
            }
        }
        assert!(may(user, "list", "events", "team"));
        assert!(!may(user, "get", "secrets", RELEASE));
        assert!(!may(user, "patch", "configmaps/image-validation-webhook-whitelist", RELEASE));
    }
}

fn owners_of_a_namespace_write_its_policies_where_that_is_granted() {
    assert!(may("owner", "create", "registrysecuritypolicies.tmax.io", "team"));
    assert!(!may("owner", "create", "registrysecuritypolicies.tmax.io", "default"));
    assert!(!may("owner", "create", "clusterregistrysecuritypolicies.tmax.io", "team"));
}

/// `kubectl ARGS` as that user, with an object on its standard input.
fn as_user(user: &str, args: &[&str], object: &Value) -> crate::support::tools::Ran {
    let args = [args, &["--as", user, "-f", "-"]].concat();
    installed().kubectl_as(User::Admin, &args, &object.to_string())
}

/// A record that claims to be verified.
fn record(digit: &str) -> Value {
    let hex = digit.repeat(64);
    serde_json::json!({
        "apiVersion": "podseal.io/v1alpha1", "kind": "ImageSignature",
        "metadata": {"name": format!("sha256-{hex}-{}", "0".repeat(32))},
        "spec": {"image": format!("sha256:{hex}"), "reference": "registry.local/a", "type": "SimpleSigning", "content": "kAA="},
        "status": {"identity": "forged", "conditions": [{
            "type": "Verified", "status": "True", "reason": "Verified", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    })
}

fn image_signers_add_signatures_and_say_nothing_about_them() {
    let user = "image-signer";
    let signatures = "imagesignatures.podseal.io";
    for verb in ["get", "list", "create"] {
        assert!(may(user, verb, signatures, "default"), "{verb}");
    }
    for verb in ["update", "patch", "delete", "deletecollection"] {
        assert!(!may(user, verb, signatures, "default"), "{verb}");
    }
    let made = record("a");
    as_user(user, &["create"], &made).succeeded();
    // What it says of its status is left out.
    let name = made["metadata"]["name"].as_str().unwrap();
    let status = installed().kubectl(&["get", "imgsig", name, "-o", "jsonpath={.status}"]).succeeded();
    assert_eq!(status.stdout, "");
    let ran = as_user(user, &["replace", "--subresource=status"], &made).failed();
    assert!(ran.stderr.contains("forbidden"), "{ran}");
    assert!(
        !may(user, "get", "secrets", RELEASE)
            && !may(user, "create", "clusterregistrysecuritypolicies.tmax.io", "default")
    );
}

fn image_auditors_say_what_is_verified() {
    let user = "image-auditor";
    for verb in ["get", "list", "create", "update", "delete"] {
        assert!(may(user, verb, "imagesignatures.podseal.io", "default"), "{verb}");
    }
    let made = record("b");
    let name = made["metadata"]["name"].as_str().unwrap();
    as_user(user, &["create"], &made).succeeded();
    as_user(user, &["replace", "--subresource=status"], &made).succeeded();
    let identity = installed().kubectl(&["get", "imgsig", name, "-o", "jsonpath={.status.identity}"]).succeeded();
    assert_eq!(identity.stdout, "forged");
    // What a signer hung on to a record is taken off.
    let mut held = record("d");
    held["metadata"]["finalizers"] = serde_json::json!(["evil.example.com/hold"]);
    held["metadata"]["ownerReferences"] = serde_json::json!([{
        "apiVersion": "v1", "kind": "Namespace", "name": "absent", "uid": "0", "blockOwnerDeletion": true,
    }]);
    as_user("image-signer", &["create"], &held).succeeded();
    as_user(user, &["replace"], &record("d")).succeeded();
    let of = |what: &str| {
        let path = format!("jsonpath={{.metadata.{what}}}");
        installed().kubectl(&["get", "imgsig", held["metadata"]["name"].as_str().unwrap(), "-o", &path]).succeeded()
    };
    assert_eq!((of("finalizers").stdout, of("ownerReferences").stdout), (String::new(), String::new()));
    // What was verified stays what it was.
    let mut changed = made.clone();
    changed["spec"]["reference"] = "registry.local/b".into();
    let ran = as_user(user, &["replace"], &changed).failed();
    assert!(ran.stderr.contains("spec cannot be changed"), "{ran}");
    installed().kubectl(&["delete", "imgsig", name, "--as", user]).succeeded();
    assert!(!may(user, "get", "secrets", RELEASE) && !may(user, "create", "registrysecuritypolicies.tmax.io", "team"));
    for nobody in ["image-maker", "image-user", "owner"] {
        for verb in ["create", "update", "delete"] {
            assert!(!may(nobody, verb, "imagesignatures.podseal.io", "default"), "{nobody} {verb}");
        }
    }
    assert!(may("security-administrator", "list", "imagesignatures.podseal.io", "default"));
    assert!(!may("security-administrator", "delete", "imagesignatures.podseal.io", "default"));
}

fn no_right_to_write_policies_comes_with_a_role_of_kubernetes() {
    for settings in MATRIX.iter().copied().chain([&["userRoles.aggregateToView=false"][..]]) {
        for role in rendered(settings).iter().filter(|object| object["kind"] == "ClusterRole") {
            let labels: BTreeMap<String, Value> = serde_json::from_value(role["metadata"]["labels"].clone()).unwrap();
            for label in labels.keys().filter(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-")) {
                assert_eq!(label, "rbac.authorization.k8s.io/aggregate-to-view", "{role}");
                assert!(!settings.contains(&"userRoles.aggregateToView=false"), "{role}");
                // Whoever may view may look, and no more.
                for verb in role["rules"].as_array().unwrap().iter().flat_map(|rule| rule["verbs"].as_array().unwrap())
                {
                    assert!(READ.contains(&verb.as_str().unwrap()), "{role}");
                }
            }
        }
    }
}
