//! Untrusted JSON as a tree.
//!
//! Derived serde structs are not used on signature data: they take an array where an object belongs, and they
//! overlook a member that appears twice when they do not know its name. Two readers of such a text can disagree on
//! what was signed. Here every object is an object, no member appears twice anywhere, and the number of values is
//! bounded; `serde_json` bounds the depth (128).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::signature::SignatureError;

/// Values in one text, where nothing else is said. A cosign bundle has some fifty.
pub(super) const MAX_VALUES: usize = 20_000;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// `null`.
    Null,
    /// A boolean.
    Flag(bool),
    /// A number without fraction and exponent, as far as it fits.
    Integer(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
    /// Any other number. Nothing here depends on one, so the value is not kept.
    Other,
}

/// An object with its name, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    members: &'a BTreeMap<String, Json>,
    name: &'a str,
}

/// Reads one JSON text of at most `max` bytes; `name` is what a message calls it.
pub(super) fn parse(text: &[u8], max: usize, name: &str) -> Result<Json, SignatureError> {
    parse_larger(text, max, MAX_VALUES, name)
}

/// The same with another bound on the number of values.
pub(super) fn parse_larger(text: &[u8], max: usize, values: usize, name: &str) -> Result<Json, SignatureError> {
    if text.len() > max {
        return Err(malformed(format!("{name} has more than {max} bytes")));
    }
    let left = Cell::new(values);
    let mut reader = serde_json::Deserializer::from_slice(text);
    Value { left: &left, values }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|err| malformed(format!("{name} is not valid JSON: {err}")))
}

/// Shorthand.
pub(super) fn malformed(text: impl Into<String>) -> SignatureError {
    SignatureError::Malformed(text.into())
}

/// Text from outside, made fit for a message: short, printable ASCII.
pub(super) fn shown(text: &str) -> String {
    const MAX: usize = 100;
    let mut out: String = text.chars().take(MAX).flat_map(char::escape_default).collect();
    if text.chars().nth(MAX).is_some() {
        out.push_str("...");
    }
    out
}

impl Json {
    /// The value as an object.
    pub(super) fn object<'a>(&'a self, name: &'a str) -> Result<Object<'a>, SignatureError> {
        match self {
            Self::Object(members) => Ok(Object { members, name }),
            _ => Err(malformed(format!("{name} is not an object"))),
        }
    }
}

impl<'a> Object<'a> {
    /// A member that may be absent; `null` counts as absent, as in the JSON form of protocol buffers.
    pub(super) fn get(&self, member: &str) -> Option<&'a Json> {
        self.members.get(member).filter(|value| **value != Json::Null)
    }

    /// A member that must be a string.
    pub(super) fn text(&self, member: &str) -> Result<&'a str, SignatureError> {
        match self.get(member) {
            Some(Json::Text(text)) => Ok(text),
            _ => Err(self.wants(member, "a string")),
        }
    }

    /// A member that must be a whole number.
    pub(super) fn integer(&self, member: &str) -> Result<i64, SignatureError> {
        match self.get(member) {
            Some(Json::Integer(number)) => Ok(*number),
            _ => Err(self.wants(member, "a whole number")),
        }
    }

    /// All members with their names.
    pub(super) fn members(&self) -> &'a BTreeMap<String, Json> {
        self.members
    }

    /// A member that must be an object.
    pub(super) fn object(&self, member: &'a str) -> Result<Object<'a>, SignatureError> {
        match self.get(member) {
            Some(Json::Object(members)) => Ok(Object { members, name: member }),
            _ => Err(self.wants(member, "an object")),
        }
    }

    /// A member that must be an array of 1 to `max` elements.
    pub(super) fn list(&self, member: &str, max: usize) -> Result<&'a [Json], SignatureError> {
        match self.get(member) {
            Some(Json::List(list)) if (1..=max).contains(&list.len()) => Ok(list),
            _ => Err(self.wants(member, &format!("an array of 1 to {max} elements"))),
        }
    }

    /// The string members of an optional object; members of other types are left out.
    pub(super) fn strings(&self, member: &'a str) -> Result<BTreeMap<String, String>, SignatureError> {
        if self.get(member).is_none() {
            return Ok(BTreeMap::new());
        }
        let text = |(key, value): (&String, &Json)| match value {
            Json::Text(text) => Some((key.clone(), text.clone())),
            _ => None,
        };
        Ok(self.object(member)?.members.iter().filter_map(text).collect())
    }

    /// Refuses members other than these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), SignatureError> {
        match self.members.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(malformed(format!("{} has the unknown member \"{}\"", self.name, shown(key)))),
            None => Ok(()),
        }
    }

    fn wants(&self, member: &str, what: &str) -> SignatureError {
        malformed(format!("\"{member}\" of {} is missing or not {what}", self.name))
    }
}

/// Reads one value and counts it.
#[derive(Clone, Copy)]
struct Value<'c> {
    left: &'c Cell<usize>,
    values: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format!("more than {} values", self.values)))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Other, Json::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if members.insert(key, value).is_some() {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, String> {
        parse(text.as_bytes(), 1 << 20, "the text").map_err(|err| err.to_string())
    }

    #[test]
    fn reads_every_kind_of_value() {
        let value = read(r#" {"a":null,"b":[1,-1,1.5,true],"c":{"d":"\u00e9"},"e":18446744073709551616} "#).unwrap();
        let object = value.object("it").unwrap();
        assert_eq!(object.get("a"), None);
        assert_eq!(object.list("b", 4).unwrap().len(), 4);
        assert_eq!(object.object("c").unwrap().text("d").unwrap(), "é");
        assert!(object.list("b", 3).is_err() && object.text("b").is_err() && object.text("x").is_err());
        assert!(object.only(&["a", "b", "c", "e"]).is_ok() && object.only(&["a", "b", "c"]).is_err());
    }

    #[test]
    fn refuses_a_member_that_appears_twice_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"a":null}]}"#, r#"{"a":1,"\u0061":1}"#] {
            assert!(read(text).unwrap_err().contains("appears twice"), "{text}");
        }
        assert!(read(r#"[{"a":1},{"a":1}]"#).is_ok());
    }

    #[test]
    fn refuses_an_array_in_place_of_an_object() {
        assert!(read(r#"["a"]"#).unwrap().object("it").is_err());
        let value = read(r#"{"a":["x"]}"#).unwrap();
        let object = value.object("it").unwrap();
        assert!(object.object("a").is_err() && object.strings("a").is_err());
    }

    #[test]
    fn e34_bounds_size_depth_and_number_of_values() {
        assert!(parse(b"[ ]", 2, "it").is_err() && parse(b"[]", 2, "it").is_ok());
        assert!(read(&format!("{}{}", "[".repeat(200), "]".repeat(200))).is_err());
        assert!(read(&format!("[{}1]", "1,".repeat(MAX_VALUES - 2))).is_ok());
        let err = read(&format!("[{}1]", "1,".repeat(MAX_VALUES - 1))).unwrap_err();
        assert!(err.contains("more than 20000 values"), "{err}");
    }

    #[test]
    fn refuses_what_is_not_json_or_has_something_behind_it() {
        for text in ["", " ", "{", "{}x", "{} {}", "{'a':1}", "{\"a\":\"\\ud800\"}", "nul", "\u{feff}{}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(parse(b"\"\xff\"", 9, "it").is_err());
    }

    #[test]
    fn shown_text_is_short_and_printable() {
        assert_eq!(shown("a\n\u{202e}"), "a\\n\\u{202e}");
        assert_eq!(shown(&"x".repeat(101)).len(), 103);
    }
}
