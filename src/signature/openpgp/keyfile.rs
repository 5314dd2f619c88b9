//! Reads the certificates of one key file.

use std::iter;

use sequoia_openpgp::cert::{Cert, CertParser};
use sequoia_openpgp::packet::Tag;
use sequoia_openpgp::parse::{PacketParser, PacketParserResult, Parse};
use sequoia_openpgp::{Error, Packet};

/// Largest key file, in bytes.
pub(super) const MAX_FILE: usize = 4 << 20;
/// Most certificates in one key file.
pub(super) const MAX_CERTS: usize = 1000;
/// Most problems told about one key file; a file of garbage must not fill the log.
const MAX_PROBLEMS: usize = 20;

const ARMOR: &[u8] = b"-----BEGIN PGP ";

/// The certificates of a key file, without secret parts, and what was left out of it and why.
///
/// Binary certificates one after another, armored ones, and armored blocks one after another are read; a bad one is
/// left out and the others stay.
pub(super) fn read(file: &str, bytes: &[u8]) -> (Vec<Cert>, Vec<String>) {
    let mut found = Found { file, certs: Vec::new(), problems: Vec::new() };
    if bytes.len() > MAX_FILE {
        found.problem("larger than 4 MiB, not read; split it");
        return (found.certs, found.problems);
    }
    for block in blocks(bytes).take(MAX_CERTS + 1) {
        if !found.read_block(block) {
            break;
        }
    }
    if found.certs.is_empty() && found.problems.is_empty() {
        found.problem("no OpenPGP certificate in it");
    }
    (found.certs, found.problems)
}

/// Whether a key file holds secret key material: an armored block that says so, or a secret key packet anywhere in it,
/// usable or not. What cannot be read as packets holds none that this could name.
pub(super) fn holds_secret_key(bytes: &[u8]) -> bool {
    blocks(bytes).take(MAX_CERTS + 1).any(|block| {
        let said = block.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(block).strip_prefix(ARMOR);
        said.is_some_and(|label| label.starts_with(b"PRIVATE KEY")) || has_secret_packet(block)
    })
}

fn has_secret_packet(block: &[u8]) -> bool {
    let mut parser = PacketParser::from_bytes(block);
    while let Ok(PacketParserResult::Some(packet)) = parser {
        if matches!(packet.packet.tag(), Tag::SecretKey | Tag::SecretSubkey) {
            return true;
        }
        // Not into containers: nothing in a key file is compressed or encrypted.
        parser = packet.next().map(|(_, next)| next);
    }
    false
}

/// Whether these bytes, which are not armored, are packets of public keys from the first to the last, and nothing else.
pub(super) fn is_public_alone(bytes: &[u8]) -> bool {
    // Else the parser would look for armor in it.
    if bytes.first().is_none_or(|first| first & 0x80 == 0) {
        return false;
    }
    let mut parser = PacketParser::from_bytes(bytes);
    loop {
        match parser {
            Ok(PacketParserResult::Some(packet)) if is_of_public_key(packet.packet.tag()) => {
                parser = packet.next().map(|(_, next)| next);
            }
            Ok(PacketParserResult::EOF(_)) => return true,
            _ => return false,
        }
    }
}

fn is_of_public_key(tag: Tag) -> bool {
    let key = matches!(tag, Tag::PublicKey | Tag::PublicSubkey | Tag::UserID | Tag::UserAttribute | Tag::Signature);
    // What key stores and exports have between them.
    key || matches!(tag, Tag::Trust | Tag::Marker | Tag::Padding)
}

/// Cuts a file of armored blocks so that damage to one does not hide the next; a binary file stays whole.
fn blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let binary = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut rest = Some(bytes);
    if !binary {
        // Text before the first block is allowed (RFC 9580, 6.2); without any block there is nothing to read.
        rest = find_armor(bytes, 0).and_then(|start| bytes.get(start..));
    }
    iter::from_fn(move || {
        let bytes = rest.take()?;
        if binary {
            return Some(bytes);
        }
        let Some(next) = find_armor(bytes, ARMOR.len()) else { return Some(bytes) };
        let (block, others) = bytes.split_at_checked(next)?;
        rest = Some(others);
        Some(block)
    })
}

/// Where the next armor header line begins, at `from` or later.
fn find_armor(bytes: &[u8], from: usize) -> Option<usize> {
    let begins_line = |at: usize| at == 0 || bytes.get(at - 1) == Some(&b'\n');
    let tail = bytes.get(from..)?;
    tail.windows(ARMOR.len()).enumerate().map(|(at, line)| (at + from, line)).find_map(|(at, line)| {
        // A byte order mark of some editors is the one thing that may stand before it on the line.
        (line == ARMOR && (begins_line(at) || bytes.get(..at) == Some(b"\xEF\xBB\xBF"))).then_some(at)
    })
}

struct Found<'a> {
    file: &'a str,
    certs: Vec<Cert>,
    problems: Vec<String>,
}

impl Found<'_> {
    /// Reads one block; false when nothing more is to be read from the file.
    fn read_block(&mut self, block: &[u8]) -> bool {
        let before = self.certs.len();
        let parser = match CertParser::from_bytes(block) {
            Ok(parser) => parser,
            Err(error) => {
                self.problem(&format!("not readable as OpenPGP: {}", brief(&error)));
                return self.problems.len() < MAX_PROBLEMS;
            }
        };
        for item in parser {
            match item {
                Ok(_) if self.certs.len() >= MAX_CERTS => {
                    self.problem(&format!("more than {MAX_CERTS} certificates; the rest is left out"));
                    return false;
                }
                Ok(cert) => self.keep(cert),
                Err(error) => self.leave_out(&error, before),
            }
            if self.problems.len() >= MAX_PROBLEMS {
                self.problem("too many problems; the rest is left out");
                return false;
            }
        }
        true
    }

    fn keep(&mut self, cert: Cert) {
        if cert.is_tsk() {
            self.problem(&format!(
                "contains the secret key of {}; only the public part is used, remove the secret one",
                cert.fingerprint()
            ));
        }
        self.certs.push(cert.strip_secret_key_material());
    }

    /// Reports what could not be read, and drops the certificate before it in the same block if the damage may have
    /// taken a part of that one: its revocation could be what is missing.
    fn leave_out(&mut self, error: &sequoia_openpgp::anyhow::Error, block_start: usize) {
        let own_certificate = match error.downcast_ref::<Error>() {
            Some(Error::UnsupportedCert(_, packets)) => packets.first().is_some_and(starts_certificate),
            Some(Error::MalformedCert(_)) => true,
            _ => false,
        };
        self.problem(&format!("a certificate is left out: {}", brief(error)));
        if !own_certificate
            && self.certs.len() > block_start
            && let Some(cert) = self.certs.pop()
        {
            self.problem(&format!("{} is left out: the data behind it are damaged", cert.fingerprint()));
        }
    }

    fn problem(&mut self, what: &str) {
        self.problems.push(format!("key file {}: {what}", self.file));
    }
}

fn starts_certificate(packet: &Packet) -> bool {
    matches!(packet.tag(), Tag::PublicKey | Tag::SecretKey)
}

/// The error on one line of bounded length, without control characters: it may quote the file.
fn brief(error: &sequoia_openpgp::anyhow::Error) -> String {
    format!("{error:#}").chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
