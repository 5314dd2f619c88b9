//! The conditions of the webhooks, evaluated by a real API server while podseal does not answer: what must go on, goes on,
//! and nothing that podseal would have to judge gets by.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{cluster, release, template, wanted};
use crate::support::cluster::{Cluster, User};
use crate::support::process::eventually;
use crate::support::tools::Ran;

crate::tests! {
    needs [Cluster, Helm];
    b7_h25_what_leaves_the_images_alone_passes_while_podseal_is_down,
    b9_new_and_changed_images_are_refused_while_podseal_is_down,
    b1_mirror_pods_pass_for_nodes_alone_while_podseal_is_down,
    h1_h26_system_namespaces_come_up_while_podseal_is_down,
    feedback_and_validation_of_policies_wait_for_nobody,
    the_conditions_hold_for_the_largest_pods,
}

const RELEASE: &str = "podseal-down";
/// Narrows the webhooks to the namespaces of these tests, which share an API server with others.
const LABEL: &str = "podseal-is-down=yes";

/// The API server with the chart installed and its webhooks as the controller puts them in place, except that nobody
/// answers.
fn armed() -> &'static Cluster {
    static ARMED: OnceLock<()> = OnceLock::new();
    ARMED.get_or_init(|| {
        let cluster = cluster();
        release(cluster, &["install"], RELEASE, &["exempt.nodeAgents={network-agents}"]).succeeded();
        let rendered = template(RELEASE, RELEASE, &["exempt.nodeAgents={network-agents}"], &[]).succeeded();
        let mut webhooks = wanted(&super::documents(&rendered.stdout), RELEASE);
        for entry in webhooks.iter_mut().flat_map(|c| c["webhooks"].as_array_mut().unwrap()) {
            entry["clientConfig"] = json!({"url": "https://127.0.0.1:1/", "caBundle": cluster.authority().bundle()});
            entry["timeoutSeconds"] = 2.into();
            let (key, value) = LABEL.split_once('=').unwrap();
            let ours = json!({"key": key, "operator": "In", "values": [value]});
            match entry["namespaceSelector"]["matchExpressions"].as_array_mut() {
                Some(expressions) => expressions.push(ours),
                None => entry["namespaceSelector"] = json!({"matchExpressions": [ours]}),
            }
        }
        let text = webhooks.iter().fold(String::new(), |text, webhook| text + "---\n" + &webhook.to_string() + "\n");
        let args = ["apply", "--server-side", "--field-manager=podseal", "-f", "-"];
        cluster.kubectl_as(User::Admin, &args, &text).succeeded();
        let probe = judged(cluster, "armed");
        eventually("the API server asks", || refused(&run(cluster, &probe, "probe", &["--dry-run=server"])));
    });
    cluster()
}

/// A namespace that the webhooks speak of.
fn judged(cluster: &Cluster, hint: &str) -> String {
    let name = cluster.bare_namespace(hint);
    cluster.kubectl(&["label", "namespace", &name, LABEL]).succeeded();
    name
}

fn run(cluster: &Cluster, namespace: &str, name: &str, more: &[&str]) -> Ran {
    cluster.kubectl(&[&["-n", namespace, "run", name, "--image=any.invalid/x:1"], more].concat())
}

/// Whether nobody answered a question that had to be asked. Another refusal would be the test's own mistake.
fn refused(ran: &Ran) -> bool {
    !ran.ok() && ran.stderr.contains("failed calling webhook \"pods.podseal.tmax.io\"")
}

#[track_caller]
fn assert_refused(ran: &Ran) {
    assert!(refused(ran), "{ran}");
}

/// A Pod of every kind of image that is there before the webhooks speak of its namespace.
fn old_pod(cluster: &Cluster, containers: usize) -> String {
    let namespace = cluster.bare_namespace("old");
    let container =
        |prefix: &str, n: usize| json!({"name": format!("{prefix}{n}"), "image": format!("old.invalid/{prefix}:{n}")});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "old", "namespace": namespace, "finalizers": ["example.com/wait"]},
        "spec": {
            "containers": (0..containers).map(|n| container("c", n)).collect::<Vec<_>>(),
            "initContainers": [container("i", 0)],
            "volumes": [
                {"name": "image", "image": {"reference": "old.invalid/volume:1"}},
                {"name": "empty", "emptyDir": {}},
            ],
        },
    });
    cluster.apply(&pod.to_string()).succeeded();
    cluster.kubectl(&["label", "namespace", &namespace, LABEL]).succeeded();
    // Now its API server knows the label, too.
    eventually("new Pods are refused", || refused(&run(cluster, &namespace, "new", &["--dry-run=server"])));
    namespace
}

fn patch(cluster: &Cluster, namespace: &str, subresource: &str, patch: &Value) -> Ran {
    let text = patch.to_string();
    let mut args = vec!["-n", namespace, "patch", "pod", "old", "--type=json", "-p", &text];
    if !subresource.is_empty() {
        args.extend(["--subresource", subresource]);
    }
    cluster.kubectl(&args)
}

fn b7_h25_what_leaves_the_images_alone_passes_while_podseal_is_down() {
    let cluster = armed();
    let namespace = old_pod(cluster, 2);
    let on = |args: &[&str]| cluster.kubectl(&[&["-n", &namespace], args].concat());
    on(&["label", "pod", "old", "a=b"]).succeeded();
    on(&["annotate", "pod", "old", "a=b"]).succeeded();
    patch(cluster, &namespace, "status", &json!([{"op": "add", "path": "/status/message", "value": "x"}])).succeeded();
    let tolerate = json!([{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "k", "operator": "Exists"}}]);
    patch(cluster, &namespace, "", &tolerate).succeeded();
    on(&["delete", "pod", "old", "--wait=false"]).succeeded();
    // It is terminating, and waits for its finalizer alone.
    patch(cluster, &namespace, "", &json!([{"op": "remove", "path": "/metadata/finalizers"}])).succeeded();
    eventually("the Pod is gone", || !on(&["get", "pod", "old"]).ok());
}

fn b9_new_and_changed_images_are_refused_while_podseal_is_down() {
    let cluster = armed();
    let namespace = old_pod(cluster, 2);
    assert_refused(&run(cluster, &namespace, "new", &[]));
    let image = |path: &str| json!([{"op": "replace", "path": path, "value": "new.invalid/x:2"}]);
    assert_refused(&patch(cluster, &namespace, "", &image("/spec/containers/1/image")));
    assert_refused(&patch(cluster, &namespace, "", &image("/spec/initContainers/0/image")));
    let debug = json!([{"op": "add", "path": "/spec/ephemeralContainers", "value": [
        {"name": "debug", "image": "new.invalid/debug:1", "terminationMessagePolicy": "File"},
    ]}]);
    assert_refused(&patch(cluster, &namespace, "ephemeralcontainers", &debug));
    // An image under the name of another container is not the old one, nor hides one change another.
    let swap = json!([
        {"op": "replace", "path": "/spec/containers/0/image", "value": "old.invalid/c:1"},
        {"op": "replace", "path": "/spec/containers/1/image", "value": "old.invalid/c:0"},
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
    ]);
    assert_refused(&patch(cluster, &namespace, "", &swap));
}

/// What a kubelet is for the API server.
const NODE: &[&str] = &["--as=system:node:node-1", "--as-group=system:nodes", "--as-group=system:authenticated"];

fn b1_mirror_pods_pass_for_nodes_alone_while_podseal_is_down() {
    let cluster = armed();
    let namespace = judged(cluster, "mirror");
    let on = |args: &[&str]| cluster.kubectl(&[&["-n", &namespace], args].concat());
    on(&["create", "role", "pods", "--verb=create", "--resource=pods"]).succeeded();
    on(&["create", "rolebinding", "all", "--role=pods", "--group=system:authenticated"]).succeeded();
    let create = |as_user: &[&str], name: &str, annotation: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "annotations": {annotation: "abc"}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "any.invalid/x:1"}]},
        });
        cluster.kubectl_as(User::Admin, &[as_user, &["create", "-f", "-"]].concat(), &pod.to_string())
    };
    let mirror = "kubernetes.io/config.mirror";
    create(NODE, "static", mirror).succeeded();
    // The node's own word counts, not the annotation, and not half of who a node is.
    assert_refused(&create(NODE, "plain", "example.com/other"));
    assert_refused(&create(&["--as=alice", "--as-group=system:authenticated"], "forged", mirror));
    assert_refused(&create(&["--as=system:node:node-1", "--as-group=system:authenticated"], "named", mirror));
    assert_refused(&create(
        &["--as=alice", "--as-group=system:nodes", "--as-group=system:authenticated"],
        "grouped",
        mirror,
    ));
}

fn h1_h26_system_namespaces_come_up_while_podseal_is_down() {
    let cluster = armed();
    cluster.kubectl(&["create", "namespace", "network-agents"]).succeeded();
    // podseal's own Pods, the system's, and those by which nodes get their network.
    for namespace in ["kube-system", RELEASE, "network-agents"] {
        cluster.kubectl(&["label", "namespace", namespace, LABEL]).succeeded();
        run(cluster, namespace, "up", &[]).succeeded();
    }
    // Names that only begin alike are no exemption.
    for namespace in ["kube-system-x", "network-agents-2"] {
        cluster.kubectl(&["create", "namespace", namespace]).succeeded();
        cluster.kubectl(&["label", "namespace", namespace, LABEL]).succeeded();
        eventually("Pods are refused", || refused(&run(cluster, namespace, "up", &["--dry-run=server"])));
    }
}

fn feedback_and_validation_of_policies_wait_for_nobody() {
    let cluster = armed();
    let namespace = judged(cluster, "feedback");
    let on = |args: &[&str]| cluster.kubectl(&[&["-n", &namespace], args].concat());
    on(&["create", "deployment", "web", "--image=any.invalid/x:1"]).succeeded();
    on(&["set", "image", "deployment/web", "x=any.invalid/x:2"]).succeeded();
    on(&["create", "job", "once", "--image=any.invalid/x:1"]).succeeded();
    let policy = "{apiVersion: tmax.io/v1, kind: RegistrySecurityPolicy, metadata: {name: p}, \
                  spec: {registries: [{registry: a.invalid, signCheck: false}]}}";
    cluster.kubectl_as(User::Admin, &["-n", &namespace, "apply", "-f", "-"], policy).succeeded();
    on(&["delete", "rsp", "p"]).succeeded();
}

fn the_conditions_hold_for_the_largest_pods() {
    // Many times the images that podseal takes in one object.
    let cluster = armed();
    let namespace = old_pod(cluster, 1500);
    cluster.kubectl(&["-n", &namespace, "label", "pod", "old", "a=b"]).succeeded();
    let image = json!([{"op": "replace", "path": "/spec/containers/1499/image", "value": "new.invalid/x:2"}]);
    assert_refused(&patch(cluster, &namespace, "", &image));
}
