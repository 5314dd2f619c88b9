//! Keyless signatures through the whole way of an image: places, trust roots, thresholds, attestations.

use serde_json::{Value, json};

use crate::domain::digest::Digest;
use crate::signature::keyless::TrustRoot;
use crate::signature::keyless::tests::world::{self, Person, SIGNATURE_TYPE, Signing, Wanted, World};
use crate::verify::testing::{CosignKey, Lab, Shop, text};

const DEV: &str = "dev@example.test";
const OPS: &str = "ops@example.test";

/// A lab that asks for keyless signatures by these, with `more` in `cosign`, under the world's root.
fn lab(world: &World, shop: &Shop, subjects: &[&str], more: &Value) -> Lab {
    let lab = Lab::new();
    lab.shelf.config_map("team/root", &[("trusted_root.json", world.root().to_string().as_bytes())]);
    govern(&lab, shop, subjects, more);
    lab
}

fn govern(lab: &Lab, shop: &Shop, subjects: &[&str], more: &Value) {
    let identities: Vec<_> =
        subjects.iter().map(|subject| json!({"issuer": "https://issuer.test", "subject": subject})).collect();
    let mut cosign = json!({"identities": identities, "trustRootRef": "k8s://team/root"});
    for (name, value) in more.as_object().unwrap() {
        cosign[name] = value.clone();
    }
    let mut entry = json!({"registry": shop.host(), "signCheck": true, "insecure": true, "cosign": cosign});
    if more["keys"] == true {
        entry["cosignKeyRef"] = "k8s://team/cosign".into();
        entry["cosign"].as_object_mut().unwrap().remove("keys");
    }
    lab.govern(Some("team"), &json!([entry]));
}

fn person(world: &World, subject: &str) -> Person {
    world.person(&Wanted::email(subject))
}

fn signature(world: &World, subject: &str, digest: &Digest) -> Vec<u8> {
    attestation(world, subject, digest, SIGNATURE_TYPE, &json!({}))
}

fn attestation(world: &World, subject: &str, digest: &Digest, kind: &str, predicate: &Value) -> Vec<u8> {
    let statement = world::statement(digest, kind, predicate);
    world.bundle(&person(world, subject), &statement).to_string().into_bytes()
}

#[tokio::test]
async fn a_keyless_bundle_and_a_keyless_tag_pass_and_the_signer_is_the_identity() {
    let (world, shop) = (World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[DEV], &json!({}));
    let [one, two, three] = ["one", "two", "three"].map(|name| shop.image(name, name));
    shop.bundles("one", &one, &[signature(&world, DEV, &one)]);
    assert_eq!(lab.say("team", &shop.pinned("one", &one)).await, format!("allowed Cosign {DEV}"));
    shop.annotated("two", &two, "sig", &[legacy(&world, DEV, &two, "")]);
    assert_eq!(lab.say("team", &shop.pinned("two", &two)).await, format!("allowed Cosign {DEV}"));
    shop.bundles("three", &three, &[signature(&world, OPS, &three), signature(&World::new(), DEV, &three)]);
    assert_eq!(lab.say("team", &shop.pinned("three", &three)).await, "denied SignerMismatch");
}

fn legacy(world: &World, subject: &str, digest: &Digest, reference: &str) -> (Vec<u8>, Value) {
    let person = person(world, subject);
    let payload = world::payload(digest, reference);
    let signature = person.sign(&payload);
    let annotations = world.legacy(&payload, &signature, &person.pem(), person.at);
    (payload, annotations)
}

#[tokio::test]
async fn e49_a_strangers_bundle_hides_no_valid_tag_and_garbage_spoils_only_itself() {
    let (world, shop) = (World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[DEV], &json!({}));
    let digest = shop.image("app", "x");
    let strangers = [signature(&world, OPS, &digest), b"garbage".to_vec(), b"{}".to_vec(), vec![b'['; 100_000]];
    shop.bundles("app", &digest, &strangers);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "denied SignerMismatch");
    let broken = (world::payload(&digest, ""), json!({"dev.cosignproject.cosign/signature": "AAAA"}));
    shop.annotated("app", &digest, "sig", &[broken, legacy(&world, DEV, &digest, "")]);
    let lab = self::lab(&world, &shop, &[DEV], &json!({}));
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, format!("allowed Cosign {DEV}"));
}

#[tokio::test]
async fn e11_two_of_three_must_sign_in_whatever_place() {
    let (world, shop) = (World::new(), Shop::open(1));
    let asks = json!({"threshold": 2, "keys": true});
    let lab = lab(&world, &shop, &[DEV, OPS], &asks);
    let key = CosignKey::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    let [both, twice, mixed] = ["both", "twice", "mixed"].map(|name| shop.image(name, name));
    shop.bundles("both", &both, &[signature(&world, DEV, &both)]);
    shop.annotated("both", &both, "sig", &[legacy(&world, OPS, &both, "")]);
    assert_eq!(lab.say("team", &shop.pinned("both", &both)).await, format!("allowed Cosign {DEV}, {OPS}"));
    shop.bundles("twice", &twice, &[signature(&world, DEV, &twice), signature(&world, DEV, &twice)]);
    shop.annotated("twice", &twice, "sig", &[legacy(&world, DEV, &twice, "")]);
    let verdict = lab.judge("team", &shop.pinned("twice", &twice)).await;
    assert!(text(&verdict).contains("signed by 1 of the 2"), "{}", text(&verdict));
    shop.bundles("mixed", &mixed, &[key.bundle(&mixed, ""), signature(&world, OPS, &mixed)]);
    assert!(lab.say("team", &shop.pinned("mixed", &mixed)).await.starts_with("allowed Cosign key "));
}

#[tokio::test]
async fn f2_a_trust_root_counts_by_its_content_and_one_that_is_unusable_is_a_fault() {
    let (world, other, shop) = (World::new(), World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[DEV], &json!({}));
    let digest = shop.image("app", "x");
    let image = shop.pinned("app", &digest);
    shop.bundles("app", &digest, &[signature(&world, DEV, &digest)]);
    assert_eq!(lab.say("team", &image).await, format!("allowed Cosign {DEV}"));
    let put = |json: &str| lab.shelf.config_map("team/root", &[("trusted_root.json", json.as_bytes())]);
    put(&other.root().to_string());
    assert_eq!(lab.say("team", &image).await, "denied InvalidSignature");
    put("{}");
    assert_eq!(lab.say("team", &image).await, "undecided configuration");
    put(&world.root().to_string());
    assert_eq!(lab.say("team", &image).await, format!("allowed Cosign {DEV}"));
    lab.shelf.config_map("team/root", &[("other.json", b"{}")]);
    assert_eq!(lab.say("team", &image).await, "undecided reference");
    // Of another namespace it cannot be named.
    lab.shelf.config_map("private/root", &[("trusted_root.json", world.root().to_string().as_bytes())]);
    govern(&lab, &shop, &[DEV], &json!({"trustRootRef": "k8s://private/root"}));
    assert_eq!(lab.say("team", &image).await, "undecided reference");
    // Without one, the installation's, which is the public one at first.
    govern(&lab, &shop, &[DEV], &json!({"trustRootRef": null}));
    assert_eq!(lab.say("team", &image).await, "denied InvalidSignature");
    lab.verifier.set_trust_root(TrustRoot::parse(world.root().to_string().as_bytes()).unwrap());
    assert_eq!(lab.say("team", &image).await, format!("allowed Cosign {DEV}"));
}

#[tokio::test]
async fn keys_still_pass_while_the_trust_root_is_missing_and_identities_while_the_keys_are() {
    let (world, shop) = (World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[DEV], &json!({"keys": true}));
    let key = CosignKey::new();
    let [by_key, by_dev] = ["key", "dev"].map(|name| shop.image(name, name));
    shop.bundles("key", &by_key, &[key.bundle(&by_key, "alice")]);
    shop.bundles("dev", &by_dev, &[signature(&world, DEV, &by_dev)]);
    assert_eq!(lab.say("team", &shop.pinned("dev", &by_dev)).await, format!("allowed Cosign {DEV}"));
    assert_eq!(lab.say("team", &shop.pinned("key", &by_key)).await, "undecided reference");
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.shelf.remove("team/root");
    assert_eq!(lab.say("team", &shop.pinned("key", &by_key)).await, "allowed Cosign alice");
}

#[tokio::test]
async fn signatures_by_a_key_need_a_log_entry_when_it_is_required() {
    let (world, shop) = (World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[], &json!({"keys": true, "transparencyLog": "Required"}));
    let key = Signing::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem().as_bytes())]);
    let [logged, bare] = ["logged", "bare"].map(|name| shop.image(name, name));
    let mut bundle = world.bundle_by_key(&key, &world::statement(&logged, SIGNATURE_TYPE, &json!({})));
    shop.bundles("logged", &logged, &[bundle.to_string().into_bytes()]);
    assert!(lab.say("team", &shop.pinned("logged", &logged)).await.starts_with("allowed Cosign key "));
    bundle = world.bundle_by_key(&key, &world::statement(&bare, SIGNATURE_TYPE, &json!({})));
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    shop.bundles("bare", &bare, &[bundle.to_string().into_bytes()]);
    assert_eq!(lab.say("team", &shop.pinned("bare", &bare)).await, "denied InvalidSignature");
}

#[tokio::test]
async fn signatures_may_be_kept_in_another_repository_and_nowhere_else_then() {
    let (world, shop, store) = (World::new(), Shop::open(1), Shop::open(2));
    let elsewhere = format!("{}/signatures", shop.host());
    let lab = lab(&world, &shop, &[DEV], &json!({"repository": elsewhere}));
    let digest = shop.image("app", "x");
    let image = shop.pinned("app", &digest);
    shop.bundles("app", &digest, &[signature(&world, DEV, &digest)]);
    assert_eq!(lab.say("team", &image).await, "denied Unsigned");
    shop.annotated("signatures", &digest, "sig", &[legacy(&world, DEV, &digest, "")]);
    let again = self::lab(&world, &shop, &[DEV], &json!({"repository": elsewhere}));
    assert_eq!(again.say("team", &image).await, format!("allowed Cosign {DEV}"));
    // What the entry allows for its registry it does not for another host: here, plain HTTP.
    store.annotated("signatures", &digest, "sig", &[legacy(&world, DEV, &digest, "")]);
    let other = self::lab(&world, &shop, &[DEV], &json!({"repository": format!("{}/signatures", store.host())}));
    assert!(other.say("team", &image).await.starts_with("undecided"), "{}", other.say("team", &image).await);
}

#[tokio::test]
async fn signed_names_are_compared_when_they_are_asked_for_and_bundles_carry_none() {
    let (world, shop) = (World::new(), Shop::open(1));
    let asks = json!({"signedIdentity": {"type": "matchRepository"}});
    let lab = lab(&world, &shop, &[DEV], &asks);
    let [good, other, bundle] = ["good", "other", "bundle"].map(|name| shop.image(name, name));
    shop.annotated("good", &good, "sig", &[legacy(&world, DEV, &good, &shop.tagged("good"))]);
    assert_eq!(lab.say("team", &shop.pinned("good", &good)).await, format!("allowed Cosign {DEV}"));
    shop.annotated("other", &other, "sig", &[legacy(&world, DEV, &other, &shop.tagged("good"))]);
    assert_eq!(lab.say("team", &shop.pinned("other", &other)).await, "denied IdentityMismatch");
    shop.bundles("bundle", &bundle, &[signature(&world, DEV, &bundle)]);
    assert_eq!(lab.say("team", &shop.pinned("bundle", &bundle)).await, "denied IdentityMismatch");
}

#[tokio::test]
async fn e1_e2_attestations_are_asked_for_beside_the_signature_and_never_stand_for_it() {
    const KIND: &str = "https://slsa.dev/provenance/v1";
    let (world, shop) = (World::new(), Shop::open(1));
    let asks = json!({"attestations": [{"predicateType": KIND, "expression": "predicate.builder == 'good'"}]});
    let lab = lab(&world, &shop, &[DEV], &asks);
    let image = |name: &str| shop.image(name, name);
    let [both, none, alone, other, false_, stranger, broken] =
        ["both", "none", "alone", "other", "false", "stranger", "broken"].map(image);
    let attest = |who: &str, digest: &Digest, kind: &str, builder: &str| {
        attestation(&world, who, digest, kind, &json!({"builder": builder}))
    };
    shop.bundles("both", &both, &[attest(DEV, &both, KIND, "good"), signature(&world, DEV, &both)]);
    assert_eq!(lab.say("team", &shop.pinned("both", &both)).await, format!("allowed Cosign {DEV}"));
    let cases: [(&str, &Digest, Vec<Vec<u8>>, &str); 6] = [
        ("none", &none, vec![signature(&world, DEV, &none)], "none of this type"),
        ("alone", &alone, vec![attest(DEV, &alone, KIND, "good")], "not a signature"),
        ("other", &other, vec![attest(DEV, &other, "https://scan.test", "good")], "none of this type"),
        ("false", &false_, vec![attest(DEV, &false_, KIND, "evil")], "not true"),
        ("stranger", &stranger, vec![attest(OPS, &stranger, KIND, "good")], "none of the identities"),
        ("broken", &broken, vec![attestation(&world, DEV, &broken, KIND, &json!({}))], "no field builder"),
    ];
    for (name, digest, mut bundles, why) in cases {
        if name != "alone" {
            bundles.push(signature(&world, DEV, digest));
        }
        shop.bundles(name, digest, &bundles);
        let verdict = lab.judge("team", &shop.pinned(name, digest)).await;
        assert!(text(&verdict).contains(why), "{name}: {}", text(&verdict));
    }
}

/// Whoever may push could otherwise use up what expressions may cost, and so hide the attestation that counts.
#[tokio::test]
async fn h12_what_strangers_attest_costs_those_who_count_nothing() {
    const KIND: &str = "https://sbom.test";
    let (world, shop) = (World::new(), Shop::open(1));
    let expression = "predicate.a.all(x, predicate.a.all(y, x == y))";
    let asks = json!({"attestations": [{"predicateType": KIND, "expression": expression}]});
    let lab = lab(&world, &shop, &[DEV], &asks);
    let [beside, alone] = ["beside", "alone"].map(|name| shop.image(name, name));
    // Dear: twenty of them would use up what all of an image's may cost.
    let dear = json!({"a": vec![0; 350]});
    for (name, digest) in [("beside", &beside), ("alone", &alone)] {
        let strange = attestation(&world, OPS, digest, KIND, &dear);
        let mut bundles = vec![signature(&world, DEV, digest)];
        // Each is another blob.
        bundles.extend((0..40).map(|i| [strange.as_slice(), &vec![b' '; i]].concat()));
        if name == "beside" {
            bundles.push(attestation(&world, DEV, digest, KIND, &dear));
        }
        shop.bundles(name, digest, &bundles);
    }
    assert_eq!(lab.say("team", &shop.pinned("beside", &beside)).await, format!("allowed Cosign {DEV}"));
    assert_eq!(lab.say("team", &shop.pinned("alone", &alone)).await, "denied SignerMismatch");
}

#[tokio::test]
async fn a_legacy_attestation_tag_counts_as_a_bundle_does() {
    let (world, shop) = (World::new(), Shop::open(1));
    let lab = lab(&world, &shop, &[], &json!({"keys": true, "attestations": [{"predicateType": "https://a.test"}]}));
    let key = Signing::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem().as_bytes())]);
    let [good, other] = ["good", "other"].map(|name| shop.image(name, name));
    for (name, digest, kind) in [("good", &good, "https://a.test"), ("other", &other, "https://b.test")] {
        let statement = |kind: &str| world.bundle_by_key(&key, &world::statement(digest, kind, &json!({})));
        shop.bundles(name, digest, &[statement(SIGNATURE_TYPE).to_string().into_bytes()]);
        let envelope = statement(kind)["dsseEnvelope"].to_string().into_bytes();
        shop.annotated(name, digest, "att", &[(envelope, json!({"dev.cosignproject.cosign/signature": ""}))]);
    }
    assert!(lab.say("team", &shop.pinned("good", &good)).await.starts_with("allowed Cosign key "));
    assert_eq!(lab.say("team", &shop.pinned("other", &other)).await, "denied InvalidSignature");
}
