//! A cluster with one node that really runs Pods: control plane, scheduler, controllers, containerd, kubelet, and a
//! registry that the node, its Pods and the tests know by the same name.
//!
//! Everything but the registry lives in namespaces of its own (`space`), so nothing of it outlives the run and several
//! runs do not meet. There is no kube-proxy and no DNS in the cluster: Pods know the API server by its Service's
//! address and everything else by addresses.

mod helm;
mod runtime;
mod space;
mod workload;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

pub use space::{Space, unable};

use super::cluster::Cluster;
use super::harness;
use super::registry::{Image, Options, Registry};
use runtime::Runtime;

/// The cluster, its node and its registry.
#[derive(Debug)]
pub struct Node {
    // In this order: the kubelet is gone before the API server it talks to, and all before the network.
    _runtime: Runtime,
    cluster: Cluster,
    /// Over TLS, with the referrers API.
    pub registry: Registry,
    space: Arc<Space>,
    pub(super) image: OnceLock<Image>,
}

impl Node {
    /// The one of this run.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Node, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| harness::attempt("the node", Self::start));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Another one.
    pub fn start() -> Self {
        let space = Arc::new(Space::start());
        let registry = Registry::with(&Options { tls: true, address: space.outside.clone(), ..Options::default() });
        let sandbox = registry.push_program("podseal-test/pause:1", &[]);
        let cluster = Cluster::for_node(&space);
        let runtime = Runtime::start(&space, &cluster, &registry, &sandbox.tagged());
        Self { _runtime: runtime, cluster, registry, space, image: OnceLock::new() }
    }

    /// Its control plane, with nothing installed.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The network: addresses, and commands in it.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// A folder of the node, for `hostPath` volumes.
    pub fn host_folder(&self, name: &str) -> PathBuf {
        let folder = self.space.folder.join("host").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The folder of the node's static Pods.
    pub fn static_pods(&self) -> PathBuf {
        runtime::static_pods(&self.space)
    }
}
