//! docs/by-hand.md done as it is written, and the samples applied to what comes out.

use super::{blocks, read, root};
use crate::support::cluster::Cluster;
use crate::support::podseal::{Options, Podseal};
use crate::support::process::eventually;

crate::tests! {
    needs [Cluster];
    the_installation_as_documented_denies_and_warns_and_takes_every_sample,
}

/// The file of that name, which a page shows with its name in the first line.
fn shown(page: &str, name: &str) -> String {
    let first = format!("# {name}\n");
    let blocks = blocks(page);
    let block = blocks.iter().find(|(language, block)| *language == "yaml" && block.starts_with(&first));
    block.unwrap_or_else(|| panic!("no block {name}")).1.to_owned()
}

/// Replaces, and fails when there is nothing to replace.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    text.replace(from, to)
}

fn the_installation_as_documented_denies_and_warns_and_takes_every_sample() {
    let page = read("docs/by-hand.md");
    let rights = shown(&page, "podseal-rbac.yaml");
    let webhooks = shown(&page, "podseal-webhook.yaml");

    // A control plane of its own: these rights replace those that the other tests work with.
    let cluster = Cluster::start();
    cluster.apply(&rights).succeeded();
    // The same rights for the user that the harness has a token for.
    let account = "{kind: ServiceAccount, name: podseal, namespace: registry-system}";
    let user = "{apiGroup: rbac.authorization.k8s.io, kind: User, name: podseal}";
    cluster.apply(&replaced(&rights, account, user)).succeeded();
    let podseal = Podseal::start(&cluster, &Options::new("documented"));

    let webhooks = replaced(&webhooks, "https://podseal.example.com:8443", &podseal.url(""));
    let webhooks = replaced(&webhooks, "CA_BUNDLE", &podseal.authority().bundle());
    cluster.apply(&webhooks).succeeded();
    let samples = root().join("deploy/samples");
    cluster.apply(&read(samples.join("unchecked-registry.yaml"))).succeeded();
    cluster.kubectl(&["create", "namespace", "someone"]).succeeded();
    let run = |image: &str| {
        cluster.kubectl(&["-n", "someone", "run", "web", &format!("--image={image}"), "--dry-run=server"])
    };
    eventually("Pods are denied", || run("nginx").stderr.contains("no policy names the registry docker.io"));
    run("registry.k8s.io/pause:3.10").succeeded();
    let deployment = ["-n", "someone", "create", "deployment", "web", "--image=nginx"];
    let warned = cluster.kubectl(&deployment).succeeded();
    assert!(warned.stderr.starts_with("Warning: "), "{warned}");
    assert!(warned.stderr.contains("spec.template.spec.containers[0].image"), "{warned}");

    let broken = "{apiVersion: tmax.io/v1, kind: ClusterRegistrySecurityPolicy, metadata: {name: broken}, \
                  spec: {registries: [{registry: 'http://registry.local', signCheck: false}]}}";
    let refused = cluster.apply(broken).failed();
    assert!(refused.stderr.contains("spec.registries[0].registry: "), "{refused}");
    take_samples(&cluster, &samples);
    // The documented rights are all that it asks for.
    assert!(!podseal.log().contains("forbidden"), "{}", podseal.log());
}

fn take_samples(cluster: &Cluster, samples: &std::path::Path) {
    let mut files: Vec<_> = std::fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let text = read(&file);
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("namespace: "));
        for namespace in named.chain(["default"]) {
            // It may be there already.
            let _ = cluster.kubectl(&["create", "namespace", namespace]);
        }
        let applied = cluster.apply(&text).succeeded();
        assert!(applied.stdout.lines().count() == text.matches("\nkind: ").count(), "{applied}");
        let count = |field: &str| text.matches(field).count();
        assert_eq!(count("gpgKeyRef: "), count("lookaside: "), "{}: keys without a store", file.display());
        let page = read("docs/policies.md");
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(page.contains(&format!("](../deploy/samples/{name})")), "{name} is not in docs/policies.md");
    }
}
