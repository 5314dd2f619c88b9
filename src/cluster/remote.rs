//! Objects from the API server: podseal's own namespace and those that the administrator lists by watch, everything else
//! by `get` with a bounded age.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::{Api, Client};
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::objects::{Freshness, Lookup, Objects, SecretData};
use super::watch::{OwnSecrets, secret_data};
use crate::fault::{Fault, FaultKind};

/// Bytes of objects kept in memory for each purpose, at most, and how long an unused one stays. By bytes and not by
/// number: whoever may create Pods and Secrets decides what is read, and a Secret may have a megabyte.
const CAPACITY: u64 = 16 << 20;
const IDLE: Duration = Duration::from_secs(600);
/// What an entry costs besides its content.
const OVERHEAD: usize = 512;
/// What is read of a pull secret.
const PULL_KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

type Key = (Arc<str>, Arc<str>);

/// Reads objects with a client; cheap to share.
#[derive(Clone)]
pub struct RemoteObjects {
    client: Client,
    own_namespace: Arc<str>,
    own: OwnSecrets,
    watched: Arc<HashMap<String, OwnSecrets>>,
    keys: Aged<SecretData>,
    pull: Aged<SecretData>,
    config_maps: Aged<SecretData>,
    service_accounts: Aged<Vec<String>>,
}

impl std::fmt::Debug for RemoteObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteObjects").field("own_namespace", &self.own_namespace).finish_non_exhaustive()
    }
}

impl RemoteObjects {
    /// `own` is filled by the watch of the Secrets in `own_namespace`.
    pub fn new(client: Client, own_namespace: &str, own: OwnSecrets) -> Self {
        Self {
            client,
            own_namespace: own_namespace.into(),
            own,
            watched: Arc::default(),
            keys: Aged::new(Freshness::Key),
            pull: Aged::new(Freshness::Pull),
            config_maps: Aged::new(Freshness::Key),
            service_accounts: Aged::new(Freshness::Pull),
        }
    }

    /// Takes Secrets of these namespaces from their watches. Until a list is complete, and where it is refused, they are
    /// read like those of any other namespace.
    #[must_use]
    pub fn watching(mut self, namespaces: HashMap<String, OwnSecrets>) -> Self {
        self.watched = Arc::new(namespaces);
        self
    }

    async fn read_secret(self, key: Key, freshness: Freshness) -> Result<Option<SecretData>, Fault> {
        let api: Api<Secret> = Api::namespaced(self.client, &key.0);
        let found = api.get_opt(&key.1).await.map_err(|e| unreadable("Secret", &key, &e))?;
        Ok(found.map(|mut secret| {
            if let (Freshness::Pull, Some(data)) = (freshness, &mut secret.data) {
                data.retain(|name, _| PULL_KEYS.contains(&name.as_str()));
            }
            secret_data(secret)
        }))
    }

    async fn read_config_map(self, key: Key) -> Result<Option<SecretData>, Fault> {
        let api: Api<ConfigMap> = Api::namespaced(self.client, &key.0);
        let found = api.get_opt(&key.1).await.map_err(|e| unreadable("ConfigMap", &key, &e))?;
        Ok(found.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, Bytes::from(v)));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, Bytes::from(v.0)));
            SecretData::new(text.chain(binary).collect::<BTreeMap<_, _>>(), false)
        }))
    }

    async fn read_service_account(self, key: Key) -> Result<Option<Vec<String>>, Fault> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client, &key.0);
        let found = api.get_opt(&key.1).await.map_err(|e| unreadable("ServiceAccount", &key, &e))?;
        Ok(found.map(|account| account.image_pull_secrets.unwrap_or_default().into_iter().map(|r| r.name).collect()))
    }
}

/// "Forbidden" is a reference that cannot be used; everything else is an obstacle that may pass.
fn unreadable(kind: &str, key: &Key, error: &kube::Error) -> Fault {
    let fault_kind = match error {
        kube::Error::Api(status) if status.code == 403 => FaultKind::Reference,
        _ => FaultKind::Unreachable,
    };
    Fault::new(fault_kind, format!("the {kind} {}/{} cannot be read from the API server", key.0, key.1))
        .with_detail(error)
}

impl Objects for RemoteObjects {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        freshness: Freshness,
        deadline: Instant,
    ) -> Lookup<'a, SecretData> {
        if *namespace == *self.own_namespace {
            let own = self.own.load();
            let found = own.as_ref().map(|secrets| secrets.get(name).cloned());
            let missing = || Fault::new(FaultKind::NotSynced, format!("the Secrets of {namespace} are not listed yet"));
            return std::future::ready(found.ok_or_else(missing)).boxed();
        }
        if let Some(secrets) = self.watched.get(namespace).and_then(|listed| listed.load_full()) {
            return std::future::ready(Ok(secrets.get(name).cloned())).boxed();
        }
        let cache = if freshness == Freshness::Key { &self.keys } else { &self.pull };
        cache
            .get((namespace.into(), name.into()), deadline, move |key| self.clone().read_secret(key, freshness))
            .boxed()
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str, deadline: Instant) -> Lookup<'a, SecretData> {
        self.config_maps.get((namespace.into(), name.into()), deadline, |key| self.clone().read_config_map(key)).boxed()
    }

    fn pull_secrets_of<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
        deadline: Instant,
    ) -> Lookup<'a, Vec<String>> {
        let key = (namespace.into(), service_account.into());
        self.service_accounts.get(key, deadline, |key| self.clone().read_service_account(key)).boxed()
    }
}

/// A value with the time it was asked for.
struct Fetched<T> {
    value: Option<Arc<T>>,
    asked: Instant,
    refreshing: AtomicBool,
}

/// A cache whose values are never used beyond an age, and are read anew in the background before they reach it, so that
/// objects in steady use cost the hot path nothing.
struct Aged<T> {
    limit: Duration,
    cache: Cache<Key, Arc<Fetched<T>>>,
}

impl<T> Clone for Aged<T> {
    fn clone(&self) -> Self {
        Self { limit: self.limit, cache: self.cache.clone() }
    }
}

/// Bytes of content.
trait Size {
    fn size(&self) -> usize;
}

impl Size for SecretData {
    fn size(&self) -> usize {
        self.data.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

impl Size for Vec<String> {
    fn size(&self) -> usize {
        self.iter().map(|name| name.len() + size_of::<String>()).sum()
    }
}

impl<T: Size + Send + Sync + 'static> Aged<T> {
    fn new(freshness: Freshness) -> Self {
        let weigh = |key: &Key, fetched: &Arc<Fetched<T>>| {
            let content = fetched.value.as_ref().map_or(0, |value| value.size());
            u32::try_from(content + key.0.len() + key.1.len() + OVERHEAD).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_idle(IDLE).build();
        Self { limit: freshness.limit(), cache }
    }

    /// From a third of the greatest age on, a use starts a reading in the background; close to it, the use waits for one.
    async fn get<R, F>(&self, key: Key, deadline: Instant, read: R) -> Result<Option<Arc<T>>, Fault>
    where
        R: Fn(Key) -> F,
        F: Future<Output = Result<Option<T>, Fault>> + Send + 'static,
    {
        if let Some(fetched) = self.cache.get(&key).await {
            let age = fetched.asked.elapsed();
            // An absence is looked up again sooner: somebody is about to create what is missing.
            let limit = if fetched.value.is_some() { self.limit * 9 / 10 } else { self.limit / 5 };
            if age < limit {
                if age > limit / 3 && !fetched.refreshing.swap(true, Ordering::AcqRel) {
                    self.refresh(key.clone(), fetched.clone(), read(key));
                }
                return Ok(fetched.value.clone());
            }
            self.cache.invalidate(&key).await;
        }
        let reading = self.cache.try_get_with(key.clone(), {
            let asked = Instant::now();
            let reading = read(key.clone());
            async move { reading.await.map(|value| fetched(value, asked)) }
        });
        match timeout_at(deadline, reading).await {
            Ok(Ok(fetched)) => Ok(fetched.value.clone()),
            Ok(Err(fault)) => Err(Fault::clone(&fault)),
            Err(_) => Err(Fault::new(FaultKind::Timeout, "the API server did not answer in time")),
        }
    }

    fn refresh<F>(&self, key: Key, old: Arc<Fetched<T>>, reading: F)
    where
        F: Future<Output = Result<Option<T>, Fault>> + Send + 'static,
    {
        let cache = self.cache.clone();
        tokio::spawn(async move {
            let asked = Instant::now();
            match reading.await {
                Ok(value) => cache.insert(key, fetched(value, asked)).await,
                Err(fault) => {
                    warn!(namespace = %key.0, name = %key.1, detail = fault.detail(), "{fault}");
                    old.refreshing.store(false, Ordering::Release);
                }
            }
        });
    }
}

fn fetched<T>(value: Option<T>, asked: Instant) -> Arc<Fetched<T>> {
    Arc::new(Fetched { value: value.map(Arc::new), asked, refreshing: AtomicBool::new(false) })
}

#[cfg(test)]
mod tests;
