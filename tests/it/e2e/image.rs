//! The image: what is in it, that it can be built again, and that it runs where little is allowed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::cluster::User;
use crate::support::node::Node;
use crate::support::{image, tools};

fn holds_the_binary_its_papers_and_nothing_else() {
    let archive = image::first();
    let root = image::unpack(archive);
    let mut find = Command::new("find");
    let files = tools::run(find.arg(&root).args(["(", "-not", "-type", "d", ")", "-printf", "%P\n"])).succeeded();
    let files: BTreeSet<_> = files.stdout.lines().collect();
    let expected = [
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/local/bin/podseal",
        "usr/share/doc/podseal/LICENSE",
        "usr/share/doc/podseal/NOTICE",
        "usr/share/sbom/podseal.cdx.json",
    ];
    assert_eq!(files, expected.into());

    let config = image::config(archive);
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/local/bin/podseal"]));
    let label = |name: &str| config["config"]["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    for name in ["title", "revision", "created"] {
        assert!(label(name).is_string(), "{name}: {config}");
    }
}

/// Neither the folders of the builder nor those of whoever mounted something into it.
fn binary_names_no_place_of_its_build() {
    let binary = std::fs::read(image::unpack(image::first()).join("usr/local/bin/podseal")).unwrap();
    eprintln!("binary in the image: {} kB", binary.len() / 1000);
    let home = std::env::var("HOME").unwrap() + "/.cargo";
    for place in ["/src/target", "/usr/local/cargo", &home, env!("CARGO_MANIFEST_DIR")] {
        let found = binary.windows(place.len()).position(|window| window == place.as_bytes());
        assert_eq!(found, None, "{place}");
    }
}

fn bill_of_materials_lists_what_is_linked() {
    let root = image::unpack(image::first());
    let bill = std::fs::read(root.join("usr/share/sbom/podseal.cdx.json")).unwrap();
    let bill: Value = serde_json::from_slice(&bill).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let components = bill["components"].as_array().unwrap();
    let purl = |component: &Value| component["purl"].as_str().unwrap().to_owned();
    let listed: BTreeSet<_> = components.iter().map(purl).collect();
    assert_eq!(listed.len(), components.len(), "twice in the bill");

    // What the lock file has under the same name and version, and with the same checksum.
    let locked = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for component in components.iter().filter(|component| purl(component).starts_with("pkg:cargo/")) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, version) = (text(&component["name"]), text(&component["version"]));
        let checksum = text(&component["hashes"][0]["content"]);
        let entry = locked.split("[[package]]").find(|entry| {
            entry.contains(&format!("name = \"{name}\"\n")) && entry.contains(&format!("version = \"{version}\"\n"))
        });
        assert!(entry.is_some_and(|entry| entry.contains(&format!("checksum = \"{checksum}\""))), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let names: BTreeSet<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    for linked in ["aws-lc-sys", "kube", "libc6", "rustls", "rust-std", "sequoia-openpgp", "tokio"] {
        assert!(names.contains(linked), "{linked} is linked and not in the bill");
    }
    for other in ["libtest-mimic", "proptest", "serde_derive", "windows-sys"] {
        assert!(!names.contains(other), "{other} is in the bill and not linked");
    }
    let edges = bill["dependencies"].as_array().unwrap();
    let known = |id: &Value| listed.contains(id.as_str().unwrap()) || id == &bill["metadata"]["component"]["bom-ref"];
    for edge in edges {
        let all = [&edge["ref"]].into_iter().chain(edge["dependsOn"].as_array().unwrap());
        assert!(all.into_iter().all(known), "{edge}");
    }
}

fn two_builds_of_one_commit_are_the_same() {
    let (first, second) = (image::first().to_owned(), image::second());
    assert_ne!(first, second);
    let binary = |archive: &Path| std::fs::read(image::unpack(archive).join("usr/local/bin/podseal")).unwrap();
    assert!(binary(&first) == binary(&second), "{} and {} differ", first.display(), second.display());
    assert_eq!(image::digest(&first), image::digest(&second));
}

const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: podseal
    image: IMAGE
    args: [ARGS]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
";

fn runs_as_nobody_in_a_restricted_namespace() {
    let node = Node::shared();
    let cluster = node.cluster();
    let namespace = cluster.bare_namespace("image");
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", &namespace, restricted]).succeeded();
    let run = |name: &str, args: &str| {
        let pod = POD.replace("NAME", name).replace("IMAGE", &node.podseal().pinned()).replace("ARGS", args);
        cluster.kubectl_as(User::Admin, &["-n", &namespace, "apply", "-f", "-"], &pod).succeeded();
    };
    run("version", "--version");
    node.wait_phase(&namespace, "version", "Succeeded");
    assert_eq!(node.logs(&namespace, "version"), concat!("podseal ", env!("CARGO_PKG_VERSION"), "\n"));
    // The twin: what is wrong fails, and says so.
    run("wrong", "--no-such-flag");
    node.wait_phase(&namespace, "wrong", "Failed");
    assert!(node.logs(&namespace, "wrong").contains("--no-such-flag"));
}

/// These take the longest and little of it is theirs to do: they come first in a run.
pub mod builds {
    use super::{holds_the_binary_its_papers_and_nothing_else, two_builds_of_one_commit_are_the_same};

    crate::tests! {
        needs [Image];
        holds_the_binary_its_papers_and_nothing_else,
        two_builds_of_one_commit_are_the_same,
    }
}

pub mod contents {
    use super::{bill_of_materials_lists_what_is_linked, binary_names_no_place_of_its_build};

    crate::tests! {
        needs [Image];
        binary_names_no_place_of_its_build,
        bill_of_materials_lists_what_is_linked,
    }
}

crate::tests! {
    needs [Cluster, Registry, Node, Image];
    runs_as_nobody_in_a_restricted_namespace,
}
