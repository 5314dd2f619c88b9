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

/// Lines of cells under each other, each with the notes that belong to it; the first line is the heading.
pub(super) fn columns<const N: usize>(lines: &[([String; N], Vec<String>)]) -> String {
    let mut widths = [0; N];
    for (cells, _) in lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (cells, notes) in lines {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
        text.extend(notes.iter().flat_map(|note| ["  ", note, "\n"]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_each_other_and_notes_below() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned);
        let lines = [
            (cells(["NAME", "KEY"]), vec![]),
            (cells(["ä", "f"]), vec!["why".to_owned(), "where".to_owned()]),
            (cells(["longer", ""]), vec![]),
        ];
        assert_eq!(columns(&lines), "NAME    KEY\nä       f\n  why\n  where\nlonger\n");
    }

    #[test]
    fn what_would_forge_a_line_is_replaced() {
        assert_eq!(printable("a\u{1b}[2K\nb\u{2028}\u{202e}\u{200b}"), "a\u{fffd}[2K\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(printable("Jürgen – 日本 <a@b>"), "Jürgen – 日本 <a@b>");
    }
}
