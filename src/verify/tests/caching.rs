//! When a verdict is used again, and when it must not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::fault::{Fault, FaultKind};
use crate::source::testing::reply;
use crate::verify::cache::CacheLimits;
use crate::verify::testing::{CosignKey, GpgKey, Lab, Shop, say};
use crate::verify::{PodContext, VerifyConfig};

/// An image `app:1` with a good legacy signature by `alice`.
struct Signed {
    shop: Shop,
    lab: Lab,
    key: CosignKey,
    digest: Digest,
    pinned: String,
}

fn signed_with(cache: CacheLimits) -> Signed {
    let (shop, lab) = (Shop::open(1), Lab::with(VerifyConfig { cache, ..VerifyConfig::default() }));
    let key = CosignKey::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    let digest = shop.image("app", "x");
    shop.legacy("app", &digest, &[key.legacy(&digest, "alice")]);
    let pinned = shop.pinned("app", &digest);
    let signed = Signed { shop, lab, key, digest, pinned };
    signed.entry(&json!({}));
    signed
}

fn signed() -> Signed {
    signed_with(CacheLimits::default())
}

impl Signed {
    /// Replaces the policy by one with these further fields.
    fn entry(&self, fields: &Value) {
        let mut entry = self.shop.cosign_entry();
        for (name, value) in fields.as_object().unwrap() {
            entry[name] = value.clone();
        }
        self.lab.govern(Some("team"), &json!([entry]));
    }

    async fn say(&self) -> String {
        self.lab.say("team", &self.pinned).await
    }

    fn requests(&self) -> usize {
        self.shop.server.seen().len()
    }
}

#[tokio::test]
async fn f1_f4_a_hit_is_judged_by_the_policy_of_now() {
    let s = signed();
    assert_eq!(s.say().await, "allowed Cosign alice");
    for (fields, verdict) in [
        (json!({"signer": ["bob"]}), "denied SignerMismatch"),
        (json!({"signer": ["alice"]}), "allowed Cosign alice"),
        (json!({"cosign": {"annotations": {"stage": "release"}}}), "denied InvalidSignature"),
        (json!({"cosignKeyRef": "k8s://team/none"}), "undecided reference"),
        (json!({}), "allowed Cosign alice"),
    ] {
        s.entry(&fields);
        for _ in 0..2 {
            assert_eq!(s.say().await, verdict, "{fields}");
        }
    }
    // Not cryptographic, and asked at every hit: a required digest, another entry, no entry.
    let tagged = s.shop.tagged("app");
    assert_eq!(s.lab.say("team", &tagged).await, "allowed Cosign alice");
    s.entry(&json!({"requireDigest": true}));
    assert_eq!(s.lab.say("team", &tagged).await, "denied DigestRequired");
    s.entry(&json!({}));
    s.lab.govern(None, &json!([{"registry": s.shop.host(), "signCheck": true}]));
    assert_eq!(s.say().await, "denied NoVerifier");
    s.lab.govern(None, &json!([]));
    s.entry(&json!({"registry": "elsewhere.invalid"}));
    assert_eq!(s.say().await, "denied NoMatchingPolicy");
}

#[tokio::test]
async fn f2_another_key_under_the_same_name_counts_at_once() {
    let s = signed();
    assert_eq!(s.say().await, "allowed Cosign alice");
    s.lab.shelf.secret("team/cosign", &[("cosign.pub", CosignKey::new().pem.as_bytes())]);
    assert_eq!(s.say().await, "denied InvalidSignature");
    s.lab.shelf.secret("team/cosign", &[("cosign.pub", s.key.pem.as_bytes())]);
    assert_eq!(s.say().await, "allowed Cosign alice");
    s.lab.shelf.remove("team/cosign");
    assert_eq!(s.say().await, "undecided reference");

    let (shop, lab, key) = (Shop::open(1), Lab::new(), GpgKey::new("maker"));
    lab.shelf.secret("team/gpg", &[("maker.pgp", &key.public())]);
    lab.govern(Some("team"), &json!([shop.gpg_entry()]));
    let digest = shop.image("app", "x");
    shop.store("app", &digest, 1, &key.sign(&digest, &shop.tagged("app")));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed GPG maker@example.org");
    lab.shelf.secret("team/gpg", &[("maker.pgp", b"")]);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "denied NoPublicKeys");
}

#[tokio::test]
async fn f3_a_tag_is_never_the_key_of_a_verdict() {
    let s = signed();
    let tagged = s.shop.tagged("app");
    assert_eq!(s.lab.say("team", &tagged).await, "allowed Cosign alice");
    s.shop.image("app", "moved");
    assert_eq!(s.lab.say("team", &tagged).await, "denied Unsigned");
    s.shop.image("app", "x");
    assert_eq!(s.lab.say("team", &tagged).await, "allowed Cosign alice");
}

#[tokio::test]
async fn f5_f6_a_hit_says_what_the_miss_said() {
    let s = signed();
    s.shop.image("unsigned", "y");
    for image in [s.pinned.clone(), s.shop.tagged("app"), s.shop.tagged("unsigned")] {
        let miss = s.lab.judge("team", &image).await;
        // What is still on its way when the first method passes may come late; the passing one's requests are through.
        let before = s.shop.count(".sig");
        let hit = s.lab.judge("team", &image).await;
        assert_eq!((miss.cached, hit.cached, s.shop.count(".sig") - before), (false, true, 0), "{image}");
        assert_eq!((miss.outcome, miss.digest), (hit.outcome, hit.digest), "{image}");
    }
}

#[tokio::test]
async fn f5_what_was_not_verified_is_not_kept() {
    let s = signed();
    let blob = s.shop.blob("app", &s.key.legacy(&s.digest, "alice").0);
    s.shop.put(&format!("/v2/app/blobs/{blob}"), "application/octet-stream", "other bytes");
    assert_eq!(s.say().await, "undecided digest_mismatch");
    s.shop.blob("app", &s.key.legacy(&s.digest, "alice").0);
    assert_eq!(s.say().await, "allowed Cosign alice");
}

#[tokio::test]
async fn f7_a_fault_is_forgotten_at_once() {
    let s = signed();
    s.shop.only(|_| Some(reply(500, "")));
    assert_eq!(s.say().await, "undecided bad_answer");
    s.shop.only(|_| None);
    assert_eq!(s.say().await, "allowed Cosign alice");
    s.lab.shelf.obstruct("team/cosign", Fault::new(FaultKind::Unreachable, "the API server is away"));
    assert_eq!(s.say().await, "undecided unreachable");
    s.lab.shelf.secret("team/cosign", &[("cosign.pub", s.key.pem.as_bytes())]);
    assert_eq!(s.say().await, "allowed Cosign alice");
}

#[tokio::test]
async fn f8_an_unsigned_image_is_looked_up_once_in_a_short_while() {
    let short = CacheLimits { negative: Duration::from_millis(400), ..CacheLimits::default() };
    let s = signed_with(short);
    let digest = s.shop.image("unsigned", "y");
    let image = s.shop.pinned("unsigned", &digest);
    assert_eq!(s.lab.say("team", &image).await, "denied Unsigned");
    let before = s.requests();
    for _ in 0..50 {
        assert_eq!(s.lab.say("team", &image).await, "denied Unsigned");
    }
    assert_eq!(s.requests(), before);
    // A signature that was added meanwhile is found soon.
    s.shop.legacy("unsigned", &digest, &[s.key.legacy(&digest, "alice")]);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(s.lab.say("team", &image).await, "allowed Cosign alice");
}

#[tokio::test]
async fn f11_a_hundred_pods_of_one_image_cost_one_verification() {
    let s = signed();
    let judged = futures::future::join_all((0..100).map(|_| s.lab.say("team", &s.pinned))).await;
    assert!(judged.iter().all(|verdict| verdict == "allowed Cosign alice"), "{judged:?}");
    assert_eq!((s.shop.count("/blobs/"), s.shop.count(".sig")), (1, 1), "{:?}", s.shop.server.lines());
}

#[tokio::test]
async fn f11_a_slow_verification_holds_up_no_other_image() {
    let s = signed();
    let (slow, digest) = (Arc::new(AtomicBool::new(true)), s.shop.image("slow", "y"));
    let waits = slow.clone();
    s.shop.only(move |seen| {
        while seen.target.contains("/slow/") && waits.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    });
    let image = s.shop.pinned("slow", &digest);
    let mut waiting = Box::pin(s.lab.say("team", &image));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    assert_eq!(s.say().await, "allowed Cosign alice");
    assert!(waiting.as_mut().now_or_never().is_none());
    slow.store(false, Ordering::SeqCst);
    assert_eq!(waiting.await, "denied Unsigned");
}

#[tokio::test]
async fn f13_a_leader_out_of_time_leaves_the_others_to_themselves() {
    let s = signed();
    let first = Arc::new(AtomicUsize::new(0));
    let count = first.clone();
    s.shop.only(move |seen| {
        // The leader's first question hangs; whoever asks later is answered.
        if seen.target.contains(".sig") && count.fetch_add(1, Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_secs(3));
        }
        None
    });
    let pod = PodContext { namespace: "team", pull_secrets: &[], service_account: "default", dry_run: false };
    let snapshot = s.lab.inputs.current();
    let judge = |time| s.lab.verifier.judge(&snapshot, &s.pinned, &pod, Instant::now() + time);
    let (leader, follower) = tokio::join!(judge(Duration::from_millis(700)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        judge(Duration::from_secs(9)).await
    });
    assert_eq!((say(&leader).as_str(), say(&follower).as_str()), ("undecided timeout", "allowed Cosign alice"));
    assert_eq!(s.say().await, "allowed Cosign alice");
}

#[tokio::test]
async fn f15_e47_without_any_room_to_keep_verdicts_everything_still_works() {
    let s = signed_with(CacheLimits { entries: 0, ..CacheLimits::default() });
    for _ in 0..3 {
        assert_eq!(s.say().await, "allowed Cosign alice");
    }
    let none = CacheLimits { positive: Duration::ZERO, negative: Duration::ZERO, ..CacheLimits::default() };
    let s = signed_with(none);
    assert_eq!(s.say().await, "allowed Cosign alice");
    s.shop.take_away(&format!("/v2/app/manifests/sha256-{}.sig", s.digest.hex()));
    assert_eq!(s.say().await, "denied Unsigned");
}

#[tokio::test]
async fn h10_a_verified_digest_passes_while_the_registry_is_down() {
    let s = signed();
    assert_eq!(s.say().await, "allowed Cosign alice");
    s.shop.only(|_| Some(crate::source::testing::Reply::HangUp));
    assert_eq!(s.say().await, "allowed Cosign alice");
    // Its tag could have moved, so it is not decided, and not called unsigned.
    assert_eq!(s.lab.say("team", &s.shop.tagged("app")).await, "undecided unreachable");
}

#[tokio::test]
async fn j10_the_same_question_gets_the_same_answer() {
    let s = signed();
    let other = s.shop.image("other", "y");
    s.shop.legacy("other", &other, &[CosignKey::new().legacy(&other, "x"), s.key.legacy(&s.digest, "alice")]);
    let first = s.lab.judge("team", &s.shop.tagged("other")).await;
    assert_eq!(say(&first), "denied DigestMismatch");
    for _ in 0..3 {
        s.lab.inputs.set_whitelist(crate::domain::whitelist::Whitelist::default());
        assert_eq!(s.lab.judge("team", &s.shop.tagged("other")).await.outcome, first.outcome);
    }
}
