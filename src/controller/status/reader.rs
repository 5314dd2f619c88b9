//! What the references of policies lead to, under the rules by which reviews are decided.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::compose::{Target, Trouble};
use super::material::{Material, Materials, Purpose};
use crate::cluster::remote::RemoteObjects;
use crate::cluster::{Freshness, Objects, SecretData};
use crate::domain::policy::PolicyId;
use crate::fault::{Fault, FaultKind};
use crate::verify::{MAX_TENANT, may_name};

/// For one object.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads objects; shared by all that are at work.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) objects: RemoteObjects,
    pub(super) materials: Materials,
    pub(super) own_namespace: Arc<str>,
    pub(super) shared_namespaces: Vec<String>,
}

impl Reader {
    /// Whether the policy's saying so makes podseal look at the object. In podseal's own namespace it depends on the object.
    pub(super) fn looks_at(&self, policy: &PolicyId, target: &Target) -> bool {
        let own = *target.reference.namespace == *self.own_namespace && target.purpose.object_key().is_none();
        own || may_name(policy, &target.reference, &self.shared_namespaces)
    }

    /// Whether a watch says when the object changes.
    pub(super) fn is_watched(&self, target: &Target) -> bool {
        *target.reference.namespace == *self.own_namespace && target.purpose.object_key().is_none()
    }

    /// The object as of now, or nearly.
    pub(super) async fn look(&self, target: &Target) -> Result<Option<Arc<SecretData>>, Fault> {
        let deadline = Instant::now() + PATIENCE;
        let (namespace, name) = (&target.reference.namespace, &target.reference.name);
        let secret = self.objects.secret(namespace, name, Freshness::Key, deadline).await;
        let Some(key) = target.purpose.object_key() else { return secret };
        let with_key = |object: Option<Arc<SecretData>>| object.filter(|o| o.data.contains_key(key));
        match with_key(secret?) {
            Some(secret) => Ok(Some(secret)),
            None => self.objects.config_map(namespace, name, deadline).await.map(with_key),
        }
    }

    /// What a policy finds there. `followed`: whether the object is among those that its namespace may have followed.
    pub(super) async fn found(
        &self,
        policy: &PolicyId,
        target: &Target,
        followed: bool,
    ) -> Result<Arc<Material>, Trouble> {
        if !self.looks_at(policy, target) {
            return Err(Trouble::NotFound);
        }
        if !followed {
            return Err(Trouble::TooMany);
        }
        let secret = match self.look(target).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return Err(Trouble::NotFound),
            Err(fault) if fault.kind() == FaultKind::Reference => return Err(Trouble::Forbidden),
            Err(fault) => return Err(Trouble::Unavailable(fault.message().to_owned())),
        };
        if !may_name(policy, &target.reference, &self.shared_namespaces) && !secret.synced_key {
            return Err(Trouble::NotFound);
        }
        let tenant = policy.namespace.is_some() && !secret.synced_key;
        let bytes = secret.data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if tenant && target.purpose != Purpose::Certificates && bytes > MAX_TENANT {
            return Err(Trouble::TooLarge);
        }
        let material = self.materials.of(target.purpose, &secret, tenant).await;
        material.ok_or_else(|| Trouble::Unavailable("podseal met an internal error while it read the keys".to_owned()))
    }
}
