//! One governing entry and one image: keys, credentials, digest, cache, methods.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::{Instant, timeout_at};

use super::Verifier;
use super::cache::{Verdict, VerdictKey};
use super::cosign::CosignMethod;
use super::gpg::GpgMethod;
use super::index::every_child;
use super::keys::{Origin, TRUSTED_ROOT};
use super::notary::{NotaryMaterial, NotaryMethod};
use super::pod::Credentials;
use crate::cluster::{Freshness, SecretData};
use crate::domain::digest::Digest;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::policy::{CosignCheck, Entry, GpgCheck, NotaryCheck, ObjectRef, PolicyId, SignedCheck};
use crate::domain::scope::HostPattern;
use crate::domain::verdict::{Cause, Failure, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::keyless::TrustRoot;
use crate::source::access::{Access, Transport};
use crate::source::lookaside::StoreUrl;
use crate::source::registry::Manifest;

/// How often a review joins or leads a computation before it takes the fault of another one for its own.
const MAX_FLIGHTS: usize = 4;

/// A pass with the time until which it holds.
pub(super) type Signed = (Pass, Option<std::time::SystemTime>);
pub(super) type MethodResult = Result<Signed, Cause>;

/// The digest under judgement: the image's own, or what its tag was resolved to, once.
///
/// What a namespaced entry's transport resolved never serves a cluster entry: a namespace owner could have chosen the
/// server that answered.
pub(super) struct Digests {
    own: Option<Digest>,
    cluster: Option<Digest>,
    namespaced: Option<Digest>,
}

impl Digests {
    pub(super) fn new(image: &ImageRef) -> Self {
        Self { own: image.digest().cloned(), cluster: None, namespaced: None }
    }

    /// The digest to report.
    pub(super) fn best(self) -> Option<Digest> {
        self.own.or(self.cluster).or(self.namespaced)
    }

    fn known(&self, cluster: bool) -> Option<&Digest> {
        let namespaced = self.namespaced.as_ref().filter(|_| !cluster);
        self.own.as_ref().or(self.cluster.as_ref()).or(namespaced)
    }

    fn learn(&mut self, cluster: bool, digest: Digest) {
        *(if cluster { &mut self.cluster } else { &mut self.namespaced }) = Some(digest);
    }
}

/// One entry and one image.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) verifier: &'a Verifier,
    pub(super) entry: &'a Entry,
    pub(super) image: &'a ImageRef,
    pub(super) namespace: &'a str,
    pub(super) deadline: Instant,
    /// Nothing is remembered beyond the answer.
    pub(super) dry_run: bool,
}

/// What the methods need, ready to use.
#[derive(Clone)]
pub(super) struct Material {
    pub(super) access: Access,
    pub(super) digest: Digest,
    /// The image had no digest: its bytes are fetched once and must hash to what the tag was resolved to.
    pub(super) resolved: bool,
    /// It is a manifest of the image's index, which the image's tag does not name.
    pub(super) child: bool,
    pub(super) notary: Option<NotaryMaterial>,
    pub(super) cosign: Option<Result<Arc<SecretData>, Fault>>,
    /// What logs and certificates of cosign signatures are verified with, if anything asks for it.
    pub(super) root: Option<Result<Arc<TrustRoot>, Fault>>,
    /// Where cosign signatures are, when not beside the image.
    pub(super) signatures: Option<(Repository, Access)>,
    pub(super) gpg: Option<Result<Arc<SecretData>, Fault>>,
    pub(super) store: Option<Store>,
}

/// A signature store and how it is reached.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) url: StoreUrl,
    pub(super) access: Access,
}

type Judged = Result<Pass, Vec<Failure>>;

impl Subject<'_> {
    /// The outcome of an entry that asks for signatures, and whether it needed no computation.
    pub(super) async fn judge(
        &self,
        check: &SignedCheck,
        credentials: &mut Credentials<'_>,
        digests: &mut Digests,
    ) -> (Judged, bool) {
        // Time runs out for the entry and not for the image: an entry that only warns still only warns.
        match timeout_at(self.deadline, self.signed(check, credentials, digests)).await {
            Ok(Ok(judged)) => judged,
            Ok(Err(cause)) => (Err(vec![Failure { method: None, cause }]), false),
            Err(_) => (Err(vec![out_of_review()]), false),
        }
    }

    async fn signed(
        &self,
        check: &SignedCheck,
        credentials: &mut Credentials<'_>,
        digests: &mut Digests,
    ) -> Result<(Judged, bool), Cause> {
        let ca = match &check.transport.ca_ref {
            Some(reference) => Some(self.certificates(reference).await.map_err(Cause::Undecided)?),
            None => None,
        };
        let (keychain, tenant) = credentials.keychain(self.entry.takes_administrators_credentials(check)).await;
        let repository = self.image.repository();
        let mut scope = keychain.scope(repository);
        let transport = Transport {
            insecure: check.transport.insecure,
            ca: ca.as_ref().map(|(pem, _)| pem.clone()),
            guarded: !self.entry.is_cluster() || !matches!(self.entry.scope.host, HostPattern::Exact(_)),
            certificate: None,
        };
        let access = Access { transport, keychain, deadline: self.deadline };
        let resolved = self.image.digest().is_none();
        let digest = self.digest(&access, digests).await?;
        let cosign = match check.cosign.as_ref().and_then(|cosign| cosign.key_ref.as_ref()) {
            Some(key_ref) => Some(self.key_secret(key_ref).await),
            None => None,
        };
        let gpg = match &check.gpg {
            Some(gpg) => Some(self.key_secret(&gpg.key_ref).await),
            None => None,
        };
        let store = match &check.gpg {
            Some(gpg) => self.store(gpg, &access)?,
            None => None,
        };
        let (notary, authority) = match &check.notary {
            Some(notary) => {
                let (notary, authority) = NotaryMaterial::of(self, notary, &access).await;
                scope = both(scope, notary.credentials());
                (Some(notary), authority)
            }
            None => (None, [0; 32]),
        };
        let root = match check.cosign.as_deref().filter(|cosign| cosign.needs_trust_root()) {
            Some(cosign) => Some(self.trust_root(cosign).await),
            None => None,
        };
        let signatures = check.cosign.as_ref().and_then(|cosign| cosign.repository.as_ref());
        let signatures = signatures.map(|repository| (repository.clone(), self.elsewhere(repository, &access)));
        let signatures_scope = signatures.as_ref().map_or([0; 32], |(place, access)| access.keychain.scope(place));
        let root_hash = root.as_ref().and_then(|root| root.as_ref().ok()).map_or([0; 32], |root| root.hash());
        let hash = |secret: &Option<Result<Arc<SecretData>, Fault>>| match secret {
            Some(Ok(secret)) => secret.hash,
            _ => [0; 32],
        };
        let key = VerdictKey {
            entry: self.entry.fingerprint,
            reference: self.image.identity_form().to_string(),
            digest: digest.clone(),
            keys: [hash(&cosign), hash(&gpg), ca.as_ref().map_or([0; 32], |(_, hash)| *hash), authority, root_hash],
            store: store.as_ref().map(|store| store.url.to_string()),
            credentials: [scope, signatures_scope],
            namespace: (tenant && [scope, signatures_scope] != [[0; 32]; 2]).then(|| self.namespace.into()),
            // Only where a review would leave something behind: all others share their verdicts with dry runs.
            dry_run: self.dry_run && check.notary.as_ref().is_some_and(NotaryCheck::trusts_first_use),
        };
        let material =
            Material { access, digest, resolved, child: false, notary, cosign, root, signatures, gpg, store };
        Ok(self.cached(key, check, material).await)
    }

    /// From the cache, or computed by one of those who ask at the same time.
    async fn cached(&self, key: VerdictKey, check: &SignedCheck, material: Material) -> (Judged, bool) {
        let mut hit = self.verifier.verdicts.get(&key).await;
        if hit.is_none() && key.dry_run {
            hit = self.verifier.verdicts.get(&VerdictKey { dry_run: false, ..key.clone() }).await;
        }
        self.verifier.metrics.cache(hit.is_some());
        match hit {
            Some(verdict) => (verdict.result.clone(), true),
            // Boxed: what only a miss needs would make every review's future several times as large.
            None => (Box::pin(self.computed(key, check, material)).await, false),
        }
    }

    async fn computed(&self, key: VerdictKey, check: &SignedCheck, material: Material) -> Judged {
        // The place comes before the flight: whoever computes for everybody has one, so a namespace that has used up
        // its own never holds up another one.
        let place = self.verifier.slots.enter(self.namespace, self.deadline).await;
        let _place = place.map_err(|fault| vec![undecided(fault)])?;
        for attempt in 1..=MAX_FLIGHTS {
            let flight = self.verifier.verdicts.compute(key.clone(), Box::pin(self.compute(check, &material)));
            match flight.await {
                Ok(verdict) => return verdict.result.clone(),
                // Another review led, and its time ran out before this one's: try again, by ourselves if need be.
                Err(failures) if attempt < MAX_FLIGHTS && out_of_time(&failures) && Instant::now() < self.deadline => {}
                Err(failures) => return Err((*failures).clone()),
            }
        }
        Err(vec![out_of_review()])
    }

    /// The verdict on the digest: by its own signatures, else by those of all manifests of an index. `Err` when a fault
    /// leaves it open.
    async fn compute(&self, check: &SignedCheck, material: &Material) -> Result<Arc<Verdict>, Vec<Failure>> {
        let manifest = if material.resolved {
            Some(self.bytes(material).await.map_err(|cause| vec![Failure { method: None, cause }])?)
        } else {
            None
        };
        let mut failures = match self.methods(check, material).await {
            Ok(signed) => return Ok(passed(signed)),
            Err(failures) => failures,
        };
        if !is_open(&failures) && could_be_signed(&failures) {
            match every_child(self, check, material, manifest).await {
                Ok(Some(signed)) => return Ok(passed(signed)),
                Ok(None) => {}
                Err(failure) => failures.push(failure),
            }
        }
        if is_open(&failures) {
            return Err(failures);
        }
        Ok(Arc::new(Verdict { result: Err(failures), valid_until: None }))
    }

    /// Tries the methods in order on one digest; the first success passes.
    pub(super) async fn methods(&self, check: &SignedCheck, material: &Material) -> Result<Signed, Vec<Failure>> {
        let mut failures = Vec::new();
        if let (Some(check_notary), Some(notary)) = (&check.notary, &material.notary) {
            let method = NotaryMethod { subject: self, check: check_notary, signers: &check.signers, material, notary };
            match method.judge().await {
                Ok(signed) => return Ok(signed),
                Err(cause) => failures.push(Failure { method: Some(Method::Notary), cause }),
            }
        }
        if let Some(cosign) = &check.cosign {
            let method = CosignMethod { subject: self, check: cosign, signers: &check.signers, material };
            match method.judge().await {
                Ok(signed) => return Ok(signed),
                Err(cause) => failures.push(Failure { method: Some(Method::Cosign), cause }),
            }
        }
        if let (Some(gpg), Some(secret)) = (&check.gpg, &material.gpg) {
            let method = GpgMethod { subject: self, check: gpg, signers: &check.signers, material };
            match method.judge(secret).await {
                Ok(signed) => return Ok(signed),
                Err(cause) => failures.push(Failure { method: Some(Method::Gpg), cause }),
            }
        }
        Err(failures)
    }

    async fn digest(&self, access: &Access, digests: &mut Digests) -> Result<Digest, Cause> {
        let cluster = self.entry.is_cluster();
        if let Some(known) = digests.known(cluster) {
            return Ok(known.clone());
        }
        let tag = self.image.tag().unwrap_or("latest");
        let place = self.verifier.slots.enter(self.namespace, self.deadline).await;
        let _place = place.map_err(Cause::Undecided)?;
        let found = Box::pin(self.verifier.upstream.resolve(self.image.repository(), tag, access)).await;
        let found = found.map_err(Cause::Undecided)?;
        let digest = found.ok_or_else(|| self.not_found())?;
        digests.learn(cluster, digest.clone());
        Ok(digest)
    }

    /// The store of the policy, else that of registries.d. Only what a namespaced policy names is kept from addresses
    /// such as loopback; a store of the administrator may be anywhere.
    fn store(&self, gpg: &GpgCheck, access: &Access) -> Result<Option<Store>, Cause> {
        let (url, guarded) = match &gpg.lookaside {
            Some(lookaside) => (StoreUrl::from_policy(lookaside).map_err(configuration)?, !self.entry.is_cluster()),
            None => match self.verifier.registries_d.load().lookaside(self.image) {
                Some(url) => (url.clone(), false),
                None => return Ok(None),
            },
        };
        let transport = Transport { guarded, ..access.transport.clone() };
        Ok(Some(Store { url, access: Access { transport, ..access.clone() } }))
    }

    /// The manifest under judgement; its bytes have the digest.
    pub(super) async fn bytes(&self, material: &Material) -> Result<Manifest, Cause> {
        let upstream = &self.verifier.upstream;
        let found = upstream.manifest(self.image.repository(), &material.digest, &material.access).await;
        found.map_err(Cause::Undecided)?.ok_or_else(|| self.not_found())
    }

    fn not_found(&self) -> Cause {
        let detail = format!("the registry says that {} does not exist", self.image);
        Cause::Refused(Refusal::new(RefusalKind::NotFound, detail))
    }

    /// A key Secret that the entry may use; one and the same fault for every reason why it cannot.
    async fn key_secret(&self, reference: &ObjectRef) -> Result<Arc<SecretData>, Fault> {
        let own = *reference.namespace == *self.verifier.config.own_namespace;
        if !self.may_name(reference) && !own {
            return Err(unusable(reference));
        }
        let found =
            self.verifier.objects.secret(&reference.namespace, &reference.name, Freshness::Key, self.deadline).await;
        match found {
            Ok(Some(secret)) if self.may_name(reference) || secret.synced_key => Ok(secret),
            Ok(_) => Err(unusable(reference)),
            Err(fault) if fault.kind() == FaultKind::Reference => {
                Err(unusable(reference).with_detail(fault.detail().unwrap_or("")))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The trust root that the entry names, else the installation's.
    async fn trust_root(&self, check: &CosignCheck) -> Result<Arc<TrustRoot>, Fault> {
        let Some(reference) = &check.trust_root else { return self.verifier.installed_root() };
        let object = self.object(reference, TRUSTED_ROOT).await?;
        let Verifier { keys, labour, .. } = self.verifier;
        keys.trust_root(labour, self.origin(reference, &object), &object).await
    }

    /// Another repository, for the signatures: reached as the image's registry on the same host, and otherwise without
    /// what the entry says about that one. Credentials are found by the repository's own name.
    fn elsewhere(&self, repository: &Repository, access: &Access) -> Access {
        let same = repository.host() == self.image.repository().host();
        let transport = Transport {
            insecure: same && access.transport.insecure,
            ca: access.transport.ca.clone().filter(|_| same),
            guarded: !self.entry.is_cluster(),
            certificate: None,
        };
        Access { transport, ..access.clone() }
    }

    /// `ca.crt` of a Secret, else of a `ConfigMap`, with the object's hash.
    pub(super) async fn certificates(&self, reference: &ObjectRef) -> Result<(Arc<[u8]>, [u8; 32]), Fault> {
        let object = self.object(reference, "ca.crt").await?;
        let pem = object.data.get("ca.crt").ok_or_else(|| unusable(reference))?;
        Ok((Arc::from(pem.as_ref()), object.hash))
    }

    /// The Secret, else the `ConfigMap`, that holds this key.
    async fn object(&self, reference: &ObjectRef, key: &str) -> Result<Arc<SecretData>, Fault> {
        if !self.may_name(reference) {
            return Err(unusable(reference));
        }
        let objects = &self.verifier.objects;
        let (namespace, name) = (&reference.namespace, &reference.name);
        let secret = objects.secret(namespace, name, Freshness::Key, self.deadline).await;
        let with_key = |object: Option<Arc<SecretData>>| object.filter(|o| o.data.contains_key(key));
        let found = match secret.map(with_key) {
            Ok(Some(secret)) => Some(secret),
            Ok(None) => {
                with_key(objects.config_map(namespace, name, self.deadline).await.map_err(|_| unusable(reference))?)
            }
            Err(fault) if fault.kind() == FaultKind::Reference => None,
            Err(fault) => return Err(fault),
        };
        found.ok_or_else(|| unusable(reference))
    }

    /// On whose behalf a key Secret is read.
    pub(super) fn origin<'a>(&'a self, reference: &'a ObjectRef, secret: &SecretData) -> Origin<'a> {
        let tenant = !self.entry.is_cluster() && !secret.synced_key;
        Origin { reference, namespace: self.namespace, tenant, deadline: self.deadline }
    }

    fn may_name(&self, reference: &ObjectRef) -> bool {
        may_name(&self.entry.policy, reference, &self.verifier.config.shared_namespaces)
    }
}

/// Whose credentials reach two servers: zero when both are asked anonymously.
fn both(registry: [u8; 32], notary: [u8; 32]) -> [u8; 32] {
    if notary == [0; 32] {
        return registry;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, [registry, notary].as_flattened()).as_ref());
    hash
}

/// Cluster policies may name anything; namespaced ones their own namespace and those the administrator shares.
pub(crate) fn may_name(policy: &PolicyId, reference: &ObjectRef, shared_namespaces: &[String]) -> bool {
    match &policy.namespace {
        None => true,
        Some(own) => {
            *own == reference.namespace || shared_namespaces.iter().any(|shared| **shared == *reference.namespace)
        }
    }
}

fn unusable(reference: &ObjectRef) -> Fault {
    Fault::new(FaultKind::Reference, unusable_text(reference))
}

/// One text for every reason, so that nobody learns from it what exists where he may not read.
pub(crate) fn unusable_text(reference: &ObjectRef) -> String {
    format!(
        "the reference {reference} cannot be used: it does not exist, lacks the needed key, or may not be named here"
    )
}

fn configuration(message: String) -> Cause {
    Cause::Undecided(Fault::new(FaultKind::Configuration, message))
}

fn undecided(fault: Fault) -> Failure {
    Failure { method: None, cause: Cause::Undecided(fault) }
}

fn out_of_review() -> Failure {
    undecided(Fault::new(FaultKind::Timeout, "the time of this review ran out before the image was judged"))
}

fn passed((pass, valid_until): Signed) -> Arc<Verdict> {
    Arc::new(Verdict { result: Ok(pass), valid_until })
}

fn is_open(failures: &[Failure]) -> bool {
    failures.iter().any(|f| matches!(f.cause, Cause::Undecided(_)))
}

/// Whether other digests could fare better: not without any key.
fn could_be_signed(failures: &[Failure]) -> bool {
    failures.iter().any(|f| !matches!(&f.cause, Cause::Refused(refusal) if refusal.kind == RefusalKind::NoPublicKeys))
}

/// Whether more time might have helped: each of these kinds depends on the deadline of the one who led.
fn out_of_time(failures: &[Failure]) -> bool {
    const KINDS: [FaultKind; 3] = [FaultKind::Timeout, FaultKind::Overloaded, FaultKind::RateLimited];
    failures.iter().any(|f| matches!(&f.cause, Cause::Undecided(fault) if KINDS.contains(&fault.kind())))
}
