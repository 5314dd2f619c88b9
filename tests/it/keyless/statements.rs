//! What was signed: signatures and attestations, digests, annotations.

use serde_json::{Value, json};

use super::cases::{Cases, DEV, Rule, Shared};
use crate::support::registry::Image;
use crate::support::signer::CosignKey;
use crate::support::sigstore::{Bundle, By, How, Identity, Legacy, Sigstore, seconds_ago, statement};

const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

fn dev() -> By<'static> {
    By::Identity(Identity::mail(DEV))
}

fn attest(image: &Image, how: How, by: &By<'_>, predicate_type: &str, predicate: &Value) {
    let shared = Shared::get();
    let predicate = (predicate_type, predicate);
    shared.world.attest(&shared.registry, &image.pinned(), how, by, predicate).succeeded();
}

/// An image with a bundle by [`DEV`] of any statement about it, in no log but stamped.
fn stating(statement: impl FnOnce(&Image) -> Value) -> Image {
    let (world, shared) = (Sigstore::shared(), Shared::get());
    let image = shared.image();
    let bundle = world.mint(&world.leaf(DEV)).bundle_of(&statement(&image));
    shared.with_bundle(&image, &world.stamped(&bundle, seconds_ago(0)))
}

fn unlogged() -> Rule {
    Rule::dev().with("transparencyLog", "NotRequired").with("sct", "NotRequired")
}

fn e1_e2_an_attestation_by_the_right_identity_is_no_signature() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let predicate = json!({"tested": true});
    for how in [How::BUNDLE, How::BUNDLE_V1, How::LEGACY] {
        let image = shared.image();
        attest(&image, how, &dev(), "custom", &predicate);
        cases.refuses(&format!("{how:?}: alone"), "signature", &Rule::dev(), &image);
        shared.sign_too(&image, how, &dev(), &[]);
        cases.accepts(&format!("{how:?}: beside a signature"), &Rule::dev(), &image);
    }
    cases.accepts("signature", &unlogged(), &stating(|image| statement(image, SIGNATURE)));
    for other in [PROVENANCE, "https://sigstore.dev/cosign/sign/v2", "https://sigstore.dev/cosign/sign", ""] {
        cases.refuses(other, "", &unlogged(), &stating(|image| statement(image, other)));
    }
    cases.done();
}

fn e7_statements_that_cannot_be_read_are_refused() {
    let mut cases = Cases::new();
    let bent = |change: fn(&mut Value)| {
        stating(|image| {
            let mut statement = statement(image, SIGNATURE);
            change(&mut statement);
            statement
        })
    };
    let mut refuses = |what: &str, image: &Image| cases.refuses(what, "", &unlogged(), image);
    refuses("no object", &bent(|statement| *statement = json!("nonsense")));
    refuses("another type", &bent(|statement| statement["_type"] = json!("https://example.test/Statement/v1")));
    refuses("no subject", &bent(|statement| statement["subject"] = json!([])));
    refuses("subject is no list", &bent(|statement| statement["subject"] = json!("image")));
    refuses("another digest", &bent(|statement| statement["subject"][0]["digest"]["sha256"] = json!("ab".repeat(32))));
    refuses(
        "another algorithm",
        &bent(|statement| {
            statement["subject"][0]["digest"] = json!({"sha512": statement["subject"][0]["digest"]["sha256"]});
        }),
    );
    refuses("no predicate type", &bent(|statement| drop(statement.as_object_mut().unwrap().remove("predicateType"))));
    cases.done();
}

fn a_signature_of_another_digest_is_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    for how in [How::BUNDLE, How::BUNDLE_V1] {
        let bundle = Bundle::of(&shared.registry, &shared.signed(how));
        let moved = shared.with_bundle(&shared.image(), &bundle);
        cases.refuses(&format!("{how:?}"), "signed for", &Rule::dev(), &moved);
    }
    let signature = Legacy::of(&shared.registry, &shared.signed(How::LEGACY));
    let moved = shared.with_legacy(&shared.image(), &signature);
    cases.refuses("legacy", "signed for", &Rule::dev(), &moved);
    cases.done();
}

fn annotations_and_signers_are_asked_of_keyless_signatures_too() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    for how in [How::BUNDLE, How::LEGACY] {
        let image = shared.sign(how, &dev(), &["-a", "env=production", "-a", "team=a"]);
        let with = |annotations: Value| Rule::dev().with("annotations", annotations);
        let name = |what: &str| format!("{how:?}: {what}");
        cases.accepts(&name("one"), &with(json!({"env": "production"})), &image);
        cases.accepts(&name("both"), &with(json!({"env": "production", "team": "a"})), &image);
        cases.refuses(&name("another value"), "env", &with(json!({"env": "test"})), &image);
        cases.refuses(&name("one of two"), "team", &with(json!({"env": "production", "team": "b"})), &image);
        cases.refuses(&name("one that is missing"), "stage", &with(json!({"stage": "1"})), &image);
        cases.refuses(&name("none there"), "env", &with(json!({"env": "production"})), &shared.signed(how));
        // The signer of a keyless signature is the subject of its certificate.
        cases.accepts(&name("signer"), &Rule::dev().and("signer", json!(["somebody", DEV])), &shared.signed(how));
        let other = Rule::dev().and("signer", json!(["somebody"]));
        cases.refuses(&name("another signer"), "signer", &other, &shared.signed(how));
    }
    cases.done();
}

fn the_name_in_a_legacy_payload_is_compared_where_that_is_asked_for() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::LEGACY);
    let moved = shared.with_legacy(&image, &Legacy::of(&shared.registry, &image));
    let exact = |image: &Image| {
        let name = format!("{}/{}", image.host, image.repository);
        Rule::dev().with("signedIdentity", json!({"type": "exactRepository", "dockerRepository": name}))
    };
    cases.accepts("its own repository", &exact(&image), &image);
    cases.refuses("another repository", "", &exact(&moved), &moved);
    cases.accepts("not asked for", &Rule::dev(), &moved);
    cases.accepts("where it was signed", &exact(&image), &moved);
    let bundle = shared.signed(How::BUNDLE);
    cases.refuses("a bundle has no name", "", &exact(&bundle), &bundle);
    cases.done();
}

fn required(list: Value) -> Rule {
    Rule::dev().with("attestations", list)
}

fn e1_required_attestations_are_found_by_their_type_and_content() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let predicate = json!({"buildType": "x", "level": 3});
    let want = |expression: &str| required(json!([{"predicateType": PROVENANCE, "expression": expression}]));
    for how in [How::BUNDLE, How::BUNDLE_V1, How::LEGACY] {
        let name = |what: &str| format!("{how:?}: {what}");
        let image = shared.sign(how, &dev(), &[]);
        let any = required(json!([{"predicateType": PROVENANCE}]));
        cases.refuses(&name("none"), "attestation", &any, &image);
        attest(&image, how, &dev(), PROVENANCE, &predicate);
        cases.accepts(&name("type"), &any, &image);
        cases.accepts(&name("not asked for"), &Rule::dev(), &image);
        cases.accepts(&name("content"), &want("predicate.buildType == 'x' && predicate.level >= 3"), &image);
        cases.refuses(&name("other content"), "expression", &want("predicate.buildType == 'y'"), &image);
        cases.refuses(&name("content that is not there"), "expression", &want("predicate.other == 'x'"), &image);
        let other = required(json!([{"predicateType": "https://example.test/scan/v1"}]));
        cases.refuses(&name("another type"), "attestation", &other, &image);
        let both = json!([{"predicateType": PROVENANCE}, {"predicateType": "https://example.test/scan/v1"}]);
        cases.refuses(&name("one of two"), "attestation", &required(both.clone()), &image);
        attest(&image, how, &dev(), "https://example.test/scan/v1", &json!({"found": []}));
        cases.accepts(&name("two of two"), &required(both), &image);
    }
    cases.done();
}

fn an_attestation_counts_only_by_those_whose_signature_counts() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let any = required(json!([{"predicateType": PROVENANCE}]));
    let predicate = json!({"buildType": "x"});
    let image = shared.sign(How::BUNDLE, &dev(), &[]);
    let stranger = By::Identity(Identity::mail("stranger@example.test"));
    attest(&image, How::BUNDLE, &stranger, PROVENANCE, &predicate);
    cases.refuses("by a stranger", "attestation", &any, &image);
    attest(&image, How::BUNDLE, &dev(), PROVENANCE, &predicate);
    cases.accepts("by both", &any, &image);
    let unsigned = shared.image();
    attest(&unsigned, How::BUNDLE, &dev(), PROVENANCE, &predicate);
    cases.refuses("without a signature", "", &any, &unsigned);

    // Keys: theirs need no log.
    let key = &shared.key;
    let image = shared.sign(How::BUNDLE_BARE, &By::Key(key), &[]);
    let any = Rule::key(key).with("attestations", json!([{"predicateType": PROVENANCE}]));
    attest(&image, How::BUNDLE_BARE, &By::Key(&CosignKey::new()), PROVENANCE, &predicate);
    cases.refuses("by another key", "attestation", &any, &image);
    attest(&image, How::BUNDLE_BARE, &By::Key(key), PROVENANCE, &predicate);
    cases.accepts("by the key", &any, &image);
    cases.done();
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    e1_e2_an_attestation_by_the_right_identity_is_no_signature,
    e7_statements_that_cannot_be_read_are_refused,
    a_signature_of_another_digest_is_refused,
    annotations_and_signers_are_asked_of_keyless_signatures_too,
    the_name_in_a_legacy_payload_is_compared_where_that_is_asked_for,
    e1_required_attestations_are_found_by_their_type_and_content,
    an_attestation_counts_only_by_those_whose_signature_counts,
}
