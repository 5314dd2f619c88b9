//! Signatures that a registry keeps itself. The registry here is a stand-in: none that has this API can be run by tests.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::domain::digest::Digest;
use crate::source::registries_d::RegistriesD;
use crate::source::testing::reply;
use crate::verify::VerifyConfig;
use crate::verify::testing::{GpgKey, Lab, Shop, text};

/// A lab whose one policy has a GPG key and no store.
fn lab(shop: &Shop, key: &GpgKey, config: VerifyConfig) -> Lab {
    let lab = Lab::with(config);
    lab.shelf.secret("team/gpg", &[("maker.pgp", &key.public())]);
    let entry = json!({"registry": shop.host(), "signCheck": true, "insecure": true, "gpgKeyRef": "k8s://team/gpg"});
    lab.govern(Some("team"), &json!([entry]));
    lab
}

fn announce(shop: &Shop) {
    shop.on("/v2/", |_| reply(200, "{}").with("x-registry-supports-signatures", 1));
}

fn keep(shop: &Shop, repository: &str, digest: &Digest, signatures: &[Vec<u8>]) {
    let entry = |signature: &Vec<u8>| json!({"schemaVersion": 2, "type": "atomic", "content": BASE64_STANDARD.encode(signature)});
    let entries: Vec<Value> = signatures.iter().map(entry).collect();
    let body = json!({"signatures": entries}).to_string();
    shop.on(&format!("/extensions/v2/{repository}/signatures/{digest}"), move |_| reply(200, body.clone()));
}

fn containers() -> VerifyConfig {
    VerifyConfig { registry_before_store: true, ..VerifyConfig::default() }
}

#[tokio::test]
async fn a_signature_that_the_registry_keeps_counts_where_no_store_is_configured() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let digest = shop.image("app", "x");
    let image = shop.tagged("app");
    // Nothing announced, nothing asked.
    let verdict = lab(&shop, &key, VerifyConfig::default()).judge("team", &image).await;
    assert!(text(&verdict).contains("does not say that it keeps signatures itself"), "{}", text(&verdict));
    assert_eq!(shop.count("/extensions/"), 0);
    announce(&shop);
    keep(&shop, "app", &digest, &[]);
    let lab_ = lab(&shop, &key, VerifyConfig::default());
    let verdict = lab_.judge("team", &image).await;
    assert!(text(&verdict).contains(&format!("keeps no signature for {digest}")), "{}", text(&verdict));
    let stranger = GpgKey::new("stranger").sign(&digest, &image);
    keep(&shop, "app", &digest, &[b"no signature".to_vec(), stranger.clone()]);
    assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, "denied InvalidSignature");
    keep(&shop, "app", &digest, &[b"no signature".to_vec(), stranger, key.sign(&digest, &image)]);
    let lab = lab(&shop, &key, VerifyConfig::default());
    assert_eq!(lab.say("team", &image).await, "allowed GPG maker@example.org");
}

#[tokio::test]
async fn d8_d9_what_the_registry_keeps_is_bound_to_digest_and_name_like_everything_else() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let [digest, other] = ["x", "y"].map(|content| shop.image("app", content));
    let image = shop.pinned("app", &digest);
    announce(&shop);
    for (signature, verdict) in [
        (key.sign(&other, &image), "denied DigestMismatch"),
        (key.sign(&digest, "registry.local/other:1"), "denied IdentityMismatch"),
        (key.sign(&digest, &image), "allowed GPG maker@example.org"),
    ] {
        keep(&shop, "app", &digest, &[signature]);
        assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, verdict);
    }
}

#[tokio::test]
async fn a_configured_store_comes_first_for_policies_and_last_for_containers_configuration() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let digest = shop.image("app", "x");
    let image = shop.tagged("app");
    announce(&shop);
    keep(&shop, "app", &digest, &[]);
    shop.store("app", &digest, 1, &key.sign(&digest, &image));
    let folder = tempfile::tempdir().expect("folder");
    let store = format!("default-docker: {{lookaside: 'http://{}/sigstore'}}\n", shop.host());
    std::fs::write(folder.path().join("a.yaml"), store).expect("written");
    for (config, verdict, asked) in
        [(VerifyConfig::default(), "allowed GPG maker@example.org", 0), (containers(), "denied Unsigned", 1)]
    {
        let lab = lab(&shop, &key, config);
        lab.verifier.set_registries_d(RegistriesD::load(folder.path()).expect("registries.d"));
        shop.server.forget();
        assert_eq!(lab.say("team", &image).await, verdict);
        assert_eq!(shop.count("GET /extensions/"), asked);
        assert_eq!(shop.count("GET /sigstore/"), 1 - asked);
    }
}

#[tokio::test]
async fn h10_h11_a_registry_that_fails_here_leaves_it_open() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let digest = shop.image("app", "x");
    let image = shop.tagged("app");
    shop.on("/v2/", |_| reply(500, ""));
    assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, "undecided bad_answer");
    announce(&shop);
    assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, "undecided bad_answer");
    let many = vec![b"no signature".to_vec(); 129];
    keep(&shop, "app", &digest, &many);
    assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, "undecided too_large");
    keep(&shop, "app", &digest, &[&[key.sign(&digest, &image)][..], &many].concat());
    assert_eq!(lab(&shop, &key, VerifyConfig::default()).say("team", &image).await, "allowed GPG maker@example.org");
}

#[tokio::test]
async fn an_image_that_was_judged_costs_no_request_again() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let digests = ["a", "b"].map(|name| shop.image(name, name));
    announce(&shop);
    let lab = lab(&shop, &key, VerifyConfig::default());
    for (name, digest) in ["a", "b"].iter().zip(&digests) {
        let image = shop.pinned(name, digest);
        keep(&shop, name, digest, &[key.sign(digest, &image)]);
        for _ in 0..3 {
            assert_eq!(lab.say("team", &image).await, "allowed GPG maker@example.org");
        }
    }
    assert_eq!((shop.count("GET /v2/ "), shop.count("GET /extensions/")), (0, 2));
    assert_eq!(shop.server.lines().iter().filter(|line| *line == "GET /v2/").count(), 1);
}
