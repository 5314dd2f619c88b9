//! What logs answer, tampered with; and answers that belong to something else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cases::{Cases, DEV, Rule, Shared};
use crate::support::signer::CosignKey;
use crate::support::sigstore::{Bundle, By, How, Identity, Legacy, Log, Sigstore, hex, seconds_ago};

const LEGACY_BUNDLE: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What podseal says of what comes with a signature when it does not fit together.
const EVIDENCE: &str = "the evidence does not hold";

/// Base64 of other bytes of the same length.
fn flipped(value: &mut Value) {
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    *value = STANDARD.encode(bytes).into();
}

/// A number one higher, in whichever form it is.
fn increased(value: &mut Value) {
    *value = match value.as_str() {
        Some(text) => (text.parse::<i64>().unwrap() + 1).to_string().into(),
        None => (value.as_i64().unwrap() + 1).into(),
    };
}

fn proof(entry: &mut Value) -> &mut Value {
    &mut entry["inclusionProof"]
}

type Change = fn(&mut Value);

/// What is done to the entry of a log of either version.
const COMMON: [(&str, Change); 7] = [
    ("body", |entry| flipped(&mut entry["canonicalizedBody"])),
    ("no body", |entry| entry["canonicalizedBody"] = json!("")),
    ("no proof", |entry| drop(entry.as_object_mut().unwrap().remove("inclusionProof"))),
    ("hash of the proof", |entry| flipped(&mut proof(entry)["hashes"][0])),
    ("no hashes", |entry| proof(entry)["hashes"] = json!([])),
    ("no checkpoint", |entry| drop(proof(entry).as_object_mut().unwrap().remove("checkpoint"))),
    ("checkpoint", |entry| {
        let text = proof(entry)["checkpoint"]["envelope"].as_str().unwrap().to_owned();
        // Another size of the tree, which is the second line.
        let mut lines: Vec<_> = text.split('\n').map(str::to_owned).collect();
        lines[1] = (lines[1].parse::<u64>().unwrap() + 1).to_string();
        proof(entry)["checkpoint"]["envelope"] = lines.join("\n").into();
    }),
];

/// And what only the first version has.
const V1: [(&str, Change); 5 + UNSIGNED.len()] = [
    ("signed time", |entry| flipped(&mut entry["inclusionPromise"]["signedEntryTimestamp"])),
    ("no signed time", |entry| drop(entry.as_object_mut().unwrap().remove("inclusionPromise"))),
    ("time", |entry| increased(&mut entry["integratedTime"])),
    ("no time", |entry| drop(entry.as_object_mut().unwrap().remove("integratedTime"))),
    ("index", |entry| increased(&mut entry["logIndex"])),
    UNSIGNED[0],
    UNSIGNED[1],
];

/// What repeats the checkpoint: the second version has it for old readers alone, and goes by what is signed.
const UNSIGNED: [(&str, Change); 2] = [
    ("root of the proof", |entry| flipped(&mut proof(entry)["rootHash"])),
    ("size of the tree", |entry| increased(&mut proof(entry)["treeSize"])),
];

fn a_bundles_log_entry_that_was_tampered_with_is_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    for (how, more) in [(How::BUNDLE, &[][..]), (How::BUNDLE_V1, &V1)] {
        // The second one at least, so that there is a hash in its proof.
        shared.signed(how);
        let image = shared.sign(how, &By::Identity(Identity::mail(DEV)), &[]);
        cases.accepts(&format!("{how:?}"), &Rule::dev(), &image);
        for (what, change) in COMMON.iter().chain(more) {
            let image = shared.bent(&image, |bundle| change(Bundle::entry(bundle)));
            cases.refuses(&format!("{how:?}: {what}"), EVIDENCE, &Rule::dev(), &image);
        }
    }
    let image = shared.signed(How::BUNDLE);
    for (what, change) in UNSIGNED {
        let image = shared.bent(&image, |bundle| change(Bundle::entry(bundle)));
        cases.accepts(&format!("Rekor v2 does not sign the {what}"), &Rule::dev(), &image);
    }
    cases.done();
}

fn a_legacy_log_entry_that_was_tampered_with_is_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::LEGACY);
    let signature = Legacy::of(&shared.registry, &image);
    let changes: [(&str, Change); 5] = [
        ("signed time", |bundle| flipped(&mut bundle["SignedEntryTimestamp"])),
        ("body", |bundle| flipped(&mut bundle["Payload"]["body"])),
        ("time", |bundle| increased(&mut bundle["Payload"]["integratedTime"])),
        ("index", |bundle| increased(&mut bundle["Payload"]["logIndex"])),
        ("no payload", |bundle| drop(bundle.as_object_mut().unwrap().remove("Payload"))),
    ];
    for (what, change) in changes {
        let bent = signature.bent_json(LEGACY_BUNDLE, change);
        cases.refuses(what, "is invalid", &Rule::dev(), &shared.with_legacy(&image, &bent));
    }
    let none = signature.without(LEGACY_BUNDLE);
    cases.refuses("no entry", "log", &Rule::dev(), &shared.with_legacy(&image, &none));
    cases.accepts("untouched", &Rule::dev(), &shared.with_legacy(&image, &signature));
    cases.done();
}

fn a_missing_log_entry_is_refused_where_one_is_required() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    let without = shared.bent(&image, |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    cases.refuses("required", "log", &Rule::dev(), &without);
    cases.accepts("not required, stamped", &Rule::dev().with("transparencyLog", "NotRequired"), &without);
    let image = shared.signed(How::BUNDLE_V1);
    let without = shared.bent(&image, |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    let rule = Rule::dev().with("transparencyLog", "NotRequired");
    cases.refuses("not required, but the entry was the only time", "time", &rule, &without);
    cases.done();
}

/// Everything is genuine and by the right identity, but the entry is that of another signature.
fn e3_an_entry_of_another_signature_is_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let dev = By::Identity(Identity::mail(DEV));
    for how in [How::BUNDLE, How::BUNDLE_V1] {
        let (one, other) = (shared.signed(how), shared.sign(how, &dev, &[]));
        let mut bundle = Bundle::of(&shared.registry, &other).0;
        let entry = Bundle::entry(&mut bundle).take();
        let bent = shared.bent(&one, |bundle| *Bundle::entry(bundle) = entry);
        cases.refuses(&format!("{how:?}: of another image"), "log entry", &Rule::dev(), &bent);
        // The same image, signed twice: another certificate, another signature.
        let twice = shared.bare(&one);
        shared.sign_too(&twice, how, &dev, &[]);
        let mut bundle = Bundle::of(&shared.registry, &twice).0;
        let entry = Bundle::entry(&mut bundle).take();
        let bent = shared.bent(&one, |bundle| *Bundle::entry(bundle) = entry);
        cases.refuses(
            &format!("{how:?}: of another signature of this image"),
            "log entry does not match",
            &Rule::dev(),
            &bent,
        );
    }
    let (one, other) = (shared.signed(How::LEGACY), shared.sign(How::LEGACY, &dev, &[]));
    let twice = shared.bare(&one);
    shared.sign_too(&twice, How::LEGACY, &dev, &[]);
    for (what, from) in [("of another image", &other), ("of another signature of this image", &twice)] {
        let entry = Legacy::of(&shared.registry, from).annotations[LEGACY_BUNDLE].as_str().unwrap().to_owned();
        let bent = Legacy::of(&shared.registry, &one).bent(LEGACY_BUNDLE, |_| entry);
        cases.refuses(&format!("legacy: {what}"), "", &Rule::dev(), &shared.with_legacy(&one, &bent));
    }
    cases.done();
}

/// A key's unlogged signature with the entry that a stranger's signature of the same payload has.
fn e3_an_entry_of_another_key_does_not_log_a_keys_signature() {
    let (shared, mut cases, stranger) = (Shared::get(), Cases::new(), CosignKey::new());
    let strict = Rule::key(&shared.key).with("transparencyLog", "Required");
    let image = shared.keyed(How::LEGACY_BARE);
    let foreign = shared.bare(&image);
    shared.sign_too(&foreign, How::LEGACY, &By::Key(&stranger), &[]);
    let mut signature = Legacy::of(&shared.registry, &image);
    let entry = Legacy::of(&shared.registry, &foreign).annotations[LEGACY_BUNDLE].clone();
    signature.annotations.insert(LEGACY_BUNDLE.to_owned(), entry);
    let bent = shared.with_legacy(&image, &signature);
    cases.refuses("legacy", "about another signature", &strict, &bent);
    cases.accepts("legacy, log ignored", &Rule::key(&shared.key), &bent);

    let image = shared.keyed(How::BUNDLE_BARE);
    let foreign = shared.bare(&image);
    shared.sign_too(&foreign, How::BUNDLE_V1, &By::Key(&stranger), &[]);
    let mut bundle = Bundle::of(&shared.registry, &foreign).0;
    let entry = Bundle::entry(&mut bundle).take();
    let bent = shared.bent(&image, |bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([entry]));
    cases.refuses("bundle", "about another signature", &strict, &bent);
    cases.accepts("bundle, log ignored", &Rule::key(&shared.key), &bent);
    cases.done();
}

/// Bundles have the log's id as bytes, `.sig` signatures as hexadecimal digits; the root has it as bytes.
fn e21_the_id_of_a_log_is_compared_in_either_encoding() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    for how in [How::BUNDLE, How::BUNDLE_V1] {
        let image = shared.signed(how);
        cases.accepts(&format!("{how:?}"), &Rule::dev(), &image);
        let bent = shared.bent(&image, |bundle| flipped(&mut Bundle::entry(bundle)["logId"]["keyId"]));
        cases.refuses(&format!("{how:?}: another id"), "log", &Rule::dev(), &bent);
        let hex = shared.bent(&image, |bundle| {
            let id = &mut Bundle::entry(bundle)["logId"]["keyId"];
            let bytes = STANDARD.decode(id.as_str().unwrap()).unwrap();
            *id = STANDARD.encode(hex(&bytes)).into();
        });
        cases.refuses(&format!("{how:?}: hexadecimal digits"), "log", &Rule::dev(), &hex);
    }
    let image = shared.signed(How::LEGACY);
    let signature = Legacy::of(&shared.registry, &image);
    cases.accepts("legacy", &Rule::dev(), &image);
    let bent = signature.bent_json(LEGACY_BUNDLE, |bundle| {
        let id = bundle["Payload"]["logID"].as_str().unwrap();
        bundle["Payload"]["logID"] = format!("00{}", &id[2..]).into();
    });
    cases.refuses("legacy: another id", "log", &Rule::dev(), &shared.with_legacy(&image, &bent));
    cases.done();
}

fn certificates_that_no_certificate_log_vouches_for_are_refused() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let bare = world.root.without("ctlogs");
    for how in [How::BUNDLE, How::LEGACY] {
        let image = shared.signed(how);
        cases.refuses(&format!("{how:?}: no such log is trusted"), "CT log", &Rule::dev().root(&bare), &image);
        let rule = Rule::dev().root(&bare).with("sct", "NotRequired");
        cases.accepts(&format!("{how:?}: none is wanted"), &rule, &image);
    }
    // Certified behind the log's back.
    let image = shared.image();
    let bundle = world.mint(&world.leaf(DEV)).bundle(&image);
    let image = shared.with_bundle(&image, &world.stamped(&bundle, seconds_ago(0)));
    let rule = Rule::dev().with("transparencyLog", "NotRequired");
    cases.refuses("a certificate without a word of the log", "SCT", &rule, &image);
    cases.accepts("none is wanted", &rule.with("sct", "NotRequired"), &image);
    cases.done();
}

/// Certificate, signature and content of two honest signatures, mixed.
fn e5_parts_that_do_not_belong_together_are_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let dev = By::Identity(Identity::mail(DEV));
    for how in [How::BUNDLE, How::BUNDLE_STAMPED] {
        let log = if how.log == Log::None { "NotRequired" } else { "Required" };
        let rule = Rule::dev().with("transparencyLog", log);
        let image = shared.signed(how);
        let other = Bundle::of(&shared.registry, &shared.sign(how, &dev, &[])).0;
        let parts = ["/verificationMaterial/certificate", "/verificationMaterial", "/dsseEnvelope/signatures"];
        for part in parts.iter().chain(&["/dsseEnvelope/payload", "/dsseEnvelope"]) {
            let bent = shared.bent(&image, |bundle| {
                *bundle.pointer_mut(part).unwrap() = other.pointer(part).unwrap().clone();
            });
            cases.refuses(&format!("{how:?}: {part}"), "", &rule, &bent);
        }
    }
    let image = shared.signed(How::LEGACY);
    let other = Legacy::of(&shared.registry, &shared.sign(How::LEGACY, &dev, &[]));
    for part in [CERTIFICATE, SIGNATURE] {
        let foreign = other.annotations[part].as_str().unwrap().to_owned();
        let bent = Legacy::of(&shared.registry, &image).bent(part, |_| foreign);
        cases.refuses(&format!("legacy: {part}"), "", &Rule::dev(), &shared.with_legacy(&image, &bent));
    }
    let mut bent = Legacy::of(&shared.registry, &image);
    bent.payload.clone_from(&other.payload);
    cases.refuses("legacy: payload", "", &Rule::dev(), &shared.with_legacy(&image, &bent));
    cases.refuses("legacy: all of it", "signed for", &Rule::dev(), &shared.with_legacy(&image, &other));
    cases.done();
}

fn e6_a_bare_key_in_place_of_the_certificate_is_not_trusted() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    let bent = shared.bent(&image, |bundle| {
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        material.remove("certificate").unwrap();
        material.insert("publicKey".to_owned(), json!({"hint": "key"}));
    });
    cases.refuses("bundle", "", &Rule::dev(), &bent);
    let image = shared.signed(How::LEGACY);
    let bare = Legacy::of(&shared.registry, &image).without(CERTIFICATE);
    cases.refuses("legacy", "", &Rule::dev(), &shared.with_legacy(&image, &bare));
    let image = shared.keyed(How::BUNDLE);
    cases.refuses("a key's bundle under an identity", "", &Rule::dev(), &image);
    cases.refuses("a key's `.sig` under an identity", "", &Rule::dev(), &shared.keyed(How::LEGACY));
    cases.refuses("an identity's bundle under a key", "", &Rule::key(&shared.key), &shared.signed(How::BUNDLE));
    cases.done();
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    a_bundles_log_entry_that_was_tampered_with_is_refused,
    a_legacy_log_entry_that_was_tampered_with_is_refused,
    a_missing_log_entry_is_refused_where_one_is_required,
    e3_an_entry_of_another_signature_is_refused,
    e3_an_entry_of_another_key_does_not_log_a_keys_signature,
    e21_the_id_of_a_log_is_compared_in_either_encoding,
    certificates_that_no_certificate_log_vouches_for_are_refused,
    e5_parts_that_do_not_belong_together_are_refused,
    e6_a_bare_key_in_place_of_the_certificate_is_not_trusted,
}
