//! One generation of policies and whitelist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::domain::policy::{Policy, PolicyId, PolicySet};
use crate::domain::whitelist::Whitelist;

/// What one review decides by. Immutable: a review takes one and is not touched by later changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The policies, or why they are not known.
    pub policies: Option<PolicySet>,
    /// The whitelist; empty when the `ConfigMap` does not exist.
    pub whitelist: Arc<Whitelist>,
    /// Counts up with every change.
    pub generation: u64,
    /// What is not known yet, or not any more; empty when everything is.
    pub missing: Vec<&'static str>,
}

impl Snapshot {
    /// Whether the whitelist was read, so that what is not on it is known not to be.
    pub fn whitelist_known(&self) -> bool {
        !self.missing.contains(&Source::Whitelist.label())
    }
}

/// The sources of a snapshot; each must have been read completely before the snapshot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `clusterregistrysecuritypolicies.tmax.io`.
    ClusterPolicies,
    /// `registrysecuritypolicies.tmax.io`.
    NamespacedPolicies,
    /// The whitelist `ConfigMap`.
    Whitelist,
    /// Secrets in podseal's namespace.
    Keys,
}

impl Source {
    const ALL: [Self; 4] = [Self::ClusterPolicies, Self::NamespacedPolicies, Self::Whitelist, Self::Keys];

    /// As messages, logs and metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClusterPolicies => "clusterregistrysecuritypolicies",
            Self::NamespacedPolicies => "registrysecuritypolicies",
            Self::Whitelist => "whitelist",
            Self::Keys => "secrets",
        }
    }
}

impl Source {
    /// As roles call it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::ClusterPolicies => "clusterregistrysecuritypolicies.tmax.io",
            Self::NamespacedPolicies => "registrysecuritypolicies.tmax.io",
            Self::Whitelist => "configmaps",
            Self::Keys => "secrets",
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    policies: BTreeMap<PolicyId, Policy>,
    whitelist: Arc<Whitelist>,
    synced: Vec<Source>,
    generation: u64,
}

/// Collects what the watches say and swaps in a new snapshot after every change.
#[derive(Debug, Default)]
pub struct Inputs {
    known: Mutex<Known>,
    current: ArcSwap<Snapshot>,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Inputs {
    /// Nothing known yet.
    pub fn new() -> Self {
        let inputs = Self::default();
        inputs.publish(&mut inputs.lock());
        inputs
    }

    /// Everything known at once, for `podseal check`.
    pub fn complete(policies: impl IntoIterator<Item = Policy>, whitelist: Whitelist) -> Self {
        let inputs = Self::default();
        {
            let mut known = inputs.lock();
            known.policies = policies.into_iter().map(|p| (p.id.clone(), p)).collect();
            known.whitelist = Arc::new(whitelist);
            known.synced = Source::ALL.to_vec();
            inputs.publish(&mut known);
        }
        inputs
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Says when there is a new snapshot, or when a Secret of podseal's namespace changed, by the snapshot's generation.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Replaces all policies of one kind: the complete answer to a list.
    pub fn replace_policies(&self, source: Source, policies: Vec<Policy>) {
        let cluster = source == Source::ClusterPolicies;
        let mut known = self.lock();
        known.policies.retain(|id, _| id.namespace.is_none() != cluster);
        known.policies.extend(policies.into_iter().map(|p| (p.id.clone(), p)));
        known.set_synced(source, true);
        self.publish(&mut known);
    }

    /// Takes changes of single policies: the new state, or `None` for a deleted one.
    pub fn change_policies(&self, changes: Vec<(PolicyId, Option<Policy>)>) {
        let mut known = self.lock();
        for (id, policy) in changes {
            match policy {
                Some(policy) => known.policies.insert(id, policy),
                None => known.policies.remove(&id),
            };
        }
        self.publish(&mut known);
    }

    /// Replaces the whitelist; an empty one when the `ConfigMap` is gone.
    pub fn set_whitelist(&self, whitelist: Whitelist) {
        let mut known = self.lock();
        known.whitelist = Arc::new(whitelist);
        known.set_synced(Source::Whitelist, true);
        self.publish(&mut known);
    }

    /// Says whether a source is known completely; a list that cannot be read any more is not.
    pub fn set_synced(&self, source: Source, synced: bool) {
        let mut known = self.lock();
        known.set_synced(source, synced);
        self.publish(&mut known);
    }

    /// Numbers for metrics: policies, policies with problems, whitelist problems that skip a line.
    pub fn inventory(&self) -> (usize, usize, usize) {
        let known = self.lock();
        let broken = known.policies.values().filter(|p| p.problems.iter().any(|x| x.error)).count();
        let bad_lines = known.whitelist.problems.iter().filter(|p| p.skipped).count();
        (known.policies.len(), broken, bad_lines)
    }

    fn publish(&self, known: &mut Known) {
        known.generation += 1;
        let missing: Vec<_> = Source::ALL.iter().filter(|s| !known.synced.contains(s)).map(|s| s.label()).collect();
        let policies_known =
            known.synced.contains(&Source::ClusterPolicies) && known.synced.contains(&Source::NamespacedPolicies);
        self.current.store(Arc::new(Snapshot {
            policies: policies_known.then(|| PolicySet::new(known.policies.values())),
            whitelist: known.whitelist.clone(),
            generation: known.generation,
            missing,
        }));
        self.changes.send_replace(known.generation);
    }

    /// A panic elsewhere cannot leave half a change behind that matters: every change ends in a whole new snapshot.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn set_synced(&mut self, source: Source, synced: bool) {
        self.synced.retain(|s| *s != source);
        if synced {
            self.synced.push(source);
        }
    }
}
