use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::read_policy;
use crate::cluster::SecretData;
use crate::domain::policy::PolicyId;

fn target(purpose: Purpose, name: &str) -> Target {
    Target { purpose, reference: ObjectRef { namespace: "n".into(), name: name.into() } }
}

fn key(unusable: Option<(&str, bool)>) -> Key {
    Key {
        fingerprint: "AB".to_owned(),
        file: "k.pgp".to_owned(),
        expires: None,
        unusable: unusable.map(|(why, expired)| (why.to_owned(), expired)),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the form in which it is found")]
fn keys(keys: Vec<Key>) -> Result<Arc<Material>, Trouble> {
    Ok(Arc::new(Material { keys, ..Material::default() }))
}

fn draft_of(id: PolicyId, entries: &Value, found: &Found, shadow: &Shadow) -> Draft {
    let policy = read_policy(id, &json!({"spec": {"registries": entries}}));
    let written: Vec<String> =
        entries.as_array().unwrap().iter().map(|e| e["registry"].as_str().unwrap_or_default().to_owned()).collect();
    compose(&policy, &written, found, shadow)
}

/// One entry with a GPG key, and what the key's Secret gives.
fn with_gpg(id: PolicyId, result: Result<Arc<Material>, Trouble>) -> Draft {
    let entries = json!([{"registry": "r.io", "signCheck": true, "gpgKeyRef": "k8s://n/k"}]);
    draft_of(id, &entries, &Found::from([(target(Purpose::Gpg, "k"), result)]), &Shadow::default())
}

fn cluster() -> PolicyId {
    PolicyId::cluster("p")
}

fn namespaced() -> PolicyId {
    PolicyId::namespaced("n", "p")
}

#[test]
fn each_cause_has_its_reason_and_names_the_field() {
    let expired = || key(Some(("key AB expired on 2024-01-01T00:00:00Z", true)));
    let revoked = || key(Some(("key AB is revoked", false)));
    for (result, reason, told) in [
        (keys(vec![key(None)]), Reason::Usable, "every entry can be used"),
        (Err(Trouble::NotFound), Reason::SecretNotFound, "the Secret k8s://n/k does not exist"),
        (Err(Trouble::Forbidden), Reason::SecretForbidden, "podseal may not read k8s://n/k"),
        (Err(Trouble::TooLarge), Reason::SecretTooLarge, "has more than 65536 bytes"),
        (Err(Trouble::TooMany), Reason::TooManyReferences, "name too many objects"),
        (Err(Trouble::Unavailable("no answer".to_owned())), Reason::Unavailable, "no answer"),
        (keys(vec![]), Reason::NoPublicKeys, "no public keys imported from k8s://n/k"),
        (keys(vec![expired(), expired()]), Reason::KeyExpired, "no key of k8s://n/k can verify anything"),
        (keys(vec![revoked()]), Reason::KeyUnusable, "key AB is revoked"),
        (keys(vec![expired(), revoked()]), Reason::KeyUnusable, "expired on"),
        (keys(vec![expired(), key(None)]), Reason::Usable, "Note: spec.registries[0].gpgKeyRef: not every key counts"),
    ] {
        let draft = with_gpg(cluster(), result);
        assert_eq!(draft.reason, reason, "{}", draft.message);
        assert!(draft.message.contains(told), "{told}: {}", draft.message);
        if reason != Reason::Usable {
            assert!(draft.message.starts_with("spec.registries[0].gpgKeyRef: "), "{}", draft.message);
        }
    }
}

#[test]
fn i6_i7_what_a_namespace_cannot_use_has_one_reason_and_one_text() {
    let drafts = [Trouble::NotFound, Trouble::Forbidden].map(|trouble| with_gpg(namespaced(), Err(trouble)));
    assert_eq!(drafts[0], drafts[1]);
    assert_eq!(drafts[0].reason, Reason::SecretNotFound);
    // What else lies in a Secret is not named either.
    let material =
        || Material { problems: vec!["key file password: no certificate".to_owned()], ..Material::default() };
    let with_key = Material { keys: vec![key(None)], ..material() };
    for material in [material(), with_key] {
        let own = with_gpg(namespaced(), Ok(Arc::new(material.clone())));
        assert!(!own.message.contains("password"), "{}", own.message);
        assert!(with_gpg(cluster(), Ok(Arc::new(material))).message.contains("password"));
    }
}

#[test]
fn of_several_causes_the_gravest_is_the_reason_and_all_are_told() {
    let entries = json!([
        {"registry": "a.io", "signCheck": true, "gpgKeyRef": "k8s://n/missing"},
        {"registry": "b.io", "signCheck": true},
        {"registry": "c.io", "signCheck": "yes"},
        {"registry": "d.io", "signCheck": true, "cosignKeyRef": "nonsense"},
        {"registry": "e.io", "signCheck": false},
    ]);
    let found = Found::from([(target(Purpose::Gpg, "missing"), Err(Trouble::NotFound))]);
    let draft = draft_of(cluster(), &entries, &found, &Shadow::default());
    assert_eq!(draft.reason, Reason::InvalidEntry);
    assert_eq!(
        draft.message,
        "spec.registries[2].signCheck: must be true or false, without quotes; spec.registries[3]: cosignKeyRef: must be \
         k8s://namespace/name of a Secret that holds cosign.pub; its images are denied; spec.registries[1].signCheck: true, \
         but nothing is configured to check a signature with: its images are denied; give cosignKeyRef, cosign.identities or gpgKeyRef; \
         spec.registries[0].gpgKeyRef: the Secret k8s://n/missing does not exist"
    );
    let registries: Vec<_> = draft.registries.iter().map(|r| r.registry.as_str()).collect();
    assert_eq!(registries, ["a.io", "b.io", "c.io", "d.io", "e.io"]);
}

#[test]
fn one_unusable_method_beside_a_usable_one_is_not_ready() {
    let entries =
        json!([{"registry": "r.io", "signCheck": true, "gpgKeyRef": "k8s://n/k", "cosignKeyRef": "k8s://n/c"}]);
    let found = |cosign| {
        Found::from([(target(Purpose::Gpg, "k"), keys(vec![key(None)])), (target(Purpose::Cosign, "c"), cosign)])
    };
    let draft = draft_of(cluster(), &entries, &found(Err(Trouble::NotFound)), &Shadow::default());
    assert!(draft.reason == Reason::SecretNotFound && draft.message.starts_with("spec.registries[0].cosignKeyRef: "));
    let draft = draft_of(cluster(), &entries, &found(keys(vec![key(None)])), &Shadow::default());
    assert_eq!((draft.reason, draft.registries[0].keys.len()), (Reason::Usable, 2));
}

#[test]
fn warnings_of_the_reading_are_told_though_the_policy_is_ready() {
    let entries = json!([{"registry": "https://r.io", "signCheck": false}, {"registry": "r.io", "signCheck": false}]);
    let draft = draft_of(cluster(), &entries, &Found::new(), &Shadow::default());
    assert_eq!(draft.reason, Reason::Usable);
    assert!(
        draft.message.contains("`https://` is ignored") && draft.message.contains("also named by"),
        "{}",
        draft.message
    );
    let draft = draft_of(cluster(), &json!([]), &Found::new(), &Shadow::default());
    assert!(draft.message.contains("every image that no other policy names is denied"), "{}", draft.message);
}

#[test]
fn i9_hidden_entries_are_a_condition_and_wholly_hidden_ones_are_not_ready() {
    let entries = json!([{"registry": "r.io", "signCheck": false}, {"registry": "s.io", "signCheck": false}]);
    let of = |shadow: Shadow| draft_of(namespaced(), &entries, &Found::new(), &shadow);
    let draft = of(Shadow { partly: vec!["partly".to_owned()], ..Shadow::default() });
    assert_eq!((draft.reason, draft.shadowed), (Reason::Usable, Some(("MoreSpecificEntry", "partly".to_owned()))));
    let draft = of(Shadow { wholly: vec![1], ..Shadow::default() });
    assert_eq!(draft.reason, Reason::Shadowed);
    assert!(draft.message.starts_with("spec.registries[1]: no cluster policy names this registry"));
    assert_eq!(draft.shadowed.unwrap().0, "RegistriesRestricted");
    assert_eq!(of(Shadow::default()).shadowed, None);
}

#[test]
fn j4_h19_a_status_stays_small_whatever_the_policy_holds() {
    let long = "x".repeat(5000);
    let entries: Vec<Value> = (0..3000)
        .map(|i| json!({"registry": format!("r{i}.io/{long}"), "signCheck": true, "gpgKeyRef": "k8s://n/k", "signer": [long]}))
        .chain((0..50).map(|i| json!({"registry": format!("s{i}.io"), "signCheck": true, "gpgKeyRef": "k8s://n/k", "signer": [long, "a"]})))
        .collect();
    let material = Material {
        keys: vec![key(None); 700],
        signers: vec![long.clone(); 100],
        ambiguous: vec![long.clone(); 100],
        problems: vec![long.clone(); 100],
        ..Material::default()
    };
    let found = Found::from([(target(Purpose::Gpg, "k"), Ok(Arc::new(material)))]);
    let draft =
        draft_of(cluster(), &json!(entries), &found, &Shadow { partly: vec![long; 8], more: 9, ..Shadow::default() });
    let size = serde_json::to_string(&draft.registries).unwrap().len() + draft.message.len();
    assert!(size < 700_000, "{size}");
    assert!(
        draft.message.chars().count() <= MAX_MESSAGE + 1
            && draft.shadowed.unwrap().1.chars().count() <= MAX_MESSAGE + 1
    );
}

#[test]
fn the_next_look_is_when_the_first_key_ends() {
    let soon = SystemTime::now() + Duration::from_secs(50);
    let first = Material { keys: vec![key(None)], until: Some(soon), ..Material::default() };
    let later = Material { until: Some(soon + Duration::from_secs(9)), ..first.clone() };
    let entries =
        json!([{"registry": "r.io", "signCheck": true, "gpgKeyRef": "k8s://n/k", "cosignKeyRef": "k8s://n/c"}]);
    let found = Found::from([
        (target(Purpose::Gpg, "k"), Ok(Arc::new(later))),
        (target(Purpose::Cosign, "c"), Ok(Arc::new(first))),
    ]);
    assert_eq!(draft_of(cluster(), &entries, &found, &Shadow::default()).until, Some(soon));
}

#[test]
fn control_characters_of_an_object_do_not_reach_its_status() {
    let draft = draft_of(
        cluster(),
        &json!([{"registry": "a\n\u{1b}[31m", "signCheck": false}]),
        &Found::new(),
        &Shadow::default(),
    );
    let text = format!("{}{}", draft.message, draft.registries[0].registry);
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn secrets_are_described_without_their_content() {
    let data = BTreeMap::from([(
        "cosign.pub".to_owned(),
        bytes::Bytes::from_static(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"),
    )]);
    let material = Material::read(Purpose::Cosign, &SecretData::new(data, false), SystemTime::now());
    assert!(material.keys.is_empty() && !material.problems.is_empty());
    assert!(!format!("{material:?}").contains("c2VjcmV0"));
}
