//! Docker configurations as JSON: `{"auths": {<key>: <entry>}}` and, older, `{<key>: <entry>}`.
//!
//! An entry has `auth` (Base64 of `user:password`), or `username` and `password`, and perhaps `identitytoken`. `auth` wins
//! over the two. `email` is ignored, and so is `registrytoken`, a short-lived answer of a token service which the kubelet
//! does not read either. Field names are matched without case, as Go matches them.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::key::Key;
use super::{Credential, wipe};

/// The data key of Secrets of type `kubernetes.io/dockerconfigjson`.
pub(super) const CONFIG_JSON: &str = ".dockerconfigjson";
/// The data key of Secrets of type `kubernetes.io/dockercfg`.
pub(super) const DOCKERCFG: &str = ".dockercfg";

/// What Kubernetes allows for a whole Secret.
const MAX_BYTES: usize = 256 << 10;
const MAX_ENTRIES: usize = 128;
/// For one user name, password or token; the longest known are a few KiB.
const MAX_FIELD: usize = 64 << 10;

/// Go's standard alphabet, with or without padding, unused bits not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The usable entries in the order of their keys, and a line for each of the others.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) entries: Vec<(Key, Credential)>,
    pub(super) problems: Vec<String>,
}

/// Reads `{"auths": …}`. `what` names the bytes in messages.
pub(super) fn config_json(what: &str, bytes: &[u8]) -> Result<Parsed, String> {
    let mut root = object(what, bytes)?;
    let mut problems = Vec::new();
    if ["credsStore", "credHelpers"].iter().any(|name| take(&mut root, name).is_some()) {
        problems.push(format!("{what} names credential helpers, which are not run; store the credentials in `auths`"));
    }
    let parsed = match take(&mut root, "auths") {
        Some(Value::Object(auths)) => entries(what, auths),
        Some(_) => return Err(format!("`auths` of {what} is not a JSON object of registries")),
        None => {
            problems.push(format!("{what} has no `auths`, so no credentials"));
            Parsed::default()
        }
    };
    problems.extend(parsed.problems);
    Ok(Parsed { entries: parsed.entries, problems })
}

/// Reads the older form without `auths`.
pub(super) fn dockercfg(what: &str, bytes: &[u8]) -> Result<Parsed, String> {
    object(what, bytes).map(|root| entries(what, root))
}

fn object(what: &str, bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("{what} is larger than {MAX_BYTES} bytes"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err(format!("{what} is not a JSON object")),
        // Position only: the message could quote a secret.
        Err(e) => Err(format!("{what} is not JSON (line {}, column {})", e.line(), e.column())),
    }
}

fn entries(what: &str, auths: Map<String, Value>) -> Parsed {
    let mut parsed = Parsed::default();
    if auths.len() > MAX_ENTRIES {
        parsed.problems.push(format!("{what} has more than {MAX_ENTRIES} registries; the others are not used"));
    }
    for (text, value) in auths.into_iter().take(MAX_ENTRIES) {
        // A key that is no registry is not repeated: it may be a secret that went to the wrong place.
        let Some(key) = Key::parse(&text) else {
            parsed.problems.push(format!("{what} has an entry whose key is not host[:port][/path]"));
            continue;
        };
        match credential(value) {
            Ok(credential) => parsed.entries.push((key, credential)),
            Err(why) => parsed.problems.push(format!("{what}, entry {:?}: {why}", key.text())),
        }
    }
    parsed
}

fn credential(value: Value) -> Result<Credential, String> {
    let Value::Object(mut entry) = value else {
        return Err("not a JSON object".to_owned());
    };
    let mut field = |name: &str| match take(&mut entry, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) if text.len() <= MAX_FIELD => Ok(text),
        Some(Value::String(_)) => Err(format!("`{name}` is longer than {MAX_FIELD} bytes")),
        Some(_) => Err(format!("`{name}` is not a string")),
    };
    let (auth, token) = (field("auth")?, field("identitytoken")?);
    let (user, password) = if auth.is_empty() {
        (field("username")?, field("password")?)
    } else {
        decode(auth).ok_or("`auth` is not the Base64 form of user:password")?
    };
    Credential::new(user, password, token).ok_or_else(|| "no user name, password or identity token".to_owned())
}

/// User name and password. Line ends within are skipped as Go's decoder does.
fn decode(auth: String) -> Option<(String, String)> {
    let mut compact = auth.trim().to_owned();
    compact.retain(|c| !matches!(c, '\r' | '\n'));
    wipe(auth);
    let decoded = BASE64.decode(&compact);
    wipe(compact);
    let text = String::from_utf8(decoded.ok()?).ok()?;
    let pair = text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()));
    wipe(text);
    pair
}

/// Removes a field whose name is this one without regard to case; `null` is no field.
fn take(object: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let actual = object.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
    object.remove(&actual).filter(|value| !value.is_null())
}
