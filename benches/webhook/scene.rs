//! What the measurements run on: clusters, registries, a store, signed images, and the servers under test.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Plan;
use crate::server::Server;
use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::notary::Notary;
use crate::support::registry::{Image, Registry};
use crate::support::review::Review;
use crate::support::signer::{CosignKey, Format, Gpg, GpgKey, KeySpec, Skopeo};
use crate::support::sigstore::{By, How, Identity, Sigstore};
use crate::support::store::{Store, registries_d};

/// The namespace of all Pods.
pub const NAMESPACE: &str = "bench";
/// A cosign key and a keyring, as in a cluster that `deploy/samples` were applied to.
const COSIGN_SECRET: &str = "cosign-key";
const GPG_SECRET: &str = "sigstore-key-group1";
/// The trust root of keyless signatures, and who made them.
const ROOT: &str = "sigstore-root";
const MAKER: &str = "maker@example.org";

/// Everything.
#[derive(Debug)]
pub struct Scene {
    /// A registry with the referrers API, over TLS.
    pub registry: Registry,
    /// One without, over plain HTTP.
    pub old_registry: Registry,
    /// The lookaside store.
    pub store: Store,
    _notary: Notary,
    /// Signed images.
    pub signed: Signed,
    /// podseal with 10 entries and 10 lines.
    pub small: Server,
    /// podseal with 10,000 of each.
    pub large: Server,
    /// The floor.
    pub floor: Server,
    _clusters: [Cluster; 2],
}

/// Images, each signed in one way.
#[derive(Debug)]
pub struct Signed {
    /// cosign, `.sig` tag, on the registry with referrers.
    pub legacy: Vec<Image>,
    /// cosign, bundle, on the registry with referrers.
    pub bundle: Vec<Image>,
    /// cosign, bundle under the fallback tag.
    pub fallback: Vec<Image>,
    /// GPG, to be asked for by digest.
    pub gpg: Vec<Image>,
    /// GPG, to be asked for by tag.
    pub gpg_by_tag: Vec<Image>,
    /// cosign without a key, bundle with Rekor v2 and a timestamp.
    pub keyless: Vec<Image>,
    /// cosign without a key, `.sig` tag with Rekor v1.
    pub keyless_legacy: Vec<Image>,
    /// Indexes for two platforms, signed themselves.
    pub index: Vec<Image>,
    /// Indexes of which both manifests are signed.
    pub children: Vec<Image>,
    /// Notary.
    pub notary: Vec<Image>,
}

struct Signers {
    cosign: CosignKey,
    gpg: Gpg,
    gpg_key: GpgKey,
}

impl Scene {
    /// Starts and signs everything.
    pub fn set(plan: Plan) -> Self {
        let (registry, old_registry, store) = (Registry::tls(), Registry::debian(), Store::start());
        let gpg = Gpg::new();
        let gpg_key = gpg.generate(&KeySpec::new("Image Maker <im@registry.local>"));
        let signers = Signers { cosign: CosignKey::new(), gpg, gpg_key };
        let notary = Notary::start();
        let signed = Signed::make(plan.images, &signers, &registry, &old_registry, &store, &notary);
        let roots = signed.notary.iter().map(|image| notary.root_id(&gun(image))).collect();
        let clusters = [10, 10_000].map(|size| {
            let cluster = Cluster::start();
            let entries =
                Entries { registry: &registry, old: &old_registry, store: &store, notary: &notary, roots: &roots };
            fill(&cluster, size, &signers, &entries);
            cluster
        });
        let authority = registry.authority.as_ref().unwrap().file();
        let args = ["--allow-address", "127.0.0.0/8", "--ca-file", authority.to_str().unwrap()];
        let [small, large] = [0, 1].map(|which| Server::podseal(&clusters[which], &args));
        for (server, lines) in [(&small, "10"), (&large, "10000")] {
            assert_eq!(server.metric("podseal_whitelist_lines").to_string(), lines);
            assert_eq!(server.metric("podseal_policies_with_problems").to_string(), "0");
        }
        Self {
            registry,
            old_registry,
            store,
            _notary: notary,
            signed,
            small,
            large,
            floor: Server::floor(),
            _clusters: clusters,
        }
    }
}

impl Signed {
    fn make(
        count: usize,
        signers: &Signers,
        registry: &Registry,
        old: &Registry,
        store: &Store,
        server: &Notary,
    ) -> Self {
        let push = |registry: &Registry, kind: &str| -> Vec<Image> {
            (0..count).map(|i| registry.push(&format!("{kind}/app-{i}:1.0"))).collect()
        };
        let cosign = |registry: &Registry, kind: &str, format: Format| {
            let images = push(registry, kind);
            for image in &images {
                signers.cosign.sign(registry, image, format, &[]).succeeded();
            }
            images
        };
        let folder = format!("file://{}", store.folder().display());
        let skopeo = Skopeo { gpg: &signers.gpg, registries_d: registries_d(&[(&registry.host, &folder)]) };
        let simple = |kind: &str| {
            let images = push(registry, kind);
            for image in &images {
                skopeo.sign(registry, image, &signers.gpg_key).succeeded();
            }
            images
        };
        let keyless = |kind: &str, how: How| {
            let images = push(registry, kind);
            for image in &images {
                let maker = By::Identity(Identity::mail(MAKER));
                Sigstore::shared().sign(registry, &image.pinned(), how, &maker, &[]).succeeded();
            }
            images
        };
        let indexes = |kind: &str, whole: bool| -> Vec<Image> {
            let index = |i: usize| {
                let name = format!("cosign/{kind}-{i}");
                let parts = ["a", "b"].map(|part| registry.push(&format!("{name}:{part}")));
                let index = registry.push_index(&format!("{name}:1.0"), &[&parts[0], &parts[1]]);
                let signed: &[&Image] = if whole { &[&index] } else { &[&parts[0], &parts[1]] };
                for image in signed {
                    signers.cosign.sign(registry, image, Format::Bundle, &[]).succeeded();
                }
                index
            };
            (0..count).map(index).collect()
        };
        let notary = push(registry, "notary");
        let publisher = server.publisher();
        for image in &notary {
            publisher.init(&gun(image));
            publisher.sign(&gun(image), "1.0", image.hex(), &[]);
        }
        Self {
            keyless: keyless("keyless/bundle", How::BUNDLE),
            keyless_legacy: keyless("keyless/legacy", How::LEGACY),
            index: indexes("index", true),
            children: indexes("children", false),
            notary,
            legacy: cosign(registry, "cosign/legacy", Format::Legacy),
            bundle: cosign(registry, "cosign/bundle", Format::Bundle),
            fallback: cosign(old, "cosign/fallback", Format::Bundle),
            gpg: simple("gpg/digest"),
            gpg_by_tag: simple("gpg/tag"),
        }
    }
}

/// What Notary calls an image's repository.
fn gun(image: &Image) -> String {
    format!("{}/{}", image.host, image.repository)
}

/// Where the policies point.
struct Entries<'a> {
    registry: &'a Registry,
    old: &'a Registry,
    store: &'a Store,
    notary: &'a Notary,
    /// Of the Notary repositories.
    roots: &'a Vec<String>,
}

impl Entries<'_> {
    /// The entries that govern the signed images.
    fn governing(&self) -> [Value; 5] {
        let cosign = format!("k8s://{OWN_NAMESPACE}/{COSIGN_SECRET}");
        [
            json!({"registry": format!("{}/cosign", self.registry.host), "signCheck": true, "cosignKeyRef": cosign}),
            json!({"registry": format!("{}/cosign", self.old.host), "signCheck": true, "cosignKeyRef": cosign,
                   "insecure": true}),
            json!({"registry": format!("{}/gpg", self.registry.host), "signCheck": true, "lookaside": self.store.url,
                   "gpgKeyRef": format!("k8s://{OWN_NAMESPACE}/{GPG_SECRET}")}),
            json!({"registry": format!("{}/keyless", self.registry.host), "signCheck": true, "cosign": {
                   "identities": [{"issuer": Sigstore::shared().issuer("mail"), "subject": MAKER}],
                   "trustRootRef": format!("k8s://{OWN_NAMESPACE}/{ROOT}")}}),
            json!({"registry": format!("{}/notary", self.registry.host), "signCheck": true, "notary": self.notary.url,
                   "notaryTrust": {"rootKeyIds": self.roots}}),
        ]
    }
}

/// Puts policies, whitelist and keys into a cluster; a policy object has 500 entries at the most.
fn fill(cluster: &Cluster, size: usize, signers: &Signers, entries: &Entries<'_>) {
    cluster.kubectl(&["create", "namespace", NAMESPACE]).succeeded();
    cluster.kubectl(&["-n", NAMESPACE, "create", "serviceaccount", "default"]).succeeded();
    cluster.secret(OWN_NAMESPACE, COSIGN_SECRET, &[("cosign.pub", signers.cosign.public.as_bytes())]);
    cluster.secret(OWN_NAMESPACE, GPG_SECRET, &[("group1.pgp", &signers.gpg.export(&[&signers.gpg_key]))]);
    let root = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ROOT, "namespace": OWN_NAMESPACE},
        "data": {"trusted_root.json": Sigstore::shared().root.text()},
    });
    cluster.kubectl_as(User::Admin, &["apply", "--server-side", "-f", "-"], &root.to_string()).succeeded();
    let mut all = further_entries(size - 5, &entries.registry.host);
    // In the middle, where neither the first nor the last look finds them.
    let middle = all.len() / 2;
    drop(all.splice(middle..middle, entries.governing()));
    let per_policy = if size <= 10 { 1 } else { 500 };
    let policies: Vec<Value> = all.chunks(per_policy).enumerate().map(|(i, entries)| policy(i, entries)).collect();
    // The annotation of a client-side apply would be too large.
    let apply = ["apply", "--server-side", "-f", "-"];
    let list = |items: &[Value]| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    for part in policies.chunks(10) {
        cluster.kubectl_as(User::Admin, &apply, &list(part)).succeeded();
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "image-validation-webhook-whitelist", "namespace": OWN_NAMESPACE},
        "data": {"whitelist-images": whitelist(size, &entries.registry.host)},
    });
    cluster.kubectl_as(User::Admin, &apply, &map.to_string()).succeeded();
}

fn policy(number: usize, entries: &[Value]) -> Value {
    json!({
        "apiVersion": "tmax.io/v1", "kind": "ClusterRegistrySecurityPolicy",
        "metadata": {"name": format!("policy-{number}")}, "spec": {"registries": entries},
    })
}

/// Entries that do not govern: a tenth with wildcard hosts, some below the host of the images under test.
pub fn further_entries(count: usize, host: &str) -> Vec<Value> {
    let entry = |i: usize| {
        let registry = match i % 10 {
            0 => format!("*.zone-{i}.example.com/team-{}", i % 7),
            1..4 => format!("{host}/cosign/other-{i}"),
            _ => format!("registry-{}.example.com/team-{i}/apps", i % 100),
        };
        json!({"registry": registry, "signCheck": true, "signer": [format!("maker-{i}@example.com")],
               "cosignKeyRef": format!("k8s://{OWN_NAMESPACE}/{COSIGN_SECRET}")})
    };
    (0..count).map(entry).collect()
}

/// Lines that do not admit the images under test: a tenth with globs (a tenth of those begin with the star, on the host of
/// the images), a tenth without host.
pub fn whitelist(count: usize, host: &str) -> String {
    let mut text = String::new();
    for i in 0..count {
        let line = match (i % 10, i / 10 % 10) {
            (0, 0) => format!("{host}/*/tool-{i}"),
            (0, 1..6) => format!("{host}/team-{i}/*"),
            (0, _) => format!("registry-{}.example.com/team-{i}-*", i % 100),
            (1, _) => format!("library-{i}/app"),
            (2..6, _) => format!("registry-{}.example.com/team-{i}/app:1.{i}", i % 100),
            _ => format!("{host}/public/app-{i}"),
        };
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// The creation of a Pod with this image, of the size and with the fields that an API server sends.
pub fn review(image: &str) -> Review {
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": 8080, "scheme": "HTTP"}, "initialDelaySeconds": 5, "periodSeconds": 10,
               "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
    };
    let env: Vec<Value> =
        (0..12).map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("value {i}")})).collect();
    let labels = json!({"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "frontend",
                        "pod-template-hash": "6c8b4d5f7d"});
    let metadata = json!({
        "generateName": "shop-6c8b4d5f7d-", "namespace": NAMESPACE, "creationTimestamp": null, "labels": labels,
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "checksum/config": "0".repeat(64)},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6c8b4d5f7d", "controller": true,
                             "uid": "0d3a9f9a-2a3f-4d0e-8a5a-3f3f7d1d2b10", "blockOwnerDeletion": true}],
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                           "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": managed_fields()}],
    });
    let container = json!({
        "name": "shop", "image": image, "imagePullPolicy": "IfNotPresent", "env": env,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
        "securityContext": {"runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/shop", "readOnly": true},
                         {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "containers": [container], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "serviceAccountName": "default", "serviceAccount": "default", "terminationGracePeriodSeconds": 30,
            "enableServiceLinks": true, "priority": 0, "preemptionPolicy": "PreemptLowerPriority", "securityContext": {},
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "volumes": [
                {"name": "config", "configMap": {"name": "shop", "defaultMode": 420}},
                {"name": "token", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}},
            ],
        },
        "status": {},
    });
    Review::of("Pod", "", "pods", NAMESPACE, &pod)
}

fn managed_fields() -> Value {
    let fields =
        ["image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe", "resources", "volumeMounts"];
    let set: serde_json::Map<String, Value> = fields.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
    json!({
        "f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}},
                       "f:ownerReferences": {".": {}, "k:{\"uid\":\"0d3a9f9a-2a3f-4d0e-8a5a-3f3f7d1d2b10\"}": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"shop\"}": set}, "f:dnsPolicy": {}, "f:restartPolicy": {},
                   "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}, "f:volumes": {}},
    })
}
