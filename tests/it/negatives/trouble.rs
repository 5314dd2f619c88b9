//! A control plane of its own, to which things happen that the tests of the shared one would not survive.

use std::path::Path;
use std::time::Duration;

use crate::support::cluster::{Cluster, OWN_NAMESPACE};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::within;
use crate::support::review::{Answer, Review};

/// A control plane, the podseal that watches it, and what they are asked.
struct Trouble {
    cluster: Cluster,
    podseal: Podseal,
}

const NAMESPACE: &str = "team";
/// Far beyond the longest pause of a watch.
const PATIENCE: Duration = Duration::from_secs(120);

fn ask(podseal: &Podseal, image: &str) -> Answer {
    podseal.review(&Review::pod(NAMESPACE).container("c", image))
}

impl Trouble {
    fn policy(&self, name: &str, registry: &str) {
        self.cluster
            .apply(&format!(
                "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
                 spec: {{registries: [{{registry: {registry}, signCheck: false}}]}}\n"
            ))
            .succeeded();
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&dyn Fn(&str) -> Answer) -> bool) {
        let ask = |image: &str| ask(&self.podseal, image);
        let held = within(PATIENCE, || holds(&ask).then_some(()));
        assert!(held.is_some(), "not within {PATIENCE:?}: {what}\n{}", self.podseal.log());
    }
}

/// A CRD of the same name that takes any object, as an older release or a careless hand may have left it.
fn permissive(name: &str, kind: &str, scope: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {name}.tmax.io}}\n\
         spec:\n  group: tmax.io\n  scope: {scope}\n  names: {{plural: {name}, singular: {}, kind: {kind}}}\n  versions:\n  \
         - {{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}\n",
        kind.to_lowercase()
    )
}

const TORN: [(&str, &str); 5] = [
    ("text", "spec: text"),
    ("number", "spec: {registries: 7}"),
    ("elements", "spec: {registries: [7, {registry: torn.invalid, signCheck: 'no'}]}"),
    ("misspelt", "spec: {registries: [{registry: misspelt.invalid, signCheck: true, cosignKeyref: k8s://a/b}]}"),
    ("nothing", "other: true"),
];

/// Malformed objects that were stored before the schema came govern and deny, and stop nothing else.
fn start_with_malformed_policies() -> Trouble {
    let cluster = Cluster::start();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).succeeded();
    cluster.kubectl(&["delete", "crd", "registrysecuritypolicies.tmax.io"]).succeeded();
    cluster.apply(&permissive("registrysecuritypolicies", "RegistrySecurityPolicy", "Namespaced")).succeeded();
    for (name, spec) in TORN {
        let text = format!(
            "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n{spec}\n"
        );
        assert!(within(PATIENCE, || cluster.apply(&text).ok().then_some(())).is_some(), "{name}");
    }
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", crds.to_str().unwrap()]).succeeded();
    let podseal = Podseal::start(&cluster, &Options::new("trouble"));
    let trouble = Trouble { cluster, podseal };
    trouble.policy("good", "good.invalid");
    trouble.until("the good policy beside the malformed ones", |ask| ask("good.invalid/x:1").allowed);
    for image in ["torn.invalid/x:1", "misspelt.invalid/x:1"] {
        let answer = ask(&trouble.podseal, image);
        assert!(!answer.allowed && answer.message.contains("cannot be checked by its policy"), "{answer:?}");
    }
    let answer = ask(&trouble.podseal, "unnamed.invalid/x:1");
    assert!(!answer.allowed && answer.message.contains("no policy names the registry"), "{answer:?}");
    trouble
}

/// The whitelist comes, changes and goes without a restart.
fn edit_the_whitelist(trouble: &Trouble) {
    let image = "listed.invalid/x:1";
    assert!(!ask(&trouble.podseal, image).allowed);
    let edit = |line: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\n\
             metadata: {{name: image-validation-webhook-whitelist, namespace: {OWN_NAMESPACE}}}\n\
             data: {{whitelist-images: '{line}'}}\n"
        );
        trouble.cluster.apply(&text).succeeded();
    };
    edit("listed.invalid/*");
    trouble.until("the line is in force", |ask| ask(image).allowed);
    edit("other.invalid/*");
    trouble.until("the other line is in force", |ask| ask("other.invalid/x").allowed && !ask(image).allowed);
    let delete = ["-n", OWN_NAMESPACE, "delete", "configmap", "image-validation-webhook-whitelist"];
    trouble.cluster.kubectl(&delete).succeeded();
    trouble.until("the list is empty", |ask| !ask("other.invalid/x").allowed);
}

/// While the API server is down the last state decides; what changed while no watch stood is seen afterwards.
fn restart_the_api_server(trouble: &Trouble) {
    trouble.cluster.restart(|| {
        for _ in 0..3 {
            assert!(ask(&trouble.podseal, "good.invalid/x:1").allowed);
            assert!(!ask(&trouble.podseal, "unnamed.invalid/x:1").allowed);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    trouble.policy("good", "better.invalid");
    trouble.policy("new", "new.invalid");
    trouble.cluster.kubectl(&["-n", NAMESPACE, "delete", "rsp", "misspelt"]).succeeded();
    trouble.until("what changed meanwhile", |ask| {
        !ask("good.invalid/x:1").allowed
            && ask("better.invalid/x:1").allowed
            && ask("new.invalid/x:1").allowed
            && ask("misspelt.invalid/x:1").message.contains("no policy names")
    });
}

/// An API server that accepts connections and never answers changes nothing either, and is followed again afterwards.
fn hang_the_api_server(trouble: &Trouble) {
    trouble.cluster.pause();
    for _ in 0..4 {
        assert!(ask(&trouble.podseal, "new.invalid/x:1").allowed);
        assert!(!ask(&trouble.podseal, "unnamed.invalid/x:1").allowed);
        std::thread::sleep(Duration::from_millis(500));
    }
    trouble.cluster.resume();
    trouble.policy("later", "later.invalid");
    trouble.until("a policy after the pause", |ask| ask("later.invalid/x:1").allowed);
}

/// Without the CRD there is no list, and so no certainty that no policy exists.
fn delete_the_crd(trouble: &Trouble) {
    let cluster_policy = "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {name: some}\n\
                          spec: {registries: [{registry: some.invalid, signCheck: false}]}\n";
    trouble.cluster.apply(cluster_policy).succeeded();
    trouble.until("the cluster policy", |ask| ask("some.invalid/x:1").allowed);
    trouble.cluster.kubectl(&["delete", "crd", "registrysecuritypolicies.tmax.io"]).succeeded();
    trouble.until("the missing list is noticed", |ask| {
        let answer = ask("unnamed.invalid/x:1");
        assert!(!answer.allowed, "{answer:?}");
        answer.code == 503 && answer.message.contains("registrysecuritypolicies")
    });
    let answer = ask(&trouble.podseal, "some.invalid/x:1");
    assert!(!answer.allowed && answer.code == 503, "{answer:?}");
    let ready = trouble.podseal.http().get(&trouble.podseal.url("/readyz")).unwrap();
    assert!(ready.status == 503 && ready.text().contains("registrysecuritypolicies"), "{}", ready.text());
    assert!(trouble.cluster.install_crds());
    trouble.until("the list is back", |ask| ask("some.invalid/x:1").allowed);
}

fn c22_h20_i3_i13_what_happens_to_the_cluster_loosens_nothing() {
    let trouble = start_with_malformed_policies();
    edit_the_whitelist(&trouble);
    restart_the_api_server(&trouble);
    hang_the_api_server(&trouble);
    delete_the_crd(&trouble);
}

crate::tests! {
    needs [Cluster];
    c22_h20_i3_i13_what_happens_to_the_cluster_loosens_nothing,
}
