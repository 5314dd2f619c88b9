//! Multi-architecture images: an unsigned index by the signatures of its manifests.

use serde_json::{Value, json};

use crate::domain::digest::Digest;
use crate::source::testing::reply;
use crate::verify::VerifyConfig;
use crate::verify::testing::{CosignKey, GpgKey, IMAGE_TYPE, INDEX_TYPE, Lab, Shop, say, text};

fn entry(digest: &Digest, os: &str, architecture: &str) -> Value {
    json!({"mediaType": IMAGE_TYPE, "digest": digest.as_str(), "size": 1,
        "platform": {"os": os, "architecture": architecture}})
}

fn attestation(digest: &Digest) -> Value {
    let mut entry = entry(digest, "unknown", "unknown");
    entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    entry
}

fn index(shop: &Shop, manifests: &[Value]) -> Digest {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
    shop.manifest("app", Some("1"), INDEX_TYPE, &index)
}

/// What a verifier without a memory says about the tag, and the text of it.
async fn judged(shop: &Shop, key: &CosignKey) -> (String, String) {
    let lab = Lab::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    (say(&verdict), text(&verdict))
}

#[tokio::test]
async fn d6_an_index_passes_when_every_manifest_that_can_run_is_signed() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [amd, arm, about] = ["amd", "arm", "about"].map(|content| shop.image("app", content));
    index(&shop, &[entry(&amd, "linux", "amd64"), entry(&arm, "linux", "arm64"), attestation(&about)]);
    assert_eq!(judged(&shop, &key).await.0, "denied Unsigned");
    shop.legacy("app", &amd, &[key.legacy(&amd, "a")]);
    let (verdict, text) = judged(&shop, &key).await;
    assert_eq!(verdict, "denied Unsigned");
    assert!(text.contains(&format!("neither is its manifest {arm} (linux/arm64)")), "{text}");
    shop.bundles("app", &arm, &[key.bundle(&arm, "a")]);
    assert_eq!(judged(&shop, &key).await.0, "allowed Cosign a");
    // By another key is not signed, and a registry that fails is no verdict.
    shop.bundles("app", &arm, &[CosignKey::new().bundle(&arm, "a")]);
    assert_eq!(judged(&shop, &key).await.0, "denied Unsigned");
    shop.on(&format!("/v2/app/referrers/{arm}"), |_| reply(500, ""));
    assert_eq!(judged(&shop, &key).await.0, "undecided bad_answer");
}

#[tokio::test]
async fn d6_only_a_real_attestation_is_passed_over() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [good, bad] = ["good", "bad"].map(|content| shop.image("app", content));
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    let marked = |os, architecture| {
        let mut entry = entry(&bad, os, architecture);
        entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        entry
    };
    let mut placeless = marked("", "");
    placeless.as_object_mut().expect("object").remove("platform");
    for hidden in [entry(&bad, "unknown", "unknown"), marked("linux", "amd64"), marked("unknown", "amd64"), placeless] {
        index(&shop, &[entry(&good, "linux", "amd64"), hidden.clone()]);
        assert_eq!(judged(&shop, &key).await.0, "denied Unsigned", "{hidden}");
    }
    index(&shop, &[entry(&good, "linux", "amd64"), attestation(&bad)]);
    assert_eq!(judged(&shop, &key).await.0, "allowed Cosign a");
}

#[tokio::test]
async fn d6_an_index_of_nothing_or_of_too_much_does_not_pass() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let good = shop.image("app", "good");
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    let one = entry(&good, "linux", "amd64");
    for (manifests, why) in [
        (Vec::new(), "no manifest to run"),
        (vec![attestation(&good)], "no manifest to run"),
        (vec![one.clone(); 33], "more than 32 manifests"),
    ] {
        index(&shop, &manifests);
        let (verdict, text) = judged(&shop, &key).await;
        assert_eq!(verdict, "denied Unsigned");
        assert!(text.contains(why), "{text}");
    }
    index(&shop, &vec![one; 32]);
    assert_eq!(judged(&shop, &key).await.0, "allowed Cosign a");
}

#[tokio::test]
async fn d6_gpg_signatures_of_the_manifests_count_under_the_name_of_the_image() {
    let (shop, key) = (Shop::open(1), GpgKey::new("maker"));
    let children = ["amd", "arm"].map(|content| shop.image("app", content));
    let tagged = shop.tagged("app");
    let signed_as = |name: &str| {
        for child in &children {
            shop.store("app", child, 1, &key.sign(child, name));
        }
    };
    let manifests: Vec<_> = children.iter().map(|child| entry(child, "linux", "amd64")).collect();
    let digest = index(&shop, &manifests);
    for (name, verdict) in [("registry.local/other:1", "denied Unsigned"), (&tagged, "allowed GPG maker@example.org")] {
        signed_as(name);
        for image in [tagged.clone(), shop.pinned("app", &digest)] {
            let lab = Lab::new();
            lab.shelf.secret("team/gpg", &[("maker.pgp", &key.public())]);
            lab.govern(Some("team"), &json!([shop.gpg_entry()]));
            assert_eq!(lab.say("team", &image).await, verdict, "{image} signed as {name}");
        }
    }
}

/// What a verifier for these platforms says about the tag.
async fn judged_for(platforms: &[&str], shop: &Shop, key: &CosignKey) -> (String, String) {
    let platforms = platforms.iter().map(|platform| platform.parse().expect("a platform")).collect();
    let lab = Lab::with(VerifyConfig { platforms, ..VerifyConfig::default() });
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    (say(&verdict), text(&verdict))
}

#[tokio::test]
async fn d6_with_listed_platforms_their_manifests_alone_must_be_signed() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [amd, arm, windows, about] = ["amd", "arm", "windows", "about"].map(|content| shop.image("app", content));
    let entries = [
        entry(&amd, "linux", "amd64"),
        entry(&arm, "linux", "arm64"),
        entry(&windows, "windows", "amd64"),
        attestation(&about),
    ];
    index(&shop, &entries);
    shop.legacy("app", &amd, &[key.legacy(&amd, "a")]);
    for (platforms, verdict) in [
        (&["linux/amd64"][..], "allowed Cosign a"),
        (&["linux/amd64", "linux/s390x"], "allowed Cosign a"),
        (&["linux/amd64", "linux/arm64"], "denied Unsigned"),
        (&["windows/amd64"], "denied Unsigned"),
        (&["linux/s390x"], "denied Unsigned"),
        (&[], "denied Unsigned"),
    ] {
        assert_eq!(judged_for(platforms, &shop, &key).await.0, verdict, "{platforms:?}");
    }
    let (_, text) = judged_for(&["linux/s390x", "linux/riscv64"], &shop, &key).await;
    assert!(text.contains("no manifest for the listed platforms (linux/s390x, linux/riscv64)"), "{text}");
    let (_, text) = judged_for(&["linux/amd64", "linux/arm64"], &shop, &key).await;
    assert!(text.contains(&format!("neither is its manifest {arm} (linux/arm64)")), "{text}");
    shop.legacy("app", &arm, &[key.legacy(&arm, "a")]);
    assert_eq!(judged_for(&["linux/amd64", "linux/arm64"], &shop, &key).await.0, "allowed Cosign a");
}

#[tokio::test]
async fn d6_a_manifest_that_hides_its_platform_counts_for_every_listed_one() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [good, bad] = ["good", "bad"].map(|content| shop.image("app", content));
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    let mut placeless = entry(&bad, "", "");
    placeless.as_object_mut().expect("object").remove("platform");
    for hidden in [entry(&bad, "linux", "x86_64"), entry(&bad, "Linux", "AMD64"), entry(&bad, "", "amd64"), placeless] {
        index(&shop, &[hidden.clone(), entry(&good, "linux", "amd64")]);
        assert_eq!(judged_for(&["linux/amd64"], &shop, &key).await.0, "denied Unsigned", "{hidden}");
    }
    index(&shop, &[entry(&bad, "windows", "amd64"), entry(&good, "linux", "amd64")]);
    assert_eq!(judged_for(&["linux/amd64"], &shop, &key).await.0, "allowed Cosign a");
}

#[tokio::test]
async fn d6_what_a_node_falls_back_on_must_be_signed_beside_an_entry_that_it_cannot_take() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [good, bad] = ["good", "bad"].map(|content| shop.image("app", content));
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    let variant = |architecture, variant| {
        let mut entry = entry(&good, "linux", architecture);
        entry["platform"]["variant"] = json!(variant);
        entry
    };
    for (node, decoy, fallback) in [
        ("linux/amd64", variant("amd64", "v9"), "386"),
        ("linux/amd64", entry(&good, "linux", "amd46"), "386"),
        ("linux/arm64", variant("arm64", "v20"), "arm"),
    ] {
        index(&shop, &[decoy.clone(), entry(&bad, "linux", fallback)]);
        assert_eq!(judged_for(&[node], &shop, &key).await.0, "denied Unsigned", "{decoy}");
        index(&shop, &[decoy.clone(), entry(&good, "linux", fallback)]);
        assert_eq!(judged_for(&[node], &shop, &key).await.0, "allowed Cosign a", "{decoy}");
        index(&shop, &[decoy, entry(&bad, "linux", "s390x")]);
        assert_eq!(judged_for(&[node], &shop, &key).await.0, "allowed Cosign a");
    }
}

#[tokio::test]
async fn d7_an_entry_that_two_readers_see_differently_does_not_count() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let [good, bad] = ["good", "bad"].map(|content| shop.image("app", content));
    shop.legacy("app", &good, &[key.legacy(&good, "a")]);
    let attestation = r#""annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"unknown","architecture":"unknown"}"#;
    for doubtful in [
        format!(r#"{attestation},"Platform":{{"os":"linux","architecture":"amd64"}}"#),
        format!(r#"{attestation},"platform":{{"os":"linux","architecture":"amd64"}}"#),
        r#""platform":{"os":"windows","architecture":"amd64","OS":"linux"}"#.to_owned(),
        r#""platform":{"os":"windows","architecture":"amd64","o\u017f":"linux"}"#.to_owned(),
        format!(r#""platform":{{"os":"windows","architecture":"amd64"}},"Digest":"{bad}""#),
    ] {
        let first = format!(r#"{{"mediaType":"{IMAGE_TYPE}","digest":"{bad}","size":1,{doubtful}}}"#);
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX_TYPE}","manifests":[{first},{}]}}"#,
            entry(&good, "linux", "amd64")
        );
        let digest = Digest::sha256(bytes.as_bytes());
        for name in ["1", digest.as_str()] {
            shop.put(&format!("/v2/app/manifests/{name}"), INDEX_TYPE, bytes.clone());
        }
        for platforms in [&["linux/amd64"][..], &[]] {
            let (verdict, text) = judged_for(platforms, &shop, &key).await;
            assert_eq!(verdict, "denied Unsigned", "{doubtful}");
            assert!(text.contains("cannot count by its manifests: it is malformed"), "{text}");
        }
    }
}
