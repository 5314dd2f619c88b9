//! The fields of a maker: the same rules for what is typed and for what stands in the registry, which people edit.

use std::collections::HashSet;

use super::record::Maker;
use crate::api::check_lookaside;
use crate::cluster::objects::is_subdomain;
use crate::domain::printable::printable;
use crate::domain::scope::{HostPattern, Scope};

/// Longest name of a key file, as the controller takes it (a label's value).
const MAX_FILE: usize = 63;
/// Longest text of a User ID's part, in bytes.
const MAX_TEXT: usize = 200;

/// The path in normal form, so that two ways to write it are one. The error says what a maker's path is.
pub fn maker_path(text: &str) -> Result<String, String> {
    let (scope, warnings) = Scope::parse(text).map_err(|error| format!("{text}: {error}"))?;
    match (&scope.host, warnings.first()) {
        (HostPattern::Exact(_), None) => Ok(scope.to_string()),
        (HostPattern::Exact(_), Some(warning)) => Err(format!("{text}: {warning}")),
        _ => Err(format!("{text}: a maker signs for one registry: give its host[:port][/path]")),
    }
}

/// An address that policies and registries.d both take.
pub fn store_url(text: &str) -> Result<String, String> {
    match check_lookaside(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(format!("expected http://HOST[:PORT]/PATH or https://…: it {why}")),
    }
}

/// A part of a User ID.
pub fn check_text(text: &str) -> Result<(), String> {
    let forbidden = |c: char| c.is_control() || matches!(c, '<' | '>' | '(' | ')');
    if text.contains(forbidden) || text.len() > MAX_TEXT {
        return Err("at most 200 bytes without <, >, parentheses and control characters".to_owned());
    }
    Ok(())
}

/// Whether all of them are what podseal would write. The error names the maker, by its place, and the field.
pub(super) fn check(makers: &[Maker]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (place, maker) in (1..).zip(makers) {
        let wrong = |(field, why): (&str, String)| format!("maker {place}, {field}: {}", printable(&why));
        check_maker(maker).map_err(wrong)?;
        let keys = maker.keys.iter().map(|key| ("keys.fingerprint", key.fingerprint.clone()));
        // An address says which key is meant; a key may have none.
        let email = Some(("email", maker.email.to_ascii_lowercase())).filter(|(_, email)| !email.is_empty());
        let own = [("name", maker.name.clone()), ("path", maker.path.clone())];
        for (field, value) in own.into_iter().chain(email).chain(keys) {
            if !seen.insert((field, value.clone())) {
                return Err(wrong((field, format!("{value} is there twice"))));
            }
        }
    }
    Ok(())
}

/// The same for makers whose key was only begun: another of that name may be there by now.
pub(super) fn check_begun(makers: &[Maker]) -> Result<(), String> {
    makers
        .iter()
        .try_for_each(|maker| check_maker(maker).map_err(|(field, why)| format!("begun, {field}: {}", printable(&why))))
}

fn check_maker(maker: &Maker) -> Result<(), (&'static str, String)> {
    let is_time = |text: &str| text.parse::<jiff::Timestamp>().is_ok();
    if !is_subdomain(&maker.name) || maker.name.len() + ".pgp".len() > MAX_FILE {
        return Err(("name", format!("{:?} cannot be a maker's name", maker.name)));
    }
    match maker_path(&maker.path) {
        Ok(normal) if normal == maker.path => {}
        Ok(normal) => return Err(("path", format!("{:?}: write {normal}", maker.path))),
        Err(why) => return Err(("path", why)),
    }
    // Whatever else it names would be read, published and overwritten.
    if !["pgp", "asc", "gpg"].iter().any(|ending| maker.key_file == format!("{}.{ending}", maker.name)) {
        return Err(("keyFile", format!("{:?}: expected {}.pgp", maker.key_file, maker.name)));
    }
    for (field, text) in [("email", &maker.email), ("fullName", &maker.full_name), ("note", &maker.note)] {
        check_text(text).map_err(|why| (field, why))?;
    }
    if let Some(url) = &maker.lookaside {
        store_url(url).map_err(|why| ("lookaside", why))?;
    }
    if let Some(home) = &maker.gnupg_home
        && (!home.is_absolute() || home.to_string_lossy().contains(char::is_control))
    {
        return Err(("gnupgHome", "expected an absolute path".to_owned()));
    }
    for key in &maker.keys {
        let upper = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if !matches!(key.fingerprint.len(), 40 | 64) || !key.fingerprint.bytes().all(upper) {
            return Err(("keys.fingerprint", format!("{:?}: expected 40 or 64 digits, upper case", key.fingerprint)));
        }
        if !is_time(&key.created) {
            return Err(("keys.created", format!("{:?} is no time (RFC 3339)", key.created)));
        }
        if let Some(until) = key.until.as_deref().filter(|until| !is_time(until)) {
            return Err(("keys.until", format!("{until:?} is no time (RFC 3339)")));
        }
    }
    Ok(())
}
