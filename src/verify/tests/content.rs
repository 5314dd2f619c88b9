//! Which bytes are judged: tags, digests, indexes, replays.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::domain::digest::Digest;
use crate::source::testing::reply;
use crate::verify::testing::{CosignKey, GpgKey, INDEX_TYPE, Lab, Shop, text};

/// A shop, a lab that asks for cosign signatures in the namespace `team`, and the key.
fn cosigned() -> (Shop, Lab, CosignKey) {
    let (shop, lab, key) = (Shop::open(1), Lab::new(), CosignKey::new());
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    (shop, lab, key)
}

fn gpg_signed() -> (Shop, Lab, GpgKey) {
    let (shop, lab, key) = (Shop::open(1), Lab::new(), GpgKey::new("maker"));
    lab.shelf.secret("team/gpg", &[("maker.pgp", &key.public())]);
    lab.govern(Some("team"), &json!([shop.gpg_entry()]));
    (shop, lab, key)
}

#[tokio::test]
async fn d1_d2_a_tag_is_asked_for_once_and_what_it_said_then_is_judged() {
    let (shop, lab, key) = cosigned();
    let (good, evil) = (shop.image("app", "good"), shop.image("app", "evil"));
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    // The tag moves with every request: first the signed image, then another one.
    let asked = AtomicUsize::new(0);
    let digests = [good.clone(), evil.clone()];
    shop.on("/v2/app/manifests/1", move |_| {
        let digest = &digests[asked.fetch_add(1, Ordering::SeqCst).min(1)];
        reply(200, "").with("docker-content-digest", digest)
    });
    // Two governing entries, of the cluster and of the namespace, share the one answer.
    lab.govern(None, &json!([shop.cosign_entry()]));
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert_eq!((text(&verdict), verdict.digest), (String::new(), Some(good)));
    assert_eq!(shop.count("/manifests/1"), 1, "{:?}", shop.server.lines());
    // The next decision asks anew and judges the other image.
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert!(text(&verdict).contains("signature is empty"), "{}", text(&verdict));
    assert_eq!(verdict.digest, Some(evil));
}

#[tokio::test]
async fn d3_d4_what_a_tag_claims_to_be_must_be_what_is_sent_for_it() {
    let (shop, lab, key) = cosigned();
    let (signed, sent) = (shop.image("app", "signed"), shop.image("app", "sent"));
    shop.legacy("app", &signed, &[key.legacy(&signed, "a")]);
    // HEAD names the signed image, GET by that digest sends another one.
    shop.on("/v2/app/manifests/1", {
        let signed = signed.clone();
        move |_| reply(200, "").with("docker-content-digest", &signed)
    });
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Cosign a");
    let (shop, lab, key) = cosigned();
    let signed = shop.image("app", "signed");
    shop.legacy("app", &signed, &[key.legacy(&signed, "a")]);
    let body = json!({"schemaVersion": 2, "other": sent.as_str()}).to_string();
    shop.on(&format!("/v2/app/manifests/{signed}"), move |_| reply(200, body.clone()));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided digest_mismatch");
}

#[tokio::test]
async fn d5_a_signature_blob_with_another_digest_does_not_count() {
    let (shop, lab, key) = cosigned();
    let digest = shop.image("app", "x");
    let (payload, signature) = key.legacy(&digest, "a");
    shop.legacy("app", &digest, &[(payload.clone(), signature)]);
    let other = [payload.as_slice(), b" "].concat();
    shop.put(&format!("/v2/app/blobs/{}", Digest::sha256(&payload)), "application/octet-stream", other);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "undecided digest_mismatch");
}

#[tokio::test]
async fn d6_the_digest_that_was_asked_for_must_be_signed() {
    let (shop, lab, key) = cosigned();
    let child = shop.image("app", "child");
    let listed = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child.as_str(), "size": 1,
        "platform": {"architecture": "amd64", "os": "linux"}});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [listed]});
    let index = shop.manifest("app", Some("1"), INDEX_TYPE, &index);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "denied Unsigned");
    // Only the index is signed: good for the index, not for a child that is asked for by its own digest.
    shop.legacy("app", &index, &[key.legacy(&index, "a")]);
    let fresh = Lab::new();
    fresh.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    fresh.govern(Some("team"), &json!([shop.cosign_entry()]));
    assert_eq!(fresh.say("team", &shop.tagged("app")).await, "allowed Cosign a");
    assert_eq!(fresh.say("team", &shop.pinned("app", &index)).await, "allowed Cosign a");
    assert_eq!(fresh.say("team", &shop.pinned("app", &child)).await, "denied Unsigned");
}

#[tokio::test]
async fn d8_a_signature_of_another_image_attached_to_this_one_is_refused() {
    let (shop, lab, key) = cosigned();
    let (signed, target) = (shop.image("app", "signed"), shop.image("app", "target"));
    shop.legacy("app", &target, &[key.legacy(&signed, "a")]);
    assert_eq!(lab.say("team", &shop.pinned("app", &target)).await, "denied DigestMismatch");
    shop.take_away(&format!("/v2/app/manifests/sha256-{}.sig", target.hex()));
    shop.bundles("app2", &target, &[key.bundle(&signed, "a")]);
    assert_eq!(lab.say("team", &shop.pinned("app2", &target)).await, "denied DigestMismatch");

    let (shop, lab, key) = gpg_signed();
    let (signed, target) = (shop.image("app", "signed"), shop.image("app", "target"));
    let blob = key.sign(&signed, &shop.tagged("app"));
    shop.store("app", &target, 1, &blob);
    assert_eq!(lab.say("team", &shop.pinned("app", &target)).await, "denied DigestMismatch");
    shop.store("app", &signed, 1, &blob);
    assert_eq!(lab.say("team", &shop.pinned("app", &signed)).await, "allowed GPG maker@example.org");
}

#[tokio::test]
async fn d9_a_signature_for_another_repository_needs_an_identity_rule() {
    let (shop, lab, key) = gpg_signed();
    let digest = shop.image("copy", "x");
    shop.store("copy", &digest, 1, &key.sign(&digest, "registry.local/original:1"));
    assert_eq!(lab.say("team", &shop.tagged("copy")).await, "denied IdentityMismatch");
    for (identity, verdict) in [
        (json!({"type": "matchRepository"}), "denied IdentityMismatch"),
        (json!({"type": "exactRepository", "dockerRepository": "registry.local/other"}), "denied IdentityMismatch"),
        (
            json!({"type": "exactRepository", "dockerRepository": "registry.local/original"}),
            "allowed GPG maker@example.org",
        ),
    ] {
        let mut entry = shop.gpg_entry();
        entry["signedIdentity"] = identity.clone();
        lab.govern(Some("team"), &json!([entry]));
        assert_eq!(lab.say("team", &shop.tagged("copy")).await, verdict, "{identity}");
    }
}

#[tokio::test]
async fn d10_an_older_signed_image_is_denied_by_what_a_policy_can_say() {
    let (shop, lab, key) = gpg_signed();
    let old = shop.image("app", "old");
    shop.store("app", &old, 1, &key.sign(&old, &format!("{}/app:0.9", shop.host())));
    // The tag is set back to an image that was signed as another version: the signed name tells.
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "denied IdentityMismatch");
    // By digest the default rule takes every tag of the repository; an exact reference does not.
    assert_eq!(lab.say("team", &shop.pinned("app", &old)).await, "allowed GPG maker@example.org");
    let mut entry = shop.gpg_entry();
    entry["signedIdentity"] = json!({"type": "exactReference", "dockerReference": format!("{}/app:1", shop.host())});
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.pinned("app", &old)).await, "denied IdentityMismatch");
    // And a required digest leaves no tag to be set back.
    let mut entry = shop.gpg_entry();
    entry["requireDigest"] = true.into();
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "denied DigestRequired");
}

#[tokio::test]
async fn d15_a_namespace_that_lets_an_image_run_decides_for_no_other() {
    let (shop, lab, _) = cosigned();
    let digest = shop.image("app", "x");
    lab.govern(Some("lax"), &json!([{"registry": shop.host(), "signCheck": false}]));
    for image in [shop.tagged("app"), shop.pinned("app", &digest)] {
        assert_eq!(lab.say("lax", &image).await, "allowed unchecked");
        assert_eq!(lab.say("team", &image).await, "denied Unsigned");
        assert_eq!(lab.say("lax", &image).await, "allowed unchecked");
    }
}
