//! podseal as a plugin of kubectl: the same binary under the name `kubectl-podseal`, and `kubectl_complete-podseal` for
//! its completion.
//!
//! kubectl runs whatever is called so and lies on the path, with the words behind `kubectl podseal` as arguments.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Command};

/// As the user types it.
pub(super) const NAME: &str = "kubectl podseal";
/// No file names, in the numbers of kubectl's completion.
const NO_FILES: u8 = 4;

/// What the binary was called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    /// `podseal`.
    Podseal,
    /// `kubectl podseal`.
    Plugin,
    /// By kubectl, to complete a command line of the plugin.
    Completion,
}

impl Called {
    /// By the name of the program, whatever the folder.
    pub(super) fn by(program: Option<&OsStr>) -> Self {
        let name = program.and_then(|program| Path::new(program).file_stem()).and_then(OsStr::to_str);
        match name {
            // kubectl takes an underscore in place of a hyphen.
            Some("kubectl-podseal" | "kubectl_podseal") => Self::Plugin,
            Some("kubectl_complete-podseal") => Self::Completion,
            _ => Self::Podseal,
        }
    }
}

/// A plugin's `check` is about the cluster unless it is told what else to look at.
pub(super) fn arguments(mut arguments: Vec<OsString>) -> Vec<OsString> {
    const ELSEWHERE: [&str; 6] = ["--cluster", "--filename", "--image", "--containers-policy", "--help", "--version"];
    let is = |argument: &OsString| {
        let text = argument.to_string_lossy();
        let long = ELSEWHERE.iter().any(|flag| text.split('=').next() == Some(*flag));
        long || text.starts_with("-f") || text == "-h" || text == "-V"
    };
    let command = arguments.iter().skip(1).position(|argument| !argument.to_string_lossy().starts_with('-'));
    let check = command.and_then(|at| arguments.get(at + 1)).is_some_and(|command| command == "check");
    if let (true, Some(at)) = (check && !arguments.iter().any(is), command) {
        arguments.insert(at + 2, "--cluster".into());
    }
    arguments
}

/// What could stand in place of the last word, and the last line that kubectl's completion expects: a number that says
/// what the shell may add by itself.
pub(super) fn complete(root: &Command, words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_ref(), before));
    let command = before.iter().fold(root, |command, word| command.find_subcommand(word.as_ref()).unwrap_or(command));
    let flag_before = before.last().and_then(|word| find_flag(command, word));
    let mut text = String::new();
    if let Some(flag) = flag_before.filter(|flag| flag.get_action().takes_values()) {
        let values = flag.get_possible_values();
        for value in values.iter().filter(|value| value.get_name().starts_with(last)) {
            add(&mut text, value.get_name(), value.get_help());
        }
        // Of flags without a list of values, the shell may offer files.
        let _ = writeln!(text, ":{}", if values.is_empty() { 0 } else { NO_FILES });
    } else {
        candidates(&mut text, command, last);
        let _ = writeln!(text, ":{NO_FILES}");
    }
    text
}

fn candidates(text: &mut String, command: &Command, last: &str) {
    if last.starts_with('-') {
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            if let Some(long) = flag.get_long().filter(|long| format!("--{long}").starts_with(last)) {
                add(text, &format!("--{long}"), flag.get_help());
            }
        }
        return;
    }
    for subcommand in command.get_subcommands().filter(|one| one.get_name().starts_with(last)) {
        add(text, subcommand.get_name(), subcommand.get_about());
    }
}

fn find_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|flag| match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(long), _) => flag.get_long() == Some(long),
        (None, Some(short)) => flag.get_short().is_some_and(|known| short == known.to_string()),
        _ => false,
    })
}

/// A candidate, a tab, and what it is, on one line.
fn add(text: &mut String, name: &str, help: Option<&StyledStr>) {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default();
    let _ = writeln!(text, "{name}\t{help}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Arguments;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_name_of_the_file_says_what_it_is() {
        let called = |name: &str| Called::by(Some(OsStr::new(name)));
        assert_eq!(called("/usr/local/bin/kubectl-podseal"), Called::Plugin);
        assert_eq!(called("kubectl-podseal.exe"), Called::Plugin);
        assert_eq!(called("kubectl_complete-podseal"), Called::Completion);
        for name in ["podseal", "/kubectl-podseal/podseal", "kubectl", "kubectl-podseal-x"] {
            assert_eq!(called(name), Called::Podseal, "{name}");
        }
        assert_eq!(Called::by(None), Called::Podseal);
    }

    #[test]
    fn check_is_about_the_cluster_unless_it_is_about_something_else() {
        let made = |given: &[&str]| arguments(words(given));
        assert_eq!(made(&["k", "check"]), words(&["k", "check", "--cluster"]));
        assert_eq!(made(&["k", "-v", "check", "-n", "a"]), words(&["k", "-v", "check", "--cluster", "-n", "a"]));
        for given in [
            &["k", "check", "-f", "pod.yaml"][..],
            &["k", "check", "-fpod.yaml"],
            &["k", "check", "--image=nginx"],
            &["k", "check", "--cluster"],
            &["k", "check", "--help"],
            &["k", "verify", "check"],
            &["k"],
        ] {
            assert_eq!(made(given), words(given));
        }
    }

    #[test]
    fn completion_knows_commands_flags_and_values() {
        let mut root = Arguments::command();
        root.build();
        let completed = |given: &[&str]| complete(&root, &words(given));
        assert!(completed(&["ver"]).starts_with("verify\t"), "{}", completed(&["ver"]));
        assert!(completed(&["ver"]).ends_with(":4\n"));
        assert!(completed(&["verify", "x", "--exp"]).starts_with("--expected-identity\t"));
        assert_eq!(completed(&["verify", "x", "-o", "j"]), "json\tOne JSON document\n:4\n");
        assert_eq!(completed(&["verify", "x", "--kubeconfig", ""]), ":0\n");
        assert!(completed(&["keys", "re"]).starts_with("remove\t"));
        assert!(completed(&[]).contains("explain\t"));
        assert_eq!(completed(&["no-such"]), ":4\n");
    }
}
