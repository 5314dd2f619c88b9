//! What keeps a record and what takes it away: finalizers, owners, and a deletion that waits for them.
//!
//! Whoever may create records sets them, and the definition cannot refuse them: its rules see of the metadata only the name.
//! A finalizer keeps a record that was withdrawn, with what its status says; an owner that does not exist lets the garbage
//! collector take away a record that an auditor verified. Therefore nothing is verified, and nothing removed, before both are off.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::examine::shown;
use super::object::{TRUSTED, VERIFIED};
use crate::api::image_signature::{ImageSignature, ImageSignatureStatus};

/// Finalizers that are named in a message, at most.
const MAX_NAMED: usize = 4;

/// Whether its deletion was asked for: such a record is only waited for, and counts as not there.
pub fn is_going(record: &ImageSignature) -> bool {
    record.metadata.deletion_timestamp.is_some()
}

/// Whether somebody else decides how long it stays.
pub fn is_held(record: &ImageSignature) -> bool {
    !record.finalizers().is_empty() || !record.owner_references().is_empty()
}

/// The record without finalizers and owners. One that is going is gone with the last finalizer.
pub fn freed(record: &ImageSignature) -> ImageSignature {
    let mut freed = record.clone();
    freed.metadata.finalizers = None;
    freed.metadata.owner_references = None;
    freed
}

/// The status of a record that is to go, if what it has says anything good: nothing is known any more.
pub fn withdrawn(record: &ImageSignature, at: jiff::Timestamp) -> Option<ImageSignatureStatus> {
    let status = record.status.as_ref()?;
    if !status.conditions.iter().any(|condition| condition.status == "True") {
        return None;
    }
    let condition = |type_: &str| Condition {
        type_: type_.to_owned(),
        status: "Unknown".to_owned(),
        reason: "Withdrawn".to_owned(),
        message: "the record is to be removed".to_owned(),
        observed_generation: record.metadata.generation,
        last_transition_time: Time(at),
    };
    let conditions = vec![condition(VERIFIED), condition(TRUSTED)];
    Some(ImageSignatureStatus { conditions, ..ImageSignatureStatus::default() })
}

/// That a record is still there after its deletion, and why.
pub fn still_there(record: &ImageSignature) -> String {
    let (name, finalizers) = (record.name_any(), record.finalizers());
    let why = match finalizers.len() {
        0 => "run this again".to_owned(),
        all => {
            let more = if all > MAX_NAMED { ", …" } else { "" };
            let named = finalizers.iter().take(MAX_NAMED).map(|one| shown(one)).collect::<Vec<_>>().join(", ");
            format!("held by finalizers ({named}{more}); take them off and run this again")
        }
    };
    format!("imagesignature {name} is being deleted and still there: {why}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::image::Repository;
    use crate::records::examine::{Examined, Outcome, Signer};
    use crate::records::object;

    fn record(outcome: Option<Outcome>) -> ImageSignature {
        let repository = Repository::parse("registry.local/a").unwrap();
        let mut record = object::record(&Digest::sha256(b"manifest"), &repository, "", b"a").unwrap();
        let signer = Some(Signer { fingerprint: "F".into(), user_ids: Vec::new(), file: String::new() });
        let status = |outcome| {
            let examined = Examined { outcome, signer: signer.clone(), ..Examined::unreadable(String::new()) };
            object::status(&record, &examined, jiff::Timestamp::UNIX_EPOCH, Some("auditor"))
        };
        record.status = outcome.map(status);
        record
    }

    #[test]
    fn what_was_verified_is_withdrawn_and_what_was_not_is_left() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        for outcome in [Outcome::Verified, Outcome::IdentityMismatch] {
            let mut record = record(Some(outcome));
            record.status = withdrawn(&record, at);
            let status = record.status.as_ref().unwrap();
            assert!(!record.is(VERIFIED) && !record.is(TRUSTED) && status.conditions.len() == 2, "{outcome:?}");
            assert_eq!((&status.signer, &status.identity, &status.verified_by), (&None, &None, &None));
            assert_eq!(withdrawn(&record, at), None, "once is enough");
        }
        assert_eq!(withdrawn(&record(Some(Outcome::BadSignature)), at), None);
        assert_eq!(withdrawn(&record(None), at), None);
    }

    #[test]
    fn it_is_said_what_holds_a_record_and_no_more_than_that() {
        let mut record = record(None);
        assert!(!is_held(&record) && !is_going(&record));
        assert!(still_there(&record).ends_with("is being deleted and still there: run this again"));
        record.metadata.finalizers = Some((0..9).map(|n| format!("a.io/{n}")).collect());
        assert!(is_held(&record));
        let said = still_there(&record);
        assert!(said.contains("held by finalizers (a.io/0, a.io/1, a.io/2, a.io/3, …);"), "{said}");
        assert!(!is_held(&freed(&record)));
        record.metadata.finalizers = None;
        record.metadata.owner_references = Some(vec![OwnerReference::default()]);
        assert!(is_held(&record) && !is_held(&freed(&record)));
    }
}
