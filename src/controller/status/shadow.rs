//! Entries that do not decide where they seem to: because an entry of another policy is more specific, or because
//! namespaces may not add registries here.
//!
//! ```text
//!   registry.local           A    hidden for registry.local/team by B
//!   registry.local/team      B
//!   *.example.com            A    hidden for r.example.com by B
//!   r.example.com/x          B
//! ```
//! Entries of one policy stand side by side before its author's eyes; only those of other policies are looked for. Of
//! cluster policies and of each namespace separately: the former never hide the latter, both have to pass.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::domain::policy::{Entry, Policy, PolicyId};
use crate::domain::scope::{HostPattern, Scope};

/// Entries that are looked through for one entry, at most.
const SCAN: usize = 256;
/// More specific entries that are named for one entry, at most.
const NAMED: usize = 2;
/// Entries of one policy that are told of, at most.
const TOLD: usize = 8;

/// What is hidden of one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shadow {
    /// Where another entry decides, in sentences.
    pub(super) partly: Vec<String>,
    /// Entries, by position, that never decide: the installation does not take their registry from a namespace.
    pub(super) wholly: Vec<usize>,
    /// How many sentences are left out.
    pub(super) more: usize,
    /// No entry names all the rest, so that images of other registries are denied.
    pub(super) rest_denied: bool,
}

impl Shadow {
    fn tell(&mut self, text: String) {
        if self.partly.len() < TOLD {
            self.partly.push(text);
        } else {
            self.more += 1;
        }
    }
}

/// What is hidden of each policy. `restrict`: namespaces may only tighten registries that a cluster policy names.
pub(super) fn shadows(policies: &[Arc<Policy>], restrict: bool) -> HashMap<PolicyId, Shadow> {
    let mut groups: BTreeMap<Option<Arc<str>>, Vec<&Policy>> = BTreeMap::new();
    for policy in policies {
        groups.entry(policy.id.namespace.clone()).or_default().push(policy);
    }
    let no_policies = Vec::new();
    let of_cluster = groups.get(&None).unwrap_or(&no_policies);
    let cluster = Places::new(of_cluster);
    let mut found = HashMap::with_capacity(policies.len());
    for (namespace, group) in &groups {
        let own;
        let places = if namespace.is_none() {
            &cluster
        } else {
            own = Places::new(group);
            &own
        };
        let rest_denied = !cluster.any && !(places.any && !restrict);
        for policy in group {
            let mut shadow = Shadow { rest_denied, ..Shadow::default() };
            for entry in &policy.entries {
                if restrict && namespace.is_some() {
                    restricted(&cluster, entry, &mut shadow);
                }
                let more_specific = places.within(&entry.scope, |other| other.policy != entry.policy, NAMED);
                for other in more_specific {
                    shadow.tell(format!(
                        "spec.registries[{}] ({}): {other} decides for {}",
                        entry.index, entry.scope, other.scope
                    ));
                }
            }
            found.insert(policy.id.clone(), shadow);
        }
    }
    found
}

/// What the installation does not take from a namespace.
fn restricted(cluster: &Places<'_>, entry: &Entry, shadow: &mut Shadow) {
    if cluster.cover(&entry.scope) {
        return;
    }
    if cluster.within(&entry.scope, |_| true, 1).is_empty() {
        shadow.wholly.push(entry.index);
    } else {
        shadow.tell(format!(
            "spec.registries[{}] ({}): cluster policies name only a part of it, and this installation takes registries \
             from cluster policies alone: the rest is denied",
            entry.index, entry.scope
        ));
    }
}

/// Scopes in an order in which those inside another one follow it: hosts from their end, then paths.
#[derive(Debug, Default)]
struct Places<'a> {
    places: BTreeMap<(String, &'a str), Vec<&'a Entry>>,
    scopes: HashSet<&'a Scope>,
    any: bool,
}

impl<'a> Places<'a> {
    fn new(policies: &[&'a Policy]) -> Self {
        let mut all = Self::default();
        for entry in policies.iter().flat_map(|policy| &policy.entries) {
            all.scopes.insert(&entry.scope);
            match host_key(&entry.scope.host) {
                None => all.any = true,
                Some(host) => all.places.entry((host, &entry.scope.path)).or_default().push(entry),
            }
        }
        all
    }

    /// Entries more specific than the scope that share images with it, as far as they are `wanted`; at most `most`.
    fn within(&self, scope: &Scope, wanted: impl Fn(&Entry) -> bool, most: usize) -> Vec<&'a Entry> {
        let key = host_key(&scope.host).unwrap_or_default();
        let exact = matches!(scope.host, HostPattern::Exact(_));
        // Of an exact host only the paths below are inside; of a pattern, all hosts that end alike.
        let first = if exact { (key.clone(), &*scope.path) } else { (key.clone(), "") };
        let from = self.places.range::<(String, &str), _>((Bound::Included(first), Bound::Unbounded));
        let inside = from.take_while(|((host, path), _)| {
            if exact { *host == key && path.starts_with(&*scope.path) } else { host.starts_with(&key) }
        });
        let entries = inside.flat_map(|(_, entries)| entries).take(SCAN);
        entries.filter(|entry| hides(&entry.scope, scope) && wanted(entry)).take(most).copied().collect()
    }

    /// Whether one scope covers all images of this one.
    fn cover(&self, scope: &Scope) -> bool {
        if self.any {
            return true;
        }
        let mut hosts = vec![scope.host.clone()];
        let text: &str = match &scope.host {
            HostPattern::Any => return false,
            HostPattern::Exact(host) | HostPattern::Suffix(host) => host,
        };
        hosts.extend(text.match_indices('.').map(|(dot, _)| HostPattern::Suffix(text[dot + 1..].into())));
        hosts.into_iter().any(|host| {
            let mut path = Some(&*scope.path);
            std::iter::from_fn(|| {
                let now = path?;
                path = now.rsplit_once('/').map(|(above, _)| above).or((!now.is_empty()).then_some(""));
                Some(now)
            })
            .any(|path| self.scopes.contains(&Scope { host: host.clone(), path: path.into() }))
        })
    }
}

/// Whether `inner` is more specific than `outer` and some image belongs to both.
fn hides(inner: &Scope, outer: &Scope) -> bool {
    let (a, b) = (&*inner.path, &*outer.path);
    if inner.host == outer.host {
        return outer.host != HostPattern::Any && a != b && below(a, b);
    }
    match (&inner.host, &outer.host) {
        (HostPattern::Any, _) | (_, HostPattern::Exact(_)) => false,
        (_, HostPattern::Any) => true,
        (HostPattern::Exact(host) | HostPattern::Suffix(host), HostPattern::Suffix(suffix)) => {
            let of_suffix = host.strip_suffix(&**suffix).is_some_and(|labels| labels.ends_with('.'));
            of_suffix && (below(a, b) || below(b, a))
        }
    }
}

/// Whether a path is another one or lies below it, in whole components.
fn below(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host from its end, so that hosts inside a pattern begin with the pattern's key; `None` for `*`.
fn host_key(host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Any => None,
        HostPattern::Exact(host) => Some(host.chars().rev().collect()),
        HostPattern::Suffix(suffix) => Some(suffix.chars().rev().chain(['.']).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::read_policy;

    fn policy(id: PolicyId, registries: &[&str]) -> Arc<Policy> {
        let entries: Vec<_> = registries.iter().map(|r| json!({"registry": r, "signCheck": false})).collect();
        Arc::new(read_policy(id, &json!({"spec": {"registries": entries}})))
    }

    fn of(policies: &[Arc<Policy>], restrict: bool, id: &PolicyId) -> Shadow {
        shadows(policies, restrict).remove(id).unwrap()
    }

    fn hidden(own: &str, other: &str) -> bool {
        let (a, b) = (PolicyId::cluster("a"), PolicyId::cluster("b"));
        !of(&[policy(a.clone(), &[own]), policy(b, &[other])], false, &a).partly.is_empty()
    }

    #[test]
    fn more_specific_entries_of_other_policies_hide_what_they_name() {
        for (own, other) in [
            ("r.io", "r.io/team"),
            ("r.io/team", "r.io/team/app"),
            ("r.io:5000", "r.io:5000/x"),
            ("*.example.com", "a.example.com"),
            ("*.example.com", "*.b.example.com"),
            ("*.example.com/team", "a.example.com"),
            ("*.example.com/team", "a.example.com/team/x"),
            ("*.example.com/team", "*.example.com/team/x"),
            ("*", "r.io"),
            ("*", "*.io"),
        ] {
            assert!(hidden(own, other), "{own} by {other}");
            assert!(!hidden(other, own), "{other} by {own}");
        }
    }

    #[test]
    fn equal_entries_and_others_hide_nothing() {
        for (own, other) in [
            ("r.io", "r.io"),
            ("r.io/team", "r.io/team-b"),
            ("r.io/team", "r.io/tea"),
            ("r.io", "xr.io/team"),
            ("r.io", "r.io:5000/team"),
            ("*.example.com", "example.com"),
            ("*.example.com", "badexample.com"),
            ("*.example.com/team", "a.example.com/other"),
            ("*", "*"),
        ] {
            assert!(!hidden(own, other) && !hidden(other, own), "{own} and {other}");
        }
    }

    #[test]
    fn only_other_policies_of_the_same_reach_are_told_of() {
        let (cluster, own, sister) =
            (PolicyId::cluster("c"), PolicyId::namespaced("n", "p"), PolicyId::namespaced("n", "q"));
        let elsewhere = PolicyId::namespaced("m", "p");
        let all = [
            policy(cluster.clone(), &["r.io", "r.io/team"]),
            policy(own.clone(), &["r.io"]),
            policy(elsewhere.clone(), &["r.io/team"]),
        ];
        for id in [&cluster, &own, &elsewhere] {
            assert_eq!(of(&all, false, id).partly, Vec::<String>::new(), "{id}");
        }
        let all = [all.as_slice(), &[policy(sister, &["x.io", "r.io/team/*"])]].concat();
        let told = "spec.registries[0] (r.io): RegistrySecurityPolicy/n/q spec.registries[1] decides for r.io/team";
        assert_eq!(of(&all, false, &own).partly, [told]);
        assert_eq!(of(&all, false, &cluster).partly, Vec::<String>::new());
    }

    #[test]
    fn i9_a_registry_that_only_a_namespace_names_is_told_of_where_that_has_no_effect() {
        let (cluster, own) = (PolicyId::cluster("c"), PolicyId::namespaced("n", "p"));
        let named = ["r.io/team", "*.example.com/a", "host.io"];
        let wholly = |registry: &str, restrict| {
            let all = [policy(cluster.clone(), &named), policy(own.clone(), &["host.io", registry])];
            let shadow = of(&all, restrict, &own);
            (shadow.wholly, !shadow.partly.is_empty())
        };
        for registry in ["other.io", "r.io/other", "r.io/team-b", "*.other.com", "x.example.com/b", "example.com/a"] {
            assert_eq!(wholly(registry, true), (vec![1], false), "{registry}");
            assert_eq!(wholly(registry, false), (vec![], false), "{registry}");
        }
        for registry in ["r.io/team", "r.io/team/x", "x.example.com/a/b", "*.y.example.com/a", "host.io/any"] {
            assert_eq!(wholly(registry, true), (vec![], false), "{registry}");
        }
        for registry in ["r.io", "*.example.com", "*.io", "*"] {
            assert_eq!(wholly(registry, true), (vec![], true), "{registry}");
        }
    }

    #[test]
    fn what_no_entry_names_is_known_to_be_denied_or_not() {
        let (cluster, own) = (PolicyId::cluster("c"), PolicyId::namespaced("n", "p"));
        let denied = |of_cluster: &[&str], of_namespace: &[&str], restrict, id: &PolicyId| {
            of(&[policy(cluster.clone(), of_cluster), policy(own.clone(), of_namespace)], restrict, id).rest_denied
        };
        assert!(denied(&["r.io"], &["r.io"], false, &cluster) && denied(&["r.io"], &["r.io"], false, &own));
        assert!(!denied(&["*"], &["r.io"], false, &cluster) && !denied(&["*"], &["r.io"], false, &own));
        assert!(!denied(&["r.io"], &["*"], false, &own) && denied(&["r.io"], &["*"], true, &own));
        assert!(denied(&["r.io"], &["*"], false, &cluster));
    }

    #[test]
    fn ten_thousand_policies_are_looked_through_in_a_moment() {
        let policies: Vec<_> = (0..10_000)
            .map(|i| policy(PolicyId::cluster(&format!("p{i}")), &["*.io", "*", &format!("r{i}.io/team")]))
            .collect();
        let started = std::time::Instant::now();
        let found = shadows(&policies, true);
        assert_eq!(found.len(), 10_000);
        assert!(found.values().all(|shadow| shadow.partly.len() <= TOLD && !shadow.partly.is_empty()));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
