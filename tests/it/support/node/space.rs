//! The namespaces that a node and its control plane live in: processes, mounts, network, control groups.
//!
//! ```text
//!   this run ── pseN 198.18.N.1 ═══ 198.18.N.2 eth0 ── kube-apiserver, etcd, kubelet …
//!                                                └── cni0 198.18.N.129 ── Pods 198.18.N.130-254
//! ```
//! Nothing of the machine is changed but for the interface and its routes, which go with the namespace. Runs of other
//! worktrees take other N.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::process::{Process, within};
use crate::support::{scratch, tools};

const SCRIPT: &str = include_str!("space.sh");

/// Joins the control groups as well as the namespaces, which `nsenter` does not.
const JOIN: &str = r#"
if [ -d /sys/fs/cgroup/main ]; then groups=/sys/fs/cgroup/main; else groups=$(echo /sys/fs/cgroup/*); fi
for group in $groups; do echo 0 >"$group/cgroup.procs"; done
exec "$@"
"#;

/// The namespaces, and the addresses in them.
#[derive(Debug)]
pub struct Space {
    /// Files of what runs in it, under the same path inside and outside.
    pub folder: PathBuf,
    /// The address of this run, as seen from inside.
    pub outside: String,
    /// The address of the node.
    pub inside: String,
    /// The addresses of its Pods.
    pub pods: String,
    first: u32,
    _process: Process,
}

/// Why this machine cannot have one; `None` when it can.
pub fn unable() -> Option<String> {
    static UNABLE: OnceLock<Option<String>> = OnceLock::new();
    UNABLE.get_or_init(find_unable).clone()
}

fn find_unable() -> Option<String> {
    let uid = std::fs::metadata("/proc/self").map(|file| std::os::unix::fs::MetadataExt::uid(&file));
    if uid.ok() != Some(0) {
        return Some("needs root".to_owned());
    }
    // The same steps as the script's, undone at once.
    let probe = "set -e; mount -t proc proc /proc; mount -t sysfs sysfs /sys; ip link add x type bridge; \
                 [ -n \"$(cat /proc/self/cgroup)\" ]";
    let mut unshare = Command::new("unshare");
    let ran = tools::run(
        unshare
            .args(["--fork", "--kill-child", "--pid", "--mount", "--net", "--cgroup", "--uts", "--ipc"])
            .args(["sh", "-c", probe]),
    );
    if !ran.ok() {
        return Some(format!("needs namespaces, which this machine does not grant: {}", ran.stderr.trim()));
    }
    let name = format!("podseal-probe-{}", std::process::id());
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let group = Path::new(if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" }).join(name);
    let made = std::fs::create_dir(&group).and_then(|()| std::fs::remove_dir(&group));
    made.err().map(|error| format!("needs control groups: {}: {error}", group.display()))
}

impl Space {
    /// New namespaces, connected with this run by a pair of interfaces.
    pub fn start() -> Self {
        let folder = scratch::folder("node");
        let mut command = Command::new("sh");
        command.args(["-euc", SCRIPT, "sh", &scratch::group()]).arg(&folder).arg(tools::file("pause"));
        let process = Process::spawn("node", &mut command);
        let ready = folder.join("ready");
        process.wait_ready(|_| ready.exists().then_some(()));
        let first = first_child(process.id());
        let net = take_network(first);
        let address = |last: u8| format!("198.18.{net}.{last}");
        let space = Self {
            folder,
            outside: address(1),
            inside: address(2),
            pods: format!("198.18.{net}.128/25"),
            first,
            _process: process,
        };
        space.connect(&interface(net));
        space
    }

    fn connect(&self, interface: &str) {
        ip(&["addr", "add", &format!("{}/30", self.outside), "dev", interface]);
        ip(&["link", "set", interface, "up"]);
        for inside in [
            vec!["addr", "add", &format!("{}/30", self.inside), "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["route", "add", "default", "via", &self.outside],
            // What Pods know as the API server; its port is the API server's own.
            vec!["addr", "add", "10.96.0.1/32", "dev", "lo"],
        ] {
            tools::run(self.network("ip").args(inside)).succeeded();
        }
        ip(&["route", "add", &self.pods, "via", &self.inside, "dev", interface]);
    }

    /// A program of this machine's files in the network of the namespaces.
    pub fn network(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.first.to_string()).args(["--net", "--"]).arg(program);
        command
    }

    /// A program in all of the namespaces. It ends with them.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.first.to_string());
        command.args(["--mount", "--net", "--pid", "--cgroup", "--uts", "--ipc", "--", "sh", "-euc", JOIN, "sh"]);
        command.arg(program);
        command
    }
}

fn interface(net: u8) -> String {
    format!("pse{net}")
}

/// Makes the pair of interfaces under a number that no other run has, which the name of the outer one claims.
fn take_network(first: u32) -> u8 {
    let start = u8::try_from(std::process::id() % 250).unwrap();
    let mut last = String::new();
    for step in 0..250_u16 {
        let net = u8::try_from((u16::from(start) + step) % 250).unwrap();
        let mut command = Command::new("ip");
        command.args(["link", "add", &interface(net), "type", "veth", "peer", "name", "eth0"]);
        let ran = tools::run(command.args(["netns", &first.to_string()]));
        if ran.ok() {
            return net;
        }
        last = ran.to_string();
    }
    panic!("no free network among 198.18.0.0/16: {last}");
}

fn first_child(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let child = within(Duration::from_secs(5), || std::fs::read_to_string(&children).ok()?.trim().parse().ok());
    child.unwrap_or_else(|| panic!("{children} names no process"))
}

fn ip(args: &[&str]) {
    tools::run(Command::new("ip").args(args)).succeeded();
}
