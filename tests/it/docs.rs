//! README and docs say what is so.

mod cluster;
mod command_line;
mod files;
mod imagemakers;
mod recipes;

use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [files::trials(), command_line::trials(), imagemakers::trials(), recipes::trials(), cluster::trials()]
        .into_iter()
        .flatten()
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README and the pages of docs.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// What stands below a heading, up to the next one that is not below it.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let level = heading.chars().take_while(|&c| c == '#').count();
    let next = (1..=level).filter_map(|n| below.find(&format!("\n{} ", "#".repeat(n)))).min();
    &below[..next.unwrap_or(below.len())]
}

/// The rows of a section's tables, without headings.
fn rows(section: &str) -> Vec<&str> {
    let lines: Vec<_> = section.lines().collect();
    let body = |i: usize| {
        let next = lines.get(i + 1).is_none_or(|line| !line.starts_with("|---"));
        lines[i].starts_with('|') && !lines[i].starts_with("|---") && next
    };
    (0..lines.len()).filter(|&i| body(i)).map(|i| lines[i]).collect()
}

/// The fenced blocks of a page, each with its language.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, opened)) = rest.split_once("\n```") {
        let (language, body) = opened.split_once('\n').unwrap_or((opened, ""));
        let (block, after) = body.split_once("\n```").unwrap_or_else(|| panic!("a block without end: {body}"));
        blocks.push((language, block));
        rest = after;
    }
    blocks
}
