//! podseal's own certificates: an authority and a serving certificate, kept in Secrets and renewed before they expire.
//!
//! | Secret | has | who reads it |
//! |---|---|---|
//! | `NAME-ca` | `tls.crt`, `tls.key`: the authority that signs; `next.crt`, `next.key`: the one that will | the controller |
//! | `NAME` | `tls.crt`, `tls.key`: the serving pair; `ca.crt`: all authorities that are trusted | the webhook; [`super::webhooks`] |
//!
//! What there should be follows from what there is ([`plan`]); nothing is remembered that a restart could lose. Secrets
//! that are deleted or damaged are made anew; those that are not podseal's are left alone.

pub mod pki;
pub mod plan;
mod store;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::pki::{Bundle, Leaf, Pair, PkiError};
use self::plan::{Found, Rules, Trust, Wanted, advance};
use self::store::{Secrets, StoreError};
use self::trust::Settling;
use super::webhooks::{bundles_of, wanted};
use super::{Context, Notice, Quiet, Wakes, describe};

/// How often the Secrets are looked at although nothing seems to change, and while something is under way.
const RESYNC: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_millis(200);

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Secret of the serving pair; the authorities are in the one called so with `-ca` at its end.
    pub secret: String,
    /// The webhook's Service.
    pub service: String,
    /// The webhook configurations: their URLs are further names, and what they trust decides about rotation.
    pub webhooks_file: Option<PathBuf>,
    /// Lifetime of an authority.
    pub authority_lifetime: Duration,
    /// Lifetime of a serving certificate.
    pub leaf_lifetime: Duration,
    /// How long a change of trust takes to reach every API server, at most.
    pub propagation: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{}", describe(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("{0}")]
    File(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Api(error) => Self::Api(error),
            error @ StoreError::Foreign { .. } => Self::Store(error),
        }
    }
}

/// What is remembered between passes, for pace alone.
#[derive(Default)]
struct Memory {
    settling: Settling,
    /// Since when there has been no serving certificate to use.
    bare: Option<Instant>,
}

/// Keeps the certificates for ever.
pub async fn run(context: Context, config: Config) {
    let secrets = store::metadata(&context);
    let mut wakes = Wakes::default()
        .object(secrets.clone(), &config.secret)
        .object(secrets, &store::authority_secret(&config.secret));
    let (mut memory, mut quiet) = (Memory::default(), Quiet::default());
    let resync = RESYNC.min(config.leaf_lifetime / 30).max(LEAST);
    let soon = SOON.min(resync);
    loop {
        let pause = match pass(&context, &config, &mut memory).await {
            Ok(pending) => {
                quiet.reset();
                if pending { soon } else { resync }
            }
            Err(trouble) => {
                if quiet.says(&trouble.to_string()) {
                    error!(secret = %config.secret, "the webhook's certificate is not kept: {trouble}");
                    tell_owner(&context, &trouble).await;
                }
                soon
            }
        };
        wakes.wait(pause).await;
    }
}

async fn tell_owner(context: &Context, trouble: &Trouble) {
    if let Trouble::Store(StoreError::Foreign { about, .. }) = trouble {
        let notice = Notice { type_: EventType::Warning, reason: "ForeignSecret", action: "KeepCertificate" };
        context.tell(about, notice, &trouble.to_string()).await;
    }
}

/// One look, and what follows from it. Whether something is under way.
async fn pass(context: &Context, config: &Config, memory: &mut Memory) -> Result<bool, Trouble> {
    let now = jiff::Timestamp::now().as_second();
    let (names, live) = surroundings(context, config).await?;
    let secrets = Secrets::read(context, &config.secret).await?;
    let mut found = secrets.found();
    let trust = match live {
        None => Trust::Unknown,
        Some(live) => {
            recover(&mut found, &live);
            memory.settling.settle(&live, config.propagation, now, Instant::now())
        }
    };
    let urgent = memory.bare.is_some_and(|since| since.elapsed() >= config.propagation * 2);
    let rules = Rules {
        names,
        authority: config.authority_lifetime,
        leaf: config.leaf_lifetime,
        propagation: config.propagation,
    };
    let wanted = advance(found, &trust, &rules, urgent, now)?;
    let is_bare = wanted.leaf == Pair::default();
    memory.bare = is_bare.then(|| memory.bare.unwrap_or_else(Instant::now));
    report(context, &wanted);
    if secrets.write(context, &wanted).await? {
        tell(context, config, &secrets, &wanted, matches!(trust, Trust::Unknown)).await;
    }
    Ok(wanted.pending)
}

/// When even the record of what is trusted is lost, what API servers trust tells it.
fn recover(found: &mut Found, live: &[Bundle]) {
    if found.bundle.0.is_empty() || Leaf::read(&found.leaf).is_none() {
        for certificate in live.iter().flat_map(|bundle| &bundle.0) {
            found.bundle.add(certificate.clone());
        }
    }
}

/// The names of the webhook, and what the armed configurations trust.
async fn surroundings(context: &Context, config: &Config) -> Result<(Vec<String>, Option<Vec<Bundle>>), Trouble> {
    let service = format!("{}.{}.svc", config.service, context.namespace);
    let mut names = vec![service.clone(), format!("{service}.cluster.local")];
    let Some(file) = &config.webhooks_file else { return Ok((names, None)) };
    let configurations = wanted::load(file).await.map_err(Trouble::File)?;
    for host in configurations.iter().flat_map(wanted::Wanted::hosts) {
        if !names.contains(&host) {
            names.push(host);
        }
    }
    Ok((names, Some(bundles_of(context, &configurations).await?)))
}

#[allow(clippy::cast_precision_loss)] // seconds of any real date fit a double exactly
fn report(context: &Context, wanted: &Wanted) {
    context.metrics.certificate_expiry("ca", wanted.signer.period.not_after as f64);
    if let Some(leaf) = Leaf::read(&wanted.leaf) {
        context.metrics.certificate_expiry("leaf", leaf.period.not_after as f64);
    }
}

async fn tell(context: &Context, config: &Config, secrets: &Secrets, wanted: &Wanted, by_hand: bool) {
    let steps = wanted.steps.join("; ");
    info!(secret = %config.secret, authorities = wanted.bundle.0.len(), "the webhook's certificates changed: {steps}");
    if by_hand && wanted.next.is_some() {
        warn!(
            secret = %config.secret,
            "a new authority will sign the webhook's certificate: copy ca.crt into the caBundle of its configurations"
        );
    }
    if let Some(about) = secrets.serving.reference() {
        let notice = Notice { type_: EventType::Normal, reason: "CertificatesChanged", action: "KeepCertificate" };
        context.tell(&about, notice, &steps).await;
    }
}
