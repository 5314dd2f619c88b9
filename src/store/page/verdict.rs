//! What the page says of a signature: what it claims, and whether a key of the folder made it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;

use crate::domain::digest::Digest;
use crate::domain::payload::SimplePayload;
use crate::signature::SignatureError;
use crate::signature::openpgp::KeyInfo;
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

/// A verdict, and when it ends if that is known.
#[derive(Debug, Clone)]
struct Judged {
    verdict: Arc<Verdict>,
    until: Option<SystemTime>,
}

/// Verdicts of the last minutes.
#[derive(Debug)]
pub(in crate::store) struct Verdicts(Cache<Key, Judged>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build())
    }
}

impl Verdicts {
    /// What the page says of this signature.
    pub(super) fn of(&self, place: &Place, kept: &Kept, keys: &Keys, certificates: &[KeyInfo]) -> Arc<Verdict> {
        self.of_time(place, kept, keys, certificates, SystemTime::now())
    }

    fn of_time(
        &self,
        place: &Place,
        kept: &Kept,
        keys: &Keys,
        certificates: &[KeyInfo],
        now: SystemTime,
    ) -> Arc<Verdict> {
        let mut content = [0; 32];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &kept.content);
        content.copy_from_slice(hash.as_ref());
        let key = (content, place.digest().clone(), keys.generation.clone());
        if let Some(known) = self.0.get(&key).filter(|known| known.until.is_none_or(|until| now < until)) {
            return known.verdict;
        }
        let (verdict, until) = judge(place, kept, keys, certificates, now);
        let verdict = Arc::new(verdict);
        self.0.insert(key, Judged { verdict: Arc::clone(&verdict), until });
        verdict
    }
}

fn judge(
    place: &Place,
    kept: &Kept,
    keys: &Keys,
    certificates: &[KeyInfo],
    now: SystemTime,
) -> (Verdict, Option<SystemTime>) {
    let said = match check(place, &kept.content) {
        Ok(said) => said,
        Err(why) => return (Verdict::Bad { said: None, why }, None),
    };
    let signed = match keys.ring.verify(&kept.content, now) {
        Ok(signed) => signed,
        Err(SignatureError::UntrustedKey(_)) => return (Verdict::Unknown { said }, None),
        Err(error) => return (Verdict::Bad { said: Some(said), why: error.to_string() }, None),
    };
    // What was verified is what is shown, and not what was read before.
    if SimplePayload::parse(&signed.content).is_ok_and(|payload| payload.reference == said.reference) {
        let fingerprint = &signed.signer.fingerprint;
        let known = certificates.iter().find(|certificate| certificate.fingerprint == *fingerprint);
        let holder = known.and_then(|certificate| certificate.user_ids.first()).unwrap_or(fingerprint).clone();
        return (Verdict::Good { said, holder, file: signed.signer.file }, signed.valid_until);
    }
    (Verdict::Bad { said: None, why: "the signed content is another than what was read".to_owned() }, None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use sequoia_openpgp::cert::CertBuilder;
    use sequoia_openpgp::policy::StandardPolicy;
    use sequoia_openpgp::serialize::SerializeInto as _;
    use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};

    use super::*;
    use crate::signature::openpgp::Keyring;
    use crate::store::disk::Name;

    #[test]
    fn a_remembered_verdict_ends_with_its_key() {
        let (year, now) = (Duration::from_secs(365 * 86_400), SystemTime::now());
        let builder = CertBuilder::general_purpose(Some("a@example.org")).set_validity_period(year);
        let cert = builder.generate().unwrap().0;
        let digest = Digest::sha256(b"image");
        let payload = serde_json::json!({
            "critical": {
                "type": "atomic container signature",
                "image": {"docker-manifest-digest": digest.as_str()},
                "identity": {"docker-reference": "registry.local/a:1"},
            },
            "optional": {},
        });
        let policy = StandardPolicy::new();
        let key = cert.keys().with_policy(&policy, None).secret().for_signing().next().unwrap();
        let mut content = Vec::new();
        let signer = Signer::new(Message::new(&mut content), key.key().clone().into_keypair().unwrap()).unwrap();
        let mut literal = LiteralWriter::new(signer.build().unwrap()).build().unwrap();
        literal.write_all(payload.to_string().as_bytes()).unwrap();
        literal.finalize().unwrap();

        let (ring, _) = Keyring::from_files([("a.pgp", cert.to_vec().unwrap().as_slice())]);
        let keys = Keys { ring, ..Keys::default() };
        let place = Place::new("a", &digest).unwrap();
        let name: Name = "a".repeat(32).parse().unwrap();
        let (kept, verdicts) = (Kept { number: 1, name, content }, Verdicts::default());
        let of = |now| verdicts.of_time(&place, &kept, &keys, &keys.ring.keys(now), now);
        assert!(matches!(*of(now), Verdict::Good { .. }), "{:?}", of(now));
        let later = of(now + year + Duration::from_secs(60));
        assert!(matches!(*later, Verdict::Bad { .. }), "{later:?}");
    }
}
