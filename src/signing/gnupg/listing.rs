//! gpg's machine-readable key lists (doc/DETAILS of `GnuPG`, "Format of the colon listings").

use std::time::{Duration, SystemTime};

/// A key whose secret part is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretKey {
    /// The primary key's, upper-case hexadecimal.
    pub fingerprint: String,
    /// gpg's letter for it: `r` revoked, `e` expired, `d` disabled, `i` invalid; others are fine.
    pub validity: char,
    /// The algorithm's number (RFC 9580, section 9.1).
    pub algorithm: u8,
    /// Bits of the key.
    pub bits: u32,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// gpg's letters for what the whole key may do, upper case: `S` signs.
    pub capabilities: String,
    /// The serial number of the card that holds the primary key's secret part.
    pub card: Option<String>,
    /// Whether the primary key's secret part is there at all (else only subkeys').
    pub has_secret: bool,
    /// User IDs that are neither revoked nor expired.
    pub user_ids: Vec<String>,
    /// The subkeys.
    pub subkeys: Vec<SecretSubkey>,
}

/// A subkey.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretSubkey {
    /// Upper-case hexadecimal.
    pub fingerprint: String,
    /// As of [`SecretKey::validity`].
    pub validity: char,
    /// gpg's letters for what it may do, lower case: `s` signs.
    pub capabilities: String,
    /// The serial number of the card that holds its secret part.
    pub card: Option<String>,
    /// Whether its secret part is there.
    pub has_secret: bool,
}

fn is_alive(validity: char) -> bool {
    !matches!(validity, 'r' | 'e' | 'd' | 'i' | 'n')
}

impl SecretKey {
    /// Whether it is neither revoked nor expired, and may sign.
    pub fn is_usable(&self) -> bool {
        is_alive(self.validity) && self.capabilities.contains('S')
    }

    /// Whether a card holds a secret part of it.
    pub fn is_on_card(&self) -> bool {
        self.card.is_some() || self.subkeys.iter().any(|subkey| subkey.card.is_some())
    }

    /// Whether this names it: a fingerprint or long key ID of it or of a subkey, or an address.
    pub fn is_named(&self, name: &str) -> bool {
        let plain: String = name.chars().filter(|c| !c.is_whitespace()).collect();
        let hex = plain.strip_prefix("0x").unwrap_or(&plain).to_ascii_uppercase();
        if matches!(hex.len(), 16 | 40 | 64) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let subkeys = self.subkeys.iter().map(|subkey| &subkey.fingerprint);
            return [&self.fingerprint].into_iter().chain(subkeys).any(|print| print.ends_with(&hex));
        }
        let wanted = name.trim().trim_start_matches('<').trim_end_matches('>');
        self.user_ids.iter().any(|id| address(id).eq_ignore_ascii_case(wanted))
    }
}

/// What stands in angle brackets, or all of it.
fn address(user_id: &str) -> &str {
    user_id.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(user_id, |(address, _)| address)
}

/// Reads a list. Lines that are not understood are passed over: nothing is decided by them.
pub(super) fn read(text: &str) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = Vec::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
        match (field(1), keys.last_mut()) {
            ("sec", _) => keys.push(primary(&field)),
            ("ssb", Some(key)) => key.subkeys.push(subkey(&field)),
            ("uid", Some(key)) if is_alive(letter(field(2))) => key.user_ids.push(unescape(field(10))),
            ("fpr", Some(key)) => {
                // It belongs to the last key or subkey that has none yet.
                let place = key.subkeys.last_mut().map_or(&mut key.fingerprint, |subkey| &mut subkey.fingerprint);
                if place.is_empty() {
                    field(10).clone_into(place);
                }
            }
            _ => {}
        }
    }
    keys.retain(|key| !key.fingerprint.is_empty());
    keys
}

fn primary<'a>(field: &impl Fn(usize) -> &'a str) -> SecretKey {
    let (has_secret, card) = token(field(15));
    SecretKey {
        validity: letter(field(2)),
        bits: field(3).parse().unwrap_or(0),
        algorithm: field(4).parse().unwrap_or(0),
        created: time(field(6)),
        expires: time(field(7)),
        capabilities: field(12).chars().filter(char::is_ascii_uppercase).collect(),
        has_secret,
        card,
        ..SecretKey::default()
    }
}

fn subkey<'a>(field: &impl Fn(usize) -> &'a str) -> SecretSubkey {
    let (has_secret, card) = token(field(15));
    SecretSubkey {
        validity: letter(field(2)),
        capabilities: field(12).to_owned(),
        has_secret,
        card,
        fingerprint: String::new(),
    }
}

/// Field 15: `+` is in the home, `#` is not there, anything else is a card's serial number.
fn token(text: &str) -> (bool, Option<String>) {
    match text {
        "" | "+" => (true, None),
        "#" => (false, None),
        serial => (true, Some(serial.to_owned())),
    }
}

fn letter(text: &str) -> char {
    text.chars().next().unwrap_or('-')
}

fn time(text: &str) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))
}

/// Colons and control characters are written `\x3a`; control characters are left out.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.strip_prefix(b"x").and_then(|hex| hex.get(..2)).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'\\');
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}
