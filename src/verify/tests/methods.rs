//! Which signatures count: methods, signers, what stands beside them.

use serde_json::{Value, json};

use crate::domain::digest::Digest;
use crate::source::testing::{Reply, reply};
use crate::verify::testing::{CosignKey, GpgKey, IMAGE_TYPE, Lab, Shop, listed, say, text};

/// A lab whose namespace `team` has both kinds of keys, and an entry that takes either.
fn either(shop: &Shop) -> (Lab, CosignKey, GpgKey, Value) {
    let (lab, cosign, gpg) = (Lab::new(), CosignKey::new(), GpgKey::new("maker"));
    lab.shelf.secret("team/cosign", &[("cosign.pub", cosign.pem.as_bytes())]);
    lab.shelf.secret("team/gpg", &[("maker.pgp", &gpg.public())]);
    let mut entry = shop.gpg_entry();
    entry["cosignKeyRef"] = "k8s://team/cosign".into();
    lab.govern(Some("team"), &json!([entry]));
    (lab, cosign, gpg, entry)
}

/// A new lab, with nothing in its cache, that asks for this key.
fn trusting(key: &CosignKey, shop: &Shop) -> Lab {
    let lab = Lab::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    lab
}

#[tokio::test]
async fn a10_e50_each_image_passes_by_the_method_that_it_has() {
    let shop = Shop::open(1);
    let (lab, cosign, gpg, mut entry) = either(&shop);
    let digests = ["one", "two", "three"].map(|name| shop.image(name, name));
    shop.legacy("one", &digests[0], &[cosign.legacy(&digests[0], "a")]);
    shop.store("two", &digests[1], 1, &gpg.sign(&digests[1], &shop.tagged("two")));
    for _ in 0..2 {
        assert_eq!(lab.say("team", &shop.tagged("one")).await, "allowed Cosign a");
        assert_eq!(lab.say("team", &shop.tagged("two")).await, "allowed GPG maker@example.org");
        assert_eq!(lab.say("team", &shop.tagged("three")).await, "denied Unsigned");
        // The same with a method in front that cannot be evaluated at all.
        entry["notary"] = "https://notary.invalid".into();
        lab.govern(Some("team"), &json!([entry]));
        assert_eq!(lab.say("team", &shop.tagged("three")).await, "undecided configuration");
        assert_eq!(lab.say("team", &shop.tagged("two")).await, "allowed GPG maker@example.org");
        entry["notary"] = Value::Null;
        lab.govern(Some("team"), &json!([entry]));
    }
}

#[tokio::test]
async fn e50_a_method_that_fails_leaves_the_next_one_its_say() {
    let shop = Shop::open(1);
    let (lab, _, gpg, _) = either(&shop);
    let digest = shop.image("app", "x");
    shop.store("app", &digest, 1, &gpg.sign(&digest, &shop.tagged("app")));
    shop.on(&format!("/v2/app/manifests/sha256-{}.sig", digest.hex()), |_| reply(500, ""));
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed GPG maker@example.org");
    lab.shelf.remove("team/cosign");
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed GPG maker@example.org");
    // Without the one that accepts, the failure is a fault and no verdict.
    shop.take_away(&format!("/sigstore/app@sha256={}/signature-1", digest.hex()));
    lab.shelf.secret("team/cosign", &[("cosign.pub", CosignKey::new().pem.as_bytes())]);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "undecided bad_answer");
}

#[tokio::test]
async fn e51_only_a_definite_not_found_is_unsigned() {
    let shop = Shop::open(1);
    let (lab, ..) = either(&shop);
    let digest = shop.image("app", "x");
    let image = shop.pinned("app", &digest);
    let places = [
        format!("/v2/app/manifests/sha256-{}.sig", digest.hex()),
        format!("/v2/app/referrers/{digest}"),
        format!("/v2/app/manifests/sha256-{}", digest.hex()),
        format!("/sigstore/app@sha256={}/signature-1", digest.hex()),
    ];
    for place in &places {
        for status in [500, 403, 418] {
            shop.on(place, move |_| reply(status, ""));
            let verdict = lab.say("team", &image).await;
            assert!(verdict.starts_with("undecided "), "{place} {status}: {verdict}");
        }
        shop.on(place, |_| Reply::HangUp);
        assert_eq!(lab.say("team", &image).await, "undecided unreachable", "{place}");
        shop.take_away(place);
    }
    assert_eq!(lab.say("team", &image).await, "denied Unsigned");
}

#[tokio::test]
async fn e18_only_a_listed_signer_counts_and_an_empty_list_takes_every_trusted_key() {
    let shop = Shop::open(1);
    let (lab, cosign, gpg, mut entry) = either(&shop);
    let digests = ["one", "two"].map(|name| shop.image(name, name));
    shop.legacy("one", &digests[0], &[cosign.legacy(&digests[0], "alice")]);
    shop.store("two", &digests[1], 1, &gpg.sign(&digests[1], &shop.tagged("two")));
    for (signers, one, two) in [
        (json!([]), "allowed Cosign alice", "allowed GPG maker@example.org"),
        (json!(["alice", "maker@example.org"]), "allowed Cosign alice", "allowed GPG maker@example.org"),
        (json!(["alice"]), "allowed Cosign alice", "denied Unsigned"),
        (json!(["bob"]), "denied SignerMismatch", "denied Unsigned"),
    ] {
        entry["signer"] = signers.clone();
        lab.govern(Some("team"), &json!([entry]));
        assert_eq!(lab.say("team", &shop.tagged("one")).await, one, "{signers}");
        let verdict = lab.judge("team", &shop.tagged("two")).await;
        assert_eq!(say(&verdict), two, "{signers}");
        // The first method's refusal gives the reason; the signer's is in the text beside it.
        assert_eq!(text(&verdict).contains("'s signer is invalid"), two.starts_with("denied"), "{}", text(&verdict));
    }
}

#[tokio::test]
async fn e31_signatures_are_read_up_to_the_first_gap_and_no_further_than_the_limit() {
    let shop = Shop::open(1);
    let (lab, _, gpg, _) = either(&shop);
    lab.govern(Some("team"), &json!([shop.gpg_entry()]));
    let digests = ["later", "gap", "many"].map(|name| shop.image(name, name));
    let good = |name: &str, i: usize| gpg.sign(&digests[i], &shop.tagged(name));
    let foreign = GpgKey::new("other").sign(&digests[0], &shop.tagged("later"));
    shop.store("later", &digests[0], 1, b"garbage");
    shop.store("later", &digests[0], 2, &foreign);
    shop.store("later", &digests[0], 3, &good("later", 0));
    assert_eq!(lab.say("team", &shop.tagged("later")).await, "allowed GPG maker@example.org");
    // Number 2 is missing, so 3 is never asked for.
    shop.store("gap", &digests[1], 1, b"garbage");
    shop.store("gap", &digests[1], 3, &good("gap", 1));
    assert_eq!(lab.say("team", &shop.tagged("gap")).await, "denied InvalidSignature");
    assert_eq!(shop.count(&format!("gap@sha256={}/signature-3", digests[1].hex())), 0);
    for number in 1..=128 {
        shop.store("many", &digests[2], number, b"garbage");
    }
    shop.store("many", &digests[2], 129, &good("many", 2));
    assert_eq!(lab.say("team", &shop.tagged("many")).await, "undecided too_large");
    assert_eq!(shop.count("many@sha256"), 128);
}

#[tokio::test]
async fn e33_more_candidates_than_the_limit_are_no_verdict() {
    let shop = Shop::open(1);
    let (lab, cosign, ..) = either(&shop);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let digest = shop.image("app", "x");
    let foreign = CosignKey::new();
    let mut signatures: Vec<_> = (0..64).map(|_| foreign.legacy(&digest, "x")).collect();
    signatures.push(cosign.legacy(&digest, "a"));
    shop.legacy("app", &digest, &signatures);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided too_large");
    // One less, and the good one is found.
    signatures.remove(0);
    shop.legacy("app", &digest, &signatures);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Cosign a");
}

#[tokio::test]
async fn e35_many_keys_and_signatures_cost_one_download_each() {
    let shop = Shop::open(1);
    let (lab, ..) = either(&shop);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let keys: Vec<_> = (0..15).map(|_| CosignKey::new()).collect();
    let pem: String = keys.iter().map(|key| key.pem.as_str()).collect();
    lab.shelf.secret("team/cosign", &[("cosign.pub", pem.as_bytes())]);
    let digest = shop.image("app", "x");
    // Different payloads, none by a trusted key.
    let signatures: Vec<_> = ["a", "b", "c"].iter().map(|signer| CosignKey::new().legacy(&digest, signer)).collect();
    shop.legacy("app", &digest, &signatures);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "denied InvalidSignature");
    assert_eq!(shop.count("/blobs/"), 3, "{:?}", shop.server.lines());
    // The last key of all is as good as the first.
    let twice = shop.image("twice", "y");
    shop.legacy("twice", &twice, &[keys[14].legacy(&twice, "last")]);
    assert_eq!(lab.say("team", &shop.pinned("twice", &twice)).await, "allowed Cosign last");
}

/// Everything that a person with push rights can put beside a signature, each alone and all together.
#[tokio::test]
async fn e49_nothing_that_is_attached_beside_a_good_signature_hides_it() {
    let shop = Shop::open(1);
    let (lab, cosign, ..) = either(&shop);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let junk: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", b"garbage".to_vec()),
        ("foreign", Vec::new()),
        ("sbom", json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}).to_string().into_bytes()),
        ("huge", vec![b' '; (4 << 20) + 1]),
    ];
    for (name, content) in &junk {
        // Beside a good bundle, in front of it.
        let digest = shop.image(name, name);
        let content = if content.is_empty() { CosignKey::new().bundle(&digest, "x") } else { content.clone() };
        shop.bundles(name, &digest, &[content.clone(), cosign.bundle(&digest, "a")]);
        assert_eq!(lab.say("team", &shop.pinned(name, &digest)).await, "allowed Cosign a", "{name} beside a bundle");
        // Beside a good legacy signature: the bundle format must not win by being there.
        let legacy = format!("{name}-legacy");
        let digest = shop.image(&legacy, name);
        shop.bundles(&legacy, &digest, std::slice::from_ref(&content));
        shop.legacy(&legacy, &digest, &[cosign.legacy(&digest, "a")]);
        assert_eq!(lab.say("team", &shop.pinned(&legacy, &digest)).await, "allowed Cosign a", "{name} beside .sig");
        // In front of a good legacy signature under the same tag.
        let layers = format!("{name}-layers");
        let digest = shop.image(&layers, name);
        shop.legacy(&layers, &digest, &[(content, "AAAA".to_owned()), cosign.legacy(&digest, "a")]);
        assert_eq!(lab.say("team", &shop.pinned(&layers, &digest)).await, "allowed Cosign a", "{name} among layers");
    }
}

#[tokio::test]
async fn e49_a_referrer_that_cannot_be_read_does_not_hide_the_next_one() {
    let shop = Shop::open(1);
    let cosign = CosignKey::new();
    let digest = shop.image("app", "x");
    // A manifest of two kinds at once, and one that is not what the list says, in front of a good one.
    let torn = json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE, "manifests": [], "layers": [], "config": {}});
    let torn = shop.manifest("app", None, IMAGE_TYPE, &torn);
    let lie = Digest::sha256(b"never pushed");
    shop.put(&format!("/v2/app/manifests/{lie}"), IMAGE_TYPE, "{}");
    let good = shop.bundle("app", &cosign.bundle(&digest, "a"));
    for bad in [torn, lie] {
        shop.referrers("app", &digest, &[listed(&bad), good.clone()]);
        let lab = trusting(&cosign, &shop);
        assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Cosign a");
        // Without the good one it is an obstacle: what it holds is not known.
        shop.referrers("app", &digest, &[listed(&bad)]);
        let lab = trusting(&cosign, &shop);
        let verdict = lab.say("team", &shop.pinned("app", &digest)).await;
        assert!(["undecided bad_answer", "undecided digest_mismatch"].contains(&verdict.as_str()), "{verdict}");
    }
}

#[tokio::test]
async fn i12_i17_keys_that_are_not_there_deny_and_say_so() {
    let shop = Shop::open(1);
    let (lab, ..) = either(&shop);
    let digest = shop.image("app", "x");
    let image = shop.pinned("app", &digest);
    for entry in [shop.cosign_entry(), shop.gpg_entry()] {
        lab.govern(Some("team"), &json!([entry]));
        lab.shelf.secret("team/cosign", &[("other", b"x")]);
        lab.shelf.secret("team/gpg", &[("maker.pgp", b"")]);
        let verdict = lab.judge("team", &image).await;
        assert_eq!(say(&verdict), "denied NoPublicKeys");
        assert!(text(&verdict).contains("no public keys imported from k8s://team/"), "{}", text(&verdict));
        lab.shelf
            .secret("team/cosign", &[("cosign.pub", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")]);
        lab.shelf.secret("team/gpg", &[("maker.pgp", b"\x99\x01garbage")]);
        assert_eq!(lab.say("team", &image).await, "denied NoPublicKeys");
        lab.shelf.remove("team/cosign");
        lab.shelf.remove("team/gpg");
        assert_eq!(lab.say("team", &image).await, "undecided reference");
    }
    lab.govern(Some("team"), &json!([{"registry": shop.host(), "signCheck": true}]));
    assert_eq!(lab.say("team", &image).await, "denied NoVerifier");
    assert_eq!(shop.server.lines(), Vec::<String>::new(), "nothing was worth asking for");
}

#[tokio::test]
async fn j6_each_cause_has_its_own_reason() {
    let shop = Shop::open(1);
    let (lab, _, gpg, _) = either(&shop);
    let digest = shop.image("app", "x");
    let other = shop.image("other", "y");
    let image = shop.tagged("app");
    lab.govern(Some("team"), &json!([shop.gpg_entry()]));
    let mut seen = std::collections::BTreeSet::new();
    let mut put = async |blob: &[u8]| {
        // Another Secret for each: nothing comes from the cache.
        lab.shelf.secret("team/gpg", &[("maker.pgp", &gpg.public()), (&format!("{}.pgp", seen.len()), b"")]);
        shop.store("app", &digest, 1, blob);
        let verdict = lab.judge("team", &image).await;
        assert!(seen.insert(text(&verdict)), "{}", text(&verdict));
        say(&verdict)
    };
    assert_eq!(put(&gpg.sign(&other, &image)).await, "denied DigestMismatch");
    assert_eq!(put(&gpg.sign(&digest, "registry.local/x:1")).await, "denied IdentityMismatch");
    assert_eq!(put(&GpgKey::new("nobody").sign(&digest, &image)).await, "denied InvalidSignature");
    assert_eq!(put(b"garbage").await, "denied InvalidSignature");
    assert_eq!(put(&gpg.sign_bytes(b"{}")).await, "denied InvalidSignature");
}

#[tokio::test]
async fn h4_an_entry_that_only_warns_still_only_warns_when_time_runs_out() {
    let shop = Shop::open(1);
    let (lab, cosign, ..) = either(&shop);
    let digest = shop.image("app", "x");
    shop.legacy("app", &digest, &[cosign.legacy(&digest, "a")]);
    shop.on(&format!("/v2/app/manifests/sha256-{}.sig", digest.hex()), |_| Reply::Drip);
    shop.on(&format!("/v2/app/referrers/{digest}"), |_| Reply::Drip);
    let pod =
        crate::verify::PodContext { namespace: "team", pull_secrets: &[], service_account: "default", dry_run: false };
    for (action, verdict, warned) in
        [("Warn", "allowed", 1), ("Audit", "allowed", 0), ("Enforce", "undecided timeout", 0)]
    {
        let mut entry = shop.cosign_entry();
        entry["action"] = action.into();
        lab.govern(Some("team"), &json!([entry]));
        for image in [shop.pinned("app", &digest), shop.tagged("app")] {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(500);
            let judged = lab.verifier.judge(&lab.inputs.current(), &image, &pod, deadline).await;
            assert!(say(&judged).starts_with(verdict), "{action}: {}", say(&judged));
            assert_eq!(judged.warned.len(), warned, "{action}");
        }
    }
}
