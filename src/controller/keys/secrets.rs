//! The Secrets: read as they are, written with preconditions.
//!
//! A Secret is made by `create`, which fails when there is one, so that none of somebody else's is ever merged into; it is
//! filled and changed by server-side apply under podseal's field manager and the very version that was looked at; it is
//! deleted under its uid and version.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};

use super::model::{Files, Live, MANAGED_BY};
use super::plan::{Step, Wanted};
use crate::cluster::objects::{SYNCED_KEY_LABEL, SYNCED_KEY_PREFIX};
use crate::controller::FIELD_MANAGER;

impl From<Secret> for Live {
    fn from(secret: Secret) -> Self {
        Self {
            name: secret.name_any(),
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
            labels: secret.metadata.labels.unwrap_or_default(),
            annotations: secret.metadata.annotations.unwrap_or_default(),
            data: secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect(),
        }
    }
}

/// The Secrets that are kept for key files, and those that stand where one is wanted.
pub async fn read(api: &Api<Secret>, files: &Files) -> Result<BTreeMap<String, Live>, kube::Error> {
    let labelled = ListParams::default().labels(SYNCED_KEY_LABEL);
    let found = api.list(&labelled).await?.items.into_iter().map(Live::from);
    let mut live: BTreeMap<_, _> = found
        .filter(|secret| secret.name.starts_with(SYNCED_KEY_PREFIX))
        .map(|secret| (secret.name.clone(), secret))
        .collect();
    let wanted: BTreeSet<&str> = files.files.values().map(|file| file.name.secret.as_str()).collect();
    for name in wanted {
        if live.contains_key(name) {
            continue;
        }
        if let Some(secret) = api.get_opt(name).await? {
            live.insert(name.to_owned(), secret.into());
        }
    }
    Ok(live)
}

/// Takes a step and gives the Secret's identity. The error of a precondition (409) says that somebody else was faster: look again.
pub async fn take(api: &Api<Secret>, step: &Step) -> Result<String, kube::Error> {
    match step {
        Step::Create(wanted) => {
            let empty = object(wanted, None, false);
            let empty = serde_json::from_value(empty).map_err(kube::Error::SerdeError)?;
            let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let made = api.create(&parameters, &empty).await?;
            apply(api, wanted, &Live::from(made)).await
        }
        Step::Apply(wanted, live) => apply(api, wanted, live).await,
        Step::Delete(live) => delete(api, live).await.map(|()| live.uid.clone()),
    }
}

/// Deletes this very version of a Secret.
pub async fn delete(api: &Api<Secret>, live: &Live) -> Result<(), kube::Error> {
    let preconditions =
        Preconditions { uid: Some(live.uid.clone()), resource_version: Some(live.resource_version.clone()) };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(&live.name, &parameters).await.map(drop)
}

async fn apply(api: &Api<Secret>, wanted: &Wanted, live: &Live) -> Result<String, kube::Error> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let object = object(wanted, Some(&live.resource_version), true);
    let applied = Live::from(api.patch(&live.name, &parameters, &Patch::Apply(&object)).await?);
    // Apply leaves alone what others wrote. In data there must be nothing of theirs: every value is a trusted key.
    let uid = applied.uid;
    let foreign: Map<_, _> =
        applied.data.into_keys().filter(|key| !wanted.data.contains_key(key)).map(|key| (key, Value::Null)).collect();
    if foreign.is_empty() {
        return Ok(uid);
    }
    let patch = json!({"metadata": {"resourceVersion": applied.resource_version}, "data": foreign});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&applied.name, &parameters, &Patch::Merge(&patch)).await.map(|_| uid)
}

fn object(wanted: &Wanted, version: Option<&str>, filled: bool) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": wanted.name.secret,
            "labels": {SYNCED_KEY_LABEL: wanted.name.file, MANAGED_BY.0: MANAGED_BY.1},
        },
    });
    if filled {
        let data: BTreeMap<_, _> = wanted.data.iter().map(|(key, value)| (key, ByteString(value.clone()))).collect();
        object["data"] = json!(data);
        object["metadata"]["annotations"] = json!(wanted.annotations);
    }
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    object
}
