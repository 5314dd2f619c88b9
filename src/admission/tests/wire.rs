//! Bodies that are no review, and reviews of policies.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BAD, GOOD, Question, Said, UID, but, desk, pod_of, review, update};

#[tokio::test]
async fn a17_what_is_no_review_gets_a_clean_answer_with_the_uid_where_there_is_one() {
    let desk = desk();
    let good = pod_of(&[GOOD]);
    for (broken, why) in [
        (but(&good, "/apiVersion", "admission.k8s.io/v1beta1".into()), "expected admission.k8s.io/v1"),
        (but(&good, "/apiVersion", json!(null)), "invalid type"),
        (but(&good, "/kind", "Pod".into()), "expected admission.k8s.io/v1"),
        (but(&good, "/request/kind", json!(null)), "invalid type"),
        (but(&good, "/request/operation", json!(["CREATE"])), "invalid type"),
        (but(&good, "/request/object", json!([])), "invalid type"),
        (but(&good, "/request/object", json!("Pod")), "invalid type"),
        (but(&good, "/request/namespace", json!(7)), "invalid type"),
    ] {
        let said = desk.denies(&broken, why).await;
        assert_eq!((said.code, said.reason.as_str()), (400, "BadRequest"));
    }
    let text = good.to_string();
    let mut torn: Vec<String> =
        ["", "null", "[]", "{}", "7", "\u{0}", "not json", r#"{"request":null}"#].map(str::to_owned).into();
    torn.extend([1, text.len() / 2, text.len() - 1].map(|end| text[..end].to_owned()));
    torn.push(but(&good, "/request", json!(null)).to_string());
    torn.push(but(&good, "/request/uid", json!(null)).to_string());
    torn.push("[".repeat(100_000));
    torn.push(format!("{text}{text}"));
    for body in torn {
        for answer in [
            desk.admission.validate(body.clone().into(), Duration::from_secs(5)).await,
            desk.admission.validate_policy(body.as_bytes()),
        ] {
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 400, "{said}");
            assert!(said.starts_with("the admission review cannot be read") && said.len() < 1000, "{said}");
        }
    }
    let bytes = desk.admission.validate(vec![0xff, 0xfe, b'{'].into(), Duration::from_secs(5)).await;
    assert_eq!(bytes.status, 400);
}

#[test]
fn a17_h12_an_apology_carries_the_uid_and_denies() {
    let desk = desk();
    let body = pod_of(&[GOOD]).to_string();
    for (answer, code) in [
        (desk.admission.overloaded(Question::Verdict, body.as_bytes()), 503),
        (desk.admission.internal_error(Question::Verdict, body.as_bytes()), 500),
    ] {
        let said = Said::read(&answer.body);
        assert_eq!((said.allowed, said.code), (false, code));
    }
    let answer = desk.admission.overloaded(Question::Verdict, b"{");
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["response"]["allowed"], false);
}

#[tokio::test]
async fn j9_the_answer_holds_the_uid_and_the_response_alone() {
    let desk = desk();
    for image in [GOOD, BAD] {
        let said = desk.ask(&pod_of(&[image])).await;
        let keys: Vec<_> = said.json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["apiVersion", "kind", "response"]);
        assert!(!said.json.to_string().contains("tenants"), "{said:?}");
    }
}

fn policy(spec: &Value) -> Value {
    review("tmax.io", "RegistrySecurityPolicy", &json!({"metadata": {"name": "p", "namespace": "team"}, "spec": spec}))
}

fn judge(review: &Value) -> Said {
    Said::read(&desk().admission.validate_policy(review.to_string().as_bytes()).body)
}

#[test]
fn i12_i13_i17_a_policy_that_cannot_load_is_refused_by_its_field() {
    let entry = |entry: Value| policy(&json!({"registries": [entry]}));
    for (spec, field) in [
        (entry(json!({"registry": "r.io", "signCheck": "no"})), "spec.registries[0].signCheck"),
        (entry(json!({"registry": "r.io"})), "spec.registries[0].signCheck"),
        (entry(json!({"registry": "r.io", "signCheck": true, "cosignKeyref": "k8s://a/b"})), "cosignKeyref"),
        (entry(json!({"registry": "r.io/*/x", "signCheck": false})), "spec.registries[0].registry"),
        (policy(&json!({"registries": "r.io"})), "spec.registries"),
        (policy(&json!(null)), "spec: required"),
    ] {
        let said = judge(&spec);
        assert!(!said.allowed && said.message.contains(field), "{field}: {said:?}");
        assert_eq!((said.code, said.reason.as_str()), (422, "Invalid"));
    }
    let said = judge(&entry(json!({"registry": "r.io", "signCheck": true})));
    assert!(said.allowed && said.warnings[0].contains("spec.registries[0]"), "{said:?}");
    assert!(judge(&entry(json!({"registry": "r.io", "signCheck": false}))).warnings.is_empty());
}

#[test]
fn a15_b12_policies_of_other_kinds_and_unknown_operations_are_refused_and_deletion_is_not() {
    let good = policy(&json!({"registries": [{"registry": "r.io", "signCheck": false}]}));
    let bad = policy(&json!({"registries": 7}));
    assert!(judge(&good).allowed);
    assert!(!judge(&but(&good, "/request/kind/group", "example.com".into())).allowed);
    assert!(!judge(&but(&good, "/request/kind/kind", "Secret".into())).allowed);
    assert!(!judge(&but(&good, "/request/namespace", "".into())).allowed);
    assert!(!judge(&but(&good, "/request/object", json!(null))).allowed);
    assert!(!judge(&but(&good, "/request/operation", "PATCH".into())).allowed);
    assert!(judge(&but(&bad, "/request/operation", "DELETE".into())).allowed);
    // A broken one that is stored already can lose its finalizers, and can be repaired, but not be broken anew.
    assert!(judge(&update(&bad, &bad)).allowed);
    assert!(judge(&update(&bad, &good)).allowed);
    assert!(!judge(&update(&good, &bad)).allowed);
    assert_eq!(good["request"]["uid"], UID);
}
