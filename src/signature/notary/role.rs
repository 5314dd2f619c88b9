//! Who may sign a file, and how many of them have to.

use std::collections::BTreeSet;

use super::document::Envelope;
use super::key::{self, Key};
use crate::signature::SignatureError;
use crate::signature::json::{Json, Object, malformed};

/// Keys of one role.
const MAX_KEYS: usize = 64;

/// Keys and threshold of a role.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) keys: Vec<Key>,
    threshold: usize,
}

impl Role {
    /// Reads `{"keyids": […], "threshold": n}` with the keys that the same file holds. A threshold below one is refused,
    /// or anything would be signed enough.
    pub(super) fn read(role: Object<'_>, keys: Object<'_>) -> Result<Self, SignatureError> {
        let ids = match role.get("keyids") {
            // A delegation whose keys were all taken away; nobody can sign for it.
            Some(Json::List(list)) if list.len() <= MAX_KEYS => strings(list),
            _ => None,
        };
        let ids = ids.ok_or_else(|| malformed(format!("a role has no list of at most {MAX_KEYS} key ids")))?;
        let threshold = usize::try_from(role.integer("threshold")?).ok().filter(|threshold| *threshold >= 1);
        let threshold = threshold.ok_or_else(|| malformed("a role has a threshold below 1"))?;
        Ok(Self { keys: key::named(keys, &ids)?, threshold })
    }

    /// The same threshold over fewer keys.
    pub(super) fn only(&self, keep: impl Fn(&Key) -> bool) -> Self {
        Self { keys: self.keys.iter().filter(|key| keep(key)).cloned().collect(), threshold: self.threshold }
    }

    /// Whether so many different keys signed as the threshold says. A key counts once, whatever ids and certificates it
    /// has and however often it signed.
    pub(super) fn verify(&self, envelope: &Envelope) -> Result<(), SignatureError> {
        let mut signed = BTreeSet::new();
        for signature in &envelope.signatures {
            let keys = self.keys.iter().filter(|key| key.id == signature.key_id && !signed.contains(&key.plain_id));
            let fits = |key: &&Key| key.verifies(signature.method, &envelope.message, &signature.bytes);
            if let Some(key) = keys.clone().find(fits) {
                signed.insert(key.plain_id.clone());
            }
        }
        if signed.len() >= self.threshold {
            return Ok(());
        }
        Err(SignatureError::Key(format!(
            "{} is validly signed by {} of the {} keys that have to sign it",
            envelope.name,
            signed.len(),
            self.threshold
        )))
    }
}

/// A list of strings.
pub(super) fn strings(list: &[Json]) -> Option<Vec<String>> {
    list.iter().map(|value| if let Json::Text(text) = value { Some(text.clone()) } else { None }).collect()
}
