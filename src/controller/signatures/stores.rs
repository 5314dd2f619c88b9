//! Where signatures of an image are imported from: stores that the administrator configured, and nothing else.
//!
//! What a policy of a namespace names is left out: the controller would go where namespace owners send it, in its own
//! time, and make objects of the whole cluster of what it finds there. Registries that keep signatures themselves are
//! left out, too, because they want credentials, and those are the Pods'.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use crate::cluster::read;
use crate::domain::digest::Digest;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::policy::{Check, PolicySet};
use crate::source::access::{Access, Transport};
use crate::source::credentials::Keychain;
use crate::source::lookaside::StoreUrl;
use crate::source::registries_d::RegistriesD;

/// The stores of one round.
#[derive(Debug)]
pub(super) struct Stores {
    policies: PolicySet,
    registries_d: RegistriesD,
}

impl Stores {
    /// As they are configured now.
    pub(super) async fn read(client: &kube::Client, registries_d: Option<&Path>) -> Result<Self, String> {
        let policies = read::policies_of(client, crate::api::PolicyKind::Cluster, None).await?;
        let registries_d = match registries_d.map(Path::to_owned) {
            // Files may lie on a network.
            Some(directory) => tokio::task::spawn_blocking(move || RegistriesD::load(&directory))
                .await
                .map_err(|_| "registries.d could not be read".to_owned())??,
            None => RegistriesD::default(),
        };
        Ok(Self { policies: PolicySet::new(policies.iter().map(|(policy, _)| policy)), registries_d })
    }

    /// The store of a repository, and whether the registry may be reached insecurely: that of the cluster policy that
    /// governs, else that of registries.d.
    pub(super) fn of(&self, repository: &Repository, digest: &Digest) -> Option<(StoreUrl, bool)> {
        let mut insecure = false;
        for entry in self.policies.governing_cluster(repository) {
            let Check::Signed(check) = &entry.check else { continue };
            insecure |= check.transport.insecure;
            let lookaside = check.gpg.as_ref().and_then(|gpg| gpg.lookaside.as_deref());
            if let Some(Ok(store)) = lookaside.map(StoreUrl::from_policy) {
                return Some((store, check.transport.insecure));
            }
        }
        let image: ImageRef = format!("{repository}@{digest}").parse().ok()?;
        self.registries_d.lookaside(&image).map(|store| (store.clone(), insecure))
    }
}

/// Nobody's credentials; the store is the administrator's and may be anywhere.
pub(super) fn access(insecure: bool, deadline: Instant) -> Access {
    let transport = Transport { insecure, ..Transport::default() };
    Access { transport, keychain: Arc::new(Keychain::default()), deadline }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::read_policy;
    use crate::domain::policy::{Policy, PolicyId};

    fn policy(id: PolicyId) -> Policy {
        let entry = |registry: &str, store: &str| json!({"registry": registry, "signCheck": true, "gpgKeyRef": "k8s://a/b", "lookaside": store});
        read_policy(
            id,
            &json!({"spec": {"registries": [entry("r.io", "http://one/"), entry("r.io/a", "http://two/")]}}),
        )
    }

    fn store(policies: &[Policy], name: &str) -> Option<String> {
        let stores = Stores { policies: PolicySet::new(policies), registries_d: RegistriesD::default() };
        let found = stores.of(&Repository::parse(name).unwrap(), &Digest::sha256(b""));
        found.map(|(store, _)| store.to_string())
    }

    #[test]
    fn the_governing_policy_of_the_cluster_says_where() {
        let policies = [policy(PolicyId::cluster("p"))];
        assert_eq!(store(&policies, "r.io/b").as_deref(), Some("http://one/"));
        assert_eq!(store(&policies, "r.io/a/b").as_deref(), Some("http://two/"));
        assert_eq!(store(&policies, "other.io/a"), None);
    }

    #[test]
    fn a_policy_of_a_namespace_sends_the_controller_nowhere() {
        assert_eq!(store(&[policy(PolicyId::namespaced("team", "p"))], "r.io/a"), None);
    }
}
