//! The processes.

use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::materials::{Materials, PASSWORD};
use super::trust::{self, Root};
use crate::support::http::Http;
use crate::support::process::Process;
use crate::support::{harness, ports, tools};

/// A running world.
#[derive(Debug)]
pub struct Sigstore {
    /// Its keys and files.
    pub materials: Materials,
    /// Where the services are.
    pub places: Places,
    /// What trusts all of it, as cosign made it.
    pub root: Root,
    processes: Mutex<Vec<Process>>,
}

/// Addresses, all of `http://127.0.0.1:PORT`.
#[derive(Debug, Clone)]
pub struct Places {
    /// Identity provider.
    pub issuers: String,
    /// Certificate authority.
    pub fulcio: String,
    /// Transparency log, version 1.
    pub rekor1: String,
    /// Transparency log, version 2.
    pub rekor2: String,
    /// Timestamp authority.
    pub tsa: String,
    /// What stamps with any time.
    pub any_time: String,
    /// Certificate log, with its prefix.
    pub ct: String,
}

impl Sigstore {
    /// The one that most tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Sigstore, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| harness::attempt("the shared Sigstore", Self::start));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A new one, ready.
    pub fn start() -> Self {
        let mut starting = Starting { materials: Materials::new(), processes: Vec::new() };
        let issuers = starting.issuers();
        starting.materials.write_fulcio_config(&issuers);
        let trillian = starting.trillian();
        let (tsa, any_time) = starting.timestamps();
        let ct = starting.certificate_log(&trillian);
        let rekor1 = starting.rekor1(&trillian);
        let rekor2 = starting.rekor2();
        let fulcio = starting.fulcio(&ct);
        let places = Places { issuers, fulcio, rekor1, rekor2, tsa, any_time, ct };
        let Starting { materials, processes } = starting;
        let root = trust::create(&materials, &places);
        trust::write_signing_configs(&materials, &places);
        Self { materials, places, root, processes: Mutex::new(processes) }
    }

    /// Ends every service.
    pub fn stop(&self) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// In-memory Trillian: its port and a tree for each log.
struct Trillian {
    port: String,
    trees: [String; 2],
}

struct Starting {
    materials: Materials,
    processes: Vec<Process>,
}

impl Starting {
    fn issuers(&mut self) -> String {
        let process = Process::spawn("oidc-issuer", &mut tools::server("oidc-issuer"));
        let lines = process.wait_ready(|process| lines(process, 1));
        self.processes.push(process);
        format!("http://{}", lines[0])
    }

    fn trillian(&mut self) -> Trillian {
        let port = ports::free().to_string();
        let mut command = tools::server("trillian-memory");
        command.arg(format!("--listen=127.0.0.1:{port}")).arg("--trees=2");
        let process = Process::spawn("trillian", &mut command);
        let lines = process.wait_ready(|process| {
            let lines = lines(process, 2)?;
            lines.iter().all(|line| line.bytes().all(|byte| byte.is_ascii_digit())).then_some(lines)
        });
        self.processes.push(process);
        Trillian { port, trees: [lines[0].clone(), lines[1].clone()] }
    }

    fn timestamps(&mut self) -> (String, String) {
        let (port, any_time) = (ports::free(), ports::free());
        let mut command = tools::server("timestamp-server");
        command.arg(format!("--port={port}")).arg(format!("--any-time-port={any_time}"));
        command.arg("--key").arg(self.materials.file("tsa.pem"));
        command.arg("--chain").arg(self.materials.file("tsa-chain.pem"));
        let url = format!("http://127.0.0.1:{port}");
        self.serve("timestamp-server", &mut command, &format!("{url}/ping"));
        (format!("{url}/api/v1/timestamp"), format!("http://127.0.0.1:{any_time}"))
    }

    fn certificate_log(&mut self, trillian: &Trillian) -> String {
        self.materials.write_ct_config(&trillian.trees[1]);
        let port = ports::free();
        let mut command = tools::server("ct_server");
        command.arg("--log_config").arg(self.materials.file("ct.cfg")).arg("--logtostderr");
        command.arg(format!("--log_rpc_server=127.0.0.1:{}", trillian.port));
        command.arg(format!("--http_endpoint=127.0.0.1:{port}"));
        let url = format!("http://127.0.0.1:{port}/test");
        self.serve("ct_server", &mut command, &format!("{url}/ct/v1/get-sth"));
        url
    }

    /// It wants a fixed port for its metrics, too, and does without when somebody else has it.
    fn rekor1(&mut self, trillian: &Trillian) -> String {
        let port = ports::free().to_string();
        let mut command = tools::server("rekor-server");
        command.args(["serve", "--rekor_server.address=127.0.0.1", "--rekor_server.hostname=rekor1.local"]);
        command.args(["--enable_retrieve_api=false", "--port", &port]);
        command.arg("--rekor_server.signer").arg(self.materials.file("rekor1.pem"));
        command.args(["--trillian_log_server.port", &trillian.port]);
        command.args(["--trillian_log_server.tlog_id", &trillian.trees[0]]);
        let url = format!("http://127.0.0.1:{port}");
        self.serve("rekor-server", command.current_dir(self.materials.folder()), &format!("{url}/api/v1/log"));
        url
    }

    fn rekor2(&mut self) -> String {
        let [http, grpc, metrics] = [(); 3].map(|()| ports::free().to_string());
        let mut command = tools::server("rekor-tiles");
        command.args(["serve", "--hostname=rekor2.local", "--checkpoint-interval=1s", "--batch-max-age=100ms"]);
        command.args(["--http-port", &http, "--grpc-port", &grpc, "--http-metrics-port", &metrics]);
        command.arg("--storage-dir").arg(self.materials.file("rekor2"));
        command.arg("--signer-filepath").arg(self.materials.file("rekor2.pem"));
        let url = format!("http://127.0.0.1:{http}");
        self.serve("rekor-tiles", command.current_dir(self.materials.folder()), &format!("{url}/healthz"));
        url
    }

    fn fulcio(&mut self, ct: &str) -> String {
        let [http, grpc, metrics] = [(); 3].map(|()| ports::free().to_string());
        let mut command = tools::server("fulcio");
        command.args(["serve", "--ca=fileca", "--fileca-watch=false", "--fileca-key-passwd", PASSWORD]);
        command.arg("--fileca-cert").arg(self.materials.file("fulcio-chain.pem"));
        command.arg("--fileca-key").arg(self.materials.file("fulcio.enc"));
        command.arg("--config-path").arg(self.materials.file("fulcio.yaml")).args(["--ct-log-url", ct]);
        command.args(["--host=127.0.0.1", "--port", &http, "--grpc-host=127.0.0.1", "--grpc-port", &grpc]);
        // Its abstract socket has one name for all of them unless told otherwise.
        command.args(["--metrics-port", &metrics, "--legacy-unix-domain-socket", &format!("@podseal-{grpc}")]);
        let url = format!("http://127.0.0.1:{http}");
        self.serve("fulcio", command.current_dir(self.materials.folder()), &format!("{url}/healthz"));
        url
    }

    /// Starts a service and waits for a good answer at a URL.
    fn serve(&mut self, name: &str, command: &mut Command, ready: &str) {
        let process = Process::spawn(name, command.env("HOME", self.materials.folder()));
        let http = Http::trusting("");
        process.wait_ready(|_| http.get(ready).is_ok_and(|reply| reply.status == 200).then_some(()));
        self.processes.push(process);
    }
}

/// So many first lines of what it wrote, when they are there.
fn lines(process: &Process, count: usize) -> Option<Vec<String>> {
    let log = process.log();
    let (whole, _) = log.rsplit_once('\n')?;
    // Some log to stderr before they say what was asked of them.
    let said = whole.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let lines: Vec<_> = said.take(count).map(str::to_owned).collect();
    (lines.len() == count).then_some(lines)
}
