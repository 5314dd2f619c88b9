//! podseal, installed by helm from the chart on a node, with a key directory and images to judge.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::node::Node;
use crate::support::process::within;
use crate::support::registry::Image;
use crate::support::signer::{CosignKey, Format};
use crate::support::tools::Ran;

/// The chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/podseal")
}

/// A cluster with podseal in it, and a policy for the images under `e2e/judged`.
pub struct World {
    pub node: Node,
    /// The key directory of the controller.
    pub keys: PathBuf,
    /// Signs what may run; in the key directory as `maker.pub`.
    pub key: CosignKey,
    /// Signed by it.
    pub signed: Image,
    /// Not signed.
    pub unsigned: Image,
    /// Where Pods are judged.
    pub namespace: String,
}

impl World {
    /// A node without podseal, everything else in place.
    pub fn new() -> Self {
        let node = Node::start();
        let (keys, key) = (node.host_folder("keys"), CosignKey::new());
        // A second key stays, so that the first may be taken away.
        std::fs::write(keys.join("other.pub"), CosignKey::new().public).unwrap();
        std::fs::write(keys.join("maker.pub"), &key.public).unwrap();
        let signed = node.registry.push_program("e2e/judged/signed:1", &[]);
        key.sign(&node.registry, &signed, Format::Bundle, &[]).succeeded();
        let unsigned = node.registry.push_program("e2e/judged/unsigned:1", &[]);
        let namespace = node.cluster().bare_namespace("judged");
        Self { node, keys, key, signed, unsigned, namespace }
    }

    /// Its API server.
    pub fn cluster(&self) -> &Cluster {
        self.node.cluster()
    }

    /// `helm install` or `helm upgrade` of the chart, until it says that it is ready.
    #[must_use]
    pub fn helm(&self, verb: &str, more: &[&str]) -> Ran {
        let image = self.node.podseal();
        let values = format!(
            "image: {{registry: '{}', repository: {}, digest: '{}'}}\n\
             keys: {{source: hostPath, hostPath: {{path: '{}', nodeSelector: {{kubernetes.io/os: linux}}}}}}\n\
             ca:\n  bundle: |\n    {}\n",
            image.host,
            image.repository,
            image.digest,
            self.keys.display(),
            self.node.registry.authority.as_ref().unwrap().pem.trim().replace('\n', "\n    "),
        );
        let file = self.node.host_folder("helm").join("values.yaml");
        std::fs::write(&file, values).unwrap();
        let chart = chart();
        let args = [verb, "podseal", chart.to_str().unwrap(), "--namespace", OWN_NAMESPACE, "--create-namespace"];
        self.node.helm(&[&args[..], &["--wait", "--timeout=110s", "--values", file.to_str().unwrap()], more].concat())
    }

    /// Has images under `e2e/judged` checked by the key of the file `NAME.pub` in the key directory.
    pub fn policy(&self, key: &str) {
        let policy = format!(
            "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {{name: e2e}}\nspec:\n  registries:\n  \
             - registry: {}/e2e/judged\n    signCheck: true\n    cosignKeyRef: k8s://{OWN_NAMESPACE}/sigstore-key-{key}\n",
            self.node.registry.host,
        );
        self.cluster().apply(&policy).succeeded();
    }

    /// `kubectl run` of an image that stays, or an attempt that stores nothing.
    #[must_use]
    pub fn run(&self, pod: &str, image: &Image, more: &[&str]) -> Ran {
        let image = format!("--image={}", image.pinned());
        let args = ["-n", &self.namespace, "run", pod, "--restart=Never", &image];
        self.cluster().kubectl_as(User::Alice, &[&args[..], more].concat(), "")
    }

    /// Asks until the API server's answer about an image is this one; says how long it took.
    #[track_caller]
    pub fn until(&self, what: &str, image: &Image, wanted: impl Fn(&Ran) -> bool) -> Duration {
        let started = Instant::now();
        let mut last = None;
        let found = within(Duration::from_secs(60), || {
            let ran = self.run("probe", image, &["--dry-run=server"]);
            let good = wanted(&ran);
            last = Some(ran);
            good.then(|| started.elapsed())
        });
        let took = found.unwrap_or_else(|| panic!("not within a minute: {what}; last: {}", last.unwrap()));
        eprintln!("{what}: after {} ms", took.as_millis());
        took
    }

    /// Lets a namespace owner make Pods, as she may in any cluster.
    pub fn bind_owner(&self) {
        let namespace = &self.namespace;
        let bind = ["create", "rolebinding", "owner", "--clusterrole=edit", "--user=alice", "-n", namespace];
        self.cluster().kubectl(&bind).succeeded();
    }
}

/// Whether podseal denied the Pod.
pub fn denied(ran: &Ran) -> bool {
    !ran.ok() && ran.stderr.contains("denied the request")
}
