//! The metrics of the process, in the `OpenMetrics` text format.
//!
//! Every label value comes from a closed set that is known when the process starts, so that no request can make
//! series (only the key metric has values from outside, and it is cut off at [`MAX_KEYS`]). The children of each
//! family are looked up once; counting afterwards is an atomic addition without a lock.

mod controller;
mod keys;
mod store;
mod timing;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::controller::{ControllerMetrics, ImportMetrics, KeyMetrics, READY_REASONS, StatusMetrics, Unimported};
use self::keys::KeyExpiry;
pub use self::keys::MAX_KEYS;
pub use self::store::{Asked, StoreMetrics, TurnedAway};
use self::timing::Timing;
use crate::domain::verdict::Method;
use crate::fault::FaultKind;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How a review or an image ended, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ending {
    /// May run.
    Allowed,
    /// A verdict against it.
    Denied,
    /// Could not decide.
    #[default]
    Error,
}

impl Ending {
    /// Stable lower-case label for metrics, logs and audit annotations.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// What came of an image that was to be pinned, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pinning {
    /// It got its digest.
    Pinned,
    /// Nothing asks for a pin.
    Left,
    /// A pin was due and could not be had.
    Failed,
}

/// Which upstream server a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamKind {
    /// A registry.
    Registry,
    /// A token service.
    Token,
    /// A signature store.
    Store,
    /// A Notary server.
    Notary,
}

/// What of the whitelist allowed an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whitelisted {
    /// A line of `whitelist-images`.
    Image,
    /// A line of `whitelist-namespaces`.
    Namespace,
}

/// What became of one denial that was to be told by an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// By an Event of its own.
    Created,
    /// By the count of an Event that says the same of the same object.
    Repeated,
    /// Not, because its namespace or the whole cluster has too many.
    Limited,
    /// Not, because too many waited.
    Dropped,
    /// Not, because the API server did not take the Event.
    Failed,
}

const ENDINGS: [Ending; 3] = [Ending::Allowed, Ending::Denied, Ending::Error];
const PINNINGS: [&str; 3] = ["pinned", "left", "failed"];
const METHODS: [&str; 4] = ["none", "notary", "cosign", "gpg"];
const UPSTREAMS: [&str; 4] = ["registry", "token", "store", "notary"];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const FAULTS: [FaultKind; 13] = [
    FaultKind::Timeout,
    FaultKind::Unreachable,
    FaultKind::RateLimited,
    FaultKind::Unauthorized,
    FaultKind::BadAnswer,
    FaultKind::TooLarge,
    FaultKind::DigestMismatch,
    FaultKind::AddressRefused,
    FaultKind::Reference,
    FaultKind::Configuration,
    FaultKind::NotSynced,
    FaultKind::Overloaded,
    FaultKind::Internal,
];
/// Results of an upstream request: status classes, then fault kinds.
const RESULTS: usize = CLASSES.len() + FAULTS.len();

type Labels = Vec<(&'static str, &'static str)>;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: [Counter; ENDINGS.len()],
    review_duration: Timing,
    enforcing: Gauge,
    would_deny: [Counter; ENDINGS.len()],
    pins: [Counter; PINNINGS.len()],
    pin_duration: Timing,
    images: [[Counter; METHODS.len()]; ENDINGS.len()],
    whitelisted: [Counter; 2],
    denial_events: [Counter; 5],
    faults: [Counter; FAULTS.len()],
    cache: [Counter; 2],
    upstream: [[Counter; RESULTS]; UPSTREAMS.len()],
    upstream_duration: [Timing; UPSTREAMS.len()],
    shed: Counter,
    panics: Counter,
    handshake_failures: Counter,
    tls_reloads: [Counter; 2],
    inventory: [Gauge; 4],
    keys: Gauge,
    key_expiry: Arc<KeyExpiry>,
    watches: Family<Labels, Gauge>,
    certificates: Family<Labels, Gauge<f64, AtomicU64>>,
    /// What the controller does.
    pub controller: ControllerMetrics,
    /// What the signature store does.
    pub store: StoreMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        r.register("podseal_build", "The version that runs.", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let key_expiry = Arc::new(KeyExpiry::default());
        r.register_collector(Box::new(Arc::clone(&key_expiry)));
        Self {
            reviews: family(r, "podseal_reviews", "Answered admission reviews.", |i| {
                vec![("outcome", ENDINGS[i].label())]
            }),
            review_duration: single(r, "podseal_review_duration_seconds", "Time from request to answer."),
            enforcing: single(
                r,
                "podseal_enforcing",
                "1 where denials are enforced, 0 where they are only told, and in a controller.",
            ),
            would_deny: family(r, "podseal_would_deny", "Admitted only because nothing is enforced.", |i| {
                vec![("outcome", ENDINGS[i].label())]
            }),
            pins: family(r, "podseal_pins", "Images that came to be pinned to their digest.", |i| {
                vec![("result", PINNINGS[i])]
            }),
            pin_duration: single(r, "podseal_pin_duration_seconds", "Time from request for pins to answer."),
            images: images(r),
            whitelisted: family(r, "podseal_whitelisted", "Allowances that the whitelist gave.", |i| {
                vec![("by", ["image", "namespace"][i])]
            }),
            denial_events: family(r, "podseal_denial_events", "Denials, by how Events told of them.", |i| {
                vec![("result", ["created", "repeated", "limited", "dropped", "failed"][i])]
            }),
            faults: family(r, "podseal_faults", "Obstacles to a verdict.", |i| vec![("kind", FAULTS[i].label())]),
            cache: family(r, "podseal_cache", "Looks into the verdict cache.", |i| {
                vec![("result", ["miss", "hit"][i])]
            }),
            upstream: upstream(r),
            upstream_duration: family(r, "podseal_upstream_duration_seconds", "Time of upstream requests.", |i| {
                vec![("kind", UPSTREAMS[i])]
            }),
            shed: single(r, "podseal_shed", "Reviews turned away because too many were in flight."),
            panics: single(r, "podseal_panics", "Panics that became a denial. Each one is a defect to report."),
            handshake_failures: single(r, "podseal_tls_handshake_failures", "TLS handshakes that failed."),
            tls_reloads: family(r, "podseal_tls_reloads", "Reloads of the serving certificate.", |i| {
                vec![("result", ["failed", "done"][i])]
            }),
            inventory: inventory(r),
            keys: single(r, "podseal_keys", "Trusted keys known."),
            watches: register(r, "podseal_watch_synced", "1 when a watch is in sync, else 0.", Family::default()),
            certificates: register(
                r,
                "podseal_certificate_expiry_timestamp_seconds",
                "When an own certificate expires, in seconds since 1970.",
                Family::default(),
            ),
            controller: ControllerMetrics::new(r),
            store: StoreMetrics::new(r),
            key_expiry,
            registry,
        }
    }

    /// One answered review.
    pub fn review(&self, ending: Ending, elapsed: Duration) {
        self.reviews[ending as usize].inc();
        self.review_duration.observe(elapsed);
    }

    /// Whether denials are enforced by this process, or only told.
    pub fn enforcing(&self, enforcing: bool) {
        self.enforcing.set(i64::from(enforcing));
    }

    /// One review that was admitted only because nothing is enforced, and how it would have ended.
    pub fn would_deny(&self, ending: Ending) {
        self.would_deny[ending as usize].inc();
    }

    /// One answered review of what is to be pinned.
    pub fn pin_review(&self, elapsed: Duration) {
        self.pin_duration.observe(elapsed);
    }

    /// One image that came to be pinned.
    pub fn pin(&self, result: Pinning) {
        self.pins[result as usize].inc();
    }

    /// One judged image: how it ended, and the method that passed it (`None`: none was needed or none passed).
    pub fn image(&self, ending: Ending, method: Option<Method>) {
        let method = match method {
            None => 0,
            Some(Method::Notary) => 1,
            Some(Method::Cosign) => 2,
            Some(Method::Gpg) => 3,
        };
        self.images[ending as usize][method].inc();
    }

    /// One image that the whitelist allowed.
    pub fn whitelisted(&self, by: Whitelisted) {
        self.whitelisted[by as usize].inc();
    }

    /// One denial that was told, or not, by an Event.
    pub fn denial_event(&self, result: Told) {
        self.denial_events[result as usize].inc();
    }

    /// One fault met while judging.
    pub fn fault(&self, kind: FaultKind) {
        self.faults[fault_slot(kind)].inc();
    }

    /// One look into the verdict cache.
    pub fn cache(&self, hit: bool) {
        self.cache[usize::from(hit)].inc();
    }

    /// One request to an upstream server: its HTTP status or what went wrong.
    pub fn upstream(&self, kind: UpstreamKind, elapsed: Duration, result: Result<u16, FaultKind>) {
        let slot = match result {
            Ok(status @ 100..=599) => usize::from(status / 100 - 1),
            Ok(_) => CLASSES.len() - 1,
            Err(fault) => CLASSES.len() + fault_slot(fault),
        };
        self.upstream[kind as usize][slot].inc();
        self.upstream_duration[kind as usize].observe(elapsed);
    }

    /// One review turned away because too many were in flight.
    pub fn shed(&self) {
        self.shed.inc();
    }

    /// One panic that was caught and answered with a denial.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// One TLS handshake that failed or took too long.
    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    /// One change of the serving certificate's files: taken into use, or unusable and the old pair kept.
    pub fn tls_reload(&self, done: bool) {
        self.tls_reloads[usize::from(done)].inc();
    }

    /// When an own certificate (`webhook`, `ca`) expires, in seconds since 1970.
    pub fn certificate_expiry(&self, which: &'static str, seconds: f64) {
        self.certificates.get_or_create(&vec![("certificate", which)]).set(seconds);
    }

    /// This replica led and does so no more: another one tells now what only a leader knows.
    pub fn leads_no_more(&self) {
        self.controller.leads_no_more();
        for which in ["ca", "leaf"] {
            self.certificates.remove(&vec![("certificate", which)]);
        }
    }

    /// Number of policy objects with problems, bad whitelist lines, policies and whitelist lines in force.
    pub fn inventory(&self, policies: usize, broken_policies: usize, whitelist_lines: usize, bad_lines: usize) {
        for (gauge, value) in self.inventory.iter().zip([policies, broken_policies, whitelist_lines, bad_lines]) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// A key came into use: fingerprint (or key id), where it came from, expiry in seconds since 1970 if it expires.
    ///
    /// Label values are cut to a bounded length. Of more than [`MAX_KEYS`] keys the one that expires last, or never,
    /// is left out.
    pub fn key(&self, fingerprint: &str, source: &str, expires: Option<f64>) {
        let known = self.key_expiry.add(fingerprint, source, expires);
        self.keys.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// Forgets all keys of this source and of what is below it (`k8s://ns/name`, `k8s://ns/name/file`): call it before
    /// the keys of a source that changed are counted anew, or when the source is gone.
    pub fn forget_keys(&self, source: &str) {
        let known = self.key_expiry.forget(source);
        self.keys.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// Whether a watch (`clusterregistrysecuritypolicies`, …) is in sync.
    pub fn watch(&self, what: &'static str, synced: bool) {
        self.watches.get_or_create(&vec![("resource", what)]).set(i64::from(synced));
    }

    /// The text of `/metrics`; its content type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing into a string does not fail; an empty text is what a scraper reports as broken.
            Err(fmt::Error) => String::new(),
        }
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: EncodeMetric + Clone + fmt::Debug + Send + Sync + 'static,
{
    // The registry ends the help text with a full stop of its own.
    registry.register(name, help.trim_end_matches('.'), metric.clone());
    metric
}

fn single<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: EncodeMetric + Clone + Default + fmt::Debug + Send + Sync + 'static,
{
    register(registry, name, help, M::default())
}

/// Registers a family and gives the handles of all its children, in the order of their labels.
fn family<M, const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    labels: impl Fn(usize) -> Labels,
) -> [M; N]
where
    M: EncodeMetric + TypedMetric + Clone + Default + fmt::Debug + Send + Sync + 'static,
{
    let family = register(registry, name, help, Family::<Labels, M>::default());
    std::array::from_fn(|i| family.get_or_create_owned(&labels(i)))
}

fn images(registry: &mut Registry) -> [[Counter; METHODS.len()]; ENDINGS.len()] {
    let family =
        register(registry, "podseal_images", "Judged images, and the method that passed them.", Family::default());
    std::array::from_fn(|ending| {
        std::array::from_fn(|method| {
            let labels: Labels = vec![("outcome", ENDINGS[ending].label()), ("method", METHODS[method])];
            family.get_or_create_owned(&labels)
        })
    })
}

fn upstream(registry: &mut Registry) -> [[Counter; RESULTS]; UPSTREAMS.len()] {
    let family = register(
        registry,
        "podseal_upstream_requests",
        "Requests to registries, token services and signature stores, by status class or fault.",
        Family::default(),
    );
    let results: Vec<&'static str> = CLASSES.into_iter().chain(FAULTS.map(FaultKind::label)).collect();
    std::array::from_fn(|kind| {
        std::array::from_fn(|result| {
            let labels: Labels = vec![("kind", UPSTREAMS[kind]), ("result", results[result])];
            family.get_or_create_owned(&labels)
        })
    })
}

fn inventory(registry: &mut Registry) -> [Gauge; 4] {
    [
        ("podseal_policies", "Policy objects in force."),
        ("podseal_policies_with_problems", "Policy objects that cannot be honoured as written."),
        ("podseal_whitelist_lines", "Whitelist lines in force."),
        ("podseal_whitelist_bad_lines", "Whitelist lines that were skipped because they cannot be read."),
    ]
    .map(|(name, help)| single(registry, name, help))
}

/// The place of a kind in [`FAULTS`]; a match, so that a new kind does not compile until it has one.
fn fault_slot(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Timeout => 0,
        FaultKind::Unreachable => 1,
        FaultKind::RateLimited => 2,
        FaultKind::Unauthorized => 3,
        FaultKind::BadAnswer => 4,
        FaultKind::TooLarge => 5,
        FaultKind::DigestMismatch => 6,
        FaultKind::AddressRefused => 7,
        FaultKind::Reference => 8,
        FaultKind::Configuration => 9,
        FaultKind::NotSynced => 10,
        FaultKind::Overloaded => 11,
        FaultKind::Internal => 12,
    }
}
