//! `podseal check --cluster` says of running Pods what their creation would be answered.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::cluster::{Cluster, Namespace, User};
use crate::support::podseal::{Podseal, podseal_with};
use crate::support::registry::{Image, Registry};
use crate::support::signer::{CosignKey, Format};
use crate::support::tools::Ran;
use crate::support::{process::eventually, scratch};

/// A namespace whose Pods were there before the policy.
struct World {
    namespace: Namespace<'static>,
    registry: Registry,
    key: CosignKey,
    signed: Image,
    unsigned: Image,
}

impl World {
    fn new(hint: &str) -> Self {
        let (registry, key) = (Registry::start(), CosignKey::new());
        let (signed, unsigned) = (registry.push("alt/signed:1"), registry.push("alt/unsigned:1"));
        key.sign(&registry, &signed, Format::Legacy, &[]).succeeded();
        let namespace = Cluster::shared().namespace(Podseal::shared(), hint);
        Self { namespace, registry, key, signed, unsigned }
    }

    fn entry(&self) -> String {
        let (host, name) = (&self.registry.host, &self.namespace.name);
        format!("- {{registry: '{host}', signCheck: true, insecure: true, cosignKeyRef: k8s://{name}/key}}")
    }

    /// Pods that nobody judges, whose images are these.
    fn pods(&self, pods: &[(&str, &str)]) {
        let name = &self.namespace.name;
        let label = |value: &str| Cluster::shared().kubectl(&["label", "namespace", name, value, "--overwrite"]);
        label("podseal-under-test-").succeeded();
        let yaml = pods.iter().fold(String::new(), |mut yaml, (pod, image)| {
            let container = format!("{{name: c, image: '{image}'}}");
            writeln!(
                yaml,
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}}}, spec: {{containers: [{container}]}}}}"
            )
            .unwrap();
            yaml
        });
        eventually("nobody judges the Pods", || self.namespace.apply(&yaml).ok());
        label(&format!("podseal-under-test={}", Podseal::shared().name())).succeeded();
    }
}

fn check(user: User, arguments: &[&str]) -> Ran {
    let kubeconfig = Cluster::shared().kubeconfig(user);
    let common = ["check", "--cluster", "--kubeconfig", kubeconfig.to_str().unwrap(), "--allow-address", "127.0.0.0/8"];
    podseal_with(&[&common, arguments].concat(), &[], b"")
}

fn report(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

fn the_verdicts_are_those_of_a_creation() {
    let world = World::new("running");
    let (namespace, name) = (&world.namespace, &world.namespace.name);
    let (signed, unsigned) = (world.signed.tagged(), world.unsigned.tagged());
    let away = format!("127.0.0.1:1/a@{}", world.signed.digest);
    let pods = [
        ("away", away.as_str()),
        ("listed", "listed-here.invalid/x:1"),
        ("signed", &signed),
        ("unnamed", "unnamed.invalid/x:1"),
        ("unsigned", &unsigned),
    ];
    world.pods(&pods);
    namespace.secret("key", &[("cosign.pub", world.key.public.as_bytes())]);
    let more = format!("- {{registry: '127.0.0.1:1', signCheck: true, cosignKeyRef: k8s://{name}/key}}");
    Cluster::shared().whitelist(&["listed-here.invalid/x"], &[]);
    namespace.policy("p", &format!("{}\n{more}", world.entry()));
    let ran = check(User::Admin, &["-n", name, "-o", "json"]);
    let found = report(&ran);
    assert_eq!((ran.code, &found["allowed"], &found["complete"]), (Some(1), &false.into(), &true.into()), "{ran}");
    assert_eq!(found["pods"].to_string(), r#"{"allowed":2,"denied":2,"exempt":0,"undecided":1}"#);
    let rows = found["images"].as_array().unwrap();
    assert_eq!(rows.len(), pods.len(), "{ran}");
    for (row, (pod, image)) in rows.iter().zip(pods) {
        assert_eq!(row["object"], format!("{name}/Pod/{pod}"), "in order");
        let created = namespace.kubectl(&["run", "again", &format!("--image={image}"), "--dry-run=server"]);
        let verdict = if created.ok() {
            "Allowed"
        } else if created.stderr.contains("(Forbidden)") {
            "Denied"
        } else {
            "Error"
        };
        assert_eq!(row["verdict"], verdict, "{row}\n{created}");
        for message in row["messages"].as_array().into_iter().flatten().filter(|_| verdict != "Allowed") {
            let message = message.as_str().unwrap();
            assert!(created.stderr.contains(message), "{message} is not in {created}");
        }
    }
    // The table shows what is not allowed, and everything if asked to.
    let ran = check(User::Admin, &["-n", name]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("unsigned") && !ran.stdout.contains("/Pod/signed "), "{ran}");
    assert!(ran.stdout.contains("5 Pods: 2 allowed, 2 would be denied, 1 could not be decided"), "{ran}");
    assert!(check(User::Admin, &["-n", name, "--all"]).stdout.contains("/Pod/signed "));
    // Nothing was changed.
    assert_eq!(namespace.kubectl(&["get", "pods", "-o", "name"]).succeeded().stdout.lines().count(), pods.len());
}

fn policies_of_files_stand_in_for_those_of_the_cluster() {
    let world = World::new("what-if");
    let (namespace, name) = (&world.namespace, &world.namespace.name);
    world.pods(&[("signed", &world.signed.tagged()), ("unsigned", &world.unsigned.tagged())]);
    namespace.policy("p", &format!("- {{registry: '{}', signCheck: false}}", world.registry.host));
    assert_eq!(check(User::Admin, &["-n", name]).code, Some(0));
    let policy = format!(
        "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: p, namespace: {name}}}\nspec:\n  registries:\n  {}\n",
        world.entry()
    );
    let file = scratch::folder("what-if").join("policy.yaml");
    std::fs::write(&file, &policy).unwrap();
    let arguments = ["-n", name, "--policy", file.to_str().unwrap()];
    // The key is in no file and not in the cluster yet.
    let ran = check(User::Admin, &arguments);
    assert!(ran.code == Some(2) && ran.stdout.contains("cannot be used"), "{ran}");
    assert!(ran.stderr.contains("stand in for all those of the cluster"), "{ran}");
    namespace.secret("key", &[("cosign.pub", CosignKey::new().public.as_bytes())]);
    let ran = check(User::Admin, &arguments);
    assert!(ran.code == Some(1) && ran.stdout.contains("2 would be denied"), "{ran}");
    // A Secret in a file comes before that of the cluster.
    let key = world.key.public.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key, namespace: {name}}}\nstringData:\n  cosign.pub: |\n{key}"
    );
    std::fs::write(&file, policy + &secret).unwrap();
    let ran = check(User::Admin, &arguments);
    assert!(ran.code == Some(1) && ran.stdout.contains("1 allowed, 1 would be denied"), "{ran}");
}

fn many_pods_are_looked_at_page_by_page_and_each_image_once() {
    let world = World::new("many");
    let (namespace, name) = (&world.namespace, &world.namespace.name);
    let (signed, unsigned) = (world.signed.tagged(), world.unsigned.tagged());
    let names: Vec<_> = (0..260).map(|i| format!("p{i:03}")).collect();
    let image = |i: usize| if i == 255 { unsigned.as_str() } else { signed.as_str() };
    let pods: Vec<_> = names.iter().enumerate().map(|(i, pod)| (pod.as_str(), image(i))).collect();
    world.pods(&pods);
    namespace.secret("key", &[("cosign.pub", world.key.public.as_bytes())]);
    namespace.policy("p", &world.entry());
    world.registry.forget();
    let ran = check(User::Admin, &["-n", name, "-o", "json"]);
    let found = report(&ran);
    let objects: Vec<_> =
        found["images"].as_array().unwrap().iter().map(|row| row["object"].as_str().unwrap()).collect();
    let expected: Vec<_> = names.iter().map(|pod| format!("{name}/Pod/{pod}")).collect();
    assert_eq!(objects, expected);
    assert_eq!((found["pods"]["denied"].as_u64(), found["pods"]["allowed"].as_u64()), (Some(1), Some(259)));
    let resolved = |image: &Image| {
        let path = format!("/v2/{}/manifests/{}", image.repository, image.tag);
        world.registry.requests().iter().filter(|request| request.path == path).count()
    };
    assert_eq!((resolved(&world.signed), resolved(&world.unsigned)), (1, 1));
    // In the whole cluster, whatever else is there, the same is found.
    let everywhere = report(&check(User::Admin, &["-o", "json"]));
    let mine = |row: &&Value| row["object"].as_str().is_some_and(|object| object.starts_with(&format!("{name}/")));
    assert_eq!(everywhere["images"].as_array().unwrap().iter().filter(mine).count(), 260);
}

fn i15_what_may_not_be_read_decides_nothing() {
    let namespace = Cluster::shared().bare_namespace("unreadable");
    let ran = check(User::Alice, &["-n", &namespace]);
    assert!(ran.code == Some(2) && ran.stderr.contains("clusterregistrysecuritypolicies cannot be listed"), "{ran}");
    let sample = "deploy/samples/unchecked-registry.yaml";
    let ran = check(User::Alice, &["-n", &namespace, "--policy", sample]);
    assert!(ran.code == Some(2) && ran.stderr.contains("image-validation-webhook-whitelist cannot be read"), "{ran}");
    let ran = check(User::Podseal, &["-n", &namespace, "-o", "json"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("pods cannot be listed"), "{ran}");
    assert_eq!(report(&ran)["complete"], false);
    let ran = check(User::Admin, &["-n", &namespace]);
    assert!(ran.code == Some(64) && ran.stderr.contains(&format!("no Pod runs in namespace {namespace}")), "{ran}");
}

/// `podseal convert --cluster` makes of what is applied what `-f` makes of the same in files, and never less.
fn a_cluster_is_converted_as_its_files_are() {
    let world = World::new("nodes");
    let namespace = &world.namespace;
    namespace.secret("key", &[("cosign.pub", world.key.public.as_bytes())]);
    let _policy = Cluster::shared().cluster_policy(namespace, "check-cluster-nodes", &world.entry());
    let folder = scratch::folder("nodes");
    let convert = |user: User, out: &str| {
        let (kubeconfig, out) = (Cluster::shared().kubeconfig(user), folder.join(out));
        let arguments = ["convert", "--to", "containers", "--cluster", "--kubeconfig", kubeconfig.to_str().unwrap()];
        podseal_with(&[&arguments[..], &["--out", out.to_str().unwrap()]].concat(), &[], b"")
    };
    convert(User::Admin, "by-admin").succeeded();
    let made: Value = serde_json::from_slice(&std::fs::read(folder.join("by-admin/policy.json")).unwrap()).unwrap();
    let scope = &made["transports"]["docker"][&world.registry.host];
    assert_eq!(
        (made["default"][0]["type"].as_str(), scope[0]["type"].as_str()),
        (Some("reject"), Some("sigstoreSigned"))
    );
    let key = std::path::Path::new(scope[0]["keyPath"].as_str().unwrap()).file_name().unwrap();
    let key = std::fs::read_to_string(folder.join("by-admin/podseal").join(key)).unwrap();
    assert_eq!(key.trim(), world.key.public.trim());
    // Who may not read the policies gets nothing, and no directory that looks like something.
    let ran = convert(User::Alice, "by-alice");
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot be listed"), "{ran}");
    assert!(!folder.join("by-alice").exists());
}

fn usage_of_cluster_is_checked() {
    for (arguments, said) in [
        (&["check", "--cluster", "--image", "nginx"][..], "cannot be used with"),
        (&["check", "--cluster", "-f", "x"], "cannot be used with"),
        (&["check", "--image", "nginx", "--kubeconfig", "x"], "cannot be used with"),
        (&["check", "--image", "nginx", "--all"], "cannot be used with"),
        (&["check", "--cluster", "--kubeconfig", "no-such-file"], "--kubeconfig no-such-file: "),
    ] {
        let ran = podseal_with(arguments, &[], b"");
        assert!(ran.code == Some(64) && ran.stderr.contains(said), "{ran}");
    }
}

crate::tests! {
    needs [Cluster, Registry, Cosign];
    the_verdicts_are_those_of_a_creation,
    policies_of_files_stand_in_for_those_of_the_cluster,
    many_pods_are_looked_at_page_by_page_and_each_image_once,
    i15_what_may_not_be_read_decides_nothing,
    a_cluster_is_converted_as_its_files_are,
    usage_of_cluster_is_checked,
}
