//! Text with PEM blocks (RFC 7468), read so that every block that is left out can be named.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text of a key file; a Kubernetes Secret holds no more.
const MAX_TEXT: usize = 1 << 20;
/// Blocks in one text.
pub(super) const MAX_BLOCKS: usize = 64;
/// Base64 characters in one block. An RSA key of 8192 bits has about 1400.
const MAX_BODY: usize = 16 * 1024;

/// What stands between one BEGIN and its END.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// `PUBLIC KEY` and the like: upper-case letters, digits and spaces.
    pub(super) label: String,
    /// The decoded content, empty for a private key, or why there is none.
    pub(super) content: Result<Vec<u8>, &'static str>,
}

impl Block {
    /// Whether the block holds a private key of any form. Its content was not read.
    pub(super) fn is_private(&self) -> bool {
        is_private(&self.label)
    }
}

fn is_private(label: &str) -> bool {
    label.ends_with("PRIVATE KEY")
}

/// All blocks in their order, and whether something was left unread because of a bound.
///
/// Text outside of blocks is skipped, as RFC 7468 has it.
pub(super) fn blocks(text: &[u8]) -> (Vec<Block>, bool) {
    let (text, mut cut) = match text.get(..MAX_TEXT) {
        Some(head) => (head, text.len() > MAX_TEXT),
        None => (text, false),
    };
    let mut reader = Reader::default();
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if reader.blocks.len() >= MAX_BLOCKS {
            cut |= line.trim_ascii().starts_with(b"-----BEGIN");
            continue;
        }
        reader.line(line.trim_ascii());
    }
    reader.close(Err("no END line"));
    (reader.blocks, cut)
}

/// One block in the form that RFC 7468, section 3, asks of writers.
pub(super) fn write(label: &str, content: &[u8]) -> String {
    let body = STANDARD.encode(content);
    let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    open: Option<(String, Vec<u8>)>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        if line.starts_with(b"-----BEGIN") {
            self.close(Err("no END line"));
            match label(line, b"-----BEGIN ") {
                Some(label) => self.open = Some((label, Vec::new())),
                // Never echo the line: a key pasted into one line would go to the log.
                None => self.blocks.push(Block { label: "?".to_owned(), content: Err("not a BEGIN line") }),
            }
        } else if line.starts_with(b"-----END") {
            let end = label(line, b"-----END ");
            let same = self.open.as_ref().is_some_and(|(begin, _)| Some(begin) == end.as_ref());
            self.close(if same { Ok(()) } else { Err("BEGIN and END name different things") });
        } else if let Some((label, body)) = &mut self.open
            && !is_private(label)
        {
            // One character too many is kept, to tell a body at the bound from one above it.
            let room = (MAX_BODY + 1).saturating_sub(body.len());
            body.extend(line.iter().take(room));
        }
    }

    fn close(&mut self, end: Result<(), &'static str>) {
        let Some((label, body)) = self.open.take() else { return };
        let content = end.and_then(|()| match body.len() {
            0..=MAX_BODY => STANDARD.decode(body).map_err(|_| "not valid base64"),
            _ => Err("too long for a public key"),
        });
        self.blocks.push(Block { label, content });
    }
}

fn label(line: &[u8], prefix: &[u8]) -> Option<String> {
    let label = line.strip_prefix(prefix)?.strip_suffix(b"-----")?;
    let plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    (label.len() <= 40 && label.iter().all(plain)).then(|| label.iter().copied().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<(String, Result<Vec<u8>, &'static str>)> {
        blocks(text.as_bytes()).0.into_iter().map(|block| (block.label, block.content)).collect()
    }

    const GOOD: &str = "-----BEGIN PUBLIC KEY-----\nAQID\nBA==\n-----END PUBLIC KEY-----\n";

    #[test]
    fn reads_blocks_with_any_line_end_indentation_and_text_between() {
        let want = ("PUBLIC KEY".to_owned(), Ok(vec![1, 2, 3, 4]));
        for text in [GOOD.to_owned(), GOOD.replace('\n', "\r\n"), GOOD.replace('\n', "\r"), GOOD.replace('\n', "\n  ")]
        {
            assert_eq!(labels(&text), vec![want.clone()], "{text:?}");
        }
        assert_eq!(labels(&format!("# mine\n{GOOD}\nother\n{GOOD}")), [want.clone(), want.clone()]);
        assert_eq!(labels(GOOD.trim_end()), [want]);
    }

    #[test]
    fn e40_a_broken_block_is_named_and_the_next_one_read() {
        for (broken, why) in [
            (GOOD.replace("AQID", "AQ!D"), "not valid base64"),
            (GOOD.replace("BA==", "BA"), "not valid base64"),
            (GOOD.replace("BA==", "BB=="), "not valid base64"),
            (GOOD.replace("AQID", "Proc-Type: 4,ENCRYPTED"), "not valid base64"),
            (GOOD.replace("-----END PUBLIC KEY-----\n", ""), "no END line"),
            (GOOD.replace("END PUBLIC", "END PRIVATE"), "BEGIN and END name different things"),
            (GOOD.replace("END PUBLIC KEY-----", "END PUBLIC KEY"), "BEGIN and END name different things"),
            (GOOD.replace("AQID", &"A".repeat(MAX_BODY)), "too long for a public key"),
            (GOOD.replace('\n', ""), "not a BEGIN line"),
            (GOOD.replace("BEGIN PUBLIC KEY-----", "BEGIN PUBLIC KEY"), "not a BEGIN line"),
        ] {
            let read = labels(&format!("{broken}\n{GOOD}"));
            assert_eq!(
                read.iter().map(|(_, content)| content.clone()).collect::<Vec<_>>(),
                [Err(why), Ok(vec![1, 2, 3, 4])]
            );
        }
        assert_eq!(labels(""), []);
        assert_eq!(labels("-----END PUBLIC KEY-----"), []);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in [1, 47, 48, 49, 550] {
            let content = vec![0xA5; length];
            let text = write("PUBLIC KEY", &content);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(labels(&text), [("PUBLIC KEY".to_owned(), Ok(content))]);
        }
    }

    #[test]
    fn a_private_key_is_never_decoded() {
        for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"] {
            let (read, _) = blocks(GOOD.replace("PUBLIC KEY", kind).as_bytes());
            assert!(read[0].is_private());
            assert_eq!(read, [Block { label: kind.to_owned(), content: Ok(Vec::new()) }]);
        }
    }

    #[test]
    fn e34_bounds_the_text_and_the_number_of_blocks() {
        assert_eq!((blocks(GOOD.repeat(64).as_bytes()).0.len(), blocks(GOOD.repeat(64).as_bytes()).1), (64, false));
        assert_eq!((blocks(GOOD.repeat(65).as_bytes()).0.len(), blocks(GOOD.repeat(65).as_bytes()).1), (64, true));
        let far = format!("{}\n{GOOD}", " ".repeat(MAX_TEXT));
        assert_eq!(blocks(far.as_bytes()), (Vec::new(), true));
    }
}
