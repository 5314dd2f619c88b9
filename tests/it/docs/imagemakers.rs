//! The page on image makers: flags, messages, the entry that is shown.

use std::collections::BTreeSet;

use super::{read, root, rows, section};
use crate::support::podseal::podseal;

crate::tests! {
    needs [];
    every_flag_of_imagemaker_is_documented_with_its_default,
    every_message_on_image_makers_is_one_that_podseal_says,
}

const COMMANDS: [&str; 7] = ["create", "list", "passwd", "rotate", "revoke", "remove", "policy"];

/// The long flags of a command, each with its default.
fn flags(command: &str) -> Vec<(String, Option<String>)> {
    let help = podseal(&["imagemaker", command, "--help"]).succeeded().stdout;
    let mut flags: Vec<(String, Option<String>)> = Vec::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with('-') && !line.starts_with("- ") {
            let flag = line.split([' ', ',']).find(|word| word.starts_with("--")).unwrap_or_else(|| panic!("{line}"));
            flags.push((flag.trim_end_matches("...").to_owned(), None));
        } else if let Some(default) = line.split("[default: ").nth(1).and_then(|rest| rest.split(']').next())
            && let Some(last) = flags.last_mut()
        {
            last.1 = Some(default.trim_matches('"').to_owned());
        }
    }
    flags.retain(|(flag, _)| !["--help", "--version", "--verbose"].contains(&flag.as_str()));
    assert!(!flags.is_empty(), "{help}");
    flags
}

fn every_flag_of_imagemaker_is_documented_with_its_default() {
    let page = read("docs/imagemakers.md");
    let rows = rows(section(&page, "## Flags"));
    let cell = |row: &str, number: usize| row.split('|').nth(number).unwrap_or_default().trim().to_owned();
    let named = |row: &str| -> Vec<String> {
        let first = cell(row, 1);
        first.split(['`', ' ', ',']).filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    };
    let mut existing = BTreeSet::new();
    for command in COMMANDS {
        for (flag, default) in flags(command) {
            let row = rows.iter().find(|row| named(row).contains(&flag)).unwrap_or_else(|| panic!("{flag} has no row"));
            let commands = cell(row, 2);
            assert!(commands == "all" || commands.split(", ").any(|c| c == command), "{flag} of {command}: {row}");
            if let Some(default) = default.filter(|default| !default.is_empty()) {
                assert!(cell(row, 3).contains(&default), "{flag} of {command} has the default {default}: {row}");
            }
            existing.insert((flag, command));
        }
    }
    for row in rows {
        for flag in named(row) {
            for command in cell(row, 2).split(", ").filter(|command| *command != "all") {
                assert!(existing.contains(&(flag.clone(), command)), "{flag} is no flag of {command}: {row}");
            }
        }
    }
}

/// The sources that have messages on image makers, with their line breaks inside of texts taken out.
fn sources() -> String {
    let mut text = String::new();
    let folders = ["src/cli/imagemaker", "src/cli/args", "src/signing", "src/signing/gnupg", "src/signing/makers"];
    for folder in folders {
        for entry in std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
    }
    // New directories are written in the same way by all commands.
    text.push_str(&std::fs::read_to_string(root().join("src/cli/output.rs")).unwrap());
    let mut joined = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(open) => joined.push_str(if joined.ends_with('\n') { open } else { open.trim_start() }),
            None if joined.ends_with('\n') || joined.is_empty() => joined.extend([line, "\n"]),
            None => joined.extend([line.trim_start(), "\n"]),
        }
    }
    joined
}

fn every_message_on_image_makers_is_one_that_podseal_says() {
    let page = read("docs/troubleshooting.md");
    let rows = rows(section(&page, "### Image makers"));
    assert!(rows.len() > 15, "{rows:?}");
    let (sources, mut unsaid) = (sources(), Vec::new());
    for row in rows {
        let cell = row.split('|').nth(1).unwrap();
        for message in cell.split('`').skip(1).step_by(2) {
            // What stands for something else is written in capitals; texts are put together at colons and the like.
            let capitals = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let placeholder =
                |word: &str| capitals(word.trim_matches(|c: char| !c.is_alphanumeric()).trim_end_matches("'s"));
            let message = message.strip_prefix("gpg could not ").unwrap_or(message);
            let parts = message.split(|c: char| !(c.is_alphanumeric() || "-_ ,'".contains(c)));
            let words: Vec<_> = parts.flat_map(|part| part.split(' ').chain([""])).collect();
            let pieces = words.split(|word| word.is_empty() || placeholder(word));
            let longest = pieces.map(|piece| piece.join(" ")).max_by_key(String::len).unwrap_or_default();
            let longest = longest.trim_matches(|c: char| !c.is_alphanumeric());
            if longest.len() < 9 || !sources.contains(longest) {
                unsaid.push(format!("{longest:?} of {message:?}"));
            }
        }
    }
    assert!(unsaid.is_empty(), "said nowhere:\n{}", unsaid.join("\n"));
}
