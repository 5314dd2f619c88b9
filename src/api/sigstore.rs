//! `cosign` of an entry as it is on the wire.

#![allow(clippy::doc_markdown, reason = "the documentation of fields is what `kubectl explain` prints: plain text")]
#![allow(rustdoc::bare_urls, reason = "the same")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::policy::{MAX_NAME, MAX_OBJECT_REF, OBJECT_REF, SignedIdentitySpec};
use crate::domain::expression::MAX_EXPRESSION;
use crate::domain::keyless::MAX_RULE;

/// Most `cosign.annotations`.
pub(super) const MAX_ANNOTATIONS: usize = 16;
/// Longest value of one of them.
pub(super) const MAX_ANNOTATION: usize = 1024;
/// Most `cosign.identities`.
pub(super) const MAX_IDENTITIES: usize = 64;
/// Most `cosign.attestations`.
pub(super) const MAX_ATTESTATIONS: usize = 16;
/// Longest predicate type.
pub(super) const MAX_TYPE: usize = 512;

/// `cosign`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CosignSpec {
    /// Annotations that a signature must carry, each with exactly this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = MAX_ANNOTATIONS,
        "additionalProperties" = json!({"type": "string", "maxLength": MAX_ANNOTATION}),
    ))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Keyless identities: a signature whose certificate fits any of them counts. Together with cosignKeyRef either
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_IDENTITIES))]
    pub identities: Option<Vec<CosignIdentitySpec>>,
    /// How many different keys or identities of this entry must have signed; 1 when absent. An identity counts by its
    /// place in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_IDENTITIES))]
    pub threshold: Option<i32>,
    /// Secret or ConfigMap whose key trusted_root.json holds the Sigstore trust root, as k8s://namespace/name; without
    /// it the installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_OBJECT_REF), regex(pattern = OBJECT_REF))]
    pub trust_root_ref: Option<String>,
    /// Whether a signature must be proved to stand in a transparency log (Rekor). When absent, keyless signatures must
    /// and signatures by a key need not. With NotRequired a keyless signature needs a signed timestamp instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparency_log: Option<RequirementSpec>,
    /// Whether a signing certificate must be proved to stand in a certificate transparency log; Required when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sct: Option<RequirementSpec>,
    /// Repository, as host[:port]/path, that holds the signatures instead of the image's own (as COSIGN_REPOSITORY).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub repository: Option<String>,
    /// Under which image name a signature must have been made to count for an image. When absent names are not
    /// compared, as in cosign. Bundles carry no name, so with this field only signatures under .sig tags count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_identity: Option<SignedIdentitySpec>,
    /// Attestations that must be there beside the signature, each valid and signed by the keys or identities above.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_ATTESTATIONS))]
    pub attestations: Option<Vec<AttestationSpec>>,
}

/// One of `cosign.identities`. Which fields go together is checked in the schema by `oneOf`, because rules in CEL would
/// cost too much inside lists without a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("allOf" = [
    {"oneOf": [{"required": ["issuer"]}, {"required": ["issuerRegExp"]}]},
    {"oneOf": [{"required": ["subject"]}, {"required": ["subjectRegExp"]}]},
]))]
pub struct CosignIdentitySpec {
    /// The OIDC issuer that vouched for the signer, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub issuer: Option<String>,
    /// Regular expression (RE2) that the whole issuer must fit.
    #[serde(skip_serializing_if = "Option::is_none", rename = "issuerRegExp")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub issuer_reg_exp: Option<String>,
    /// The signer, exactly: an e-mail address, URI, DNS name or user name among the certificate's alternative names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub subject: Option<String>,
    /// Regular expression (RE2) that the whole name of the signer must fit.
    #[serde(skip_serializing_if = "Option::is_none", rename = "subjectRegExp")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub subject_reg_exp: Option<String>,
    /// What the certificate must say about the GitHub workflow that signed; each field that is given must be equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_workflow: Option<GithubWorkflowSpec>,
}

/// `githubWorkflow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GithubWorkflowSpec {
    /// Name of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub name: Option<String>,
    /// Git reference that it ran on, such as refs/heads/main.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub reference: Option<String>,
    /// Repository, as owner/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub repository: Option<String>,
    /// The commit that it ran for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub sha: Option<String>,
    /// Event that started it, such as push.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RULE))]
    pub trigger: Option<String>,
}

/// Whether something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum RequirementSpec {
    Required,
    NotRequired,
}

/// One of `cosign.attestations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttestationSpec {
    /// The in-toto predicate type, exactly.
    #[schemars(length(min = 1, max = MAX_TYPE))]
    pub predicate_type: String,
    /// CEL expression over predicate, predicateType and subject that must be true of the attestation. Comprehensions
    /// are all, exists, exists_one and filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_EXPRESSION))]
    pub expression: Option<String>,
}
