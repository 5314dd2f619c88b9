//! What an entry may name, what is sent where, and what a denial tells.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Inputs;
use crate::cluster::snapshot::Source;
use crate::domain::evaluate::Options;
use crate::fault::{Fault, FaultKind};
use crate::source::SourceConfig;
use crate::source::credentials::DockerConfig;
use crate::source::testing::{basic, reply};
use crate::verify::testing::{CosignKey, Lab, Shop, say, text};
use crate::verify::{PodContext, VerifyConfig};

fn docker_config(host: &str, user: &str, password: &str) -> String {
    json!({"auths": {host: {"username": user, "password": password}}}).to_string()
}

/// A registry that lets only these `user:password` in.
fn private(host: u8, accounts: &[&str]) -> Shop {
    let shop = Shop::open(host);
    let accounts: Vec<_> = accounts.iter().map(|account| basic(account)).collect();
    shop.only(move |seen| {
        let known = accounts.iter().any(|account| account == seen.authorization());
        (!known).then(|| reply(401, "").with("www-authenticate", r#"Basic realm="shop""#))
    });
    shop
}

#[tokio::test]
async fn h14_h15_what_needs_no_check_asks_nobody_and_reads_nothing() {
    let (shop, lab) = (Shop::open(1), Lab::new());
    let (tagged, free) = (shop.tagged("app"), "free.invalid/x:1");
    assert_eq!(lab.say("team", &tagged).await, "allowed NoPolicy");
    lab.govern(Some("team"), &json!([
        {"registry": "free.invalid", "signCheck": false},
        {"registry": format!("{}/pinned", shop.host()), "signCheck": true, "requireDigest": true, "cosignKeyRef": "k8s://team/cosign"},
        {"registry": format!("{}/none", shop.host()), "signCheck": true},
        {"registry": format!("{}/broken", shop.host()), "signCheck": true, "gpgKeyRef": 7},
    ]));
    assert_eq!(lab.say("team", free).await, "allowed unchecked");
    assert_eq!(lab.say("team", &tagged).await, "denied NoMatchingPolicy");
    assert_eq!(lab.say("team", &shop.tagged("pinned/a")).await, "denied DigestRequired");
    assert_eq!(lab.say("team", &shop.tagged("none/a")).await, "denied NoVerifier");
    assert_eq!(lab.say("team", &shop.tagged("broken/a")).await, "denied InvalidEntry");
    assert_eq!(lab.say("team", "not a reference").await, "denied MalformedImage");
    lab.whitelist(&format!("{}/*", shop.host()), "listed");
    assert!(lab.say("team", &shop.tagged("pinned/a")).await.starts_with("allowed WhitelistedImage"));
    assert!(lab.say("listed", "anything.invalid/x").await.starts_with("allowed WhitelistedNamespace"));
    assert_eq!((shop.server.lines(), lab.shelf.reads()), (Vec::new(), 0));
}

#[tokio::test]
async fn h15_a_check_with_local_keys_asks_the_registry_and_the_store_alone() {
    let (shop, lab, key) = (Shop::open(1), Lab::new(), CosignKey::new());
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let digest = shop.image("app", "x");
    shop.bundles("app", &digest, &[key.bundle(&digest, "a")]);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Cosign a");
    // No ping, no log, no trust root: every request is for this repository.
    assert!(shop.server.lines().iter().all(|line| line.starts_with("GET /v2/app/")), "{:?}", shop.server.lines());
}

/// One text for a reference that cannot be used, whatever stands in the way: existing or not, readable or not.
#[tokio::test]
async fn i6_i7_a_reference_that_cannot_be_used_gives_one_and_the_same_reason() {
    let shop = Shop::open(1);
    let digest = shop.image("app", "x");
    let key = CosignKey::new();
    let pem: &[(&str, &[u8])] = &[("cosign.pub", key.pem.as_bytes()), ("ca.crt", b"x")];
    let lab = Lab::new();
    lab.shelf.secret("other/exists", pem);
    lab.shelf.synced("other/sigstore-key-x", pem);
    lab.shelf.secret("registry-system/unsynced", pem);
    lab.shelf.obstruct("team/forbidden", Fault::new(FaultKind::Reference, "details that leak").with_detail("more"));
    lab.shelf.obstruct("other/forbidden", Fault::new(FaultKind::Reference, "details that leak"));
    let names = [
        "other/exists",
        "other/missing",
        "other/forbidden",
        "other/sigstore-key-x",
        "registry-system/unsynced",
        "registry-system/missing",
        "team/missing",
        "team/forbidden",
    ];
    for field in ["cosignKeyRef", "gpgKeyRef", "caRef"] {
        let mut texts = std::collections::BTreeSet::new();
        for name in names {
            let mut entry = if field == "gpgKeyRef" { shop.gpg_entry() } else { shop.cosign_entry() };
            entry[field] = format!("k8s://{name}").into();
            if field == "caRef" {
                lab.shelf.secret("team/cosign", pem);
            }
            lab.govern(Some("team"), &json!([entry]));
            let verdict = lab.judge("team", &shop.pinned("app", &digest)).await;
            assert_eq!(say(&verdict), "undecided reference", "{field} {name}");
            texts.insert(text(&verdict).replace(name, "NAME"));
        }
        assert_eq!(texts.len(), 1, "{field}: {texts:?}");
    }
    // The twins: what may be named is used.
    shop.legacy("app", &digest, &[key.legacy(&digest, "a")]);
    lab.shelf.synced("registry-system/sigstore-key-x", pem);
    for (namespace, name) in [(Some("team"), "registry-system/sigstore-key-x"), (None, "other/exists")] {
        let mut entry = shop.cosign_entry();
        entry["cosignKeyRef"] = format!("k8s://{name}").into();
        lab.govern(Some("team"), &json!([]));
        lab.govern(None, &json!([]));
        lab.govern(namespace, &json!([entry]));
        assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Cosign a", "{name}");
    }
    // A ConfigMap with certificates serves as well as a Secret.
    lab.shelf.config_map("team/bundle", &[("ca.crt", b"no certificate")]);
    let mut entry = shop.cosign_entry();
    entry["caRef"] = "k8s://team/bundle".into();
    lab.govern(None, &json!([]));
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "undecided configuration");
    let shared = Lab::with(VerifyConfig { shared_namespaces: vec!["other".to_owned()], ..VerifyConfig::default() });
    shared.shelf.secret("other/exists", pem);
    let mut entry = shop.cosign_entry();
    entry["cosignKeyRef"] = "k8s://other/exists".into();
    shared.govern(Some("team"), &json!([entry]));
    assert_eq!(shared.say("team", &shop.pinned("app", &digest)).await, "allowed Cosign a");
}

#[tokio::test]
async fn g10_g14_a_bad_pull_secret_is_remarked_on_and_a_good_one_used() {
    let (shop, lab, key) = (private(1, &["u:good"]), Lab::new(), CosignKey::new());
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    let digest = shop.image("app", "x");
    shop.legacy("app", &digest, &[key.legacy(&digest, "a")]);
    let image = shop.pinned("app", &digest);
    let (good, bad) = (docker_config(&shop.host(), "u", "good"), docker_config(&shop.host(), "u", "bad"));
    lab.shelf.secret("team/good", &[(".dockerconfigjson", good.as_bytes())]);
    lab.shelf.secret("team/bad", &[(".dockerconfigjson", bad.as_bytes())]);
    lab.shelf.secret("team/malformed", &[(".dockerconfigjson", b"{")]);
    assert_eq!(say(&lab.judge_for("team", &image, &[]).await), "undecided unauthorized");
    assert_eq!(say(&lab.judge_for("team", &image, &["bad"]).await), "undecided unauthorized");
    let verdict = lab.judge_for("team", &image, &["missing", "malformed", "bad", "good"]).await;
    assert_eq!(say(&verdict), "allowed Cosign a");
    let remarks = verdict.remarks.join("\n");
    assert!(remarks.contains("missing was not used: it does not exist") && remarks.contains("malformed"), "{remarks}");
    // The service account's count as well.
    lab.shelf.account("team/default", &["good"]);
    assert_eq!(say(&lab.judge_for("team", &image, &[]).await), "allowed Cosign a");
}

#[tokio::test]
async fn f9_g16_what_one_namespace_may_pull_another_may_not() {
    let (shop, key) = (private(1, &["u:good"]), CosignKey::new());
    let lab = Lab::new();
    lab.govern(None, &json!([shop.cosign_entry()]));
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    let digest = shop.image("app", "x");
    shop.legacy("app", &digest, &[key.legacy(&digest, "a")]);
    let config = docker_config(&shop.host(), "u", "good");
    lab.shelf.secret("rich/pull", &[(".dockerconfigjson", config.as_bytes())]);
    for image in [shop.pinned("app", &digest), shop.tagged("app")] {
        assert_eq!(say(&lab.judge_for("rich", &image, &["pull"]).await), "allowed Cosign a");
        assert!(lab.judge_for("rich", &image, &["pull"]).await.cached);
        // The same name in another namespace is nothing; neither verdict nor credential travels.
        let verdict = lab.judge_for("poor", &image, &["pull"]).await;
        assert_eq!(say(&verdict), "undecided unauthorized");
        assert!(verdict.remarks[0].contains("pull was not used"), "{:?}", verdict.remarks);
    }
    // A namespace with the same credentials of its own is asked for anew.
    let before = shop.server.seen().len();
    lab.shelf.secret("twin/pull", &[(".dockerconfigjson", config.as_bytes())]);
    assert_eq!(say(&lab.judge_for("twin", &shop.pinned("app", &digest), &["pull"]).await), "allowed Cosign a");
    assert!(shop.server.seen().len() > before);
}

#[tokio::test]
async fn g1_g16_the_administrators_credentials_stay_with_transports_that_he_chose() {
    let shop = private(1, &["admin:good"]);
    let digest = shop.image("app", "x");
    let image = shop.pinned("app", &digest);
    for (namespace, sent) in [(Some("team"), false), (None, true)] {
        let lab = Lab::new();
        let config = docker_config(&shop.host(), "admin", "good");
        lab.verifier.set_credentials(DockerConfig::from_file_bytes(config.as_bytes()).unwrap());
        lab.shelf.secret("team/cosign", &[("cosign.pub", CosignKey::new().pem.as_bytes())]);
        // The namespace owner says "insecure": his server would get the password in the clear.
        lab.govern(namespace, &json!([shop.cosign_entry()]));
        let before = shop.server.seen().len();
        lab.judge("team", &image).await;
        let seen = shop.server.seen().split_off(before);
        assert_eq!(seen.iter().any(|seen| !seen.authorization().is_empty()), sent, "{namespace:?}");
    }
}

#[tokio::test]
async fn g5_a_namespaced_policy_leads_to_no_refused_address_and_a_cluster_policy_may() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let digest = shop.image("app", "x");
    shop.legacy("app", &digest, &[key.legacy(&digest, "a")]);
    let image = shop.pinned("app", &digest);
    let lab = Lab::over(VerifyConfig::default(), SourceConfig::default());
    lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    lab.shelf.secret("team/gpg", &[("maker.pgp", &crate::verify::testing::GpgKey::new("maker").public())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    assert_eq!(lab.say("team", &image).await, "undecided address_refused");
    lab.govern(Some("team"), &json!([shop.gpg_entry()]));
    assert_eq!(lab.say("team", &image).await, "undecided address_refused");
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided address_refused");
    assert_eq!(shop.server.lines(), Vec::<String>::new());
    lab.govern(Some("team"), &json!([]));
    lab.govern(None, &json!([shop.cosign_entry()]));
    assert_eq!(lab.say("team", &image).await, "allowed Cosign a");
    // A wildcard names whatever host the author of a Pod likes.
    let mut entry = shop.cosign_entry();
    entry["registry"] = "*".into();
    lab.govern(None, &json!([entry]));
    assert_eq!(lab.say("team", &image).await, "undecided address_refused");
}

#[tokio::test]
async fn i3_i15_policies_that_are_not_known_decide_nothing_but_the_whitelist_still_does() {
    let lab = Lab::new();
    lab.whitelist("listed.invalid/*", "listed");
    let pod = PodContext { namespace: "team", pull_secrets: &[], service_account: "default", dry_run: false };
    let deadline = || tokio::time::Instant::now() + Duration::from_secs(5);
    for source in [Source::ClusterPolicies, Source::NamespacedPolicies] {
        lab.inputs.set_synced(source, false);
        assert_eq!(lab.say("team", "r.invalid/x:1").await, "undecided not_synced");
        assert!(lab.say("team", "listed.invalid/x:1").await.starts_with("allowed WhitelistedImage"));
        assert!(lab.say("listed", "r.invalid/x:1").await.starts_with("allowed WhitelistedNamespace"));
        lab.inputs.set_synced(source, true);
        assert_eq!(lab.say("team", "r.invalid/x:1").await, "allowed NoPolicy");
    }
    // Before anything was read, nothing is allowed at all.
    let nothing = Inputs::new();
    let verdict = lab.verifier.judge(&nothing.current(), "r.invalid/x:1", &pod, deadline()).await;
    assert_eq!(say(&verdict), "undecided not_synced");
    assert!(text(&verdict).contains("clusterregistrysecuritypolicies"), "{}", text(&verdict));
}

#[tokio::test]
async fn i10_the_first_policy_denies_what_it_does_not_name_and_says_so() {
    let strict = Options { deny_without_policy: true, ..Options::default() };
    let lab = Lab::with(VerifyConfig { options: strict, ..VerifyConfig::default() });
    assert_eq!(lab.say("team", "other.invalid/x:1").await, "denied NoPolicy");
    let lab = Lab::new();
    assert_eq!(lab.say("team", "other.invalid/x:1").await, "allowed NoPolicy");
    lab.govern(None, &json!([{"registry": "named.invalid", "signCheck": false}]));
    let verdict = lab.judge("team", "other.invalid/x:1").await;
    assert_eq!(say(&verdict), "denied NoMatchingPolicy");
    assert!(text(&verdict).contains("no policy names the registry other.invalid"), "{}", text(&verdict));
}

#[tokio::test]
async fn h4_e36_a_registry_that_does_not_answer_is_a_denial_in_time() {
    let (shop, lab) = (Shop::open(1), Lab::new());
    lab.shelf.secret("team/cosign", &[("cosign.pub", CosignKey::new().pem.as_bytes())]);
    lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    shop.only(|_| {
        std::thread::sleep(Duration::from_secs(8));
        None
    });
    let pod = PodContext { namespace: "team", pull_secrets: &[], service_account: "default", dry_run: false };
    let started = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
    let verdict = lab.verifier.judge(&lab.inputs.current(), &shop.tagged("app"), &pod, deadline).await;
    assert_eq!(say(&verdict), "undecided timeout");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn j13_a_denial_names_the_registry_and_no_internals() {
    let lab = Lab::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", CosignKey::new().pem.as_bytes())]);
    let config = docker_config("127.0.0.1:1", "robot-user", "robot-password");
    lab.shelf.secret("team/pull", &[(".dockerconfigjson", config.as_bytes())]);
    let (shop, closed) = (Shop::open(1), "127.0.0.1:1/app:1");
    let entry = |host: &str| json!({"registry": host, "signCheck": true, "insecure": true, "cosignKeyRef": "k8s://team/cosign"});
    lab.govern(Some("team"), &json!([entry("127.0.0.1:1"), entry(&shop.host())]));
    let verdict = lab.judge_for("team", closed, &["pull"]).await;
    assert_eq!(say(&verdict), "undecided unreachable");
    let said = text(&verdict);
    assert!(said.contains("registry 127.0.0.1:1"), "{said}");
    for secret in ["robot", "os error", "refused (", "reqwest", "hyper", "src/"] {
        assert!(!said.contains(secret), "{said}");
    }
    // What a server says about itself is not repeated either.
    shop.only(|_| Some(reply(500, "stack trace at 10.0.0.7 password=hunter2")));
    let said = text(&lab.judge("team", &shop.tagged("app")).await);
    assert!(said.contains("500") && !said.contains("hunter2") && !said.contains("10.0.0.7"), "{said}");
}
