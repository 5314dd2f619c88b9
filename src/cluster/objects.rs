//! Secrets, `ConfigMaps` and service accounts as verification needs them, from the API server or from files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::fault::Fault;

/// The label that podseal's controller puts on the Secrets it keeps for files of the key directory.
pub const SYNCED_KEY_LABEL: &str = "podseal.io/key-file";
/// The Secrets kept for key files start with this.
pub const SYNCED_KEY_PREFIX: &str = "sigstore-key-";

/// How old an object read by `get` may be when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Keys and certificates: 15 seconds.
    Key,
    /// Pull secrets and service accounts: 30 seconds.
    Pull,
}

impl Freshness {
    /// The greatest age at which an object is still used.
    pub fn limit(self) -> Duration {
        match self {
            Self::Key => Duration::from_secs(15),
            Self::Pull => Duration::from_secs(30),
        }
    }
}

/// A Secret or `ConfigMap`: its data, and a hash of it that caches use.
#[derive(Clone)]
pub struct SecretData {
    /// Whether the controller keeps it for a key file.
    pub synced_key: bool,
    /// Data by key.
    pub data: BTreeMap<String, Bytes>,
    /// SHA-256 over all keys and values.
    pub hash: [u8; 32],
}

impl SecretData {
    /// Takes over the data and hashes it.
    pub fn new(data: BTreeMap<String, Bytes>, synced_key: bool) -> Self {
        let mut context = Context::new(&SHA256);
        for (key, value) in &data {
            for part in [key.as_bytes(), value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { synced_key, data, hash }
    }
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretData").field("keys", &self.data.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// An object, or the certainty that it does not exist; a fault when neither can be had before the deadline.
pub type Lookup<'a, T> = BoxFuture<'a, Result<Option<Arc<T>>, Fault>>;

/// Where objects come from. Two implementations: the API server, and the files of `podseal check`.
pub trait Objects: Send + Sync + std::fmt::Debug {
    /// A Secret, no older than `freshness` allows.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        freshness: Freshness,
        deadline: Instant,
    ) -> Lookup<'a, SecretData>;

    /// A `ConfigMap`, no older than a key may be.
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str, deadline: Instant) -> Lookup<'a, SecretData>;

    /// The names in `imagePullSecrets` of a `ServiceAccount`.
    fn pull_secrets_of<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
        deadline: Instant,
    ) -> Lookup<'a, Vec<String>>;
}

/// RFC 1123 as Kubernetes checks names of Secrets.
pub fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.split('.').all(|label| {
        let label = label.as_bytes();
        label.first().is_some_and(alphanumeric)
            && label.last().is_some_and(alphanumeric)
            && label.iter().all(|b| alphanumeric(b) || *b == b'-')
    })
}
