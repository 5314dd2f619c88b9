//! Which policies name which objects, so that a change of one re-reads just these.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::compose::Target;
use crate::domain::policy::PolicyId;

/// Objects that the policies of one namespace have followed, at most. Whoever may write such policies decides what podseal
/// asks the API server for again and again.
const MAX_OF_NAMESPACE: usize = 256;

/// The index.
#[derive(Debug, Default)]
pub(super) struct References {
    by_target: HashMap<Target, BTreeSet<PolicyId>>,
    by_policy: HashMap<PolicyId, HashSet<Target>>,
    /// How many policies of a namespace name an object.
    of_namespace: HashMap<Arc<str>, HashMap<Target, usize>>,
}

/// What a change means for the objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Named by somebody from now on.
    pub(super) added: Vec<Target>,
    /// Named by nobody any more.
    pub(super) removed: Vec<Target>,
}

impl References {
    /// Replaces what a policy names. What is beyond the limit of its namespace is not followed.
    pub(super) fn set(&mut self, id: &PolicyId, targets: Vec<Target>) -> Changed {
        let wanted: HashSet<Target> = targets.into_iter().collect();
        let before = self.by_policy.remove(id).unwrap_or_default();
        let mut changed = Changed::default();
        for gone in before.difference(&wanted) {
            self.remove(id, gone, &mut changed);
        }
        let mut now: HashSet<Target> = before.intersection(&wanted).cloned().collect();
        let mut new: Vec<&Target> = wanted.difference(&before).collect();
        new.sort();
        for target in new {
            if self.add(id, target, &mut changed) {
                now.insert(target.clone());
            }
        }
        if !now.is_empty() {
            self.by_policy.insert(id.clone(), now);
        }
        changed
    }

    /// Whether an object is followed for a policy.
    pub(super) fn follows(&self, id: &PolicyId, target: &Target) -> bool {
        self.by_policy.get(id).is_some_and(|targets| targets.contains(target))
    }

    /// The policies that name an object.
    pub(super) fn naming(&self, target: &Target) -> impl Iterator<Item = &PolicyId> {
        self.by_target.get(target).into_iter().flatten()
    }

    /// How many objects are followed.
    pub(super) fn len(&self) -> usize {
        self.by_target.len()
    }

    fn add(&mut self, id: &PolicyId, target: &Target, changed: &mut Changed) -> bool {
        if let Some(namespace) = &id.namespace {
            let own = self.of_namespace.entry(namespace.clone()).or_default();
            if own.len() >= MAX_OF_NAMESPACE && !own.contains_key(target) {
                return false;
            }
            *own.entry(target.clone()).or_default() += 1;
        }
        let policies = self.by_target.entry(target.clone()).or_default();
        if policies.is_empty() {
            changed.added.push(target.clone());
        }
        policies.insert(id.clone());
        true
    }

    fn remove(&mut self, id: &PolicyId, target: &Target, changed: &mut Changed) {
        if let Some(namespace) = &id.namespace
            && let Some(own) = self.of_namespace.get_mut(namespace)
        {
            if let Some(count) = own.get_mut(target) {
                *count -= 1;
                if *count == 0 {
                    own.remove(target);
                }
            }
            if own.is_empty() {
                self.of_namespace.remove(namespace);
            }
        }
        if let Some(policies) = self.by_target.get_mut(target) {
            policies.remove(id);
            if policies.is_empty() {
                self.by_target.remove(target);
                changed.removed.push(target.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::status::material::Purpose;
    use crate::domain::policy::ObjectRef;

    fn target(name: &str) -> Target {
        Target { purpose: Purpose::Gpg, reference: ObjectRef { namespace: "n".into(), name: name.into() } }
    }

    fn naming(references: &References, name: &str) -> Vec<String> {
        references.naming(&target(name)).map(|id| id.name.to_string()).collect()
    }

    #[test]
    fn a_change_concerns_the_policies_that_name_it_and_no_others() {
        let mut references = References::default();
        let [a, b] = [PolicyId::cluster("a"), PolicyId::namespaced("n", "b")];
        assert_eq!(references.set(&a, vec![target("1"), target("2")]).added, [target("1"), target("2")]);
        assert_eq!(references.set(&b, vec![target("2"), target("3")]).added, [target("3")]);
        assert_eq!(
            (naming(&references, "1"), naming(&references, "2")),
            (vec!["a".into()], vec!["a".into(), "b".into()])
        );
        assert_eq!(naming(&references, "4"), Vec::<String>::new());
        let changed = references.set(&a, vec![target("2")]);
        assert_eq!(changed, Changed { added: vec![], removed: vec![target("1")] });
        assert_eq!(references.set(&a, vec![]).removed, []);
        assert_eq!(naming(&references, "2"), ["b"]);
        references.set(&b, vec![]);
        assert_eq!((references.len(), references.of_namespace.len(), references.by_policy.len()), (0, 0, 0));
    }

    #[test]
    fn h19_a_namespace_has_so_many_objects_followed_and_others_are_not_affected() {
        let mut references = References::default();
        let many: Vec<_> = (0..1000).map(|i| target(&i.to_string())).collect();
        let [a, b, c] = [PolicyId::namespaced("n", "a"), PolicyId::namespaced("n", "b"), PolicyId::cluster("c")];
        assert_eq!(references.set(&a, many.clone()).added.len(), MAX_OF_NAMESPACE);
        assert_eq!(references.set(&b, vec![target("x")]).added, []);
        assert!(!references.follows(&b, &target("x")));
        assert_eq!(references.set(&c, vec![target("x")]).added, [target("x")]);
        assert_eq!(references.set(&PolicyId::namespaced("m", "a"), vec![target("y")]).added, [target("y")]);
        // There is room again.
        references.set(&a, vec![]);
        references.set(&b, vec![target("x")]);
        assert!(references.follows(&b, &target("x")));
    }
}
