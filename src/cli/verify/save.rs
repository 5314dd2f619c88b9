//! Recording the outcome in the cluster.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;

use crate::domain::printable::printable;
use crate::records::cluster::Records;
use crate::records::plan::Step;

/// One step, and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    name: String,
    action: &'static str,
    /// The repository that the record is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    /// The name under which the image was signed, where that was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Change {
    /// For people.
    pub(super) fn sentence(&self, dry_run: bool) -> String {
        let Self { name, action, repository, identity, error } = self;
        let repository = repository.as_deref().map(printable).unwrap_or_default();
        let identity = identity.as_deref().map(|name| format!(", signed as {}", printable(name))).unwrap_or_default();
        let about = format!("imagesignature {name} of {repository}{identity}");
        match (error, *action) {
            (Some(why), "remove") => format!("not removed: {}", printable(why)),
            (Some(why), _) => format!("not recorded: {}", printable(why)),
            (None, "leave") => format!("left alone: imagesignature {name}, of repository {repository}{identity}"),
            (None, "replace") => {
                let done = if dry_run { "would replace" } else { "replaced" };
                format!("{done} {about}: another one that nobody verified had its name")
            }
            (None, "renew") => {
                let done = if dry_run { "would renew" } else { "renewed" };
                format!("{done} {about}: the one of its name was being deleted")
            }
            (None, action) if dry_run => format!("would {action} {about}"),
            (None, action) => format!("{action}d {about}"),
        }
    }

    /// Whether it was not carried out.
    pub(super) fn failed(&self) -> bool {
        self.error.is_some()
    }
}

/// Carries out the steps one after the other, or only says what they are. A step that fails stops none of the others, each
/// of which is about an object of its own.
pub(super) async fn carry_out(client: &Client, records: &Records, steps: &[Step], dry_run: bool) -> Vec<Change> {
    let at = jiff::Timestamp::now();
    let at = jiff::Timestamp::from_second(at.as_second()).unwrap_or(at);
    let by = if dry_run || steps.is_empty() { None } else { user(client).await };
    let mut changes = Vec::new();
    for step in steps {
        let error = match step {
            Step::Skip(why) => Some(why.clone()),
            _ if dry_run => None,
            step => records.take(step, at, by.as_deref()).await.err(),
        };
        let repository = step.record().map(|record| record.spec.reference.clone());
        let identity = step.identity().map(str::to_owned);
        changes.push(Change { name: step.name(), action: step.action(), repository, identity, error });
    }
    changes
}

/// Whom the API server takes the caller for; every user may ask. An older API server does not say.
async fn user(client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await.ok()?;
    review.status?.user_info?.username
}
