//! `enforcement: audit` admits everything and says what it would have denied.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{BAD, Desk, GOOD, Question, Said, away, but, desk, pod_of, review};
use crate::admission::{Denial, Denials, Enforcement, Templates};
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

/// Remembers what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Denials for Told {
    fn report(&self, denial: &Denial<'_>) {
        let owner = denial.owner.map(|owner| format!("{}/{}/{}", owner.kind, owner.name, owner.uid));
        let Denial { namespace, kind, name, enforced, ending, message, .. } = denial;
        let ending = ending.label();
        let told = format!("{namespace} {kind} {name} {owner:?} {enforced} {ending} {}", message.contains(BAD));
        self.0.lock().unwrap().push(told);
    }
}

#[tokio::test]
async fn somebody_is_told_of_each_denial_and_of_what_would_be_one() {
    for enforcement in [Enforcement::Enforce, Enforcement::Audit] {
        let told = Arc::new(Told::default());
        let mut desk = auditing(Templates::Warn);
        let lab = std::mem::replace(&mut desk.lab, Lab::new());
        let Desk { lab, admission } = Desk::enforcing(lab, Templates::Warn, enforcement);
        let desk = Desk { lab, admission: admission.reporting_to(told.clone()) };
        let owners = json!([
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u0"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u1", "controller": true},
        ]);
        let owned = |image| but(&pod_of(&[image]), "/request/object/metadata/ownerReferences", owners.clone());
        let generated = but(&owned(BAD), "/request/name", json!(null));
        let generated =
            but(&generated, "/request/object/metadata", json!({"generateName": "web-", "ownerReferences": owners}));
        desk.ask(&generated).await;
        desk.ask(&pod_of(&[BAD])).await;
        let enforced = enforcement == Enforcement::Enforce;
        let expected = [
            format!("team Pod web- Some(\"ReplicaSet/web/u1\") {enforced} denied true"),
            format!("team Pod reviewed None {enforced} denied true"),
        ];
        assert_eq!(told.0.lock().unwrap().as_slice(), expected);
        desk.ask(&owned(GOOD)).await;
        desk.ask(&but(&owned(BAD), "/request/dryRun", true.into())).await;
        assert_eq!(told.0.lock().unwrap().len(), 2, "neither an allowance nor a dry run is told");
    }
}
