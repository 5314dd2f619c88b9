//! Statuses of policies and Events about the whitelist, written by the controller in this process; Events about denials,
//! written by the binary.

mod denials;
mod reasons;
mod trouble;
mod writing;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::Trial;
use podseal::controller::Context;
use podseal::controller::FIELD_MANAGER as MANAGER;
use podseal::controller::status::{Config, run};
use podseal::telemetry::Metrics;
use serde_json::Value;

use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::harness;
use crate::support::process::within;

pub fn trials() -> Vec<Trial> {
    [reasons::trials(), writing::trials(), trouble::trials(), denials::trials()].into_iter().flatten().collect()
}

/// Longer than any change takes to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that keeps statuses until it is dropped.
struct Leader {
    metrics: Arc<Metrics>,
    _runtime: tokio::runtime::Runtime,
}

impl Leader {
    fn start(cluster: &Cluster, config: Config) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::new());
        let file = kube::config::Kubeconfig::read_from(cluster.kubeconfig(User::Podseal)).unwrap();
        let of_leader = metrics.clone();
        let _inside = runtime.enter();
        runtime.spawn(async move {
            let options = kube::config::KubeConfigOptions::default();
            let kubernetes = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
            let client = kube::Client::try_from(kubernetes).unwrap();
            run(Context::new(client, OWN_NAMESPACE, &config.instance, of_leader), config.clone()).await;
        });
        drop(_inside);
        Self { metrics, _runtime: runtime }
    }
}

/// As in production, but for the pace of looking at what cannot be watched.
fn config(instance: &str) -> Config {
    Config { poll: Duration::from_secs(1), ..Config::new(instance) }
}

/// A cluster and its controller.
struct World {
    cluster: Cluster,
    leader: Leader,
}

impl World {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            harness::attempt("the controller's cluster", || {
                let cluster = Cluster::start();
                let leader = Leader::start(&cluster, config("leader"));
                World { cluster, leader }
            })
        });
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A policy of a cluster.
#[derive(Clone)]
struct Policy<'a> {
    cluster: &'a Cluster,
    namespace: Option<String>,
    name: String,
}

impl<'a> Policy<'a> {
    fn cluster(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, namespace: None, name: name.to_owned() }
    }

    fn namespaced(cluster: &'a Cluster, namespace: &str, name: &str) -> Self {
        Self { cluster, namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// Applies it with these entries (a YAML flow list).
    #[track_caller]
    fn apply(&self, entries: &str) {
        let (kind, place) = match &self.namespace {
            None => ("ClusterRegistrySecurityPolicy", String::new()),
            Some(namespace) => ("RegistrySecurityPolicy", format!(", namespace: {namespace}")),
        };
        let name = &self.name;
        let text = format!(
            "apiVersion: tmax.io/v1\nkind: {kind}\nmetadata: {{name: {name}{place}}}\nspec: {{registries: {entries}}}\n"
        );
        self.cluster.apply(&text).succeeded();
    }

    fn arguments<'b>(&'b self, verb: &'b str) -> Vec<&'b str> {
        match &self.namespace {
            None => vec![verb, "crsp", &self.name],
            Some(namespace) => vec!["-n", namespace, verb, "rsp", &self.name],
        }
    }

    fn object(&self) -> Value {
        let ran = self.cluster.kubectl(&[self.arguments("get").as_slice(), &["-o", "json"]].concat()).succeeded();
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The condition, as soon as it speaks of the object as it is and is what is wanted.
    #[track_caller]
    fn condition(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = within(PATIENCE, || {
            last = self.object();
            let conditions = last["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition = conditions.into_iter().find(|condition| condition["type"] == kind)?;
            let current = condition["observedGeneration"] == last["metadata"]["generation"];
            (current && wanted(&condition)).then_some(condition)
        });
        found.unwrap_or_else(|| panic!("{} {kind}: {last:#}", self.name))
    }

    /// Waits for a status and reason of `Ready`; gives the message.
    #[track_caller]
    fn ready(&self, status: &str, reason: &str) -> String {
        let condition = self.condition("Ready", |ready| ready["status"] == status && ready["reason"] == reason);
        condition["message"].as_str().unwrap().to_owned()
    }

    /// The keys of the first entry, and its signers.
    fn keys(&self) -> (Vec<Value>, Vec<Value>) {
        let entry = &self.object()["status"]["registries"][0];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        (list(&entry["keys"]), list(&entry["signers"]))
    }
}

/// Resource versions of all policies, by kind and name.
fn versions(cluster: &Cluster) -> BTreeMap<String, String> {
    let format = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let ran = cluster.kubectl(&["get", "crsp,rsp", "-A", "-o", format]).succeeded();
    ran.stdout.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// Waits until no policy is written any more.
#[track_caller]
fn settled(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut before = versions(cluster);
    let calm = within(PATIENCE, || {
        std::thread::sleep(Duration::from_secs(3));
        let now = versions(cluster);
        let same = now == before;
        before.clone_from(&now);
        same.then_some(now)
    });
    calm.expect("the statuses are still being written")
}

/// Who wrote the status of a policy.
fn managers(policy: &Policy<'_>) -> Vec<String> {
    let mut args = policy.arguments("get");
    args.extend(["-o", "json", "--show-managed-fields"]);
    let object: Value = serde_json::from_str(&policy.cluster.kubectl(&args).succeeded().stdout).unwrap();
    let fields = object["metadata"]["managedFields"].as_array().unwrap();
    let of_status = fields.iter().filter(|field| field["subresource"] == "status");
    of_status.map(|field| field["manager"].as_str().unwrap().to_owned()).collect()
}
