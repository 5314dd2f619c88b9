//! The nodes' policy.json and registries.d, judged by skopeo, which reads them as CRI-O and podman do.

use std::path::{Path, PathBuf};

use super::world::Host;
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::signer::{GpgKey, Skopeo};
use crate::support::store::Store;
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Gpg, Registry, Store];
    the_longest_path_decides_whose_key_counts,
    the_older_name_of_the_store_is_read_too,
    nested_makers_are_looked_for_in_their_own_stores,
    nodes_files_are_written_whole_into_a_new_folder_alone,
}

/// A host whose signatures nginx serves.
pub fn host_of(store: &Store) -> Host {
    let host = Host::new();
    std::fs::create_dir_all(&host.dir).unwrap();
    std::os::unix::fs::symlink(store.folder(), host.dir.join("sigstore")).unwrap();
    host
}

/// The nodes' files of all makers, with key files where policy.json names them.
pub fn nodes_files(host: &Host) -> PathBuf {
    let out = scratch::folder("nodes").join("containers");
    let (folder, keys) = (out.to_str().unwrap(), host.dir.join("keys"));
    host.run(&["policy", "--out", folder, "--node-keys", keys.to_str().unwrap(), "--staging"]).succeeded();
    out
}

/// Pulls as a node with these files does.
#[must_use]
pub fn pull(host: &Host, containers: &Path, image: &str) -> Ran {
    let mut command = host.gpg.command("skopeo");
    command.arg("--policy").arg(containers.join("policy.json"));
    command.arg("--registries.d").arg(containers.join("registries.d"));
    command.args(["copy", "-q", "--remove-signatures", "--src-tls-verify=false"]).arg(format!("docker://{image}"));
    tools::run(command.arg(format!("dir:{}", scratch::folder("pulled").join("out").display())))
}

/// Signs an image with skopeo into the folder that registries.d names.
#[track_caller]
pub fn sign(host: &Host, containers: &Path, registry: &Registry, image: &Image, key: &GpgKey) {
    let skopeo = Skopeo { gpg: &host.gpg, registries_d: containers.join("registries.d") };
    skopeo.sign(registry, image, key).succeeded();
}

fn the_longest_path_decides_whose_key_counts() {
    let (registry, store) = (Registry::start(), Store::start());
    let host = host_of(&store);
    let (all, narrow) = (format!("imklocal@{}", registry.host), format!("immkk8s@{}/k8s-c10f1", registry.host));
    host.create_for(&[&all, &narrow], &store.url);
    let containers = nodes_files(&host);
    let (imklocal, immkk8s) = (host.key("imklocal"), host.key("immkk8s"));
    for (name, key, accepted) in [
        ("k8s-c10f1/pause:1", &immkk8s, true),
        ("k8s-c10f1/wrong:1", &imklocal, false),
        ("k8s-c10f1/deep/er:1", &immkk8s, true),
        ("alt/alt:1", &imklocal, true),
        ("alt/wrong:1", &immkk8s, false),
        // Not a path below, only a name that begins alike.
        ("k8s-c10f10/app:1", &imklocal, true),
    ] {
        let image = registry.push(name);
        sign(&host, &containers, &registry, &image, key);
        let ran = pull(&host, &containers, &image.tagged());
        assert_eq!(ran.ok(), accepted, "{name}: {ran}");
        assert!(accepted || ran.stderr.contains("Invalid GPG signature"), "{ran}");
    }
    let unsigned = registry.push("alt/unsigned:1");
    let ran = pull(&host, &containers, &unsigned.tagged()).failed();
    assert!(ran.stderr.contains("A signature was required, but no signature exists"), "{ran}");
    let elsewhere = Registry::start();
    let ran = pull(&host, &containers, &elsewhere.push("alt/alt:1").tagged()).failed();
    assert!(ran.stderr.contains("rejected by policy"), "{ran}");
}

fn the_older_name_of_the_store_is_read_too() {
    let (registry, store) = (Registry::start(), Store::start());
    let host = host_of(&store);
    host.create_for(&[&format!("imklocal@{}", registry.host)], &store.url);
    let containers = nodes_files(&host);
    let image = registry.push("alt/alt:1");
    sign(&host, &containers, &registry, &image, &host.key("imklocal"));
    let file = containers.join("registries.d/default.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    for left in ["lookaside:", "sigstore:"] {
        let line = |line: &&str| {
            !line.trim().starts_with("lookaside") && !line.trim().starts_with("sigstore:")
                || line.trim().starts_with(left)
        };
        std::fs::write(&file, text.lines().filter(line).collect::<Vec<_>>().join("\n")).unwrap();
        pull(&host, &containers, &image.tagged()).succeeded();
    }
}

fn nested_makers_are_looked_for_in_their_own_stores() {
    let (registry, store, other) = (Registry::start(), Store::start(), Store::start());
    let host = host_of(&store);
    let outer = format!("a@{}", registry.host);
    let inner = format!("b@{}/x/y", registry.host);
    host.create_for(&[&outer, &inner], &store.url);
    host.create_for(&[&format!("c@{}/x", registry.host)], &other.url);
    let containers = nodes_files(&host);
    for (name, maker, found) in [("x/y/app:1", "b", true), ("app:1", "a", true), ("x/app:1", "c", false)] {
        let image = registry.push(name);
        sign(&host, &containers, &registry, &image, &host.key(maker));
        let ran = pull(&host, &containers, &image.tagged());
        assert_eq!(ran.ok(), found, "{name}: {ran}");
        // Signed into the one store of this host, and looked for in the other.
        assert!(found || ran.stderr.contains("no signature exists"), "{name}: {ran}");
    }
}

fn nodes_files_are_written_whole_into_a_new_folder_alone() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let out = scratch::folder("nodes");
    std::fs::write(out.join("something"), "").unwrap();
    let ran = host.run(&["policy", "--out", out.to_str().unwrap()]).failed();
    assert!(ran.stderr.contains("not empty: give a new directory"), "{ran}");
    let new = out.join("new");
    host.run(&["policy", "--out", new.to_str().unwrap()]).succeeded();
    let policy = std::fs::read_to_string(new.join("policy.json")).unwrap();
    assert!(policy.contains("\"keyPath\": \"/var/sigstore/keys/a.pgp\""), "{policy}");
    assert_eq!(std::fs::read(new.join("keys/a.pgp")).unwrap(), std::fs::read(host.key_file("a")).unwrap());
    std::fs::remove_file(host.key_file("a")).unwrap();
    let newer = out.join("newer");
    let ran = host.run(&["policy", "--out", newer.to_str().unwrap()]).failed();
    assert!(ran.stderr.contains("a.pgp") && !newer.exists(), "{ran}");
}
