//! `ImageSignature` of `podseal.io/v1alpha1`: a signature as it was found, and what an auditor found out about it.
//!
//! A record for people. No decision of podseal's depends on one: whoever may write a status could otherwise admit
//! images, and a signature proves itself wherever it is kept.

#![allow(clippy::doc_markdown, reason = "the documentation of fields is what `kubectl explain` prints: plain text")]
#![allow(clippy::duplicated_attributes, reason = "each printer column has its own `type_`")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::policy::MAX_URL;
use super::status::conditions_schema;

/// Most bytes of a signature that is recorded.
pub const MAX_CONTENT: usize = 64 << 10;
/// The same in base64.
const MAX_BASE64: usize = MAX_CONTENT.div_ceil(3) * 4;
/// Longest `reference`: host and path.
const MAX_REPOSITORY: usize = super::policy::MAX_NAME;
/// Longest `store`.
pub const MAX_STORE: usize = MAX_URL;
/// Longest `identity`, user ID and user name that is shown.
pub const MAX_SHOWN: usize = 512;
/// Most user IDs of a signer that are shown.
pub const MAX_USER_IDS: usize = 8;

/// A repository in normal form, and nothing that could look like another row or column.
const REPOSITORY: &str =
    r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$";
/// A URL without the characters that no URL has.
const STORE: &str = r"^((https?|file)://[!#-;=?-\[\]_a-z~]+)?$";
/// Text on one line.
const LINE: &str = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$";
/// The digest of an image manifest.
const IMAGE: &str = "^sha256:[0-9a-f]{64}$";
/// Base64 with padding.
const BASE64: &str = "^[A-Za-z0-9+/]+={0,2}$";
/// An OpenPGP fingerprint.
const FINGERPRINT: &str = "^([0-9A-F]{40}|[0-9A-F]{64})$";
/// An OpenPGP key ID.
const KEY_ID: &str = "^[0-9A-F]{16}$";

/// A signature of an image.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "podseal.io",
    version = "v1alpha1",
    kind = "ImageSignature",
    plural = "imagesignatures",
    singular = "imagesignature",
    shortname = "imgsig",
    status = "ImageSignatureStatus",
    derive = "PartialEq",
    doc = "A signature of an image, and whether an auditor has verified it (podseal verify --save). It is a record for people: podseal admits no image because of it. Its name is sha256-HEX-NAME: the digest of the image and 32 hexadecimal digits that tell its signatures apart.",
    validation = Rule::new("self.metadata.name.matches('^sha256-[0-9a-f]{64}-[0-9a-f]{32}$') && self.metadata.name.startsWith('sha256-' + self.spec.image.substring(7) + '-')")
        .message("the name must be sha256-HEX-NAME: the hexadecimal digits of spec.image and 32 more that tell signatures apart"),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.reference",
        description = "Repository that the signature was found for"
    ),
    printcolumn(
        name = "Identity",
        type_ = "string",
        json_path = ".status.identity",
        description = "Name under which the image was signed"
    ),
    printcolumn(
        name = "Signer",
        type_ = "string",
        json_path = ".status.signer.userIDs[0]",
        description = "First user ID of the key that signed"
    ),
    printcolumn(
        name = "Verified",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Verified")].status"#,
        description = "Whether an auditor's key verified the signature"
    ),
    printcolumn(
        name = "Trusted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Trusted")].status"#,
        description = "Whether the image was signed under the name that the auditor expected, too"
    ),
    printcolumn(
        name = "Fingerprint",
        type_ = "string",
        json_path = ".status.signer.fingerprint",
        priority = 1,
        description = "Fingerprint of the key that signed"
    ),
    printcolumn(
        name = "By",
        type_ = "string",
        json_path = ".status.verifiedBy",
        priority = 1,
        description = "Who verified it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()))]
pub struct ImageSignatureSpec {
    /// The image: the digest of its manifest.
    #[schemars(length(max = 71), regex(pattern = IMAGE))]
    pub image: String,
    /// The repository that the signature was found for, with its registry.
    #[schemars(length(min = 1, max = MAX_REPOSITORY), regex(pattern = REPOSITORY))]
    pub reference: String,
    /// What kind of signature it is.
    #[serde(rename = "type")]
    pub kind: SignatureType,
    /// The signature as it was found, in base64. At most 64 KiB.
    #[schemars(length(min = 4, max = MAX_BASE64), regex(pattern = BASE64))]
    pub content: String,
    /// Where it was found: the URL of a signature store, or of the registry that keeps it.
    #[schemars(length(max = MAX_STORE), regex(pattern = STORE))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SignatureType {
    /// GPG simple signing.
    SimpleSigning,
}

/// What an auditor found out about the signature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSignatureStatus {
    /// The name under which the image was signed, as the signature has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SHOWN), regex(pattern = LINE))]
    pub identity: Option<String>,
    /// When it was signed, as the signature has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub created: Option<String>,
    /// The key that signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerStatus>,
    /// When it was last verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub verified_at: Option<String>,
    /// The user of the cluster who had it verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SHOWN), regex(pattern = LINE))]
    pub verified_by: Option<String>,
    /// Verified says whether a key of the auditor's verified the signature for this image; Trusted whether the image was
    /// signed under the expected name, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// The key that signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SignerStatus {
    /// Fingerprint of the primary key, in upper case.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = FINGERPRINT))]
    pub fingerprint: String,
    /// User IDs of the key that are valid.
    #[serde(rename = "userIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_USER_IDS), inner(length(max = MAX_SHOWN), regex(pattern = LINE)))]
    pub user_ids: Vec<String>,
    /// Key ID that the signature names, in upper case.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16), regex(pattern = KEY_ID))]
    pub key_id: String,
}

impl ImageSignature {
    /// Whether the condition of this type is true.
    pub fn is(&self, condition: &str) -> bool {
        let mut conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.any(|found| found.type_ == condition && found.status == "True")
    }
}

/// What was verified stays what was verified.
fn spec_rules() -> serde_json::Value {
    json!([{"rule": "self == oldSelf", "message": "spec cannot be changed: make another object"}])
}
