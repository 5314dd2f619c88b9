//! Signatures as `ImageSignature` objects.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::examine::{Examined, Outcome, shown};
use crate::api::image_signature::{
    ImageSignature, ImageSignatureSpec, ImageSignatureStatus, MAX_CONTENT, MAX_SHOWN, MAX_STORE, MAX_USER_IDS,
    SignatureType, SignerStatus,
};
use crate::domain::digest::{Algorithm, Digest};
use crate::domain::image::Repository;
use crate::signature::openpgp::inspect;

/// Whether a key of the auditor's verified the signature for the image.
pub const VERIFIED: &str = "Verified";
/// Whether it was also made under the expected name.
pub const TRUSTED: &str = "Trusted";
/// The label of what was imported and not judged by anybody.
pub const IMPORTED: &str = "podseal.io/imported";
/// Who made an object, and its value for podseal.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Digits that tell signatures of one digest apart.
const NAME: usize = 32;

/// What all names of records of a digest begin with; `None` for digests other than SHA-256, which are not recorded.
pub fn prefix(digest: &Digest) -> Option<String> {
    (digest.algorithm() == Algorithm::Sha256).then(|| format!("sha256-{}-", digest.hex()))
}

/// The name of the record of a signature that was found for a repository: the same bytes always have the same there, and
/// another one elsewhere, so that nobody takes the place of a record with one that says it was found somewhere else.
pub fn name(digest: &Digest, repository: &Repository, blob: &[u8]) -> Option<String> {
    // A repository has no line break: what is hashed can be taken apart in one way only.
    let whole = [repository.to_string().as_bytes(), b"\n", blob].concat();
    let own = Digest::sha256(&whole);
    Some(format!("{}{}", prefix(digest)?, own.hex().get(..NAME)?))
}

/// Whether a record says that its signature was found for this repository.
pub fn is_of(record: &ImageSignature, repository: &Repository) -> bool {
    record.spec.reference == repository.to_string()
}

/// The record of a signature that was found. The error says why there can be none.
pub fn record(digest: &Digest, repository: &Repository, store: &str, blob: &[u8]) -> Result<ImageSignature, String> {
    if blob.len() > MAX_CONTENT {
        return Err(format!("the signature has more than {MAX_CONTENT} bytes and is not recorded"));
    }
    let name = name(digest, repository, blob)
        .ok_or_else(|| format!("{digest}: signatures of such digests are not recorded"))?;
    let spec = ImageSignatureSpec {
        image: digest.to_string(),
        reference: repository.to_string(),
        kind: SignatureType::SimpleSigning,
        content: BASE64_STANDARD.encode(blob),
        // A URL that cannot be recorded is left out rather than cut: half a URL names another place.
        store: if recordable(store) { store.to_owned() } else { String::new() },
    };
    let mut record = ImageSignature::new(&name, spec);
    record.labels_mut().insert(MANAGED_BY.to_owned(), "podseal".to_owned());
    Ok(record)
}

/// As the definition has it: characters of URLs and no others.
fn recordable(store: &str) -> bool {
    store.len() <= MAX_STORE && store.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b))
}

/// The signature that a record holds. It is as untrusted as any: whoever may create records decides what is in them.
pub fn blob(record: &ImageSignature) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(&record.spec.content).map_err(|_| "the recorded content is not base64".to_owned())
}

/// Which signature some bytes are, whatever form they have: what it states and by which values, see
/// [`UntrustedSignature`]. Bytes that are no signature state themselves.
///
/// [`UntrustedSignature`]: crate::signature::openpgp::UntrustedSignature
pub fn core(blob: &[u8]) -> (Digest, Option<Digest>) {
    inspect(blob).map_or_else(|_| (Digest::sha256(blob), None), |seen| (seen.statement, Some(seen.values)))
}

/// What is written about a verdict: `at` is when, `by` the user if that is known. Times of conditions that stay as they
/// were are kept.
pub fn status(
    record: &ImageSignature,
    examined: &Examined,
    at: jiff::Timestamp,
    by: Option<&str>,
) -> ImageSignatureStatus {
    let before = record.status.as_ref();
    let generation = record.metadata.generation;
    let right = matches!(examined.outcome, Outcome::Verified | Outcome::IdentityMismatch | Outcome::SignerMismatch);
    let condition = |type_: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let earlier = before.iter().flat_map(|b| &b.conditions).find(|c| c.type_ == type_ && c.status == status);
        let reason = if holds { type_ } else { examined.outcome.reason() };
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shown(&examined.message),
            observed_generation: generation,
            last_transition_time: earlier.map_or(Time(at), |c| c.last_transition_time.clone()),
        }
    };
    let proved = examined.signer.as_ref();
    ImageSignatureStatus {
        identity: proved.and_then(|_| examined.identity.as_deref().map(short)),
        created: proved.and_then(|_| examined.made()),
        signer: proved.map(|signer| SignerStatus {
            fingerprint: signer.fingerprint.clone(),
            user_ids: signer.user_ids.iter().take(MAX_USER_IDS).map(|id| short(id)).collect(),
            key_id: examined.key_id().unwrap_or_default(),
        }),
        verified_at: Some(at.to_string()),
        verified_by: by.map(short),
        conditions: vec![
            condition(VERIFIED, right && proved.is_some()),
            condition(TRUSTED, examined.outcome == Outcome::Verified),
        ],
    }
}

fn short(text: &str) -> String {
    shown(text).chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::sha256(b"manifest")
    }

    #[test]
    fn a_signature_has_one_name_and_another_signature_another() {
        let (here, there) = (Repository::parse("r.io/a").unwrap(), Repository::parse("r.io/b").unwrap());
        let one = name(&digest(), &here, b"one").unwrap();
        assert_eq!(one.len(), 7 + 64 + 1 + 32);
        assert!(one.starts_with(&prefix(&digest()).unwrap()));
        assert_eq!(Some(one.clone()), name(&digest(), &here, b"one"));
        assert_ne!(Some(one.clone()), name(&digest(), &here, b"two"));
        assert_ne!(Some(one), name(&digest(), &there, b"one"), "one record for each repository");
        let long = Digest::of(Algorithm::Sha512, b"manifest");
        assert_eq!((prefix(&long), name(&long, &here, b"one")), (None, None));
    }

    #[test]
    fn a_store_that_the_definition_refuses_is_left_out() {
        let repository = Repository::parse("r.io/a").unwrap();
        let store = |url: &str| record(&digest(), &repository, url, b"x").unwrap().spec.store;
        assert_eq!(store("http://s.local:81/sig%20store/"), "http://s.local:81/sig%20store/");
        for url in ["http://s.local/\nforged", "http://s.local/a b", &format!("http://s/{}", "x".repeat(2048))] {
            assert_eq!(store(url), "");
        }
    }

    #[test]
    fn a_record_gives_back_what_was_recorded_and_takes_nothing_too_large() {
        let repository = Repository::parse("registry.local/a/b").unwrap();
        let made = record(&digest(), &repository, "http://s.local/", b"\x90blob").unwrap();
        assert_eq!(blob(&made).unwrap(), b"\x90blob");
        assert_eq!(made.spec.reference, "registry.local/a/b");
        assert!(record(&digest(), &repository, "", &vec![0; MAX_CONTENT]).is_ok());
        assert!(record(&digest(), &repository, "", &vec![0; MAX_CONTENT + 1]).unwrap_err().contains("not recorded"));
    }

    #[test]
    fn times_of_conditions_change_with_their_status_alone() {
        let repository = Repository::parse("registry.local/a/b").unwrap();
        let mut made = record(&digest(), &repository, "", b"x").unwrap();
        let mut examined = Examined::unreadable("why".to_owned());
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let times = |record: &ImageSignature| {
            let status = record.status.as_ref().unwrap();
            status.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect::<Vec<_>>()
        };
        made.status = Some(status(&made, &examined, at(1), None));
        made.status = Some(status(&made, &examined, at(2), Some("auditor")));
        assert_eq!(times(&made), [1, 1]);
        assert!(!made.is(VERIFIED) && !made.is(TRUSTED));
        examined.outcome = Outcome::IdentityMismatch;
        let signer = super::super::examine::Signer { fingerprint: "F".into(), user_ids: vec![], file: String::new() };
        examined.signer = Some(signer);
        made.status = Some(status(&made, &examined, at(3), None));
        assert_eq!(times(&made), [3, 1]);
        assert!(made.is(VERIFIED) && !made.is(TRUSTED));
    }

    #[test]
    fn nothing_unproved_is_written_down() {
        let repository = Repository::parse("registry.local/a/b").unwrap();
        let made = record(&digest(), &repository, "", b"x").unwrap();
        let examined = Examined { identity: Some("claimed".into()), ..Examined::unreadable(String::new()) };
        let status = status(&made, &examined, jiff::Timestamp::UNIX_EPOCH, None);
        assert_eq!((status.identity, status.signer, status.created), (None, None, None));
    }
}
