//! Writing to the two streams without panicking when nobody reads.

use std::borrow::Cow;
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
/// somebody else: an image's name from a list, for one.
pub(super) fn complain_of_usage(error: &clap::Error, arguments: &[OsString]) {
    let plain = error.render().to_string();
    let safe = escaped_usage(&plain, arguments);
    let _ = if safe == plain {
        // In colours, where the terminal has them.
        error.print()
    } else {
        std::io::stderr().lock().write_all(safe.as_bytes())
    };
}

/// The arguments go first, so that none makes a line of its own; then whatever is left of the kind.
fn escaped_usage(text: &str, arguments: &[OsString]) -> String {
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let mut safe = text.to_owned();
    for argument in arguments {
        // Of `--flag=value` the value is quoted alone.
        let value = argument.split_once('=').map(|(_, value)| value);
        for quoted in [Some(&*argument), value].into_iter().flatten() {
            if let Cow::Owned(escaped) = printable(quoted) {
                safe = safe.replace(quoted, &escaped);
            }
        }
    }
    printable_lines(&safe).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_of_arguments_forges_no_line() {
        let text = "error: invalid value 'a\nsigned b\u{1b}[2K' for '--arch'\n\nFor more information, try '--help'.\n";
        let safe =
            "error: invalid value 'a\\u000asigned b\\u001b[2K' for '--arch'\n\nFor more information, try '--help'.\n";
        for arguments in [&["--arch", "a\nsigned b\u{1b}[2K"][..], &["--arch=a\nsigned b\u{1b}[2K"]] {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            assert_eq!(escaped_usage(text, &arguments), safe);
        }
        // Cut by the parser, it is still no steering.
        assert_eq!(escaped_usage("x\u{1b}y\n", &[]), "x\\u001by\n");
        assert_eq!(escaped_usage("nothing of the kind\n", &["--x".into()]), "nothing of the kind\n");
    }
}
