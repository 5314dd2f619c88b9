//! The cluster as it is now, read once: policies, whitelist, and Pods page by page. The counterpart of
//! [`watch`](super::watch) for commands that end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::snapshot::Source;
use super::watch::{WHITELIST_NAME, policy_id};
use crate::api::{GROUP, PolicyKind, VERSION, read_policy};
use crate::domain::policy::Policy;
use crate::domain::whitelist::Whitelist;

/// Objects asked for at a time: some megabytes of Pods.
const PAGE: u32 = 250;
/// How often a page is asked for when the API server fails, and how long is waited in between.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// All policies that speak for a namespace, or for any without one. The error says what could not be read: an incomplete
/// list is none.
pub async fn policies(client: &Client, namespace: Option<&str>) -> Result<Vec<Policy>, String> {
    let mut policies = policies_of(client, PolicyKind::Cluster, None).await?;
    policies.extend(policies_of(client, PolicyKind::Namespaced, namespace).await?);
    Ok(policies.into_iter().map(|(policy, _)| policy).collect())
}

/// All policies of one kind, of a namespace or of all, each with its object as it is, status included.
pub async fn policies_of(
    client: &Client,
    kind: PolicyKind,
    namespace: Option<&str>,
) -> Result<Vec<(Policy, Value)>, String> {
    let (source, namespace) = match kind {
        PolicyKind::Cluster => (Source::ClusterPolicies, None),
        PolicyKind::Namespaced => (Source::NamespacedPolicies, namespace),
    };
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind.kind()), source.label());
    let mut policies = Vec::new();
    let mut pages = Pages::new(client, &resource, namespace, ListParams::default());
    while let Some(page) = pages.next().await? {
        let read = |object: DynamicObject| (read_policy(policy_id(source, &object), &object.data), object.data);
        policies.extend(page.into_iter().map(read));
    }
    Ok(policies)
}

/// The whitelist; an empty one when its `ConfigMap` does not exist.
pub async fn whitelist(client: &Client, own_namespace: &str) -> Result<Whitelist, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), own_namespace);
    let found = api.get_opt(WHITELIST_NAME).await;
    let found = found.map_err(|e| format!("ConfigMap {own_namespace}/{WHITELIST_NAME} cannot be read: {}", why(&e)))?;
    Ok(Whitelist::parse(&found.and_then(|map| map.data).unwrap_or_default()))
}

/// The Pods of a namespace, or of all, that have not ended.
pub fn pods(client: &Client, namespace: Option<&str>) -> Pages {
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    // Untyped: fields that are newer than podseal must not get lost.
    Pages::new(client, &ApiResource::erase::<Pod>(&()), namespace, running)
}

/// A list, page by page, each object once, in the order of namespace and name.
#[derive(Debug)]
pub struct Pages {
    api: Api<DynamicObject>,
    what: String,
    params: ListParams,
    /// Namespace and name of the last object, as the API server orders them.
    last: Option<String>,
    ended: bool,
}

impl Pages {
    fn new(client: &Client, resource: &ApiResource, namespace: Option<&str>, params: ListParams) -> Self {
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
            None => Api::all_with(client.clone(), resource),
        };
        let what = resource.plural.clone();
        Self { api, what, params: params.limit(PAGE), last: None, ended: false }
    }

    /// The next page, which may be empty; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<DynamicObject>>, String> {
        if self.ended {
            return Ok(None);
        }
        let list = self.list().await.map_err(|error| format!("{} cannot be listed: {}", self.what, why(&error)))?;
        self.params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        self.ended = self.params.continue_token.is_none();
        let mut items = list.items;
        // A list that was begun anew has what was seen already in front.
        if let Some(last) = &self.last {
            items.retain(|object| place(object) > *last);
        }
        if let Some(object) = items.last() {
            self.last = Some(place(object));
        }
        Ok(Some(items))
    }

    async fn list(&mut self) -> Result<ObjectList<DynamicObject>, kube::Error> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.api.list(&self.params).await {
                // The API server forgets where it was after some minutes.
                Err(kube::Error::Api(status)) if status.code == 410 && tried < TRIES => {
                    self.params.continue_token = None;
                }
                Err(error) if tried < TRIES && !is_final(&error) => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }
}

/// Asking again would get the same answer.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}

fn place(object: &DynamicObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// What the API server said, without the structure around it.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
