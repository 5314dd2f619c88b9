//! `status` of a policy: whether it can be used, and with which keys.

#![allow(clippy::doc_markdown, reason = "the documentation of fields is what `kubectl explain` prints: plain text")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What podseal found out about a policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The metadata.generation that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready says whether every entry can be used; its message names the field that cannot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// One element per entry of spec.registries, in the same order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistryStatus>,
}

/// The keys and signers of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryStatus {
    /// The entry's registry as written.
    pub registry: String,
    /// Public keys that are trusted for this entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyStatus>,
    /// Names under which holders of these keys can be listed in signer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
}

/// One trusted public key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyStatus {
    /// OpenPGP: the primary key's fingerprint. cosign: sha256: and the digest of the DER form.
    pub fingerprint: String,
    /// When the key stops being valid; absent if it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires: Option<String>,
    /// Where the key was read: object and data key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// `metav1.Condition`, which carries no schema of its own; limits as in the Kubernetes API conventions.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "description": "The aspect, such as Ready.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The metadata.generation that this condition speaks of.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status last changed.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Why, as one word for programs.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "Why, as a sentence for people.",
                },
            },
        },
    })
}
