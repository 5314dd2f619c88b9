//! The objects around podseal: CRDs, roles, webhooks, cluster policies, whitelist.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::turn::{With, Without};
use super::{Cluster, OWN_NAMESPACE};
use crate::support::podseal::Podseal;
use crate::support::process::eventually;
use crate::support::review::Review;

/// What podseal may do: read policies and what they name, keep key Secrets in its own namespace, report.
const ROLES: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: podseal}
rules:
- {apiGroups: [tmax.io], resources: [clusterregistrysecuritypolicies, registrysecuritypolicies], verbs: [get, list, watch]}
- {apiGroups: [tmax.io], resources: [clusterregistrysecuritypolicies/status, registrysecuritypolicies/status], verbs: [get, patch, update]}
- {apiGroups: [''], resources: [secrets, configmaps, serviceaccounts], verbs: [get]}
- {apiGroups: ['', events.k8s.io], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: podseal, namespace: registry-system}
rules:
- {apiGroups: [''], resources: [secrets, configmaps], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, watch, create, update, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: podseal}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: podseal}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: podseal, namespace: registry-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: podseal}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal}]
";

/// What the webhooks of a podseal are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookScope {
    /// The namespaces of its tests, and cluster policies besides. For one podseal of a cluster only.
    WithClusterPolicies,
    /// The namespaces of its tests.
    Namespaces,
}

/// The lines that tests have put into the whitelist.
#[derive(Debug, Default)]
pub(super) struct Whitelist {
    images: Vec<String>,
    namespaces: Vec<String>,
}

/// A cluster policy of one test; it is deleted when dropped.
#[derive(Debug)]
pub struct ClusterPolicy<'a> {
    cluster: &'a Cluster,
    name: String,
    // Given back after the policy is deleted.
    _turn: With<'a>,
}

/// While this is held, there is no cluster policy in the cluster.
#[derive(Debug)]
pub struct NoClusterPolicies<'a>(#[allow(dead_code, reason = "held, not read")] Without<'a>);

impl Cluster {
    pub(super) fn install(&self) {
        self.kubectl(&["create", "namespace", OWN_NAMESPACE]).succeeded();
        self.apply(ROLES).succeeded();
        self.install_crds();
    }

    /// Applies the CRDs of `crds/` and waits until they are served; `false` when there are none.
    pub fn install_crds(&self) -> bool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        if !folder.is_dir() {
            return false;
        }
        self.kubectl(&["apply", "--server-side", "-f", folder.to_str().unwrap()]).succeeded();
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).succeeded();
        for resource in ["crsp", "rsp"] {
            self.wait_for(&["get", resource, "-A"], |_| true);
        }
        true
    }

    /// Has the API server ask this podseal, and waits until it does.
    pub fn register(&self, podseal: &Podseal, scope: WebhookScope) {
        self.apply(&Self::webhooks(podseal, scope)).succeeded();
        let namespace = self.namespace(podseal, "registered");
        namespace.policy("deny-all", "[]");
        eventually("the API server asks the webhook", || {
            let pod = ["run", "probe", "--image=probe.invalid/x:1", "--dry-run=server"];
            namespace.kubectl(&pod).stderr.contains("denied the request")
        });
    }

    fn webhooks(podseal: &Podseal, scope: WebhookScope) -> String {
        let webhook = |name: &str, path: &str, failure: &str, rules: &str| {
            // Events about denials, but not in dry runs.
            let effects = if path == "/validate" { "NoneOnDryRun" } else { "None" };
            format!(
                "- name: {name}.podseal.tmax.io\n  admissionReviewVersions: [v1]\n  sideEffects: {effects}\n  \
                 failurePolicy: {failure}\n  timeoutSeconds: 10\n  matchPolicy: Equivalent\n  \
                 namespaceSelector: {{matchLabels: {{podseal-under-test: {label}}}}}\n  \
                 clientConfig: {{url: '{url}', caBundle: {bundle}}}\n  rules:\n{rules}",
                label = podseal.name(),
                url = podseal.url(path),
                bundle = podseal.authority().bundle(),
            )
        };
        let rule = |group: &str, version: &str, resources: &str, scope: &str| {
            format!(
                "  - {{apiGroups: ['{group}'], apiVersions: [{version}], operations: [CREATE, UPDATE], \
                 resources: [{resources}], scope: '{scope}'}}\n"
            )
        };
        let templates = [
            rule("", "v1", "replicationcontrollers", "Namespaced"),
            rule("apps", "v1", "deployments, replicasets, statefulsets, daemonsets", "Namespaced"),
            rule("batch", "v1", "jobs, cronjobs", "Namespaced"),
        ];
        let mut policies = rule("tmax.io", "v1", "registrysecuritypolicies", "Namespaced");
        if scope == WebhookScope::WithClusterPolicies {
            policies += &rule("tmax.io", "v1", "clusterregistrysecuritypolicies", "Cluster");
        }
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
             metadata: {{name: podseal-{}}}\nwebhooks:\n{}{}{}",
            podseal.name(),
            webhook("pods", "/validate", "Fail", &rule("", "v1", "pods, pods/ephemeralcontainers", "Namespaced")),
            webhook("templates", "/validate", "Ignore", &templates.concat()),
            webhook("policies", "/validate-policy", "Fail", &policies),
        )
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str, data: &[(&str, &[u8])]) {
        let mut yaml =
            format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, data: {{");
        for (key, value) in data {
            write!(yaml, "'{key}': {}, ", STANDARD.encode(value)).unwrap();
        }
        self.apply(&(yaml + "}}")).succeeded();
    }

    /// A `ClusterRegistrySecurityPolicy` with these entries (a YAML list), as soon as the podseal of the namespace goes by it.
    /// Its registries must be the test's own.
    #[track_caller]
    pub fn cluster_policy(&self, seen_by: &super::Namespace<'_>, name: &str, entries: &str) -> ClusterPolicy<'_> {
        let policy = ClusterPolicy { cluster: self, name: name.to_owned(), _turn: self.turn.with() };
        let (entries, canary) = with_canary(entries);
        self.apply(&self::policy("ClusterRegistrySecurityPolicy", name, &entries)).succeeded();
        seen_by.in_force(&format!("ClusterRegistrySecurityPolicy/{name}"), &canary);
        policy
    }

    /// Waits until the tests with cluster policies are through and keeps others from starting. A test that holds a
    /// [`ClusterPolicy`] must not ask for it.
    #[track_caller]
    pub fn without_cluster_policies(&self, podseal: &Podseal) -> NoClusterPolicies<'_> {
        let turn = self.turn.without();
        let review = Review::pod("no-such-namespace").container("a", "probe.invalid/x:1");
        eventually("no cluster policy is in force", || podseal.review(&review).allowed);
        NoClusterPolicies(turn)
    }

    /// Adds lines to the whitelist; other tests' lines stay.
    pub fn whitelist(&self, images: &[&str], namespaces: &[&str]) {
        let mut whitelist = self.whitelist.lock().unwrap_or_else(PoisonError::into_inner);
        whitelist.images.extend(images.iter().map(|&line| line.to_owned()));
        whitelist.namespaces.extend(namespaces.iter().map(|&line| line.to_owned()));
        let lines = |lines: &[String]| lines.iter().fold(String::new(), |text, line| text + "\n    " + line);
        let yaml = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: image-validation-webhook-whitelist, namespace: {OWN_NAMESPACE}}}\n\
             data:\n  whitelist-images: |{}\n  whitelist-namespaces: |{}\n",
            lines(&whitelist.images),
            lines(&whitelist.namespaces),
        );
        self.apply(&yaml).succeeded();
    }
}

impl Drop for ClusterPolicy<'_> {
    fn drop(&mut self) {
        // Also while a test fails: what is left over would only disturb tests that come later.
        let _ = self.cluster.kubectl(&["delete", "crsp", &self.name, "--ignore-not-found"]);
    }
}

/// A policy object.
pub(super) fn policy(kind: &str, name: &str, entries: &str) -> String {
    let entries = entries.lines().fold(String::new(), |text, line| text + "  " + line + "\n");
    format!("apiVersion: tmax.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  registries:\n{entries}")
}

/// The entries and one more, which denies one image for a reason of its own and so tells when the policy is in force.
pub(super) fn with_canary(entries: &str) -> (String, String) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let host = format!("canary-{}.invalid", COUNT.fetch_add(1, Ordering::Relaxed));
    let entries = entries.trim_matches('\n');
    let entries = if entries.trim() == "[]" { "" } else { entries };
    (format!("{entries}\n- {{registry: {host}, signCheck: true}}"), format!("{host}/canary"))
}
