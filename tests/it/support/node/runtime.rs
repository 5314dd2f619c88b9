//! containerd and the kubelet, and the two controllers without which no Pod is made or placed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Space;
use crate::support::cluster::{Cluster, User};
use crate::support::process::{Process, within};
use crate::support::registry::Registry;
use crate::support::tools;

/// The node's name, which is that of [`User::Node`].
pub const NAME: &str = "node-1";

/// The processes.
#[derive(Debug)]
pub(super) struct Runtime {
    _kubelet: Process,
    _containerd: Process,
    _controllers: [Process; 2],
}

impl Runtime {
    /// Starts them and waits until the node is ready. `sandbox` is the image that holds a Pod's namespaces.
    pub(super) fn start(space: &Space, cluster: &Cluster, registry: &Registry, sandbox: &str) -> Self {
        let controllers = start_controllers(space, cluster);
        let containerd = start_containerd(space, registry, sandbox);
        let kubelet = start_kubelet(space, cluster);
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let found = within(Duration::from_secs(120), || {
            let ran = cluster.kubectl(&["get", "node", NAME, "-o", ready]);
            (ran.stdout == "True").then_some(())
        });
        assert!(found.is_some(), "the node is not ready: {}", cluster.kubectl(&["describe", "node"]));
        Self { _kubelet: kubelet, _containerd: containerd, _controllers: controllers }
    }
}

fn start_controllers(space: &Space, cluster: &Cluster) -> [Process; 2] {
    ["kube-controller-manager", "kube-scheduler"].map(|program| {
        let mut command = space.network(tools::file(program));
        command.arg("--kubeconfig").arg(cluster.kubeconfig(User::Admin));
        command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
        if program == "kube-controller-manager" {
            // For kube-root-ca.crt, by which Pods trust the API server.
            command.arg("--root-ca-file").arg(cluster.authority().file());
        }
        Process::spawn(program, &mut command)
    })
}

fn start_containerd(space: &Space, registry: &Registry, sandbox: &str) -> Process {
    let folder = space.folder.join("containerd");
    let certs = folder.join("certs.d").join(&registry.host);
    std::fs::create_dir_all(&certs).unwrap();
    let authority = registry.authority.as_ref().expect("a node pulls over TLS");
    let hosts = format!(
        "server = 'https://{host}'\n[host.'https://{host}']\n  capabilities = ['pull', 'resolve']\n  ca = '{}'\n",
        authority.file().display(),
        host = registry.host,
    );
    std::fs::write(certs.join("hosts.toml"), hosts).unwrap();
    let network = write_network(&folder, &space.pods);
    let config = folder.join("config.toml");
    std::fs::write(&config, containerd_config(&folder, &network, sandbox)).unwrap();
    let mut command = space.command(tools::file("containerd"));
    command.arg("--config").arg(config).env("PATH", path_with_tools());
    let process = Process::spawn("containerd", &mut command);
    let ctr = || {
        let mut command = space.command(tools::file("ctr"));
        tools::run(command.args(["--connect-timeout", "1s", "version"])).ok()
    };
    process.wait_ready(|_| ctr().then_some(()));
    process
}

/// containerd starts its shim, and the shim runc, by name.
fn path_with_tools() -> std::ffi::OsString {
    let shim = tools::file("containerd-shim-runc-v2");
    let mut path = shim.parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

fn containerd_config(folder: &Path, network: &Path, sandbox: &str) -> String {
    let folder = folder.display();
    format!(
        r"version = 3
root = '{folder}/root'
state = '/run/containerd'
disabled_plugins = ['io.containerd.nri.v1.nri', 'io.containerd.internal.v1.tracing']
[grpc]
  address = '/run/containerd/containerd.sock'
[plugins.'io.containerd.internal.v1.opt']
  path = '{folder}/opt'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{sandbox}'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '{folder}/certs.d'
[plugins.'io.containerd.cri.v1.runtime']
  # A machine may not let its root lower the score.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '{network}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '{runc}'
      SystemdCgroup = false
",
        snapshotter = snapshotter(),
        network = network.display(),
        runc = tools::file("runc").display(),
    )
}

/// Overlays do not stack on the overlay that a container's own root may be.
fn snapshotter() -> &'static str {
    let mut stat = std::process::Command::new("stat");
    let kind = tools::run(stat.args(["--file-system", "--format", "%T"]).arg(std::env::temp_dir()));
    if kind.line() == "overlayfs" { "native" } else { "overlayfs" }
}

/// One bridge. Nothing is translated, for every address has a route.
fn write_network(folder: &Path, pods: &str) -> PathBuf {
    let network = folder.join("net.d");
    std::fs::create_dir(&network).unwrap();
    let config = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": folder.join("addresses"),
            },
        }],
    });
    std::fs::write(network.join("pods.conflist"), config.to_string()).unwrap();
    network
}

fn start_kubelet(space: &Space, cluster: &Cluster) -> Process {
    // The test's machine may be nearly full, slow, with swap, or with control groups of version 1; none of it is tested.
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "100Mi",
            "imagefs.available": "100Mi",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        // How soon a mounted ConfigMap follows its object.
        "syncFrequency": "2s",
        "staticPodPath": static_pods(space),
        "shutdownGracePeriod": "0s",
        "registryPullQPS": 0,
        "oomScoreAdj": 0,
    });
    let file = space.folder.join("kubelet.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = space.command(tools::file("kubelet"));
    command.arg("--config").arg(file).arg("--kubeconfig").arg(cluster.kubeconfig(User::Node));
    command.args(["--hostname-override", NAME, "--node-ip", &space.inside]);
    Process::spawn("kubelet", &mut command)
}

/// The folder of the node's static Pods.
pub(super) fn static_pods(space: &Space) -> PathBuf {
    let folder = space.folder.join("static-pods");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
