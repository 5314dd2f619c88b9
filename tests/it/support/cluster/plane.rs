//! The two processes of a control plane.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rcgen::KeyPair;

use super::User;
use crate::support::http::Http;
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
    port: u16,
    folder: PathBuf,
}

impl Plane {
    pub(super) fn start() -> Self {
        let folder = scratch::folder("plane");
        let authority = Authority::new("podseal test cluster");
        let (store, store_url) = start_store(&folder);
        let port = ports::free();
        let url = format!("https://127.0.0.1:{port}");
        let server = Mutex::new(start_server(&folder, &authority, &store_url, port));
        let plane = Self { url, authority, server, _store: store, store_url, port, folder };
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
            *server = start_server(&self.folder, &self.authority, &self.store_url, self.port);
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

fn start_store(folder: &Path) -> (Process, String) {
    let url = format!("http://127.0.0.1:{}", ports::free());
    let peers = format!("http://127.0.0.1:{}", ports::free());
    let mut command = tools::server("etcd");
    command.args(["--name=t", "--unsafe-no-fsync", "--log-level=error", "--data-dir"]).arg(folder.join("etcd"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("t={peers}")]);
    (Process::spawn("etcd", &mut command), url)
}

fn start_server(folder: &Path, authority: &Authority, store: &str, port: u16) -> Process {
    let accounts = KeyPair::generate().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let sign = file("accounts.key", accounts.serialize_pem());
    let check = file("accounts.pub", accounts.public_key_pem());
    let tokens = file("tokens.csv", User::ALL.map(User::token_line).concat());
    let tls = authority.server(&LOCAL);
    let mut command = tools::server("kube-apiserver");
    command.args(["--etcd-servers", store, "--bind-address=127.0.0.1", &format!("--secure-port={port}")]);
    command.arg("--cert-dir").arg(folder.join("api"));
    command.arg("--tls-cert-file").arg(tls.cert).arg("--tls-private-key-file").arg(tls.key);
    command.arg("--client-ca-file").arg(authority.file()).arg("--token-auth-file").arg(tokens);
    command.arg("--service-account-signing-key-file").arg(sign).arg("--service-account-key-file").arg(check);
    command.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"]);
    command.args(["--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"]);
    Process::spawn("kube-apiserver", &mut command)
}
