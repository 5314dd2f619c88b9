//! The two policy kinds as they are on the wire.
//!
//! These types describe: they make the schema, and they are what podseal writes. Objects are read by
//! [`super::read_policy`] instead, because one entry that cannot be read must not hide the others from the decision.
//!
//! The first five fields of an entry are older than podseal and carry no constraint that they did not always have, so
//! that every object that was ever stored still applies. All that follows is optional and bounded.

#![allow(clippy::doc_markdown, reason = "the documentation of fields is what `kubectl explain` prints: plain text")]
#![allow(clippy::duplicated_attributes, reason = "each printer column has its own `type_`")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sigstore::CosignSpec;
use super::status::PolicyStatus;

/// `k8s://namespace/name`, or empty: namespace an RFC 1123 label, name an RFC 1123 subdomain.
pub(super) const OBJECT_REF: &str =
    r"^(k8s://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$";
/// An absolute URL without user name, password, query and fragment, or empty.
const STORE_URL: &str = r"^(https?://[^/@?#\\\s]+(/[^?#\\\s]*)?)?$";

/// Longest `k8s://namespace/name`.
pub(super) const MAX_OBJECT_REF: usize = 6 + 63 + 1 + 253;
/// Longest `lookaside`.
pub(super) const MAX_URL: usize = 2048;
/// Longest `dockerReference`: name, tag and SHA-512 digest.
pub(super) const MAX_REFERENCE: usize = 255 + 1 + 128 + 1 + 135;
/// Longest `dockerRepository`, `prefix` and `signedPrefix`.
pub(super) const MAX_NAME: usize = 255;

/// Says for the whole cluster which registries images may come from and how their signatures are checked.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tmax.io",
    version = "v1",
    kind = "ClusterRegistrySecurityPolicy",
    plural = "clusterregistrysecuritypolicies",
    singular = "clusterregistrysecuritypolicy",
    shortname = "crsp",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "Says for every namespace which registries images may come from and how their signatures are checked. As soon as one policy exists, an image of a registry that no policy names is denied.",
    printcolumn(
        name = "Registries",
        type_ = "string",
        json_path = ".spec.registries[*].registry",
        description = "Registry of the first entry"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether every entry can be used"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ClusterRegistrySecurityPolicySpec {
    /// Entries, each for one registry or a part of it. Among all cluster policies the most specific entries that match
    /// an image govern it, and every one of them must pass.
    pub registries: Vec<RegistryEntry>,
}

/// Says for one namespace which registries images may come from and how their signatures are checked.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tmax.io",
    version = "v1",
    kind = "RegistrySecurityPolicy",
    plural = "registrysecuritypolicies",
    singular = "registrysecuritypolicy",
    shortname = "rsp",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "Says for its namespace which registries images may come from and how their signatures are checked. It tightens what cluster policies ask and never loosens it. As soon as one policy speaks for a namespace, an image of a registry that no policy names is denied there.",
    printcolumn(
        name = "Registries",
        type_ = "string",
        json_path = ".spec.registries[*].registry",
        description = "Registry of the first entry"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether every entry can be used"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct RegistrySecurityPolicySpec {
    /// Entries, each for one registry or a part of it. Among the policies of the namespace the most specific entries
    /// that match an image govern it, beside those of cluster policies, and every one of them must pass.
    pub registries: Vec<RegistryEntry>,
}

/// What is asked of the images of one registry, or of a part of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryEntry {
    /// What the entry speaks for: host[:port][/path], *.example.com[/path] or *. Ports must be equal. A path names the
    /// repository of that name and all below it; the longest matching path wins.
    pub registry: String,
    /// Whether a signature is asked for. With false every image of this registry is allowed without one.
    pub sign_check: bool,
    /// URL of the Notary (Docker Content Trust) server that holds the trust data of this registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notary: Option<String>,
    /// Secret whose key cosign.pub holds one or more PEM public keys, as k8s://namespace/name. A signature by any of
    /// the keys counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosign_key_ref: Option<String>,
    /// Accepted signers, any one suffices; without any, every trusted key counts. cosign: the signature's annotation
    /// "signer" or, keyless, the identity. Notary: the delegation role. GPG: the key's full fingerprint, its file name, or the e-mail address of
    /// one of its user IDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<Vec<String>>,
    /// Secret with OpenPGP public keys, as k8s://namespace/name. Every certificate in its data is trusted. Asks for GPG
    /// simple signing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_OBJECT_REF), regex(pattern = OBJECT_REF))]
    pub gpg_key_ref: Option<String>,
    /// Base URL (http or https, no user name) of the store that holds GPG signatures. Without it the administrator's
    /// registries.d configuration decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_URL), regex(pattern = STORE_URL))]
    pub lookaside: Option<String>,
    /// Under which image name a GPG signature must have been made to count for an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_identity: Option<SignedIdentitySpec>,
    /// What is asked of cosign signatures beyond the key, and by whom keyless ones must have been made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosign: Option<CosignSpec>,
    /// Whether this registry may be reached over plain HTTP or with a TLS certificate that cannot be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// Secret or ConfigMap whose key ca.crt holds the certificates that this registry's TLS is verified against, as
    /// k8s://namespace/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_OBJECT_REF), regex(pattern = OBJECT_REF))]
    pub ca_ref: Option<String>,
    /// Whether an image that is named without a digest fails this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,
    /// What a failing entry does. Enforce (used when absent) denies; Warn admits and answers with a warning; Audit
    /// admits and leaves an audit annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionSpec>,
}

/// `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ActionSpec {
    #[allow(missing_docs)]
    Enforce,
    #[allow(missing_docs)]
    Warn,
    #[allow(missing_docs)]
    Audit,
}

/// `signedIdentity`, with the meaning of containers-policy.json(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = identity_rules()))]
pub struct SignedIdentitySpec {
    /// The rule. matchExact: the same reference. matchRepoDigestOrExact (used when signedIdentity is absent): by tag the
    /// same reference, by digest the same repository. matchRepository: the same repository. exactReference,
    /// exactRepository: the one that is named here. remapIdentity: the image's name with prefix replaced by
    /// signedPrefix, then as matchRepoDigestOrExact.
    #[serde(rename = "type")]
    pub rule: IdentityType,
    /// For exactReference: the reference, with a tag or a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_REFERENCE))]
    pub docker_reference: Option<String>,
    /// For exactRepository: the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub docker_repository: Option<String>,
    /// For remapIdentity: host or repository prefix, in whole path components, of the image that is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub prefix: Option<String>,
    /// For remapIdentity: what stands in place of prefix in signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub signed_prefix: Option<String>,
}

/// `signedIdentity.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum IdentityType {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference,
    ExactRepository,
    RemapIdentity,
}

/// Each rule of `signedIdentity` takes its own fields and no others.
fn identity_rules() -> serde_json::Value {
    json!([
        {
            "rule": "has(self.dockerReference) == (self.type == 'exactReference')",
            "message": "dockerReference is required with type exactReference and allowed with no other",
        },
        {
            "rule": "has(self.dockerRepository) == (self.type == 'exactRepository')",
            "message": "dockerRepository is required with type exactRepository and allowed with no other",
        },
        {
            "rule": "has(self.prefix) == (self.type == 'remapIdentity') && has(self.signedPrefix) == (self.type == 'remapIdentity')",
            "message": "prefix and signedPrefix are required with type remapIdentity and allowed with no other",
        },
    ])
}
