//! Has the API servers ask podseal, once podseal answers.
//!
//! The installation brings webhook configurations without entries and, in a file, the entries they should have. The
//! leader puts them in when the webhook's Service has a ready endpoint and the certificate is there, keeps them as they
//! should be, and follows the authorities of the certificate. It never takes entries out, and never makes a
//! configuration: one that is absent was uninstalled.
//!
//! While nobody answers, entries that were edited are left as they are: whoever edits them then is most likely letting
//! people work until podseal is back. Trust alone is brought up to date at any time.
//!
//! The whole list of entries is replaced, in exactly the version that was read. Server-side apply would leave alone what
//! others add to an entry, and a `matchConditions` that somebody adds switches it off.

mod look;
pub mod wanted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::events::EventType;
use kube::runtime::watcher;
use kube::{Api, Resource as _};
use serde_json::json;
use tracing::{info, warn};

pub use self::look::bundles_of;
use self::look::{Look, Trusted, api};
use self::wanted::{Standing, Wanted, entries_of};
use super::{Context, FIELD_MANAGER, Notice, Quiet, Wakes, describe};

/// How often everything is looked at although nothing seems to change, and while something is missing.
const RESYNC: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configurations with their entries.
    pub file: PathBuf,
    /// The webhook's Service.
    pub service: String,
    /// The Secret whose `ca.crt` is trusted; `None`: what the file says, or what is there.
    pub ca_secret: Option<String>,
}

/// Whether the configurations hold what they should, as this replica saw it last.
#[derive(Debug, Clone)]
pub struct Armed(Arc<ArcSwap<Result<(), String>>>);

impl Default for Armed {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Err("the webhook configurations were not read yet".to_owned()))))
    }
}

impl Armed {
    /// `Ok`, or what is missing.
    pub fn state(&self) -> Result<(), String> {
        self.0.load().as_ref().clone()
    }
}

/// Looks at the configurations for ever, in every replica, without changing anything.
pub async fn observe(context: Context, config: Config, armed: Armed) {
    let mut wakes = wakes(&context, &config).await;
    loop {
        let state = match Look::take(&context, &config).await {
            Ok(look) => look.protects(),
            Err(trouble) => Err(trouble),
        };
        context.metrics.controller.armed(state.is_ok());
        let pause = if state.is_ok() { RESYNC } else { SOON };
        armed.0.store(Arc::new(state));
        wakes.wait(pause).await;
    }
}

/// Arms and heals for ever.
pub async fn run(context: Context, config: Config) {
    let mut wakes = wakes(&context, &config).await;
    let mut quiet = Quiet::default();
    loop {
        let trouble = pass(&context, &config).await;
        match &trouble {
            Some(text) if quiet.says(text) => warn!("{text}"),
            None if quiet.reset() => info!("the webhook configurations hold what they should"),
            _ => {}
        }
        wakes.wait(if trouble.is_none() { RESYNC } else { SOON }).await;
    }
}

/// Woken by the configurations that the file names now, the Secret and the Service's endpoints. A file that changes
/// later is met by time.
async fn wakes(context: &Context, config: &Config) -> Wakes {
    let mut wakes = Wakes::default();
    for wanted in wanted::load(&config.file).await.unwrap_or_default() {
        wakes = wakes.object(api(context, wanted.kind), &wanted.name);
    }
    if let Some(name) = &config.ca_secret {
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(context.client.clone(), &context.namespace);
        wakes = wakes.object(secrets, name);
    }
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &context.namespace);
    wakes.objects(slices, watcher::Config::default().labels(&look::of_service(&config.service)))
}

/// One look, and what follows from it; what could not be done.
async fn pass(context: &Context, config: &Config) -> Option<String> {
    let look = match Look::take(context, config).await {
        Ok(look) => look,
        Err(trouble) => return Some(trouble),
    };
    let mut trouble = Vec::new();
    let mut readiness = None;
    for (wanted, live) in &look.pairs {
        let standing = wanted.compare(look.bundle(), live.as_ref().map(|live| &live.data));
        let about = format!("{} {}", wanted.kind.name(), wanted.name);
        let Some(live) = live else {
            trouble.push(format!("{about} does not exist and is not made: install the chart, or apply it"));
            continue;
        };
        if standing == Standing::Holds {
            continue;
        }
        if standing != Standing::Bundle {
            if readiness.is_none() {
                readiness = Some(look.ready(context, config).await);
            }
            if let Some(Err(missing)) = &readiness {
                let state =
                    if standing == Standing::Unarmed { "is not armed yet" } else { "differs and is left so for now" };
                trouble.push(format!("{about} {state}: {missing}"));
                continue;
            }
        }
        if let Err(error) = put(context, wanted, live, look.trusted.as_ref(), standing).await {
            trouble.push(format!("{about} cannot be changed: {}", describe(&error)));
        }
    }
    (!trouble.is_empty()).then(|| trouble.join("; "))
}

/// Replaces all entries of the configuration.
async fn put(
    context: &Context,
    wanted: &Wanted,
    live: &DynamicObject,
    trusted: Option<&Trusted>,
    standing: Standing,
) -> kube::Result<()> {
    let bundle = trusted.map(|trusted| trusted.encoded.as_str());
    let entries = wanted.entries(bundle, &live.data);
    // The version is a precondition: what was compared is what is replaced.
    let patch = json!({"metadata": {"resourceVersion": live.metadata.resource_version}, "webhooks": entries});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let api = api(context, wanted.kind);
    let now = api.patch(&wanted.name, &params, &Patch::Merge(&patch)).await?;

    let entries = entries_of(&now.data).len();
    let (type_, reason, text) = match standing {
        Standing::Unarmed => (EventType::Normal, "Armed", "API servers ask podseal from now on"),
        Standing::Bundle => (EventType::Normal, "TrustChanged", "API servers trust the authorities of the certificate"),
        _ => (EventType::Warning, "Healed", "the entries differed from what was installed and were put right"),
    };
    info!(kind = wanted.kind.name(), name = %wanted.name, entries, reason, "{text}");
    let about = now.object_ref(&wanted.kind.resource());
    context.tell(&about, Notice { type_, reason, action: "Arm" }, text).await;
    Ok(())
}
