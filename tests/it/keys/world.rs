//! A key directory, the sync of it, and the Secrets that come of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podseal::controller::Context;
use podseal::controller::keys::{self, Config};
use podseal::telemetry::Metrics;
use serde_json::Value;

use crate::support::cluster::{Cluster, User};
use crate::support::process::within;
use crate::support::scratch;

/// A key directory of one test, with a namespace for its Secrets.
pub struct Keys {
    /// The namespace.
    pub namespace: String,
    /// The directory.
    pub directory: PathBuf,
    /// What the sync counted.
    pub metrics: Arc<Metrics>,
    user: User,
    running: Option<tokio::runtime::Runtime>,
}

impl Keys {
    /// In a namespace of its own, and running.
    pub fn new(hint: &str) -> Self {
        let mut keys = Self::at(&Cluster::shared().bare_namespace(hint), User::Admin);
        keys.start();
        keys
    }

    /// In any namespace, not running yet.
    pub fn at(namespace: &str, user: User) -> Self {
        let directory = scratch::folder("keys").join("keys");
        std::fs::create_dir(&directory).unwrap();
        Self { namespace: namespace.to_owned(), directory, metrics: Arc::default(), user, running: None }
    }

    /// Begins to sync, as a replica does that becomes the leader.
    pub fn start(&mut self) {
        let config = Config { directory: Some(self.directory.clone()), ..Config::default() };
        self.start_with(config);
    }

    /// The same from anywhere.
    pub fn start_with(&mut self, config: Config) {
        config.check().unwrap();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let file = kube::config::Kubeconfig::read_from(Cluster::shared().kubeconfig(self.user)).unwrap();
        let (namespace, metrics) = (self.namespace.clone(), self.metrics.clone());
        runtime.spawn(async move {
            let options = kube::config::KubeConfigOptions::default();
            let of_client = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
            let client = kube::Client::try_from(of_client).unwrap();
            keys::run(Context::new(client, &namespace, "test", metrics), config).await;
        });
        self.running = Some(runtime);
    }

    /// Ends the sync, as a replica does that leads no longer.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// A file of the directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Writes a file in one go.
    pub fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), content).unwrap();
    }

    /// Takes a file away.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).unwrap();
    }

    /// `kubectl -n NAMESPACE ARGS`.
    pub fn kubectl(&self, args: &[&str]) -> crate::support::tools::Ran {
        Cluster::shared().kubectl(&[&["-n", &self.namespace], args].concat())
    }

    fn get(&self, args: &[&str]) -> Option<Value> {
        let found = self.kubectl(&[&["get", "-o", "json", "--ignore-not-found"], args].concat()).succeeded();
        serde_json::from_str(&found.stdout).ok()
    }

    /// The Secret `sigstore-key-NAME`.
    pub fn secret(&self, name: &str) -> Option<Value> {
        self.get(&["secret", &format!("sigstore-key-{name}")])
    }

    /// The values in its data; `None` when there is no Secret.
    pub fn data(&self, name: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let secret = self.secret(name)?;
        let data = secret["data"].as_object().into_iter().flatten();
        Some(data.map(|(key, value)| (key.clone(), STANDARD.decode(value.as_str().unwrap()).unwrap())).collect())
    }

    /// The fingerprints that its annotation names.
    pub fn fingerprints(&self, name: &str) -> Option<String> {
        self.secret(name)?["metadata"]["annotations"]["podseal.io/key-fingerprints"].as_str().map(str::to_owned)
    }

    /// Waits until a Secret names these fingerprints, and gives how long that took.
    #[track_caller]
    pub fn wait_for_key(&self, name: &str, fingerprint: &str) -> Duration {
        self.wait(&format!("{name} holds {fingerprint}"), || self.fingerprints(name).as_deref() == Some(fingerprint))
    }

    /// Waits until a Secret is there and holds nothing.
    #[track_caller]
    pub fn wait_for_empty(&self, name: &str) -> Duration {
        self.wait(&format!("{name} is empty"), || self.data(name).is_some_and(|data| data.is_empty()))
    }

    /// Waits until a Secret is gone.
    #[track_caller]
    pub fn wait_for_none(&self, name: &str) -> Duration {
        self.wait(&format!("{name} is gone"), || self.secret(name).is_none())
    }

    /// Waits for an Event of that reason whose note has these words, and gives the kind of what it is about.
    #[track_caller]
    pub fn wait_for_event(&self, reason: &str, words: &[&str]) -> String {
        let mut kind = String::new();
        self.wait(&format!("an Event {reason} with {words:?}"), || {
            let found = self.events().into_iter().find(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                event["reason"] == reason && words.iter().all(|word| note.contains(word))
            });
            found.is_some_and(|event| {
                event["regarding"]["kind"].as_str().unwrap_or_default().clone_into(&mut kind);
                true
            })
        });
        kind
    }

    /// All Events of the namespace.
    pub fn events(&self) -> Vec<Value> {
        let list = self.get(&["events.events.k8s.io"]);
        list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
    }

    /// The value of a metric with these labels, as they stand on the page.
    pub fn metric(&self, series: &str) -> i64 {
        let page = self.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| {
            panic!(
                "no series {series}
{page}"
            )
        })
        .parse()
        .unwrap()
    }

    /// Waits a minute at most for what the next comparison with the cluster brings.
    #[track_caller]
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        let found = within(Duration::from_secs(60), || holds().then(|| started.elapsed()));
        found.unwrap_or_else(|| {
            let events: Vec<_> = self.events().iter().map(|e| format!("{} {}", e["reason"], e["note"])).collect();
            let metrics = self.metrics.encode();
            let metrics: Vec<_> = metrics.lines().filter(|line| line.starts_with("podseal_key")).collect();
            panic!("not within a minute: {what}\n{}\n{}", events.join("\n"), metrics.join("\n"))
        })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Time for whatever must not happen.
pub fn a_while() {
    std::thread::sleep(Duration::from_secs(3));
}

/// Makes `link` lead to `target`, in one step.
pub fn link(target: &str, link: &Path) {
    let new = link.with_file_name("..tmp");
    std::os::unix::fs::symlink(target, &new).unwrap();
    std::fs::rename(new, link).unwrap();
}
