//! Makers and a cluster: their policy, and their keys from the directory to every webhook.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::nodes::{host_of, nodes_files, sign};
use super::world::Host;
use crate::support::cluster::{Cluster, User, WebhookScope};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::within;
use crate::support::registry::Registry;
use crate::support::review::{Answer, Review};
use crate::support::store::Store;
use crate::support::tools::Ran;

crate::tests! {
    needs [Cluster, Gpg, Registry, Store];
    a_policy_is_applied_and_what_others_wrote_stays,
    an_entry_written_otherwise_is_the_same_and_goes_with_its_maker,
    a_revoked_key_stops_verifying_in_every_webhook,
}

/// A cluster with a controller that follows a key directory, and two webhooks.
pub struct World {
    pub cluster: Cluster,
    pub webhooks: [Podseal; 2],
    _controller: Podseal,
}

impl World {
    pub fn new(keys: &Path) -> Self {
        let cluster = Cluster::start();
        let webhooks = ["one", "two"].map(|name| Podseal::start(&cluster, &Options::new(name)));
        cluster.register(&webhooks[0], WebhookScope::WithClusterPolicies);
        let options = Options { run: "controller", ..Options::new("controller") };
        // It serves nothing; its Secrets show that it is at work.
        let controller = Podseal::launch(&cluster, &options.args(&["--keys-dir", keys.to_str().unwrap()]));
        cluster.kubectl(&["create", "namespace", "judged"]).succeeded();
        cluster.kubectl(&["label", "namespace", "judged", "podseal-under-test=one"]).succeeded();
        Self { cluster, webhooks, _controller: controller }
    }

    /// What every webhook says to a Pod with this image.
    pub fn answers(&self, image: &str) -> [Answer; 2] {
        let review = Review::pod("judged").container("c", image);
        [0, 1].map(|i| self.webhooks[i].review(&review))
    }

    /// Waits until all of them say so, and gives the time when they did.
    #[track_caller]
    pub fn wait(&self, what: &str, image: &str, wanted: impl Fn(&Answer) -> bool) -> SystemTime {
        let seen = within(Duration::from_secs(60), || self.answers(image).iter().all(&wanted).then(SystemTime::now));
        seen.unwrap_or_else(|| panic!("{what}: never; {:?}", self.answers(image)))
    }

    /// `kubectl run` through the API server.
    #[must_use]
    pub fn run(&self, pod: &str, image: &str) -> Ran {
        self.cluster.kubectl(&["-n", "judged", "run", pod, "--restart=Never", &format!("--image={image}")])
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.cluster.kubeconfig(User::Admin).to_str().unwrap().to_owned()
    }
}

fn policy(cluster: &Cluster, name: &str) -> Value {
    serde_json::from_str(&cluster.kubectl(&["get", "crsp", name, "-o", "json"]).succeeded().stdout).unwrap()
}

fn a_policy_is_applied_and_what_others_wrote_stays() {
    let (cluster, host) = (Cluster::start(), Host::new());
    let kubeconfig = cluster.kubeconfig(User::Admin);
    let apply = ["--apply", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let made = host.create(&[&["immkk8s@localhost/k8s-c10f1"], &apply[..]].concat()).succeeded();
    assert!(made.stdout.contains("ClusterRegistrySecurityPolicy imagemakers created"), "{made}");
    // Somebody labels it, adds an entry of his own, and a field to podseal's.
    cluster.kubectl(&["label", "crsp", "imagemakers", "mine=stays"]).succeeded();
    let more = r#"[{"op":"add","path":"/spec/registries/-","value":{"registry":"docker.io","signCheck":false}},
        {"op":"add","path":"/spec/registries/0/requireDigest","value":true}]"#;
    cluster.kubectl(&["patch", "crsp", "imagemakers", "--type=json", "-p", more]).succeeded();
    host.create(&[&["imklocal@localhost"], &apply[..]].concat()).succeeded();
    let applied = policy(&cluster, "imagemakers");
    let entries = applied["spec"]["registries"].as_array().unwrap();
    let registries: Vec<_> = entries.iter().map(|entry| entry["registry"].as_str().unwrap()).collect();
    assert_eq!(registries, ["localhost/k8s-c10f1", "docker.io", "localhost"]);
    assert_eq!((&entries[0]["requireDigest"], &entries[1]["signCheck"]), (&true.into(), &false.into()));
    assert_eq!(entries[2]["gpgKeyRef"], "k8s://registry-system/sigstore-key-imklocal");
    assert_eq!(applied["metadata"]["labels"]["mine"], "stays");
    // Again for all of them changes nothing.
    host.run(&[&["policy"], &apply[..]].concat()).succeeded();
    assert_eq!(policy(&cluster, "imagemakers")["metadata"]["generation"], applied["metadata"]["generation"]);

    // Another entry for a maker's path is nobody's to replace; another policy's is noted.
    let other = |name: &str, registry: &str| {
        format!(
            "{{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {{name: {name}}}, \
             spec: {{registries: [{{registry: {registry}, signCheck: false}}]}}}}"
        )
    };
    cluster.apply(&other("theirs", "localhost/x")).succeeded();
    let named = [&apply[..], &["--policy-name", "theirs"]].concat();
    let ran = host.create(&[&["x@localhost/x"], &named[..]].concat()).failed();
    assert!(ran.stderr.contains("an entry for localhost/x that asks for something else"), "{ran}");
    assert!(ran.stderr.contains("the makers are made, the policy is not: podseal imagemaker policy --apply"), "{ran}");
    assert_eq!(policy(&cluster, "theirs")["spec"]["registries"].as_array().unwrap().len(), 1);
    let ran = host.run(&[&["policy"], &apply[..]].concat()).succeeded();
    assert!(ran.stderr.contains("note: the policy theirs speaks for localhost/x, too: both must pass"), "{ran}");
    // What is printed is applied as it is.
    let printed = host.run(&["policy", "--policy-name", "printed"]).succeeded().stdout;
    let applied = cluster.apply(&printed).succeeded();
    assert!(!applied.stderr.contains("Warning"), "{applied}");
    assert_eq!(policy(&cluster, "printed")["spec"], serde_saphyr::from_str::<Value>(&printed).unwrap()["spec"]);
}

fn an_entry_written_otherwise_is_the_same_and_goes_with_its_maker() {
    let (cluster, host) = (Cluster::start(), Host::new());
    let kubeconfig = cluster.kubeconfig(User::Admin);
    let apply = ["--apply", "--kubeconfig", kubeconfig.to_str().unwrap()];
    host.create(&[&["a@localhost/a", "b@localhost"], &apply[..]].concat()).succeeded();
    let registries = |policy: &Value| -> Vec<String> {
        let entries = policy["spec"]["registries"].as_array().unwrap();
        entries.iter().map(|entry| entry["registry"].as_str().unwrap().to_owned()).collect()
    };
    // By hand: another way to write the same path.
    for written in ["localhost/a/*", "localhost/a/", "LOCALHOST/a"] {
        let edit = format!(r#"[{{"op":"replace","path":"/spec/registries/0/registry","value":"{written}"}}]"#);
        cluster.kubectl(&["patch", "crsp", "imagemakers", "--type=json", "-p", &edit]).succeeded();
        host.run(&[&["policy"], &apply[..]].concat()).succeeded();
        assert_eq!(registries(&policy(&cluster, "imagemakers")), ["localhost/a", "localhost"], "{written}");
    }
    let same =
        r#"[{"op":"replace","path":"/spec/registries/0","value":{"registry":"localhost/a/*","signCheck":false}}]"#;
    cluster.kubectl(&["patch", "crsp", "imagemakers", "--type=json", "-p", same]).succeeded();
    let ran = host.run(&[&["policy"], &apply[..]].concat()).failed();
    assert!(ran.stderr.contains("an entry for localhost/a that asks for something else (\"localhost/a/*\")"), "{ran}");
    assert_eq!(registries(&policy(&cluster, "imagemakers")), ["localhost/a/*", "localhost"]);
    let back = r#"[{"op":"remove","path":"/spec/registries/0"}]"#;
    cluster.kubectl(&["patch", "crsp", "imagemakers", "--type=json", "-p", back]).succeeded();
    host.run(&[&["policy"], &apply[..]].concat()).succeeded();

    // Somebody's policy names the key, too.
    let theirs = "{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {name: theirs}, \
                  spec: {registries: [{registry: example.org/x, signCheck: true, \
                  gpgKeyRef: 'k8s://registry-system/sigstore-key-a'}]}}";
    cluster.apply(theirs).succeeded();
    let ran = host.run(&[&["remove", "a", "--force"], &apply[..]].concat()).succeeded();
    assert!(ran.stdout.contains("imagemakers changed: the maker's entry is taken out, 1 stay"), "{ran}");
    let note = "note: the policy theirs still asks for the maker's key, for example.org/x: take that entry out";
    assert!(ran.stderr.contains(note), "{ran}");
    assert_eq!(registries(&policy(&cluster, "imagemakers")), ["localhost"]);
    let ran = host.run(&[&["remove", "b", "--force"], &apply[..]].concat()).failed();
    assert!(ran.stderr.contains("the maker is removed, its entry in the policy imagemakers is not"), "{ran}");
    assert!(ran.stderr.contains("it would be empty: kubectl delete crsp imagemakers"), "{ran}");
}

fn a_revoked_key_stops_verifying_in_every_webhook() {
    let (registry, store) = (Registry::start(), Store::start());
    let host = host_of(&store);
    let maker = format!("immkk8s@{}", registry.host);
    // Another key file: the last one of a directory is never taken away by accident.
    host.create_for(&[&maker, &format!("other@{}/other", registry.host)], &store.url);
    let world = World::new(&host.dir.join("keys"));
    host.run(&["policy", "--apply", "--kubeconfig", &world.kubeconfig()]).succeeded();
    let containers = nodes_files(&host);
    let old = registry.push("alt/old:1");
    sign(&host, &containers, &registry, &old, &host.key("immkk8s"));
    world.wait("the first key is taken", &old.tagged(), |answer| answer.allowed);
    let changed = |what: &str, seen: SystemTime| {
        let written = std::fs::metadata(host.key_file("immkk8s")).unwrap().modified().unwrap();
        let delay = seen.duration_since(written).unwrap_or_default();
        eprintln!("image makers: {what} in both webhooks {delay:?} after the key file changed");
        assert!(delay < Duration::from_secs(15), "{what}: {delay:?}");
    };

    let rotate =
        ["rotate", "immkk8s", "--overlap", "30d", "--key-type", "ed25519", "--expires", "1y", "--no-passphrase"];
    host.run(&rotate).succeeded();
    let new = registry.push("alt/new:1");
    sign(&host, &containers, &registry, &new, &host.key("immkk8s"));
    let seen = world.wait("the second key is taken", &new.tagged(), |answer| answer.allowed);
    changed("a new key accepted", seen);
    assert!(world.answers(&old.tagged()).iter().all(|answer| answer.allowed));

    let retiring = host.list()[0]["keys"][0]["fingerprint"].as_str().unwrap().to_owned();
    host.run(&["revoke", "immkk8s", "--fingerprint", &retiring, "--reason", "compromised"]).succeeded();
    let seen = world.wait("the first key is refused", &old.tagged(), |answer| {
        !answer.allowed && answer.message.contains("is revoked")
    });
    changed("a revoked key refused", seen);
    assert!(world.answers(&new.tagged()).iter().all(|answer| answer.allowed), "{:?}", world.answers(&new.tagged()));
    let denied = world.run("old", &old.tagged()).failed();
    assert!(denied.stderr.contains("is revoked"), "{denied}");
    world.run("new", &new.tagged()).succeeded();
}
