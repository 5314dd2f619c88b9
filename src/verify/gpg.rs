//! GPG simple signing of one image: signatures from a store or from the registry itself, one after the other, until one
//! passes.
//!
//! Order of the checks, after containers/image: signature and key, payload, digest, signed identity; then the signer.
//! Deviation: reading stops at the first signature that passes, so that a signed image costs one request.

use std::sync::Arc;

use bytes::Bytes;

use super::Verifier;
use super::entry::{Material, MethodResult, Signed, Store, Subject};
use super::report::Best;
use crate::cluster::SecretData;
use crate::domain::payload::SimplePayload;
use crate::domain::policy::GpgCheck;
use crate::domain::signer::gpg_signer_name;
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::openpgp::{Keyring, SignedContent};
use crate::source::lookaside::MAX_SIGNATURES;

pub(super) struct GpgMethod<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) check: &'a GpgCheck,
    pub(super) signers: &'a [String],
    pub(super) material: &'a Material,
}

impl GpgMethod<'_> {
    pub(super) async fn judge(&self, secret: &Result<Arc<SecretData>, Fault>) -> MethodResult {
        let verifier = self.subject.verifier;
        let secret = secret.as_ref().map_err(|fault| Cause::Undecided(fault.clone()))?;
        let origin = self.subject.origin(&self.check.key_ref, secret);
        let keyring = verifier.keys.keyring(&verifier.labour, origin, secret).await.map_err(Cause::Undecided)?;
        if keyring.is_empty() {
            let detail = format!("no public keys imported from {}", self.check.key_ref);
            return Err(Cause::Refused(Refusal::new(RefusalKind::NoPublicKeys, detail)));
        }
        let registry = &self.material.access;
        let repository = self.subject.image.repository();
        let store = self.material.store.as_ref();
        let ask = store.is_none() || verifier.config.registry_before_store;
        if ask && verifier.upstream.offers_signatures(repository, registry).await.map_err(Cause::Undecided)? {
            return self.in_registry(&keyring).await;
        }
        let Some(store) = store else {
            let message = "no signature store is configured, and the registry does not say that it keeps signatures \
                           itself: set lookaside in the policy, or registries.d";
            return Err(Cause::Undecided(Fault::new(FaultKind::Configuration, message)));
        };
        self.in_store(store, &keyring).await
    }

    /// Signature after signature, until there is no more.
    async fn in_store(&self, store: &Store, keyring: &Arc<Keyring>) -> MethodResult {
        let upstream = &self.subject.verifier.upstream;
        let (repository, digest) = (self.subject.image.repository(), &self.material.digest);
        let mut best = Best::new();
        for number in 1..=MAX_SIGNATURES {
            let fetched = upstream.signature(&store.url, repository, digest, number, &store.access).await;
            let Some(blob) = fetched.map_err(Cause::Undecided)? else {
                return Err(Cause::Refused(
                    best.into_refusal(|| format!("no signature for {digest} in {}", store.url)),
                ));
            };
            match self.check_one(blob, keyring).await.map_err(Cause::Undecided)? {
                Ok(signed) => return Ok(signed),
                Err(refusal) => best.add(refusal),
            }
        }
        Err(self.too_many(&store.url.to_string()))
    }

    /// What the registry itself keeps, all of it in one answer.
    async fn in_registry(&self, keyring: &Arc<Keyring>) -> MethodResult {
        let upstream = &self.subject.verifier.upstream;
        let (repository, digest) = (self.subject.image.repository(), &self.material.digest);
        let found = upstream.own_signatures(repository, digest, &self.material.access).await;
        let found = found.map_err(Cause::Undecided)?;
        let mut best = Best::new();
        for signature in found.signatures {
            let checked = match signature {
                Ok(blob) => self.check_one(blob, keyring).await.map_err(Cause::Undecided)?,
                Err(why) => Err(Refusal::new(RefusalKind::Invalid, format!("malformed signature: {why}"))),
            };
            match checked {
                Ok(signed) => return Ok(signed),
                Err(refusal) => best.add(refusal),
            }
        }
        if found.more {
            return Err(self.too_many(&format!("the registry {}", repository.host())));
        }
        let unsigned = || format!("the registry {} keeps no signature for {digest}", repository.host());
        Err(Cause::Refused(best.into_refusal(unsigned)))
    }

    fn too_many(&self, place: &str) -> Cause {
        let digest = &self.material.digest;
        let message =
            format!("{place} holds {MAX_SIGNATURES} or more signatures for {digest} and none of the first passes");
        Cause::Undecided(Fault::new(FaultKind::TooLarge, message))
    }

    /// Off the threads that answer.
    async fn check_one(&self, blob: Bytes, keyring: &Arc<Keyring>) -> Result<Result<Signed, Refusal>, Fault> {
        let (keyring, now) = (keyring.clone(), Verifier::now());
        let verify = move || keyring.verify(&blob, now);
        let Subject { verifier, namespace, deadline, .. } = self.subject;
        let verified = verifier.labour.run(namespace, *deadline, verify).await?;
        Ok(self.accept(verified))
    }

    fn accept(&self, verified: Result<SignedContent, SignatureError>) -> Result<Signed, Refusal> {
        let signed = verified.map_err(|error| Refusal::new(RefusalKind::Invalid, error.to_string()))?;
        let payload = SimplePayload::parse(&signed.content)
            .map_err(|error| Refusal::new(RefusalKind::Invalid, format!("the signed payload is malformed: {error}")))?;
        if payload.digest != self.material.digest {
            return Err(Refusal::new(RefusalKind::Digest, format!("signed for {}", payload.digest)));
        }
        if !self.check.identity.accepts(self.subject.image, &payload.reference) {
            let detail =
                format!("signed as {:?}, which signedIdentity does not accept for this image", payload.reference);
            return Err(Refusal::new(RefusalKind::Identity, detail));
        }
        let Some(name) = gpg_signer_name(self.signers, &signed.signer) else {
            let detail = format!("signed by {}, who is not among the listed signers", name_of(&signed.signer));
            return Err(Refusal::new(RefusalKind::Signer, detail));
        };
        Ok((Pass { method: Some(Method::Gpg), signer: Some(name) }, signed.valid_until))
    }
}

fn name_of(signer: &crate::domain::signer::GpgSigner) -> String {
    let fingerprint = &signer.fingerprint;
    signer.emails.first().map_or_else(|| fingerprint.clone(), |email| format!("{email} ({fingerprint})"))
}
