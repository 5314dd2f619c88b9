//! `podseal probe`: does the API server ask podseal?
//!
//! It asks the API server, without storing anything, for a Pod whose image has no valid name. podseal denies that whatever
//! policies there are and whatever registries can be reached; nobody else does. The answer therefore tells whether a
//! Pod of that namespace is judged, and nothing else about the installation.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::{Request, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::args::ProbeCommand;
use super::output::{complain, print};
use super::runtime;
use super::serve::kube_config_of;
use crate::fault::causes;

/// Repositories have lower-case names: no image can be called this, and the name shows who refused it.
const IMAGE: &str = "podseal.invalid/NOT-AN-IMAGE";
/// The entry of the webhook configuration that judges Pods.
const ENTRY: &str = "pods.podseal.tmax.io";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// One request: longer than a webhook may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// The API server could not be asked, or did not come as far as podseal.
const UNDECIDED: u8 = 2;

/// What the API server did with the Pod.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// podseal denied it.
    Denied,
    /// podseal was asked and let it pass with a warning.
    Warned,
    /// podseal was not asked.
    Admitted,
    /// Something else came in between; the text is for the user.
    Unknown(String),
}

pub(super) fn run(command: &ProbeCommand) -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(probe(command))) {
        Ok(Found::Denied) => {
            print(&format!("podseal judges the Pods of namespace {}\n", command.namespace));
            ExitCode::SUCCESS
        }
        Ok(Found::Warned) => {
            print(&format!("podseal judges the Pods of namespace {}, and only warns\n", command.namespace));
            ExitCode::SUCCESS
        }
        Ok(Found::Admitted) => {
            complain(&format!(
                "the Pods of namespace {} are not judged: it is exempt or on the whitelist, or the webhook is not registered",
                command.namespace
            ));
            ExitCode::FAILURE
        }
        Ok(Found::Unknown(message)) | Err(message) => {
            complain(&message);
            ExitCode::from(UNDECIDED)
        }
    }
}

/// Asks until podseal was heard of or the time is over: each API server learns of a new webhook in its own time.
async fn probe(command: &ProbeCommand) -> Result<Found, String> {
    let mut kubernetes = kube_config_of(&command.connection).await?;
    kubernetes.read_timeout = Some(REQUEST_TIMEOUT);
    let client = Client::try_from(kubernetes).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let until = Instant::now() + command.timeout;
    loop {
        let found = ask(&client, &command.namespace).await;
        if matches!(found, Ok(Found::Denied | Found::Warned)) || Instant::now() + PAUSE >= until {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &Client, namespace: &str) -> Result<Found, String> {
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(pod().to_string().into_bytes()))
        .map_err(|e| format!("namespace {namespace:?} cannot be asked for: {e}"))?;
    let answer = client.send(request).await.map_err(|e| format!("the API server cannot be asked: {}", causes(&e)))?;
    let warned = answer
        .headers()
        .get_all(header::WARNING)
        .iter()
        .any(|warning| String::from_utf8_lossy(warning.as_bytes()).contains(IMAGE));
    let admitted = answer.status().is_success();
    let body =
        answer.into_body().collect_bytes().await.map_err(|e| format!("the API server's answer broke off: {e}"))?;
    Ok(read(admitted, warned, &body))
}

/// What an answer means.
fn read(admitted: bool, warned: bool, body: &[u8]) -> Found {
    if admitted {
        return if warned { Found::Warned } else { Found::Admitted };
    }
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = status.message.unwrap_or_else(|| "the API server refused without a reason".to_owned());
    if message.contains(ENTRY) && message.contains("denied the request") {
        Found::Denied
    } else {
        Found::Unknown(format!("the API server did not come as far as podseal: {message}"))
    }
}

/// Nothing about it but the image may be refused: not by the strictest Pod Security level, not for want of limits.
fn pod() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "podseal-probe-"},
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"}
            },
            "containers": [{
                "name": "probe",
                "image": IMAGE,
                "resources": {
                    "requests": {"cpu": "1m", "memory": "1Mi"},
                    "limits": {"cpu": "1m", "memory": "1Mi"}
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}
                }
            }]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::image::ImageRef;

    fn refused(message: &str) -> Found {
        read(false, false, json!({"kind": "Status", "message": message}).to_string().as_bytes())
    }

    #[test]
    fn the_image_is_none() {
        assert!(IMAGE.parse::<ImageRef>().is_err());
    }

    #[test]
    fn a_denial_of_podseal_is_told_from_other_refusals() {
        let denial = format!("admission webhook \"{ENTRY}\" denied the request: Pod is not valid: …");
        assert_eq!(refused(&denial), Found::Denied);
        for other in [
            "pods is forbidden: User \"x\" cannot create resource \"pods\"",
            "Internal error occurred: failed calling webhook \"pods.podseal.tmax.io\": connection refused",
            "admission webhook \"other.example.com\" denied the request: no",
        ] {
            assert!(matches!(refused(other), Found::Unknown(text) if text.contains(other)), "{other}");
        }
        assert!(matches!(read(false, false, b"<html>"), Found::Unknown(_)));
    }

    #[test]
    fn an_admitted_pod_was_judged_when_there_is_a_warning_about_its_image() {
        assert_eq!(read(true, true, b"{}"), Found::Warned);
        assert_eq!(read(true, false, b"{}"), Found::Admitted);
    }
}
