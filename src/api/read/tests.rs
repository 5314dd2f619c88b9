use serde_json::{Value, json};

use super::*;
use crate::domain::identity::SignedIdentity;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::policy::{Action, Check, NotaryTrust, ObjectRef, PolicySet, SignedCheck};

fn policy(registries: &Value) -> Policy {
    read_policy(PolicyId::cluster("p"), &json!({"spec": {"registries": registries}}))
}

/// One entry of `reg.local` with `signCheck: true`, `cosignKeyRef` and these fields, `null` taking one away.
fn with(fields: &Value) -> Policy {
    let mut entry = json!({"registry": "reg.local", "signCheck": true, "cosignKeyRef": "k8s://keys/cosign"});
    for (name, value) in fields.as_object().unwrap() {
        entry[name] = value.clone();
    }
    policy(&json!([entry]))
}

fn list(policy: &Policy, error: bool) -> Vec<String> {
    policy.problems.iter().filter(|p| p.error == error).map(|p| p.field.replace("spec.registries", "")).collect()
}

fn errors(policy: &Policy) -> Vec<String> {
    list(policy, true)
}

fn warnings(policy: &Policy) -> Vec<String> {
    list(policy, false)
}

fn signed(policy: &Policy) -> &SignedCheck {
    match &policy.entries[0].check {
        Check::Signed(check) => check,
        other => panic!("{other:?} {:?}", policy.problems),
    }
}

fn broken(policy: &Policy) -> &str {
    match &policy.entries[0].check {
        Check::Broken(text) => text,
        other => panic!("{other:?}"),
    }
}

/// Applies cleanly and says nothing.
fn silent(fields: &Value) -> Policy {
    let policy = with(fields);
    assert_eq!(policy.problems, [], "{fields}");
    policy
}

/// Applies with a warning at the field.
fn suspicious(fields: &Value, at: &str) -> Policy {
    let policy = with(fields);
    assert_eq!((errors(&policy), warnings(&policy)), (vec![], vec![format!("[0].{at}")]), "{:?}", policy.problems);
    policy
}

/// Is refused at the field, and if it were stored all the same, its images are denied.
fn refused(fields: &Value, at: &str) -> Policy {
    let policy = with(fields);
    assert_eq!(errors(&policy), [format!("[0].{at}")], "{fields} {:?}", policy.problems);
    assert!(broken(&policy).starts_with(at), "{}", broken(&policy));
    assert_eq!(policy.entries[0].action, Action::Enforce);
    policy
}

#[test]
fn reads_every_field() {
    let policy = silent(&json!({
        "registry": "reg.local/team",
        "signer": ["a", "b@example.com"],
        "gpgKeyRef": "k8s://keys/group1",
        "lookaside": "http://store.local:81/sigstore/",
        "signedIdentity": {"type": "matchRepository"},
        "cosign": {"annotations": {"stage": "release"}},
        "insecure": false,
        "caRef": "k8s://keys/ca",
        "requireDigest": true,
        "action": "Warn",
    }));
    let entry = &policy.entries[0];
    assert_eq!((entry.index, entry.require_digest, entry.action), (0, true, Action::Warn));
    let check = signed(&policy);
    assert_eq!(check.signers, ["a", "b@example.com"]);
    assert!(!check.transport.insecure);
    assert_eq!(check.transport.ca_ref.as_ref().unwrap().to_string(), "k8s://keys/ca");
    let cosign = check.cosign.as_ref().unwrap();
    assert_eq!(
        (cosign.key_ref.as_ref().unwrap().to_string().as_str(), &*cosign.annotations["stage"]),
        ("k8s://keys/cosign", "release")
    );
    let gpg = check.gpg.as_ref().unwrap();
    assert_eq!(gpg.key_ref.to_string(), "k8s://keys/group1");
    assert_eq!(gpg.lookaside.as_deref(), Some("http://store.local:81/sigstore/"));
    assert_eq!(gpg.identity, SignedIdentity::MatchRepository);
}

#[test]
fn absent_null_and_empty_are_the_same_for_references_and_urls() {
    let absent = silent(&json!({}));
    for nothing in [json!(null), json!("")] {
        let policy = silent(&json!({
            "notary": nothing, "gpgKeyRef": nothing, "lookaside": nothing, "caRef": nothing,
        }));
        assert_eq!(policy.entries[0].check, absent.entries[0].check);
    }
    let check = signed(&absent);
    assert_eq!((&check.notary, &check.gpg, &check.transport.ca_ref), (&None, &None, &None));
    assert_eq!((absent.entries[0].action, absent.entries[0].require_digest), (Action::Enforce, false));
}

#[test]
fn the_first_sample_of_the_quick_start_applies() {
    let policy = with(&json!({
        "registry": "core.harbor.domain.io",
        "notary": "https://notary.harbor.domain.io",
        "cosignKeyRef": "k8s://<namespace>/<cosign_key_secret>",
        "signer": ["<signer1>", "<signer2>"],
    }));
    // It names no real Secret, so it governs and denies.
    assert_eq!((errors(&policy), warnings(&policy)), (vec![], vec!["[0].notary".into(), "[0].cosignKeyRef".into()]));
    assert!(broken(&policy).starts_with("cosignKeyRef: must be k8s://namespace/name"));
}

#[test]
fn cosign_key_is_read_with_and_without_scheme() {
    for text in ["k8s://ns-1/a.b-c", "ns-1/a.b-c"] {
        let policy = silent(&json!({"cosignKeyRef": text}));
        assert_eq!(signed(&policy).cosign.as_ref().unwrap().key_ref.as_ref().unwrap().to_string(), "k8s://ns-1/a.b-c");
    }
}

#[test]
fn i17_malformed_cosign_key_denies_and_still_applies() {
    let long = format!("k8s://{}/x", "n".repeat(64));
    for text in [
        "secret",
        "k8s://",
        "k8s://ns/",
        "k8s:///x",
        "k8s://ns/x/y",
        "k8s://Ns/x",
        "k8s://n.s/x",
        "k8s://ns/x_y",
        "k8s://ns/-x",
        "k8s://ns/x.",
        "k8s://ns/..",
        "file:///etc/key",
        "k8s://ns/x y",
        &long,
    ] {
        let policy = suspicious(&json!({"cosignKeyRef": text}), "cosignKeyRef");
        assert!(broken(&policy).starts_with("cosignKeyRef"), "{text}");
    }
}

#[test]
fn new_references_need_their_full_form() {
    for field in ["gpgKeyRef", "caRef"] {
        silent(&json!({field: "k8s://ns/name"}));
        for text in ["ns/name", "name", "k8s://ns", "k8s://ns/Name", "k8s://ns/n/m", "https://ns/name"] {
            refused(&json!({field: text}), field);
        }
        refused(&json!({field: 1}), field);
        refused(&json!({field: format!("k8s://ns/{}", "n".repeat(400))}), field);
    }
}

#[test]
fn i13_misspelt_field_is_named_and_denies() {
    let policy = refused(&json!({"signer ": ["x"]}), "signer ");
    assert!(broken(&policy).contains("unknown field"));
    for name in ["signers", "SignCheck", "cosignkeyref", "gpgKeyref"] {
        refused(&json!({name: true}), name);
    }
    refused(&json!({"cosign": {"identity": {}}}), "cosign.identity");
    refused(&json!({"signedIdentity": {"type": "matchExact", "Prefix": "x"}}), "signedIdentity.Prefix");
}

#[test]
fn i13_missing_sign_check_is_not_taken_for_false() {
    refused(&json!({"signCheck": null}), "signCheck");
    let policy = policy(&json!([{"registry": "reg.local"}]));
    assert_eq!(errors(&policy), ["[0].signCheck"]);
    assert!(broken(&policy).starts_with("signCheck: required"));
}

#[test]
fn wrong_types_are_refused() {
    for (field, value) in [
        ("signCheck", json!("true")),
        ("signCheck", json!(1)),
        ("notary", json!(["x"])),
        ("cosignKeyRef", json!({})),
        ("signer", json!("x")),
        ("signer", json!({"0": "x"})),
        ("lookaside", json!(true)),
        ("signedIdentity", json!("matchExact")),
        ("cosign", json!("x")),
        ("insecure", json!("false")),
        ("requireDigest", json!("yes")),
        ("action", json!(0)),
    ] {
        refused(&json!({field: value}), field);
    }
    refused(&json!({"signer": ["a", 1]}), "signer[1]");
    refused(&json!({"cosign": {"annotations": []}}), "cosign.annotations");
}

#[test]
fn a_broken_entry_neither_warns_only_nor_passes() {
    let policy = with(&json!({"action": "Audit", "signCheck": false, "signr": []}));
    assert_eq!(policy.entries[0].action, Action::Enforce);
    assert!(broken(&policy).starts_with("signr"));
}

#[test]
fn every_fault_is_reported_and_the_denial_stays_short() {
    let policy = with(&json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}));
    assert_eq!(errors(&policy).len(), 5);
    assert!(broken(&policy).ends_with("and 2 more"), "{}", broken(&policy));
    let policy = with(&json!({"x\n".repeat(5000): 1}));
    assert!(broken(&policy).len() < 600 && !broken(&policy).contains('\n'));
}

#[test]
fn action_is_one_of_three() {
    for (text, action) in [("Enforce", Action::Enforce), ("Warn", Action::Warn), ("Audit", Action::Audit)] {
        assert_eq!(silent(&json!({"action": text})).entries[0].action, action);
    }
    for text in ["", "warn", "Dryrun", "Enforce "] {
        refused(&json!({"action": text}), "action");
    }
}

#[test]
fn lookaside_is_a_plain_http_url() {
    let with_gpg = |url: &str| json!({"gpgKeyRef": "k8s://keys/g", "lookaside": url});
    for url in ["http://store", "https://store:8443/a/b/", "http://[::1]:81/x", "http://store/a@b"] {
        let policy = silent(&with_gpg(url));
        assert_eq!(signed(&policy).gpg.as_ref().unwrap().lookaside.as_deref(), Some(url));
    }
    for url in [
        "file:///var/lib/sigstore",
        "store/x",
        "HTTP://store",
        "http://",
        "http://user:secret@store/",
        "http://user@store/",
        "http://store/?q",
        "http://store/#f",
        "http://store/a b",
        "http://store\\@evil/",
        "http://store/\n",
        "ftp://store/",
    ] {
        let policy = refused(&with_gpg(url), "lookaside");
        assert!(!format!("{policy:?}").contains("secret"));
    }
    refused(&with_gpg(&format!("http://store/{}", "x".repeat(2048))), "lookaside");
}

fn identity(value: &Value) -> Value {
    json!({"gpgKeyRef": "k8s://keys/g", "signedIdentity": value})
}

#[test]
fn signed_identities_are_read() {
    let repository = Repository::parse("reg.local/a").unwrap();
    let reference: ImageRef = "reg.local/a:1".parse().unwrap();
    for (value, expected) in [
        (json!({"type": "matchExact"}), SignedIdentity::MatchExact),
        (json!({"type": "matchRepoDigestOrExact"}), SignedIdentity::MatchRepoDigestOrExact),
        (json!({"type": "matchRepository"}), SignedIdentity::MatchRepository),
        (
            json!({"type": "exactReference", "dockerReference": "reg.local/a:1"}),
            SignedIdentity::ExactReference(reference),
        ),
        (
            json!({"type": "exactRepository", "dockerRepository": "reg.local/a"}),
            SignedIdentity::ExactRepository(repository),
        ),
        (
            json!({"type": "remapIdentity", "prefix": "mirror.local", "signedPrefix": "vendor.example"}),
            SignedIdentity::remap("mirror.local", "vendor.example").unwrap(),
        ),
    ] {
        let policy = silent(&identity(&value));
        assert_eq!(signed(&policy).gpg.as_ref().unwrap().identity, expected);
    }
    let policy = silent(&json!({"gpgKeyRef": "k8s://keys/g"}));
    assert_eq!(signed(&policy).gpg.as_ref().unwrap().identity, SignedIdentity::MatchRepoDigestOrExact);
}

#[test]
fn e16_signed_identities_with_wrong_fields_are_refused() {
    for (value, at) in [
        (json!({}), "type"),
        (json!({"type": ""}), "type"),
        (json!({"type": "MatchExact"}), "type"),
        (json!({"type": "insecureAcceptAnything"}), "type"),
        (json!({"type": "matchExact", "dockerReference": "reg.local/a:1"}), "dockerReference"),
        (json!({"type": "exactReference"}), "dockerReference"),
        (json!({"type": "exactReference", "dockerReference": ""}), "dockerReference"),
        (json!({"type": "exactReference", "dockerReference": "reg.local/a"}), "dockerReference"),
        (json!({"type": "exactReference", "dockerReference": "reg.local/A:1"}), "dockerReference"),
        (json!({"type": "exactRepository"}), "dockerRepository"),
        (json!({"type": "exactRepository", "dockerRepository": "reg.local/a:1"}), "dockerRepository"),
        (json!({"type": "remapIdentity", "prefix": "a.example"}), "signedPrefix"),
        (json!({"type": "remapIdentity", "signedPrefix": "a.example"}), "prefix"),
    ] {
        refused(&identity(&value), &format!("signedIdentity.{at}"));
    }
}

#[test]
fn e16_a_remap_prefix_that_is_no_name_is_refused() {
    for (prefix, signed) in
        [("", "a.example"), ("a.example", ""), ("a.example/A", "b.example"), ("a.example", "b.example:x:y")]
    {
        let value = json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed});
        refused(&identity(&value), "signedIdentity");
    }
}

#[test]
fn annotations_are_bounded() {
    let many = |count: usize| {
        let map: serde_json::Map<_, _> = (0..count).map(|i| (format!("a{i}"), json!("v"))).collect();
        json!({"cosign": {"annotations": map}})
    };
    assert_eq!(signed(&silent(&many(16))).cosign.as_ref().unwrap().annotations.len(), 16);
    refused(&many(17), "cosign.annotations");
    silent(&json!({"cosign": {}}));
    refused(&json!({"cosign": {"annotations": {"a": 1}}}), "cosign.annotations[a]");
    refused(&json!({"cosign": {"annotations": {"": "v"}}}), "cosign.annotations[]");
    refused(&json!({"cosign": {"annotations": {"a": "v".repeat(1025)}}}), "cosign.annotations[a]");
    refused(
        &json!({"cosign": {"annotations": {"n".repeat(254): "v"}}}),
        &format!("cosign.annotations[{}…]", "n".repeat(64)),
    );
}

#[test]
fn what_has_no_effect_is_a_warning() {
    suspicious(&json!({"lookaside": "http://store"}), "lookaside");
    suspicious(&json!({"signedIdentity": {"type": "matchExact"}}), "signedIdentity");
    suspicious(&json!({"cosignKeyRef": null, "gpgKeyRef": "k8s://keys/g", "cosign": {}}), "cosign");
    suspicious(&json!({"insecure": true, "caRef": "k8s://keys/ca"}), "caRef");
    silent(&json!({"insecure": true}));
    suspicious(&json!({"notary": "https://notary.example"}), "notary");
    let policy = with(&json!({"notary": "notary.example"}));
    assert_eq!((errors(&policy), warnings(&policy).len()), (vec![], 2));
    assert_eq!(signed(&policy).notary.as_ref().map(|notary| &*notary.server), Some("notary.example"));
    // A key that is there already is not asked for once more.
    let said = |entry: &Value| with(entry).problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("\n");
    for (key, value) in [("cosignKeyRef", "k8s://ns/key"), ("gpgKeyRef", "k8s://ns/key"), ("cosignKeyRef", "nonsense")]
    {
        let text = said(&json!({"notary": "https://notary.example", key: value}));
        assert_eq!(text.contains("cosignKeyRef or gpgKeyRef"), value == "nonsense", "{text}");
    }
}

const NOTARY: &str = "https://notary.example";

#[test]
fn notary_is_trusted_by_keys_by_an_authority_or_from_first_use() {
    let id = "0123456789abcdef".repeat(4);
    let authority = ObjectRef { namespace: "keys".into(), name: "roots".into() };
    for (trust, read) in [
        (json!({"rootKeyIds": [id, "f".repeat(64)]}), NotaryTrust::RootKeys(vec![id.clone(), "f".repeat(64)])),
        (json!({"caRef": "k8s://keys/roots"}), NotaryTrust::Authority(authority)),
        (json!({"caRef": "", "firstUse": true}), NotaryTrust::FirstUse),
        (json!({"firstUse": true, "rootKeyIds": null}), NotaryTrust::FirstUse),
    ] {
        let policy = silent(&json!({"notary": NOTARY, "notaryTrust": trust}));
        let check = signed(&policy).notary.clone().unwrap();
        assert_eq!((check.server.as_str(), check.trust), (NOTARY, Some(read)));
    }
    assert_eq!(signed(&with(&json!({"notary": NOTARY}))).notary.as_ref().unwrap().trust, None);
}

#[test]
fn notary_trust_that_is_not_exactly_one_root_is_refused() {
    let id = "0".repeat(64);
    for (trust, at) in [
        (json!({}), ""),
        (json!({"caRef": ""}), ""),
        (json!({"rootKeyIds": [id], "firstUse": true}), ""),
        (json!({"caRef": "k8s://keys/roots", "firstUse": true}), ""),
        (json!({"rootKeyIds": [id], "caRef": "k8s://keys/roots"}), ""),
        (json!({"firstUse": false}), ".firstUse"),
        (json!({"firstUse": "true"}), ".firstUse"),
        (json!({"caRef": "keys/roots"}), ".caRef"),
        (json!({"rootKeyIds": []}), ".rootKeyIds"),
        (json!({"rootKeyIds": "x"}), ".rootKeyIds"),
        (json!({"rootKeyIds": vec![&id; 33]}), ".rootKeyIds"),
        (json!({"rootKeyIds": [1]}), ".rootKeyIds[0]"),
        (json!({"rootKeyIds": [id, "A".repeat(64)]}), ".rootKeyIds[1]"),
        (json!({"rootKeyIds": ["0".repeat(63)]}), ".rootKeyIds[0]"),
        (json!({"rootKeyIds": [id], "rootKeys": []}), ".rootKeys"),
        (json!("firstUse"), ""),
    ] {
        refused(&json!({"notary": NOTARY, "notaryTrust": trust}), &format!("notaryTrust{at}"));
    }
    silent(&json!({"notary": NOTARY, "notaryTrust": {"rootKeyIds": vec![&id; 32]}}));
}

#[test]
fn e20_what_is_seen_first_over_plain_http_is_never_trusted() {
    let first_use = json!({"firstUse": true});
    refused(&json!({"notary": "http://notary.example", "notaryTrust": first_use}), "notaryTrust.firstUse");
    refused(&json!({"notary": "notary.example", "notaryTrust": first_use}), "notaryTrust.firstUse");
    // With a root that is known beforehand it is a plain choice.
    let pinned = json!({"rootKeyIds": ["0".repeat(64)]});
    suspicious(&json!({"notary": "http://notary.example", "notaryTrust": pinned}), "notary");
}

#[test]
fn notary_urls_that_cannot_be_used_are_warned_of_and_kept() {
    let pinned = json!({"rootKeyIds": ["0".repeat(64)]});
    for url in
        ["notary.example", "ftp://notary.example", "https://u:secret@n.example", "https://n.example/?a", "https:"]
    {
        let policy = suspicious(&json!({"notary": url, "notaryTrust": pinned}), "notary");
        assert!(!policy.problems[0].message.contains("secret"), "{:?}", policy.problems);
        assert_eq!(signed(&policy).notary.as_ref().unwrap().server, url);
    }
    silent(&json!({"notary": "https://n.example:4443/base", "notaryTrust": pinned}));
    suspicious(&json!({"notaryTrust": pinned}), "notaryTrust");
    // A CA for the server although the registry itself is insecure.
    let both = json!({"insecure": true, "caRef": "k8s://keys/ca", "notary": NOTARY, "notaryTrust": pinned});
    silent(&both);
}

#[test]
fn doubtful_signers_are_warned_of_and_kept() {
    for (signer, at) in [("", "signer[1]"), (" a", "signer[1]"), ("a\t", "signer[1]")] {
        let policy = suspicious(&json!({"signer": ["x", signer]}), at);
        assert_eq!(signed(&policy).signers, ["x", signer]);
    }
    // Dropping the only signer would let any key pass.
    assert_eq!(signed(&suspicious(&json!({"signer": [""]}), "signer[0]")).signers, [""]);
    assert!(signed(&silent(&json!({"signer": []}))).signers.is_empty());
}

#[test]
fn i12_sign_check_without_a_method_applies_and_is_not_ready() {
    let policy = suspicious(&json!({"cosignKeyRef": null}), "signCheck");
    let check = signed(&policy);
    assert_eq!((&check.notary, &check.cosign, &check.gpg), (&None, &None, &None));
    assert!(policy.problems[0].message.contains("not Ready"));
}

#[test]
fn unchecked_registries_pass_and_unused_keys_are_warned_of() {
    let policy = silent(&json!({"signCheck": false, "cosignKeyRef": null}));
    assert_eq!(policy.entries[0].check, Check::Unchecked);
    for fields in [json!({}), json!({"cosignKeyRef": "no reference"}), json!({"cosignKeyRef": null, "signer": ["a"]})] {
        let mut fields = fields;
        fields["signCheck"] = json!(false);
        assert_eq!(suspicious(&fields, "signCheck").entries[0].check, Check::Unchecked);
    }
}

#[test]
fn an_unreadable_registry_hides_no_other_entry() {
    let policy = policy(&json!([
        {"registry": "not a registry", "signCheck": false},
        {"signCheck": false},
        {"registry": 5, "signCheck": false},
        "reg.local",
        null,
        {"registry": "", "signCheck": false},
        {"registry": "reg.local", "signCheck": false},
    ]));
    let expected = ["[0].registry", "[1].registry", "[2].registry", "[3]", "[4]", "[5].registry"];
    assert_eq!(errors(&policy), expected);
    assert_eq!((policy.entries.len(), policy.entries[0].index), (1, 6));
}

#[test]
fn objects_without_entries_still_exist_and_so_deny() {
    for (object, at) in [
        (json!(null), "spec"),
        (json!({}), "spec"),
        (json!({"spec": null}), "spec"),
        (json!({"spec": []}), "spec"),
        (json!({"spec": {}}), "spec.registries"),
        (json!({"spec": {"registries": null}}), "spec.registries"),
        (json!({"spec": {"registries": {"registry": "reg.local"}}}), "spec.registries"),
    ] {
        let policy = read_policy(PolicyId::cluster("p"), &object);
        assert_eq!(policy.problems.iter().filter(|p| p.error).map(|p| &*p.field).collect::<Vec<_>>(), [at], "{object}");
        assert!(policy.entries.is_empty());
        assert!(PolicySet::new([&policy]).any_for("ns"));
    }
}

#[test]
fn i11_empty_registries_are_a_policy_that_names_nothing() {
    let policy = policy(&json!([]));
    assert_eq!((errors(&policy), warnings(&policy), policy.entries.len()), (vec![], vec![String::new()], 0));
    assert!(PolicySet::new([&policy]).any_for("ns"));
}

#[test]
fn i13_unknown_field_beside_registries_is_reported() {
    let policy = read_policy(PolicyId::cluster("p"), &json!({"spec": {"registries": [], "registry": []}}));
    assert!(policy.problems.iter().any(|p| p.field == "spec.registry" && !p.error));
}

#[test]
fn i14_one_registry_twice_is_reported_and_both_stay() {
    let entry = |registry: &str| json!({"registry": registry, "signCheck": false});
    let policy = policy(&json!([entry("reg.local"), entry("reg.local/a"), entry("REG.local"), entry("reg.local/*")]));
    assert_eq!(errors(&policy), [""; 0]);
    assert!(warnings(&policy).contains(&"[2].registry".into()) && warnings(&policy).contains(&"[3].registry".into()));
    assert!(!warnings(&policy).contains(&"[1].registry".into()));
    assert_eq!(policy.entries.len(), 4);
}

#[test]
fn c18_ports_make_different_scopes() {
    let scope = |registry: &str| with(&json!({"registry": registry})).entries[0].scope.clone();
    assert_ne!(scope("reg.local"), scope("reg.local:443"));
    assert_eq!(scope("reg.local:443"), scope("REG.local:443"));
}

#[test]
fn c19_a_scheme_is_tolerated_with_a_warning_and_a_path_narrows() {
    let policy = suspicious(&json!({"registry": "https://reg.local/"}), "registry");
    assert_eq!(policy.entries[0].scope, silent(&json!({})).entries[0].scope);
    let narrow = silent(&json!({"registry": "reg.local/team"}));
    assert_eq!(&*narrow.entries[0].scope.path, "team");
    assert_ne!(narrow.entries[0].scope, policy.entries[0].scope);
}

#[test]
fn fingerprints_follow_content_and_not_position() {
    let entry = json!({"registry": "reg.local", "signCheck": true});
    let policy = policy(&json!([entry, {"registry": "reg.local", "signCheck": false}, entry]));
    let fingerprints: Vec<_> = policy.entries.iter().map(|e| e.fingerprint).collect();
    assert_eq!(fingerprints[0], fingerprints[2]);
    assert_ne!(fingerprints[0], fingerprints[1]);
}

#[test]
fn ten_thousand_entries_are_read_and_more_are_refused_and_still_govern() {
    let entries = |count: usize| {
        let entry =
            |i| json!({"registry": format!("r{i}.local"), "signCheck": true, "cosignKeyRef": "ns/key", "signer": [""]});
        Value::Array((0..count).map(entry).collect())
    };
    let policy = policy(&entries(10_000));
    assert_eq!((policy.entries.len(), errors(&policy).len()), (10_000, 0));
    assert_eq!(warnings(&policy).len(), 51);
    assert_eq!(policy.problems[50].message, "9950 more warnings are not listed");
    let key = |i: usize| match &policy.entries[i].check {
        Check::Signed(check) => check.cosign.as_ref().unwrap().key_ref.as_ref().unwrap().name.clone(),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&key(0), &key(9_999)), "equal references share their text");

    let policy = self::policy(&entries(10_001));
    // Refused when it is applied; stored all the same, it governs what it names.
    assert_eq!((policy.entries.len(), errors(&policy)), (10_001, vec![String::new()]));
}

#[test]
fn a_flood_of_warnings_hides_no_error() {
    let mut entries = vec![json!({"registry": "reg.local", "signCheck": true}); 200];
    entries.push(json!({"registry": "reg.local"}));
    let policy = policy(&Value::Array(entries));
    assert_eq!(errors(&policy), ["[200].signCheck"]);
}

#[test]
fn samples_load_and_only_the_notary_ones_warn() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut policies = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            if object["kind"] == "ConfigMap" {
                continue;
            }
            policies += 1;
            let policy = read_policy(PolicyId::cluster("p"), &object);
            assert!(!policy.entries.is_empty(), "{}", path.display());
            let doubts: Vec<_> = policy.problems.iter().map(|p| (p.error, &*p.field)).collect();
            let quick_start = path.ends_with("quick-start.yaml");
            let expected: &[_] = if quick_start { &[(false, "spec.registries[0].notary")] } else { &[] };
            assert_eq!(doubts, expected, "{}", path.display());
        }
    }
    assert_eq!(policies, 14);
}

#[test]
fn an_entry_takes_little_memory() {
    let fixed = size_of::<Entry>() + size_of::<SignedCheck>();
    assert!(fixed <= 600, "10,000 entries take {} KiB before their texts", fixed * 10_000 / 1024);
}

const PERSON: &str = "dev@example.test";

/// `cosign.identities` with this one identity.
fn keyless(fields: &Value) -> Value {
    json!({"cosignKeyRef": null, "cosign": {"identities": [fields]}})
}

#[test]
fn keyless_identities_are_read_and_are_the_cosign_method() {
    let policy = silent(&json!({"cosignKeyRef": null, "cosign": {
        "identities": [
            {"issuer": "https://issuer.test", "subject": PERSON},
            {"issuerRegExp": "https://[a-z]+\\.test", "subjectRegExp": ".*@example\\.test",
             "githubWorkflow": {"name": "n", "ref": "refs/heads/main", "repository": "a/b", "sha": "00", "trigger": "push"}},
        ],
        "threshold": 2, "trustRootRef": "k8s://ns/root", "transparencyLog": "NotRequired", "sct": "NotRequired",
        "repository": "sigs.local/all", "signedIdentity": {"type": "matchRepository"},
        "attestations": [{"predicateType": "https://slsa.dev/provenance/v1", "expression": "predicate.n == 1"},
                         {"predicateType": "t"}],
    }}));
    let check = signed(&policy).cosign.as_ref().unwrap();
    assert_eq!((check.key_ref.as_ref(), check.identities.len(), check.threshold), (None, 2, 2));
    assert_eq!((check.log_for_identities, check.log_for_keys, check.sct), (false, false, false));
    assert_eq!(check.trust_root.as_ref().unwrap().to_string(), "k8s://ns/root");
    assert_eq!(check.repository.as_ref().unwrap().to_string(), "sigs.local/all");
    assert_eq!(check.identity, Some(SignedIdentity::MatchRepository));
    assert_eq!(check.attestations[0].expression.as_ref().unwrap().source(), "predicate.n == 1");
    assert_eq!((check.attestations.len(), &check.attestations[1].expression), (2, &None));
    assert_eq!(check.identities[1].workflow.reference.as_deref(), Some("refs/heads/main"));
    let check = signed(&silent(&keyless(&json!({"issuer": "i", "subject": "s"})))).cosign.clone().unwrap();
    assert_eq!((check.log_for_identities, check.log_for_keys, check.sct, check.threshold), (true, false, true, 1));
    let required = silent(&json!({"cosign": {"transparencyLog": "Required"}}));
    assert!(signed(&required).cosign.as_ref().unwrap().log_for_keys);
}

#[test]
fn e16_e17_an_identity_has_one_issuer_and_one_subject() {
    for (fields, at) in [
        (json!({"issuer": "i"}), "subject"),
        (json!({"subject": "s"}), "issuer"),
        (json!({"issuer": "", "subject": "s"}), "issuer"),
        (json!({"issuer": "i", "issuerRegExp": "i", "subject": "s"}), "issuer"),
        (json!({"issuer": "i", "subject": "s", "subjectRegExp": "s"}), "subject"),
        (json!({"issuer": "i", "subjectRegExp": "("}), "subjectRegExp"),
        (json!({"issuer": "i", "subjectRegExp": "\\pL{900}"}), "subjectRegExp"),
        (json!({"issuer": "i", "subject": "s".repeat(1025)}), "subject"),
        (json!({"issuer": "i", "subject": 1}), "subject"),
        (json!({"issuer": "i", "subject": "s", "san": "x"}), "san"),
        (json!({"issuer": "i", "subject": "s", "githubWorkflow": {"branch": "x"}}), "githubWorkflow.branch"),
        (json!({"issuer": "i", "subject": "s", "githubWorkflow": {"sha": 1}}), "githubWorkflow.sha"),
        // Not absent: a restriction that lost its value would let everything pass.
        (json!({"issuer": "i", "subject": "s", "githubWorkflow": {"ref": ""}}), "githubWorkflow.ref"),
        (
            json!({"issuer": "i", "subject": "s", "githubWorkflow": {"repository": "", "ref": "r"}}),
            "githubWorkflow.repository",
        ),
    ] {
        let policy = with(&keyless(&fields));
        let at = format!("[0].cosign.identities[0].{at}");
        assert!(errors(&policy).contains(&at), "{fields} {:?}", policy.problems);
        broken(&policy);
    }
    suspicious(&keyless(&json!({"issuer": "i", "subjectRegExp": ".*"})), "cosign.identities[0].subjectRegExp");
}

#[test]
fn what_can_never_pass_is_warned_of() {
    let of = |kind: &str, expression: &str| json!({"cosign": {"attestations": [{"predicateType": kind, "expression": expression}]}});
    for kind in ["slsaprovenance", "spdxjson", "https://sigstore.dev/cosign/sign/v1"] {
        suspicious(&of(kind, "true"), "cosign.attestations[0].predicateType");
    }
    let policy = with(&of("slsaprovenance1", "true"));
    assert!(policy.problems[0].message.contains("https://slsa.dev/provenance/v1"), "{:?}", policy.problems);
    for never in ["'str'", "false", "3", "[true]", "predicate.n + 1", "size(predicate.a)"] {
        suspicious(&of("https://slsa.dev/provenance/v1", never), "cosign.attestations[0].expression");
    }
    for sometimes in ["true", "predicate.ok", "predicate.n == 3", "predicate.a.all(x, x == 1)"] {
        silent(&of("https://slsa.dev/provenance/v1", sometimes));
    }
    let equal = |threshold: usize, second: &str| {
        json!({"cosignKeyRef": null, "cosign": {"threshold": threshold, "identities": [
            {"issuer": "i", "subject": "s"}, {"issuer": "i", "subject": second}]}})
    };
    suspicious(&equal(2, "s"), "cosign.identities[1]");
    silent(&equal(2, "t"));
    silent(&equal(1, "s"));
}

#[test]
fn an_identity_that_cannot_be_read_gives_no_other_warning() {
    let policy = with(&keyless(&json!({"issuer": "i"})));
    assert_eq!(errors(&policy), ["[0].cosign.identities[0].subject"]);
    assert_eq!(warnings(&policy), Vec::<String>::new());
}

#[test]
fn fields_of_cosign_that_cannot_be_meant_are_refused() {
    for (cosign, at) in [
        (json!({"threshold": 0}), "threshold"),
        (json!({"threshold": 65}), "threshold"),
        (json!({"threshold": 1.5}), "threshold"),
        (json!({"threshold": "1"}), "threshold"),
        (json!({"transparencyLog": "required"}), "transparencyLog"),
        (json!({"sct": true}), "sct"),
        (json!({"trustRootRef": "ns/root"}), "trustRootRef"),
        (json!({"repository": "signatures"}), "repository"),
        (json!({"repository": "sigs.local/a:tag"}), "repository"),
        (json!({"signedIdentity": {"type": "x"}}), "signedIdentity.type"),
        (json!({"identities": {}}), "identities"),
        (json!({"identities": ["x"]}), "identities[0]"),
        (json!({"identities": vec![json!({"issuer": "i", "subject": "s"}); 65]}), "identities"),
        (json!({"attestations": [{}]}), "attestations[0].predicateType"),
        (json!({"attestations": [{"predicateType": ""}]}), "attestations[0].predicateType"),
        (json!({"attestations": [{"predicateType": "t", "expression": "predicate."}]}), "attestations[0].expression"),
        (json!({"attestations": [{"predicateType": "t", "expression": ""}]}), "attestations[0].expression"),
        (json!({"attestations": [{"predicateType": "t", "expression": "x == 1"}]}), "attestations[0].expression"),
        (json!({"attestations": vec![json!({"predicateType": "t"}); 17]}), "attestations"),
    ] {
        refused(&json!({ "cosign": cosign }), &format!("cosign.{at}"));
    }
    let mut alone = keyless(&json!({"issuer": "i", "subject": "s"}));
    alone["cosign"]["threshold"] = json!(2);
    refused(&alone, "cosign.threshold");
    alone["cosignKeyRef"] = json!("k8s://keys/cosign");
    silent(&alone);
    suspicious(&json!({"cosign": {"sct": "Required"}}), "cosign.sct");
    suspicious(&json!({"cosign": {"trustRootRef": "k8s://ns/root"}}), "cosign.trustRootRef");
    silent(&json!({"cosign": {"trustRootRef": "k8s://ns/root", "transparencyLog": "Required"}}));
}

#[test]
fn h19_one_policy_has_so_many_patterns() {
    let entry = |i: usize| {
        let identities: Vec<_> = (0..32).map(|i| json!({"issuerRegExp": format!("i{i}"), "subject": "s"})).collect();
        json!({"registry": format!("r{i}.local"), "signCheck": true, "cosign": {"identities": identities}})
    };
    let policy = policy(&Value::Array((0..9).map(entry).collect()));
    let broken = |i: usize| matches!(policy.entries[i].check, Check::Broken(_));
    assert_eq!(
        (policy.entries.len(), broken(7), broken(8)),
        (9, false, true),
        "the last one still governs, and denies"
    );
}
