//! The rules of the tree: imports between layers point one way, and the pure layers stay pure.

use std::fs;
use std::path::{Path, PathBuf};

crate::tests! {
    needs [];
    imports_point_up_the_list_of_layers,
    domain_and_signature_know_no_clock_file_or_network,
}

/// From the innermost layer outwards; a layer may import those before it.
const LAYERS: [&str; 14] = [
    "domain",
    "signature",
    "source",
    "api",
    "cluster",
    "server",
    "store",
    "signing",
    "verify",
    "containers",
    "admission",
    "webhook",
    "controller",
    "cli",
];
/// Open to every layer.
const OPEN: [&str; 2] = ["fault", "telemetry"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// The layer a file belongs to, and its text without tests at its end.
fn layers() -> Vec<(String, PathBuf, String)> {
    let folder = root().join("src");
    let files = sources(&folder).into_iter().filter(|path| !is_test(path));
    files
        .map(|path| {
            let inside = path.strip_prefix(&folder).expect("inside src");
            let layer = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("source");
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            (layer, path, text)
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name == "tests.rs" || name == "testing.rs" || path.iter().any(|part| part == "tests")
}

fn imports_point_up_the_list_of_layers() {
    let mut wrong = Vec::new();
    for (layer, path, text) in layers() {
        let Some(rank) = LAYERS.iter().position(|name| *name == layer) else { continue };
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for target in line.split("crate::").skip(1) {
                let target: String = target.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let allowed = OPEN.contains(&target.as_str()) || LAYERS[..=rank].contains(&target.as_str());
                if !allowed {
                    wrong.push(format!("{}:{}: {layer} must not import {target}", path.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn domain_and_signature_know_no_clock_file_or_network() {
    const FORBIDDEN: [&str; 8] =
        ["SystemTime::now", "Instant::now", "std::fs", "std::net::Tcp", "std::env", "tokio::", "reqwest", "kube::"];
    for (layer, path, text) in layers() {
        if layer != "domain" && layer != "signature" {
            continue;
        }
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in FORBIDDEN {
                assert!(!line.contains(word), "{}:{}: {layer} uses {word}", path.display(), i + 1);
            }
        }
    }
}
