//! Keys that a command left behind when it was broken off (`kill -9`, a power failure).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::choice::PlannedKey;
use super::home::deletion;
use crate::signing::gnupg::{Algorithm, Gnupg, Passphrase, Secret, SecretKey};
use crate::signing::makers::{Maker, Makers};

/// gpg counts a lifetime from when it began, podseal's own second may be another.
const TOLERANCE: Duration = Duration::from_secs(60);

/// The key that is recorded as the one in use although the key file, which holds others of the maker, lacks it.
pub(super) fn unpublished(makers: &Makers, maker: &Maker, now: SystemTime) -> Option<String> {
    let active = maker.active()?;
    let held = makers.certificates(maker, now).ok()?;
    (!held.is_empty() && held.iter().all(|key| key.fingerprint != active.fingerprint))
        .then(|| active.fingerprint.clone())
}

/// The secret keys of a home. What cannot be found out is not there: nothing is refused because of leftovers.
pub(super) fn secret_keys(gnupg: &Gnupg) -> Vec<SecretKey> {
    // gpg would make a home that is not there, and leave root's files in that of somebody else.
    let owner = |path: &Path| std::fs::metadata(path).ok().filter(Metadata::is_dir).map(|about| about.uid());
    let home = gnupg.folder().and_then(|home| owner(&home));
    if home.is_none() || home != owner(Path::new("/proc/self")) {
        return Vec::new();
    }
    gnupg.secret_keys().unwrap_or_default()
}

/// Those of these keys of its home that say that they are this maker's and are neither recorded nor in a key file, but for
/// one whose maker is only half added; the oldest first.
pub(super) fn unrecorded(makers: &Makers, maker: &Maker, keys: &[SecretKey]) -> Vec<SecretKey> {
    let unknown = |key: &SecretKey| {
        key.is_usable() && key.has_secret && !key.is_on_card() && makers.holder(&key.fingerprint).is_none()
    };
    let mut left: Vec<_> = keys.iter().filter(|key| unknown(key) && is_of(key, maker)).cloned().collect();
    if !left.is_empty() {
        let published = makers.published_fingerprints();
        let half = makers.half_added(&maker.name);
        let half =
            |key: &SecretKey| half.is_some_and(|half| half.keys.iter().any(|own| own.fingerprint == key.fingerprint));
        left.retain(|key| !published.contains(&key.fingerprint) || half(key));
    }
    left.sort_by_key(|key| key.created);
    left
}

/// Whether it has exactly the User ID that podseal gives to this maker's keys.
fn is_of(key: &SecretKey, maker: &Maker) -> bool {
    let note = if maker.note.is_empty() { String::new() } else { format!("({})", maker.note) };
    let address = format!("<{}>", maker.email);
    let parts: Vec<_> = [&maker.full_name, &note, &address].into_iter().filter(|part| !part.is_empty()).collect();
    let whole = parts.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let alone = maker.full_name.is_empty() && note.is_empty();
    matches!(key.user_ids.as_slice(), [only] if *only == whole || (alone && *only == maker.email))
}

/// Whether it is what was asked for now: kind, size, lifetime, and the passphrase opens it.
pub(super) fn fits(key: &SecretKey, planned: &PlannedKey, gnupg: &Gnupg) -> bool {
    let PlannedKey::New { algorithm, bits, lifetime, passphrase } = planned else { return false };
    // RFC 9580, section 9.1.
    let (number, subkeys) = match algorithm {
        Algorithm::Rsa => (1, 1),
        Algorithm::RsaSign => (1, 0),
        Algorithm::Dsa => (17, 1),
        Algorithm::DsaSign => (17, 0),
        Algorithm::Ed25519 => (22, 0),
    };
    let sized = *algorithm == Algorithm::Ed25519 || key.bits == *bits;
    let lasts = match (key.created, key.expires, lifetime) {
        (_, None, None) => true,
        (Some(created), Some(expires), Some(lifetime)) => {
            expires.duration_since(created).is_ok_and(|own| own.abs_diff(*lifetime) <= TOLERANCE)
        }
        _ => false,
    };
    if (key.algorithm, key.subkeys.len()) != (number, subkeys) || !sized || !lasts {
        return false;
    }
    let protected = !matches!(passphrase, Passphrase::Prompted(secret) if secret.is(&Secret::none()));
    gnupg.is_protected(&key.fingerprint).is_ok_and(|is| is == protected)
        && gnupg.sign(&key.fingerprint, b"podseal", passphrase).is_ok()
}

/// What is said of one that is not used.
pub(super) fn note(maker: &Maker, fingerprint: &str, gnupg: &Gnupg) -> String {
    format!(
        "note: {} holds key {fingerprint} for {}, which is neither recorded nor published, perhaps because it was broken off; \
         the same command again goes on with it; to delete it: {}",
        gnupg.place(),
        maker.name,
        deletion(gnupg.home.as_deref(), fingerprint)
    )
}
