//! Files that are made of others: `UPDATE_GENERATED=1 cargo test --test it -- chart::generated` writes them.

use std::path::Path;

use super::{folder, root, template};

crate::tests! {
    needs [Helm];
    the_chart_carries_the_definitions_of_the_tree,
    install_yaml_is_what_the_chart_makes_of_its_defaults,
}

#[track_caller]
fn compare(file: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap_or_default();
    assert!(found == wanted, "{} is out of date: make generate", file.display());
}

fn the_chart_carries_the_definitions_of_the_tree() {
    let files: Vec<_> = std::fs::read_dir(root().join("crds")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let text = std::fs::read_to_string(file.path()).unwrap();
        compare(&folder().join("crds").join(file.file_name()), &text);
    }
    assert_eq!(std::fs::read_dir(folder().join("crds")).unwrap().count(), 3);
}

fn install_yaml_is_what_the_chart_makes_of_its_defaults() {
    let more = ["--include-crds", "--no-hooks", "--skip-tests"];
    let rendered = template("podseal", "registry-system", &[], &more).succeeded().stdout;
    // Who applies this has no Helm: nothing shall say so.
    let helms = ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: "];
    let lines = rendered.lines().filter(|line| !helms.iter().any(|mark| line.trim_start().starts_with(mark)));
    let head = "# podseal with the chart's defaults, for clusters without Helm; made by `make generate`.\n\
                # kubectl apply --server-side -f install.yaml\n\
                ---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: registry-system\n  labels:\n    \
                pod-security.kubernetes.io/enforce: restricted\n";
    let text = lines.fold(head.to_owned(), |text, line| text + line.trim_end() + "\n");
    compare(&root().join("deploy/install.yaml"), &text);
}
