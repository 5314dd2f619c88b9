//! cosign signatures of one image with public keys: the legacy `.sig` tag and bundles among the referrers, looked for at
//! the same time. The first signature that passes decides; what stands beside it never matters.

use std::sync::Arc;

use futures::future::{Either, select};
use oci_client::manifest::OciImageManifest;

use super::entry::{Material, MethodResult, Subject};
use super::keys::COSIGN_PUB;
use super::report::Best;
use crate::cluster::SecretData;
use crate::domain::digest::Digest;
use crate::domain::policy::CosignCheck;
use crate::domain::signer::cosign_signer_name;
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::cosign::{CosignClaim, PublicKeys};
use crate::source::registry::{Manifest, Referrer};

const LEGACY_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const LEGACY_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// What older tools and some registries state as artifact type of a bundle: the empty config's media type.
const EMPTY_TYPES: [&str; 2] = ["application/vnd.oci.empty.v1+json", "application/vnd.oci.image.config.v1+json"];
/// Signatures of one format looked at, at most.
const MAX_CANDIDATES: usize = 64;
/// Bytes of a payload or bundle, at most.
const MAX_SIGNATURE: usize = 4 << 20;

pub(super) struct CosignMethod<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) check: &'a CosignCheck,
    pub(super) signers: &'a [String],
    pub(super) material: &'a Material,
}

/// What one format gave: a pass, or what was found instead.
type Found = Result<Pass, Result<Best, Fault>>;

impl CosignMethod<'_> {
    pub(super) async fn judge(&self, secret: &Result<Arc<SecretData>, Fault>) -> MethodResult {
        let secret = secret.as_ref().map_err(|fault| Cause::Undecided(fault.clone()))?;
        let verifier = self.subject.verifier;
        let simple = CosignCheck {
            key_ref: self.check.key_ref.clone(),
            annotations: self.check.annotations.clone(),
            ..CosignCheck::default()
        };
        let (Some(key_ref), true) = (&self.check.key_ref, *self.check == simple) else {
            let message = "this version of podseal cannot evaluate every field of cosign";
            return Err(Cause::Undecided(Fault::new(FaultKind::Configuration, message)));
        };
        let origin = self.subject.origin(key_ref, secret);
        let keys = verifier.keys.cosign(&verifier.labour, origin, secret).await.map_err(Cause::Undecided)?;
        if keys.is_empty() {
            let detail = format!("no public keys imported from {key_ref} ({COSIGN_PUB})");
            return Err(Cause::Refused(Refusal::new(RefusalKind::NoPublicKeys, detail)));
        }
        let (legacy, bundles) = (Box::pin(self.legacy(&keys)), Box::pin(self.bundles(&keys)));
        let (first, second) = match select(legacy, bundles).await {
            Either::Left((Ok(pass), _)) | Either::Right((Ok(pass), _)) => return Ok((pass, None)),
            Either::Left((Err(first), rest)) => (first, rest.await),
            Either::Right((Err(first), rest)) => (first, rest.await),
        };
        match (first, second) {
            (_, Ok(pass)) => Ok((pass, None)),
            // "Unsigned" or "invalid" follows only from two complete answers.
            (Err(fault), Err(_)) | (_, Err(Err(fault))) => Err(Cause::Undecided(fault)),
            (Ok(mut first), Err(Ok(second))) => {
                first.merge(second);
                let digest = &self.material.digest;
                Err(Cause::Refused(first.into_refusal(|| {
                    format!("no cosign signature for {digest} in {}", self.subject.image.repository())
                })))
            }
        }
    }

    /// Layers of the manifest under the tag `<algorithm>-<hex>.sig`.
    async fn legacy(&self, keys: &Arc<PublicKeys>) -> Found {
        let (upstream, repository, access) =
            (&self.subject.verifier.upstream, self.subject.image.repository(), &self.material.access);
        let digest = &self.material.digest;
        let tag = format!("{}-{}.sig", digest.algorithm_name(), digest.hex());
        let mut best = Best::new();
        let found = upstream.tagged_manifest(repository, &tag, access).await.map_err(Err)?;
        let Some(manifest) = found else { return Err(Ok(best)) };
        let Some(manifest) = image_manifest(&manifest) else {
            best.add(Refusal::new(RefusalKind::Invalid, format!("the tag {tag} is not an image manifest")));
            return Err(Ok(best));
        };
        let mut spoilt = None;
        let layers = manifest.layers.iter().filter(|layer| layer.media_type == LEGACY_MEDIA_TYPE);
        for (i, layer) in layers.enumerate() {
            too_many(i, repository)?;
            let signature = layer.annotations.as_ref().and_then(|a| a.get(LEGACY_SIGNATURE));
            let (Some(signature), Ok(layer_digest)) = (signature, layer.digest.parse::<Digest>()) else {
                best.add(Refusal::new(RefusalKind::Invalid, "a signature layer has no signature or no valid digest"));
                continue;
            };
            let blob = upstream.blob(repository, &layer_digest, MAX_SIGNATURE, access).await;
            let Some(blob) = unspoilt(blob, &mut spoilt)? else { continue };
            let Some(payload) = blob else {
                best.add(Refusal::new(RefusalKind::Invalid, format!("the payload {layer_digest} is missing")));
                continue;
            };
            let (keys, signature, of) = (keys.clone(), signature.clone(), digest.clone());
            let claim = self.verify(move || keys.verify_legacy(&payload, &signature, &of)).await?;
            match claim.map_err(|error| refusal(&error)).and_then(|claim| self.accept(&claim)) {
                Ok(pass) => return Ok(pass),
                Err(refusal) => best.add(refusal),
            }
        }
        Err(spoilt.map_or(Ok(best), Err))
    }

    /// Bundles that refer to the digest.
    async fn bundles(&self, keys: &Arc<PublicKeys>) -> Found {
        let (upstream, repository, access) =
            (&self.subject.verifier.upstream, self.subject.image.repository(), &self.material.access);
        let mut referrers = upstream.referrers(repository, &self.material.digest, access).await.map_err(Err)?;
        referrers.retain(may_be_bundle);
        // Those that say so first: a crowd of other artifacts must not hide a signature behind the limit.
        referrers.sort_by_key(|r| !says_bundle(r.artifact_type.as_deref()));
        let (mut best, mut spoilt) = (Best::new(), None);
        for (i, referrer) in referrers.iter().enumerate() {
            too_many(i, repository)?;
            let manifest = upstream.manifest(repository, &referrer.digest, access).await;
            let Some(Some(manifest)) = unspoilt(manifest, &mut spoilt)? else { continue };
            let Some(manifest) = image_manifest(&manifest) else { continue };
            let [layer] = manifest.layers.as_slice() else { continue };
            let Some(layer_digest) =
                says_bundle(Some(&layer.media_type)).then(|| layer.digest.parse::<Digest>().ok()).flatten()
            else {
                continue;
            };
            let bundle = upstream.blob(repository, &layer_digest, MAX_SIGNATURE, access).await;
            let Some(bundle) = unspoilt(bundle, &mut spoilt)? else { continue };
            let Some(bundle) = bundle else {
                best.add(Refusal::new(RefusalKind::Invalid, format!("the bundle {layer_digest} is missing")));
                continue;
            };
            let (keys, of) = (keys.clone(), self.material.digest.clone());
            let claim = self.verify(move || keys.verify_bundle(&bundle, &of)).await?;
            match claim.map_err(|error| refusal(&error)).and_then(|claim| self.accept(&claim)) {
                Ok(pass) => return Ok(pass),
                Err(refusal) => best.add(refusal),
            }
        }
        Err(spoilt.map_or(Ok(best), Err))
    }

    /// Off the threads that answer.
    async fn verify<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Result<Best, Fault>> {
        let Subject { verifier, namespace, deadline, .. } = self.subject;
        verifier.labour.run(namespace, *deadline, work).await.map_err(Err)
    }

    fn accept(&self, claim: &CosignClaim) -> Result<Pass, Refusal> {
        for (name, wanted) in &self.check.annotations {
            if claim.annotations.get(name) != Some(wanted) {
                let detail = format!("the signature lacks the annotation {name}={wanted}");
                return Err(Refusal::new(RefusalKind::Invalid, detail));
            }
        }
        let annotation = claim.annotations.get("signer").map(String::as_str);
        let key = claim.key.get(..16).unwrap_or(&claim.key);
        if let Some(signer) = cosign_signer_name(self.signers, annotation, &format!("key {key}")) {
            Ok(Pass { method: Some(Method::Cosign), signer: Some(signer) })
        } else {
            let found =
                annotation.map_or("no signer annotation".to_owned(), |a| format!("the signer annotation {a:?}"));
            Err(Refusal::new(RefusalKind::Signer, format!("validly signed with {found}, which is not listed")))
        }
    }
}

fn refusal(error: &SignatureError) -> Refusal {
    let kind = if matches!(error, SignatureError::OtherDigest(_)) { RefusalKind::Digest } else { RefusalKind::Invalid };
    Refusal::new(kind, error.to_string())
}

fn image_manifest(manifest: &Manifest) -> Option<OciImageManifest> {
    serde_json::from_slice(&manifest.bytes).ok()
}

fn says_bundle(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|t| t.starts_with(BUNDLE_PREFIX))
}

fn may_be_bundle(referrer: &Referrer) -> bool {
    referrer.artifact_type.as_deref().is_none_or(|t| t.is_empty() || says_bundle(Some(t)) || EMPTY_TYPES.contains(&t))
}

/// What could be had of one candidate. One that is too large, or is not what its digest or type says, spoils itself alone:
/// whoever may push could otherwise hide a good signature behind it. It stays an obstacle if no other candidate passes.
/// A server that does not answer at all ends the search.
fn unspoilt<T>(got: Result<T, Fault>, spoilt: &mut Option<Fault>) -> Result<Option<T>, Result<Best, Fault>> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(fault)
            if matches!(fault.kind(), FaultKind::TooLarge | FaultKind::DigestMismatch | FaultKind::BadAnswer) =>
        {
            spoilt.get_or_insert(fault);
            Ok(None)
        }
        Err(fault) => Err(Err(fault)),
    }
}

fn too_many(seen: usize, repository: &crate::domain::image::Repository) -> Result<(), Result<Best, Fault>> {
    if seen < MAX_CANDIDATES {
        return Ok(());
    }
    let message = format!(
        "{repository} holds more than {MAX_CANDIDATES} signatures for this digest and none of the first passes"
    );
    Err(Err(Fault::new(FaultKind::TooLarge, message)))
}
