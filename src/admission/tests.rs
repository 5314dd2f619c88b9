//! Whole reviews as the API server sends them. Named by the cases of the attack list.
//!
//! Nothing here needs a server: `free.invalid` is not checked, `closed.invalid` asks for a signature that nothing is
//! configured to check, `away.invalid` cannot be decided, and no policy names anything else.

mod answers;
mod audit;
mod extraction;
mod pins;
mod skips;
mod told;
mod wire;

use std::time::Duration;

use serde_json::{Value, json};

use super::{Admission, AdmissionConfig, Enforcement, Question, Templates};
use crate::domain::digest::Digest;
use crate::verify::testing::Lab;

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";
const GOOD: &str = "free.invalid/app:1";
const BAD: &str = "closed.invalid/app:1";

/// An image whose keys cannot be had.
fn away() -> String {
    format!("away.invalid/app@{}", Digest::sha256(b"away"))
}

/// An admission and what it goes by.
struct Desk {
    lab: Lab,
    admission: Admission,
}

/// What came back.
#[derive(Debug)]
struct Said {
    allowed: bool,
    code: u64,
    reason: String,
    message: String,
    warnings: Vec<String>,
    json: Value,
}

fn desk() -> Desk {
    desk_with(Templates::Enforce)
}

fn desk_with(templates: Templates) -> Desk {
    let desk = Desk::over(Lab::new(), templates);
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

impl Desk {
    fn over(lab: Lab, templates: Templates) -> Self {
        Self::enforcing(lab, templates, Enforcement::Enforce)
    }

    fn enforcing(lab: Lab, templates: Templates, enforcement: Enforcement) -> Self {
        let exempt_namespaces = vec!["kube-system".to_owned(), "registry-system".to_owned()];
        let config = AdmissionConfig { exempt_namespaces, templates, enforcement };
        let admission = Admission::new(config, lab.verifier.clone(), lab.inputs.clone(), lab.metrics.clone());
        Self { lab, admission }
    }

    async fn ask(&self, review: &Value) -> Said {
        self.ask_text(&review.to_string()).await
    }

    async fn ask_text(&self, review: &str) -> Said {
        let answer = self.admission.validate(review.to_owned().into(), Duration::from_secs(5)).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        Said::read(&answer.body)
    }

    /// Asserts an allowance.
    async fn allows(&self, review: &Value) -> Said {
        let said = self.ask(review).await;
        assert!(said.allowed, "{review}\n{said:?}");
        said
    }

    /// Asserts a denial with this text in its message.
    async fn denies(&self, review: &Value, text: &str) -> Said {
        let said = self.ask(review).await;
        assert!(!said.allowed && said.message.contains(text), "{text}\n{review}\n{said:?}");
        said
    }
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&json["apiVersion"], &json["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
        let response = &json["response"];
        assert_eq!(response["uid"], UID, "{json}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            allowed: response["allowed"].as_bool().unwrap(),
            code: response["status"]["code"].as_u64().unwrap_or_default(),
            reason: text(&response["status"]["reason"]),
            message: text(&response["status"]["message"]),
            warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
            json,
        }
    }
}

/// The creation of an object by an ordinary user in the namespace `team`.
fn review(group: &str, kind: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": UID, "kind": {"group": group, "version": "v1", "kind": kind},
            "name": "reviewed", "namespace": "team", "operation": "CREATE",
            "userInfo": {"username": "alice", "groups": ["tenants", "system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false,
        },
    })
}

/// The creation of a Pod.
fn pod(spec: &Value) -> Value {
    let metadata = json!({"name": "reviewed", "namespace": "team"});
    review("", "Pod", &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

/// The creation of a Pod with one container for each image.
fn pod_of(images: &[&str]) -> Value {
    let container = |(i, image): (usize, &&str)| json!({"name": format!("c{i}"), "image": image});
    pod(&json!({"containers": images.iter().enumerate().map(container).collect::<Vec<_>>()}))
}

/// The change of one object into another, both given as their creation.
fn update(old: &Value, new: &Value) -> Value {
    let mut review = new.clone();
    review["request"]["operation"] = "UPDATE".into();
    review["request"]["oldObject"] = old["request"]["object"].clone();
    review
}

/// The review with something else under a JSON pointer.
fn but(review: &Value, pointer: &str, value: Value) -> Value {
    let mut review = review.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    review.pointer_mut(parent).unwrap()[name] = value;
    review
}
