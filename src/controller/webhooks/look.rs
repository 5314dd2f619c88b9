//! What is wanted, what is there, and whether somebody answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Api;
use kube::api::{DynamicObject, ListParams};

use super::Config;
use super::wanted::{self, Kind, Standing, Wanted, entries_of};
use crate::controller::certificates::pki::{Bundle, Leaf, Pair};
use crate::controller::{Context, describe};

/// What the Secret says of trust.
pub(super) struct Trusted {
    bundle: Bundle,
    /// As a `caBundle` in JSON.
    pub(super) encoded: String,
    serving: Pair,
}

/// Everything as it was at one time.
pub(super) struct Look {
    /// Wanted configurations and the live ones, if they exist.
    pub(super) pairs: Vec<(Wanted, Option<DynamicObject>)>,
    /// `None`: podseal does not decide about trust.
    pub(super) trusted: Option<Trusted>,
}

impl Look {
    pub(super) async fn take(context: &Context, config: &Config) -> Result<Self, String> {
        let wanted = wanted::load(&config.file).await?;
        let trusted = match &config.ca_secret {
            Some(name) => Some(trusted(context, name).await?),
            None => None,
        };
        let mut pairs = Vec::new();
        for wanted in wanted {
            let live = api(context, wanted.kind).get_opt(&wanted.name).await;
            let live = live.map_err(|e| format!("{} {}: {}", wanted.kind.name(), wanted.name, describe(&e)))?;
            pairs.push((wanted, live));
        }
        Ok(Self { pairs, trusted })
    }

    pub(super) fn bundle(&self) -> Option<&str> {
        self.trusted.as_ref().map(|trusted| trusted.encoded.as_str())
    }

    /// Whether the cluster is protected: every configuration has its entries. Trust may be a moment behind while it
    /// changes, because the old and the new one are both good then.
    pub(super) fn protects(&self) -> Result<(), String> {
        for (wanted, live) in &self.pairs {
            let standing = wanted.compare(self.bundle(), live.as_ref().map(|live| &live.data));
            let why = match standing {
                Standing::Holds | Standing::Bundle => continue,
                Standing::Absent => "does not exist",
                Standing::Unarmed => "has no entries yet",
                Standing::Differs => "is not as installed",
            };
            return Err(format!("{} {} {why}", wanted.kind.name(), wanted.name));
        }
        Ok(())
    }

    /// Whether API servers would be answered if they asked now; what is missing otherwise.
    pub(super) async fn ready(&self, context: &Context, config: &Config) -> Result<(), String> {
        if let Some(trusted) = &self.trusted {
            let now = jiff::Timestamp::now().as_second();
            let names: Vec<_> = self.pairs.iter().flat_map(|(wanted, _)| wanted.hosts()).collect();
            // Where the Secret holds no pair, somebody else has it.
            let serves = trusted.serving.certificate.is_empty()
                || Leaf::read(&trusted.serving).is_some_and(|leaf| leaf.is_good_for(&names, &trusted.bundle.0, now));
            if !serves {
                return Err("the serving certificate is not good for the webhook's names".to_owned());
            }
        }
        let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &context.namespace);
        let slices = slices.list(&ListParams::default().labels(&of_service(&config.service))).await;
        let slices =
            slices.map_err(|e| format!("the endpoints of the Service {}: {}", config.service, describe(&e)))?;
        let is_answered = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten()).any(answers);
        if is_answered { Ok(()) } else { Err(format!("the Service {} has no ready endpoint", config.service)) }
    }
}

/// The `EndpointSlices` of a Service, as a label selector.
pub(super) fn of_service(name: &str) -> String {
    format!("kubernetes.io/service-name={name}")
}

/// An unknown readiness counts as ready, as the API defines it.
fn answers(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    is_ready && !endpoint.addresses.is_empty()
}

pub(super) fn api(context: &Context, kind: Kind) -> Api<DynamicObject> {
    Api::all_with(context.client.clone(), &kind.resource())
}

async fn trusted(context: &Context, name: &str) -> Result<Trusted, String> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.namespace);
    let secret = api.get_opt(name).await.map_err(|e| format!("the Secret {name}: {}", describe(&e)))?;
    let secret = secret.ok_or_else(|| format!("the Secret {name} with the authority does not exist yet"))?;
    let data = secret.data.unwrap_or_default();
    let text = |key| data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default();
    let bundle = Bundle::read(text("ca.crt").as_bytes());
    if bundle.0.is_empty() {
        return Err(format!("the Secret {name} has no certificate in ca.crt"));
    }
    let serving = Pair { certificate: text("tls.crt"), key: text("tls.key") };
    Ok(Trusted { encoded: STANDARD.encode(bundle.pem()), bundle, serving })
}

/// What each armed configuration of these trusts, entry by entry. Entries that say nothing trust whom the API server's
/// machine trusts, and never podseal's own authority: they are not counted.
pub async fn bundles_of(context: &Context, configurations: &[Wanted]) -> kube::Result<Vec<Bundle>> {
    let mut bundles: Vec<Bundle> = Vec::new();
    for wanted in configurations {
        let Some(live) = api(context, wanted.kind).get_opt(&wanted.name).await? else { continue };
        for entry in entries_of(&live.data) {
            let encoded = entry.pointer("/clientConfig/caBundle").and_then(serde_json::Value::as_str);
            let Some(pem) = encoded.and_then(|encoded| STANDARD.decode(encoded).ok()) else { continue };
            let bundle = Bundle::read(&pem);
            if !bundles.contains(&bundle) {
                bundles.push(bundle);
            }
        }
    }
    Ok(bundles)
}
