//! An installation under construction: its namespace, its rights, its configuration file, its processes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::{Cluster, User};
use crate::support::http::Http;
use crate::support::podseal::BINARY;
use crate::support::process::{Process, within};
use crate::support::{ports, scratch};

/// What the controller may do: these rules and no others. In the chart, those on named objects name them.
const RIGHTS: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: podseal-controller}
rules:
- {apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations, mutatingwebhookconfigurations], verbs: [get, list, watch, patch]}
- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: [get, patch]}
- {apiGroups: [tmax.io], resources: [clusterregistrysecuritypolicies, registrysecuritypolicies], verbs: [get, list, watch]}
- {apiGroups: [tmax.io], resources: [clusterregistrysecuritypolicies/status, registrysecuritypolicies/status], verbs: [get, patch, update]}
- {apiGroups: [''], resources: [secrets, configmaps], verbs: [get]}
- {apiGroups: [''], resources: [pods], verbs: [list]}
- {apiGroups: [podseal.io], resources: [imagesignatures], verbs: [get, list, create, delete]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: podseal-controller}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: podseal-controller}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal-controller}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: podseal-controller, namespace: NAMESPACE}
rules:
- {apiGroups: [''], resources: [secrets], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [''], resources: [configmaps], verbs: [get, list, watch, create]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: podseal-controller, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: podseal-controller}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal-controller}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: podseal, namespace: NAMESPACE}
rules:
- {apiGroups: [''], resources: [secrets, configmaps], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: podseal, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: podseal}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal}]
";

/// A namespace that stands for podseal's, and one whose Pods it judges.
pub struct World<'a> {
    pub cluster: &'a Cluster,
    /// podseal's own.
    pub own: String,
    /// The other; its Pods run `ok.invalid/…` and nothing else.
    pub judged: String,
    /// The name of the webhook configurations.
    pub name: String,
    pub port: u16,
    folder: PathBuf,
}

impl<'a> World<'a> {
    pub fn new(cluster: &'a Cluster, hint: &str) -> Self {
        let own = cluster.bare_namespace(hint);
        let judged = cluster.bare_namespace(&format!("{hint}-judged"));
        cluster.apply(&RIGHTS.replace("NAMESPACE", &own)).succeeded();
        for namespace in [&own, &judged] {
            cluster.kubectl(&["label", "namespace", namespace, &format!("podseal-under-test={own}")]).succeeded();
        }
        let policy = format!(
            "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: ok, namespace: {judged}}}\n\
             spec: {{registries: [{{registry: ok.invalid, signCheck: false}}]}}\n"
        );
        cluster.apply(&policy).succeeded();
        let world =
            Self { cluster, name: own.clone(), own, judged, port: ports::free(), folder: scratch::folder(hint) };
        std::fs::write(world.file(), world.wanted(10)).unwrap();
        world
    }

    /// The file of wanted configurations.
    pub fn file(&self) -> PathBuf {
        self.folder.join("webhooks.yaml")
    }

    /// Its content. Entries as the chart has them, by URL, for the namespaces of this world.
    pub fn wanted(&self, timeout: u8) -> String {
        let entry = |name: &str, path: &str| {
            format!(
                "- name: {name}.podseal.tmax.io\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  \
                 failurePolicy: Fail\n  timeoutSeconds: {timeout}\n  \
                 clientConfig: {{url: 'https://127.0.0.1:{port}{path}'}}\n  \
                 namespaceSelector:\n    matchLabels: {{podseal-under-test: {own}}}\n    \
                 matchExpressions: [{{key: kubernetes.io/metadata.name, operator: NotIn, values: [{own}, kube-system]}}]\n  \
                 rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]\n",
                port = self.port,
                own = self.own,
            )
        };
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
             metadata: {{name: {name}}}\nwebhooks:\n{}---\n\
             apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\n\
             metadata: {{name: {name}}}\nwebhooks: []\n",
            entry("pods", "/validate"),
            name = self.name,
        )
    }

    /// The configurations without entries, as the chart brings them.
    pub fn install_shells(&self) {
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            let shell = format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {}}}\n",
                self.name
            );
            self.cluster.apply(&shell).succeeded();
        }
    }

    /// Says that the webhook's Service has an endpoint, which is ready or not.
    pub fn endpoint(&self, ready: bool) {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: []\n\
             metadata: {{name: podseal-1, namespace: {}, labels: {{kubernetes.io/service-name: podseal}}}}\n\
             endpoints: [{{addresses: [10.1.2.3], conditions: {{ready: {ready}}}}}]\n",
            self.own
        );
        self.cluster.apply(&slice).succeeded();
    }

    /// A controller with what the chart gives it, and more.
    pub fn controller(&self, name: &str, args: &[&str]) -> Part {
        let file = self.file();
        let mut all = vec!["--webhooks-file", file.to_str().unwrap(), "--certificate-secret", "podseal-tls"];
        all.extend(args);
        self.bare_controller(name, &all)
    }

    /// A controller with these arguments alone.
    pub fn bare_controller(&self, name: &str, args: &[&str]) -> Part {
        Part::start(self, name, User::Controller, "controller", args)
    }

    /// A webhook that serves what the controller made.
    pub fn webhook(&self) -> Part {
        let listen = format!("127.0.0.1:{}", self.port);
        Part::start(self, "webhook", User::Podseal, "webhook", &["--tls-secret", "podseal-tls", "--listen", &listen])
    }

    /// Everything as it is after an installation: armed, and the webhook answers.
    pub fn installed(&self, args: &[&str]) -> (Part, Part) {
        self.install_shells();
        self.endpoint(true);
        let (controller, webhook) = (self.controller("controller", args), self.webhook());
        webhook.until_ready();
        controller.until_ready();
        (controller, webhook)
    }

    /// The validating configuration's entries.
    pub fn entries(&self) -> Vec<Value> {
        self.configuration()["webhooks"].as_array().cloned().unwrap_or_default()
    }

    pub fn configuration(&self) -> Value {
        self.json(&["get", "validatingwebhookconfiguration", &self.name])
    }

    /// The PEM text that the first entry trusts.
    pub fn trusted(&self) -> String {
        use base64::Engine as _;
        let bundle =
            self.entries().first().and_then(|entry| entry["clientConfig"]["caBundle"].as_str().map(str::to_owned));
        let bytes = base64::engine::general_purpose::STANDARD.decode(bundle.unwrap_or_default()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// An object as JSON; null when it does not exist.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.cluster.kubectl(&[args, &["-n", &self.own, "-o", "json", "--ignore-not-found"]].concat());
        let text = ran.succeeded().stdout;
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// A Secret's key as text.
    pub fn secret(&self, name: &str, key: &str) -> String {
        use base64::Engine as _;
        let secret = self.json(&["get", "secret", name]);
        let value = secret["data"][key].as_str().unwrap_or_default().to_owned();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(value).unwrap()).unwrap()
    }

    /// `kubectl run` of an image in a namespace, without keeping the Pod.
    pub fn run(&self, namespace: &str, image: &str) -> crate::support::tools::Ran {
        let args =
            ["-n", namespace, "run", "probe", "--restart=Never", "--dry-run=server", &format!("--image={image}")];
        self.cluster.kubectl(&args)
    }

    /// Who has the lease.
    pub fn holder(&self) -> String {
        let lease = self.json(&["get", "lease", "podseal-controller"]);
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// Reasons of the Events about an object.
    pub fn events(&self, about: &str) -> Vec<String> {
        let ran = self.cluster.kubectl(&["get", "events.events.k8s.io", "-A", "-o", "json"]).succeeded();
        let list: Value = serde_json::from_str(&ran.stdout).unwrap();
        let all = list["items"].as_array().unwrap().iter();
        let own = all.filter(|event| event["regarding"]["name"] == about);
        own.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// A running part of podseal.
pub struct Part {
    pub process: Process,
    url: String,
    http: Http,
}

impl Part {
    fn start(world: &World<'_>, name: &str, user: User, part: &str, args: &[&str]) -> Self {
        Self::start_with(world, name, &world.cluster.kubeconfig(user), part, args)
    }

    /// With any kubeconfig.
    pub fn start_with(world: &World<'_>, name: &str, kubeconfig: &std::path::Path, part: &str, args: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", ports::free());
        let mut command = Command::new(BINARY);
        command.args(["serve", "--run", part, "--own-namespace", &world.own, "--metrics-listen", &address]);
        command.args(["--drain-delay", "0s", "--log-format", "json", "--kubeconfig"]).arg(kubeconfig).args(args);
        command.env("HOME", scratch::folder("home")).env("POD_NAME", name);
        let process = Process::spawn(&format!("{part}-{name}"), &mut command);
        Self { process, url: format!("http://{address}"), http: Http::trusting("") }
    }

    /// `/readyz`: the status and what it says; nothing while it does not answer.
    pub fn readiness(&self) -> Option<(u16, String)> {
        self.http.get(&format!("{}/readyz", self.url)).ok().map(|reply| (reply.status, reply.text()))
    }

    #[track_caller]
    pub fn until_ready(&self) {
        self.process.wait_ready(|_| self.readiness().filter(|(status, _)| *status == 200));
    }

    /// Waits until it is not ready and says this.
    #[track_caller]
    pub fn until_not_ready(&self, why: &str) {
        let mut last = None;
        let found = within(Duration::from_secs(60), || {
            last = self.readiness();
            last.as_ref().is_some_and(|(status, text)| *status == 503 && text.contains(why)).then_some(())
        });
        assert!(found.is_some(), "not said: {why}; {last:?}\n{}", self.process.log());
    }

    /// A metric's value; `None` while it does not answer.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.http.get(&format!("{}/metrics", self.url)).ok()?.text();
        let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(name, _)| name == series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    pub fn leads(&self) -> bool {
        self.metric("podseal_leader") == Some(1.0)
    }
}

/// Waits a minute and a half at most; other builds may keep every core busy.
#[track_caller]
pub fn soon<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(90), ask).unwrap_or_else(|| panic!("never: {what}"))
}
