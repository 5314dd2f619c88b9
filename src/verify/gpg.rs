//! GPG simple signing of one image: signatures from a store, one after the other, until one passes.
//!
//! Order of the checks, after containers/image: signature and key, payload, digest, signed identity; then the signer.
//! Deviation: reading stops at the first signature that passes, so that a signed image costs one request.

use std::sync::Arc;

use super::Verifier;
use super::entry::{Material, MethodResult, Signed, Subject};
use super::report::Best;
use crate::cluster::SecretData;
use crate::domain::payload::SimplePayload;
use crate::domain::policy::GpgCheck;
use crate::domain::signer::gpg_signer_name;
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::openpgp::SignedContent;
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
        let Some(store) = &self.material.store else {
            let message = "no signature store is configured: set lookaside in the policy, or registries.d";
            return Err(Cause::Undecided(Fault::new(FaultKind::Configuration, message)));
        };
        let (repository, digest) = (self.subject.image.repository(), &self.material.digest);
        let mut best = Best::new();
        for number in 1..=MAX_SIGNATURES {
            let fetched = verifier.upstream.signature(&store.url, repository, digest, number, &store.access).await;
            let Some(blob) = fetched.map_err(Cause::Undecided)? else {
                return Err(Cause::Refused(
                    best.into_refusal(|| format!("no signature for {digest} in {}", store.url)),
                ));
            };
            let (keyring, now) = (keyring.clone(), Verifier::now());
            let verify = move || keyring.verify(&blob, now);
            let checked = verifier.labour.run(self.subject.namespace, self.subject.deadline, verify).await;
            match self.check_one(checked.map_err(Cause::Undecided)?) {
                Ok(signed) => return Ok(signed),
                Err(refusal) => best.add(refusal),
            }
        }
        let message = format!(
            "{} holds {MAX_SIGNATURES} or more signatures for {digest} and none of the first passes",
            store.url
        );
        Err(Cause::Undecided(Fault::new(FaultKind::TooLarge, message)))
    }

    fn check_one(&self, verified: Result<SignedContent, SignatureError>) -> Result<Signed, Refusal> {
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
