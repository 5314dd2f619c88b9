//! The custom resource definitions that are served, compared with those of this version.
//!
//! Helm installs definitions that are absent and never changes them. The leader replaces older ones, if it may: by
//! server-side apply, which takes the fields over from whoever applied them, be it the original's installation. Newer
//! ones are left alone, so that a rollback of podseal loses no field of stored objects.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, Resource as _, ResourceExt as _};
use tracing::{info, warn};

use super::{Context, FIELD_MANAGER, Notice, Quiet, describe};
use crate::api::{Kind, SCHEMA_VERSION, SCHEMA_VERSION_ANNOTATION};

const RESYNC: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Whether older definitions are replaced, or only reported.
    pub manage: bool,
}

/// How a served definition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Absent,
    /// With its version; 0 for one that says none, as the original's.
    Older(u32),
    Same,
    Newer(u32),
}

fn compare(served: Option<&CustomResourceDefinition>) -> Served {
    let Some(served) = served else { return Served::Absent };
    let version =
        served.annotations().get(SCHEMA_VERSION_ANNOTATION).and_then(|version| version.parse().ok()).unwrap_or(0);
    match version.cmp(&SCHEMA_VERSION) {
        std::cmp::Ordering::Less => Served::Older(version),
        std::cmp::Ordering::Equal => Served::Same,
        std::cmp::Ordering::Greater => Served::Newer(version),
    }
}

/// Looks after the definitions for ever.
pub async fn run(context: Context, config: Config) {
    let mut quiet = Kind::ALL.map(|kind| (kind, Quiet::default()));
    loop {
        let mut pause = RESYNC;
        for (kind, quiet) in &mut quiet {
            match pass(&context, config, *kind).await {
                Ok(None) => {
                    quiet.reset();
                }
                Ok(Some(trouble)) => {
                    pause = SOON;
                    if quiet.says(&trouble) {
                        warn!("{trouble}");
                    }
                }
                Err(error) => {
                    pause = SOON;
                    let error = describe(&error);
                    if quiet.says(&error) {
                        warn!(crd = kind.plural(), "the served definition cannot be read or replaced: {error}");
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// One look at one definition; what is not as it should be.
async fn pass(context: &Context, config: Config, kind: Kind) -> kube::Result<Option<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(context.client.clone());
    let own = kind.definition();
    let name = own.name_any();
    let served = api.get_opt(&name).await?;
    let outdated = |outdated| context.metrics.controller.crd_outdated(kind.plural(), outdated);
    let version = match compare(served.as_ref()) {
        Served::Absent => {
            outdated(true);
            return Ok(Some(format!("the definition {name} is not installed: podseal crds | kubectl apply -f -")));
        }
        Served::Same => {
            outdated(false);
            return Ok(None);
        }
        Served::Newer(version) => {
            outdated(false);
            tracing::debug!(crd = %name, version, "the served definition is newer than this version's and is left alone");
            return Ok(None);
        }
        Served::Older(version) => version,
    };
    let about = served.map(|served| served.object_ref(&())).unwrap_or_default();
    outdated(true);
    if !config.manage {
        let text = format!(
            "the definition {name} is served in schema version {version} and this podseal knows {SCHEMA_VERSION}: \
             newer fields are lost; podseal crds | kubectl apply --server-side --force-conflicts -f -"
        );
        let notice = Notice { type_: EventType::Warning, reason: "SchemaOutdated", action: "CompareSchema" };
        context.tell(&about, notice, &text).await;
        return Ok(Some(text));
    }
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&own)).await?;
    outdated(false);
    let text = format!("the definition was brought from schema version {version} to {SCHEMA_VERSION}");
    info!(crd = %name, "{text}");
    context
        .tell(&about, Notice { type_: EventType::Normal, reason: "SchemaUpdated", action: "ApplySchema" }, &text)
        .await;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(version: Option<&str>) -> CustomResourceDefinition {
        let mut crd = Kind::ALL[0].definition();
        crd.metadata.annotations = version.map(|v| [(SCHEMA_VERSION_ANNOTATION.to_owned(), v.to_owned())].into());
        crd
    }

    #[test]
    fn only_older_definitions_are_outdated_and_those_without_a_version_are_the_oldest() {
        assert_eq!(compare(None), Served::Absent);
        assert_eq!(compare(Some(&Kind::ALL[1].definition())), Served::Same);
        assert_eq!(compare(Some(&with(None))), Served::Older(0));
        assert_eq!(compare(Some(&with(Some("soon")))), Served::Older(0));
        let newer = SCHEMA_VERSION + 1;
        assert_eq!(compare(Some(&with(Some(&newer.to_string())))), Served::Newer(newer));
    }
}
