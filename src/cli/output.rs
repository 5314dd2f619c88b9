//! Writing to the two streams without panicking when nobody reads.

use std::io::Write;

/// Results, to standard output. A reader that went away ends the output quietly.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Messages for people, to standard error.
pub(super) fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "podseal: {text}");
}
