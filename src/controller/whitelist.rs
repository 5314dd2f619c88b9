//! Makes the whitelist `ConfigMap` where there is none, so that there is something to edit. Never changes one.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use tracing::{info, warn};

use super::{Context, FIELD_MANAGER, Quiet, Wakes, describe};
use crate::cluster::watch::WHITELIST_NAME;

const RESYNC: Duration = Duration::from_secs(60);

/// What an empty whitelist says of itself.
const IMAGES: &str = "\
# One image per line; it runs without a check. Host, tag and digest may be left out, * stands for anything in the path.
";
const NAMESPACES: &str = "\
# One namespace per line; nothing in it is checked.
";

/// Makes it whenever it is absent, for ever.
pub async fn run(context: Context) {
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(context.client.clone(), &context.namespace);
    let mut wakes = Wakes::default().object(metadata.clone(), WHITELIST_NAME);
    let mut quiet = Quiet::default();
    loop {
        match make_if_absent(&context, &metadata).await {
            Ok(()) => {
                quiet.reset();
            }
            Err(error) => {
                let error = describe(&error);
                if quiet.says(&error) {
                    warn!(config_map = WHITELIST_NAME, "the empty whitelist was not made: {error}");
                }
            }
        }
        wakes.wait(RESYNC).await;
    }
}

async fn make_if_absent(context: &Context, metadata: &Api<PartialObjectMeta<ConfigMap>>) -> kube::Result<()> {
    if metadata.get_metadata_opt(WHITELIST_NAME).await?.is_some() {
        return Ok(());
    }
    let mut map = ConfigMap::default();
    map.metadata.name = Some(WHITELIST_NAME.to_owned());
    let data = [("whitelist-images", IMAGES), ("whitelist-namespaces", NAMESPACES)];
    map.data = Some(BTreeMap::from(data.map(|(key, text)| (key.to_owned(), text.to_owned()))));
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    match api.create(&params, &map).await {
        Ok(_) => info!(config_map = WHITELIST_NAME, "an empty whitelist was made"),
        // Somebody was faster, with a better one.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
