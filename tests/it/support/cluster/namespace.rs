//! A namespace of one test, seen by one podseal.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Cluster, User};
use crate::support::podseal::Podseal;
use crate::support::process::eventually;
use crate::support::review::Review;
use crate::support::text;
use crate::support::tools::Ran;

/// A fresh namespace whose Pods are judged by one podseal.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// Its name, `HINT-N`.
    pub name: String,
    cluster: &'a Cluster,
    podseal: &'a Podseal,
}

impl Cluster {
    /// A namespace that no podseal watches over.
    pub fn bare_namespace(&self, hint: &str) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{hint}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]).succeeded();
        name
    }

    /// A namespace for one test. `podseal` must have its webhooks registered.
    pub fn namespace<'a>(&'a self, podseal: &'a Podseal, hint: &str) -> Namespace<'a> {
        let name = self.bare_namespace(hint);
        self.kubectl(&["label", "namespace", &name, &format!("podseal-under-test={}", podseal.name())]).succeeded();
        Namespace { name, cluster: self, podseal }
    }
}

impl Namespace<'_> {
    /// `kubectl -n NAMESPACE ARGS` as the administrator.
    #[must_use]
    pub fn kubectl(&self, args: &[&str]) -> Ran {
        self.kubectl_as(User::Admin, args, "")
    }

    /// The same as any user, with an input.
    #[must_use]
    pub fn kubectl_as(&self, user: User, args: &[&str], input: &str) -> Ran {
        self.cluster.kubectl_as(user, &[&["-n", &self.name], args].concat(), input)
    }

    /// `kubectl apply -f -` in this namespace.
    #[must_use]
    pub fn apply(&self, yaml: &str) -> Ran {
        self.kubectl_as(User::Admin, &["apply", "-f", "-"], yaml)
    }

    /// `kubectl run NAME --image=IMAGE`.
    #[must_use]
    pub fn run(&self, pod: &str, image: &str) -> Ran {
        self.kubectl(&["run", pod, "--restart=Never", &format!("--image={image}")])
    }

    /// A policy of this namespace with these entries (a YAML list), as soon as podseal goes by it. Applying it again
    /// under the same name replaces it.
    #[track_caller]
    pub fn policy(&self, name: &str, entries: &str) {
        let (entries, canary) = super::objects::with_canary(entries);
        self.apply(&super::objects::policy("RegistrySecurityPolicy", name, &entries)).succeeded();
        self.in_force(&format!("RegistrySecurityPolicy/{}/{name}", self.name), &canary);
    }

    /// Waits until podseal denies the image for the reason that this policy cannot check it.
    #[track_caller]
    pub(super) fn in_force(&self, policy: &str, canary: &str) {
        let review = Review::pod(&self.name).container("canary", canary);
        eventually(&format!("{policy} is in force"), || {
            self.podseal.review(&review).message.contains(&format!("'{canary}' cannot be checked by its policy"))
        });
    }

    /// A generic Secret with text values.
    pub fn secret(&self, name: &str, data: &[(&str, &[u8])]) {
        self.cluster.secret(&self.name, name, data);
    }

    /// What kubectl said on standard error, with this namespace's name, digests and ports replaced.
    pub fn said(&self, ran: &Ran) -> String {
        text::normal(&ran.stderr, &[(&self.name, "NAMESPACE")])
    }

    /// Whether a Pod of that name exists.
    pub fn has_pod(&self, name: &str) -> bool {
        !self.kubectl(&["get", "pod", name, "--ignore-not-found", "-o", "name"]).succeeded().line().is_empty()
    }
}
