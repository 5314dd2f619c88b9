//! Links, lengths, and what the tree must not hold.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{pages, read, root};
use crate::support::tools;

crate::tests! {
    needs [];
    links_and_anchors_lead_somewhere,
    readme_is_read_in_one_go,
    the_tree_speaks_of_itself_alone,
}

/// A page without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    text.lines().filter(|line| keep(line)).collect::<Vec<_>>().join("\n")
}

/// The anchors of a page's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

fn links_and_anchors_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages().into_iter().chain([root().join("tests/tools/README.md")]) {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            if !target.exists() || !(anchor.is_empty() || anchors(&read(&target)).contains(anchor)) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "lead nowhere:\n{}", wrong.join("\n"));
}

fn readme_is_read_in_one_go() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "README.md has {lines} lines");
}

/// The files that belong to the project; those that git does not ignore.
fn tracked() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "ls-files", "--cached", "--others", "--exclude-standard"]);
    tools::run(&mut git).succeeded().stdout.lines().map(str::to_owned).collect()
}

/// Whether a line holds such a word, and not only as the end of a relative path.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric()))
}

fn the_tree_speaks_of_itself_alone() {
    // Taken apart, so that this file does not hold them.
    let foreign = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("GOP", "ROXY"),
        concat!("replace", "-with"),
        concat!("/tmp/", "bash_jobs"),
    ];
    let mut wrong = Vec::new();
    for file in tracked().iter().filter(|file| Path::new(root()).join(file).is_file()) {
        let bytes = std::fs::read(root().join(file)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for (i, line) in text.lines().enumerate().filter(|(_, line)| foreign.iter().any(|word| holds(line, word))) {
            wrong.push(format!("{file}:{}: {line}", i + 1));
        }
    }
    let lock = read("Cargo.lock");
    let elsewhere =
        |line: &&str| line.starts_with("source = ") && !line.contains("//github.com/rust-lang/crates.io-index");
    wrong.extend(lock.lines().filter(elsewhere).map(|line| format!("Cargo.lock: {line}")));
    assert!(wrong.is_empty(), "speaks of one machine:\n{}", wrong.join("\n"));
}
