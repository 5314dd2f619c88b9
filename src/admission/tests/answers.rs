//! Many images in one answer: what it says, how long, by which policies, and how fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{BAD, Desk, GOOD, Said, away, but, desk, pod, pod_of};
use crate::admission::Templates;
use crate::domain::policy::PolicyId;
use crate::source::testing::{Reply, reply};
use crate::verify::testing::{CosignKey, Lab, Shop};

#[tokio::test]
async fn j1_every_failing_image_is_named_and_the_worst_counts() {
    let desk = desk();
    let away = away();
    let said = desk.denies(&pod_of(&[&away, GOOD, BAD, "unnamed.invalid/x", &away]), BAD).await;
    for place in [0, 2, 3, 4].map(|i| format!("spec.containers[{i}].image")) {
        assert!(said.message.contains(&place), "{}", said.message);
    }
    assert!(!said.message.contains("spec.containers[1]"), "{}", said.message);
    // A verdict outranks an obstacle in either order; an obstacle alone is no verdict.
    assert_eq!((said.code, said.reason.as_str()), (403, "Forbidden"));
    for images in [[BAD, &away], [&away, BAD]] {
        assert_eq!(desk.denies(&pod_of(&images), "could not be checked").await.code, 403);
    }
    let said = desk.denies(&pod_of(&[GOOD, &away]), "could not be checked").await;
    assert_eq!((said.code, said.reason.as_str()), (503, "ServiceUnavailable"));
    assert_eq!(said.json["response"]["auditAnnotations"]["decision"], "error");
}

#[tokio::test]
async fn j4_the_answer_is_bounded_and_counts_what_it_leaves_out() {
    let desk = desk();
    let images: Vec<_> = (0..256).map(|i| format!("unnamed.invalid/{}:{i}", "long/".repeat(30) + "x")).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    let said = desk.denies(&pod_of(&images), "and 206 more").await;
    assert!(said.json.to_string().len() < 64 * 1024, "{}", said.json.to_string().len());
    assert_eq!(said.message.lines().count(), 52);
    let huge = "x".repeat(100_000);
    let said = desk.denies(&pod_of(&[&huge]), "is not a valid image reference").await;
    assert!(said.json.to_string().len() < 8 * 1024, "{}", said.json.to_string().len());
    // More images than any real object has are not even judged.
    let many = vec![GOOD; 257];
    desk.denies(&pod_of(&many), "more than 256 images").await;
    desk.allows(&pod_of(&many[1..])).await;
    // Warnings are as long as the API server lets through.
    let warned = super::desk_with(Templates::Warn);
    let template = json!({"spec": {"template": {"spec": {"containers":
        images.iter().map(|image| json!({"name": "c", "image": image})).collect::<Vec<_>>()}}}});
    let said = warned.allows(&super::review("apps", "Deployment", &template)).await;
    assert!(said.warnings.len() <= 51 && said.warnings.iter().all(|w| w.chars().count() <= 256), "{said:?}");
}

#[tokio::test]
async fn j8_control_characters_of_names_reach_no_message() {
    let desk = desk();
    let image = "closed.invalid/a\nlevel=error msg=\"forged\"\u{1b}[31m\u{0}";
    let said = desk.denies(&pod_of(&[image]), "is not a valid image reference").await;
    let annotations = said.json["response"]["auditAnnotations"].to_string();
    for text in [said.message.replacen('\n', "", 1), annotations] {
        assert!(!text.contains(|c: char| c.is_control()) && !text.contains("\\u001b"), "{text:?}");
    }
}

#[tokio::test]
async fn j10_the_same_review_gets_the_same_answer() {
    let desk = desk();
    let review = pod_of(&[&away(), BAD, "unnamed.invalid/x", GOOD, "?"]);
    let first = desk.ask(&review).await.json;
    for _ in 0..5 {
        assert_eq!(desk.ask(&review).await.json, first);
    }
}

#[tokio::test]
async fn i5_two_whitelist_lines_do_not_combine_into_more() {
    let desk = desk();
    desk.lab.whitelist("listed.invalid/app:1\nlisted.invalid/other:2\nelsewhere.invalid/x", "else");
    desk.allows(&pod_of(&["listed.invalid/app:1", "listed.invalid/other:2"])).await;
    for image in ["listed.invalid/app:2", "listed.invalid/other:1", "listed.invalid/x", "elsewhere.invalid/app:1"] {
        desk.denies(&pod_of(&[image]), image).await;
    }
}

#[tokio::test]
async fn i16_every_use_of_the_whitelist_leaves_its_line_in_the_audit_log() {
    let desk = desk();
    desk.lab.whitelist("listed.invalid/*", "listed");
    let audit = |said: &Said| said.json["response"]["auditAnnotations"].to_string();
    let said = desk.allows(&pod_of(&["listed.invalid/a/b:1"])).await;
    assert!(audit(&said).contains("whitelist line listed.invalid/*"), "{said:?}");
    let annotation = |said: &Said| said.json["response"]["auditAnnotations"]["whitelisted"].clone();
    let line = "spec.containers[0].image=listed.invalid/a/b:1 by the line listed.invalid/*";
    assert_eq!(annotation(&said), line);
    // Also when another image of the Pod is denied, and only then when the whitelist was needed.
    let said = desk.denies(&pod_of(&["listed.invalid/a/b:1", BAD]), BAD).await;
    assert_eq!(annotation(&said), line);
    let said = desk.allows(&pod_of(&[GOOD])).await;
    assert_eq!(annotation(&said), json!(null));
    let said = desk.allows(&but(&pod_of(&[BAD]), "/request/namespace", "listed".into())).await;
    assert!(audit(&said).contains("namespace whitelisted"), "{said:?}");
    assert_eq!(annotation(&said), format!("spec.containers[0].image={BAD} by the line of its namespace"));
    let metrics = desk.lab.metrics.encode();
    for line in ["podseal_whitelisted_total{by=\"image\"} 2", "podseal_whitelisted_total{by=\"namespace\"} 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let said = desk.allows(&but(&pod_of(&[BAD]), "/request/namespace", "kube-system".into())).await;
    assert!(audit(&said).contains("exempt namespace"), "{said:?}");
}

/// A desk whose namespace `team` asks for cosign signatures of a registry.
fn checked(shop: &Shop, key: &CosignKey) -> Desk {
    let desk = Desk::over(Lab::new(), Templates::Enforce);
    desk.lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
    desk.lab.govern(Some("team"), &json!([shop.cosign_entry()]));
    desk
}

fn signed(shop: &Shop, key: &CosignKey, name: &str) -> String {
    let digest = shop.image(name, name);
    shop.legacy(name, &digest, &[key.legacy(&digest, "a")]);
    shop.tagged(name)
}

#[tokio::test]
async fn d14_one_review_goes_by_one_generation_of_policies() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let desk = checked(&shop, &key);
    let images: Vec<_> = (0..20).map(|i| signed(&shop, &key, &format!("app{i}"))).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    // With the first question of the review, the policy begins to deny everything.
    let inputs = Arc::clone(&desk.lab.inputs);
    shop.only(move |_| {
        let id = PolicyId::namespaced("team", "p");
        let nothing = crate::api::read_policy(id.clone(), &json!({"spec": {"registries": []}}));
        inputs.change_policies(vec![(id, Some(nothing))]);
        None
    });
    desk.allows(&pod_of(&images)).await;
    desk.denies(&pod_of(&images), "no policy names the registry").await;
}

#[tokio::test]
async fn h4_several_images_share_the_time_and_are_judged_together() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let desk = checked(&shop, &key);
    let images: Vec<_> = (0..8).map(|i| signed(&shop, &key, &format!("app{i}"))).collect();
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    shop.only(|seen| {
        if seen.method == "HEAD" {
            std::thread::sleep(Duration::from_millis(800));
        }
        None
    });
    // One after the other they would take 6.4 s, and the desk gives 5.
    desk.allows(&pod_of(&images)).await;
}

#[tokio::test]
async fn h4_what_is_not_known_in_time_is_denied_before_the_time_is_over() {
    let (shop, key) = (Shop::open(1), CosignKey::new());
    let desk = checked(&shop, &key);
    let (quick, slow) = (signed(&shop, &key, "quick"), signed(&shop, &key, "slow"));
    shop.only(|seen| {
        if seen.target.contains("/slow/") {
            std::thread::sleep(Duration::from_secs(9));
            return Some(Reply::HangUp);
        }
        None
    });
    let started = Instant::now();
    let body = pod_of(&[&quick, &slow]).to_string();
    let answer = desk.admission.validate(body.into(), Duration::from_millis(1500)).await;
    let said = Said::read(&answer.body);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!said.allowed && said.code == 503, "{said:?}");
    assert!(said.message.contains(&slow) && !said.message.contains(&quick), "{}", said.message);
}

#[tokio::test]
async fn h14_a_review_that_needs_no_check_asks_nobody() {
    let shop = Shop::open(1);
    let desk = checked(&shop, &CosignKey::new());
    desk.lab.whitelist(&format!("{}/*", shop.host()), "");
    shop.only(|_| Some(reply(500, "")));
    let image = shop.tagged("app");
    let spec = json!({"containers": [{"name": "c", "image": image}], "imagePullSecrets": [{"name": "pull"}]});
    desk.allows(&pod(&spec)).await;
    desk.denies(&pod_of(&["unnamed.invalid/x", "?"]), "unnamed.invalid").await;
    assert_eq!((shop.server.lines(), desk.lab.shelf.reads()), (Vec::new(), 0));
}

#[tokio::test]
async fn one_image_in_many_places_is_judged_once_and_named_in_each() {
    let shop = Shop::open(1);
    let desk = checked(&shop, &CosignKey::new());
    shop.image("app", "x");
    let image = shop.tagged("app");
    let said = desk.denies(&pod_of(&[image.as_str(); 5]), "spec.containers[4].image").await;
    assert!(said.message.contains("spec.containers[0].image"), "{}", said.message);
    assert_eq!(shop.count("HEAD"), 1);
}
