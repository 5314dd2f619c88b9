//! `enforcement: audit` admits everything and says what it would have denied.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BAD, Desk, GOOD, Question, Said, away, but, desk, pod_of, review};
use crate::admission::{Enforcement, Templates};
use crate::cluster::denials::Denials;
use crate::verify::testing::Lab;

fn auditing(templates: Templates) -> Desk {
    let desk = Desk::enforcing(Lab::new(), templates, Enforcement::Audit);
    desk.lab.govern(
        None,
        &json!([
            {"registry": "free.invalid", "signCheck": false},
            {"registry": "closed.invalid", "signCheck": true},
            {"registry": "away.invalid", "signCheck": true, "cosignKeyRef": "k8s://nowhere/key"},
        ]),
    );
    desk
}

fn annotation<'a>(said: &'a Said, name: &str) -> &'a str {
    said.json["response"]["auditAnnotations"][name].as_str().unwrap_or_default()
}

#[tokio::test]
async fn what_would_be_denied_is_admitted_warned_about_recorded_and_counted() {
    let (audit, enforce) = (auditing(Templates::Warn), desk());
    for (image, outcome) in [(BAD, "denied"), ("not a reference", "denied"), (away().as_str(), "error")] {
        let denied = enforce.ask(&pod_of(&[image])).await;
        assert!(!denied.allowed);
        let said = audit.allows(&pod_of(&[image])).await;
        assert_eq!((said.code, said.message.as_str()), (0, ""));
        let cause = denied.message.lines().nth(1).unwrap();
        assert_eq!(annotation(&said, "would-deny"), cause);
        assert_eq!(annotation(&said, "decision"), "would-deny");
        assert!(annotation(&said, "images").contains(image), "{said:?}");
        assert!(said.warnings[0].starts_with("podseal would deny this: spec.containers[0].image"), "{said:?}");
        assert!(said.warnings[0].chars().count() <= 256);
        let counted = |name: &str, label: &str| {
            let metrics = audit.lab.metrics.encode();
            let series = format!("{name}_total{{outcome=\"{label}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).unwrap()
        };
        assert!(counted("podseal_would_deny", outcome) > 0);
        assert_eq!((counted("podseal_reviews", "denied"), counted("podseal_reviews", "error")), (0, 0));
    }
    // What would be allowed looks as it always does.
    let said = audit.allows(&pod_of(&[GOOD])).await;
    assert_eq!((said.warnings.len(), annotation(&said, "decision")), (0, "allowed"));
    assert!(said.json["response"]["auditAnnotations"].get("would-deny").is_none());
}

#[tokio::test]
async fn a15_a17_everything_is_admitted_that_the_api_server_can_be_answered_about() {
    let audit = auditing(Templates::Enforce);
    let good = pod_of(&[GOOD]);
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": BAD}]}}}});
    for odd in [
        but(&good, "/request/object", json!(null)),
        but(&good, "/request/object/spec", json!(7)),
        but(&good, "/request/kind/kind", "Anything".into()),
        but(&good, "/request/operation", "PATCH".into()),
        but(&good, "/apiVersion", "admission.k8s.io/v1beta1".into()),
        review("apps", "Deployment", &template),
    ] {
        let said = audit.allows(&odd).await;
        assert!(said.warnings[0].starts_with("podseal would deny this: "), "{said:?}");
    }
    let body = good.to_string();
    for answer in [
        audit.admission.overloaded(Question::Verdict, body.as_bytes()),
        audit.admission.internal_error(Question::Verdict, body.as_bytes()),
    ] {
        let said = Said::read(&answer.body);
        assert!(said.allowed && said.warnings[0].starts_with("podseal would deny this: request: "), "{said:?}");
    }
    let answer = audit.admission.validate("no review".into(), Duration::from_secs(5)).await;
    assert_eq!(answer.status, 400, "nobody knows what this is about");
}

#[tokio::test]
async fn templates_are_warned_about_once() {
    let audit = auditing(Templates::Warn);
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": BAD}]}}}});
    let said = audit.allows(&review("apps", "Deployment", &template)).await;
    assert_eq!(said.warnings.len(), 1);
    assert!(said.warnings[0].starts_with("Pods would be denied: "), "{said:?}");
}

#[test]
fn i12_policies_that_cannot_be_used_are_refused_all_the_same() {
    let audit = auditing(Templates::Warn);
    let object = json!({"metadata": {"name": "p"}, "spec": {"registries": 7}});
    let review = review("tmax.io", "RegistrySecurityPolicy", &object);
    let ask = |review: &Value| Said::read(&audit.admission.validate_policy(review.to_string().as_bytes()).body);
    assert!(!ask(&review).allowed);
    assert!(!Said::read(&audit.admission.overloaded(Question::Policy, review.to_string().as_bytes()).body).allowed);
    assert!(!ask(&but(&review, "/apiVersion", "x".into())).allowed);
}

#[tokio::test]
async fn people_are_told_of_what_would_be_denied_and_that_it_was_not() {
    let (denials, mut kept) = Denials::kept();
    let Desk { lab, admission } = auditing(Templates::Warn);
    let desk = Desk { lab, admission: admission.with_denials(denials) };
    desk.allows(&pod_of(&[BAD])).await;
    let (_, saying) = kept.next().unwrap();
    assert!(saying.note.contains("would be denied") && saying.note.contains(BAD), "{}", saying.note);
    desk.allows(&pod_of(&[GOOD])).await;
    desk.allows(&but(&pod_of(&[BAD]), "/request/dryRun", true.into())).await;
    assert!(kept.next().is_none(), "neither an allowance nor a dry run is told");
}
