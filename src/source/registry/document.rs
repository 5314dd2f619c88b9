//! What kind of manifest some bytes are, without doubt.
//!
//! A document that could be read as an index by one and as an image by another would let the checked content differ from
//! the content that runs (GHSA-qq97-vm5h-rrhg). Runtimes are written in Go, whose JSON ignores the case of member names and
//! lets the last of equal ones win, so both are refused for the members that decide.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The media types that are asked for and understood.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Members that decide how a document is read.
const DECISIVE: [&str; 10] = [
    "schemaversion",
    "mediatype",
    "manifests",
    "config",
    "layers",
    "fslayers",
    "blobs",
    "subject",
    "artifacttype",
    "history",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Index,
    Image,
}

/// The decisive members of a document's top level.
#[derive(Debug, Default)]
struct Outline {
    seen: Vec<String>,
    media_type: Option<String>,
    schema_version: Option<u64>,
    doubtful: bool,
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OutlineVisitor)
    }
}

struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut outline = Outline::default();
        while let Some(key) = map.next_key::<String>()? {
            let lower = fold(&key);
            if !DECISIVE.contains(&lower.as_str()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let canonical =
                ["schemaVersion", "mediaType", "fsLayers", "artifactType"].contains(&key.as_str()) || key == lower;
            outline.doubtful |= !canonical || outline.seen.contains(&lower);
            match lower.as_str() {
                "mediatype" => outline.media_type = Some(map.next_value()?),
                "schemaversion" => outline.schema_version = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            outline.seen.push(lower);
        }
        Ok(outline)
    }
}

/// Folds case as Go's JSON does: ASCII, and the two letters beyond that fold into it.
pub(crate) fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// The media type of a manifest, from its header and its content; the error completes "the manifest X …".
pub(super) fn media_type(header: Option<&str>, bytes: &[u8]) -> Result<String, &'static str> {
    let outline: Outline = serde_json::from_slice(bytes).map_err(|_| "is not a JSON object of the right form")?;
    let shape = shape(&outline)?;
    let stated = match (header, outline.media_type.as_deref()) {
        (Some(header), Some(document)) if header != document => {
            return Err("says another media type than the registry says for it");
        }
        (_, Some(stated)) | (Some(stated), None) => stated,
        (None, None) if shape == Shape::Index => OCI_INDEX,
        (None, None) => OCI_MANIFEST,
    };
    let expected = match stated {
        OCI_INDEX | DOCKER_LIST => Shape::Index,
        OCI_MANIFEST | DOCKER_MANIFEST => Shape::Image,
        _ => return Err("has a media type that is not supported"),
    };
    if shape == expected { Ok(stated.to_owned()) } else { Err("is not of the kind that its media type says") }
}

fn shape(outline: &Outline) -> Result<Shape, &'static str> {
    if outline.doubtful {
        return Err("has members that could be read in two ways");
    }
    if outline.schema_version.is_some_and(|v| v != 2) {
        return Err("has a schema version that is not supported");
    }
    let has = |name: &str| outline.seen.iter().any(|s| s == name);
    let image = has("config") || has("layers");
    let other = has("fslayers") || has("blobs") || has("history");
    match (has("manifests"), image, other) {
        (true, false, false) => Ok(Shape::Index),
        (false, true, false) if has("config") && has("layers") => Ok(Shape::Image),
        (false, _, false) => Err("is neither an image manifest nor an index"),
        _ => Err("could be read as two kinds of manifest"),
    }
}

/// The code of an OCI error body, if it is one of capital letters and underscores. The text beside it is not used: it
/// comes from a server that knows what it was sent.
pub(crate) fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let code = errors.errors.into_iter().next()?.code;
    let plain = code.len() <= 40 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    plain.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, text: &str) -> Result<String, &'static str> {
        media_type(header, text.as_bytes())
    }

    #[test]
    fn d7_accepts_documents_of_one_kind() {
        let image = r#"{"schemaVersion":2,"config":{},"layers":[]"#;
        let index = r#"{"schemaVersion":2,"manifests":[]"#;
        for (media_type, start) in
            [(OCI_MANIFEST, image), (DOCKER_MANIFEST, image), (OCI_INDEX, index), (DOCKER_LIST, index)]
        {
            let stated = format!(r#"{start},"mediaType":"{media_type}"}}"#);
            let silent = format!("{start}}}");
            assert_eq!(read(Some(media_type), &stated).as_deref(), Ok(media_type));
            assert_eq!(read(None, &stated).as_deref(), Ok(media_type));
            assert_eq!(read(Some(media_type), &silent).as_deref(), Ok(media_type));
        }
        assert_eq!(read(None, &format!("{image}}}")).as_deref(), Ok(OCI_MANIFEST));
        assert_eq!(read(None, &format!("{index},\"subject\":{{}}}}")).as_deref(), Ok(OCI_INDEX));
    }

    #[test]
    fn d7_rejects_documents_of_two_kinds() {
        let image = r#""schemaVersion":2,"config":{},"layers":[]"#;
        for bad in [
            format!(r#"{{{image},"manifests":[]}}"#),
            format!(r#"{{{image},"Manifests":[]}}"#),
            format!(r#"{{{image},"manife{}ts":[]}}"#, '\u{17f}'),
            format!(r#"{{{image},"layers":[]}}"#),
            format!(r#"{{{image},"Layers":[]}}"#),
            format!(r#"{{{image},"fsLayers":[]}}"#),
            format!(r#"{{{image},"blobs":[]}}"#),
            format!(r#"{{{image},"mediaType":"{OCI_INDEX}"}}"#),
            format!(r#"{{{image},"mediaType":"{OCI_MANIFEST}","mediaType":"{OCI_MANIFEST}"}}"#),
            format!(r#"{{{image},"mediaType":7}}"#),
            format!(r"{{{image}}} {{}}"),
            r#"{"schemaVersion":1,"config":{},"layers":[]}"#.into(),
            r#"{"schemaVersion":2,"layers":[]}"#.into(),
            r#"{"manifests":[],"config":{}}"#.into(),
            "{}".into(),
            "[]".into(),
            "null".into(),
            String::new(),
            "[".repeat(100_000),
        ] {
            let shown: String = bad.chars().take(90).collect();
            assert!(read(None, &bad).is_err(), "{shown}");
        }
        assert!(read(Some(DOCKER_MANIFEST), &format!(r#"{{{image},"mediaType":"{OCI_MANIFEST}"}}"#)).is_err());
        assert!(read(Some(OCI_INDEX), &format!("{{{image}}}")).is_err());
        assert!(read(Some("text/html"), &format!("{{{image}}}")).is_err());
    }

    #[test]
    fn g6_only_the_code_of_an_error_body_is_repeated() {
        let body = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"Bearer abc"}}]}}"#);
        assert_eq!(error_code(body("NAME_UNKNOWN").as_bytes()).as_deref(), Some("NAME_UNKNOWN"));
        for bad in ["Bearer abc", "x", &"A".repeat(41)] {
            assert_eq!(error_code(body(bad).as_bytes()), None, "{bad}");
        }
        assert_eq!(error_code(b"<html>"), None);
    }
}
