//! The documents of the extension API, as `OpenShift`'s registry has them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::disk::{Kept, Name, Place};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    /// `<digest>@<name>`.
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Base64.
    content: String,
}

/// All of a digest.
#[derive(Debug, Serialize)]
pub(super) struct List {
    signatures: Vec<Document>,
}

/// What an upload asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) content: Vec<u8>,
    pub(super) name: Option<Name>,
}

impl Document {
    pub(super) fn of(place: &Place, kept: &Kept) -> Self {
        let name = format!("{}@{}", place.digest(), kept.name);
        Self { schema_version: 2, name, kind: "atomic".to_owned(), content: BASE64_STANDARD.encode(&kept.content) }
    }
}

impl List {
    pub(super) fn of(place: &Place, kept: &[&Kept]) -> Self {
        Self { signatures: kept.iter().map(|kept| Document::of(place, kept)).collect() }
    }
}

impl Upload {
    /// Reads the document of an upload for this place. A document without a name leaves it to the store.
    pub(super) fn read(place: &Place, body: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(body).map_err(|error| format!("not the JSON of a signature: {error}"))?;
        if document.schema_version != 2 {
            return Err("schemaVersion must be 2".to_owned());
        }
        if document.kind != "atomic" {
            return Err("type must be \"atomic\"; other signatures are not kept here".to_owned());
        }
        let name = match document.name.as_str() {
            "" => None,
            name => Some(read_name(place, name)?),
        };
        let packed: Vec<u8> = document.content.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let content = BASE64_STANDARD.decode(packed).map_err(|_| "content must be base64".to_owned())?;
        Ok(Self { content, name })
    }
}

fn read_name(place: &Place, text: &str) -> Result<Name, String> {
    let (digest, name) = text.split_once('@').ok_or("name must be <digest>@<name>")?;
    if digest != place.digest().as_str() {
        return Err("name must begin with the digest that the URL has".to_owned());
    }
    name.parse().map_err(|error| format!("name: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;

    fn place() -> Place {
        Place::new("a/b", &Digest::sha256(b"image")).unwrap()
    }

    fn document(version: u64, name: &str, kind: &str, content: &str) -> String {
        serde_json::json!({"schemaVersion": version, "name": name, "type": kind, "content": content}).to_string()
    }

    #[test]
    fn the_document_of_the_seed_is_read_and_written() {
        let name = format!("{}@{}", place().digest(), "0123456789abcdef".repeat(2));
        let upload = Upload::read(&place(), document(2, &name, "atomic", "YWJj\r\nZA==").as_bytes()).unwrap();
        assert_eq!(upload.content, b"abcd");
        let kept = Kept { number: 1, name: upload.name.unwrap(), content: upload.content };
        let list = serde_json::to_value(List::of(&place(), &[&kept])).unwrap();
        let wanted = serde_json::json!({"schemaVersion": 2, "name": name, "type": "atomic", "content": "YWJjZA=="});
        assert_eq!(list["signatures"][0], wanted);
        assert_eq!(Upload::read(&place(), document(2, "", "atomic", "YQ==").as_bytes()).unwrap().name, None);
    }

    #[test]
    fn other_documents_are_refused_with_the_field_at_fault() {
        let digest = place().digest().to_string();
        let good = format!("{digest}@{}", "a".repeat(32));
        let other = format!("{}@{}", Digest::sha256(b"x"), "a".repeat(32));
        for (body, field) in [
            ("{}".to_owned(), "JSON"),
            ("[]".to_owned(), "JSON"),
            (document(1, &good, "atomic", ""), "schemaVersion"),
            (document(2, &good, "cosign", ""), "type"),
            (document(2, "x", "atomic", ""), "name"),
            (document(2, &other, "atomic", ""), "name"),
            (document(2, &format!("{digest}@short"), "atomic", ""), "name"),
            (document(2, &format!("{digest}@{}", "../".repeat(11)), "atomic", ""), "name"),
            (document(2, &good, "atomic", "%"), "content"),
        ] {
            let error = Upload::read(&place(), body.as_bytes()).unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
