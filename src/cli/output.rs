//! Writing to the two streams without panicking when nobody reads.

use std::io::Write;

use crate::domain::printable::printable_lines;

/// Results, to standard output; what could steer a terminal is escaped, whoever wrote it. A reader that went away ends the output quietly.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(printable_lines(text).as_bytes()).and_then(|()| out.flush());
}

/// Messages for people, to standard error; escaped likewise.
pub(super) fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "podseal: {}", printable_lines(text));
}
