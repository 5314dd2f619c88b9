//! Roots of trust that were seen first, remembered.
//!
//! One `ConfigMap` in podseal's namespace holds them for all replicas, an entry for each owner, server and repository.
//! The controller makes it, empty; only the webhook writes into it, and only with the version that it read, so that of
//! two replicas that see different roots at the same time one does not overwrite the other. Taking an entry out, by
//! hand, is how an administrator accepts another root.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::domain::digest::hex;
use crate::fault::{Fault, FaultKind};

/// The name of the `ConfigMap`.
pub const ROOTS_NAME: &str = "podseal-notary-trust";

/// Roots of all owners together. An entry has less than a kilobyte, and a `ConfigMap` takes one megabyte.
const MAX_ROOTS: usize = 1000;
/// Of these for the policies of the cluster, and as many for those of all namespaces: neither takes the other's room.
const MAX_OF_KIND: usize = MAX_ROOTS / 2;
/// For the policies of one namespace, and as many for what its Pods are the first to bring under the cluster's.
const MAX_OF_NAMESPACE: usize = 100;
/// With less room than this left, the log says so.
const LITTLE_ROOM: usize = 10;
/// Bytes of one entry; longer ones are not kept.
const MAX_ENTRY: usize = 900;
/// How often a write is tried when others write at the same time.
const TRIES: usize = 5;

/// Whose memory of which repository on which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPlace {
    /// The namespace of the policy; `None` for policies of the cluster.
    pub namespace: Option<Arc<str>>,
    /// The namespace whose Pod is judged. It is no part of what is remembered, but a new root takes its room.
    pub asker: Arc<str>,
    /// URL of the server.
    pub server: String,
    /// The repository's name there.
    pub gun: String,
}

/// A root file: its version and SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRoot {
    /// From 1.
    pub version: u64,
    /// Hexadecimal.
    pub sha256: String,
}

/// An entry as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    server: String,
    gun: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    namespace: Option<String>,
    /// Whose Pod was the first, under policies of the cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    asker: Option<String>,
    version: u64,
    sha256: String,
}

impl RootPlace {
    /// The entry's key: any text would not do as one.
    pub fn key(&self) -> String {
        let mut context = Context::new(&SHA256);
        for part in [self.namespace.as_deref().unwrap_or_default(), &self.server, &self.gun] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        hex(context.finish().as_ref())
    }

    fn entry(&self, root: &KnownRoot) -> Entry {
        Entry {
            server: self.server.clone(),
            gun: self.gun.clone(),
            namespace: self.namespace.as_deref().map(str::to_owned),
            asker: self.namespace.is_none().then(|| self.asker.as_ref().to_owned()),
            version: root.version,
            sha256: root.sha256.clone(),
        }
    }
}

/// The memory. Two implementations: the cluster's `ConfigMap`, and that of one process.
pub trait RootMemory: Send + Sync + fmt::Debug {
    /// The root that was seen before; a fault when that cannot be known.
    fn recall<'a>(&'a self, place: &'a RootPlace, deadline: Instant)
    -> BoxFuture<'a, Result<Option<KnownRoot>, Fault>>;

    /// Puts `root` in the place of what was recalled; a fault when it is not kept, for whatever reason.
    fn remember<'a>(
        &'a self,
        place: &'a RootPlace,
        before: Option<&'a KnownRoot>,
        root: &'a KnownRoot,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Where an entry can be taken out, for messages.
    fn whereabouts(&self, place: &RootPlace) -> String;
}

/// The memory of one process.
#[derive(Debug, Default)]
pub struct ProcessRoots(Mutex<BTreeMap<String, KnownRoot>>);

impl ProcessRoots {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn get(&self, place: &RootPlace) -> Option<KnownRoot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place.key()).cloned()
    }

    fn put(&self, place: &RootPlace, before: Option<&KnownRoot>, root: &KnownRoot) -> Result<(), Fault> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, full_up) = (place.key(), known.len() >= MAX_ROOTS);
        match known.get(&of) {
            Some(found) if found == root => Ok(()),
            found if found != before => Err(changed_meanwhile(place)),
            None if full_up => Err(full(place)),
            _ => {
                known.insert(of, root.clone());
                Ok(())
            }
        }
    }
}

impl RootMemory for ProcessRoots {
    fn recall<'a>(&'a self, place: &'a RootPlace, _: Instant) -> BoxFuture<'a, Result<Option<KnownRoot>, Fault>> {
        std::future::ready(Ok(self.get(place))).boxed()
    }

    fn remember<'a>(
        &'a self,
        place: &'a RootPlace,
        before: Option<&'a KnownRoot>,
        root: &'a KnownRoot,
        _: Instant,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        std::future::ready(self.put(place, before, root)).boxed()
    }

    fn whereabouts(&self, _: &RootPlace) -> String {
        "the memory of this run".to_owned()
    }
}

/// The memory of the cluster.
#[derive(Clone)]
pub struct ClusterRoots {
    api: Api<ConfigMap>,
    namespace: Arc<str>,
    /// Where new roots go instead, when the cluster's memory is only read.
    aside: Option<Arc<ProcessRoots>>,
}

impl fmt::Debug for ClusterRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterRoots").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl ClusterRoots {
    /// Reads and writes the `ConfigMap` of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.into(), aside: None }
    }

    /// Only reads it, if there is one; what is new is kept for this process.
    #[must_use]
    pub fn only_reading(mut self) -> Self {
        self.aside = Some(Arc::default());
        self
    }

    async fn map(&self) -> Result<Option<ConfigMap>, Fault> {
        self.api.get_opt(ROOTS_NAME).await.map_err(|error| {
            let what = format!("the ConfigMap {}/{ROOTS_NAME} cannot be read", self.namespace);
            Fault::new(FaultKind::Unreachable, what).with_detail(error)
        })
    }

    fn missing(&self) -> Fault {
        let what = format!(
            "there is no ConfigMap {}/{ROOTS_NAME} to remember roots of trust in; podseal's controller makes it",
            self.namespace
        );
        Fault::new(FaultKind::NotSynced, what)
    }

    fn read(&self, map: &ConfigMap, place: &RootPlace) -> Result<Option<KnownRoot>, Fault> {
        let Some(text) = map.data.as_ref().and_then(|data| data.get(&place.key())) else { return Ok(None) };
        let entry: Entry = serde_json::from_str(text).map_err(|error| {
            // Never taken for nothing: any root would be trusted then.
            let what = format!("{} cannot be read; mend it or take it out", self.whereabouts(place));
            Fault::new(FaultKind::Configuration, what).with_detail(error)
        })?;
        Ok(Some(KnownRoot { version: entry.version, sha256: entry.sha256 }))
    }

    async fn recall_now(&self, place: &RootPlace) -> Result<Option<KnownRoot>, Fault> {
        if let Some(known) = self.aside.as_ref().and_then(|aside| aside.get(place)) {
            return Ok(Some(known));
        }
        match self.map().await? {
            Some(map) => self.read(&map, place),
            None if self.aside.is_some() => Ok(None),
            None => Err(self.missing()),
        }
    }

    async fn remember_now(&self, place: &RootPlace, before: Option<&KnownRoot>, root: &KnownRoot) -> Result<(), Fault> {
        for _ in 0..TRIES {
            let mut map = self.map().await?.ok_or_else(|| self.missing())?;
            let found = self.read(&map, place)?;
            if found.as_ref() == Some(root) {
                return Ok(());
            }
            if found.as_ref() != before {
                return Err(changed_meanwhile(place));
            }
            let left = insert(map.data.get_or_insert_default(), place, root)?;
            // With the version that was read: a write in between makes this one fail.
            match self.api.replace(ROOTS_NAME, &PostParams::default(), &map).await {
                Ok(_) => {
                    if left < LITTLE_ROOM {
                        warn!(
                            left,
                            gun = place.gun,
                            "little room is left to remember roots of trust; see {ROOTS_NAME}"
                        );
                    }
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    let what = format!("the ConfigMap {}/{ROOTS_NAME} cannot be written", self.namespace);
                    return Err(Fault::new(FaultKind::Unreachable, what).with_detail(error));
                }
            }
        }
        Err(changed_meanwhile(place))
    }
}

impl Entry {
    /// Whose room it takes: whether it is of a policy of the cluster, and a namespace.
    fn owner(&self) -> (bool, Option<&str>) {
        (self.namespace.is_none(), self.namespace.as_deref().or(self.asker.as_deref()))
    }
}

/// Puts an entry in, if there is room. Nothing makes room by itself: a root that is forgotten is one that anybody may
/// replace. Gives how many more find room.
fn insert(data: &mut BTreeMap<String, String>, place: &RootPlace, root: &KnownRoot) -> Result<usize, Fault> {
    let (key, mut entry) = (place.key(), place.entry(root));
    let mut left = MAX_ROOTS;
    if let Some(old) = data.get(&key) {
        // The room that it takes stays that of whoever was the first.
        entry.asker = serde_json::from_str(old).ok().and_then(|old: Entry| old.asker);
    } else {
        let (mut of_kind, mut of_namespace) = (0, 0);
        for other in data.values().filter_map(|text| serde_json::from_str::<Entry>(text).ok()) {
            of_kind += usize::from(other.owner().0 == entry.owner().0);
            of_namespace += usize::from(other.owner() == entry.owner());
        }
        let shares = [(MAX_ROOTS, data.len()), (MAX_OF_KIND, of_kind), (MAX_OF_NAMESPACE, of_namespace)];
        left = shares.into_iter().map(|(most, taken)| most.saturating_sub(taken)).min().unwrap_or(0);
        left = left.checked_sub(1).ok_or_else(|| full(place))?;
    }
    let text = serde_json::to_string(&entry).unwrap_or_default();
    if text.is_empty() || text.len() > MAX_ENTRY {
        return Err(Fault::new(FaultKind::Configuration, "notary: the server's URL is too long to be remembered"));
    }
    data.insert(key, text);
    Ok(left)
}

impl RootMemory for ClusterRoots {
    fn recall<'a>(
        &'a self,
        place: &'a RootPlace,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<KnownRoot>, Fault>> {
        async move { timeout_at(deadline, self.recall_now(place)).await.map_err(|_| late())? }.boxed()
    }

    fn remember<'a>(
        &'a self,
        place: &'a RootPlace,
        before: Option<&'a KnownRoot>,
        root: &'a KnownRoot,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        if let Some(aside) = &self.aside {
            let known = aside.get(place);
            return std::future::ready(aside.put(place, known.as_ref(), root)).boxed();
        }
        async move { timeout_at(deadline, self.remember_now(place, before, root)).await.map_err(|_| late())? }.boxed()
    }

    fn whereabouts(&self, place: &RootPlace) -> String {
        format!("the key {} of the ConfigMap {}/{ROOTS_NAME}", place.key(), self.namespace)
    }
}

fn late() -> Fault {
    Fault::new(FaultKind::Timeout, format!("the ConfigMap {ROOTS_NAME} was not read or written in time"))
}

fn changed_meanwhile(place: &RootPlace) -> Fault {
    let what = format!("the remembered root of trust of {} changed in the same moment", place.gun);
    Fault::new(FaultKind::Overloaded, what)
}

fn full(place: &RootPlace) -> Fault {
    let what = format!(
        "no room to remember the root of trust of {}: {MAX_OF_NAMESPACE} per namespace, {MAX_OF_KIND} for policies of the \
         cluster and {MAX_OF_KIND} for those of namespaces; pin roots in the policy instead, or take out of the ConfigMap \
         {ROOTS_NAME} those that nobody uses any more",
        place.gun
    );
    Fault::new(FaultKind::TooLarge, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(namespace: Option<&str>, gun: &str) -> RootPlace {
        RootPlace {
            namespace: namespace.map(Into::into),
            asker: namespace.unwrap_or("asker").into(),
            server: "https://notary.example/".to_owned(),
            gun: gun.to_owned(),
        }
    }

    fn root(version: u64, hash: &str) -> KnownRoot {
        KnownRoot { version, sha256: hash.repeat(64) }
    }

    #[test]
    fn every_part_of_a_place_makes_another_key() {
        let other = RootPlace { server: "https://notary.example/a".to_owned(), ..place(None, "r.io/a") };
        let keys =
            [place(None, "r.io/a"), place(None, "r.io/b"), place(Some("r.io"), "a"), place(Some(""), "a"), other];
        let keys: std::collections::BTreeSet<_> = keys.iter().map(RootPlace::key).collect();
        assert_eq!(keys.len(), 5);
        assert!(keys.iter().all(|key| key.len() == 64), "{keys:?}");
    }

    #[tokio::test]
    async fn what_is_remembered_is_recalled_and_replaced_only_by_who_knew_it() {
        let (memory, place, soon) = (ProcessRoots::default(), place(None, "r.io/a"), Instant::now());
        assert_eq!(memory.recall(&place, soon).await, Ok(None));
        let (first, second, stranger) = (root(1, "a"), root(2, "b"), root(1, "c"));
        assert_eq!(memory.remember(&place, None, &first, soon).await, Ok(()));
        assert_eq!(memory.recall(&place, soon).await, Ok(Some(first.clone())));
        // Another one that believes to be the first.
        assert!(memory.remember(&place, None, &stranger, soon).await.is_err());
        assert_eq!(memory.remember(&place, None, &first, soon).await, Ok(()));
        assert_eq!(memory.remember(&place, Some(&first), &second, soon).await, Ok(()));
        assert_eq!(memory.recall(&place, soon).await, Ok(Some(second)));
    }

    #[test]
    fn f10_no_namespace_takes_the_room_of_others() {
        let mut data = BTreeMap::new();
        for i in 0..MAX_OF_NAMESPACE {
            insert(&mut data, &place(Some("greedy"), &format!("r.io/{i}")), &root(1, "a")).unwrap();
        }
        assert!(insert(&mut data, &place(Some("greedy"), "r.io/more"), &root(1, "a")).is_err());
        // What is there already can still be renewed.
        assert!(insert(&mut data, &place(Some("greedy"), "r.io/1"), &root(2, "b")).is_ok());
        assert!(insert(&mut data, &place(Some("other"), "r.io/1"), &root(1, "a")).is_ok());
        // All namespaces together leave the cluster its half.
        for i in data.len()..MAX_OF_KIND {
            insert(&mut data, &place(Some(&format!("n{}", i / 50)), &format!("r.io/{i}")), &root(1, "a")).unwrap();
        }
        assert!(insert(&mut data, &place(Some("late"), "r.io/more"), &root(1, "a")).is_err());
        for i in 0..MAX_OF_KIND {
            let place = RootPlace { asker: format!("n{}", i / 100).into(), ..place(None, &format!("r.io/{i}")) };
            insert(&mut data, &place, &root(1, "a")).unwrap();
        }
        assert!(insert(&mut data, &place(None, "r.io/more"), &root(1, "a")).is_err());
        assert!(insert(&mut data, &place(None, "r.io/1"), &root(2, "b")).is_ok());
        assert!(data.values().map(String::len).sum::<usize>() < 900 << 10);
    }

    #[test]
    fn f10_no_namespace_takes_the_room_of_others_under_a_policy_of_the_cluster() {
        let mut data = BTreeMap::new();
        let of = |asker: &str, gun: String| RootPlace { asker: asker.into(), ..place(None, &gun) };
        for left in (0..MAX_OF_NAMESPACE).rev() {
            assert_eq!(insert(&mut data, &of("greedy", format!("r.io/{left}")), &root(1, "a")), Ok(left));
        }
        let fault = insert(&mut data, &of("greedy", "r.io/more".to_owned()), &root(1, "a")).unwrap_err();
        assert!(fault.message().contains("100 per namespace, 500 for policies of the cluster"), "{fault}");
        assert!(insert(&mut data, &of("other", "r.io/more".to_owned()), &root(1, "a")).is_ok());
        // What others renew stays in the room of the first.
        assert!(insert(&mut data, &of("other", "r.io/1".to_owned()), &root(2, "b")).is_ok());
        assert!(insert(&mut data, &of("greedy", "r.io/another".to_owned()), &root(1, "a")).is_err());
    }
}
