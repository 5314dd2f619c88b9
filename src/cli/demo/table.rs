//! What the newcomer reads: a row for each attempt, and podseal's own words below it.

use std::time::Duration;

use super::scenes::{Expected, Scene};
use super::webhook::Answer;

/// Hexadecimal digits of a digest that are shown; nobody compares all 64 by eye.
const SHOWN_DIGITS: usize = 12;
const INDENT: &str = "      ";

/// The widths of the columns before the two times.
const NAME: usize = 16;
const ABOUT: usize = 35;
const SAYS: usize = 10;
const TIME: usize = 8;

/// One attempt, asked twice.
pub(super) struct Row<'a> {
    pub(super) scene: &'a Scene,
    pub(super) answer: Answer,
    pub(super) first: Duration,
    pub(super) again: Duration,
}

/// The terminal's width where the shell tells it, within reason.
pub(super) fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(100).clamp(90, 160)
}

pub(super) fn head(width: usize) -> String {
    let line = format!(
        "{:>2}  {:NAME$}  {:ABOUT$}  {:SAYS$}  {:>TIME$}  {:>TIME$}",
        "#", "POD", "WHAT IT IS", "PODSEAL", "FIRST", "AGAIN"
    );
    format!("{line}\n{}\n", "-".repeat(width))
}

pub(super) fn row(number: usize, row: &Row<'_>, width: usize) -> String {
    let Row { scene, answer, first, again } = row;
    let says = verdict(answer).label();
    let mut text = format!(
        "{number:>2}  {:NAME$}  {:ABOUT$}  {says:SAYS$}  {:>TIME$}  {:>TIME$}\n",
        scene.name,
        scene.about,
        time(*first),
        time(*again)
    );
    for reason in reasons(answer) {
        text.push_str(&wrap(&shorten_digests(&reason), width, INDENT));
    }
    text
}

/// What the answer amounts to.
pub(super) fn verdict(answer: &Answer) -> Expected {
    match (answer.allowed, answer.code) {
        (true, _) if answer.warnings.is_empty() => Expected::Allowed,
        (true, _) => Expected::Warned,
        (false, 503) => Expected::Undecided,
        (false, _) => Expected::Denied,
    }
}

/// podseal's words, without what is the same in all of them.
fn reasons(answer: &Answer) -> Vec<String> {
    if !answer.warnings.is_empty() {
        return answer.warnings.clone();
    }
    if answer.allowed {
        let why = answer.words.split_once(": allowed, ").map_or(answer.words.as_str(), |(_, why)| why);
        return vec![why.to_owned()];
    }
    answer
        .words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "Pod is not valid:")
        .map(str::to_owned)
        .collect()
}

/// Such as `0.42 ms` and `312 ms`.
fn time(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

/// Cuts `sha256:` and its 64 digits to the first twelve.
fn shorten_digests(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut digits = 0;
    for character in text.chars() {
        // A warning that was cut within a digest has its own mark there already.
        if character == '…' && short.ends_with('…') {
            continue;
        }
        digits = if character.is_ascii_hexdigit() { digits + 1 } else { 0 };
        match digits.cmp(&(SHOWN_DIGITS + 1)) {
            std::cmp::Ordering::Less => short.push(character),
            std::cmp::Ordering::Equal => short.push('…'),
            std::cmp::Ordering::Greater => {}
        }
    }
    short
}

/// Breaks a line at spaces; a word that is longer than a line stays whole, so that it can be copied.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && indent.len() + used + 1 + length <= width {
            lines.push(' ');
            used += 1 + length;
        } else {
            if used > 0 {
                lines.push('\n');
            }
            lines.push_str(indent);
            used = length;
        }
        lines.push_str(word);
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrap("aa bb cc", 7, "  "), "  aa bb\n  cc\n");
        assert_eq!(wrap("aaaaaaaaaa b", 7, "  "), "  aaaaaaaaaa\n  b\n");
        assert_eq!(wrap("aa bb", 80, ""), "aa bb\n");
    }

    #[test]
    fn only_long_runs_of_digits_are_cut() {
        let digest = format!("x sha256:{} in cafe", "0123456789abcdef".repeat(4));
        assert_eq!(shorten_digests(&digest), "x sha256:0123456789ab… in cafe");
        assert_eq!(shorten_digests("x sha256:0123456789abcdef0…"), "x sha256:0123456789ab…", "one mark is enough");
        assert_eq!(
            shorten_digests("imagemaker@registry.local 127.0.0.1:41000"),
            "imagemaker@registry.local 127.0.0.1:41000"
        );
    }

    #[test]
    fn times_have_as_many_digits_as_one_reads() {
        assert_eq!(time(Duration::from_micros(420)), "0.4 ms");
        assert_eq!(time(Duration::from_millis(312)), "312 ms");
    }

    #[test]
    fn a_denial_without_a_verdict_is_told_apart() {
        let answer = |allowed, code, warnings: &[&str]| Answer {
            allowed,
            code,
            words: String::new(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(verdict(&answer(true, 0, &[])), Expected::Allowed);
        assert_eq!(verdict(&answer(true, 0, &["w"])), Expected::Warned);
        assert_eq!(verdict(&answer(false, 403, &[])), Expected::Denied);
        assert_eq!(verdict(&answer(false, 503, &[])), Expected::Undecided);
    }
}
