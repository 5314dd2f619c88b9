//! The two processes of a control plane.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::KeyPair;

use super::User;
use crate::support::http::Http;
use crate::support::node::Space;
use crate::support::pki::{Authority, LOCAL};
use crate::support::process::Process;
use crate::support::{ports, scratch, tools};

/// The processes and their files.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) url: String,
    pub(super) authority: Authority,
    server: Mutex<Process>,
    _store: Process,
    store_url: String,
    folder: PathBuf,
    site: Site,
}

/// Where the processes run.
#[derive(Debug)]
pub(super) enum Site {
    /// Beside the tests: for them alone, at this port. Pods need no service account and never run.
    Here(u16),
    /// In the network of a node, whose Pods have a service account and use it.
    Node(Arc<Space>),
}

/// Where Pods reach the API server, whose Service has the first address.
pub const SERVICES: &str = "10.96.0.0/16";
const SERVICE: &str = "10.96.0.1";

impl Site {
    fn address(&self) -> &str {
        match self {
            Self::Here(_) => "127.0.0.1",
            Self::Node(space) => &space.inside,
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Here(port) => *port,
            // The Service's port, as nothing translates it.
            Self::Node(_) => 443,
        }
    }

    fn command(&self, program: &str) -> Command {
        match self {
            Self::Here(_) => tools::server(program),
            Self::Node(space) => space.network(tools::file(program)),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Here(_) => LOCAL.into(),
            Self::Node(space) => [&LOCAL[..], &[&space.inside, SERVICE, "kubernetes.default.svc"]].concat(),
        }
    }

    fn flags(&self) -> Vec<String> {
        let flags: &[&str] = match self {
            Self::Here(_) => {
                &["--bind-address=127.0.0.1", "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]
            }
            // Webhooks are reached by the addresses of their Pods.
            Self::Node(_) => &[
                "--bind-address=0.0.0.0",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--enable-aggregator-routing=true",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
            ],
        };
        let advertised = format!("--advertise-address={}", self.address());
        flags.iter().map(|&flag| flag.to_owned()).chain([advertised]).collect()
    }
}

impl Plane {
    pub(super) fn start(site: Site) -> Self {
        let folder = scratch::folder("plane");
        let authority = Authority::new("podseal test cluster");
        let (store, store_url) = start_store(&folder, &site);
        let accounts = KeyPair::generate().unwrap();
        std::fs::write(folder.join("accounts.key"), accounts.serialize_pem()).unwrap();
        std::fs::write(folder.join("accounts.pub"), accounts.public_key_pem()).unwrap();
        let url = format!("https://{}:{}", site.address(), site.port());
        let server = Mutex::new(start_server(&folder, &authority, &store_url, &site));
        let plane = Self { url, authority, server, _store: store, store_url, folder, site };
        plane.with_server(|server| plane.wait_ready(server));
        for user in User::ALL {
            plane.write_kubeconfig(user);
        }
        plane
    }

    pub(super) fn with_server<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        act(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the API server, has something happen meanwhile, and starts it again over the same store.
    pub(super) fn restart(&self, meanwhile: impl FnOnce()) {
        self.with_server(|server| {
            server.kill();
            meanwhile();
            *server = start_server(&self.folder, &self.authority, &self.store_url, &self.site);
            self.wait_ready(server);
        });
    }

    fn wait_ready(&self, server: &Process) {
        let (http, ready) = (Http::trusting(&self.authority.pem), format!("{}/readyz", self.url));
        server.wait_ready(|_| http.get(&ready).is_ok_and(|reply| reply.status == 200).then_some(()));
    }

    pub(super) fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.join(format!("{}.kubeconfig", user.name()))
    }

    fn write_kubeconfig(&self, user: User) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: {user}}}}}]\n\
             clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: {user}, user: {{token: {}}}}}]\n",
            self.url,
            self.authority.file().display(),
            user.token(),
            user = user.name(),
        );
        std::fs::write(self.kubeconfig(user), text).unwrap();
    }
}

fn start_store(folder: &Path, site: &Site) -> (Process, String) {
    let url = format!("http://127.0.0.1:{}", ports::free());
    let peers = format!("http://127.0.0.1:{}", ports::free());
    let mut command = site.command("etcd");
    command.args(["--name=t", "--unsafe-no-fsync", "--log-level=error", "--data-dir"]).arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("t={peers}")]);
    (Process::spawn("etcd", &mut command), url)
}

fn start_server(folder: &Path, authority: &Authority, store: &str, site: &Site) -> Process {
    let tokens = folder.join("tokens.csv");
    std::fs::write(&tokens, User::ALL.map(User::token_line).concat()).unwrap();
    let tls = authority.server(&site.names());
    let mut command = site.command("kube-apiserver");
    command.args(["--etcd-servers", store, &format!("--secure-port={}", site.port())]).args(site.flags());
    command.arg("--cert-dir").arg(folder.join("api"));
    command.arg("--tls-cert-file").arg(tls.cert).arg("--tls-private-key-file").arg(tls.key);
    command.arg("--client-ca-file").arg(authority.file()).arg("--token-auth-file").arg(tokens);
    command.arg("--service-account-signing-key-file").arg(folder.join("accounts.key"));
    command.arg("--service-account-key-file").arg(folder.join("accounts.pub"));
    command.arg("--service-account-issuer=https://kubernetes.default.svc");
    command.arg(format!("--service-cluster-ip-range={SERVICES}"));
    Process::spawn("kube-apiserver", &mut command)
}
