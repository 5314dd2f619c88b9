//! podseal under the name that makes it a plugin, run by kubectl.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::world::{World, json};
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::{BINARY, Podseal};
use crate::support::scratch;
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    kubectl_runs_it_and_help_calls_it_so,
    the_namespace_and_the_context_are_those_of_the_kubeconfig,
    verify_shows_what_is_recorded_and_does_without_where_it_may_not,
    check_of_an_image_does_not_pass_for_want_of_a_policy,
    kubectl_completes_it,
}

/// A folder for the path, with the two names in it.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch::folder("plugin");
        for name in ["kubectl-podseal", "kubectl_complete-podseal"] {
            symlink(BINARY, folder.join(name)).unwrap();
        }
        folder
    })
}

/// `kubectl ARGS` with this kubeconfig in the environment.
fn kubectl(kubeconfig: &Path, args: &[&str]) -> Ran {
    let mut command = tools::command("kubectl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([folder().to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    command.env("PATH", path).env("KUBECONFIG", kubeconfig).env("HOME", scratch::folder("home")).args(args);
    tools::run(&mut command)
}

/// A kubeconfig with two contexts: `here` with this namespace, and `nowhere` whose server does not exist.
fn kubeconfig(user: User, namespace: &str) -> PathBuf {
    let cluster = Cluster::shared();
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}},
            {"name": "nowhere", "context": {"cluster": "n", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": cluster.url(), "certificate-authority": cluster.authority().file()}},
            {"name": "n", "cluster": {"server": "https://127.0.0.1:1"}},
        ],
        "users": [{"name": "u", "user": {"token": user.token()}}],
    });
    let file = scratch::folder("plugin-config").join("kubeconfig");
    std::fs::write(&file, text.to_string()).unwrap();
    file
}

fn kubectl_runs_it_and_help_calls_it_so() {
    let config = kubeconfig(User::Admin, "default");
    let listed = kubectl(&config, &["plugin", "list"]);
    assert!(listed.stdout.contains("kubectl-podseal"), "{listed}");
    let help = kubectl(&config, &["podseal", "--help"]).succeeded();
    assert!(help.stdout.contains("Usage: kubectl podseal"), "{help}");
    let help = kubectl(&config, &["podseal", "verify", "--help"]).succeeded();
    assert!(help.stdout.contains("Usage: kubectl podseal verify [OPTIONS]"), "{help}");
    let wrong = kubectl(&config, &["podseal", "verify", "x"]);
    assert!(!wrong.ok() && wrong.stderr.contains("kubectl podseal verify"), "{wrong}");
    // Under its own name it is what it was.
    assert!(crate::support::podseal::podseal(&["verify", "--help"]).stdout.contains("Usage: podseal verify"));
}

fn the_namespace_and_the_context_are_those_of_the_kubeconfig() {
    let world = World::shared();
    let image = world.signed("plugin");
    let namespace = Cluster::shared().namespace(Podseal::shared(), "plugin");
    namespace.policy("p", &format!("- {{registry: '{}', signCheck: false}}", world.registry.host));
    namespace.run("one", &image.tagged()).succeeded();
    let config = kubeconfig(User::Admin, &namespace.name);
    let ran = kubectl(&config, &["podseal", "explain", &image.tagged(), "-o", "json"]).succeeded();
    assert_eq!(json(&ran)["namespace"], namespace.name.as_str());
    let ran = kubectl(&config, &["podseal", "explain", &image.tagged(), "-n", "default", "-o", "json"]);
    assert_eq!(json(&ran)["namespace"], "default");
    // Of the Pods that run, those of the context's namespace.
    let ran = kubectl(&config, &["podseal", "check", "-o", "json"]).succeeded();
    let objects: Vec<_> = json(&ran)["images"].as_array().unwrap().iter().map(|row| row["object"].clone()).collect();
    assert_eq!(objects, [format!("{}/Pod/one", namespace.name)], "{ran}");
    let everywhere = kubectl(&config, &["podseal", "check", "-A", "-o", "json"]);
    assert!(json(&everywhere)["images"].as_array().unwrap().len() >= objects.len(), "{everywhere}");
    // Files are judged as ever.
    let policy = "deploy/samples/unchecked-registry.yaml";
    let ran = kubectl(&config, &["podseal", "check", "--policy", policy, "--image", "registry.k8s.io/pause:3.10"]);
    assert!(ran.ok() && ran.stdout.contains("Unchecked"), "{ran}");
    let ran = kubectl(&config, &["podseal", "explain", &image.tagged(), "--context", "nowhere"]);
    assert!(!ran.ok() && ran.stdout.contains("cannot be listed"), "{ran}");
    let ran = kubectl(&config, &["podseal", "explain", &image.tagged(), "--context", "none"]);
    assert!(ran.stderr.contains("--context none: "), "{ran}");
    let ran = kubectl(&config, &["podseal", "keys", "--own-namespace", &namespace.name]);
    assert!(ran.ok() && ran.stdout.is_empty(), "{ran}");
    assert!(ran.stderr.contains(&format!("no Secrets of keys in the namespace {}", namespace.name)), "{ran}");
}

fn verify_shows_what_is_recorded_and_does_without_where_it_may_not() {
    let world = World::shared();
    let image = world.signed("plugin-recorded");
    world.save(User::Admin, &image, &[]).succeeded();
    std::fs::remove_file(world.store.file(&image, 1)).unwrap();
    let verify = |user: User| {
        let config = kubeconfig(user, "default");
        let expected = image.tagged();
        let args = ["podseal", "verify", &image.pinned(), "--expected-identity", &expected, "--insecure"];
        let more = ["--lookaside", &world.store.url, "--public-key", world.maker_file.to_str().unwrap()];
        kubectl(&config, &[&args[..], &more].concat())
    };
    let ran = verify(User::Admin).succeeded();
    assert!(ran.stdout.contains("recorded as imagesignature"), "{ran}");
    let ran = verify(User::Alice);
    assert!(!ran.ok() && ran.stdout.contains("has no GPG signature"), "{ran}");
    assert!(ran.stderr.contains("records of the cluster are left out: cannot list imagesignatures"), "{ran}");
}

fn kubectl_completes_it() {
    let config = kubeconfig(User::Admin, "default");
    let completed = |words: &[&str]| kubectl(&config, &[&["__complete", "podseal"], words].concat()).succeeded().stdout;
    assert!(completed(&["expl"]).starts_with("explain"), "{}", completed(&["expl"]));
    assert!(completed(&["verify", "--expected"]).starts_with("--expected-identity"));
    assert!(completed(&["verify", "-o", ""]).contains("json"));
}

fn check_of_an_image_does_not_pass_for_want_of_a_policy() {
    let config = kubeconfig(User::Admin, "default");
    let folder = scratch::folder("plugin-check");
    let pod = folder.join("pod.yaml");
    let text =
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: 'localhost:1/a'}]}}";
    std::fs::write(&pod, text).unwrap();
    let policy = folder.join("policy.yaml");
    let text = "{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {name: p}, \
                spec: {registries: [{registry: 'localhost:1', signCheck: false}]}}";
    std::fs::write(&policy, text).unwrap();
    let (pod, policy) = (pod.to_str().unwrap(), policy.to_str().unwrap());
    for about in [["--image", "localhost:1/a"], ["-f", pod]] {
        let check = [&["podseal", "check"], &about[..]].concat();
        let ran = kubectl(&config, &check).failed();
        assert_eq!(ran.code, Some(64), "{ran}");
        assert!(ran.stderr.contains("kubectl podseal explain") && !ran.stdout.contains("Allowed"), "{ran}");
        kubectl(&config, &[&check[..], &["--policy", policy]].concat()).succeeded();
        // Without kubectl nobody thinks of a cluster.
        crate::support::podseal::podseal(&check[1..]).succeeded();
    }
}
