//! A verifier with objects on a shelf and a registry that says what a test wants it to say. Keys and signatures are made
//! here, at test time; nothing expires.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::FutureExt as _;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::{Literal, OnePassSig};
use sequoia_openpgp::serialize::{Serialize as _, SerializeInto as _};
use sequoia_openpgp::types::{DataFormat, KeyFlags, SignatureType};
use sequoia_openpgp::{Cert, Packet};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{PodContext, Verifier, VerifyConfig};
use crate::api::read_policy;
use crate::cluster::objects::Lookup;
use crate::cluster::{Freshness, Inputs, Objects, SecretData};
use crate::domain::digest::Digest;
use crate::domain::policy::PolicyId;
use crate::domain::verdict::{Basis, Cause, ImageVerdict, Outcome};
use crate::domain::whitelist::Whitelist;
use crate::fault::Fault;
use crate::source::SourceConfig;
use crate::source::registry::Upstream;
use crate::source::testing::{Reply, Seen, Server, reply};
use crate::telemetry::Metrics;

pub(crate) const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

type Shelved<T> = Mutex<HashMap<String, Result<Arc<T>, Fault>>>;

/// Objects that a test changes while the verifier runs, and how often they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    secrets: Shelved<SecretData>,
    config_maps: Shelved<SecretData>,
    accounts: Shelved<Vec<String>>,
    reads: AtomicUsize,
}

fn data(entries: &[(&str, &[u8])], synced: bool) -> Arc<SecretData> {
    let data: BTreeMap<_, _> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value))).collect();
    Arc::new(SecretData::new(data, synced))
}

impl Shelf {
    /// `name` is `namespace/name`.
    pub(crate) fn secret(&self, name: &str, entries: &[(&str, &[u8])]) {
        self.secrets.lock().unwrap().insert(name.to_owned(), Ok(data(entries, false)));
    }

    /// One that the controller keeps for a key file.
    pub(crate) fn synced(&self, name: &str, entries: &[(&str, &[u8])]) {
        self.secrets.lock().unwrap().insert(name.to_owned(), Ok(data(entries, true)));
    }

    pub(crate) fn config_map(&self, name: &str, entries: &[(&str, &[u8])]) {
        self.config_maps.lock().unwrap().insert(name.to_owned(), Ok(data(entries, false)));
    }

    pub(crate) fn account(&self, name: &str, pull_secrets: &[&str]) {
        let names = pull_secrets.iter().map(|&name| name.to_owned()).collect();
        self.accounts.lock().unwrap().insert(name.to_owned(), Ok(Arc::new(names)));
    }

    /// The Secret cannot be read.
    pub(crate) fn obstruct(&self, name: &str, fault: Fault) {
        self.secrets.lock().unwrap().insert(name.to_owned(), Err(fault));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.secrets.lock().unwrap().remove(name);
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn find<T: Send + Sync + 'static>(&self, map: &Shelved<T>, namespace: &str, name: &str) -> Lookup<'static, T> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = map.lock().unwrap().get(&format!("{namespace}/{name}")).cloned();
        std::future::ready(found.transpose()).boxed()
    }
}

impl Objects for Shelf {
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str, _: Freshness, _: Instant) -> Lookup<'a, SecretData> {
        self.find(&self.secrets, namespace, name)
    }

    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str, _: Instant) -> Lookup<'a, SecretData> {
        self.find(&self.config_maps, namespace, name)
    }

    fn pull_secrets_of<'a>(&'a self, namespace: &'a str, account: &'a str, _: Instant) -> Lookup<'a, Vec<String>> {
        self.find(&self.accounts, namespace, account)
    }
}

/// A verifier with everything around it.
pub(crate) struct Lab {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Lab {
    /// Namespaced policies may lead to 127.0.0.0/8.
    pub(crate) fn new() -> Self {
        Self::with(VerifyConfig::default())
    }

    pub(crate) fn with(config: VerifyConfig) -> Self {
        let allowed = vec!["127.0.0.0/8".parse().unwrap()];
        Self::over(config, SourceConfig { allowed_addresses: allowed, ..SourceConfig::default() })
    }

    pub(crate) fn over(config: VerifyConfig, source: SourceConfig) -> Self {
        let (shelf, metrics) = (Arc::new(Shelf::default()), Arc::new(Metrics::new()));
        let upstream = Arc::new(Upstream::new(source).unwrap());
        let verifier = Arc::new(Verifier::new(config, upstream, shelf.clone(), metrics.clone()));
        let inputs = Arc::new(Inputs::complete([], Whitelist::default()));
        Self { verifier, shelf, inputs, metrics }
    }

    /// One whose roots of trust that were seen first are remembered there.
    pub(crate) fn remembering(roots: Arc<dyn crate::cluster::roots::RootMemory>) -> Self {
        let allowed = vec!["127.0.0.0/8".parse().unwrap()];
        let source = SourceConfig { allowed_addresses: allowed, ..SourceConfig::default() };
        let (shelf, metrics) = (Arc::new(Shelf::default()), Arc::new(Metrics::new()));
        let upstream = Arc::new(Upstream::new(source).unwrap());
        let verifier = Verifier::new(VerifyConfig::default(), upstream, shelf.clone(), metrics.clone());
        let inputs = Arc::new(Inputs::complete([], Whitelist::default()));
        Self { verifier: Arc::new(verifier.with_roots(roots)), shelf, inputs, metrics }
    }

    /// Sets the entries of the one policy of the namespace, of the cluster without one.
    pub(crate) fn govern(&self, namespace: Option<&str>, entries: &Value) {
        let id = namespace.map_or_else(|| PolicyId::cluster("p"), |namespace| PolicyId::namespaced(namespace, "p"));
        let policy = read_policy(id.clone(), &json!({"spec": {"registries": entries}}));
        self.inputs.change_policies(vec![(id, Some(policy))]);
    }

    pub(crate) fn whitelist(&self, images: &str, namespaces: &str) {
        let data = [("whitelist-images", images), ("whitelist-namespaces", namespaces)];
        let data = data.map(|(key, lines)| (key.to_owned(), lines.to_owned())).into();
        self.inputs.set_whitelist(Whitelist::parse(&data));
    }

    pub(crate) async fn judge(&self, namespace: &str, image: &str) -> ImageVerdict {
        self.judge_for(namespace, image, &[]).await
    }

    pub(crate) async fn judge_for(&self, namespace: &str, image: &str, pull_secrets: &[&str]) -> ImageVerdict {
        let pull_secrets: Vec<_> = pull_secrets.iter().map(|&name| name.to_owned()).collect();
        let pod = PodContext { namespace, pull_secrets: &pull_secrets, service_account: "default", dry_run: false };
        let deadline = Instant::now() + Duration::from_secs(10);
        self.verifier.judge(&self.inputs.current(), image, &pod, deadline).await
    }

    /// What a dry run says.
    pub(crate) async fn rehearse(&self, namespace: &str, image: &str) -> ImageVerdict {
        let pod = PodContext { namespace, pull_secrets: &[], service_account: "default", dry_run: true };
        let deadline = Instant::now() + Duration::from_secs(10);
        self.verifier.judge(&self.inputs.current(), image, &pod, deadline).await
    }

    /// The verdict in a few words, see [`say`].
    pub(crate) async fn say(&self, namespace: &str, image: &str) -> String {
        say(&self.judge(namespace, image).await)
    }
}

/// `allowed Cosign alice`, `denied Unsigned`, `undecided unreachable`.
pub(crate) fn say(verdict: &ImageVerdict) -> String {
    match &verdict.outcome {
        Outcome::Allowed(Basis::Policy { pass, .. }) => match (pass.method, &pass.signer) {
            (Some(method), Some(signer)) => format!("allowed {method} {signer}"),
            _ => "allowed unchecked".to_owned(),
        },
        Outcome::Allowed(basis) => format!("allowed {basis:?}"),
        Outcome::Denied(_) => format!("denied {}", super::reason_of(&verdict.outcome)),
        Outcome::Undecided(findings) => {
            let mut causes = findings.iter().flat_map(|finding| &finding.failures).map(|failure| &failure.cause);
            let fault = causes.find_map(|c| if let Cause::Undecided(fault) = c { Some(fault) } else { None });
            format!("undecided {}", fault.map_or("without a fault", |fault| fault.kind().label()))
        }
    }
}

/// The text that a person reads of a denial.
pub(crate) fn text(verdict: &ImageVerdict) -> String {
    let (Outcome::Denied(findings) | Outcome::Undecided(findings)) = &verdict.outcome else { return String::new() };
    let lines = findings.iter().flat_map(|finding| super::describe(&verdict.image, "f", finding));
    lines.map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
}

type Thing = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;
type First = Arc<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

/// A registry and a signature store on one loopback address; everything in it can be replaced by a lie.
pub(crate) struct Shop {
    pub(crate) server: Server,
    things: Arc<Mutex<HashMap<String, Thing>>>,
    first: Arc<Mutex<Option<First>>>,
}

impl Shop {
    /// On 127.0.0.`host`.
    pub(crate) fn open(host: u8) -> Self {
        let things: Arc<Mutex<HashMap<String, Thing>>> = Arc::default();
        let first: Arc<Mutex<Option<First>>> = Arc::default();
        let (found, asked) = (things.clone(), first.clone());
        let server = Server::plain(host, move |seen| {
            let first = asked.lock().unwrap().clone();
            if let Some(reply) = first.and_then(|first| first(seen)) {
                return reply;
            }
            let path = seen.target.split('?').next().unwrap_or_default();
            let thing = found.lock().unwrap().get(path).cloned();
            thing.map_or_else(|| reply(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#), |thing| thing(seen))
        });
        Self { server, things, first }
    }

    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// `host/repository:1`.
    pub(crate) fn tagged(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.host())
    }

    pub(crate) fn pinned(&self, repository: &str, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.host())
    }

    /// What is answered under a path, without its query.
    pub(crate) fn on(&self, path: &str, thing: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.things.lock().unwrap().insert(path.to_owned(), Arc::new(thing));
    }

    /// Asked before every request is looked up; an answer of its own is final.
    pub(crate) fn only(&self, first: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        *self.first.lock().unwrap() = Some(Arc::new(first));
    }

    pub(crate) fn take_away(&self, path: &str) {
        self.things.lock().unwrap().remove(path);
    }

    pub(crate) fn put(&self, path: &str, media_type: &'static str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.on(path, move |_| {
            reply(200, bytes.clone()).with("content-type", media_type).with("docker-content-digest", &digest)
        });
    }

    /// A manifest under its digest and, if one is given, a tag.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &'static str,
        value: &Value,
    ) -> Digest {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        for name in [Some(digest.as_str()), tag].into_iter().flatten() {
            self.put(&format!("/v2/{repository}/manifests/{name}"), media_type, bytes.clone());
        }
        digest
    }

    /// An image with the tag `1`; `content` makes its digest differ.
    pub(crate) fn image(&self, repository: &str, content: &str) -> Digest {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE_TYPE, "config": descriptor("", b"{}"), "layers": [],
            "annotations": {"content": content},
        });
        self.manifest(repository, Some("1"), IMAGE_TYPE, &manifest)
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", bytes);
        digest
    }

    /// The image under the `.sig` tag, with these payloads and signatures.
    pub(crate) fn legacy(&self, repository: &str, digest: &Digest, signatures: &[(Vec<u8>, String)]) {
        let layers: Vec<_> = signatures
            .iter()
            .map(|(payload, signature)| {
                self.blob(repository, payload);
                let mut layer = descriptor(SIMPLE_SIGNING, payload);
                layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
                layer
            })
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE, "config": descriptor("", b"{}"), "layers": layers});
        self.manifest(repository, Some(&format!("sha256-{}.sig", digest.hex())), IMAGE_TYPE, &manifest);
    }

    /// The image under the `.sig` or `.att` tag, with these layers and their annotations.
    pub(crate) fn annotated(&self, repository: &str, digest: &Digest, suffix: &str, layers: &[(Vec<u8>, Value)]) {
        let media_type = if suffix == "sig" { SIMPLE_SIGNING } else { "application/vnd.dsse.envelope.v1+json" };
        let layer = |(content, annotations): &(Vec<u8>, Value)| {
            self.blob(repository, content);
            let mut layer = descriptor(media_type, content);
            layer["annotations"] = annotations.clone();
            layer
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE, "config": descriptor("", b"{}"), "layers": layers});
        self.manifest(repository, Some(&format!("sha256-{}.{suffix}", digest.hex())), IMAGE_TYPE, &manifest);
    }

    /// Artifacts that refer to the digest: each a manifest with one layer, announced as a bundle.
    pub(crate) fn bundles(&self, repository: &str, digest: &Digest, bundles: &[Vec<u8>]) {
        let listed: Vec<_> = bundles.iter().map(|bundle| self.bundle(repository, bundle)).collect();
        self.referrers(repository, digest, &listed);
    }

    /// One such artifact; gives what a list of referrers says about it.
    pub(crate) fn bundle(&self, repository: &str, bundle: &[u8]) -> Value {
        self.blob(repository, bundle);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE_TYPE, "artifactType": BUNDLE,
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor(BUNDLE, bundle)],
        });
        listed(&self.manifest(repository, None, IMAGE_TYPE, &manifest))
    }

    pub(crate) fn referrers(&self, repository: &str, digest: &Digest, listed: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": listed});
        self.put(&format!("/v2/{repository}/referrers/{digest}"), INDEX_TYPE, index.to_string());
    }

    /// A signature in the store, from number 1.
    pub(crate) fn store(&self, repository: &str, digest: &Digest, number: usize, signature: &[u8]) {
        let path = format!("/sigstore/{repository}@sha256={}/signature-{number}", digest.hex());
        self.put(&path, "application/octet-stream", signature);
    }

    /// An entry for the whole registry that asks for a cosign signature.
    pub(crate) fn cosign_entry(&self) -> Value {
        json!({"registry": self.host(), "signCheck": true, "insecure": true, "cosignKeyRef": "k8s://team/cosign"})
    }

    /// An entry for the whole registry that asks for a GPG signature in its own store.
    pub(crate) fn gpg_entry(&self) -> Value {
        json!({
            "registry": self.host(), "signCheck": true, "insecure": true, "gpgKeyRef": "k8s://team/gpg",
            "lookaside": format!("http://{}/sigstore", self.host()),
        })
    }

    /// How many requests there were with this text in `METHOD target`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.server.lines().iter().filter(|line| line.contains(text)).count()
    }
}

/// A referrer that says to be a bundle.
pub(crate) fn listed(digest: &Digest) -> Value {
    json!({"mediaType": IMAGE_TYPE, "digest": digest.as_str(), "size": 9, "artifactType": BUNDLE})
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes).as_str(), "size": bytes.len()})
}

/// A P-256 key for cosign.
pub(crate) struct CosignKey {
    pair: EcdsaKeyPair,
    pub(crate) pem: String,
}

impl CosignKey {
    pub(crate) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let body = BASE64_STANDARD.encode(spki.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        Self { pair, pem }
    }

    fn sign(&self, message: &[u8]) -> String {
        BASE64_STANDARD.encode(self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref())
    }

    /// A legacy payload for this digest, signed.
    pub(crate) fn legacy(&self, digest: &Digest, signer: &str) -> (Vec<u8>, String) {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": ""},
                "image": {"docker-manifest-digest": digest.as_str()},
                "type": "cosign container image signature",
            },
            "optional": {"signer": signer},
        });
        let payload = payload.to_string().into_bytes();
        let signature = self.sign(&payload);
        (payload, signature)
    }

    /// A bundle for this digest.
    pub(crate) fn bundle(&self, digest: &Digest, signer: &str) -> Vec<u8> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digest.hex()}, "annotations": {"signer": signer}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
        });
        let (payload, kind) = (statement.to_string(), "application/vnd.in-toto+json");
        let encoded = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(&payload), "payloadType": kind,
                "signatures": [{"sig": self.sign(encoded.as_bytes())}],
            },
        });
        bundle.to_string().into_bytes()
    }
}

/// An `OpenPGP` key of `name <name@example.org>`.
pub(crate) struct GpgKey(Cert);

impl GpgKey {
    pub(crate) fn new(name: &str) -> Self {
        let made = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
        let builder = CertBuilder::new().set_creation_time(made).set_cipher_suite(CipherSuite::Cv25519);
        let builder = builder.add_userid(format!("{name} <{name}@example.org>"));
        let flags = KeyFlags::empty().set_certification().set_signing();
        Self(builder.set_primary_key_flags(flags).generate().unwrap().0)
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.clone().strip_secret_key_material().to_vec().unwrap()
    }

    /// A simple signature that says: this digest is this name.
    pub(crate) fn sign(&self, digest: &Digest, reference: &str) -> Vec<u8> {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest.as_str()},
                "type": "atomic container signature",
            },
            "optional": {"creator": "test", "timestamp": 1_700_000_000},
        });
        self.sign_bytes(payload.to_string().as_bytes())
    }

    pub(crate) fn sign_bytes(&self, content: &[u8]) -> Vec<u8> {
        let secret = self.0.primary_key().key().clone().parts_into_secret().unwrap().role_as_unspecified().clone();
        let mut pair = secret.into_keypair().unwrap();
        let signature = SignatureBuilder::new(SignatureType::Binary).sign_message(&mut pair, content).unwrap();
        let mut literal = Literal::new(DataFormat::Binary);
        literal.set_body(content.to_vec());
        let packets: [Packet; 3] = [OnePassSig::try_from(&signature).unwrap().into(), literal.into(), signature.into()];
        let mut bytes = Vec::new();
        for packet in packets {
            packet.serialize(&mut bytes).unwrap();
        }
        bytes
    }
}
