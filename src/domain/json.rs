//! JSON without doubt: no member twice in any object, nothing behind the end.
//!
//! Readers that let the last of two equal members win, or the first, see two contents in one text. Whatever is signed, or
//! decides, is read by this one instead.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// As much of a repeated member's name is told.
const MAX_SHOWN: usize = 64;

/// A value. Objects keep their members in order, each of which is there once.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// Names and values.
    Object(Vec<(String, Json)>),
    /// Elements.
    Array(Vec<Json>),
    /// A string.
    Text(String),
    /// A number, as the 64-bit float that it is nearest to: so containers/image compares them.
    Number(f64),
    /// `true` or `false`: nothing that is read is one.
    Truth,
    /// `null`.
    Null,
}

impl Json {
    /// The whole text. Its size is bounded by the caller, its depth by the reader (128 levels).
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
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

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let (mut names, mut members) = (HashSet::new(), Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                let name: String = name.chars().take(MAX_SHOWN).collect();
                return Err(A::Error::custom(format_args!("the member {name:?} is repeated")));
            }
            members.push((name, map.next_value()?));
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Truth)
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss)]
    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read_in_order() {
        let read = Json::read(br#" {"b": [1, -2, 0.5, true, null], "a": "x"} "#).unwrap();
        let numbers = [1.0, -2.0, 0.5].map(Json::Number);
        let array = numbers.into_iter().chain([Json::Truth, Json::Null]).collect();
        let members = vec![("b".to_owned(), Json::Array(array)), ("a".to_owned(), Json::Text("x".to_owned()))];
        assert_eq!(read, Json::Object(members));
    }

    #[test]
    fn what_two_readers_could_see_differently_is_refused() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": {"b": 1, "b": 2}}"#,
            r#"[{"a": 1, "\u0061": 2}]"#,
            "{} {}",
            "{},",
            "",
            "\u{feff}{}",
        ] {
            assert!(Json::read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::read(br#"[{"a": 1}, {"a": 2}]"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::read(nested(127).as_bytes()).is_ok());
        assert!(Json::read(nested(200).as_bytes()).is_err());
    }
}
