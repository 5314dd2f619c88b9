//! The simple-signing payload, read as strictly as containers/image reads it.
//!
//! ```json
//! {"critical": {"type": "atomic container signature",
//!               "image": {"docker-manifest-digest": "sha256:…"},
//!               "identity": {"docker-reference": "registry.local/team/app:1"}},
//!  "optional": {"creator": "…", "timestamp": 1700000000}}
//! ```
//! Specification: containers-signature(5), "JSON format". Every object but `optional` has exactly these fields, no field
//! is repeated in any object, and nothing follows. The looser habits of JSON readers (the last of two equal keys wins,
//! arrays stand for objects, unknown keys are dropped) would let two readers see two contents in one signature.

use super::digest::Digest;
use super::json::Json;

const SIGNATURE_TYPE: &str = "atomic container signature";

/// What a simple signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimplePayload {
    /// `critical.image.docker-manifest-digest`.
    pub digest: Digest,
    /// `critical.identity.docker-reference`, as written.
    pub reference: String,
    /// `optional.creator`.
    pub creator: Option<String>,
    /// `optional.timestamp`, seconds since 1970.
    pub timestamp: Option<i64>,
}

/// Why a payload is not a simple-signing payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PayloadError(pub String);

impl SimplePayload {
    /// Reads the signed bytes. Call it only on bytes whose signature was verified, and whose size was bounded.
    ///
    /// The nesting is bounded here, by the JSON reader (128 levels).
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let json = Json::read(bytes)
            .map_err(|e| PayloadError(format!("the signed payload is no JSON object without repeated fields: {e}")))?;
        let [critical, optional] = fields(json, "the payload", ["critical", "optional"])?;
        let [kind, image, identity] = fields(critical, "critical", ["type", "image", "identity"])?;
        let [digest] = fields(image, "critical.image", ["docker-manifest-digest"])?;
        let [reference] = fields(identity, "critical.identity", ["docker-reference"])?;
        if text(kind, "critical.type")? != SIGNATURE_TYPE {
            return Err(PayloadError(format!("critical.type is not \"{SIGNATURE_TYPE}\"")));
        }
        let digest = text(digest, "critical.image.docker-manifest-digest")?;
        let digest = digest
            .parse()
            .map_err(|error| PayloadError(format!("critical.image.docker-manifest-digest is {error}")))?;
        let reference = text(reference, "critical.identity.docker-reference")?;
        let (creator, timestamp) = read_optional(optional)?;
        Ok(Self { digest, reference, creator, timestamp })
    }
}

fn read_optional(optional: Json) -> Result<(Option<String>, Option<i64>), PayloadError> {
    let Json::Object(members) = optional else { return Err(PayloadError("optional is not an object".to_owned())) };
    let (mut creator, mut timestamp) = (None, None);
    for (name, value) in members {
        match name.as_str() {
            // Null stands for "none", as containers/image reads it.
            "creator" | "timestamp" if matches!(value, Json::Null) => {}
            "creator" => creator = Some(text(value, "optional.creator")?),
            "timestamp" => timestamp = Some(integer(&value, "optional.timestamp")?),
            _ => {}
        }
    }
    Ok((creator, timestamp))
}

/// The values of exactly these fields.
fn fields<const N: usize>(json: Json, what: &str, names: [&str; N]) -> Result<[Json; N], PayloadError> {
    let wrong = || PayloadError(format!("{what} is not an object of exactly these fields: {}", names.join(", ")));
    let Json::Object(mut fields) = json else { return Err(wrong()) };
    if fields.len() != N {
        return Err(wrong());
    }
    let mut values = Vec::with_capacity(N);
    for name in names {
        let at = fields.iter().position(|(field, _)| field == name).ok_or_else(wrong)?;
        values.push(fields.swap_remove(at).1);
    }
    values.try_into().map_err(|_| wrong())
}

fn text(json: Json, what: &str) -> Result<String, PayloadError> {
    match json {
        Json::Text(text) => Ok(text),
        _ => Err(PayloadError(format!("{what} is not a string"))),
    }
}

/// A number that equals a 64-bit integer, however it is written: `1e3` is one, `0.5` is none.
fn integer(json: &Json, what: &str) -> Result<i64, PayloadError> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63, the first number beyond the range
    match *json {
        // The range was checked, and the conversion of a whole number in range is exact.
        #[expect(clippy::cast_possible_truncation)]
        Json::Number(n) if n.fract() == 0.0 && (-LIMIT..LIMIT).contains(&n) => Ok(n as i64),
        _ => Err(PayloadError(format!("{what} is not a 64-bit integer"))),
    }
}

#[cfg(test)]
mod tests;
