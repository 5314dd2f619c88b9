//! How many signatures of one digest one key may have: nobody is to take all places.

use std::collections::HashSet;
use std::time::SystemTime;

use super::check::{Said, check};
use super::disk::{Kept, Place};
use super::keys::{KeyFolder, Keys};

/// Signatures of one digest by one key.
pub(super) const OF_ONE_KEY: usize = 16;
/// A key ID is so many hexadecimal digits of the fingerprint.
const KEY_ID: usize = 16;

/// Why this signature is one too many, if it is.
///
/// Those count that name a key that this one names. What a signature names is its own claim, so a key of the folder has
/// its places for what it verifies alone: whoever claims another's name takes no place from them.
pub(super) fn objection(
    folder: &KeyFolder,
    place: &Place,
    content: &[u8],
    said: &Said,
    kept: &[Kept],
) -> Option<String> {
    if kept.len() < OF_ONE_KEY {
        return None;
    }
    let named = key_ids(&said.issuers);
    let of_same = |other: &&Kept| {
        let Ok(other) = check(place, &other.content) else { return false };
        let other = key_ids(&other.issuers);
        (named.is_empty() && other.is_empty()) || !named.is_disjoint(&other)
    };
    let same: Vec<&Kept> = kept.iter().filter(of_same).collect();
    if same.len() < OF_ONE_KEY {
        return None;
    }
    let keys = folder.look();
    let signer = signer(&keys, content);
    let count = same.iter().filter(|other| self::signer(&keys, &other.content) == signer).count();
    (count >= OF_ONE_KEY).then(|| {
        format!("there are {OF_ONE_KEY} signatures of this digest by the same key already, and no more are kept")
    })
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
