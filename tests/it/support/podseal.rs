//! The binary under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::cluster::{Cluster, OWN_NAMESPACE, User, WebhookScope};
use super::http::{Http, Reply};
use super::pki::{Authority, Issued, LOCAL};
use super::process::Process;
use super::review::{Answer, Review};
use super::tools::{self, Ran};
use super::{harness, ports, scratch};

/// The file of the binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_podseal");

/// A running `podseal serve`.
#[derive(Debug)]
pub struct Podseal {
    name: String,
    port: u16,
    process: Process,
    http: Http,
    authority: Authority,
    /// Its serving certificate; writing other files there is a renewal.
    pub tls: Issued,
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct Options {
    /// A word that tells it from others; also the label of its namespaces.
    pub name: String,
    /// Its own namespace.
    pub namespace: String,
    /// Whose rights it has.
    pub user: User,
    /// What it does (`--run`).
    pub run: &'static str,
    /// Further arguments of `serve`.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

impl Options {
    /// podseal's own user in `registry-system`; servers on 127.0.0.1 may be named by namespaced policies.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: OWN_NAMESPACE.to_owned(),
            user: User::Podseal,
            run: "webhook",
            args: ["--allow-address", "127.0.0.0/8"].map(str::to_owned).into(),
            env: Vec::new(),
        }
    }

    /// With more arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }
}

impl Podseal {
    /// The one that most tests share, registered with [`Cluster::shared`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Podseal, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            harness::attempt("the shared podseal", || {
                let podseal = Self::start(Cluster::shared(), &Options::new("shared"));
                Cluster::shared().register(&podseal, WebhookScope::WithClusterPolicies);
                podseal
            })
        });
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts one and waits for `/readyz`. The API server asks it after [`Cluster::register`].
    pub fn start(cluster: &Cluster, options: &Options) -> Self {
        let podseal = Self::launch(cluster, options);
        let url = podseal.url("/readyz");
        podseal.process.wait_ready(|_| podseal.http.get(&url).is_ok_and(|reply| reply.status == 200).then_some(()));
        podseal
    }

    /// Starts one without waiting.
    pub fn launch(cluster: &Cluster, options: &Options) -> Self {
        let authority = Authority::new("podseal webhook");
        let tls = authority.server(&LOCAL);
        let port = ports::free();
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--kubeconfig").arg(cluster.kubeconfig(options.user));
        command.args(["--run", options.run]);
        command.args(["--own-namespace", &options.namespace, "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--tls-cert").arg(&tls.cert).arg("--tls-key").arg(&tls.key);
        command.args(["--drain-delay", "0s", "--log-format", "json"]).args(&options.args);
        command.envs(options.env.iter().map(|(name, value)| (name, value))).env("HOME", scratch::folder("home"));
        let process = Process::spawn(&format!("podseal-{}", options.name), &mut command);
        let http = Http::trusting(&authority.pem);
        Self { name: options.name.clone(), port, process, http, authority, tls }
    }

    /// The word that tells it from others.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address for a path that starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Who issued its serving certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client that trusts it.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The answer to a review, as the API server asks for it.
    #[track_caller]
    pub fn review(&self, review: &Review) -> Answer {
        let reply = self.post("/validate?timeout=10s", review.json.to_string().into_bytes());
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), review.json);
        Answer::read(&reply.body)
    }

    /// POST of JSON to a path.
    #[track_caller]
    pub fn post(&self, path: &str, body: Vec<u8>) -> Reply {
        self.http.post(&self.url(path), "application/json", body).unwrap()
    }

    /// The metrics page.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.http.get(&self.url("/metrics")).unwrap().text()
    }

    /// The sum of the samples of a metric whose labels include these, such as `result="denied"`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, set) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| set.contains(label))).then(|| value.parse::<f64>().unwrap())
        };
        metrics.lines().filter(|line| !line.starts_with('#')).filter_map(sample).sum()
    }
}

/// `podseal ARGS`, to its end.
#[must_use]
pub fn podseal(args: &[&str]) -> Ran {
    podseal_with(args, &[], b"")
}

/// The same with environment variables and an input.
#[must_use]
pub fn podseal_with(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
    let mut command = tools::once(&PathBuf::from(BINARY));
    command.args(args).envs(env.iter().copied());
    tools::run_with(&mut command, input)
}
