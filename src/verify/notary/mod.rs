//! Docker Content Trust: the trust data of the image's repository, fetched and verified once for all digests of an image.
//!
//! ```text
//!   root.json ─ trusted by key id, by authority, or remembered from the first time
//!     │           └ not itself: older `<n>.root.json` back to a trusted one, and forward again, each by the one before
//!     └► timestamp ─► snapshot ─► targets ─► targets/releases and the roles of listed signers
//!          └► nothing older than what was seen before ─► the question about tag and digest ─► first use remembered
//! ```
//! "Not signed" is only what the server says by 404 to the question for the root, and trust data that is complete and
//! does not have the tag; every other missing or late file is an obstacle.

mod loading;
mod roots;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;

use self::loading::Loading;
use self::roots::FirstRoot;
use super::Verifier;
use super::entry::{Material, MethodResult, Subject};
use crate::domain::policy::{NotaryCheck, NotaryTrust};
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::notary::{Collection, Versions};
use crate::source::access::{Access, Transport};
use crate::source::notary::{NotarySource, NotaryUrl};

/// Repositories whose versions are remembered, and for how long after the last look.
const MAX_SEEN: u64 = 20_000;
const SEEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// What was seen before, so that nothing goes back to it.
#[derive(Debug)]
pub(super) struct Seen(moka::sync::Cache<[u8; 32], Arc<Versions>>);

impl Seen {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MAX_SEEN).time_to_idle(SEEN).build())
    }

    /// Refuses what is older than what was seen in this place before.
    fn check(&self, place: [u8; 32], versions: &Versions) -> Result<(), SignatureError> {
        versions.check(&self.0.get(&place).unwrap_or_default())
    }

    /// The same, and else it is what was seen.
    fn advance(&self, place: [u8; 32], versions: Versions) -> Result<(), SignatureError> {
        self.check(place, &versions)?;
        // Another review may have gone further meanwhile: the highest stays.
        self.0.entry(place).and_upsert_with(|entry| {
            let known = entry.map(moka::Entry::into_value).unwrap_or_default();
            Arc::new(versions.merged(&known))
        });
        Ok(())
    }
}

/// What asking the server takes, and its answer, once it is there.
#[derive(Clone)]
pub(super) struct NotaryMaterial {
    pub(super) source: Result<NotarySource, Fault>,
    pub(super) access: Access,
    /// `ca.crt` of `notaryTrust.caRef`.
    pub(super) authority: Option<Result<Arc<[u8]>, Fault>>,
    pub(super) loaded: Arc<OnceCell<Result<Loaded, Cause>>>,
}

impl NotaryMaterial {
    /// How the entry's Notary server is reached, and the hash of the authority that its roots must come from.
    pub(super) async fn of(subject: &Subject<'_>, check: &NotaryCheck, access: &Access) -> (Self, [u8; 32]) {
        let url = NotaryUrl::from_policy(&check.server)
            .map_err(|why| Fault::new(FaultKind::Configuration, format!("notary cannot be used: {why}")));
        let source = url.and_then(|url| NotarySource::new(url, subject.image.repository()));
        let authority = match &check.trust {
            Some(NotaryTrust::Authority(reference)) => Some(subject.certificates(reference).await),
            _ => None,
        };
        let hash = authority.as_ref().and_then(|found| found.as_ref().ok()).map_or([0; 32], |(_, hash)| *hash);
        let transport = Transport {
            // Whoever is on the way could put in a root of his own, and it would be remembered.
            insecure: access.transport.insecure && check.trust != Some(NotaryTrust::FirstUse),
            // The policy names the server itself, whatever wildcard the registry is named by.
            guarded: !subject.entry.is_cluster(),
            ..access.transport.clone()
        };
        let material = Self {
            source,
            access: Access { transport, ..access.clone() },
            authority: authority.map(|found| found.map(|(pem, _)| pem)),
            loaded: Arc::default(),
        };
        (material, hash)
    }

    /// A hash of the credentials that the server would get; zero for none.
    pub(super) fn credentials(&self) -> [u8; 32] {
        self.source.as_ref().map_or([0; 32], |source| source.credentials(&self.access.keychain))
    }
}

/// Verified trust data.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    collection: Arc<Collection>,
    /// The earliest expiry in it.
    valid_until: SystemTime,
    /// A root that nobody keeps yet.
    first: Option<Arc<FirstRoot>>,
}

/// Why loading stopped.
enum Stop {
    Cause(Cause),
    /// Not sound, or changed while it was read.
    Unsound(SignatureError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Cause(Cause::Undecided(fault))
    }
}

impl From<SignatureError> for Stop {
    fn from(error: SignatureError) -> Self {
        Self::Unsound(error)
    }
}

pub(super) struct NotaryMethod<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) check: &'a NotaryCheck,
    pub(super) signers: &'a [String],
    pub(super) material: &'a Material,
    pub(super) notary: &'a NotaryMaterial,
}

impl NotaryMethod<'_> {
    pub(super) async fn judge(&self) -> MethodResult {
        let loaded = self.notary.loaded.get_or_init(|| Box::pin(self.load())).await;
        let Loaded { collection, valid_until, first } = loaded.as_ref().map_err(Clone::clone)?;
        // With a digest the tag is free text, and the manifests of an index have none.
        let image = self.subject.image;
        let tag = if self.material.child || image.digest().is_some() { None } else { image.tag() };
        let signer = collection.judge(tag, &self.material.digest, self.signers).map_err(Cause::Refused)?;
        if let Some(first) = first {
            first.keep(self.subject).await?;
        }
        Ok((Pass { method: Some(Method::Notary), signer: Some(signer) }, Some(*valid_until)))
    }

    async fn load(&self) -> Result<Loaded, Cause> {
        let source = self.notary.source.as_ref().map_err(|fault| Cause::Undecided(fault.clone()))?;
        let Some(trust) = &self.check.trust else {
            let message = "notary is not used without notaryTrust: set rootKeyIds, caRef or firstUse in the policy";
            return Err(Cause::Undecided(Fault::new(FaultKind::Configuration, message)));
        };
        let loading = Loading { method: self, source, trust, now: Verifier::now() };
        let first = match loading.run().await {
            // Files that do not belong together: somebody may have published between two requests.
            Err(Stop::Unsound(SignatureError::Mismatch(_))) => loading.run().await,
            first => first,
        };
        first.map_err(|stop| match stop {
            Stop::Cause(cause) => cause,
            Stop::Unsound(error) => {
                let detail = format!("the trust data of {} on {} does not hold: {error}", source.gun(), source.url());
                Cause::Refused(Refusal::new(RefusalKind::Invalid, detail))
            }
        })
    }
}
