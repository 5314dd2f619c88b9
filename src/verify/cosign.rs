//! cosign signatures and attestations of one image: the legacy `.sig` and `.att` tags and bundles among the referrers,
//! looked for at the same time.
//!
//! ```text
//!  .sig ┐                        ┌ verify (blocking thread) ┐
//!  .att ├ candidates, one by one ┤ Trust: keys, certificates├ Claim ─► Tally: who signed what ─► enough? done
//!  bundles ┘                     └ expressions              ┘
//! ```
//! What has been found of all places counts together, so that nothing that stands beside a good signature hides it. As
//! soon as it is enough the search ends. What is not there follows only from complete answers of all places.

mod search;
mod tally;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use self::search::{Place, Search, TrustSet};
use self::tally::Tally;
use super::entry::{Material, MethodResult, Subject};
use super::keys::COSIGN_PUB;
use crate::domain::expression::Budget;
use crate::domain::policy::CosignCheck;
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::cosign::PublicKeys;
use crate::signature::keyless::{Evidence, TrustRoot};

pub(super) struct CosignMethod<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) check: &'a CosignCheck,
    pub(super) signers: &'a [String],
    pub(super) material: &'a Material,
}

/// What could be had of keys and trust root.
struct Means {
    keys: Arc<PublicKeys>,
    root: Option<Arc<TrustRoot>>,
    /// Why something of it is missing. It matters only if what is there does not suffice.
    obstacle: Option<Fault>,
}

impl CosignMethod<'_> {
    pub(super) async fn judge(&self) -> MethodResult {
        let means = self.means().await.map_err(Cause::Undecided)?;
        let check = self.check;
        let by_key = !means.keys.is_empty() && (means.root.is_some() || !check.log_for_keys);
        let keyless = !check.identities.is_empty() && means.root.is_some();
        if !by_key && !keyless {
            let refusal = || Cause::Refused(Refusal::new(RefusalKind::NoPublicKeys, self.no_keys()));
            return Err(means.obstacle.map_or_else(refusal, Cause::Undecided));
        }
        let evidence = Evidence { log: check.log_for_identities, sct: check.sct };
        let trust = TrustSet {
            keys: means.keys,
            root: means.root,
            log_for_keys: check.log_for_keys,
            keyless: keyless.then_some(evidence),
            attestations: check.attestations.clone(),
            identities: check.identities.clone(),
            budget: Budget::default(),
        };
        let tally = Mutex::new(Tally::new(check, self.signers, self.subject.image));
        let search = Search {
            subject: self.subject,
            place: Place::of(self),
            digest: &self.material.digest,
            trust: Arc::new(trust),
            tally: &tally,
        };
        let fault = self.run(&search).await;
        let tally = locked(&tally);
        match (tally.complete(), fault.or(means.obstacle)) {
            (true, _) => Ok((Pass { method: Some(Method::Cosign), signer: tally.signer() }, None)),
            (false, Some(fault)) => Err(Cause::Undecided(fault)),
            (false, None) => Err(Cause::Refused(tally.refusal(&self.material.digest, search.place.repository))),
        }
    }

    /// Goes through all places until it is enough; the first obstacle that was met.
    async fn run(&self, search: &Search<'_>) -> Option<Fault> {
        let mut places = FuturesUnordered::new();
        places.push(Box::pin(search.tagged(search::SIGNATURES)) as search::Walk<'_>);
        places.push(Box::pin(search.bundles()));
        if !self.check.attestations.is_empty() {
            places.push(Box::pin(search.tagged(search::ATTESTATIONS)));
        }
        let mut obstacle = None;
        while let Some(ended) = places.next().await {
            match ended {
                Ok(()) if locked(search.tally).complete() => return None,
                Ok(()) => {}
                Err(fault) => {
                    obstacle.get_or_insert(fault);
                }
            }
        }
        obstacle
    }

    async fn means(&self) -> Result<Means, Fault> {
        let Subject { verifier, .. } = self.subject;
        let mut means = Means { keys: Arc::new(PublicKeys::default()), root: None, obstacle: None };
        match (&self.check.key_ref, &self.material.cosign) {
            (Some(key_ref), Some(Ok(secret))) => {
                let origin = self.subject.origin(key_ref, secret);
                means.keys = verifier.keys.cosign(&verifier.labour, origin, secret).await?;
            }
            (Some(_), Some(Err(fault))) => means.obstacle = Some(fault.clone()),
            _ => {}
        }
        match &self.material.root {
            Some(Ok(root)) => means.root = Some(root.clone()),
            Some(Err(fault)) => means.obstacle = means.obstacle.or(Some(fault.clone())),
            None => {}
        }
        Ok(means)
    }

    fn no_keys(&self) -> String {
        let named = self.check.key_ref.as_ref().map_or_else(String::new, |key_ref| format!(" from {key_ref}"));
        format!("no public keys imported{named} ({COSIGN_PUB})")
    }
}

/// Nothing is left half done under the lock, so a panic elsewhere spoils nothing.
fn locked<'a, 'b>(tally: &'a Mutex<Tally<'b>>) -> MutexGuard<'a, Tally<'b>> {
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A trust root as it stands in a Secret or `ConfigMap`.
pub(super) fn bad_root(place: &str, why: &str) -> Fault {
    Fault::new(FaultKind::Configuration, format!("the trust root of {place} {why}"))
}
