//! Signatures as they lie in a registry: taken out, changed and put elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::registry::{Image, Registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A sigstore bundle.
#[derive(Debug, Clone)]
pub struct Bundle(pub Value);

/// One signature of the form with a tag: the payload and what the layer says of it.
#[derive(Debug, Clone)]
pub struct Legacy {
    /// The bytes that are signed.
    pub payload: Vec<u8>,
    /// Signature, certificate, log entry, timestamp.
    pub annotations: serde_json::Map<String, Value>,
    media_type: String,
}

impl Bundle {
    /// The bundles that refer to an image, in the registry's order.
    #[track_caller]
    pub fn all(registry: &Registry, image: &Image) -> Vec<Self> {
        let list = referrers(registry, image);
        let digests = list["manifests"].as_array().into_iter().flatten().map(|entry| entry["digest"].as_str().unwrap());
        let read = |digest: &str| {
            let manifest = registry.manifest(&Image { digest: digest.to_owned(), ..image.clone() });
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            Self(serde_json::from_slice(&blob(registry, image, &manifest["layers"][0])).unwrap())
        };
        digests.map(read).collect()
    }

    /// The only one.
    #[track_caller]
    pub fn of(registry: &Registry, image: &Image) -> Self {
        let mut all = Self::all(registry, image);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// A changed copy.
    pub fn bent(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut bundle = self.0.clone();
        change(&mut bundle);
        assert_ne!(bundle, self.0, "changed nothing");
        Self(bundle)
    }

    /// Has it refer to an image of a registry with the referrers API.
    pub fn attach(&self, registry: &Registry, image: &Image) {
        attach(registry, image, self.0.to_string().as_bytes());
    }

    /// The bytes of the envelope's only signature.
    pub fn signature(&self) -> Vec<u8> {
        decoded(&self.0["dsseEnvelope"]["signatures"][0]["sig"])
    }

    /// What is signed.
    pub fn payload(&self) -> Vec<u8> {
        decoded(&self.0["dsseEnvelope"]["payload"])
    }

    /// The only log entry of a bundle, to be changed.
    pub fn entry(bundle: &mut Value) -> &mut Value {
        &mut bundle["verificationMaterial"]["tlogEntries"][0]
    }

    /// The timestamps of a bundle, to be changed.
    pub fn stamps(bundle: &mut Value) -> &mut Value {
        &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    }
}

/// Has any bytes refer to an image as if they were a bundle.
pub fn attach(registry: &Registry, image: &Image, bundle: &[u8]) {
    let manifest = registry.manifest(image);
    let repository = &image.repository;
    let (layer, config) = (registry.put_blob(repository, bundle), registry.put_blob(repository, b"{}"));
    let text = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": layer, "size": bundle.len()}],
        "subject": {"mediaType": MANIFEST, "digest": image.digest, "size": manifest.len()},
    });
    registry.put_manifest(repository, None, MANIFEST, text.to_string().as_bytes());
}

impl Legacy {
    /// The only signature of an image.
    #[track_caller]
    pub fn of(registry: &Registry, image: &Image) -> Self {
        let mut all = Self::all(registry, image, "sig");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// All under the image's tag with this ending, `sig` or `att`.
    #[track_caller]
    pub fn all(registry: &Registry, image: &Image, ending: &str) -> Vec<Self> {
        let tag = format!("{}/{}:sha256-{}.{ending}", image.host, image.repository, image.hex());
        let manifest = registry.crane(&["manifest", &tag]).succeeded().bytes;
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let read = |layer: &Value| Self {
            payload: blob(registry, image, layer),
            annotations: layer["annotations"].as_object().unwrap().clone(),
            media_type: layer["mediaType"].as_str().unwrap().to_owned(),
        };
        manifest["layers"].as_array().unwrap().iter().map(read).collect()
    }

    /// Puts signatures where those of an image are, in place of what is there.
    #[track_caller]
    pub fn put(registry: &Registry, image: &Image, ending: &str, signatures: &[Self]) {
        let repository = &image.repository;
        let layer = |signature: &Self| {
            let digest = registry.put_blob(repository, &signature.payload);
            json!({"mediaType": signature.media_type, "digest": digest, "size": signature.payload.len(),
                "annotations": signature.annotations})
        };
        let layers: Vec<_> = signatures.iter().map(layer).collect();
        let config = registry.put_blob(repository, b"{}");
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let tag = format!("sha256-{}.{ending}", image.hex());
        registry.put_manifest(repository, Some(&tag), MANIFEST, manifest.to_string().as_bytes());
    }

    /// A copy whose annotation, which is text, is changed.
    pub fn bent(&self, annotation: &str, change: impl FnOnce(&str) -> String) -> Self {
        let mut copy = self.clone();
        let old = copy.annotations[annotation].as_str().unwrap();
        let new = change(old);
        assert_ne!(new, old, "changed nothing");
        copy.annotations.insert(annotation.to_owned(), new.into());
        copy
    }

    /// The same of an annotation that is JSON.
    pub fn bent_json(&self, annotation: &str, change: impl FnOnce(&mut Value)) -> Self {
        self.bent(annotation, |text| {
            let mut json = serde_json::from_str(text).unwrap();
            change(&mut json);
            json.to_string()
        })
    }

    /// A copy without an annotation.
    pub fn without(&self, annotation: &str) -> Self {
        let mut copy = self.clone();
        copy.annotations.remove(annotation).unwrap_or_else(|| panic!("no {annotation}"));
        copy
    }
}

fn referrers(registry: &Registry, image: &Image) -> Value {
    let http = Http::trusting(registry.authority.as_ref().map_or("", |authority| &authority.pem));
    let scheme = if registry.authority.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}/v2/{}", image.host, image.repository);
    let reply = http.get(&format!("{base}/referrers/{}", image.digest)).unwrap();
    if reply.status == 200 {
        return serde_json::from_slice(&reply.body).unwrap();
    }
    let tag = format!("{base}/manifests/sha256-{}", image.hex());
    let reply = http.send(reqwest::Method::GET, &tag, &[("accept", INDEX)], Vec::new()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn blob(registry: &Registry, image: &Image, descriptor: &Value) -> Vec<u8> {
    let name = format!("{}/{}@{}", image.host, image.repository, descriptor["digest"].as_str().unwrap());
    registry.crane(&["blob", &name]).succeeded().bytes
}

fn decoded(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}
