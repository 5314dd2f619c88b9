//! Writing to the two streams without panicking when nobody reads.

use std::ffi::OsString;
use std::io::Write;

use crate::domain::printable::{printable, printable_lines};

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

/// What the parser of arguments says. It quotes them as they came, and whoever typed the command may have had them from
/// somebody else: an image's name from a list, for one. `parse` is asked again with what is safe to show.
pub(super) fn complain_of_usage(
    error: &clap::Error,
    arguments: &[OsString],
    parse: impl FnOnce(&[OsString]) -> Option<clap::Error>,
) {
    let safe: Vec<OsString> =
        arguments.iter().map(|argument| printable(&argument.to_string_lossy()).into_owned().into()).collect();
    let _ = if safe == arguments {
        error.print()
    } else if let Some(error) = parse(&safe) {
        error.print()
    } else {
        // In one line, and without what was wrong with it.
        complain(&printable(&error.render().to_string()));
        Ok(())
    };
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
}
