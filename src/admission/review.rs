//! `admission.k8s.io/v1` on the wire, reduced to what a decision needs.
//!
//! One reading of the body, without building a tree: unknown members are skipped, known ones must have their type, and a
//! member that occurs twice is refused. Objects must be JSON objects: serde would also take an array for a struct.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The API version that is understood and answered.
pub const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Bytes that hold most answers, so that they are not moved while they grow.
const ORDINARY_ANSWER: usize = 768;

/// A JSON object and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Object<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(std::marker::PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OnlyMap(std::marker::PhantomData))
    }
}

impl<T> std::ops::Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The envelope.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: DeserializeOwned"))]
pub struct Review<T: DeserializeOwned> {
    /// Must be [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// Must be `AdmissionReview`.
    #[serde(default)]
    pub kind: String,
    /// The question.
    #[serde(default)]
    pub request: Option<Object<Request<T>>>,
}

/// The question; `T` is what is read of the objects.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "T: DeserializeOwned"))]
pub struct Request<T: DeserializeOwned> {
    /// Goes back unchanged.
    pub uid: String,
    /// What the object is.
    pub kind: Object<Kind>,
    /// Such as `ephemeralcontainers`.
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// The name; empty when the server is to make one.
    #[serde(default)]
    pub name: Option<String>,
    /// The only namespace that counts.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT`.
    pub operation: String,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// Who asks.
    #[serde(default)]
    pub user_info: Option<Object<UserInfo>>,
    /// The new object.
    #[serde(default)]
    pub object: Option<Object<T>>,
    /// The stored object.
    #[serde(default)]
    pub old_object: Option<Object<T>>,
}

/// Group, version and kind.
#[derive(Debug, Default, Deserialize)]
pub struct Kind {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Such as `Pod`.
    pub kind: String,
}

/// Who asks.
#[derive(Debug, Default, Deserialize)]
pub struct UserInfo {
    /// The name.
    #[serde(default)]
    pub username: Option<String>,
    /// The groups.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
}

/// What is known of a body that is no review, to answer it all the same.
#[derive(Debug, Default, Deserialize)]
struct Salvage {
    #[serde(default)]
    request: Option<SalvagedRequest>,
}

#[derive(Debug, Default, Deserialize)]
struct SalvagedRequest {
    #[serde(default)]
    uid: Option<String>,
}

/// The uid of a body whose rest could not be read.
pub fn salvage_uid(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Salvage>(body).ok()?.request?.uid
}

/// Reads a body. The error says what is wrong with it.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<Request<T>, String> {
    let review: Object<Review<T>> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let Review { api_version, kind, request } = review.0;
    if api_version != API_VERSION || kind != KIND {
        return Err(format!("expected {API_VERSION} {KIND}, got {:?} {:?}", short(&api_version), short(&kind)));
    }
    request.map(|r| r.0).ok_or_else(|| "the review has no request".to_owned())
}

/// A word of the request as a message shows it.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The answer.
#[derive(Debug, Default)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// HTTP status of a denial.
    pub code: u16,
    /// Machine-readable reason of a denial.
    pub reason: &'static str,
    /// What the user reads of a denial.
    pub message: String,
    /// What the user reads beside the answer.
    pub warnings: Vec<String>,
    /// What the audit log keeps; the API server puts the webhook's name before each key.
    pub audit: BTreeMap<&'static str, String>,
    /// Changes to the object, in order; none for an empty list.
    pub patch: Vec<Replace>,
}

/// One operation of a JSON patch (RFC 6902): another value for a text that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename = "replace")]
pub struct Replace {
    /// JSON pointer of the field.
    pub path: String,
    /// What it will be.
    pub value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: WireResponse<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireResponse<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<WireStatus<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

#[derive(Serialize)]
struct WireStatus<'a> {
    status: &'static str,
    code: u16,
    reason: &'a str,
    message: &'a str,
}

impl Decision {
    /// The response review with this uid. The request is not echoed.
    pub fn encode(&self, uid: &str) -> Vec<u8> {
        let status = (!self.allowed).then_some(WireStatus {
            status: "Failure",
            code: self.code,
            reason: self.reason,
            message: &self.message,
        });
        // Texts always serialise; without its patch an object would only stay as it is.
        let patch = Some(&self.patch).filter(|patch| self.allowed && !patch.is_empty());
        let patch = patch.and_then(|patch| serde_json::to_vec(patch).ok()).map(|patch| STANDARD.encode(patch));
        let response = WireResponse {
            uid,
            allowed: self.allowed,
            status,
            warnings: &self.warnings,
            audit_annotations: &self.audit,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
        };
        let review = WireReview { api_version: API_VERSION, kind: KIND, response };
        // Strings, numbers and maps with string keys always serialise; an empty body would be a failed call, which denies.
        let mut body = Vec::with_capacity(ORDINARY_ANSWER);
        match serde_json::to_writer(&mut body, &review) {
            Ok(()) => body,
            Err(_) => Vec::new(),
        }
    }
}
