//! Objects of a policy, whose members are all to be understood.

use super::policy::PolicyError;
use crate::domain::json::Json;

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
