//! What of a key file may be served.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::{Keyring, holds_secret_key, is_public_alone};
use crate::store::paths::is_cosign_key;

/// What secret keys have in them, in the forms of PEM, `OpenPGP` armor, GnuPG's own key store, and others.
const MARKERS: [&[u8]; 5] = [b"private key", b"private-key", b"secret key", b"secret-key", b"key: ("];
/// What people write before a secret.
const WORDS: [&str; 4] = ["password", "passphrase", "passwd", "secret"];
/// A word of this length outside of a block looks like key material; a fingerprint has 40 characters.
const LONG: usize = 48;

/// What is served of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serve {
    /// All of it.
    Content,
    /// That there is no key in it.
    NoKey,
}

/// What may be served of a file: public keys, and with them nothing that looks secret. Of a text without a key in it that
/// has the name of an `OpenPGP` key file, it may be told that there is none. The error says why not even that.
pub(super) fn what_to_serve(name: &str, content: &[u8]) -> Result<Serve, &'static str> {
    if is_secret(content) {
        return Err("it holds secret key material; move it away, and consider the key known to others");
    }
    let is_text = std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0'));
    let is_cosign = is_cosign_key(name);
    let no_key = if is_cosign {
        PublicKeys::from_pem(content).0.is_empty()
    } else {
        Keyring::from_files([(name, content)]).0.is_empty()
    };
    match (no_key, is_text && !is_cosign) {
        (true, true) => Ok(Serve::NoKey),
        (true, false) => Err("it holds no public key that can be read"),
        _ if says_more(content, is_cosign) => {
            Err("it holds more than public keys, which may be secret; move that away")
        }
        _ => Ok(Serve::Content),
    }
}

fn is_secret(content: &[u8]) -> bool {
    let lower = content.to_ascii_lowercase();
    MARKERS.iter().any(|marker| lower.windows(marker.len()).any(|window| window == *marker))
        || holds_secret_key(content)
}

/// Whether a file has something besides public keys that looks secret.
fn says_more(content: &[u8], is_cosign: bool) -> bool {
    // OpenPGP's readers take what begins so for packets, and all others for text.
    let is_binary = !is_cosign && content.first().is_some_and(|first| first & 0x80 != 0);
    if is_binary { !is_public_alone(content) } else { text_says_more(&String::from_utf8_lossy(content)) }
}

/// The same of a text: remarks are fine around blocks, and in blocks public keys alone.
fn text_says_more(text: &str) -> bool {
    let mut open: Option<Block> = None;
    // A lone CR ends a line, too, as whoever reads PEM here has it.
    for line in text.replace("\r\n", "\n").split(['\n', '\r']).map(str::trim) {
        let fine = match &mut open {
            None if line.starts_with("-----BEGIN") => {
                open = Block::begin(line);
                open.is_some()
            }
            None => !looks_secret(line),
            Some(block) if line.starts_with("-----END ") => {
                let public = block.ends_with(line) && block.is_public();
                open = None;
                public
            }
            Some(block) => block.take(line),
        };
        if !fine {
            return true;
        }
    }
    // Of a block without an end nobody knows what it was to be.
    open.is_some()
}

fn looks_secret(line: &str) -> bool {
    says_secret(line) || line.split_whitespace().any(|word| word.len() > LONG)
}

fn says_secret(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

/// What may stand in a key file between BEGIN and END.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OpenPgp,
    /// `SubjectPublicKeyInfo`.
    Key,
    /// PKCS#1.
    RsaKey,
    Certificate,
}

const KINDS: [(&str, Kind); 4] = [
    ("PGP PUBLIC KEY BLOCK", Kind::OpenPgp),
    ("PUBLIC KEY", Kind::Key),
    ("RSA PUBLIC KEY", Kind::RsaKey),
    ("CERTIFICATE", Kind::Certificate),
];

/// A block of base64 while it is read.
struct Block {
    label: &'static str,
    kind: Kind,
    /// Lines of armor headers may still come (RFC 9580, section 6.2).
    headers: bool,
    /// The checksum was there, behind which nothing comes.
    ended: bool,
    body: String,
}

impl Block {
    /// The block that a line begins, if it is of a kind that is served.
    fn begin(line: &str) -> Option<Self> {
        let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        let (label, kind) = KINDS.into_iter().find(|(known, _)| *known == label)?;
        Some(Self { label, kind, headers: kind == Kind::OpenPgp, ended: false, body: String::new() })
    }

    /// Whether this line is the end of it.
    fn ends_with(&self, line: &str) -> bool {
        line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) == Some(self.label)
    }

    /// Takes a line; false if it has no business there.
    fn take(&mut self, line: &str) -> bool {
        if self.headers && line.contains(':') {
            // Of User IDs, which exports tell here, addresses may be long.
            let long = |word: &str| word.len() > LONG && !word.contains('@');
            return !says_secret(line) && !line.split_whitespace().any(long);
        }
        self.headers = false;
        if line.is_empty() {
            return true;
        }
        if self.ended {
            return false;
        }
        if self.kind == Kind::OpenPgp && line.starts_with('=') {
            self.ended = true;
            // 24 bits; more would be something else.
            return line.len() == 5;
        }
        self.body.push_str(line);
        true
    }

    /// Whether what was in it is a public key, or several.
    fn is_public(&self) -> bool {
        let Ok(content) = BASE64_STANDARD.decode(&self.body) else { return false };
        match self.kind {
            Kind::OpenPgp => is_public_alone(&content),
            Kind::Key => SubjectPublicKeyInfo::from_der(&content).is_ok_and(|(rest, _)| rest.is_empty()),
            Kind::RsaKey => {
                let pem = format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", self.label, self.body);
                !PublicKeys::from_pem(pem.as_bytes()).0.is_empty()
            }
            Kind::Certificate => X509Certificate::from_der(&content).is_ok_and(|(rest, _)| rest.is_empty()),
        }
    }
}
