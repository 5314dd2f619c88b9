//! ONE image: route → resolve → fetch → check → combine. The webhook, the command line and, later, the controller all
//! call [`Verifier::judge`]; nothing else decides about an image. [`Verifier::pin`] finds the digest that may stand for a
//! tag, by the same way.
//!
//! ```text
//! judge ─ route ──────────────────────────────► decided (whitelist, no policy, nothing matches)
//!           └ per governing entry: subject ─► digest ─► verdict cache ─► methods in order ─► combine
//! ```

mod cache;
mod cosign;
mod entry;
mod gpg;
mod index;
mod keys;
mod labour;
mod notary;
mod pin;
mod pod;
mod report;
mod slots;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use crate::cluster::roots::{ProcessRoots, RootMemory};
use crate::cluster::{Objects, Snapshot};
use crate::domain::digest::Digest;
use crate::domain::evaluate::{Options, Route, combine, route, without_signature};
use crate::domain::image::{ImageRef, ImageRefError};
use crate::domain::platform::Platform;
use crate::domain::policy::{Check, Entry, PolicySet};
use crate::domain::verdict::{Basis, Cause, EntryOutcome, Failure, Finding, ImageVerdict, Outcome};
use crate::fault::{Fault, FaultKind};
use crate::signature::keyless::TrustRoot;
use crate::source::credentials::DockerConfig;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;
use crate::telemetry::Metrics;

use self::cache::Verdicts;
use self::cosign::bad_root;
use self::keys::Keys;
use self::labour::Labour;
use self::notary::Seen;
use self::pod::Credentials;
use self::slots::Slots;

pub use self::cache::CacheLimits;
pub(crate) use self::entry::{may_name, unusable_text};
pub(crate) use self::keys::{COSIGN_PUB, MAX_TENANT, TRUSTED_ROOT};
pub use self::pin::Pin;
pub use self::pod::PodContext;
pub(crate) use self::report::clean;
pub use self::report::{Line, describe, reason_of};

/// What the administrator set for verification.
#[derive(Debug, Clone)]
pub struct VerifyConfig {
    /// What no policy and what namespaced policies may do.
    pub options: Options,
    /// podseal's own namespace, whose synced key Secrets every policy may name.
    pub own_namespace: Arc<str>,
    /// Further namespaces whose Secrets and `ConfigMaps` namespaced policies may name.
    pub shared_namespaces: Vec<String>,
    /// Verifications under way per namespace; some more wait within their review's deadline.
    pub per_namespace: usize,
    /// How long and how many verdicts are kept.
    pub cache: CacheLimits,
    /// A registry that keeps signatures itself is asked in place of every store, as containers/image does; otherwise only
    /// where no store is configured.
    pub registry_before_store: bool,
    /// The platforms whose manifests an index must have signed; all of them when empty.
    pub platforms: Vec<Platform>,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self {
            options: Options::default(),
            own_namespace: "registry-system".into(),
            shared_namespaces: Vec::new(),
            per_namespace: 16,
            cache: CacheLimits::default(),
            registry_before_store: false,
            platforms: Vec::new(),
        }
    }
}

/// Judges images. One per process.
#[derive(Debug)]
pub struct Verifier {
    config: VerifyConfig,
    upstream: Arc<Upstream>,
    objects: Arc<dyn Objects>,
    registries_d: ArcSwap<RegistriesD>,
    /// The administrator's registry credentials.
    credentials: ArcSwap<DockerConfig>,
    /// The installation's trust root for keyless signatures; without it the public one.
    trust_root: ArcSwapOption<TrustRoot>,
    keys: Keys,
    pull_secrets: pod::PullSecrets,
    verdicts: Verdicts,
    slots: Slots,
    labour: Labour,
    /// Roots of trust that were seen first.
    roots: Arc<dyn RootMemory>,
    /// Versions of trust data that were seen.
    seen: Seen,
    metrics: Arc<Metrics>,
}

impl Verifier {
    /// Puts the parts together; registries.d and the administrator's credentials start empty.
    pub fn new(
        config: VerifyConfig,
        upstream: Arc<Upstream>,
        objects: Arc<dyn Objects>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            verdicts: Verdicts::new(config.cache),
            slots: Slots::new(config.per_namespace),
            labour: Labour::new(),
            roots: Arc::new(ProcessRoots::default()),
            seen: Seen::new(),
            keys: Keys::new(metrics.clone()),
            trust_root: ArcSwapOption::empty(),
            pull_secrets: pod::PullSecrets::new(),
            registries_d: ArcSwap::default(),
            credentials: ArcSwap::default(),
            config,
            upstream,
            objects,
            metrics,
        }
    }

    /// Remembers roots of trust there; without it, in this process.
    #[must_use]
    pub fn with_roots(mut self, roots: Arc<dyn RootMemory>) -> Self {
        self.roots = roots;
        self
    }

    /// Replaces the signature stores of registries.d.
    pub fn set_registries_d(&self, registries_d: RegistriesD) {
        self.registries_d.store(Arc::new(registries_d));
    }

    /// Replaces the trust root of the installation for keyless signatures, which is the public Sigstore's at first.
    pub fn set_trust_root(&self, root: TrustRoot) {
        self.trust_root.store(Some(Arc::new(root)));
    }

    /// The trust root of the installation.
    fn installed_root(&self) -> Result<Arc<TrustRoot>, Fault> {
        static PUBLIC: LazyLock<Result<Arc<TrustRoot>, String>> =
            LazyLock::new(|| TrustRoot::public_good().map(Arc::new));
        match self.trust_root.load_full() {
            Some(root) => Ok(root),
            None => PUBLIC.clone().map_err(|why| bad_root("this version", &why)),
        }
    }

    /// Replaces the administrator's PEM certificates. What cannot be read changes nothing.
    pub fn set_extra_ca(&self, pem: &[u8]) -> Result<(), String> {
        self.upstream.set_extra_ca(pem)
    }

    /// Replaces the addresses of the API server, which namespaced policies may not lead to.
    pub fn set_api_servers(&self, addresses: &[std::net::IpAddr]) {
        self.upstream.set_api_servers(addresses);
    }

    /// Replaces the administrator's registry credentials.
    pub fn set_credentials(&self, credentials: DockerConfig) {
        self.credentials.store(Arc::new(credentials));
    }

    /// Decides about one image of a Pod. Never fails and never takes longer than the deadline: what cannot be decided in
    /// time is [`Outcome::Undecided`].
    pub async fn judge(
        &self,
        snapshot: &Snapshot,
        image: &str,
        pod: &PodContext<'_>,
        deadline: Instant,
    ) -> ImageVerdict {
        let parsed = image.parse::<ImageRef>();
        let mut verdict = undecided(image, parsed.as_ref().ok().and_then(|i| i.digest().cloned()));
        match (self.route(snapshot, pod.namespace, &parsed), parsed) {
            (Route::Decided(outcome), _) => verdict.outcome = outcome,
            (Route::Judge(_), Err(error)) => {
                let fault = Fault::new(FaultKind::Internal, error.to_string());
                verdict.outcome = Outcome::Undecided(vec![without_entry(fault)]);
            }
            (Route::Judge(entries), Ok(image)) => {
                self.judge_entries(entries, &image, pod, deadline, &mut verdict).await;
            }
        }
        self.count(&verdict);
        verdict
    }

    /// Decides about one image by these entries, every one of which must pass, and by nothing else. Never fails and never
    /// takes longer than the deadline.
    pub async fn judge_by(
        &self,
        entries: Vec<Arc<Entry>>,
        image: &ImageRef,
        pod: &PodContext<'_>,
        deadline: Instant,
    ) -> ImageVerdict {
        let mut verdict = undecided(&image.to_string(), image.digest().cloned());
        self.judge_entries(entries, image, pod, deadline, &mut verdict).await;
        self.count(&verdict);
        verdict
    }

    /// Where the image goes, as far as no signature is needed.
    fn route(&self, snapshot: &Snapshot, namespace: &str, image: &Result<ImageRef, ImageRefError>) -> Route {
        match &snapshot.policies {
            Some(policies) if snapshot.whitelist_known() => {
                route(policies, &snapshot.whitelist, self.config.options, namespace, image)
            }
            _ => self.route_unsynced(snapshot, namespace, image),
        }
    }

    /// Policies or whitelist are not known. What is known of the whitelist still allows: it is the way out when the
    /// policies cannot be read (an unknown whitelist is empty). Everything else cannot be decided.
    fn route_unsynced(&self, snapshot: &Snapshot, namespace: &str, image: &Result<ImageRef, ImageRefError>) -> Route {
        if let whitelisted
        @ Route::Decided(Outcome::Allowed(Basis::WhitelistedImage(_) | Basis::WhitelistedNamespace)) =
            route(&PolicySet::default(), &snapshot.whitelist, self.config.options, namespace, image)
        {
            whitelisted
        } else {
            let missing = snapshot.missing.join(", ");
            let fault = Fault::new(
                FaultKind::NotSynced,
                format!("podseal does not know these objects of the cluster yet: {missing}"),
            );
            Route::Decided(Outcome::Undecided(vec![without_entry(fault)]))
        }
    }

    async fn judge_entries(
        &self,
        entries: Vec<Arc<Entry>>,
        image: &ImageRef,
        pod: &PodContext<'_>,
        deadline: Instant,
        verdict: &mut ImageVerdict,
    ) {
        let mut credentials = Credentials::new(self, pod, deadline);
        let mut digests = entry::Digests::new(image);
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut cached = true;
        for entry in entries {
            // Entries that need no waiting must not keep the deadline, or other reviews, from their turn.
            tokio::task::coop::consume_budget().await;
            let outcome = match (without_signature(&entry, image), &entry.check) {
                (Some(outcome), _) => outcome,
                (None, Check::Signed(check)) => {
                    let PodContext { namespace, dry_run, .. } = *pod;
                    let subject = entry::Subject { verifier: self, entry: &entry, image, namespace, deadline, dry_run };
                    let (result, from_cache) = subject.judge(check, &mut credentials, &mut digests).await;
                    cached &= from_cache;
                    EntryOutcome { entry, result }
                }
                // Only a signature check is left open by the domain; an entry without an outcome must not vanish.
                (None, _) => {
                    let fault = Fault::new(FaultKind::Internal, "the entry was not judged");
                    EntryOutcome { entry, result: Err(vec![Failure { method: None, cause: Cause::Undecided(fault) }]) }
                }
            };
            outcomes.push(outcome);
        }
        let combined = combine(&outcomes);
        verdict.digest = digests.best().or(verdict.digest.take());
        verdict.outcome = combined.outcome;
        verdict.warned = combined.warned;
        verdict.audited = combined.audited;
        verdict.remarks = credentials.into_remarks();
        verdict.cached = cached;
    }

    fn count(&self, verdict: &ImageVerdict) {
        use crate::telemetry::{Ending, Whitelisted};
        let (ending, method) = match &verdict.outcome {
            Outcome::Allowed(Basis::Policy { pass, .. }) => (Ending::Allowed, pass.method),
            Outcome::Allowed(basis) => {
                match basis {
                    Basis::WhitelistedNamespace => self.metrics.whitelisted(Whitelisted::Namespace),
                    Basis::WhitelistedImage(_) => self.metrics.whitelisted(Whitelisted::Image),
                    _ => {}
                }
                (Ending::Allowed, None)
            }
            Outcome::Denied(_) => (Ending::Denied, None),
            Outcome::Undecided(findings) => {
                let causes = findings.iter().flat_map(|f| &f.failures);
                for fault in
                    causes.filter_map(|f| if let Cause::Undecided(fault) = &f.cause { Some(fault) } else { None })
                {
                    self.metrics.fault(fault.kind());
                }
                (Ending::Error, None)
            }
        };
        self.metrics.image(ending, method);
    }

    /// Clock of key and signature validity.
    fn now() -> SystemTime {
        SystemTime::now()
    }
}

/// A verdict before anything was found out.
fn undecided(image: &str, digest: Option<Digest>) -> ImageVerdict {
    ImageVerdict {
        image: image.to_owned(),
        digest,
        outcome: Outcome::Undecided(Vec::new()),
        warned: Vec::new(),
        audited: Vec::new(),
        remarks: Vec::new(),
        cached: false,
    }
}

fn without_entry(fault: Fault) -> Finding {
    Finding { policy: None, failures: vec![Failure { method: None, cause: Cause::Undecided(fault) }] }
}
