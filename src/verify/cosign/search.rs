//! Where signatures and attestations are looked for, and the verification of each.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use oci_client::manifest::{OciDescriptor, OciImageManifest};

use super::tally::{Found, Holds, Tally};
use super::{CosignMethod, locked};
use crate::domain::digest::Digest;
use crate::domain::expression::Budget;
use crate::domain::image::Repository;
use crate::domain::keyless::KeylessIdentity;
use crate::domain::policy::AttestationCheck;
use crate::domain::verdict::{Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::cosign::{Claim, Layer, PublicKeys, Signer, Statement, Trust};
use crate::signature::keyless::{Evidence, LegacyEvidence, TrustRoot};
use crate::source::access::Access;
use crate::source::registry::{Manifest, Referrer};
use crate::verify::entry::Subject;

const LEGACY_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// What older tools and some registries state as artifact type of a bundle: the empty config's media type.
const EMPTY_TYPES: [&str; 2] = ["application/vnd.oci.empty.v1+json", "application/vnd.oci.image.config.v1+json"];
/// Candidates of one place looked at, at most.
const MAX_CANDIDATES: usize = 64;
/// Bytes of a payload or bundle, at most.
const MAX_SIGNATURE: usize = 4 << 20;

/// A kind of tag with its layers.
#[derive(Clone, Copy)]
pub(super) struct Tagged {
    suffix: &'static str,
    media_type: &'static str,
    holds: Holds,
}

pub(super) const SIGNATURES: Tagged =
    Tagged { suffix: "sig", media_type: "application/vnd.dev.cosign.simplesigning.v1+json", holds: Holds::Signatures };
pub(super) const ATTESTATIONS: Tagged =
    Tagged { suffix: "att", media_type: "application/vnd.dsse.envelope.v1+json", holds: Holds::Attestations };

/// One place being searched: ends when it is exhausted, or enough was found.
pub(super) type Walk<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// What verifications need, shared with the threads that do them.
pub(super) struct TrustSet {
    pub(super) keys: Arc<PublicKeys>,
    pub(super) root: Option<Arc<TrustRoot>>,
    pub(super) log_for_keys: bool,
    pub(super) keyless: Option<Evidence>,
    pub(super) attestations: Vec<AttestationCheck>,
    /// Whose attestations are looked into.
    pub(super) identities: Vec<KeylessIdentity>,
    /// For the expressions of these.
    pub(super) budget: Budget,
}

/// The repository with the signatures and how it is reached.
pub(super) struct Place<'a> {
    pub(super) repository: &'a Repository,
    pub(super) access: &'a Access,
}

impl<'a> Place<'a> {
    pub(super) fn of(method: &CosignMethod<'a>) -> Self {
        match &method.material.signatures {
            Some((repository, access)) => Self { repository, access },
            None => Self { repository: method.subject.image.repository(), access: &method.material.access },
        }
    }
}

/// The search for one digest.
pub(super) struct Search<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) place: Place<'a>,
    pub(super) digest: &'a Digest,
    pub(super) trust: Arc<TrustSet>,
    pub(super) tally: &'a Mutex<Tally<'a>>,
}

/// Bytes of one candidate and what verifies them.
enum Candidate {
    Bundle(bytes::Bytes),
    Layer { content: bytes::Bytes, texts: [String; 5], attestation: bool },
}

impl TrustSet {
    fn trust(&self) -> Trust<'_> {
        Trust {
            keys: &self.keys,
            root: self.root.as_deref(),
            log_for_keys: self.log_for_keys,
            keyless: self.keyless,
            attestations: !self.attestations.is_empty(),
        }
    }

    /// Verifies a candidate, and holds it against what is asked of attestations.
    fn judge(&self, candidate: &Candidate, image: &Digest) -> Result<(Claim, Vec<Found>), SignatureError> {
        let trust = self.trust();
        let claim = match candidate {
            Candidate::Bundle(text) => trust.bundle(text, image),
            Candidate::Layer { content, texts: [signature, certificate, chain, log, timestamp], attestation } => {
                let filled = |text: &'_ String| (!text.is_empty()).then_some(text.clone());
                let (log, timestamp) = (filled(log), filled(timestamp));
                let beside = LegacyEvidence {
                    certificate: certificate.as_bytes(),
                    chain: chain.as_bytes(),
                    bundle: log.as_deref().map(str::as_bytes),
                    timestamp: timestamp.as_deref().map(str::as_bytes),
                };
                let layer = Layer { content, signature, beside };
                if *attestation { trust.legacy_attestation(layer, image) } else { trust.legacy(layer, image) }
            }
        }?;
        // Anybody with a certificate can attest. What a stranger says is not looked into: its cost would be taken from the
        // budget of those who count.
        let counts = match &claim.signer {
            Signer::Key(_) => true,
            Signer::Certificate(certified) => self.identities.iter().any(|rule| rule.accepts(certified).is_some()),
        };
        let fits = |wanted: &AttestationCheck| match &claim.statement {
            Statement::Attestation { predicate_type, predicate, subject }
                if *predicate_type == wanted.predicate_type =>
            {
                match &wanted.expression {
                    _ if !counts => Found::Differs("it is by nobody who counts".to_owned()),
                    None => Found::Fits,
                    Some(expression) => match expression.holds(predicate, predicate_type, subject, &self.budget) {
                        Ok(true) => Found::Fits,
                        Ok(false) => Found::Differs("the expression is not true of it".to_owned()),
                        Err(why) => Found::Differs(why),
                    },
                }
            }
            _ => Found::Other,
        };
        let found = self.attestations.iter().map(fits).collect();
        Ok((claim, found))
    }
}

impl Search<'_> {
    /// Layers of the manifest under the tag `<algorithm>-<hex>.<suffix>`.
    pub(super) async fn tagged(&self, kind: Tagged) -> Result<(), Fault> {
        let Place { repository, access } = self.place;
        let upstream = &self.subject.verifier.upstream;
        let tag = format!("{}-{}.{}", self.digest.algorithm_name(), self.digest.hex(), kind.suffix);
        let Some(manifest) = upstream.tagged_manifest(repository, &tag, access).await? else { return Ok(()) };
        let Some(manifest) = image_manifest(&manifest) else {
            self.refuse(kind.holds, format!("the tag {tag} is not an image manifest"));
            return Ok(());
        };
        let mut spoilt = None;
        let layers = manifest.layers.iter().filter(|layer| layer.media_type == kind.media_type);
        for (i, layer) in layers.enumerate() {
            self.too_many(i)?;
            let annotation = |name: &str| layer.annotations.as_ref().and_then(|a| a.get(name)).cloned();
            let signature = annotation(LEGACY_SIGNATURE).unwrap_or_default();
            if signature.is_empty() && kind.holds == Holds::Signatures {
                self.refuse(Holds::Signatures, "a signature layer has no signature".to_owned());
                continue;
            }
            let Some(content) = self.blob(layer, kind.holds, &mut spoilt).await? else { continue };
            let evidence = [CERTIFICATE, CHAIN, LOG_BUNDLE, TIMESTAMP].map(|name| annotation(name).unwrap_or_default());
            let [certificate, chain, log, timestamp] = evidence;
            let texts = [signature, certificate, chain, log, timestamp];
            if self.judge(Candidate::Layer { content, texts, attestation: kind.holds == Holds::Attestations }).await? {
                return Ok(());
            }
        }
        spoilt.map_or(Ok(()), Err)
    }

    /// Bundles that refer to the digest.
    pub(super) async fn bundles(&self) -> Result<(), Fault> {
        let Place { repository, access } = self.place;
        let upstream = &self.subject.verifier.upstream;
        let mut referrers = upstream.referrers(repository, self.digest, access).await?;
        referrers.retain(may_be_bundle);
        // Those that say so first: a crowd of other artifacts must not hide a signature behind the limit.
        referrers.sort_by_key(|r| !says_bundle(r.artifact_type.as_deref()));
        let mut spoilt = None;
        for (i, referrer) in referrers.iter().enumerate() {
            self.too_many(i)?;
            let manifest = upstream.manifest(repository, &referrer.digest, access).await;
            let Some(Some(manifest)) = unspoilt(manifest, &mut spoilt)? else { continue };
            let Some(manifest) = image_manifest(&manifest) else { continue };
            let [layer] = manifest.layers.as_slice() else { continue };
            if !says_bundle(Some(&layer.media_type)) || layer.digest.parse::<Digest>().is_err() {
                continue;
            }
            let Some(text) = self.blob(layer, Holds::Either, &mut spoilt).await? else { continue };
            if self.judge(Candidate::Bundle(text)).await? {
                return Ok(());
            }
        }
        spoilt.map_or(Ok(()), Err)
    }

    /// A layer's bytes; `None` when there are none to be had, which was noted.
    async fn blob(
        &self,
        layer: &OciDescriptor,
        holds: Holds,
        spoilt: &mut Option<Fault>,
    ) -> Result<Option<bytes::Bytes>, Fault> {
        let Ok(digest) = layer.digest.parse::<Digest>() else {
            self.refuse(holds, "a signature layer has no valid digest".to_owned());
            return Ok(None);
        };
        let upstream = &self.subject.verifier.upstream;
        let got = upstream.blob(self.place.repository, &digest, MAX_SIGNATURE, self.place.access).await;
        match unspoilt(got, spoilt)? {
            Some(None) => {
                self.refuse(holds, format!("the signature's content {digest} is missing"));
                Ok(None)
            }
            got => Ok(got.flatten()),
        }
    }

    /// Verifies a candidate off the threads that answer; whether it is enough now.
    async fn judge(&self, candidate: Candidate) -> Result<bool, Fault> {
        let Subject { verifier, namespace, deadline, .. } = self.subject;
        let (trust, image) = (self.trust.clone(), self.digest.clone());
        let holds = match candidate {
            Candidate::Bundle(_) => Holds::Either,
            Candidate::Layer { attestation: true, .. } => Holds::Attestations,
            Candidate::Layer { .. } => Holds::Signatures,
        };
        let judged = verifier.labour.run(namespace, *deadline, move || trust.judge(&candidate, &image)).await?;
        let mut tally = locked(self.tally);
        match judged {
            Ok((claim, found)) => tally.add(&claim, &found),
            Err(error) => tally.refuse(holds, refusal(&error)),
        }
        Ok(tally.complete())
    }

    fn refuse(&self, holds: Holds, detail: String) {
        locked(self.tally).refuse(holds, Refusal::new(RefusalKind::Invalid, detail));
    }

    fn too_many(&self, seen: usize) -> Result<(), Fault> {
        if seen < MAX_CANDIDATES {
            return Ok(());
        }
        let message = format!(
            "{} holds more than {MAX_CANDIDATES} signatures for this digest and none of the first passes",
            self.place.repository
        );
        Err(Fault::new(FaultKind::TooLarge, message))
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
/// A server that does not answer at all ends the search of its place.
fn unspoilt<T>(got: Result<T, Fault>, spoilt: &mut Option<Fault>) -> Result<Option<T>, Fault> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(fault)
            if matches!(fault.kind(), FaultKind::TooLarge | FaultKind::DigestMismatch | FaultKind::BadAnswer) =>
        {
            spoilt.get_or_insert(fault);
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}
