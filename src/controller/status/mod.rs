//! What podseal makes of each policy, written into its `status`; and what it makes of the whitelist, told by Events.
//!
//! ```text
//!  watch policies ──────────┐
//!  watch own Secrets ───────┼─► work: which policies does it touch? ─► queue ─► compose ─► merge ─► apply to /status
//!  look at other Secrets ───┤                    shadow: who hides whom ┘  ▲
//!  a key's end ─────────────┘                                              │ material: what a Secret holds
//!  watch whitelist ─► Events on its ConfigMap
//! ```
//! A status decides nothing. It is composed from the same readings by which reviews are decided, and shows a namespace's
//! owner nothing that a denial would not show. Nothing is written unless something changed, and what others put into a
//! status is put right at a bounded pace, so that no two writers chase each other.

mod compose;
mod follow;
mod held;
mod material;
mod merge;
mod queue;
mod reader;
mod reason;
mod references;
mod shadow;
mod tally;
mod task;
mod whitelist;
mod work;

use std::time::Duration;

use super::Context;

/// What statuses depend on besides the objects of the cluster; the same as for reviews.
#[derive(Debug, Clone)]
pub struct Config {
    /// Tells replicas apart in Events: the Pod's name, or the host's.
    pub instance: String,
    /// Whether namespaces may only tighten registries that a cluster policy names.
    pub restrict_namespaces: bool,
    /// Further namespaces whose Secrets and `ConfigMaps` namespaced policies may name.
    pub shared_namespaces: Vec<String>,
    /// How often a Secret is looked at that cannot be watched.
    pub poll: Duration,
}

impl Config {
    /// With the defaults of `podseal serve`.
    pub fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            restrict_namespaces: false,
            shared_namespaces: Vec::new(),
            poll: Duration::from_secs(15),
        }
    }
}

/// Keeps statuses up to date. Never ends by itself; to be dropped when somebody else leads.
pub async fn run(context: Context, config: Config) {
    tokio::join!(work::run(context.clone(), config.clone()), whitelist::run(context, &config.instance));
}
