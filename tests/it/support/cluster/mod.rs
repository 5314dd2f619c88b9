//! etcd and kube-apiserver, shared by all trials of a run, and what tests do with them.
//!
//! There is no controller manager: a deleted namespace stays `Terminating`, so every test takes a fresh one, and a
//! Deployment makes no Pods. There is no node either: a Pod is created or denied, and never runs. Where these matter,
//! `support::node` has them.

mod kubectl;
mod namespace;
mod objects;
mod plane;
mod turn;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

pub use kubectl::User;
pub use namespace::Namespace;
pub use objects::WebhookScope;

use super::harness;
use super::node::Space;
use super::pki::Authority;
use objects::Whitelist;
use plane::{Plane, Site};
use turn::Turn;

/// Where podseal and the whitelist live.
pub const OWN_NAMESPACE: &str = "registry-system";

/// A control plane.
#[derive(Debug)]
pub struct Cluster {
    plane: Plane,
    cache: PathBuf,
    whitelist: Mutex<Whitelist>,
    turn: Turn,
}

impl Cluster {
    /// The one of this run, with podseal's namespace, roles and, if there are any, its CRDs.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| harness::attempt("the control plane", Self::start));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Another control plane, for tests that stop it or need it empty.
    pub fn start() -> Self {
        let cluster = Self::at(Site::Here(super::ports::free()));
        cluster.install();
        cluster
    }

    /// Another control plane, with nothing in it.
    pub fn empty() -> Self {
        Self::at(Site::Here(super::ports::free()))
    }

    /// A control plane for a node, with nothing in it.
    pub fn for_node(space: &Arc<Space>) -> Self {
        Self::at(Site::Node(Arc::clone(space)))
    }

    fn at(site: Site) -> Self {
        Self {
            plane: Plane::start(site),
            cache: super::scratch::folder("kubectl"),
            whitelist: Mutex::default(),
            turn: Turn::default(),
        }
    }

    /// `https://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.plane.url
    }

    /// The authority of the API server's certificate, good for webhooks as well.
    pub fn authority(&self) -> &Authority {
        &self.plane.authority
    }

    /// A kubeconfig of that user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.plane.kubeconfig(user)
    }

    /// Ends the API server, has something happen meanwhile, and starts it again over the same store.
    pub fn restart(&self, meanwhile: impl FnOnce()) {
        self.plane.restart(meanwhile);
    }

    /// Stops answering without ending, as a stuck API server does, until [`Self::resume`].
    pub fn pause(&self) {
        self.plane.with_server(|server| server.signal("STOP"));
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&self) {
        self.plane.with_server(|server| server.signal("CONT"));
    }
}
