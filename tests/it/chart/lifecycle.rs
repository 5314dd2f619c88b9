//! Install, upgrade, roll back, uninstall: the webhooks stay armed, and go first.

use serde_json::Value;

use super::{MATRIX, cluster, documents, release, rendered, wanted};
use crate::support::cluster::{Cluster, User};
use crate::support::tools::Ran;

crate::tests! {
    needs [Cluster, Helm];
    h7_nothing_is_asked_before_the_controller_arms_the_webhooks,
    upgrade_and_rollback_leave_the_webhooks_armed,
    h6_the_webhooks_are_the_first_to_go,
    the_api_server_takes_whatever_the_chart_renders,
    without_helm_the_same_file_installs_and_is_applied_again,
    what_the_notes_say_can_be_looked_at,
}

const CONFIGURATION: &str = "validatingwebhookconfiguration";

/// The entries that the API server holds.
fn held(cluster: &Cluster, name: &str) -> Vec<Value> {
    let ran = cluster.kubectl(&["get", CONFIGURATION, name, "-o", "json"]).succeeded();
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    object["webhooks"].as_array().cloned().unwrap_or_default()
}

/// Puts entries in place as the controller does; they speak of a namespace that does not exist.
fn arm(cluster: &Cluster, name: &str) {
    let text = format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {{name: {name}}}\n\
         webhooks:\n- name: pods.podseal.tmax.io\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  \
         clientConfig: {{caBundle: {}, service: {{namespace: {name}, name: {name}, path: /validate}}}}\n  \
         namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: nowhere}}}}\n  \
         rules:\n  - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}\n",
        cluster.authority().bundle(),
    );
    let args = ["apply", "--server-side", "--field-manager=podseal", "--force-conflicts", "-f", "-"];
    cluster.kubectl_as(User::Admin, &args, &text).succeeded();
}

fn h7_nothing_is_asked_before_the_controller_arms_the_webhooks() {
    let (cluster, name) = (cluster(), "podseal-order");
    let settings = ["pinning.enabled=true"];
    release(cluster, &["install"], name, &settings).succeeded();
    assert_eq!(held(cluster, name), [] as [Value; 0]);
    let pins =
        cluster.kubectl(&["get", "mutatingwebhookconfiguration", name, "-o", "jsonpath={.webhooks}"]).succeeded();
    assert_eq!(pins.line(), "");
    // Definitions come with the chart, so that policies can be applied at once.
    cluster.kubectl(&["get", "crsp,rsp", "-A"]).succeeded();
    // What the controller is to put in place has the names of the empty ones.
    for configuration in wanted(&rendered(&settings), "podseal") {
        assert_eq!(configuration["metadata"]["name"], "podseal");
    }
    // A setting that goes takes its configuration along.
    release(cluster, &["upgrade"], name, &["pinning.enabled=false"]).succeeded();
    cluster.kubectl(&["get", "mutatingwebhookconfiguration", name]).failed();
    release(cluster, &["uninstall"], name, &[]).succeeded();
}

fn upgrade_and_rollback_leave_the_webhooks_armed() {
    let (cluster, name) = (cluster(), "podseal-upgrade");
    release(cluster, &["install"], name, &[]).succeeded();
    arm(cluster, name);
    let armed = held(cluster, name);
    assert_eq!(armed.len(), 1);
    let steps: [(&[&str], &[&str]); 3] = [
        (&["upgrade"], &["templates=enforce", "commonLabels.team=a"]),
        (&["upgrade"], &["replicas=3"]),
        (&["rollback"], &[]),
    ];
    for (verb, settings) in steps {
        release(cluster, verb, name, settings).succeeded();
        assert_eq!(held(cluster, name), armed, "after {verb:?} {settings:?}");
    }
    release(cluster, &["uninstall"], name, &[]).succeeded();
}

/// The kinds that helm said it deletes, in that order.
fn deleted(ran: &Ran) -> Vec<String> {
    let lines = ran.stderr.lines().chain(ran.stdout.lines()).filter(|line| line.contains("Starting delete for"));
    lines.map(|line| line.trim_end_matches('"').rsplit(' ').next().unwrap_or_default().to_owned()).collect()
}

fn h6_the_webhooks_are_the_first_to_go() {
    let (cluster, name) = (cluster(), "podseal-goes");
    release(cluster, &["install"], name, &[]).succeeded();
    arm(cluster, name);
    let whitelist =
        ["-n", name, "create", "configmap", "image-validation-webhook-whitelist", "--from-literal=whitelist-images=a"];
    cluster.kubectl(&whitelist).succeeded();
    cluster
        .kubectl(&["-n", name, "create", "secret", "generic", "sigstore-key-group1", "--from-literal=a=b"])
        .succeeded();
    let ran = release(cluster, &["uninstall", "--debug"], name, &[]).succeeded();
    let order = deleted(&ran);
    let place =
        |kind: &str| order.iter().position(|deleted| deleted == kind).unwrap_or_else(|| panic!("{kind}: {ran}"));
    let webhooks = place("ValidatingWebhookConfiguration");
    for kind in ["Deployment", "Service", "ConfigMap", "ServiceAccount", "ClusterRoleBinding", "RoleBinding"] {
        assert!(webhooks < place(kind), "{kind} before the webhooks: {order:?}");
    }
    cluster.kubectl(&["get", CONFIGURATION, name]).failed();
    // Nothing that blocks is left, and nothing is gone that was not podseal's to take.
    cluster
        .kubectl(&["-n", name, "get", "configmap/image-validation-webhook-whitelist", "secret/sigstore-key-group1"])
        .succeeded();
    cluster.kubectl(&["get", "crd", "clusterregistrysecuritypolicies.tmax.io"]).succeeded();
    let left = cluster.kubectl(&[
        "get",
        "clusterrole,clusterrolebinding",
        "-l",
        &format!("app.kubernetes.io/instance={name}"),
        "-o",
        "name",
    ]);
    assert_eq!(left.succeeded().line(), "");
}

fn the_api_server_takes_whatever_the_chart_renders() {
    let cluster = cluster();
    for namespace in ["registry-system", "team-a", "team-b"] {
        // It may be there already.
        let _ = cluster.kubectl(&["create", "namespace", namespace]);
    }
    for settings in MATRIX {
        let foreign = ["cert-manager.io/", "monitoring.coreos.com/"];
        let known =
            |object: &&Value| !foreign.iter().any(|group| object["apiVersion"].as_str().unwrap().starts_with(group));
        let objects = rendered(settings);
        let text = objects
            .iter()
            .filter(known)
            .chain(&wanted(&objects, "podseal"))
            .fold(String::new(), |text, object| text + "---\n" + &object.to_string() + "\n");
        let args = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        let ran = cluster.kubectl_as(User::Admin, &args, &text);
        // The same names, once empty and once as they are wanted: nothing is stored.
        assert!(ran.ok() && ran.stderr.is_empty(), "{settings:?}: {ran}");
    }
}

fn without_helm_the_same_file_installs_and_is_applied_again() {
    let cluster = Cluster::empty();
    let file = super::root().join("deploy/install.yaml");
    let apply = || cluster.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    // The first time, kinds of definitions that are not yet served may be in the same file.
    apply().succeeded();
    arm(&cluster, "podseal");
    let armed = held(&cluster, "podseal");
    apply().succeeded();
    assert_eq!((armed.len(), held(&cluster, "podseal")), (1, armed));
    // The classic way of applying leaves them alone as well.
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]).succeeded();
    assert_eq!(held(&cluster, "podseal").len(), 1);
    let text = std::fs::read_to_string(&file).unwrap();
    let whole = documents(&text).len();
    let found = cluster.kubectl(&["get", "-f", file.to_str().unwrap(), "-o", "name"]).succeeded();
    assert_eq!(found.stdout.lines().count(), whole);
}

/// The commands of the notes that only look; those that wait or change are run elsewhere.
fn what_the_notes_say_can_be_looked_at() {
    let (cluster, name) = (cluster(), "podseal-notes");
    let mut seen = 0;
    let installs: [(&[&str], &[&str]); 2] =
        [(&["install"], &["enforcement=Audit"]), (&["upgrade"], &["enforcement=Enforce"])];
    for (verb, settings) in installs {
        let ran = release(cluster, verb, name, settings).succeeded();
        let (_, notes) = ran.stdout.split_once("NOTES:\n").unwrap();
        let commands = notes.lines().filter_map(|line| line.strip_prefix("  kubectl "));
        for command in commands.filter(|command| command.starts_with("get ") || command.starts_with("explain ")) {
            cluster.kubectl(&command.split(' ').collect::<Vec<_>>()).succeeded();
            seen += 1;
        }
    }
    assert_eq!(seen, 3, "Events of the dry run, and the definition twice");
    release(cluster, &["uninstall"], name, &[]).succeeded();
}
