//! What every metadata file is: a signed part and signatures over its canonical form.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::canonical;
use super::key::Method;
use crate::signature::SignatureError;
use crate::signature::json::{Json, Object, malformed, parse_larger, shown};

/// Signatures of one file.
const MAX_SIGNATURES: usize = 64;
/// Values in one file: some twenty thousand tags.
const MAX_VALUES: usize = 100_000;
/// Bytes of one signature. An RSA signature of 8192 bits has 1024.
const MAX_SIGNATURE: usize = 2048;

/// A file that was read and is not verified.
#[derive(Debug)]
pub(super) struct Envelope {
    /// What messages call it.
    pub(super) name: String,
    /// The canonical form of the signed part.
    pub(super) message: Vec<u8>,
    pub(super) signatures: Vec<Signature>,
    signed: Json,
}

#[derive(Debug)]
pub(super) struct Signature {
    pub(super) key_id: String,
    pub(super) method: Method,
    pub(super) bytes: Vec<u8>,
}

/// What stands at the head of every signed part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// From 1.
    pub(super) version: u64,
    pub(super) expires: SystemTime,
}

impl Envelope {
    /// Reads a file of at most `max` bytes. Signatures by methods that are not known are left out.
    pub(super) fn read(bytes: &[u8], max: usize, name: &str) -> Result<Self, SignatureError> {
        let Json::Object(mut tree) = parse_larger(bytes, max, MAX_VALUES, name)? else {
            return Err(malformed(format!("{name} is not an object")));
        };
        let signed = tree.remove("signed").unwrap_or(Json::Null);
        signed.object("signed")?;
        let outer = Json::Object(tree);
        let mut signatures = Vec::new();
        for value in outer.object(name)?.list("signatures", MAX_SIGNATURES)? {
            let signature = value.object("a signature")?;
            let bytes = BASE64_STANDARD.decode(signature.text("sig")?).ok().filter(|b| b.len() <= MAX_SIGNATURE);
            let bytes = bytes.ok_or_else(|| malformed(format!("a signature of {name} is not base64, or too long")))?;
            if let Some(method) = Method::named(signature.text("method")?) {
                signatures.push(Signature { key_id: signature.text("keyid")?.to_owned(), method, bytes });
            }
        }
        Ok(Self { name: name.to_owned(), message: canonical::write(&signed)?, signatures, signed })
    }

    /// The signed part, which must say that it is of this type.
    pub(super) fn signed(&self, kind: &str) -> Result<Object<'_>, SignatureError> {
        let signed = self.signed.object(&self.name)?;
        if signed.text("_type")? == kind {
            Ok(signed)
        } else {
            Err(malformed(format!("{} is of another type than {kind}", self.name)))
        }
    }
}

impl Head {
    pub(super) fn read(signed: Object<'_>) -> Result<Self, SignatureError> {
        let version = u64::try_from(signed.integer("version")?).ok().filter(|version| *version >= 1);
        let version = version.ok_or_else(|| malformed("a version below 1"))?;
        let text = signed.text("expires")?;
        let expires = text.parse::<jiff::Timestamp>();
        let expires = expires.map_err(|_| malformed(format!("{} is no time", shown(text))))?;
        Ok(Self { version, expires: expires.into() })
    }

    /// Refuses what has expired; `name` is what the message calls it.
    pub(super) fn check(&self, now: SystemTime, name: &str) -> Result<(), SignatureError> {
        if now < self.expires {
            return Ok(());
        }
        let when = jiff::Timestamp::try_from(self.expires).map(|time| time.strftime("%F").to_string());
        Err(SignatureError::NotValid(format!("{name} expired on {}", when.unwrap_or_default())))
    }
}
