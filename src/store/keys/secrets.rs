//! What of a key file may be served.

use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::{Keyring, holds_secret_key};
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
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'));
    let no_key = if is_cosign_key(name) {
        PublicKeys::from_pem(content).0.is_empty()
    } else {
        Keyring::from_files([(name, content)]).0.is_empty()
    };
    match text {
        Some(_) if no_key && !is_cosign_key(name) => Ok(Serve::NoKey),
        _ if no_key => Err("it holds no public key that can be read"),
        Some(text) if says_more(text) => Err("it holds more than public keys, which may be secret; move that away"),
        _ => Ok(Serve::Content),
    }
}

fn is_secret(content: &[u8]) -> bool {
    let lower = content.to_ascii_lowercase();
    MARKERS.iter().any(|marker| lower.windows(marker.len()).any(|window| window == *marker))
        || holds_secret_key(content)
}

/// Whether a text has something around its blocks that looks secret; remarks are none.
fn says_more(text: &str) -> bool {
    let mut inside = false;
    text.lines().map(str::trim).any(|line| {
        inside |= line.starts_with("-----BEGIN ");
        let outside = !inside;
        inside &= !line.starts_with("-----END ");
        let lower = line.to_ascii_lowercase();
        outside
            && (WORDS.iter().any(|word| lower.contains(word)) || line.split_whitespace().any(|word| word.len() > LONG))
    })
}
