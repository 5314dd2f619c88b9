//! Text that others wrote, in a message for people.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character escaped that could steer a terminal or show as something else: control characters, line
/// ends among them, formatting such as what turns the direction of writing, and separators of lines.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

/// The same for a whole message, which may have lines and columns of its own.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| is_bad(c) || (unprintable(c) && !c.is_control());
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            // As JSON has it, so that documents keep their meaning.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Controls, formatting (bidirectional overrides, zero-width characters, tags) and separators of lines: Cc, Cf, Zl, Zp.
pub fn unprintable(c: char) -> bool {
    const FORMATTING: [std::ops::RangeInclusive<char>; 20] = [
        '\u{ad}'..='\u{ad}',
        '\u{600}'..='\u{605}',
        '\u{61c}'..='\u{61c}',
        '\u{6dd}'..='\u{6dd}',
        '\u{70f}'..='\u{70f}',
        '\u{890}'..='\u{891}',
        '\u{8e2}'..='\u{8e2}',
        '\u{180e}'..='\u{180e}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{2064}',
        '\u{2066}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
        '\u{fff9}'..='\u{fffb}',
        '\u{110bd}'..='\u{110cd}',
        '\u{13430}'..='\u{1343f}',
        '\u{1bca0}'..='\u{1bca3}',
        '\u{1d173}'..='\u{1d17a}',
        '\u{e0001}'..='\u{e0001}',
        '\u{e0020}'..='\u{e007f}',
    ];
    c.is_control() || FORMATTING.iter().any(|range| range.contains(&c))
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
