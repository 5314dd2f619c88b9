//! What saving a verdict changes in the cluster; decided before anything is changed, and shown by a dry run.
//!
//! At least one signature verified: what verified is recorded. A record whose signature turned out to be no good (revoked,
//! expired, damaged, for another image) says so from then on. One that is only by a key or under a name that was not asked
//! for keeps what somebody else found out about it.
//!
//! None verified: the records of this digest go, all of them, as with `oc adm verify-image-signature --save`. Stores and
//! registries are never written to.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::examine::{Examined, Outcome};
use super::object;
use crate::api::image_signature::ImageSignature;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;

/// A signature with its bytes and verdict.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The bytes, if there are any.
    pub blob: Option<Vec<u8>>,
    /// URL of the place it is from; empty for one that is only recorded.
    pub store: String,
    /// What it comes to.
    pub examined: Examined,
}

/// One step.
#[derive(Debug, Clone)]
pub enum Step {
    /// A new record, with its verdict.
    Create(Box<ImageSignature>, Examined),
    /// Another status of a record.
    Update(Box<ImageSignature>, Examined),
    /// A record goes.
    Remove(Box<ImageSignature>),
    /// A verdict cannot be recorded; why.
    Skip(String),
}

impl Step {
    /// What is done, in one word.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Update(..) => "update",
            Self::Remove(_) => "remove",
            Self::Skip(_) => "skip",
        }
    }

    /// The object's name.
    pub fn name(&self) -> String {
        match self {
            Self::Create(record, _) | Self::Update(record, _) | Self::Remove(record) => record.name_any(),
            Self::Skip(_) => String::new(),
        }
    }
}

/// The steps that follow from verdicts on all signatures of a digest; `recorded` are the records of that digest as they
/// are. The verdicts include those on recorded signatures.
pub fn plan(digest: &Digest, repository: &Repository, judged: &[Judged], recorded: &[ImageSignature]) -> Vec<Step> {
    if !judged.iter().any(|one| one.examined.outcome == Outcome::Verified) {
        return recorded.iter().map(|record| Step::Remove(Box::new(record.clone()))).collect();
    }
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    for one in judged {
        let Some(blob) = &one.blob else { continue };
        if !seen.insert(Digest::sha256(blob)) {
            continue;
        }
        // By content and not by name: a record may have been given a name of its own.
        let mut same =
            recorded.iter().filter(|record| object::blob(record).is_ok_and(|known| known == *blob)).peekable();
        if same.peek().is_none() {
            steps.extend(created(digest, repository, one, blob));
        }
        let counts =
            |record: &ImageSignature| !one.examined.outcome.depends_on_the_question() || !record.is(object::VERIFIED);
        let updated = same.filter(|record| counts(record));
        steps.extend(updated.map(|record| Step::Update(Box::new(record.clone()), one.examined.clone())));
    }
    steps
}

/// The record of what verified; of nothing else.
fn created(digest: &Digest, repository: &Repository, one: &Judged, blob: &[u8]) -> Option<Step> {
    if one.examined.outcome != Outcome::Verified {
        return None;
    }
    Some(match object::record(digest, repository, &one.store, blob) {
        Ok(record) => Step::Create(Box::new(record), one.examined.clone()),
        Err(why) => Step::Skip(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::examine::Signer;

    fn digest() -> Digest {
        Digest::sha256(b"manifest")
    }

    fn repository() -> Repository {
        Repository::parse("registry.local/a").unwrap()
    }

    fn judged(blob: &[u8], outcome: Outcome) -> Judged {
        let signer = Some(Signer { fingerprint: "F".into(), user_ids: Vec::new(), file: String::new() });
        let examined = Examined { outcome, signer, ..Examined::unreadable("why".to_owned()) };
        Judged { blob: Some(blob.to_vec()), store: "http://s/".to_owned(), examined }
    }

    fn recorded(blob: &[u8], verified: Option<Outcome>) -> ImageSignature {
        let mut record = object::record(&digest(), &repository(), "", blob).unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        record.status = verified.map(|outcome| object::status(&record, &judged(blob, outcome).examined, now, None));
        record
    }

    fn actions(judged: &[Judged], recorded: &[ImageSignature]) -> Vec<&'static str> {
        plan(&digest(), &repository(), judged, recorded).iter().map(Step::action).collect()
    }

    #[test]
    fn what_verifies_is_recorded_once_and_nothing_is_removed() {
        let twice = [judged(b"a", Outcome::Verified), judged(b"a", Outcome::Verified)];
        assert_eq!(actions(&twice, &[]), ["create"]);
        assert_eq!(actions(&twice, &[recorded(b"a", None)]), ["update"]);
        let other = recorded(b"b", Some(Outcome::Verified));
        let both = [judged(b"a", Outcome::Verified), judged(b"b", Outcome::UntrustedKey)];
        assert_eq!(actions(&both, &[other]), ["create"], "by another key: stays as it was");
    }

    #[test]
    fn a_record_that_turns_out_to_be_no_good_says_so() {
        let known = recorded(b"b", Some(Outcome::Verified));
        for outcome in
            [Outcome::KeyNotValid, Outcome::SignatureNotValid, Outcome::BadSignature, Outcome::DigestMismatch]
        {
            let found = [judged(b"a", Outcome::Verified), judged(b"b", outcome)];
            assert_eq!(actions(&found, std::slice::from_ref(&known)), ["create", "update"], "{outcome:?}");
        }
        let found = [judged(b"a", Outcome::Verified), judged(b"b", Outcome::IdentityMismatch)];
        assert_eq!(actions(&found, &[known]), ["create"]);
    }

    #[test]
    fn without_a_single_verified_signature_every_record_of_the_digest_goes() {
        let records = [recorded(b"a", Some(Outcome::Verified)), recorded(b"b", None)];
        for outcome in [Outcome::UntrustedKey, Outcome::IdentityMismatch, Outcome::BadSignature] {
            assert_eq!(actions(&[judged(b"a", outcome)], &records), ["remove", "remove"], "{outcome:?}");
        }
        assert_eq!(actions(&[], &[]), [] as [&str; 0]);
        // Nothing is made of what did not verify.
        assert_eq!(actions(&[judged(b"a", Outcome::UntrustedKey)], &[]), [] as [&str; 0]);
    }

    #[test]
    fn what_is_too_large_is_skipped_and_said() {
        let large = vec![0; crate::api::image_signature::MAX_CONTENT + 1];
        assert_eq!(actions(&[judged(&large, Outcome::Verified)], &[]), ["skip"]);
    }
}
