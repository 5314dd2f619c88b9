//! The Helm chart: what it renders, what its values may be, and what it does to a real API server.
//!
//! There is no node and no controller manager here; `e2e` has podseal's Pods really run.

mod conditions;
mod generated;
mod lifecycle;
mod linted;
mod listed;
mod people;
mod recovery;
mod rendered;
mod rights;
mod upgrade;
mod values;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::cluster::{Cluster, User};
use crate::support::tools::{self, Ran};
use crate::support::{harness, scratch};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        values::trials(),
        rendered::trials(),
        linted::trials(),
        generated::trials(),
        lifecycle::trials(),
        conditions::trials(),
        rights::trials(),
        listed::trials(),
        people::trials(),
        upgrade::trials(),
        recovery::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Settings of the chart that between them render everything it can render.
const MATRIX: &[&[&str]] = &[
    &[],
    &["keys.source=hostPath", "keys.hostPath.nodeSelector.key-host=yes", "enforcement=Audit", "verbosity=2"],
    &["keys.source=pvc", "keys.pvc.claimName=keys", "pinning.enabled=true", "templates=enforce", "replicas=1"],
    &[
        "keys.source=configMap",
        "keys.configMap.name=keys",
        "certificates.source=certManager",
        "serviceMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "dashboard.enabled=true",
        "templates=off",
        "webhooks.policies=false",
    ],
    &[
        "keys.source=urls",
        "keys.urls={http://sigstore.local:81/keys/group1.pgp#0123456789ABCDEF0123456789ABCDEF01234567}",
        "certificates.source=secret",
        "certificates.secretName=by-hand",
        "crds.manage=false",
        "imageSignatures.import=false",
        "events.enabled=false",
        "secrets.clusterWide=false",
        "secrets.namespaces={team-a,team-b}",
        "userRoles.create=false",
        "podDisruptionBudget=false",
        "networkPolicy.enabled=false",
        "topologySpread=false",
        "uninstallHooks=false",
        "webhooks.clientCA.configMap=api-servers",
        "store.enabled=true",
        "store.kubernetesAuth=false",
        "store.htpasswd.secret=makers",
        "store.tls.secret=store-tls",
        "store.clientCA.configMap=makers-ca",
        "store.persistence.claimName=sigstore",
    ],
    &[
        "image.registry=mirror.local:5000/upstream",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "imagePullSecrets[0].name=pull",
        "registriesD.files.default\\.yaml=docker: {}",
        "ca.bundle=-----BEGIN CERTIFICATE-----",
        "dockerConfig.secret=credentials",
        "sources.tokenRealms.registry\\.local=auth.local",
        "sources.allowAddresses={10.0.0.0/8,fd00::/8}",
        "sources.apiServerAddresses={192.0.2.1}",
        "proxy.httpsProxy=http://proxy.local:3128",
        "proxy.noProxy=10.0.0.0/8",
        "denyWithoutPolicy=true",
        "restrictNamespaces=true",
        "sharedNamespaces={shared}",
        "exempt.namespaces={sandbox}",
        "exempt.nodeAgents={calico-system,longhorn-system}",
        "hostNetwork=true",
        "listenAddress=[::]",
        "priorityClassQuota=true",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.monitoring=yes",
        "networkPolicy.egress[0].ports[0].port=443",
        "commonLabels.team=platform",
        "podLabels.mesh=off",
        "podAnnotations.note=x",
        "tolerations[0].operator=Exists",
        "controller.tolerations[0].operator=Exists",
        "nodeSelector.kind=infra",
        "store.enabled=true",
        "store.keys.configMap=keys",
        "store.persistence.storageClassName=fast",
        "store.service.type=NodePort",
        "store.tolerations[0].operator=Exists",
    ],
    &["registriesD.configMap=stores", "ca.configMap=authorities", "ca.key=bundle.pem", "webhooks.failurePolicy=Ignore"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("charts/podseal")
}

/// `helm ARGS`, with nothing of the machine's own helm.
fn helm(args: &[&str]) -> Ran {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let home = HOME.get_or_init(|| scratch::folder("helm"));
    let mut command = tools::command("helm");
    command.env("HELM_CACHE_HOME", home.join("cache")).env("HELM_CONFIG_HOME", home.join("config"));
    command.env("HELM_DATA_HOME", home.join("data")).env("HOME", home).env_remove("HELM_NAMESPACE");
    tools::run(command.args(args))
}

/// `helm template` with some settings, in the order of installation.
fn template(release: &str, namespace: &str, settings: &[&str], more: &[&str]) -> Ran {
    let chart = folder();
    // helm's own idea of a version is that of the library it was built with.
    let mut args =
        vec!["template", release, chart.to_str().unwrap(), "--namespace", namespace, "--kube-version", "1.36.0"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    args.extend(more);
    helm(&args)
}

/// The documents of a YAML stream; those without content left out.
fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// What the chart renders as the release `podseal` in `registry-system`.
fn rendered(settings: &[&str]) -> Vec<Value> {
    documents(&template("podseal", "registry-system", settings, &[]).succeeded().stdout)
}

/// The one object of a kind and name.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let of = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(of).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// The webhook configurations that the controller is to put in place.
fn wanted(objects: &[Value], name: &str) -> Vec<Value> {
    let map = object(objects, "ConfigMap", &format!("{name}-webhooks"));
    documents(map["data"]["webhooks.yaml"].as_str().unwrap())
}

/// The API server that releases of the chart are installed at.
fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| harness::attempt("the chart's control plane", Cluster::empty));
    shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// `helm VERB RELEASE` of the chart at that API server, in a namespace of the release's name.
fn release(cluster: &Cluster, verb: &[&str], release: &str, settings: &[&str]) -> Ran {
    let (chart, kubeconfig) = (folder(), cluster.kubeconfig(User::Admin));
    let mut args = verb.to_vec();
    args.push(release);
    if matches!(verb[0], "install" | "upgrade") {
        args.push(chart.to_str().unwrap());
    }
    if verb[0] == "install" {
        args.push("--create-namespace");
    }
    args.extend(["--namespace", release, "--kubeconfig", kubeconfig.to_str().unwrap()]);
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    helm(&args)
}
