//! Text that others wrote, in a message for people.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character escaped that could steer a terminal or show as something else: control characters, line
/// ends among them, and what turns the direction of writing.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

/// The same for a whole message, which may have lines and columns of its own.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| is_bad(c) || is_steering(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            // As JSON and YAML have it, so that documents keep their meaning; all of them are in the basic plane.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Marks of direction, separators of lines and paragraphs.
fn is_steering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_nothing_else() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{9b}\u{202e}\u{7f}"), r"a\u001b[31m\u000ab\u009b\u202e\u007f");
        assert_eq!(printable_lines("a\n\tb\r\u{1b}"), "a\n\tb\\u000d\\u001b");
        assert!(matches!(printable("Jörg <j@x> \\ 'x'"), Cow::Borrowed(_)));
    }
}
