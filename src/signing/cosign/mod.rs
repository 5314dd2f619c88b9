//! Signatures in cosign's forms, by a key, without a transparency log: `cosign verify --key … --insecure-ignore-tlog`.
//!
//! ```text
//!  bundle   statement about the digest ── DSSE ── Sigstore bundle ── artifact that refers to the image
//!  legacy   payload about the digest ── layer with the signature beside it ── tag sha256-<hex>.sig
//! ```
//! Both lie in the image's own repository. What is made is verified with the public half before it is pushed, and read
//! back afterwards. Specifications: Sigstore bundle 0.3, DSSE v1, in-toto Statement v1, cosign `SIGNATURE_SPEC`.

mod key;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::key::{CosignKey, CosignKeyError, MAX_KEY_FILE};
use super::deposit::Line;
use super::image::{Outcome, SignError, Wanted};
use crate::domain::digest::{Algorithm, Digest};
use crate::fault::{Fault, FaultKind};
use crate::source::registry::{Artifact, Manifest};

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Signatures looked at to see whether this key has signed.
const MAX_LOOKED_AT: usize = 64;
const MAX_DOCUMENT: usize = 4 << 20;
/// So often is the tag of signatures written, when others write it, too.
const MAX_WRITTEN: usize = 5;

/// The form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As cosign makes it since 3.0.
    Bundle,
    /// As it did before.
    Legacy,
}

#[derive(Deserialize)]
struct Stored {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Signs an image whose manifest is given, and puts the signature beside it.
pub async fn sign(
    key: &CosignKey,
    line: &Line,
    manifest: &Manifest,
    wanted: Wanted<'_>,
    form: Form,
) -> Result<Outcome, SignError> {
    let job = Job { key, line, manifest, wanted };
    if wanted.digest.algorithm() != Algorithm::Sha256 {
        return Err(super::payload::PayloadError::Algorithm.into());
    }
    let done = match form {
        Form::Bundle => job.bundle().await?,
        Form::Legacy => job.legacy().await?,
    };
    let place = || format!("the registry {}", wanted.repository.host());
    Ok(if done { Outcome::Signed(place(), None) } else { Outcome::WasSigned(None) })
}

struct Job<'a> {
    key: &'a CosignKey,
    line: &'a Line,
    manifest: &'a Manifest,
    wanted: Wanted<'a>,
}

impl Job<'_> {
    /// Whether it was signed now.
    async fn bundle(&self) -> Result<bool, SignError> {
        if !self.wanted.again && self.has_bundle().await? {
            return Ok(false);
        }
        let document = self.make_bundle().map_err(own_fault)?;
        self.key
            .public
            .verify_bundle(document.as_bytes(), self.wanted.digest)
            .map_err(|_| own_fault("a bad signature"))?;
        let config = self.push(EMPTY_TYPE, Bytes::from_static(b"{}")).await?;
        let layer = self.push(BUNDLE_TYPE, Bytes::from(document)).await?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": BUNDLE_TYPE,
            "config": config, "layers": [layer],
            "subject": {
                "mediaType": self.manifest.media_type, "digest": self.wanted.digest.as_str(),
                "size": self.manifest.bytes.len(),
            },
            "annotations": {
                "dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": PREDICATE,
                "org.opencontainers.image.created": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            },
        });
        let artifact = Artifact { manifest, subject: self.wanted.digest.clone() };
        self.line.upstream.attach(self.wanted.repository, &artifact, &self.line.access()).await?;
        if self.has_bundle().await? { Ok(true) } else { Err(self.lost().into()) }
    }

    fn make_bundle(&self) -> Result<String, &'static str> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": self.wanted.digest.hex()}}],
            "predicateType": PREDICATE,
            "predicate": {},
        })
        .to_string();
        // DSSE v1, "PAE": what is signed is the type and the content, each with its length.
        let signed = format!("DSSEv1 {} {STATEMENT_TYPE} {} {statement}", STATEMENT_TYPE.len(), statement.len());
        let bundle = json!({
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key.hint()}},
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(&statement),
                "payloadType": STATEMENT_TYPE,
                "signatures": [{"sig": self.key.sign(signed.as_bytes())?}],
            },
        });
        Ok(bundle.to_string())
    }

    async fn has_bundle(&self) -> Result<bool, SignError> {
        let (upstream, repository) = (&self.line.upstream, self.wanted.repository);
        let referrers = upstream.referrers(repository, self.wanted.digest, &self.line.access()).await?;
        // Newest last, in most registries.
        for referrer in referrers.iter().rev().take(MAX_LOOKED_AT) {
            if referrer
                .artifact_type
                .as_deref()
                .is_some_and(|kind| !kind.starts_with(BUNDLE_PREFIX) && kind != EMPTY_TYPE)
            {
                continue;
            }
            let found = upstream.manifest(repository, &referrer.digest, &self.line.access()).await?;
            let Some(layers) = found.and_then(|found| layers(&found)) else { continue };
            let [layer] = layers.as_slice() else { continue };
            if let Some(content) = self.content(layer).await?
                && self.key.public.verify_bundle(&content, self.wanted.digest).is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it was signed now.
    async fn legacy(&self) -> Result<bool, SignError> {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": self.wanted.identity},
                "image": {"docker-manifest-digest": self.wanted.digest.as_str()},
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let signature = self.key.sign(payload.as_bytes()).map_err(own_fault)?;
        let verified = self.key.public.verify_legacy(payload.as_bytes(), &signature, self.wanted.digest);
        verified.map_err(|_| own_fault("a bad signature"))?;
        let (upstream, repository) = (&self.line.upstream, self.wanted.repository);
        let tag = format!("sha256-{}.sig", self.wanted.digest.hex());
        for tried in 0..MAX_WRITTEN {
            let there = upstream.tagged_manifest(repository, &tag, &self.line.access()).await?;
            let own = there.as_ref().and_then(layers).unwrap_or_default();
            if own.iter().any(|layer| layer.annotations.get(SIGNATURE) == Some(&signature)) {
                return Ok(true);
            }
            if tried == 0 && !self.wanted.again && self.has_signed(&own).await? {
                return Ok(false);
            }
            let layer = self.push(PAYLOAD_TYPE, Bytes::from(payload.clone())).await?;
            let manifest = self.extended(there.as_ref(), layer, &signature).await?;
            let bytes = Bytes::from(manifest.to_string());
            upstream.push_manifest(repository, Some(&tag), MANIFEST_TYPE, &bytes, &self.line.access()).await?;
        }
        Err(self.lost().into())
    }

    async fn has_signed(&self, layers: &[Layer]) -> Result<bool, SignError> {
        for layer in layers.iter().take(MAX_LOOKED_AT) {
            let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
            if let Some(content) = self.content(layer).await?
                && self.key.public.verify_legacy(&content, signature, self.wanted.digest).is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The manifest of signatures with one more at its end; all others stay as they are.
    async fn extended(&self, there: Option<&Manifest>, mut layer: Value, signature: &str) -> Result<Value, SignError> {
        let bad = || self.fault("the tag of signatures leads to something else");
        if let Some(layer) = layer.as_object_mut() {
            layer.insert("annotations".to_owned(), json!({SIGNATURE: signature}));
        }
        let mut layers = match there {
            None => Vec::new(),
            Some(there) => {
                let manifest: Value = serde_json::from_slice(&there.bytes).map_err(|_| bad())?;
                manifest.get("layers").and_then(Value::as_array).cloned().ok_or_else(bad)?
            }
        };
        layers.push(layer);
        let diff_ids: Vec<_> = layers.iter().filter_map(|layer| layer.get("digest")).collect();
        let config = json!({
            "architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.push(CONFIG_TYPE, Bytes::from(config.to_string())).await?;
        Ok(json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}))
    }

    async fn content(&self, layer: &Layer) -> Result<Option<Bytes>, SignError> {
        let Ok(digest) = layer.digest.parse::<Digest>() else { return Ok(None) };
        let (upstream, access) = (&self.line.upstream, self.line.access());
        match upstream.blob(self.wanted.repository, &digest, MAX_DOCUMENT, &access).await {
            // Somebody else's, and too large for a signature.
            Err(fault) if fault.kind() == FaultKind::TooLarge => Ok(None),
            found => Ok(found?),
        }
    }

    /// Gives the descriptor.
    async fn push(&self, media_type: &str, bytes: Bytes) -> Result<Value, SignError> {
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        let (upstream, access) = (&self.line.upstream, self.line.access());
        upstream.push_blob(self.wanted.repository, &digest, Arc::new(bytes), &access, &|_| {}).await?;
        Ok(json!({"mediaType": media_type, "digest": digest.as_str(), "size": size}))
    }

    fn lost(&self) -> Fault {
        self.fault("took the signature, and does not show it; others may write at the same moment: try again")
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::new(
            FaultKind::BadAnswer,
            format!("registry {}, {}: {what}", self.wanted.repository.host(), self.wanted.digest),
        )
    }
}

fn layers(manifest: &Manifest) -> Option<Vec<Layer>> {
    serde_json::from_slice::<Stored>(&manifest.bytes).ok().map(|stored| stored.layers)
}

fn own_fault(why: &str) -> SignError {
    SignError::Fault(Fault::new(FaultKind::Internal, format!("the cosign key: {why}")))
}
