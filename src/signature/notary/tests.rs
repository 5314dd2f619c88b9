use std::collections::BTreeMap;
use std::time::SystemTime;

use rcgen::date_time_ymd;
use serde_json::{Value, json};

use super::testing::*;
use super::*;
use crate::domain::digest::Digest;
use crate::domain::verdict::RefusalKind;
use crate::signature::SignatureError;

const GUN: &str = "registry.local/team/app";

fn now() -> SystemTime {
    SystemTime::now()
}

fn content(tag: &str) -> Vec<u8> {
    format!("manifest of {tag}").into_bytes()
}

fn digest_of(tag: &str) -> Digest {
    Digest::sha256(&content(tag))
}

/// Verifies all files as the method does, without fetching.
fn load(files: &BTreeMap<String, Vec<u8>>, pin: Pin<'_>, signers: &[&str]) -> Result<Collection, SignatureError> {
    load_at(files, pin, signers, now())
}

fn load_at(
    files: &BTreeMap<String, Vec<u8>>,
    pin: Pin<'_>,
    signers: &[&str],
    now: SystemTime,
) -> Result<Collection, SignatureError> {
    let root = UntrustedRoot::read(&files["root"], GUN)?.establish(pin, Some(now))?;
    let root = root.ok_or(SignatureError::UntrustedKey(None))?;
    root.check_current(now)?;
    let timestamp = root.timestamp(&files["timestamp"], now)?;
    let snapshot = root.snapshot(&files["snapshot"], &timestamp, now)?;
    let targets = root.targets(&files["targets"], &snapshot, now)?;
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let wanted = signers.iter().filter_map(|listed| role_of_signer(listed)).chain([RELEASES.to_owned()]);
    for role in wanted.collect::<std::collections::BTreeSet<_>>() {
        let (Some(delegation), Some(file)) = (targets.delegation(&role), snapshot.file(&role)) else { continue };
        match delegation.read(&files[&role], file, now) {
            Ok(read) => found.push(read),
            Err(error @ (SignatureError::Key(_) | SignatureError::NotValid(_))) => skipped.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(Collection::new(GUN, targets, found, skipped))
}

/// A repository with `1` in `targets`.
struct World {
    keys: Keys,
    root: Value,
    targets: Value,
}

impl World {
    fn new() -> Self {
        let keys = Keys::new(GUN);
        Self { root: keys.root(1), keys, targets: targets(1, &[("1", &content("1"))]) }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.with(&[], |_, _| {})
    }

    fn with(&self, roles: &[(&str, &Value, &[&Signer])], bend: impl Fn(&str, &mut Value)) -> BTreeMap<String, Vec<u8>> {
        let root = file(&self.root, &[&self.keys.root]);
        let own: [&Signer; 1] = [&self.keys.targets];
        let mut all: Vec<(&str, &Value, &[&Signer])> = vec![("targets", &self.targets, &own)];
        all.extend(roles);
        publish(&self.keys, &root, 1, &all, bend)
    }

    fn pins(&self) -> Vec<String> {
        vec![self.keys.root.id.clone()]
    }

    /// What comes of tag `1`.
    fn say(&self, files: &BTreeMap<String, Vec<u8>>) -> String {
        match load(files, Pin::Keys(&self.pins()), &[]) {
            Ok(collection) => say(&collection, Some("1"), "1", &[]),
            Err(error) => error.to_string(),
        }
    }
}

fn say(collection: &Collection, tag: Option<&str>, content: &str, signers: &[&str]) -> String {
    let signers: Vec<_> = signers.iter().map(|&name| name.to_owned()).collect();
    match collection.judge(tag, &digest_of(content), &signers) {
        Ok(signer) => signer,
        Err(refusal) => refusal.kind.reason().to_owned(),
    }
}

#[test]
fn a_sound_repository_is_accepted_by_either_id_of_its_root_key() {
    let world = World::new();
    let files = world.files();
    assert_eq!(world.say(&files), "targets");
    for pin in [world.keys.root.id.clone(), world.keys.root.plain_id()] {
        assert!(load(&files, Pin::Keys(&["0".repeat(64), pin]), &[]).is_ok());
    }
    assert!(load(&files, Pin::Any, &[]).is_ok());
    assert_ne!(world.keys.root.id, world.keys.root.plain_id());
}

#[test]
fn e20_a_root_with_other_keys_than_the_pinned_is_not_trusted() {
    let (world, other) = (World::new(), World::new());
    let files = world.files();
    for pins in [other.pins(), vec![], vec![world.keys.targets.id.clone()], vec![world.keys.root.id[..63].to_owned()]] {
        assert_eq!(load(&files, Pin::Keys(&pins), &[]).unwrap_err(), SignatureError::UntrustedKey(None));
    }
}

#[test]
fn each_of_the_five_methods_verifies_and_no_other_one_does_for_its_key() {
    let signers = [
        Signer::ecdsa(Ecdsa::Fixed),
        Signer::ecdsa(Ecdsa::Asn1),
        Signer::ecdsa(Ecdsa::P521),
        Signer::ed25519(),
        Signer::rsa("rsapss"),
        Signer::rsa("rsapkcs1v15"),
        Signer::rsa("pycrypto-pkcs#1 pss"),
        Signer::certified("anybody"),
    ];
    for signer in signers {
        let mut world = World::new();
        world.keys.targets = signer;
        world.root = world.keys.root(1);
        assert_eq!(world.say(&world.files()), "targets");
        // The same signature under another method's name.
        let other = if world.keys.targets.object["keytype"] == "ed25519" { "ecdsa" } else { "eddsa" };
        world.keys.targets = world.keys.targets.saying(other);
        assert!(world.say(&world.files()).contains("signed by 0 of the 1 keys"), "{}", world.say(&world.files()));
    }
    let mut world = World::new();
    world.keys.targets = Signer::rsa("rsapss").saying("rsapkcs1v15");
    world.root = world.keys.root(1);
    assert!(world.say(&world.files()).contains("signed by 0"));
}

/// A file that was changed after it was signed, at every level.
#[test]
fn a_file_that_was_tampered_with_is_refused() {
    let world = World::new();
    let good = world.files();
    let mut seen = std::collections::BTreeSet::new();
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut files = good.clone();
        let text = String::from_utf8(files[role].clone()).unwrap().replace("\"version\":1", "\"version\":2");
        files.insert(role.to_owned(), text.into_bytes());
        seen.insert(world.say(&files));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(!seen.contains("targets"));
}

/// Everything signed by the right keys, and not what it has to be.
#[test]
fn files_that_do_not_belong_together_are_refused() {
    let world = World::new();
    let other_tags = targets(2, &[("1", &content("other"))]);
    let mut files = world.files();
    // The targets of another time, signed as well as those of this one.
    files.insert("targets".to_owned(), file(&other_tags, &[&world.keys.targets]));
    assert!(world.say(&files).contains("targets.json is not the file"));
    let mut files = world.files();
    files.insert(
        "snapshot".to_owned(),
        world.with(&[], |role, v| {
            if role == "snapshot" {
                v["version"] = 2.into();
            }
        })["snapshot"]
            .clone(),
    );
    assert!(world.say(&files).contains("snapshot.json is not the file"));
    // A root that the snapshot does not list: a newer one exists, and its keys may not be these.
    let files = world.with(&[], |role, v| {
        if role == "snapshot" {
            v["meta"]["root"] = measured(b"another root");
        }
    });
    assert!(world.say(&files).contains("root.json is not the file"), "{}", world.say(&files));
}

#[test]
fn d11_what_has_expired_is_refused_whoever_signed_it() {
    let world = World::new();
    let files = world.files();
    let pins = world.pins();
    assert!(load_at(&files, Pin::Keys(&pins), &[], in_days(13)).is_ok());
    for (days, name) in [(15, "timestamp.json"), (1001, "timestamp.json"), (3651, "root.json")] {
        let error = load_at(&files, Pin::Keys(&pins), &[], in_days(days)).unwrap_err();
        assert!(
            matches!(&error, SignatureError::NotValid(text) if text.starts_with(&format!("{name} expired on "))),
            "{error}"
        );
    }
    for role in ["snapshot", "timestamp"] {
        let files = world.with(&[], |of, value| {
            if of == role {
                value["expires"] = "2020-01-01T00:00:00Z".into();
            }
        });
        assert_eq!(world.say(&files), format!("{role}.json expired on 2020-01-01"));
    }
    let mut world = World::new();
    world.targets["expires"] = "2020-01-01T00:00:00.123456789+09:00".into();
    assert_eq!(world.say(&world.files()), "targets.json expired on 2019-12-31");
}

#[test]
fn e11_e12_thresholds_count_different_keys_and_are_never_zero() {
    let mut world = World::new();
    let second = Signer::ecdsa(Ecdsa::Fixed);
    world.root["keys"][&second.id] = second.object.clone();
    world.root["roles"]["targets"] = json!({"keyids": [world.keys.targets.id, second.id, second.id], "threshold": 2});
    let signed = |signers: &[&Signer]| {
        let root = file(&world.root, &[&world.keys.root]);
        world.say(&publish(&world.keys, &root, 1, &[("targets", &world.targets, signers)], |_, _| {}))
    };
    assert_eq!(signed(&[&world.keys.targets, &second]), "targets");
    assert!(signed(&[&second, &second]).contains("validly signed by 1 of the 2 keys"));
    assert!(signed(&[&world.keys.targets]).contains("validly signed by 1 of the 2 keys"));
    for threshold in [json!(0), json!(-1), json!("1"), json!(true), Value::Null] {
        world.root["roles"]["targets"]["threshold"] = threshold;
        let said = world.say(&world.files());
        assert!(said.starts_with("malformed signature"), "{said}");
    }
}

#[test]
fn e11_one_key_under_two_ids_counts_once() {
    let mut world = World::new();
    // The same key, once in a certificate and once without.
    let certified = Signer::certified("anybody");
    let spki = {
        let value = crate::signature::json::parse(certified.object.to_string().as_bytes(), 1 << 20, "key").unwrap();
        let key = key::Key::read(&certified.id, &value).unwrap();
        key.bundle.unwrap().first_key().to_vec()
    };
    let public = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, spki);
    let plain = json!({"keytype": "ecdsa", "keyval": {"private": null, "public": public}});
    let plain_id = certified.plain_id();
    world.root["keys"][&certified.id] = certified.object.clone();
    world.root["keys"][&plain_id] = plain;
    world.root["roles"]["targets"] = json!({"keyids": [certified.id, plain_id], "threshold": 2});
    let root = file(&world.root, &[&world.keys.root]);
    let mut bytes: Value = serde_json::from_slice(&file(&world.targets, &[&certified])).unwrap();
    let mut again = bytes["signatures"][0].clone();
    again["keyid"] = plain_id.into();
    bytes["signatures"].as_array_mut().unwrap().push(again);
    let bytes = bytes.to_string().into_bytes();
    let mut files = publish(&world.keys, &root, 1, &[("targets", &world.targets, &[])], |role, value| {
        if role == "snapshot" {
            value["meta"]["targets"] = measured(&bytes);
        }
    });
    files.insert("targets".to_owned(), bytes.clone());
    assert!(world.say(&files).contains("validly signed by 1 of the 2 keys"), "{}", world.say(&files));
}

#[test]
fn root_certificates_are_leaves_for_this_repository_and_valid() {
    let with = |params: &rcgen::CertificateParams| {
        let mut world = World::new();
        world.keys.root = Signer::with(params, None);
        world.root = world.keys.root(1);
        world.say(&world.files())
    };
    for name in [GUN, "registry.local/team/*", "registry.local/*"] {
        assert_eq!(with(&parameters(name)), "targets", "{name}");
    }
    for name in ["registry.local/team", "registry.local/team/app2", "registry.local/other/*", "", "alice"] {
        assert!(with(&parameters(name)).contains("has no usable root key"), "{name}");
    }
    let mut authority = parameters(GUN);
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert!(with(&authority).contains("do not begin with the only one that is no authority"));
    let mut expired = parameters(GUN);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = parameters(GUN);
    early.not_before = date_time_ymd(2090, 1, 1);
    for params in [expired, early] {
        assert_eq!(with(&params), "signed by an untrusted key");
    }
    let mut two = parameters(GUN);
    two.distinguished_name.push(rcgen::DnType::CommonName, "registry.local/other");
    // rcgen keeps one name of a kind; what counts is that no other one does.
    assert!(with(&two).contains("has no usable root key"));
}

#[test]
fn a_root_certificate_comes_from_the_authority_or_one_below_it() {
    let (authority, stranger) = (Authority::new("roots"), Authority::new("roots"));
    let below = authority.below("signing");
    let trusted = Authorities::from_pem(authority.pem().as_bytes()).unwrap();
    let accepted = |root: Signer| {
        let mut world = World::new();
        world.keys.root = root;
        world.root = world.keys.root(1);
        load(&world.files(), Pin::Authorities(&trusted), &[]).is_ok()
    };
    assert!(accepted(Signer::with(&parameters(GUN), Some(&authority))));
    let through = Signer::with(&parameters(GUN), Some(&below));
    let pem = through.pem() + &below.pem();
    assert!(accepted(through.bundled(&pem)));
    // The one in between is missing, or stands in front.
    let through = Signer::with(&parameters(GUN), Some(&below));
    let pem = below.pem() + &through.pem();
    assert!(!accepted(Signer::with(&parameters(GUN), Some(&below))));
    assert!(!accepted(through.bundled(&pem)));
    assert!(!accepted(Signer::with(&parameters(GUN), Some(&stranger))));
    assert!(!accepted(Signer::certified(GUN)));
    // Made for something else.
    let mut client = parameters(GUN);
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    assert!(!accepted(Signer::with(&client, Some(&authority))));
    for usage in [rcgen::ExtendedKeyUsagePurpose::CodeSigning, rcgen::ExtendedKeyUsagePurpose::ServerAuth] {
        let mut params = parameters(GUN);
        params.extended_key_usages = vec![usage];
        assert!(accepted(Signer::with(&params, Some(&authority))));
    }
    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Authorities::from_pem(bad.as_bytes()).is_err());
    }
}

#[test]
fn a_rotated_root_follows_from_the_one_before_it() {
    let (old, new) = (Keys::new(GUN), Keys::new(GUN));
    let read = |bytes: &[u8]| UntrustedRoot::read(bytes, GUN).unwrap();
    let first = read(&file(&old.root(1), &[&old.root]));
    let first = first.establish(Pin::Keys(std::slice::from_ref(&old.root.id)), None).unwrap().unwrap();
    let follows = |version: u64, signers: &[&Signer]| read(&file(&new.root(version), signers)).follow(&first);
    let second = follows(2, &[&new.root, &old.root]).unwrap();
    assert_eq!(second.version(), 2);
    // Signed by one of them only, or a version left out or repeated.
    for (version, signers) in
        [(2, vec![&new.root]), (2, vec![&old.root]), (3, vec![&new.root, &old.root]), (1, vec![&new.root, &old.root])]
    {
        assert!(follows(version, &signers).is_err(), "{version}");
    }
    // The old key has nothing to say after that.
    assert!(read(&file(&old.root(3), &[&old.root])).follow(&second).is_err());
    assert!(read(&file(&new.root(3), &[&new.root])).follow(&second).is_ok());
}

#[test]
fn an_old_root_is_trusted_whenever_its_certificate_was_valid_and_a_new_one_is_not() {
    let mut expired = parameters(GUN);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut keys = Keys::new(GUN);
    keys.root = Signer::with(&expired, None);
    let root = UntrustedRoot::read(&file(&keys.root(1), &[&keys.root]), GUN).unwrap();
    let pins = [keys.root.id.clone()];
    assert!(root.establish(Pin::Keys(&pins), Some(now())).unwrap().is_none());
    let old = root.establish(Pin::Keys(&pins), None).unwrap().unwrap();
    assert!(old.check_current(now()).is_err());
}

#[test]
fn d11_versions_never_go_back() {
    let world = World::new();
    let versions = |timestamp: u64, targets_version: u64| {
        let mut world_targets = world.targets.clone();
        world_targets["version"] = targets_version.into();
        let root = file(&world.root, &[&world.keys.root]);
        let files =
            publish(&world.keys, &root, timestamp, &[("targets", &world_targets, &[&world.keys.targets])], |_, _| {});
        let root = UntrustedRoot::read(&files["root"], GUN).unwrap().establish(Pin::Any, None).unwrap().unwrap();
        let timestamp = root.timestamp(&files["timestamp"], now()).unwrap();
        let snapshot = root.snapshot(&files["snapshot"], &timestamp, now()).unwrap();
        let targets = root.targets(&files["targets"], &snapshot, now()).unwrap();
        Versions::of(&root, &timestamp, &snapshot, [&targets])
    };
    let before = versions(5, 3);
    for (timestamp, targets, fine) in [(5, 3, true), (6, 4, true), (4, 3, false), (6, 2, false)] {
        let result = versions(timestamp, targets).check(&before);
        assert_eq!(result.is_ok(), fine, "{timestamp} {targets}: {result:?}");
    }
    // What one look did not go to is still remembered.
    let merged = versions(6, 2).merged(&before);
    assert!(versions(6, 2).check(&merged).is_err() && versions(5, 3).check(&merged).is_err());
    assert!(versions(6, 3).check(&merged).is_ok() && Versions::default().check(&merged).is_ok());
}

#[test]
fn e13_releases_decide_before_targets_and_other_roles_release_nothing() {
    let mut world = World::new();
    let (team, alice) = (Signer::rsa("rsapss"), Signer::certified("alice"));
    world.targets = targets(1, &[("1", &content("old")), ("base", &content("base"))]);
    delegate(&mut world.targets, RELEASES, &[&team], &[""]);
    delegate(&mut world.targets, "targets/alice", &[&alice], &[""]);
    let released = targets(1, &[("1", &content("1")), ("2", &content("2"))]);
    let by_alice = targets(1, &[("1", &content("1")), ("alpha", &content("alpha")), ("2", &content("else"))]);
    let files = world.with(&[(RELEASES, &released, &[&team]), ("targets/alice", &by_alice, &[&alice])], |_, _| {});
    let pins = world.pins();
    let all = load(&files, Pin::Keys(&pins), &["alice"]).unwrap();
    for (tag, content, signers, expected) in [
        (Some("1"), "1", &[][..], "targets/releases"),
        (Some("1"), "old", &[], "DigestMismatch"),
        (Some("base"), "base", &[], "targets"),
        (Some("alpha"), "alpha", &[], "Unsigned"),
        (Some("3"), "1", &[], "Unsigned"),
        (None, "2", &[], "targets/releases"),
        (None, "base", &[], "targets"),
        // Released once, and not any more.
        (None, "old", &[], "Unsigned"),
        (None, "alpha", &[], "Unsigned"),
        // Signers.
        (Some("1"), "1", &["alice"], "alice"),
        (Some("1"), "1", &["targets/alice"], "targets/alice"),
        (Some("1"), "1", &["bob", "alice"], "alice"),
        (None, "1", &["alice"], "alice"),
        (Some("1"), "1", &["bob"], "SignerMismatch"),
        (Some("1"), "1", &["alice@example.org", ""], "SignerMismatch"),
        (Some("1"), "1", &["releases"], "releases"),
        (Some("1"), "1", &["Repo Admin"], "SignerMismatch"),
        (Some("base"), "base", &["Repo Admin"], "Repo Admin"),
        (Some("base"), "base", &["alice"], "SignerMismatch"),
    ] {
        assert_eq!(say(&all, tag, content, signers), expected, "{tag:?} {content} {signers:?}");
    }
}

#[test]
fn d12_the_signer_must_have_signed_the_same_tag_with_the_same_digest() {
    let mut world = World::new();
    let alice = Signer::certified("alice");
    delegate(&mut world.targets, "targets/alice", &[&alice], &[""]);
    let pins = world.pins();
    for (theirs, expected) in [
        (targets(1, &[("1", &content("1"))]), "alice"),
        (targets(1, &[("1", &content("other"))]), "SignerMismatch"),
        (targets(1, &[("2", &content("1"))]), "SignerMismatch"),
    ] {
        let files = world.with(&[("targets/alice", &theirs, &[&alice])], |_, _| {});
        let collection = load(&files, Pin::Keys(&pins), &["alice"]).unwrap();
        assert_eq!(say(&collection, Some("1"), "1", &["alice"]), expected);
    }
}

#[test]
fn a_delegation_speaks_for_its_paths_alone() {
    let mut world = World::new();
    let (team, inner) = (Signer::ed25519(), Signer::ed25519());
    world.targets = targets(1, &[]);
    delegate(&mut world.targets, RELEASES, &[&team], &["v1", "stable"]);
    let mut released = targets(1, &[("v1.2", &content("v1.2")), ("v2", &content("v2")), ("stable", &content("s"))]);
    delegate(&mut released, "targets/releases/inner", &[&inner], &["v1.", "v2"]);
    let files = world.with(&[(RELEASES, &released, &[&team])], |_, _| {});
    let pins = world.pins();
    let collection = load(&files, Pin::Keys(&pins), &[]).unwrap();
    assert_eq!(say(&collection, Some("v1.2"), "v1.2", &[]), RELEASES);
    assert_eq!(say(&collection, Some("stable"), "s", &[]), RELEASES);
    assert_eq!(say(&collection, Some("v2"), "v2", &[]), "Unsigned");
    assert_eq!(say(&collection, None, "v2", &[]), "Unsigned");
    // Nor can it give away what it does not have.
    let holder = collection.files().find(|targets| targets.role() == RELEASES).unwrap();
    let below = targets(1, &[("v1.9", &content("a")), ("v2", &content("b")), ("v1", &content("c"))]);
    let bytes = file(&below, &[&inner]);
    let meta = {
        let files = world.with(&[(RELEASES, &released, &[&team])], |role, value| {
            if role == "snapshot" {
                value["meta"]["targets/releases/inner"] = measured(&bytes);
            }
        });
        let root = UntrustedRoot::read(&files["root"], GUN).unwrap().establish(Pin::Any, None).unwrap().unwrap();
        let timestamp = root.timestamp(&files["timestamp"], now()).unwrap();
        root.snapshot(&files["snapshot"], &timestamp, now()).unwrap().file("targets/releases/inner").unwrap().clone()
    };
    let inner = holder.delegation("targets/releases/inner").unwrap().read(&bytes, &meta, now()).unwrap();
    assert!(inner.target("v1.9").is_some() && inner.target("v2").is_none() && inner.target("v1").is_none());
}

#[test]
fn a_delegation_that_expired_or_lacks_signatures_is_left_out_and_named() {
    let mut world = World::new();
    let (team, stranger) = (Signer::ed25519(), Signer::ed25519());
    delegate(&mut world.targets, RELEASES, &[&team], &[""]);
    let pins = world.pins();
    let mut released = targets(1, &[("2", &content("2"))]);
    let unsigned = world.with(&[(RELEASES, &released, &[&stranger])], |_, _| {});
    released["expires"] = "2020-01-01T00:00:00Z".into();
    let expired = world.with(&[(RELEASES, &released, &[&team])], |_, _| {});
    for (files, why) in [(unsigned, "validly signed by 0 of the 1 keys"), (expired, "expired on 2020-01-01")] {
        let collection = load(&files, Pin::Keys(&pins), &[]).unwrap();
        assert_eq!(say(&collection, Some("1"), "1", &[]), "targets");
        let refusal = collection.judge(Some("2"), &digest_of("2"), &[]).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Unsigned);
        assert!(
            refusal.detail.contains(&format!(
                "not counted: targets/releases.json {}",
                if why.starts_with('e') { why.to_owned() } else { format!("is {why}") }
            )),
            "{}",
            refusal.detail
        );
    }
}

#[test]
fn a_delegation_without_keys_spoils_only_itself() {
    let mut world = World::new();
    delegate(&mut world.targets, RELEASES, &[], &[""]);
    let released = targets(1, &[("2", &content("2"))]);
    let files = world.with(&[(RELEASES, &released, &[&world.keys.targets])], |_, _| {});
    let collection = load(&files, Pin::Keys(&world.pins()), &[]).unwrap();
    assert_eq!(say(&collection, Some("1"), "1", &[]), "targets");
    assert_eq!(say(&collection, Some("2"), "2", &[]), "Unsigned");
}

#[test]
fn e42_malformed_files_are_errors() {
    let world = World::new();
    let (good, pins) = (world.files(), world.pins());
    let bad: [&[u8]; 12] = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"{\"signed\":[],\"signatures\":[]}",
        b"{\"signed\":{},\"signatures\":[]}",
        b"{\"signed\":{},\"signed\":{},\"signatures\":[{}]}",
        b"{\"signed\":{\"_type\":1},\"signatures\":[{}]}",
        b"{\"signed\":{},\"signatures\":[{\"keyid\":\"\",\"method\":\"eddsa\",\"sig\":\"!\"}]}",
        b"\xff\xfe",
        b"{\"signed\":{\"x\":1.5},\"signatures\":[{\"keyid\":\"\",\"method\":\"eddsa\",\"sig\":\"\"}]}",
    ];
    for role in ["root", "timestamp", "snapshot", "targets"] {
        for bytes in bad {
            let mut files = good.clone();
            files.insert(role.to_owned(), bytes.to_vec());
            assert!(load(&files, Pin::Keys(&pins), &[]).is_err(), "{role}");
        }
        // Every place of a good file bent a little; nothing of it may pass or panic.
        for place in (0..good[role].len()).step_by(7) {
            let mut files = good.clone();
            files.get_mut(role).unwrap()[place] ^= 0x11;
            assert!(load(&files, Pin::Keys(&pins), &[]).is_err(), "{role} at {place}");
            files.get_mut(role).unwrap().truncate(place);
            assert!(load(&files, Pin::Keys(&pins), &[]).is_err(), "{role} cut at {place}");
        }
    }
}

/// Each rightly signed, and with one thing wrong inside.
#[test]
fn e42_e43_signed_files_with_wrong_content_are_refused() {
    let refused = |bend: &dyn Fn(&mut World)| {
        let mut world = World::new();
        bend(&mut world);
        let said = world.say(&world.files());
        assert_ne!(said, "targets");
        said
    };
    let team = Signer::ed25519();
    for name in ["targets/../x", "targets/", "targets", "other/x", "targets/A", "targets/a/b"] {
        let said = refused(&|world| delegate(&mut world.targets, name, &[&team], &[""]));
        assert!(said.contains("no role below it"), "{said}");
    }
    refused(&|world| {
        delegate(&mut world.targets, RELEASES, &[&team], &[""]);
        delegate(&mut world.targets, RELEASES, &[&team], &[""]);
    });
    refused(&|world| world.targets["_type"] = "targets".into());
    refused(&|world| world.targets["_type"] = "Snapshot".into());
    refused(&|world| world.targets["version"] = 0.into());
    refused(&|world| world.targets["expires"] = "never".into());
    refused(&|world| world.targets["targets"]["1"]["hashes"] = json!({}));
    refused(&|world| world.targets["targets"]["1"]["hashes"]["sha256"] = "AAAA".into());
    refused(&|world| world.targets["targets"] = Value::Null);
    refused(&|world| world.root["keys"][&world.keys.targets.id]["keyval"]["private"] = "x".into());
    // Another key under a known id.
    let stranger = Signer::ed25519();
    refused(&|world| world.root["keys"][&world.keys.targets.id] = stranger.object.clone());
    refused(&|world| world.root["roles"]["timestamp"] = Value::Null);
}

#[test]
fn e32_large_files_and_lists_are_refused() {
    let world = World::new();
    let pins = world.pins();
    let too_long = world.with(&[], |role, value| {
        if role == "snapshot" {
            value["meta"]["targets"]["length"] = (MAX_FILE + 1).into();
        }
    });
    assert!(load(&too_long, Pin::Keys(&pins), &[]).is_err());
    let mut files = world.files();
    let padded = [files["root"].clone(), vec![b' '; MAX_UNMEASURED]].concat();
    files.insert("root".to_owned(), padded);
    assert!(load(&files, Pin::Keys(&pins), &[]).unwrap_err().to_string().contains("more than 1048576 bytes"));
    let many: Vec<_> = (0..65).map(|_| &world.keys.timestamp).collect();
    let mut files = world.files();
    let timestamp: Value = serde_json::from_slice(&files["timestamp"]).unwrap();
    files.insert("timestamp".to_owned(), file(&timestamp["signed"], &many));
    assert!(load(&files, Pin::Keys(&pins), &[]).is_err());
    files.insert("timestamp".to_owned(), file(&timestamp["signed"], &many[..64]));
    assert!(load(&files, Pin::Keys(&pins), &[]).is_ok());
}

#[test]
fn sha512_digests_are_compared_with_their_own_hash() {
    let world = World::new();
    let collection = load(&world.files(), Pin::Keys(&world.pins()), &[]).unwrap();
    let wide = Digest::of(crate::domain::digest::Algorithm::Sha512, &content("1"));
    assert!(collection.judge(Some("1"), &wide, &[]).is_ok());
    let mut world = World::new();
    world.targets["targets"]["1"]["hashes"].as_object_mut().unwrap().remove("sha512");
    let collection = load(&world.files(), Pin::Keys(&world.pins()), &[]).unwrap();
    assert!(collection.judge(Some("1"), &wide, &[]).is_err());
    assert!(collection.judge(Some("1"), &digest_of("1"), &[]).is_ok());
}
