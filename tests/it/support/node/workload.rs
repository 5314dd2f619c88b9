//! Pods on the node, watched until they are where a test wants them.

use std::time::Duration;

use super::Node;
use crate::support::process::within;

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

    /// Everything that may tell why a Pod is not where it should be.
    fn story(&self, namespace: &str, pod: &str) -> String {
        let describe: Vec<_> = ["-n", namespace, "describe", "pod", pod].into_iter().filter(|a| !a.is_empty()).collect();
        let events = ["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"];
        let mut story = format!("{}\n{}", self.cluster.kubectl(&describe).stdout, self.cluster.kubectl(&events).stdout);
        let names = self.cluster.kubectl(&["-n", namespace, "get", "pods", "-o", "name"]).stdout;
        for name in names.lines().filter(|name| name.ends_with(pod)) {
            let logs = self.cluster.kubectl(&["-n", namespace, "logs", name, "--all-containers", "--tail=40"]);
            story += &format!("--- {name}\n{}{}", logs.stdout, logs.stderr);
        }
        story
    }
}
