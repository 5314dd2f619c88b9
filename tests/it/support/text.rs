//! Texts that people read, made comparable and compared whole.

/// Replaces what differs from run to run: digests, ports of 127.0.0.1, fingerprints in brackets, the given words.
pub fn normal(text: &str, words: &[(&str, &str)]) -> String {
    let mut text = text.trim_end().to_owned();
    for (word, name) in words {
        text = text.replace(word, name);
    }
    let text = replace_run(&text, "sha256:", |c| c.is_ascii_hexdigit(), 64, "DIGEST");
    let text = replace_run(&text, "(", |c| matches!(c, '0'..='9' | 'A'..='F'), 40, "FINGERPRINT");
    let text = replace_run(&text, "127.0.0.1:", |c| c.is_ascii_digit(), 2, "PORT");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Replaces each run of at least `least` such characters after `prefix`.
fn replace_run(text: &str, prefix: &str, part: impl Fn(char) -> bool, least: usize, name: &str) -> String {
    let mut pieces = text.split(prefix);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(&part);
        let run = piece.len() - rest.len();
        out.push_str(prefix);
        out.push_str(if run >= least { name } else { &piece[..run] });
        out.push_str(rest);
    }
    out
}

/// Compares a text with what is written in the test; shows the whole text when it differs.
#[track_caller]
pub fn assert_text(found: &str, expected: &str) {
    let expected = expected.trim_end();
    assert!(found == expected, "the text is another one\n--- expected\n{expected}\n--- found\n{found}\n---");
}
