//! JSON as strictly as containers/image reads it: no member twice in any object, nothing behind the end.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::policy::PolicyError;

/// A value. Objects keep their members in order, each of which is there once.
#[derive(Debug)]
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Text(String),
    /// A number, a truth value or null: nothing that is read is one.
    Other,
}

impl Json {
    /// The whole text. Its size is bounded by the caller, its depth by the reader (128 levels).
    pub(super) fn read(text: &[u8]) -> Result<Self, PolicyError> {
        serde_json::from_slice(text).map_err(|error| PolicyError(format!("not strict JSON: {error}")))
    }
}

/// An object and where it stands.
pub(super) struct Object<'a> {
    pub(super) at: &'a str,
    members: Vec<(String, Json)>,
}

impl<'a> Object<'a> {
    pub(super) fn new(json: Json, at: &'a str) -> Result<Self, PolicyError> {
        match json {
            Json::Object(members) => Ok(Self { at, members }),
            _ => Err(PolicyError::at(at, "must be an object")),
        }
    }

    /// Where a member stands.
    pub(super) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Takes a member out.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// A text that may be missing.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, PolicyError> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(PolicyError::at(&self.path(name), "must be a text that is not empty")),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, PolicyError> {
        let missing = PolicyError::at(&self.path(name), "is required");
        self.text(name)?.ok_or(missing)
    }

    /// The rest, of which nothing may be unknown.
    pub(super) fn end(self) -> Result<(), PolicyError> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => {
                let message = "is not known here; a policy with members that are not understood is refused as a whole";
                Err(PolicyError::at(&self.path(name), message))
            }
        }
    }

    pub(super) fn into_members(self) -> Vec<(String, Json)> {
        self.members
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
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }
}
