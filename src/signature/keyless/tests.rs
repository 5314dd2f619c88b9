pub(crate) mod world;

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::SanType;
use serde_json::{Value, json};

use self::world::{Person, SIGNATURE_TYPE, Signing, Wanted, World, b64};
use super::{Evidence, LegacyEvidence, TrustRoot};
use crate::domain::digest::Digest;
use crate::domain::keyless::{Certified, KeylessIdentity, TextRule, Workflow};
use crate::signature::cosign::{Claim, Layer, PublicKeys, Signer, Statement, Trust};

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/\
                        extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn text(path: &Path, default: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| default.to_owned(), |text| text.trim().to_owned())
}

/// One case as its README says; the error is why it is refused.
fn judge(case: &Path) -> Result<(), String> {
    let root = std::fs::read(case.join("trusted_root.json"));
    let root = root.map_or_else(|_| TrustRoot::public_good(), |json| TrustRoot::parse(&json))?;
    let artifact = std::fs::read(case.join("artifact")).or_else(|_| std::fs::read(case.with_file_name("a.txt")));
    let artifact = artifact.map_err(|error| error.to_string())?;
    let bundle = std::fs::read(case.join("bundle.sigstore.json")).map_err(|error| error.to_string())?;
    let key = std::fs::read(case.join("key.pub")).ok();
    let keys = key.as_ref().map(|pem| PublicKeys::from_pem(pem).0).unwrap_or_default();
    let trust = Trust {
        keys: &keys,
        root: Some(&root),
        log_for_keys: true,
        keyless: key.is_none().then_some(Evidence { log: true, sct: true }),
        attestations: true,
    };
    let rule = KeylessIdentity {
        issuer: TextRule::Exact(text(&case.join("issuer"), ISSUER)),
        subject: TextRule::Exact(text(&case.join("identity"), IDENTITY)),
        workflow: Workflow::default(),
    };
    match trust.artifact(&bundle, &artifact).map_err(|error| error.to_string())? {
        Signer::Key(_) => Ok(()),
        Signer::Certificate(certified) => {
            rule.accepts(&certified).map(drop).ok_or_else(|| format!("another identity: {certified:?}"))
        }
    }
}

/// The vectors of Sigstore's conformance suite, where they are at hand: the folder `bundle-verify` of its assets.
#[test]
fn the_conformance_vectors_give_the_expected_answers() {
    let Some(directory) = std::env::var_os("PODSEAL_SIGSTORE_CONFORMANCE") else {
        println!("skipped: PODSEAL_SIGSTORE_CONFORMANCE does not name the vectors");
        return;
    };
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in std::fs::read_dir(Path::new(&directory)).unwrap() {
        let case = case.unwrap().path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        match (judge(&case), name.ends_with("_fail")) {
            (Ok(()), false) => accepted += 1,
            (Err(why), true) => {
                println!("{name}: {why}");
                refused += 1;
            }
            (result, _) => wrong.push(format!("{name}: {result:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(accepted >= 20 && refused >= 40, "{accepted} accepted, {refused} refused: are all there?");
}

const ALL: Evidence = Evidence { log: true, sct: true };
const DEV: &str = "dev@example.test";

fn image() -> Digest {
    Digest::sha256(b"image")
}

fn root(json: &Value) -> TrustRoot {
    TrustRoot::parse(json.to_string().as_bytes()).unwrap()
}

/// Keyless alone, under this root.
fn judge_bundle(trusted: &Value, bundle: &Value, evidence: Evidence) -> Result<Claim, String> {
    let (root, keys) = (root(trusted), PublicKeys::default());
    let trust =
        Trust { keys: &keys, root: Some(&root), log_for_keys: false, keyless: Some(evidence), attestations: false };
    trust.bundle(bundle.to_string().as_bytes(), &image()).map_err(|error| error.to_string())
}

fn certified(claim: Claim) -> Certified {
    match claim.signer {
        Signer::Certificate(certified) => certified,
        Signer::Key(key) => panic!("{key}"),
    }
}

fn signature(world: &World, person: &Person) -> Value {
    world.bundle(person, &world::statement(&image(), SIGNATURE_TYPE, &json!({})))
}

fn at<'a>(bundle: &'a mut Value, pointer: &str) -> &'a mut Value {
    bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"))
}

#[test]
fn a_keyless_bundle_of_a_private_world_is_accepted_and_says_who_signed() {
    let world = World::new();
    let mut wanted = Wanted::email(DEV);
    wanted.extensions = vec![(1, wanted.issuer.into()), (5, b"team/app".to_vec()), (6, b"refs/heads/main".to_vec())];
    let claim = judge_bundle(&world.root(), &signature(&world, &world.person(&wanted)), ALL).unwrap();
    assert!(matches!(&claim.statement, Statement::Signature { reference: None, .. }));
    let found = certified(claim);
    assert_eq!((found.issuer.as_str(), found.subjects), ("https://issuer.test", vec![DEV.to_owned()]));
    let workflow = Workflow {
        repository: Some("team/app".into()),
        reference: Some("refs/heads/main".into()),
        ..Workflow::default()
    };
    assert_eq!(found.workflow, workflow);
}

#[test]
fn every_kind_of_name_that_fulcio_gives_is_read() {
    let world = World::new();
    let uri = "https://ci.test/team/app/.github/workflows/release.yml@refs/heads/main";
    let other = SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 57264, 1, 7], "maker!example.test".into()));
    let stranger = SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], DEV.into()));
    for (subject, name) in [
        (SanType::URI(uri.try_into().unwrap()), vec![uri]),
        (SanType::DnsName("build.example.test".try_into().unwrap()), vec!["build.example.test"]),
        (other, vec!["maker!example.test"]),
        // A name of a kind that Fulcio does not give names nobody.
        (stranger, vec![]),
    ] {
        let person = world.person(&Wanted { subject, ..Wanted::email(DEV) });
        let found = certified(judge_bundle(&world.root(), &signature(&world, &person), ALL).unwrap());
        assert_eq!(found.subjects, name);
    }
}

#[test]
fn e4_e5_a_signature_under_another_root_or_of_another_world_is_refused() {
    let (world, other) = (World::new(), World::new());
    let bundle = signature(&world, &world.person(&Wanted::email(DEV)));
    judge_bundle(&world.root(), &bundle, ALL).unwrap();
    let public = serde_json::from_str::<Value>(sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    for foreign in [other.root(), public] {
        judge_bundle(&foreign, &bundle, ALL).unwrap_err();
    }
    // One party of the other world is enough to refuse.
    for party in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let mut mixed = world.root();
        mixed[party] = other.root()[party].clone();
        judge_bundle(&mixed, &bundle, ALL).unwrap_err();
        mixed[party] = json!([]);
        judge_bundle(&mixed, &bundle, ALL).unwrap_err();
    }
}

#[test]
fn e3_e5_e41_a_bundle_with_one_thing_changed_is_refused() {
    let world = World::new();
    let person = world.person(&Wanted::email(DEV));
    let other = world.person(&Wanted::email("other@example.test"));
    let good = signature(&world, &person);
    let foreign = signature(&world, &other);
    let older = world.bundle(&person, &world::statement(&Digest::sha256(b"older"), SIGNATURE_TYPE, &json!({})));
    judge_bundle(&world.root(), &good, ALL).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    let swaps = [
        ("certificate", "/verificationMaterial/certificate/rawBytes", &foreign),
        ("e3_foreign_entry", entry, &foreign),
        ("e3_entry_of_another_artifact", entry, &older),
        ("body", "/verificationMaterial/tlogEntries/0/canonicalizedBody", &older),
        ("promise", "/verificationMaterial/tlogEntries/0/inclusionPromise", &older),
        ("proof", "/verificationMaterial/tlogEntries/0/inclusionProof", &older),
        ("payload", "/dsseEnvelope/payload", &older),
        ("signature", "/dsseEnvelope/signatures", &foreign),
    ];
    for (what, pointer, from) in swaps {
        let mut bundle = good.clone();
        *at(&mut bundle, pointer) = from.pointer(pointer).unwrap().clone();
        assert!(judge_bundle(&world.root(), &bundle, ALL).is_err(), "{what}");
    }
    let edits: [(&str, Value); 14] = [
        ("/verificationMaterial/tlogEntries", json!([])),
        ("/verificationMaterial/tlogEntries/0/integratedTime", json!("1")),
        ("/verificationMaterial/tlogEntries/0/logIndex", json!("1")),
        ("/verificationMaterial/tlogEntries/0/logIndex", json!("-1")),
        ("/verificationMaterial/tlogEntries/0/logId/keyId", json!(b64(&[7; 32]))),
        ("/verificationMaterial/tlogEntries/0/inclusionProof", Value::Null),
        ("/verificationMaterial/tlogEntries/0/inclusionProof/treeSize", json!("2")),
        ("/verificationMaterial/tlogEntries/0/inclusionProof/rootHash", json!(b64(&[7; 32]))),
        ("/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope", json!("log.test\n1\n\n")),
        ("/verificationMaterial/tlogEntries/0/kindVersion/kind", json!("hashedrekord")),
        ("/verificationMaterial/tlogEntries/0/kindVersion/version", json!("0.0.2")),
        ("/verificationMaterial/certificate/rawBytes", json!("")),
        ("/verificationMaterial/certificate", json!([])),
        ("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.9+json")),
    ];
    for (pointer, value) in edits {
        let mut bundle = good.clone();
        *at(&mut bundle, pointer) = value;
        assert!(judge_bundle(&world.root(), &bundle, ALL).is_err(), "{pointer}");
    }
}

#[test]
fn e9_e10_a_certificate_must_be_valid_when_the_log_took_the_signature() {
    let world = World::new();
    for (offset, good) in [(300, true), (0, true), (600, true), (601, false)] {
        let mut person = world.person(&Wanted::email(DEV));
        person.at = person.at - Duration::from_secs(300) + Duration::from_secs(offset);
        assert_eq!(judge_bundle(&world.root(), &signature(&world, &person), ALL).is_ok(), good, "{offset}");
    }
    let mut early = world.person(&Wanted::email(DEV));
    early.at -= Duration::from_secs(301);
    judge_bundle(&world.root(), &signature(&world, &early), ALL).unwrap_err();
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let future = world.person(&Wanted { from: tomorrow, ..Wanted::email(DEV) });
    judge_bundle(&world.root(), &signature(&world, &future), ALL).unwrap_err();
    // The authority's own time counts as well.
    let mut root = world.root();
    root["certificateAuthorities"][0]["validFor"]["end"] = json!("2020-02-01T00:00:00Z");
    judge_bundle(&root, &signature(&world, &world.person(&Wanted::email(DEV))), ALL).unwrap_err();
}

#[test]
fn a_certificate_without_sct_or_usage_or_with_two_issuers_is_refused() {
    let world = World::new();
    let bare = signature(&world, &world.person(&Wanted { sct: false, ..Wanted::email(DEV) }));
    judge_bundle(&world.root(), &bare, ALL).unwrap_err();
    judge_bundle(&world.root(), &bare, Evidence { sct: false, ..ALL }).unwrap();
    let server = signature(&world, &world.person(&Wanted { code_signing: false, ..Wanted::email(DEV) }));
    judge_bundle(&world.root(), &server, ALL).unwrap_err();
    let extensions = vec![(1, b"https://other.test".to_vec())];
    let two = signature(&world, &world.person(&Wanted { extensions, ..Wanted::email(DEV) }));
    assert!(judge_bundle(&world.root(), &two, ALL).unwrap_err().contains("two issuers"));
}

#[test]
fn e2_another_predicate_type_or_another_digest_is_no_signature() {
    let world = World::new();
    let person = world.person(&Wanted::email(DEV));
    let scan = world.bundle(&person, &world::statement(&image(), "https://scan.test/v1", &json!({})));
    assert!(judge_bundle(&world.root(), &scan, ALL).unwrap_err().contains("not a signature"));
    let other = world.bundle(&person, &world::statement(&Digest::sha256(b"x"), SIGNATURE_TYPE, &json!({})));
    assert!(judge_bundle(&world.root(), &other, ALL).unwrap_err().contains("another digest"));
}

fn layer<'a>(content: &'a [u8], annotations: &'a Value) -> Layer<'a> {
    let text = |name: &str| annotations[name].as_str().unwrap_or_default();
    let log = text("dev.sigstore.cosign/bundle");
    let beside = LegacyEvidence {
        certificate: text("dev.sigstore.cosign/certificate").as_bytes(),
        chain: text("dev.sigstore.cosign/chain").as_bytes(),
        bundle: (!log.is_empty()).then_some(log.as_bytes()),
        timestamp: None,
    };
    Layer { content, signature: text("dev.cosignproject.cosign/signature"), beside }
}

#[test]
fn e3_e5_a_legacy_signature_is_bound_to_its_log_entry_and_certificate() {
    let world = World::new();
    let root = root(&world.root());
    let keys = PublicKeys::default();
    let trust = Trust { keys: &keys, root: Some(&root), log_for_keys: false, keyless: Some(ALL), attestations: false };
    let make = |person: &Person, digest: &Digest| {
        let payload = world::payload(digest, "r.io/app:1");
        let signature = person.sign(&payload);
        let annotations = world.legacy(&payload, &signature, &person.pem(), person.at);
        (payload, annotations)
    };
    let (person, other) = (world.person(&Wanted::email(DEV)), world.person(&Wanted::email("other@example.test")));
    let (payload, good) = make(&person, &image());
    let claim = trust.legacy(layer(&payload, &good), &image()).unwrap();
    let reference = Some("r.io/app:1".to_owned());
    assert!(matches!(&claim.statement, Statement::Signature { reference: found, .. } if *found == reference));
    assert_eq!(certified(claim).subjects, [DEV]);
    let foreign = make(&other, &image()).1;
    let older = make(&person, &Digest::sha256(b"older")).1;
    for (name, from) in [
        ("dev.sigstore.cosign/certificate", &foreign),
        ("dev.sigstore.cosign/bundle", &foreign),
        ("dev.sigstore.cosign/bundle", &older),
        ("dev.cosignproject.cosign/signature", &older),
    ] {
        let mut mixed = good.clone();
        mixed[name] = from[name].clone();
        assert!(trust.legacy(layer(&payload, &mixed), &image()).is_err(), "{name}");
    }
    for (name, value) in [
        ("dev.sigstore.cosign/bundle", ""),
        ("dev.sigstore.cosign/bundle", "{}"),
        ("dev.sigstore.cosign/bundle", "[]"),
        ("dev.sigstore.cosign/bundle", "{\"Payload\":{},\"Payload\":{}}"),
        ("dev.sigstore.cosign/certificate", ""),
        ("dev.sigstore.cosign/certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("dev.sigstore.cosign/chain", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
    ] {
        let mut broken = good.clone();
        broken[name] = value.into();
        assert!(trust.legacy(layer(&payload, &broken), &image()).is_err(), "{name} {value}");
    }
    trust.legacy(layer(&payload, &good), &Digest::sha256(b"x")).unwrap_err();
}

#[test]
fn e3_e6_a_signature_by_a_key_needs_its_own_log_entry_when_one_is_asked_for() {
    let world = World::new();
    let root = root(&world.root());
    let (key, stranger) = (Signing::new(), Signing::new());
    let (keys, _) = PublicKeys::from_pem(key.pem().as_bytes());
    let logged = Trust { root: Some(&root), log_for_keys: true, ..Trust::of_keys(&keys) };
    let about = |digest: &Digest| world::statement(digest, SIGNATURE_TYPE, &json!({}));
    let good = world.bundle_by_key(&key, &about(&image()));
    let judge = |bundle: &Value| logged.bundle(bundle.to_string().as_bytes(), &image());
    assert!(matches!(judge(&good).unwrap().signer, Signer::Key(_)));
    assert!(judge(&world.bundle_by_key(&stranger, &about(&image()))).is_err());
    let entry = "/verificationMaterial/tlogEntries";
    let older = world.bundle_by_key(&key, &about(&Digest::sha256(b"older")));
    let foreign = world.bundle_by_key(&stranger, &about(&image()));
    let elsewhere = World::new().bundle_by_key(&key, &about(&image()));
    for from in [&older, &foreign, &elsewhere, &json!({"verificationMaterial": {"tlogEntries": []}})] {
        let mut mixed = good.clone();
        *at(&mut mixed, entry) = from.pointer(entry).unwrap().clone();
        assert!(judge(&mixed).is_err(), "{from}");
        // Unless it is asked for, nobody looks.
        let free = Trust::of_keys(&keys);
        free.bundle(mixed.to_string().as_bytes(), &image()).unwrap();
    }
    for field in ["inclusionProof", "inclusionPromise/signedEntryTimestamp", "canonicalizedBody"] {
        let mut spoilt = good.clone();
        let pointer = format!("{entry}/0/{field}");
        *at(&mut spoilt, &pointer) =
            if field == "inclusionProof" { Value::Null } else { json!(b64(b"something else")) };
        assert!(judge(&spoilt).is_err(), "{field}");
    }
    let payload = world::payload(&image(), "");
    let signature = key.sign(&payload);
    let now = SystemTime::now() - Duration::from_secs(5);
    let mut annotations = world.legacy(&payload, &signature, &key.pem(), now);
    annotations["dev.sigstore.cosign/certificate"] = "".into();
    logged.legacy(layer(&payload, &annotations), &image()).unwrap();
    annotations["dev.sigstore.cosign/bundle"] = "".into();
    logged.legacy(layer(&payload, &annotations), &image()).unwrap_err();
    Trust::of_keys(&keys).legacy(layer(&payload, &annotations), &image()).unwrap();
    // A second signature by the same key does for the first one's entry no more than a stranger's.
    let again = world.legacy(&payload, &key.sign(&payload), &key.pem(), now);
    annotations["dev.sigstore.cosign/bundle"] = again["dev.sigstore.cosign/bundle"].clone();
    logged.legacy(layer(&payload, &annotations), &image()).unwrap_err();
}

#[test]
fn e21_a_log_key_that_was_retired_counts_for_what_is_proven_to_be_older_alone() {
    let world = World::new();
    let key = Signing::new();
    let (keys, _) = PublicKeys::from_pem(key.pem().as_bytes());
    let judge = |end: Option<&str>, promise: bool| {
        let mut json = world.root();
        if let Some(end) = end {
            json["tlogs"][0]["publicKey"]["validFor"]["end"] = end.into();
        }
        let root = root(&json);
        let logged = Trust { root: Some(&root), log_for_keys: true, ..Trust::of_keys(&keys) };
        let mut bundle = world.bundle_by_key(&key, &world::statement(&image(), SIGNATURE_TYPE, &json!({})));
        if !promise {
            let entry = at(&mut bundle, "/verificationMaterial/tlogEntries/0");
            entry.as_object_mut().unwrap().remove("inclusionPromise");
        }
        logged.bundle(bundle.to_string().as_bytes(), &image()).map(drop).map_err(|error| error.to_string())
    };
    for promise in [true, false] {
        assert_eq!(judge(None, promise), Ok(()));
        assert_eq!(judge(Some("2100-01-01T00:00:00Z"), promise), Ok(()));
        assert!(judge(Some("2021-01-01T00:00:00Z"), promise).unwrap_err().contains("not at its time"));
    }
    // Made a minute ago, when the key still counted; only the promise proves that.
    let now = (jiff::Timestamp::now() - Duration::from_secs(20)).to_string();
    assert_eq!(judge(Some(&now), true), Ok(()));
    assert!(judge(Some(&now), false).unwrap_err().contains("the checkpoint is not signed by a log that is trusted"));
}

#[test]
fn a_signature_by_a_key_where_certificates_are_asked_for_says_so() {
    let world = World::new();
    let (root, keys) = (root(&world.root()), PublicKeys::default());
    let trust = Trust { keys: &keys, root: Some(&root), log_for_keys: false, keyless: Some(ALL), attestations: false };
    let bundle = world.bundle_by_key(&Signing::new(), &world::statement(&image(), SIGNATURE_TYPE, &json!({})));
    let error = trust.bundle(bundle.to_string().as_bytes(), &image()).unwrap_err();
    assert!(error.to_string().contains("asks for a certificate"), "{error}");
    let (keys, _) = PublicKeys::from_pem(Signing::new().pem().as_bytes());
    let error = Trust { keys: &keys, ..trust }.bundle(bundle.to_string().as_bytes(), &image()).unwrap_err();
    assert!(error.to_string().contains("untrusted key"), "{error}");
}

#[test]
fn e34_attestations_have_room_for_what_a_large_document_holds_and_signatures_do_not() {
    let key = Signing::new();
    let (keys, _) = PublicKeys::from_pem(key.pem().as_bytes());
    let trust = Trust { attestations: true, ..Trust::of_keys(&keys) };
    let judge = |trust: Trust<'_>, kind: &str, values: usize| {
        let bundle = World::new().bundle_by_key(&key, &world::statement(&image(), kind, &json!(vec![0; values])));
        trust.bundle(bundle.to_string().as_bytes(), &image()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(judge(trust, "https://x.test/y", 90_000), Ok(()));
    assert!(judge(trust, "https://x.test/y", 270_000).unwrap_err().contains("more than 262144 values"));
    assert!(judge(Trust::of_keys(&keys), SIGNATURE_TYPE, 21_000).unwrap_err().contains("more than 20000 values"));
}

#[test]
fn e9_an_expired_intermediate_is_refused_with_and_without_the_log() {
    for (lapsed, good) in [(false, true), (true, false)] {
        let world = World::below(lapsed);
        let (root, keys) = (root(&world.root()), PublicKeys::default());
        let person = world.person(&Wanted::email(DEV));
        let payload = world::payload(&image(), "");
        let annotations = world.legacy(&payload, &person.sign(&payload), &person.pem(), person.at);
        for log in [true, false] {
            let keyless = Some(Evidence { log, sct: true });
            let trust = Trust { root: Some(&root), keyless, ..Trust::of_keys(&keys) };
            let judged = trust.legacy(layer(&payload, &annotations), &image());
            assert_eq!(judged.is_ok(), good, "{judged:?}");
        }
    }
}

#[test]
fn e21_a_log_is_found_by_its_id_in_the_encoding_of_each_format() {
    let world = World::new();
    let person = world.person(&Wanted::email(DEV));
    let bundle = signature(&world, &person);
    judge_bundle(&world.root(), &bundle, ALL).unwrap();
    let pointer = "/verificationMaterial/tlogEntries/0/logId/keyId";
    let raw =
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bundle.pointer(pointer).unwrap().as_str().unwrap());
    let digits = crate::domain::digest::hex(&raw.unwrap());
    let mut hexed = bundle;
    *at(&mut hexed, pointer) = json!(b64(digits.as_bytes()));
    judge_bundle(&world.root(), &hexed, ALL).unwrap_err();
    // The legacy annotation has it in hexadecimal.
    let (root, keys) = (root(&world.root()), PublicKeys::default());
    let trust = Trust { root: Some(&root), keyless: Some(ALL), ..Trust::of_keys(&keys) };
    let payload = world::payload(&image(), "");
    let good = world.legacy(&payload, &person.sign(&payload), &person.pem(), person.at);
    trust.legacy(layer(&payload, &good), &image()).unwrap();
    for other in [digits.to_uppercase(), digits.replacen('a', "b", 1), digits[..62].to_owned(), "\u{e9}".repeat(32)] {
        let mut changed = good.clone();
        let log = good["dev.sigstore.cosign/bundle"].as_str().unwrap().replace(&digits, &other);
        changed["dev.sigstore.cosign/bundle"] = log.into();
        let same_bytes = other.eq_ignore_ascii_case(&digits);
        assert_eq!(trust.legacy(layer(&payload, &changed), &image()).is_ok(), same_bytes, "{other}");
    }
}

/// What podseal adds to a verification by the crate alone, as a ratio.
#[test]
#[ignore = "a measurement: run with --ignored --nocapture in release"]
fn cost_beside_the_bare_library_call() {
    let world = World::new();
    let (root, keys) = (root(&world.root()), PublicKeys::default());
    let text = signature(&world, &world.person(&Wanted::email(DEV))).to_string();
    let trust = Trust { root: Some(&root), keyless: Some(ALL), ..Trust::of_keys(&keys) };
    let digest = sigstore_types::Sha256Hash::from_hex(image().hex()).unwrap();
    let policy = sigstore_verify::VerificationPolicy::any_identity();
    let bare = || {
        let bundle = sigstore_types::Bundle::from_json(&text).unwrap();
        root.verifier.verify(digest, &bundle, &policy).unwrap();
    };
    let own = || drop(trust.bundle(text.as_bytes(), &image()).unwrap());
    let time = |work: &dyn Fn()| {
        let start = std::time::Instant::now();
        (0..500).for_each(|_| work());
        start.elapsed().as_secs_f64() * 2.0
    };
    for _ in 0..3 {
        let (bare, own) = (time(&bare), time(&own));
        println!("bare {bare:.3} ms, podseal {own:.3} ms, ratio {:.2}", own / bare);
    }
}

#[test]
fn e34_crowds_of_entries_and_certificates_are_refused_before_they_cost_anything() {
    let world = World::new();
    let good = signature(&world, &world.person(&Wanted::email(DEV)));
    let mut crowd = good.clone();
    let entry = good.pointer("/verificationMaterial/tlogEntries/0").unwrap().clone();
    *at(&mut crowd, "/verificationMaterial/tlogEntries") = json!(vec![entry; 5]);
    assert!(judge_bundle(&world.root(), &crowd, ALL).unwrap_err().contains("sensible"));
    let mut long = good;
    *at(&mut long, "/verificationMaterial/tlogEntries/0/inclusionProof/hashes") = json!(vec![b64(&[0; 32]); 65]);
    assert!(judge_bundle(&world.root(), &long, ALL).unwrap_err().contains("sensible"));
}

#[test]
fn a_trust_root_that_cannot_be_used_says_why() {
    TrustRoot::public_good().unwrap();
    let good = World::new().root();
    let cases: [(&str, Value); 6] = [
        ("/tlogs/0/publicKey/rawBytes", json!("AAAA")),
        ("/tlogs/0/logId/keyId", json!("AAAA")),
        ("/certificateAuthorities/0/certChain/certificates", json!([])),
        ("/certificateAuthorities/0/certChain/certificates/0/rawBytes", json!("AAAA")),
        ("/certificateAuthorities/0/validFor", json!({"start": "2021-01-01T00:00:00Z", "end": "2020-01-01T00:00:00Z"})),
        ("/tlogs", json!(vec![good["tlogs"][0].clone(); 2])),
    ];
    for (pointer, value) in cases {
        let mut bad = good.clone();
        *at(&mut bad, pointer) = value;
        assert!(TrustRoot::parse(bad.to_string().as_bytes()).is_err(), "{pointer}");
    }
    for text in ["", "{}", "[]", "null", "{\"tlogs\":[]}"] {
        assert!(TrustRoot::parse(text.as_bytes()).is_err(), "{text}");
    }
}
