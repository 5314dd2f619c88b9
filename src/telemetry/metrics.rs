//! The metrics of the process, in the `OpenMetrics` text format.
//!
//! Every label value comes from a closed set that is known when the process starts, so that no request can make
//! series (only the key metric has values from outside, and it is cut off at [`MAX_KEYS`]). The children of each
//! family are looked up once; counting afterwards is an atomic addition without a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::domain::verdict::Method;
use crate::fault::FaultKind;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How many keys are known by name; those that expire first are kept.
pub const MAX_KEYS: usize = 1000;
/// Longest label value that comes from outside, in characters.
const MAX_LABEL_CHARS: usize = 128;

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

/// Which upstream server a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamKind {
    /// A registry.
    Registry,
    /// A token service.
    Token,
    /// A signature store.
    Store,
}

const ENDINGS: [Ending; 3] = [Ending::Allowed, Ending::Denied, Ending::Error];
const METHODS: [&str; 4] = ["none", "notary", "cosign", "gpg"];
const UPSTREAMS: [&str; 3] = ["registry", "token", "store"];
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

/// Upper bounds of the duration buckets. A cached review takes well under a millisecond, one that asks a registry up
/// to the ten seconds of the API server's default timeout; the last bucket is everything above.
const BOUNDS: [Duration; 15] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

type Labels = Vec<(&'static str, &'static str)>;

/// A histogram of durations without a lock. A scrape may see a count that is one ahead of the sum: harmless.
#[derive(Debug, Clone, Default)]
struct Timing(Arc<TimingCells>);

#[derive(Debug, Default)]
struct TimingCells {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Timing {
    fn observe(&self, elapsed: Duration) {
        let slot = BOUNDS.iter().position(|bound| elapsed <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.0.buckets.get(slot) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timing {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Fingerprint and source of a key → when it expires. A scrape sees the set before or after a change, never half.
#[derive(Debug, Default)]
struct KeyExpiry(Mutex<BTreeMap<(String, String), Option<f64>>>);

impl KeyExpiry {
    /// A panic while the lock is held cannot leave the map inconsistent.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Option<f64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for KeyExpiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "podseal_key_expiry_timestamp_seconds",
            "When a trusted key expires, in seconds since 1970 (keys without an expiry have no series).",
            None,
            MetricType::Gauge,
        )?;
        let keys = self.lock().clone();
        for ((key, source), expiry) in keys {
            let Some(expiry) = expiry else { continue };
            let labels = [("key", key.as_str()), ("source", source.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&expiry)?;
        }
        Ok(())
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: [Counter; ENDINGS.len()],
    review_duration: Timing,
    images: [[Counter; METHODS.len()]; ENDINGS.len()],
    whitelisted: [Counter; 3],
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
            reviews: family(r, "podseal_reviews", "Answered admission reviews.", |i| vec![("outcome", ENDINGS[i].label())]),
            review_duration: single(r, "podseal_review_duration_seconds", "Time from request to answer."),
            images: images(r),
            whitelisted: family(r, "podseal_whitelisted", "Allowances that the whitelist gave.", |i| {
                vec![("by", ["image", "namespace", "other"][i])]
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
            key_expiry,
            registry,
        }
    }

    /// One answered review.
    pub fn review(&self, ending: Ending, elapsed: Duration) {
        self.reviews[ending as usize].inc();
        self.review_duration.observe(elapsed);
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

    /// One allowance that the whitelist gave (`image` or `namespace`; anything else is counted as `other`).
    pub fn whitelisted(&self, by: &'static str) {
        let slot = match by {
            "image" => 0,
            "namespace" => 1,
            _ => 2,
        };
        self.whitelisted[slot].inc();
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
        let mut keys = self.key_expiry.lock();
        keys.insert((label(fingerprint), label(source)), expires);
        if keys.len() > MAX_KEYS {
            let late = |expires: &Option<f64>| expires.unwrap_or(f64::INFINITY);
            let last = keys.iter().max_by(|a, b| late(a.1).total_cmp(&late(b.1))).map(|(key, _)| key.clone());
            last.and_then(|last| keys.remove(&last));
        }
        self.keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
    }

    /// Forgets all keys of this source and of what is below it (`k8s://ns/name`, `k8s://ns/name/file`): call it before
    /// the keys of a source that changed are counted anew, or when the source is gone.
    pub fn forget_keys(&self, source: &str) {
        let source = label(source);
        let mut keys = self.key_expiry.lock();
        keys.retain(|(_, of), _| of.strip_prefix(&source).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')));
        self.keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
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

/// A label value from outside: bounded, and without control characters.
fn label(value: &str) -> String {
    value.chars().take(MAX_LABEL_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_kind_has_its_own_label() {
        for (slot, kind) in FAULTS.into_iter().enumerate() {
            assert_eq!(fault_slot(kind), slot, "{kind:?}");
        }
    }

    #[test]
    fn the_text_holds_what_was_counted() {
        let metrics = Metrics::new();
        metrics.review(Ending::Denied, Duration::from_millis(3));
        metrics.image(Ending::Allowed, Some(Method::Gpg));
        metrics.whitelisted("namespace");
        metrics.fault(FaultKind::Unreachable);
        metrics.cache(true);
        metrics.upstream(UpstreamKind::Registry, Duration::from_millis(30), Ok(404));
        metrics.upstream(UpstreamKind::Store, Duration::from_secs(60), Err(FaultKind::Timeout));
        metrics.upstream(UpstreamKind::Store, Duration::ZERO, Ok(0));
        metrics.shed();
        metrics.inventory(4, 3, 2, 1);
        metrics.watch("secrets", true);
        metrics.certificate_expiry("webhook", 1_800_000_000.0);
        metrics.key("AB", "Secret/a\"b\n", Some(17.0));
        metrics.key("CD", "x", None);
        let text = metrics.encode();
        for line in [
            "podseal_reviews_total{outcome=\"denied\"} 1",
            "podseal_reviews_total{outcome=\"allowed\"} 0",
            "podseal_review_duration_seconds_bucket{le=\"0.0025\"} 0",
            "podseal_review_duration_seconds_bucket{le=\"0.005\"} 1",
            "podseal_review_duration_seconds_bucket{le=\"+Inf\"} 1",
            "podseal_review_duration_seconds_sum 0.003",
            "podseal_images_total{outcome=\"allowed\",method=\"gpg\"} 1",
            "podseal_whitelisted_total{by=\"namespace\"} 1",
            "podseal_faults_total{kind=\"unreachable\"} 1",
            "podseal_cache_total{result=\"hit\"} 1",
            "podseal_upstream_requests_total{kind=\"registry\",result=\"4xx\"} 1",
            "podseal_upstream_requests_total{kind=\"store\",result=\"timeout\"} 1",
            "podseal_upstream_requests_total{kind=\"store\",result=\"other\"} 1",
            "podseal_upstream_duration_seconds_bucket{le=\"10.0\",kind=\"store\"} 1",
            "podseal_shed_total 1",
            "podseal_policies 4",
            "podseal_policies_with_problems 3",
            "podseal_whitelist_lines 2",
            "podseal_whitelist_bad_lines 1",
            "podseal_watch_synced{resource=\"secrets\"} 1",
            "podseal_certificate_expiry_timestamp_seconds{certificate=\"webhook\"} 1800000000.0",
            "podseal_keys 2",
            "podseal_key_expiry_timestamp_seconds{key=\"AB\",source=\"Secret/a\\\"b?\"} 17.0",
            concat!("podseal_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "missing {line} in\n{text}");
        }
    }

    #[test]
    fn h18_key_series_are_bounded_and_without_doubles() {
        let metrics = Metrics::new();
        let source = format!("k8s://a/{}", "s".repeat(5000));
        metrics.key("forever", &source, None);
        for i in (0..1500).rev().chain([0]) {
            metrics.key(&format!("{i:04}"), &source, Some(f64::from(i)));
        }
        let text = metrics.encode();
        let series: Vec<&str> = text.lines().filter(|l| l.starts_with("podseal_key_expiry")).collect();
        assert_eq!(series.len(), MAX_KEYS);
        assert!(series.iter().all(|line| line.len() < 300));
        assert_eq!(series.iter().filter(|line| line.contains("key=\"0000\"")).count(), 1);
        assert!(text.contains("key=\"0999\"") && !text.contains("key=\"1000\""), "those that expire first are kept");
    }

    #[test]
    fn keys_of_a_source_that_is_gone_have_no_series_and_others_keep_theirs() {
        let metrics = Metrics::new();
        metrics.key("AA", "k8s://ns/one/a.pgp", Some(1.0));
        metrics.key("BB", "k8s://ns/one", Some(1.0));
        metrics.key("CC", "k8s://ns/one2/a.pgp", Some(1.0));
        metrics.forget_keys("k8s://ns/one");
        let text = metrics.encode();
        assert!(!text.contains("key=\"AA\"") && !text.contains("key=\"BB\"") && text.contains("key=\"CC\""));
        assert!(text.lines().any(|line| line == "podseal_keys 1"));
    }

    #[test]
    fn h18_traffic_makes_no_new_series() {
        let metrics = Metrics::new();
        let before = metrics.encode().lines().count();
        for status in 0..1000 {
            metrics.upstream(UpstreamKind::Token, Duration::from_millis(u64::from(status)), Ok(status));
        }
        metrics.whitelisted("made up");
        assert_eq!(metrics.encode().lines().count(), before);
    }
}
