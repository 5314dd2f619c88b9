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

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::digest::Digest;

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
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|e| PayloadError(format!("the signed payload is no JSON object without repeated fields: {e}")))?;
        let [critical, optional] = json.fields("the payload", ["critical", "optional"])?;
        let [kind, image, identity] = critical.fields("critical", ["type", "image", "identity"])?;
        let [digest] = image.fields("critical.image", ["docker-manifest-digest"])?;
        let [reference] = identity.fields("critical.identity", ["docker-reference"])?;
        if kind.text("critical.type")? != SIGNATURE_TYPE {
            return Err(PayloadError(format!("critical.type is not \"{SIGNATURE_TYPE}\"")));
        }
        let digest = digest.text("critical.image.docker-manifest-digest")?;
        let digest = digest
            .parse()
            .map_err(|error| PayloadError(format!("critical.image.docker-manifest-digest is {error}")))?;
        let reference = reference.text("critical.identity.docker-reference")?;
        let (creator, timestamp) = read_optional(optional)?;
        Ok(Self { digest, reference, creator, timestamp })
    }
}

fn read_optional(optional: Json) -> Result<(Option<String>, Option<i64>), PayloadError> {
    let Json::Object(fields) = optional else { return Err(PayloadError("optional is not an object".to_owned())) };
    let (mut creator, mut timestamp) = (None, None);
    for (name, value) in fields {
        match name.as_str() {
            // Null stands for "none", as containers/image reads it.
            "creator" | "timestamp" if matches!(value, Json::Null) => {}
            "creator" => creator = Some(value.text("optional.creator")?),
            "timestamp" => timestamp = Some(value.integer("optional.timestamp")?),
            _ => {}
        }
    }
    Ok((creator, timestamp))
}

/// As much of JSON as a payload needs. Objects keep all their fields, each of which is there once.
enum Json {
    Object(Vec<(String, Json)>),
    Text(String),
    Number(f64),
    Null,
    /// A truth value or an array: nothing that is read has one.
    Other,
}

impl Json {
    /// The values of exactly these fields.
    fn fields<const N: usize>(self, what: &str, names: [&str; N]) -> Result<[Self; N], PayloadError> {
        let wrong = || PayloadError(format!("{what} is not an object of exactly these fields: {}", names.join(", ")));
        let Self::Object(mut fields) = self else { return Err(wrong()) };
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

    fn text(self, what: &str) -> Result<String, PayloadError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(PayloadError(format!("{what} is not a string"))),
        }
    }

    /// A number that equals a 64-bit integer, however it is written: `1e3` is one, `0.5` is none.
    fn integer(self, what: &str) -> Result<i64, PayloadError> {
        const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63, the first number beyond the range
        match self {
            // The range was checked, and the conversion of a whole number in range is exact.
            #[expect(clippy::cast_possible_truncation)]
            Self::Number(n) if n.fract() == 0.0 && (-LIMIT..LIMIT).contains(&n) => Ok(n as i64),
            _ => Err(PayloadError(format!("{what} is not a 64-bit integer"))),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    // Numbers are compared as 64-bit floats, as containers/image reads them.
    #[expect(clippy::cast_precision_loss)]
    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut names = std::collections::HashSet::new();
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("a field is repeated"));
            }
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests;
