//! Writing to the two streams without panicking when nobody reads.

use std::io::Write;

use crate::domain::printable::{printable_lines, unprintable};

/// Results, to standard output; what could steer a terminal is escaped, whoever wrote it. A reader that went away ends
/// the output quietly.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(printable_lines(text).as_bytes()).and_then(|()| out.flush());
}

/// Messages for people, to standard error; escaped likewise.
pub(super) fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "podseal: {}", printable_lines(text));
}

/// Text of strangers for a terminal: what would break the line, hide something or turn it around is replaced by U+FFFD.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if unprintable(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_forge_a_line_is_replaced() {
        assert_eq!(printable("a\u{1b}[2K\nb\u{2028}\u{202e}\u{200b}"), "a\u{fffd}[2K\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(printable("Jürgen – 日本 <a@b>"), "Jürgen – 日本 <a@b>");
    }
}
