//! The rights of podseal's own accounts: all that is needed works, and nothing else does.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::{cluster, object, release, template};
use crate::support::cluster::{Cluster, User};
use crate::support::http::Http;
use crate::support::podseal::BINARY;
use crate::support::process::{Process, eventually};
use crate::support::{ports, scratch};

crate::tests! {
    needs [Cluster, Helm];
    i8_the_webhook_may_what_it_needs_and_nothing_else,
    i8_the_store_may_what_it_needs_and_nothing_else,
    i8_the_controller_may_what_it_needs_and_nothing_else,
    i8_secrets_elsewhere_can_be_limited_to_listed_namespaces,
    i8_h6_podseal_works_as_its_own_accounts_and_stays_away_when_uninstalled,
}

const RELEASE: &str = "podseal-rights";

fn installed() -> &'static Cluster {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        for namespace in ["listed", "elsewhere"] {
            cluster().kubectl(&["create", "namespace", namespace]).succeeded();
        }
        release(cluster(), &["install"], RELEASE, &["secrets.namespaces={listed}", "store.enabled=true"]).succeeded();
    });
    cluster()
}

/// `VERB RESOURCE[.GROUP][/SUBRESOURCE] [NAMESPACE[/NAME]]`; `-` as the namespace for none.
fn attributes(line: &str) -> Value {
    let mut words = line.split_whitespace();
    let (verb, what, place) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or("-"));
    let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let (namespace, name) = place.split_once('/').unwrap_or((place, ""));
    let namespace = if namespace == "-" { "" } else { namespace };
    json!({"verb": verb, "resource": resource, "group": group, "subresource": subresource, "namespace": namespace, "name": name})
}

/// Of these lines, the ones that the account may do.
fn allowed<'a>(cluster: &Cluster, release: &str, account: &str, lines: &[&'a str]) -> Vec<&'a str> {
    let user = format!("system:serviceaccount:{release}:{account}");
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{release}"), "system:authenticated"];
    let reviews = lines.iter().map(|line| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes(line)},
        });
        format!("---\n{review}\n")
    });
    let args = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}{\"\\n\"}"];
    let ran = cluster.kubectl_as(User::Admin, &args, &reviews.collect::<String>()).succeeded();
    let answers: Vec<_> = ran.stdout.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(answers.len(), lines.len(), "{ran}");
    lines.iter().zip(answers).filter(|(_, answer)| *answer == "true").map(|(line, _)| *line).collect()
}

#[track_caller]
fn assert_rights(release: &str, account: &str, needed: &[&str], not_needed: &[&str]) {
    assert_eq!(allowed(installed(), release, account, needed), needed, "what is needed, and allowed");
    assert_eq!(allowed(installed(), release, account, not_needed), [] as [&str; 0], "not needed, and allowed");
}

/// What neither account may do.
const NEVER: &[&str] = &[
    "create pods default",
    "create pods/exec default",
    "get pods default/any",
    "watch pods",
    "list secrets",
    "list secrets elsewhere",
    "watch secrets elsewhere",
    "create secrets elsewhere",
    "patch secrets elsewhere/any",
    "delete secrets elsewhere/any",
    "update secrets listed/any",
    "list configmaps",
    "update configmaps podseal-rights/image-validation-webhook-whitelist",
    "patch configmaps podseal-rights/podseal-rights-webhooks",
    "create clusterregistrysecuritypolicies.tmax.io",
    "update clusterregistrysecuritypolicies.tmax.io -/any",
    "patch registrysecuritypolicies.tmax.io elsewhere/any",
    "delete registrysecuritypolicies.tmax.io elsewhere/any",
    "create validatingwebhookconfigurations.admissionregistration.k8s.io",
    "delete validatingwebhookconfigurations.admissionregistration.k8s.io -/podseal-rights",
    "patch validatingwebhookconfigurations.admissionregistration.k8s.io -/other",
    "patch customresourcedefinitions.apiextensions.k8s.io -/others.example.com",
    "create customresourcedefinitions.apiextensions.k8s.io",
    "create serviceaccounts/token podseal-rights",
    "create tokenreviews.authentication.k8s.io",
    "impersonate users",
    "escalate clusterroles.rbac.authorization.k8s.io",
    "patch clusterroles.rbac.authorization.k8s.io -/podseal-rights",
    "list nodes",
    "list events elsewhere",
    "update imagesignatures.podseal.io -/any",
    "patch imagesignatures.podseal.io -/any",
    "update imagesignatures.podseal.io/status -/any",
    "patch imagesignatures.podseal.io/status -/any",
];

fn i8_the_store_may_what_it_needs_and_nothing_else() {
    let needed = ["create tokenreviews.authentication.k8s.io", "create subjectaccessreviews.authorization.k8s.io"];
    let not_needed: Vec<&str> = NEVER.iter().copied().filter(|line| !needed.contains(line)).collect();
    assert_rights(RELEASE, "podseal-rights-store", &needed, &not_needed);
    let others = [
        "get secrets podseal-rights/podseal-rights-webhook-tls",
        "list secrets podseal-rights",
        "get configmaps podseal-rights/any",
        "list clusterregistrysecuritypolicies.tmax.io",
        "create imagesignatures.podseal.io",
        "list imagesignatures.podseal.io",
        "create events.events.k8s.io podseal-rights",
    ];
    assert_rights(RELEASE, "podseal-rights-store", &needed, &others);
}

fn i8_the_webhook_may_what_it_needs_and_nothing_else() {
    let needed = [
        "list clusterregistrysecuritypolicies.tmax.io",
        "watch registrysecuritypolicies.tmax.io",
        "list secrets podseal-rights",
        "watch secrets podseal-rights",
        "get secrets podseal-rights/podseal-rights-webhook-tls",
        "get secrets elsewhere/any",
        "get secrets listed/any",
        "list secrets listed",
        "watch secrets listed",
        "get configmaps elsewhere/any",
        "get serviceaccounts elsewhere/default",
        "watch configmaps podseal-rights/image-validation-webhook-whitelist",
        "get configmaps podseal-rights/podseal-notary-trust",
        "update configmaps podseal-rights/podseal-notary-trust",
        "list endpointslices.discovery.k8s.io default",
        "create events.events.k8s.io elsewhere",
        "patch events.events.k8s.io elsewhere/any",
    ];
    let not_needed = [
        NEVER,
        &[
            "list pods",
            "get imagesignatures.podseal.io -/any",
            "list imagesignatures.podseal.io",
            "create imagesignatures.podseal.io",
            "create secrets podseal-rights",
            "patch secrets podseal-rights/any",
            "delete secrets podseal-rights/any",
            "create configmaps podseal-rights",
            "watch configmaps podseal-rights/other",
            "update configmaps podseal-rights/other",
            "update configmaps elsewhere/podseal-notary-trust",
            "delete configmaps podseal-rights/podseal-notary-trust",
            "create leases.coordination.k8s.io podseal-rights",
            "patch clusterregistrysecuritypolicies.tmax.io/status -/any",
            "patch validatingwebhookconfigurations.admissionregistration.k8s.io -/podseal-rights",
            "patch customresourcedefinitions.apiextensions.k8s.io -/registrysecuritypolicies.tmax.io",
        ],
    ]
    .concat();
    assert_rights(RELEASE, RELEASE, &needed, &not_needed);
}

fn i8_the_controller_may_what_it_needs_and_nothing_else() {
    let needed = [
        "list clusterregistrysecuritypolicies.tmax.io",
        "watch registrysecuritypolicies.tmax.io",
        "patch registrysecuritypolicies.tmax.io/status elsewhere/any",
        "patch clusterregistrysecuritypolicies.tmax.io/status -/any",
        "list secrets podseal-rights",
        "create secrets podseal-rights",
        "patch secrets podseal-rights/sigstore-key-a",
        "delete secrets podseal-rights/sigstore-key-a",
        "get secrets elsewhere/any",
        "get secrets listed/any",
        "create configmaps podseal-rights",
        "watch configmaps podseal-rights/image-validation-webhook-whitelist",
        "watch configmaps podseal-rights/podseal-notary-trust",
        "create leases.coordination.k8s.io podseal-rights",
        "update leases.coordination.k8s.io podseal-rights/podseal-rights-controller",
        "list endpointslices.discovery.k8s.io podseal-rights",
        "list endpointslices.discovery.k8s.io default",
        "patch validatingwebhookconfigurations.admissionregistration.k8s.io -/podseal-rights",
        "patch customresourcedefinitions.apiextensions.k8s.io -/registrysecuritypolicies.tmax.io",
        "patch customresourcedefinitions.apiextensions.k8s.io -/imagesignatures.podseal.io",
        "list pods",
        "get imagesignatures.podseal.io -/any",
        "list imagesignatures.podseal.io",
        "create imagesignatures.podseal.io",
        "delete imagesignatures.podseal.io -/any",
        "create events.events.k8s.io default",
        "patch events.events.k8s.io elsewhere/any",
    ];
    let not_needed = [
        NEVER,
        &[
            "list secrets listed",
            "watch secrets listed",
            "update leases.coordination.k8s.io podseal-rights/other",
            "update leases.coordination.k8s.io kube-system/kube-scheduler",
            "get serviceaccounts elsewhere/default",
            "update configmaps podseal-rights/podseal-notary-trust",
            // Nothing pins in this installation.
            "patch mutatingwebhookconfigurations.admissionregistration.k8s.io -/podseal-rights",
            "patch deployments.apps podseal-rights/podseal-rights",
        ],
    ]
    .concat();
    assert_rights(RELEASE, "podseal-rights-controller", &needed, &not_needed);
}

fn i8_secrets_elsewhere_can_be_limited_to_listed_namespaces() {
    let (cluster, name) = (installed(), "podseal-narrow");
    let settings = [
        "secrets.clusterWide=false",
        "secrets.namespaces={listed}",
        "crds.manage=false",
        "events.enabled=false",
        "imageSignatures.import=false",
    ];
    release(cluster, &["install"], name, &settings).succeeded();
    let needed = ["get secrets listed/any", "get secrets podseal-narrow/any", "list secrets podseal-narrow"];
    let refused = ["get secrets elsewhere/any", "get secrets default/any", "list secrets elsewhere", "get secrets"];
    for account in ["podseal-narrow", "podseal-narrow-controller"] {
        assert_eq!(allowed(cluster, name, account, &needed), needed);
        assert_eq!(allowed(cluster, name, account, &refused), [] as [&str; 0]);
    }
    let own = ["create events.events.k8s.io elsewhere"];
    assert_eq!(allowed(cluster, name, "podseal-narrow", &own), [] as [&str; 0]);
    let definitions = ["get", "patch"].map(|verb| {
        format!("{verb} customresourcedefinitions.apiextensions.k8s.io -/registrysecuritypolicies.tmax.io")
    });
    let definitions = definitions.each_ref().map(String::as_str);
    assert_eq!(allowed(cluster, name, "podseal-narrow-controller", &definitions), [definitions[0]]);
    let import = ["list pods", "list imagesignatures.podseal.io", "create imagesignatures.podseal.io"];
    assert_eq!(allowed(cluster, name, "podseal-narrow-controller", &import), [] as [&str; 0]);
}

/// A kubeconfig with a token that the API server gave for the account.
pub(super) fn kubeconfig(cluster: &Cluster, namespace: &str, account: &str) -> PathBuf {
    let token = cluster.kubectl(&["-n", namespace, "create", "token", account]).succeeded();
    let file = scratch::folder("account").join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.url(), "certificate-authority": cluster.authority().file()}}],
        "users": [{"name": "u", "user": {"token": token.line()}}],
    });
    std::fs::write(&file, text.to_string()).unwrap();
    file
}

/// podseal as the chart starts it.
pub(super) struct Started {
    pub process: Process,
    /// Where it answers reviews, if it does.
    pub reviews: String,
    /// Where its probes are.
    plain: String,
}

impl Started {
    pub fn is_ready(&self) -> bool {
        Http::trusting("").get(&format!("{}/readyz", self.plain)).is_ok_and(|reply| reply.status == 200)
    }
}

/// Starts it as these settings of the chart do, except for addresses and files.
pub(super) fn start(cluster: &Cluster, deployment: &str, namespace: &str, settings: &[&str]) -> Started {
    let objects = super::documents(&template(namespace, namespace, settings, &[]).succeeded().stdout);
    let container = &object(&objects, "Deployment", deployment)["spec"]["template"]["spec"]["containers"][0];
    let webhooks = scratch::folder("webhooks").join("webhooks.yaml");
    let map = object(&objects, "ConfigMap", &format!("{namespace}-webhooks"));
    std::fs::write(&webhooks, map["data"]["webhooks.yaml"].as_str().unwrap()).unwrap();
    let (reviews, plain) = (format!("127.0.0.1:{}", ports::free()), format!("127.0.0.1:{}", ports::free()));
    let mut command = Command::new(BINARY);
    for arg in container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()) {
        command.arg(match arg.split_once('=') {
            Some(("--listen", _)) => format!("--listen={reviews}"),
            Some(("--metrics-listen", _)) => format!("--metrics-listen={plain}"),
            Some(("--webhooks-file", _)) => format!("--webhooks-file={}", webhooks.display()),
            _ => arg.to_owned(),
        });
    }
    command.arg("--kubeconfig").arg(kubeconfig(cluster, namespace, deployment));
    command.env("PODSEAL_NAMESPACE", namespace).env("POD_NAME", deployment).env("HOME", scratch::folder("home"));
    let process = Process::spawn(deployment, &mut command);
    Started { process, reviews: format!("https://{reviews}"), plain: format!("http://{plain}") }
}

/// Says that somebody answers behind the webhook's Service, as the control plane does for Pods that are ready.
fn answered(cluster: &Cluster, name: &str) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "replicas", "namespace": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true, "serving": true}}],
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
    });
    cluster.apply(&slice.to_string()).succeeded();
}

fn i8_h6_podseal_works_as_its_own_accounts_and_stays_away_when_uninstalled() {
    // Its webhooks are armed, and nobody could make Pods at a shared one.
    let (cluster, name) = (Cluster::empty(), "podseal-runs");
    release(&cluster, &["install"], name, &[]).succeeded();
    let controller = start(&cluster, &format!("{name}-controller"), name, &[]);
    let webhook = start(&cluster, name, name, &[]);
    // The controller makes the certificate and the whitelist, and nothing is armed before somebody answers.
    eventually("the webhook is ready", || webhook.is_ready());
    for made in ["image-validation-webhook-whitelist", "podseal-notary-trust"] {
        cluster.wait_for(&["-n", name, "get", "configmap", made, "-o", "name"], |_| true);
    }
    let held = || {
        let path = "jsonpath={.webhooks[*].failurePolicy}";
        let ran = cluster.kubectl(&["get", "validatingwebhookconfiguration", name, "-o", path]);
        ran.ok().then(|| ran.line().to_owned())
    };
    assert!(!controller.is_ready());
    assert_eq!(held().as_deref(), Some(""));
    answered(&cluster, name);
    eventually("the webhooks are armed", || controller.is_ready());
    assert_eq!(held().as_deref(), Some("Fail Ignore Ignore"));

    // What somebody changes by hand is mended, and what Helm does leaves it alone.
    let weaken = r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]"#;
    cluster.kubectl(&["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", weaken]).succeeded();
    eventually("it is mended", || held().as_deref() == Some("Fail Ignore Ignore"));
    release(&cluster, &["upgrade"], name, &["commonLabels.team=a"]).succeeded();
    assert_eq!(held().as_deref(), Some("Fail Ignore Ignore"));
    for part in [&webhook, &controller] {
        let log = part.process.log();
        assert!(!log.to_lowercase().contains("forbidden"), "{log}");
    }

    // It runs on for a while when it is uninstalled, and does not put the webhooks back.
    release(&cluster, &["uninstall"], name, &[]).succeeded();
    assert_eq!(held(), None);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(held(), None);
    cluster.kubectl(&["run", "any", "--image=any.invalid/x:1"]).succeeded();
}
