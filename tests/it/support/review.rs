//! Admission reviews sent to a podseal directly: what the API server would send, in milliseconds.

use serde_json::{Value, json};

/// A review of a Pod in the making.
#[derive(Debug, Clone)]
pub struct Review {
    /// The whole review; change what the methods do not cover.
    pub json: Value,
}

/// What podseal answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The verdict.
    pub allowed: bool,
    /// `status.message`.
    pub message: String,
    /// `status.code`.
    pub code: u64,
    /// `status.reason`.
    pub reason: String,
    /// Admission warnings.
    pub warnings: Vec<String>,
    /// The whole answer.
    pub json: Value,
}

/// The uid of every review.
pub const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

impl Review {
    /// The creation of a Pod without containers by an ordinary user.
    pub fn pod(namespace: &str) -> Self {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "reviewed", "namespace": namespace},
            "spec": {"containers": []},
        });
        Self::of("Pod", "", "pods", namespace, &pod)
    }

    /// The creation of any namespaced object of a `v1` API.
    pub fn of(kind: &str, group: &str, resource: &str, namespace: &str, object: &Value) -> Self {
        let kind = json!({"group": group, "version": "v1", "kind": kind});
        let resource = json!({"group": group, "version": "v1", "resource": resource});
        let json = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": UID,
                "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
                "name": "reviewed", "namespace": namespace, "operation": "CREATE",
                "userInfo": {"username": "alice", "groups": ["tenants", "system:authenticated"]},
                "object": object, "oldObject": null, "dryRun": false,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
            },
        });
        Self { json }
    }

    /// With one more container.
    pub fn container(self, name: &str, image: &str) -> Self {
        self.push("containers", json!({"name": name, "image": image}))
    }

    /// With one more init container.
    pub fn init_container(self, name: &str, image: &str) -> Self {
        self.push("initContainers", json!({"name": name, "image": image}))
    }

    /// With one more ephemeral container.
    pub fn ephemeral_container(self, name: &str, image: &str) -> Self {
        self.push("ephemeralContainers", json!({"name": name, "image": image}))
    }

    /// With one more image volume.
    pub fn image_volume(self, name: &str, reference: &str) -> Self {
        self.push("volumes", json!({"name": name, "image": {"reference": reference}}))
    }

    /// With one more pull secret.
    pub fn pull_secret(self, name: &str) -> Self {
        self.push("imagePullSecrets", json!({"name": name}))
    }

    /// As an UPDATE of that other Pod.
    pub fn updating(mut self, old: &Self) -> Self {
        let request = &mut self.json["request"];
        request["oldObject"] = old.json["request"]["object"].clone();
        request["operation"] = "UPDATE".into();
        request["options"]["kind"] = "UpdateOptions".into();
        self
    }

    /// By that user.
    pub fn by(mut self, user: &str, groups: &[&str]) -> Self {
        self.json["request"]["userInfo"] = json!({"username": user, "groups": groups});
        self
    }

    fn push(mut self, list: &str, item: Value) -> Self {
        let list = &mut self.json["request"]["object"]["spec"][list];
        match list {
            Value::Array(items) => items.push(item),
            other => *other = json!([item]),
        }
        self
    }
}

impl Answer {
    /// Reads an `AdmissionReview` that answers [`UID`].
    #[track_caller]
    pub fn read(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&json["apiVersion"], &json["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
        let response = &json["response"];
        assert_eq!(response["uid"], UID, "{json}");
        let status = &response["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            allowed: response["allowed"].as_bool().unwrap(),
            message: text(&status["message"]),
            code: status["code"].as_u64().unwrap_or_default(),
            reason: text(&status["reason"]),
            warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
            json,
        }
    }
}
