//! Recipes for shells, run as they are written.

use std::process::Command;

use super::{blocks, read};
use crate::support::front::{SignatureStore, USER};
use crate::support::registry::Registry;
use crate::support::signer::{Gpg, KeySpec, Skopeo};
use crate::support::store::registries_d;
use crate::support::{scratch, tools};

crate::tests! {
    needs [Registry, Gpg, Store];
    the_document_of_an_upload_made_by_hand_is_taken,
}

/// The block with the first line's value given for each of these variables.
fn with(block: &str, values: &[(&str, &str)]) -> String {
    let mut text = block.to_owned();
    for (name, value) in values {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}="))).map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("{name}= is not in\n{text}"));
        text = text.replacen(&line, &format!("{name}={value}"), 1);
    }
    text
}

fn the_document_of_an_upload_made_by_hand_is_taken() {
    let page = read("docs/store.md");
    let blocks = blocks(&page);
    let recipes: Vec<_> = blocks.iter().filter(|(_, block)| block.contains("> signature.json")).collect();
    let [(language, recipe)] = recipes.as_slice() else { panic!("one recipe: {recipes:?}") };
    assert_eq!(*language, "sh");
    let (registry, gpg, store) = (Registry::start(), Gpg::new(), SignatureStore::start());
    let key = gpg.generate(&KeySpec::new("Maker <imagemaker@registry.local>"));
    let image = registry.push("k8s-c10f1/web:1");
    let folder = scratch::folder("recipe");
    let script = with(recipe, &[("IMAGE", &image.tagged()), ("DIGEST", &image.digest)]);
    let mut shell = Command::new("sh");
    shell.arg("-eu").arg("-c").arg(&script).current_dir(&folder).env("GNUPGHOME", gpg.home());
    tools::run(&mut shell).succeeded();
    let url = format!("http://{}/extensions/v2/{}/signatures/{}", store.host, image.repository, image.digest);
    let mut curl = tools::command("curl");
    curl.args(["-sS", "--fail-with-body", "-X", "PUT", "--data", "@signature.json", "-u"]);
    curl.arg(format!("{}:{}", USER.0, USER.1)).arg(&url).current_dir(&folder);
    tools::run(&mut curl).succeeded();
    let reads = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &store.url())]) };
    reads.accepts(&registry, &image.tagged(), &gpg.export_file(&[&key]), None).succeeded();
}
