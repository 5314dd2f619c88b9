//! The node by itself.

use crate::support::node::Node;

fn pods_run_are_made_by_deployments_and_end() {
    let node = Node::shared();
    let cluster = node.cluster();
    let namespace = cluster.bare_namespace("node");
    let image = node.registry.push_program("e2e/waits:1", &[]);
    cluster.kubectl(&["-n", &namespace, "create", "deployment", "a", "--image", &image.pinned()]).succeeded();
    node.wait_rollout(&namespace, "a");
    cluster.kubectl(&["delete", "namespace", &namespace, "--timeout=60s"]).succeeded();
}

fn container_that_is_killed_is_started_again() {
    let node = Node::shared();
    let cluster = node.cluster();
    let namespace = cluster.bare_namespace("node");
    let image = node.registry.push_program("e2e/killed:1", &[]);
    cluster.kubectl(&["-n", &namespace, "run", "a", "--image", &image.pinned()]).succeeded();
    node.wait_phase(&namespace, "a", "Running");
    node.signal(&namespace, "a", "SIGKILL");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    cluster.wait_for(&["-n", &namespace, "get", "pod", "a", "-o", restarts], |count| count == "1");
}

fn image_that_is_not_there_does_not_run() {
    let node = Node::shared();
    let cluster = node.cluster();
    let namespace = cluster.bare_namespace("node");
    let image = format!("{}/e2e/none:1", node.registry.host);
    cluster.kubectl(&["-n", &namespace, "run", "a", "--image", &image]).succeeded();
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_for(&["-n", &namespace, "get", "pod", "a", "-o", reason], |reason| {
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason)
    });
}

crate::tests! {
    needs [Cluster, Registry, Node];
    pods_run_are_made_by_deployments_and_end,
    container_that_is_killed_is_started_again,
    image_that_is_not_there_does_not_run,
}
