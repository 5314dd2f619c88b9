//! What an upload is beside the signatures that there are: another form of one of them, or one too many of its key.
//!
//! Nobody is to take all places. Who has a maker's signature can write it in any number of forms without the key, so they
//! count as the same one; and one key has no more than a few. Keys are made easily, so where it is known whose count, all
//! others together have half of the places: a known maker's signature finds room.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;

use super::check::{Core, Said, check};
use super::disk::{Kept, Place};
use super::keys::{KeyFolder, Keys};
use super::room;
use crate::domain::digest::Digest;
use crate::signature::openpgp::inspect;

/// Signatures of one digest by one key.
pub(super) const OF_ONE_KEY: usize = 16;
/// A key ID is so many hexadecimal digits of the fingerprint.
const KEY_ID: usize = 16;
/// Of so many signatures it is remembered what they are: some may have to be decompressed to find out.
const MAX_REMEMBERED: u64 = 20_000;

/// What signatures are, by the SHA-256 of their bytes; nothing of what cannot be read.
#[derive(Debug)]
pub(super) struct Cores(Cache<Digest, Option<Core>>);

impl Default for Cores {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

impl Cores {
    fn of(&self, content: &[u8]) -> Option<Core> {
        self.0.get_with(Digest::sha256(content), || {
            inspect(content).ok().map(|seen| Core { statement: seen.statement, values: seen.values })
        })
    }
}

/// How long it is remembered whose a signature is; keys expire and change meanwhile.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Whether a key of the folder made a signature, by the bytes of it and of the key files; and until when that is so.
#[derive(Debug)]
pub(super) struct Known(Cache<(Digest, Option<Digest>), (bool, Option<SystemTime>)>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build())
    }
}

impl Known {
    /// Whether one of these keys made it, and counts now.
    pub(super) fn made(&self, keys: &Keys, content: &[u8]) -> bool {
        let now = SystemTime::now();
        let key = (Digest::sha256(content), keys.generation.clone());
        if let Some((made, until)) = self.0.get(&key)
            && until.is_none_or(|until| now < until)
        {
            return made;
        }
        let verified = keys.ring.verify(content, now);
        let until = verified.as_ref().ok().and_then(|signed| signed.valid_until);
        self.0.insert(key, (verified.is_ok(), until));
        verified.is_ok()
    }
}

/// A signature that somebody uploads.
pub(super) struct Newcomer<'a> {
    pub(super) cores: &'a Cores,
    pub(super) known: &'a Known,
    /// Most signatures of a digest.
    pub(super) places: usize,
    pub(super) folder: &'a KeyFolder,
    pub(super) place: &'a Place,
    pub(super) content: &'a [u8],
    pub(super) said: &'a Said,
}

impl Newcomer<'_> {
    /// Whether this is the same signature, in whatever form.
    ///
    /// The same statement signed by other values is another signature as long as nobody knows which of them are good:
    /// else whoever puts nonsense there first would keep the maker's own out. A key of the folder knows, and says the
    /// same thing once: so what can be made without it, as (r, -s) from ECDSA's (r, s), is the same.
    pub(super) fn is(&self, kept: &Kept) -> bool {
        let Some(core) = self.cores.of(&kept.content) else { return false };
        if core.statement != self.said.core.statement {
            return false;
        }
        core.values == self.said.core.values || {
            let keys = self.folder.look();
            let by = signer(&keys, self.content);
            by.is_some() && by == signer(&keys, &kept.content)
        }
    }

    /// Why this signature is one too many, if it is.
    pub(super) fn objection(&self, kept: &[Kept]) -> Option<String> {
        self.of_same_key(kept).or_else(|| self.of_strangers(kept)).or_else(|| self.of_size(kept))
    }

    /// Those that no key of the folder verifies have half of the places together, unless there is no key there: then
    /// nobody knows for whom to keep the other half.
    fn of_strangers(&self, kept: &[Kept]) -> Option<String> {
        let share = self.places / 2;
        if kept.len() < share {
            return None;
        }
        let keys = self.folder.look();
        if keys.ring.is_empty() || self.known.made(&keys, self.content) {
            return None;
        }
        let strangers = kept.iter().filter(|kept| !self.known.made(&keys, &kept.content)).count();
        (strangers >= share).then(|| {
            format!("there are {share} signatures of this digest by keys that are not in /keys, and no more of those are kept")
        })
    }

    /// What is stored is to be in the answer to whoever asks for all.
    fn of_size(&self, kept: &[Kept]) -> Option<String> {
        let keys = self.folder.look();
        let has_room = room::has_room(kept, self.content, |content| self.known.made(&keys, content));
        (!has_room).then(|| {
            "with this one the signatures of this digest would be larger than readers take at once (4 MiB); make a smaller one"
                .to_owned()
        })
    }

    /// Whether there are as many by the same key as there may be.
    ///
    /// Those count that name a key that this one names. What a signature names is its own claim, so a key of the folder
    /// has its places for what it verifies alone: whoever claims another's name takes no place from them.
    fn of_same_key(&self, kept: &[Kept]) -> Option<String> {
        if kept.len() < OF_ONE_KEY {
            return None;
        }
        let named = key_ids(&self.said.issuers);
        let of_same = |other: &&Kept| {
            let Ok(other) = check(self.place, &other.content) else { return false };
            let other = key_ids(&other.issuers);
            (named.is_empty() && other.is_empty()) || !named.is_disjoint(&other)
        };
        let same: Vec<&Kept> = kept.iter().filter(of_same).collect();
        if same.len() < OF_ONE_KEY {
            return None;
        }
        let keys = self.folder.look();
        let by = signer(&keys, self.content);
        let count = same.iter().filter(|other| signer(&keys, &other.content) == by).count();
        (count >= OF_ONE_KEY).then(|| {
            format!("there are {OF_ONE_KEY} signatures of this digest by the same key already, and no more are kept")
        })
    }
}

/// The key of the folder that made a signature.
fn signer(keys: &Keys, content: &[u8]) -> Option<String> {
    keys.ring.verify(content, SystemTime::now()).ok().map(|signed| signed.signer.fingerprint)
}

/// Key IDs of fingerprints and key IDs: the end of version 4's fingerprints, the beginning of later ones.
fn key_ids(issuers: &[String]) -> HashSet<&str> {
    let id = |issuer: &str| match issuer.len() {
        64 => (0, KEY_ID),
        length => (length.saturating_sub(KEY_ID), length),
    };
    issuers.iter().filter_map(|issuer| issuer.get(id(issuer).0..id(issuer).1)).collect()
}
