//! Makes the `ConfigMaps` that podseal looks for where there are none: the whitelist, so that there is something to edit,
//! and the memory of roots of trust, which the webhook may write into and not make. Never changes one.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use tracing::{info, warn};

use super::{Context, FIELD_MANAGER, Quiet, Wakes, describe};
use crate::cluster::roots::ROOTS_NAME;
use crate::cluster::watch::WHITELIST_NAME;

const RESYNC: Duration = Duration::from_secs(60);

/// What an empty whitelist says of itself.
const IMAGES: &str = "\
# One image per line; it runs without a check. Host, tag and digest may be left out, * stands for anything in the path.
";
const NAMESPACES: &str = "\
# One namespace per line; nothing in it is checked.
";

/// A `ConfigMap` to make.
struct Wanted {
    name: &'static str,
    /// What it is, for the log.
    what: &'static str,
    data: &'static [(&'static str, &'static str)],
}

const WHITELIST: Wanted = Wanted {
    name: WHITELIST_NAME,
    what: "whitelist",
    data: &[("whitelist-images", IMAGES), ("whitelist-namespaces", NAMESPACES)],
};
const ROOTS: Wanted = Wanted { name: ROOTS_NAME, what: "memory of Notary roots", data: &[] };

/// Makes both whenever they are absent, for ever.
pub async fn run(context: Context) {
    tokio::join!(keep(&context, &WHITELIST), keep(&context, &ROOTS));
}

async fn keep(context: &Context, wanted: &Wanted) {
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(context.client.clone(), &context.namespace);
    let mut wakes = Wakes::default().object(metadata.clone(), wanted.name);
    let mut quiet = Quiet::default();
    loop {
        match make_if_absent(context, &metadata, wanted).await {
            Ok(()) => {
                quiet.reset();
            }
            Err(error) => {
                let error = describe(&error);
                if quiet.says(&error) {
                    warn!(config_map = wanted.name, "the empty {} was not made: {error}", wanted.what);
                }
            }
        }
        wakes.wait(RESYNC).await;
    }
}

async fn make_if_absent(
    context: &Context,
    metadata: &Api<PartialObjectMeta<ConfigMap>>,
    wanted: &Wanted,
) -> kube::Result<()> {
    if metadata.get_metadata_opt(wanted.name).await?.is_some() {
        return Ok(());
    }
    let mut map = ConfigMap::default();
    map.metadata.name = Some(wanted.name.to_owned());
    let data = wanted.data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
    map.data = Some(data.collect::<BTreeMap<_, _>>());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    match api.create(&params, &map).await {
        Ok(_) => info!(config_map = wanted.name, "an empty {} was made", wanted.what),
        // Somebody was faster, with a better one.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
