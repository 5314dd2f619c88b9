//! Policies as the decision sees them: entries that were read once, completely, or are known to be broken.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::expression::Expression;
use super::identity::SignedIdentity;
use super::image::Repository;
use super::keyless::KeylessIdentity;
use super::scope::{Scope, ScopeIndex};

/// Which policy object: cluster policies have no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// `None` for a `ClusterRegistrySecurityPolicy`.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl PolicyId {
    /// A cluster policy.
    pub fn cluster(name: &str) -> Self {
        Self { namespace: None, name: name.into() }
    }

    /// A namespaced policy.
    pub fn namespaced(namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => write!(f, "ClusterRegistrySecurityPolicy/{}", self.name),
            Some(namespace) => write!(f, "RegistrySecurityPolicy/{namespace}/{}", self.name),
        }
    }
}

/// A Secret or `ConfigMap` by namespace and name, written `k8s://namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k8s://{}/{}", self.namespace, self.name)
    }
}

/// What a failing entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Denies.
    #[default]
    Enforce,
    /// Counts as passed and leaves an admission warning and an audit annotation.
    Warn,
    /// Counts as passed and leaves an audit annotation.
    Audit,
}

/// cosign signatures: by public keys, by keyless identities, or by either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignCheck {
    /// The Secret whose key `cosign.pub` holds one or more PEM public keys. At least one of keys and identities is there.
    pub key_ref: Option<ObjectRef>,
    /// Annotations that the signature must carry, each with this value.
    pub annotations: BTreeMap<String, String>,
    /// Identities of which any counts.
    pub identities: Vec<KeylessIdentity>,
    /// So many different keys or identities must have signed; at least 1.
    pub threshold: usize,
    /// Secret or `ConfigMap` whose key `trusted_root.json` is the trust root; `None` means the installation's.
    pub trust_root: Option<ObjectRef>,
    /// Whether signatures by keys need proof of their entry in a transparency log; without, such proof is not looked at.
    pub log_for_keys: bool,
    /// Whether keyless signatures need it; without, a signed timestamp suffices.
    pub log_for_identities: bool,
    /// Whether certificates need a timestamp of a certificate transparency log.
    pub sct: bool,
    /// Where signatures are kept, when not beside the image.
    pub repository: Option<Repository>,
    /// Under which names signatures count; `None` compares none, as cosign.
    pub identity: Option<SignedIdentity>,
    /// Attestations that must be there, each signed as the signature must be.
    pub attestations: Vec<AttestationCheck>,
}

/// An attestation that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationCheck {
    /// The in-toto predicate type, compared as text.
    pub predicate_type: String,
    /// What must be true of it.
    pub expression: Option<Expression>,
}

impl Default for CosignCheck {
    /// What an entry without `cosign` asks for, without its key.
    fn default() -> Self {
        Self {
            key_ref: None,
            annotations: BTreeMap::new(),
            identities: Vec::new(),
            threshold: 1,
            trust_root: None,
            log_for_keys: false,
            log_for_identities: true,
            sct: true,
            repository: None,
            identity: None,
            attestations: Vec::new(),
        }
    }
}

impl CosignCheck {
    /// Whether anything in it is verified with a trust root.
    pub fn needs_trust_root(&self) -> bool {
        !self.identities.is_empty() || (self.key_ref.is_some() && self.log_for_keys)
    }
}

/// GPG simple signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpgCheck {
    /// The Secret of which every value is a keyring.
    pub key_ref: ObjectRef,
    /// Base URL of the signature store (`http` or `https`); `None` leaves it to registries.d.
    pub lookaside: Option<String>,
    /// Which signed references count for the image.
    pub identity: SignedIdentity,
}

/// Docker Content Trust (Notary v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotaryCheck {
    /// URL of the server, as written.
    pub server: String,
    /// Where trust begins; `None`: the method cannot be evaluated.
    pub trust: Option<NotaryTrust>,
}

/// Which roots of trust count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotaryTrust {
    /// Ids of root keys, 64 lower-case hexadecimal digits each: of the certificate, or of the plain key in it.
    RootKeys(Vec<String>),
    /// Secret or `ConfigMap` with `ca.crt`, which root certificates must come from.
    Authority(ObjectRef),
    /// The root that is seen first, which is remembered.
    FirstUse,
}

impl NotaryCheck {
    /// Whether trust begins with what is seen first.
    pub fn trusts_first_use(&self) -> bool {
        self.trust == Some(NotaryTrust::FirstUse)
    }
}

/// How the registry of an entry is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportSpec {
    /// Plain HTTP or unverified TLS for the registry host.
    pub insecure: bool,
    /// Secret or `ConfigMap` with `ca.crt`.
    pub ca_ref: Option<ObjectRef>,
}

/// `signCheck: true` with everything it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheck {
    /// Docker Content Trust, if asked for.
    pub notary: Option<NotaryCheck>,
    /// cosign, if asked for.
    pub cosign: Option<Box<CosignCheck>>,
    /// GPG simple signing, if asked for.
    pub gpg: Option<GpgCheck>,
    /// Accepted signers; empty means any trusted key.
    pub signers: Vec<String>,
    /// How the registry is reached.
    pub transport: TransportSpec,
}

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// `signCheck: false`.
    Unchecked,
    /// `signCheck: true`.
    Signed(Box<SignedCheck>),
    /// The entry's registry can be read and the rest cannot: it governs and denies. The text says what is wrong.
    Broken(String),
}

/// One element of `spec.registries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The policy it stands in.
    pub policy: PolicyId,
    /// Its position in `spec.registries`, from 0.
    pub index: usize,
    /// What it speaks for.
    pub scope: Scope,
    /// What it asks for.
    pub check: Check,
    /// An image without a digest fails this entry.
    pub require_digest: bool,
    /// What a failure does. Always `Enforce` for a broken entry.
    pub action: Action,
    /// SHA-256 over policy id and content, which caches use: equal content of equal policies, equal fingerprint.
    pub fingerprint: [u8; 32],
}

impl Entry {
    /// Whether a cluster policy holds it.
    pub fn is_cluster(&self) -> bool {
        self.policy.namespace.is_none()
    }

    /// Whether the administrator's credentials may go to the servers of this entry, which `check` is what it asks for: not
    /// where a namespace owner chose how the server is authenticated.
    pub fn takes_administrators_credentials(&self, check: &SignedCheck) -> bool {
        self.is_cluster() || !(check.transport.insecure || check.transport.ca_ref.is_some())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} spec.registries[{}]", self.policy, self.index)
    }
}

/// A policy object after reading. Entries whose registry cannot be read are not among `entries` but in `problems`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which one.
    pub id: PolicyId,
    /// The entries that can govern.
    pub entries: Vec<Arc<Entry>>,
    /// What is wrong or suspicious, for status, logs and the policy webhook.
    pub problems: Vec<Problem>,
}

/// Something wrong (`error`) or suspicious (warning) at a field of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field path, such as `spec.registries[0].gpgKeyRef`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the policy webhook refuses the object for it.
    pub error: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All policies of one generation, indexed by what they speak for.
#[derive(Debug, Default)]
pub struct PolicySet {
    cluster_policies: usize,
    cluster: ScopeIndex<Arc<Entry>>,
    namespaces: HashMap<Arc<str>, NamespacePolicies>,
}

#[derive(Debug, Default)]
struct NamespacePolicies {
    policies: usize,
    index: ScopeIndex<Arc<Entry>>,
}

impl PolicySet {
    /// Indexes policies. Their order makes no difference.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut set = Self::default();
        for policy in policies {
            let index = match &policy.id.namespace {
                None => {
                    set.cluster_policies += 1;
                    &mut set.cluster
                }
                Some(namespace) => {
                    let own = set.namespaces.entry(namespace.clone()).or_default();
                    own.policies += 1;
                    &mut own.index
                }
            };
            for entry in &policy.entries {
                index.insert(&entry.scope, entry.clone());
            }
        }
        set
    }

    /// Whether any policy, even an empty one, speaks for the namespace.
    pub fn any_for(&self, namespace: &str) -> bool {
        self.cluster_policies > 0 || self.namespaces.get(namespace).is_some_and(|own| own.policies > 0)
    }

    /// How many entries would govern: of the cluster's policies, and of the namespace's. Costs the same for any number.
    pub fn ties(&self, namespace: &str, repository: &Repository) -> (usize, usize) {
        let own = self.namespaces.get(namespace).map_or(0, |own| own.index.most_specific(repository).len());
        (self.cluster.most_specific(repository).len(), own)
    }

    /// The most specific matching entries of the cluster's policies, ordered by policy and position.
    pub fn governing_cluster(&self, repository: &Repository) -> Vec<Arc<Entry>> {
        ordered(self.cluster.most_specific(repository))
    }

    /// The most specific matching entries of the namespace's policies, ordered by policy and position.
    pub fn governing_namespaced(&self, namespace: &str, repository: &Repository) -> Vec<Arc<Entry>> {
        self.namespaces.get(namespace).map(|own| ordered(own.index.most_specific(repository))).unwrap_or_default()
    }
}

fn ordered(entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| (&a.policy, a.index).cmp(&(&b.policy, b.index)));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: PolicyId, registries: &[&str]) -> Policy {
        let entry = |(index, registry): (usize, &&str)| {
            Arc::new(Entry {
                policy: id.clone(),
                index,
                scope: Scope::parse(registry).expect("registry").0,
                check: Check::Unchecked,
                require_digest: false,
                action: Action::Enforce,
                fingerprint: [0; 32],
            })
        };
        Policy { entries: registries.iter().enumerate().map(entry).collect(), id, problems: Vec::new() }
    }

    fn names(entries: &[Arc<Entry>]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn i14_governing_entries_have_one_order_whatever_the_order_of_policies() {
        let mut policies = [
            policy(PolicyId::cluster("b"), &["r.io", "other.io", "r.io"]),
            policy(PolicyId::cluster("a"), &["r.io/*"]),
            policy(PolicyId::namespaced("n", "b"), &["r.io"]),
            policy(PolicyId::namespaced("n", "a"), &["*.io", "r.io"]),
        ];
        let repository = Repository::parse("r.io/x").expect("repository");
        for _ in 0..policies.len() {
            policies.rotate_left(1);
            let set = PolicySet::new(&policies);
            let cluster = names(&set.governing_cluster(&repository));
            let expected = ["a spec.registries[0]", "b spec.registries[0]", "b spec.registries[2]"];
            assert_eq!(cluster, expected.map(|name| format!("ClusterRegistrySecurityPolicy/{name}")));
            let own = names(&set.governing_namespaced("n", &repository));
            let expected = ["n/a spec.registries[1]", "n/b spec.registries[0]"];
            assert_eq!(own, expected.map(|name| format!("RegistrySecurityPolicy/{name}")));
        }
    }

    #[test]
    fn a_namespace_sees_the_policies_of_the_cluster_and_its_own_alone() {
        let repository = Repository::parse("r.io/x").expect("repository");
        let set = PolicySet::new(&[policy(PolicyId::namespaced("n", "p"), &["r.io"])]);
        assert!(set.any_for("n") && !set.any_for("m") && !set.any_for(""));
        assert!(set.governing_namespaced("m", &repository).is_empty() && set.governing_cluster(&repository).is_empty());
        assert!(!PolicySet::default().any_for("n"));
    }

    #[test]
    fn i11_a_policy_without_entries_is_a_policy() {
        assert!(PolicySet::new(&[policy(PolicyId::cluster("p"), &[])]).any_for("n"));
        let own = PolicySet::new(&[policy(PolicyId::namespaced("n", "p"), &[])]);
        assert!(own.any_for("n") && !own.any_for("m"));
    }

    #[test]
    fn a_cluster_policy_is_not_taken_for_a_namespaced_one_of_the_same_name() {
        let [cluster, own] = [PolicyId::cluster("p"), PolicyId::namespaced("n", "p")];
        assert_ne!(cluster, own);
        assert_eq!(cluster.to_string(), "ClusterRegistrySecurityPolicy/p");
        assert_eq!(own.to_string(), "RegistrySecurityPolicy/n/p");
        let entry = |id| policy(id, &["r.io"]).entries[0].clone();
        assert!(entry(cluster).is_cluster() && !entry(own).is_cluster());
    }
}
