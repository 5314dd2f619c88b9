//! Objects from files, for `podseal check` and `podseal demo`.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::Instant;

use super::objects::{Freshness, Lookup, Objects, SecretData};

type Key = (String, String);

/// Secrets, `ConfigMaps` and service accounts by namespace and name.
#[derive(Debug, Default)]
pub struct FileObjects {
    /// Secrets.
    pub secrets: HashMap<Key, Arc<SecretData>>,
    /// `ConfigMaps`.
    pub config_maps: HashMap<Key, Arc<SecretData>>,
    /// The names in `imagePullSecrets` of service accounts.
    pub service_accounts: HashMap<Key, Arc<Vec<String>>>,
}

fn find<'a, T: Send + Sync + 'a>(map: &HashMap<Key, Arc<T>>, namespace: &str, name: &str) -> Lookup<'a, T> {
    let found = map.get(&(namespace.to_owned(), name.to_owned())).cloned();
    std::future::ready(Ok(found)).boxed()
}

impl Objects for FileObjects {
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str, _: Freshness, _: Instant) -> Lookup<'a, SecretData> {
        find(&self.secrets, namespace, name)
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str, _: Instant) -> Lookup<'a, SecretData> {
        find(&self.config_maps, namespace, name)
    }

    fn pull_secrets_of<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
        _: Instant,
    ) -> Lookup<'a, Vec<String>> {
        find(&self.service_accounts, namespace, service_account)
    }
}

/// What stands in files, and for everything else what is in a cluster.
#[derive(Debug)]
pub struct Overlay<T> {
    /// Asked first.
    pub files: FileObjects,
    /// Asked about what is in no file.
    pub cluster: T,
}

impl<T: Objects> Objects for Overlay<T> {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        freshness: Freshness,
        deadline: Instant,
    ) -> Lookup<'a, SecretData> {
        match self.files.secrets.get(&key(namespace, name)) {
            Some(found) => ready(found),
            None => self.cluster.secret(namespace, name, freshness, deadline),
        }
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str, deadline: Instant) -> Lookup<'a, SecretData> {
        match self.files.config_maps.get(&key(namespace, name)) {
            Some(found) => ready(found),
            None => self.cluster.config_map(namespace, name, deadline),
        }
    }

    fn pull_secrets_of<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
        deadline: Instant,
    ) -> Lookup<'a, Vec<String>> {
        match self.files.service_accounts.get(&key(namespace, service_account)) {
            Some(found) => ready(found),
            None => self.cluster.pull_secrets_of(namespace, service_account, deadline),
        }
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

fn ready<'a, T: Send + Sync + 'a>(found: &Arc<T>) -> Lookup<'a, T> {
    std::future::ready(Ok(Some(found.clone()))).boxed()
}
