use super::*;
use crate::domain::expression::Expression;
use crate::domain::identity::SignedIdentity;
use crate::domain::keyless::{Certified, KeylessIdentity, Pattern, TextRule, Workflow};
use crate::domain::policy::AttestationCheck;

fn rule(subject: &str) -> KeylessIdentity {
    let subject = TextRule::Pattern(Pattern::new(subject).unwrap());
    KeylessIdentity { issuer: TextRule::Exact("i".into()), subject, workflow: Workflow::default() }
}

fn person(subject: &str) -> Signer {
    Signer::Certificate(Certified { issuer: "i".into(), subjects: vec![subject.into()], ..Certified::default() })
}

fn key(name: &str) -> Signer {
    Signer::Key(name.repeat(64))
}

fn signature(signer: Signer, annotations: &[(&str, &str)], reference: Option<&str>) -> Claim {
    let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Claim { signer, statement: Statement::Signature { annotations, reference: reference.map(str::to_owned) } }
}

fn attestation(signer: Signer) -> Claim {
    let (predicate, subject) = (serde_json::Value::Null, serde_json::Value::Null);
    Claim { signer, statement: Statement::Attestation { predicate_type: "t".into(), predicate, subject } }
}

/// Whether these suffice, who signed, and otherwise why not.
fn tally(check: &CosignCheck, listed: &[&str], claims: &[(Claim, Found)]) -> Result<String, Refusal> {
    let listed: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    let image: ImageRef = "r.io/app:1".parse().unwrap();
    let mut tally = Tally::new(check, &listed, &image);
    for (claim, found) in claims {
        tally.add(claim, &vec![found.clone(); check.attestations.len()]);
    }
    let repository = image.repository().clone();
    if tally.complete() { Ok(tally.signer().unwrap()) } else { Err(tally.refusal(&Digest::sha256(b"x"), &repository)) }
}

fn signed(check: &CosignCheck, listed: &[&str], claims: &[Claim]) -> Result<String, RefusalKind> {
    let claims: Vec<_> = claims.iter().map(|claim| (claim.clone(), Found::Other)).collect();
    tally(check, listed, &claims).map_err(|refusal| refusal.kind)
}

fn identities(threshold: usize) -> CosignCheck {
    CosignCheck { identities: vec![rule("a@.*"), rule("b@.*"), rule(".*@x")], threshold, ..CosignCheck::default() }
}

#[test]
fn e11_a_threshold_counts_different_signers_and_not_signatures() {
    let by = |who: &str| signature(person(who), &[], None);
    let keys = |name: &str| signature(key(name), &[], None);
    let two = identities(2);
    assert_eq!(signed(&two, &[], &[by("a@x"), by("b@x")]).as_deref(), Ok("a@x, b@x"));
    assert_eq!(signed(&two, &[], &[by("a@x"), keys("k")]).as_deref(), Ok("key kkkkkkkkkkkkkkkk, a@x"));
    assert_eq!(signed(&two, &[], &[keys("k"), keys("l")]).map(drop), Ok(()));
    for twice in [
        vec![by("a@x"), by("a@x")],
        vec![keys("k"), keys("k")],
        // One rule, though two people fit it.
        vec![by("a@x"), by("a@y")],
        // The same person fits the first and the third rule, and counts for the first alone.
        vec![by("a@x"), by("a@x"), by("a@x")],
        vec![by("a@x"), by("stranger@y")],
        vec![by("a@x")],
    ] {
        assert_eq!(signed(&two, &[], &twice), Err(RefusalKind::Invalid), "{twice:?}");
    }
    assert_eq!(signed(&two, &[], &[]), Err(RefusalKind::Unsigned));
    assert_eq!(signed(&identities(1), &[], &[by("stranger@y")]), Err(RefusalKind::Signer));
}

#[test]
fn e18_listed_signers_are_names_of_identities_and_annotations_of_keys() {
    let one = identities(1);
    let by = signature(person("a@x"), &[("signer", "b@x")], None);
    assert_eq!(signed(&one, &["a@x"], std::slice::from_ref(&by)).as_deref(), Ok("a@x"));
    assert_eq!(signed(&one, &["b@x"], &[by]), Err(RefusalKind::Signer), "what he says of himself counts for nothing");
    let by = signature(key("k"), &[("signer", "alice")], None);
    assert_eq!(signed(&one, &["alice"], std::slice::from_ref(&by)).as_deref(), Ok("alice"));
    assert_eq!(signed(&one, &["bob"], &[by]), Err(RefusalKind::Signer));
}

#[test]
fn names_and_annotations_are_compared_when_they_are_asked_for() {
    let named = CosignCheck { identity: Some(SignedIdentity::MatchRepository), ..identities(1) };
    let by = |reference| signature(person("a@x"), &[], reference);
    assert_eq!(signed(&named, &[], &[by(Some("r.io/app:other"))]).as_deref(), Ok("a@x"));
    for other in [None, Some(""), Some("r.io/other:1"), Some("evil.io/app:1")] {
        assert_eq!(signed(&named, &[], &[by(other)]), Err(RefusalKind::Identity), "{other:?}");
    }
    let annotations = [("stage".to_owned(), "release".to_owned())].into();
    let staged = CosignCheck { annotations, ..identities(1) };
    assert_eq!(signed(&staged, &[], &[signature(person("a@x"), &[("stage", "release")], None)]).as_deref(), Ok("a@x"));
    assert_eq!(signed(&staged, &[], &[by(None)]), Err(RefusalKind::Invalid));
}

#[test]
fn e1_an_attestation_that_is_asked_for_must_be_there_fit_and_be_signed_by_as_many() {
    let expression = Some(Expression::new("true").unwrap());
    let attestations = vec![AttestationCheck { predicate_type: "t".into(), expression }];
    let check = CosignCheck { attestations, ..identities(1) };
    let by = (signature(person("a@x"), &[], None), Found::Other);
    let attested = |who: &str, found: Found| (attestation(person(who)), found);
    assert!(tally(&check, &[], &[by.clone(), attested("b@x", Found::Fits)]).is_ok());
    for (wrong, text) in [
        (attested("b@x", Found::Other), "none of this type"),
        (attested("b@x", Found::Differs("not true".into())), "not true"),
        (attested("stranger@y", Found::Fits), "none of the identities"),
        (by.clone(), "none of this type"),
    ] {
        let refusal = tally(&check, &[], &[by.clone(), wrong]).unwrap_err();
        assert!(refusal.detail.starts_with("the attestation t is missing: "), "{refusal:?}");
        assert!(refusal.detail.contains(text), "{refusal:?}");
    }
    // What could not be verified is said, wherever it was.
    for holds in [Holds::Attestations, Holds::Either, Holds::Signatures] {
        let image: ImageRef = "r.io/app:1".parse().unwrap();
        let mut tally = Tally::new(&check, &[], &image);
        tally.add(&by.0, &[Found::Other]);
        tally.refuse(holds, Refusal::new(RefusalKind::Invalid, "more than 7 values"));
        let detail = tally.refusal(&Digest::sha256(b"x"), image.repository()).detail;
        assert_eq!(detail.contains("more than 7 values"), holds != Holds::Signatures, "{detail}");
    }
    // It is no signature, whoever made it.
    assert!(tally(&check, &[], &[attested("a@x", Found::Fits)]).is_err());
    let two = CosignCheck { threshold: 2, ..check };
    let both = [by, (signature(person("b@x"), &[], None), Found::Other), attested("a@x", Found::Fits)];
    assert!(tally(&two, &[], &both).unwrap_err().detail.contains("signed by 1 of the 2"));
    let all: Vec<_> = both.into_iter().chain([attested("b@x", Found::Fits)]).collect();
    assert!(tally(&two, &[], &all).is_ok());
}
