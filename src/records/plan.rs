//! What saving a verdict changes in the cluster; decided before anything is changed, and shown by a dry run.
//!
//! Only records of the asked repository count: what is said to be found elsewhere is another auditor's business, and
//! whoever may make records chooses what they say.
//!
//! At least one signature verified: what verified is recorded. A record whose signature turned out to be no good (revoked,
//! expired, damaged, for another image) says so from then on. One by a key that was not given, or under a name that was not
//! asked for, keeps what somebody else found out about it.
//!
//! A record that is being deleted counts as not there. It gets no verdict: what verified is made anew, and what would have said
//! something else is taken away for good.
//!
//! None verified: the records of this digest in this repository go, all of them, as with
//! `oc adm verify-image-signature --save`. Stores and registries are never written to.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::examine::{Examined, Outcome};
use super::{hold, object};
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
    /// A record that nobody verified, or that is being deleted, has the name of the one that is to be made: it goes, and that
    /// one is made.
    Replace(Box<ImageSignature>, Box<ImageSignature>, Examined),
    /// A record of this digest for another repository: nothing is done to it.
    Leave(Box<ImageSignature>),
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
            Self::Replace(there, ..) if hold::is_going(there) => "renew",
            Self::Replace(..) => "replace",
            Self::Leave(_) => "leave",
            Self::Skip(_) => "skip",
        }
    }

    /// The object, if there is one: as it is, or as it is to be.
    pub fn record(&self) -> Option<&ImageSignature> {
        match self {
            Self::Create(record, _)
            | Self::Update(record, _)
            | Self::Remove(record)
            | Self::Leave(record)
            | Self::Replace(_, record, _) => Some(record),
            Self::Skip(_) => None,
        }
    }

    /// The object's name.
    pub fn name(&self) -> String {
        self.record().map(ImageSignature::name_any).unwrap_or_default()
    }

    /// The name under which the image was signed, as far as that was proved.
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::Create(_, examined) | Self::Update(_, examined) | Self::Replace(_, _, examined) => {
                examined.signer.as_ref().and(examined.identity.as_deref())
            }
            Self::Remove(record) | Self::Leave(record) => record.status.as_ref()?.identity.as_deref(),
            Self::Skip(_) => None,
        }
    }
}

/// The steps that follow from verdicts on all signatures of a digest for a repository; `recorded` are the records of that
/// digest as they are, of whatever repository. The verdicts include those on recorded signatures of this repository.
pub fn plan(digest: &Digest, repository: &Repository, judged: &[Judged], recorded: &[ImageSignature]) -> Vec<Step> {
    if !judged.iter().any(|one| one.examined.outcome == Outcome::Verified) {
        let goes = |record: &ImageSignature| match (object::is_of(record, repository), hold::is_going(record)) {
            (true, _) => Some(Step::Remove(Box::new(record.clone()))),
            (false, false) => Some(Step::Leave(Box::new(record.clone()))),
            (false, true) => None,
        };
        return recorded.iter().filter_map(goes).collect();
    }
    let own = recorded.iter().filter(|record| object::is_of(record, repository));
    let own: Vec<_> = own.filter_map(|record| Some((record, object::blob(record).ok()?))).collect();
    let question = Question { digest, repository, judged, recorded };
    // A record that is replaced holds nothing any more: no verdict is written to it, and what verified in it is made anew under
    // the right name, which somebody else's record may have. Each turn takes another record away, or is the last.
    let mut taken = BTreeSet::new();
    loop {
        let left: Vec<_> = own.iter().filter(|(record, _)| !taken.contains(&record.name_any())).collect();
        let steps = question.steps(&left);
        let known = taken.len();
        taken.extend(steps.iter().filter_map(|step| match step {
            Step::Replace(there, ..) => Some(there.name_any()),
            _ => None,
        }));
        if taken.len() == known {
            return steps;
        }
    }
}

/// What is to be decided.
struct Question<'a> {
    digest: &'a Digest,
    repository: &'a Repository,
    judged: &'a [Judged],
    recorded: &'a [ImageSignature],
}

impl Question<'_> {
    /// The steps when at least one signature verified, with those records of the repository, and their contents, that stay.
    fn steps(&self, own: &[&(&ImageSignature, Vec<u8>)]) -> Vec<Step> {
        // One record for a signature, in whatever forms it is found. Those that verify are the same if one key states the same.
        let proved = |one: &Judged, blob: &[u8]| {
            let signer = one.examined.signer.as_ref().map(|signer| signer.fingerprint.clone());
            (one.examined.outcome == Outcome::Verified).then(|| (object::core(blob).0, signer))
        };
        let on_record = |blob: &[u8]| own.iter().any(|(record, known)| !hold::is_going(record) && known == blob);
        let with_blob = self.judged.iter().filter_map(|one| Some((one, one.blob.as_deref()?)));
        let with_record = with_blob.filter(|(_, blob)| on_record(blob));
        let mut known: BTreeSet<_> = with_record.filter_map(|(one, blob)| proved(one, blob)).collect();
        let mut seen = BTreeSet::new();
        let mut steps = Vec::new();
        for one in self.judged {
            let Some(blob) = &one.blob else { continue };
            if !seen.insert(Digest::sha256(blob)) {
                continue;
            }
            // By content and not by name: a record may have been given a name of its own.
            let same = own.iter().filter(|(_, known)| known == blob).map(|(record, _)| *record);
            let (going, there): (Vec<_>, Vec<_>) = same.partition(|record| hold::is_going(record));
            let is_new = there.is_empty() && proved(one, blob).is_some_and(|signature| known.insert(signature));
            let ended = going.into_iter().filter(|record| says_something(&one.examined, record));
            steps.extend(ended.map(|record| Step::Remove(Box::new(record.clone()))));
            steps.extend(is_new.then(|| self.created(one, blob)));
            let updated = there.into_iter().filter(|record| says_something(&one.examined, record));
            steps.extend(updated.map(|record| Step::Update(Box::new(record.clone()), one.examined.clone())));
        }
        steps
    }

    /// The record of what verified; of nothing else.
    fn created(&self, one: &Judged, blob: &[u8]) -> Step {
        let record = match object::record(self.digest, self.repository, &one.store, blob) {
            Ok(record) => Box::new(record),
            Err(why) => return Step::Skip(why),
        };
        let name = record.name_any();
        let examined = one.examined.clone();
        match self.recorded.iter().find(|there| there.name_any() == name) {
            None => Step::Create(record, examined),
            Some(there) if there.is(object::VERIFIED) && !hold::is_going(there) => {
                Step::Skip(format!("imagesignature {name} holds another signature; delete it and run this again"))
            }
            Some(there) => Step::Replace(Box::new(there.clone()), record, examined),
        }
    }
}

/// Whether a verdict is worth more than what the record says. A key that was not given says nothing about a signature.
fn says_something(examined: &Examined, record: &ImageSignature) -> bool {
    match examined.outcome {
        Outcome::UntrustedKey => false,
        outcome => !outcome.depends_on_the_question() || !record.is(object::VERIFIED),
    }
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
    fn other_forms_of_a_signature_make_no_other_record() {
        use sequoia_openpgp::serialize::stream::{Compressor, LiteralWriter, Message, Signer};
        let cert = sequoia_openpgp::cert::CertBuilder::new().add_signing_subkey().generate().unwrap().0;
        let policy = sequoia_openpgp::policy::StandardPolicy::new();
        let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap().key().clone();
        let mut first = Vec::new();
        let message = Signer::new(Message::new(&mut first), key.into_keypair().unwrap()).unwrap().build().unwrap();
        let mut message = LiteralWriter::new(message).build().unwrap();
        std::io::Write::write_all(&mut message, b"{}").unwrap();
        message.finalize().unwrap();
        let mut second = Vec::new();
        let mut message = Compressor::new(Message::new(&mut second)).build().unwrap();
        std::io::Write::write_all(&mut message, &first).unwrap();
        message.finalize().unwrap();
        assert_eq!(object::core(&first), object::core(&second));
        let both = [judged(&first, Outcome::Verified), judged(&second, Outcome::Verified)];
        assert_eq!(actions(&both, &[]), ["create"]);
        assert_eq!(actions(&both, &[recorded(&second, None)]), ["update"], "the one that is there");
        let verified = [recorded(&first, None), recorded(&second, None)];
        assert_eq!(actions(&both, &verified), ["update", "update"], "none is left as it was");
        let others = [judged(&first, Outcome::Verified), judged(b"another", Outcome::Verified)];
        assert_eq!(actions(&others, &[]), ["create", "create"]);
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
    fn a_record_of_another_repository_is_neither_stamped_nor_removed() {
        let other = Repository::parse("0evil.example.com/a").unwrap();
        let mut forged = object::record(&digest(), &other, "", b"a").unwrap();
        let found = [judged(b"a", Outcome::Verified)];
        assert_eq!(actions(&found, std::slice::from_ref(&forged)), ["create"], "the right one is made beside it");
        forged.status = recorded(b"a", Some(Outcome::Verified)).status;
        let steps = plan(&digest(), &repository(), &[judged(b"a", Outcome::UntrustedKey)], &[forged]);
        assert!(matches!(&steps[..], [Step::Leave(_)]), "{steps:?}");
    }

    #[test]
    fn who_takes_the_name_of_a_record_does_not_prevent_it() {
        let mut squatter = recorded(b"b", None);
        squatter.metadata.name = object::name(&digest(), &repository(), b"a");
        let found = [judged(b"a", Outcome::Verified)];
        let steps = plan(&digest(), &repository(), &found, std::slice::from_ref(&squatter));
        assert!(
            matches!(&steps[..], [Step::Replace(there, made, _)] if **there == squatter && made.spec != squatter.spec)
        );
        squatter.status = recorded(b"b", Some(Outcome::Verified)).status;
        assert_eq!(actions(&found, &[squatter]), ["skip"], "what an auditor verified is not thrown away");
    }

    #[test]
    fn a_record_that_is_replaced_takes_no_other_step() {
        // The squatter's own content is among what is judged; whatever it comes to, its record goes.
        let mut squatter = recorded(b"b", None);
        squatter.metadata.name = object::name(&digest(), &repository(), b"a");
        for outcome in [Outcome::MalformedSignature, Outcome::BadSignature, Outcome::IdentityMismatch] {
            let found = [judged(b"a", Outcome::Verified), judged(b"b", outcome)];
            assert_eq!(actions(&found, std::slice::from_ref(&squatter)), ["replace"], "{outcome:?}");
            let found = [judged(b"b", outcome), judged(b"a", Outcome::Verified)];
            assert_eq!(actions(&found, std::slice::from_ref(&squatter)), ["replace"], "{outcome:?}");
            assert_eq!(actions(&found, &[going(squatter.clone())]), ["renew"], "{outcome:?}");
        }
        // Beside it, one that stays gets its verdict.
        let found = [judged(b"a", Outcome::Verified), judged(b"b", Outcome::BadSignature)];
        assert_eq!(actions(&found, &[squatter.clone(), recorded(b"b", None)]), ["replace", "update"]);
    }

    #[test]
    fn what_verified_in_a_record_that_is_replaced_is_made_anew() {
        // Another verified signature has squatted: with its own name it is no loss.
        let squatting = |content: &[u8], name: &[u8]| {
            let mut record = recorded(content, None);
            record.metadata.name = object::name(&digest(), &repository(), name);
            record
        };
        let verified = |blob: &[u8], key: &str| {
            let mut one = judged(blob, Outcome::Verified);
            one.examined.signer.as_mut().unwrap().fingerprint = key.to_owned();
            one
        };
        let found = [verified(b"a", "A"), verified(b"b", "B"), verified(b"c", "C")];
        assert_eq!(actions(&found[..2], &[squatting(b"b", b"a")]), ["replace", "create"]);
        // In a row, each in the place of the next.
        assert_eq!(actions(&found, &[squatting(b"b", b"a"), squatting(b"c", b"b")]), ["replace", "replace", "create"]);
        let steps = plan(&digest(), &repository(), &found, &[squatting(b"b", b"a"), squatting(b"c", b"b")]);
        let names: BTreeSet<_> = steps.iter().map(Step::name).collect();
        assert_eq!((steps.len(), names.len()), (3, 3), "{steps:?}");
    }

    fn going(mut record: ImageSignature) -> ImageSignature {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        record.metadata.deletion_timestamp = Some(now);
        record
    }

    #[test]
    fn a_record_that_is_being_deleted_gets_no_verdict() {
        let verified = [judged(b"a", Outcome::Verified)];
        let there = going(recorded(b"a", Some(Outcome::Verified)));
        assert_eq!(actions(&verified, std::slice::from_ref(&there)), ["renew"]);
        // A squatter that an auditor once verified and somebody deleted stands in nobody's way.
        let mut squatter = going(recorded(b"b", Some(Outcome::Verified)));
        squatter.metadata.name = object::name(&digest(), &repository(), b"a");
        assert_eq!(actions(&verified, &[squatter]), ["renew"]);
        // Under another name it is taken away, whether or not there is a right one.
        let mut odd = there.clone();
        odd.metadata.name = Some("odd".to_owned());
        assert_eq!(actions(&verified, std::slice::from_ref(&odd)), ["remove", "create"]);
        assert_eq!(actions(&verified, &[odd, recorded(b"a", None)]), ["remove", "update"]);
        // One that turns out to be no good says nothing any more; what is no affair of this verdict is waited for.
        let other = going(recorded(b"b", Some(Outcome::Verified)));
        let found = |outcome| [judged(b"a", Outcome::Verified), judged(b"b", outcome)];
        assert_eq!(actions(&found(Outcome::KeyNotValid), std::slice::from_ref(&other)), ["create", "remove"]);
        assert_eq!(actions(&found(Outcome::UntrustedKey), &[other]), ["create"]);
        // Without a verdict all of the repository go for good, and those of another one are not worth a word.
        assert_eq!(actions(&[judged(b"a", Outcome::UntrustedKey)], &[there]), ["remove"]);
        let elsewhere = Repository::parse("r.io/a").unwrap();
        let elsewhere = going(object::record(&digest(), &elsewhere, "", b"a").unwrap());
        assert_eq!(actions(&[judged(b"a", Outcome::UntrustedKey)], &[elsewhere]), [] as [&str; 0]);
    }

    #[test]
    fn a_key_that_was_not_given_leaves_an_unjudged_record_unjudged() {
        let found = [judged(b"a", Outcome::Verified), judged(b"b", Outcome::UntrustedKey)];
        assert_eq!(actions(&found, &[recorded(b"b", None)]), ["create"]);
        // A given key that signed another name has something to say.
        let found = [judged(b"a", Outcome::Verified), judged(b"b", Outcome::IdentityMismatch)];
        assert_eq!(actions(&found, &[recorded(b"b", None)]), ["create", "update"]);
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
