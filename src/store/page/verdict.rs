//! What the page says of a signature: what it claims, and whether a key of the folder made it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;

use crate::domain::digest::Digest;
use crate::domain::payload::SimplePayload;
use crate::signature::SignatureError;
use crate::store::check::{Said, check};
use crate::store::disk::{Kept, Place};
use crate::store::keys::Keys;

/// How long and of how many it is remembered; keys expire and change meanwhile.
const REMEMBERED: Duration = Duration::from_secs(300);
const MAX_REMEMBERED: u64 = 20_000;

/// What is known of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Verdict {
    /// A key of the folder made it: the key's holder and the key file.
    Good { said: Said, holder: String, file: String },
    /// Of a key that is not in the folder.
    Unknown { said: Said },
    /// Of a key in the folder, and not valid; or not a signature at all.
    Bad { said: Option<Said>, why: String },
}

type Key = ([u8; 32], Digest, Option<Digest>);

/// Verdicts of the last minutes.
#[derive(Debug)]
pub(in crate::store) struct Verdicts(Cache<Key, Arc<Verdict>>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build())
    }
}

impl Verdicts {
    /// What the page says of this signature.
    pub(super) fn of(&self, place: &Place, kept: &Kept, keys: &Keys) -> Arc<Verdict> {
        let mut content = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &kept.content);
        content.copy_from_slice(hash.as_ref());
        let key = (content, place.digest().clone(), keys.generation.clone());
        self.0.get_with(key, || Arc::new(judge(place, kept, keys)))
    }
}

fn judge(place: &Place, kept: &Kept, keys: &Keys) -> Verdict {
    let said = match check(place, &kept.content) {
        Ok(said) => said,
        Err(why) => return Verdict::Bad { said: None, why },
    };
    let signed = match keys.ring.verify(&kept.content, SystemTime::now()) {
        Ok(signed) => signed,
        Err(SignatureError::UntrustedKey(_)) => return Verdict::Unknown { said },
        Err(error) => return Verdict::Bad { said: Some(said), why: error.to_string() },
    };
    // What was verified is what is shown, and not what was read before.
    if SimplePayload::parse(&signed.content).is_ok_and(|payload| payload.reference == said.reference) {
        let fingerprint = &signed.signer.fingerprint;
        let known = keys.certificates.iter().find(|certificate| certificate.fingerprint == *fingerprint);
        let holder = known.and_then(|certificate| certificate.user_ids.first()).unwrap_or(fingerprint).clone();
        return Verdict::Good { said, holder, file: signed.signer.file };
    }
    Verdict::Bad { said: None, why: "the signed content is another than what was read".to_owned() }
}
