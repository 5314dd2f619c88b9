//! Pods on the node, watched until they are where a test wants them.

use std::fmt::Write as _;
use std::time::Duration;

use super::Node;
use crate::support::process::within;
use crate::support::tools;

/// How long a Pod may take; the image may have to be pulled, and other builds may keep every core busy.
const PATIENCE: Duration = Duration::from_secs(120);

impl Node {
    /// Waits until the Pod is in this phase, such as `Running` or `Succeeded`.
    #[track_caller]
    pub fn wait_phase(&self, namespace: &str, pod: &str, phase: &str) {
        let get = ["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.phase}"];
        let found = within(PATIENCE, || (self.cluster.kubectl(&get).stdout == phase).then_some(()));
        assert!(found.is_some(), "{namespace}/{pod} is not {phase}\n{}", self.story(namespace, pod));
    }

    /// Waits until a Deployment has rolled out.
    #[track_caller]
    pub fn wait_rollout(&self, namespace: &str, deployment: &str) {
        let name = format!("deployment/{deployment}");
        let ran = self.cluster.kubectl(&["-n", namespace, "rollout", "status", &name, "--timeout=110s"]);
        assert!(ran.ok(), "{ran}\n{}", self.story(namespace, ""));
    }

    /// What the Pod, or with an empty name each of the namespace, has printed.
    pub fn logs(&self, namespace: &str, pod: &str) -> String {
        self.cluster.kubectl(&["-n", namespace, "logs", pod, "--all-containers"]).succeeded().stdout
    }

    /// Sends a signal to a Pod's only container, such as `SIGKILL`; the kubelet is not asked.
    #[track_caller]
    pub fn signal(&self, namespace: &str, pod: &str, signal: &str) {
        let id = "jsonpath={.status.containerStatuses[0].containerID}";
        let id = self.cluster.kubectl(&["-n", namespace, "get", "pod", pod, "-o", id]).succeeded();
        let id = id.line().strip_prefix("containerd://").unwrap_or_else(|| panic!("no container in {pod}: {id}"));
        let mut command = self.space.command(tools::file("ctr"));
        tools::run(command.args(["--namespace", "k8s.io", "task", "kill", "--signal", signal, id])).succeeded();
    }

    /// Everything that may tell why a Pod is not where it should be.
    fn story(&self, namespace: &str, pod: &str) -> String {
        let one = if pod.is_empty() { None } else { Some(pod) };
        let describe: Vec<_> = ["-n", namespace, "describe", "pod"].into_iter().chain(one).collect();
        let events = ["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"];
        let mut story = format!("{}\n{}", self.cluster.kubectl(&describe).stdout, self.cluster.kubectl(&events).stdout);
        let names = self.cluster.kubectl(&["-n", namespace, "get", "pods", "-o", "name"]).stdout;
        for name in names.lines().filter(|name| name.ends_with(pod)) {
            let logs = self.cluster.kubectl(&["-n", namespace, "logs", name, "--all-containers", "--tail=40"]);
            write!(story, "--- {name}\n{}{}", logs.stdout, logs.stderr).unwrap();
        }
        story
    }
}
