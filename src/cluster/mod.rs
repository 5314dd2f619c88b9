//! What the cluster says: policies and whitelist as one immutable snapshot, Secrets and service accounts on demand.
//!
//! ```text
//!  watch policies ──┐
//!  watch whitelist ─┼─► Inputs ─► Snapshot (Arc, swapped whole)      a review takes one and keeps it
//!  watch Secrets ───┴─► own-namespace Secrets (acted on at once)
//!  get Secrets, ConfigMaps, ServiceAccounts elsewhere, each with a bounded age
//!  denials ─► Events on what controls the Pod
//!  roots of trust that were seen first ◄─► a ConfigMap
//! ```

pub mod denials;
pub mod events;
pub mod files;
pub mod objects;
pub mod read;
pub mod remote;
pub mod roots;
pub mod snapshot;
pub mod watch;

pub use objects::{Freshness, Objects, SecretData};
pub use snapshot::{Inputs, Snapshot};

/// What the API server or the way to it has against a request, in one line: its own message, or every cause.
pub fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() {
            format!("the API server answered {} {}", status.code, status.reason)
        } else {
            status.message.clone()
        };
    }
    crate::fault::causes(error)
}
