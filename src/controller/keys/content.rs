//! What a key file's bytes hold: public keys, ready for a Secret, or the reason why there are none.
//!
//! A Secret never gets the file's own bytes, only what was read of them as public keys and written anew. What else a file
//! may hold (a private key beside the public one, notes, another format) therefore cannot come into the cluster, whether
//! it was recognised or not.

use std::time::SystemTime;

use super::name::{KeyKind, KeyName};
use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::{self, Keyring};

/// Bytes of a key file, at most: a Secret holds 1 MiB with everything around.
pub const MAX_FILE: usize = 900 << 10;
/// Characters of one text about a file.
const MAX_TEXT: usize = 400;

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// `OpenPGP`: the primary key's, upper-case hexadecimal. cosign: SHA-256 of the `SubjectPublicKeyInfo`, lower case.
    pub fingerprint: String,
    /// Valid User IDs.
    pub user_ids: Vec<String>,
    /// When it expires, if it does.
    pub expires: Option<SystemTime>,
    /// Why it cannot verify anything now, if so.
    pub unusable: Option<String>,
}

/// The public keys of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What the Secret holds: certificates in binary form, or PEM.
    pub bytes: Vec<u8>,
    /// The keys, by fingerprint for `OpenPGP`, in the file's order for cosign. Never empty.
    pub keys: Vec<HeldKey>,
    /// What was left out and why, in one line; empty when nothing was.
    pub problems: String,
}

/// Why a file gives no key, although it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing in it is a public key that could be used.
    NoKey(String),
    /// It holds secret key material.
    SecretKey,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoKey(why) => write!(f, "holds no public key: {why}"),
            Self::SecretKey => f.write_str(
                "holds secret key material, of which nothing is copied: put the public key alone there, and regard the \
                 secret key as disclosed to whoever could read the file",
            ),
        }
    }
}

/// Reads a file of at most [`MAX_FILE`] bytes; `now` decides which User IDs are valid and what is unusable.
pub fn read(name: &KeyName, bytes: &[u8], now: SystemTime) -> Result<Content, Refusal> {
    if bytes.len() > MAX_FILE {
        return Err(Refusal::NoKey(format!("it has more than {} KiB", MAX_FILE >> 10)));
    }
    if says_private(bytes) || openpgp::holds_secret_key(bytes) {
        return Err(Refusal::SecretKey);
    }
    match name.kind {
        KeyKind::OpenPgp => read_openpgp(&name.file, bytes, now),
        KeyKind::Cosign => read_cosign(bytes),
    }
}

/// Whether any line begins a private key in PEM or armor, of whatever make.
fn says_private(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    lines.filter(|line| line.starts_with(b"-----BEGIN")).any(|line| {
        let word = b"PRIVATE KEY";
        line.windows(word.len()).any(|part| part == word)
    })
}

fn read_openpgp(file: &str, bytes: &[u8], now: SystemTime) -> Result<Content, Refusal> {
    let (keyring, problems) = Keyring::from_files([(file, bytes)]);
    let about = format!("key file {file}: ");
    let problems = one_line(problems.iter().map(|problem| problem.strip_prefix(&about).unwrap_or(problem)));
    if keyring.is_empty() {
        return Err(Refusal::NoKey(problems));
    }
    let bytes = keyring.to_bytes().map_err(Refusal::NoKey)?;
    let key = |key: openpgp::KeyInfo| HeldKey {
        fingerprint: key.fingerprint,
        user_ids: key.user_ids,
        expires: key.expires,
        unusable: key.unusable,
    };
    Ok(Content { bytes, keys: keyring.keys(now).into_iter().map(key).collect(), problems })
}

fn read_cosign(bytes: &[u8]) -> Result<Content, Refusal> {
    let (keys, problems) = PublicKeys::from_pem(bytes);
    let problems = one_line(problems.iter().map(String::as_str));
    if keys.is_empty() {
        return Err(Refusal::NoKey(problems));
    }
    let key = |fingerprint| HeldKey { fingerprint, user_ids: Vec::new(), expires: None, unusable: None };
    let held = keys.fingerprints().into_iter().map(key).collect();
    Ok(Content { bytes: keys.to_pem().into_bytes(), keys: held, problems })
}

fn one_line<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    cut(&texts.collect::<Vec<_>>().join("; "), MAX_TEXT)
}

/// The text without control characters and of at most so many characters.
pub(super) fn cut(text: &str, characters: usize) -> String {
    let mut all = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = all.by_ref().take(characters).collect();
    if all.next().is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cosign_key, gpg_key, secret_gpg_key};
    use super::*;

    fn name(file: &str) -> KeyName {
        KeyName::read(file).unwrap().unwrap()
    }

    fn reads(file: &str, bytes: &[u8]) -> Result<Content, Refusal> {
        read(&name(file), bytes, SystemTime::now())
    }

    #[test]
    fn certificates_are_read_in_every_form_and_give_the_same_bytes() {
        let key = gpg_key("Maker <maker@registry.local>", Some(60));
        let binary = reads("a.pgp", &key.binary).unwrap();
        assert_eq!(binary, reads("a.pgp", key.armored.as_bytes()).unwrap());
        assert_eq!(binary, reads("a.pgp", format!("note\n{}", key.armored).as_bytes()).unwrap());
        assert_eq!(binary.keys[0].user_ids, ["Maker <maker@registry.local>"]);
        assert_eq!(binary.keys[0].fingerprint, key.fingerprint);
        assert!(binary.keys[0].expires.is_some() && binary.keys[0].unusable.is_none());

        let other = gpg_key("Other <other@registry.local>", None);
        let both = reads("a.pgp", &[key.binary.clone(), other.binary].concat()).unwrap();
        assert_eq!(both.keys.len(), 2);
        assert_eq!(both, reads("a.pgp", format!("{}{}", other.armored, key.armored).as_bytes()).unwrap());
        assert_eq!(reads("a.pgp", &both.bytes).unwrap(), both, "what is written is read alike");
    }

    #[test]
    fn cosign_keys_are_read_and_nothing_around_them_is_kept() {
        let (one, two) = (cosign_key(), cosign_key());
        let content = reads("ci.pub", format!("# ours\n{one}\nhunter2\n{two}").as_bytes()).unwrap();
        assert_eq!(content.keys.len(), 2);
        assert_eq!(String::from_utf8(content.bytes).unwrap(), format!("{one}{two}"));
    }

    #[test]
    fn i17_what_is_no_key_is_refused() {
        let gpg = gpg_key("a@x.io", None);
        for (file, bytes) in [
            ("a.pgp", &b""[..]),
            ("a.pgp", b"aaa\n"),
            ("a.asc", cosign_key().as_bytes()),
            ("a.pub", gpg.armored.as_bytes()),
            ("a.pub", b""),
            ("a.pub", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@host"),
            ("a.pgp", &gpg.binary[..gpg.binary.len() / 3]),
            ("a.asc", &gpg.armored.as_bytes()[..gpg.armored.len() / 2]),
            ("a.pgp", &vec![b'a'; MAX_FILE + 1]),
        ] {
            assert!(matches!(reads(file, bytes), Err(Refusal::NoKey(_))), "{file}: {bytes:.40?}");
        }
    }

    #[test]
    fn secret_keys_are_refused_wherever_they_stand() {
        let secret = secret_gpg_key("a@x.io");
        let public = gpg_key("b@x.io", None);
        let pem =
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
        for (file, bytes) in [
            ("a.pgp", secret.binary.clone()),
            ("a.asc", secret.armored.clone().into_bytes()),
            ("a.pgp", [public.binary.clone(), secret.binary.clone()].concat()),
            ("a.asc", format!("{}{}", public.armored, secret.armored).into_bytes()),
            // Damaged, so that no certificate can be made of it.
            ("a.pgp", secret.binary[..secret.binary.len() / 2].to_vec()),
            ("a.pub", secret.binary),
            ("a.pub", format!("{}{pem}", cosign_key()).into_bytes()),
            ("a.pub", pem.replace("ENCRYPTED SIGSTORE", "EC").into_bytes()),
            ("a.asc", format!("{}\n-----BEGIN OPENSSH PRIVATE KEY-----\n", public.armored).into_bytes()),
        ] {
            assert_eq!(reads(file, &bytes), Err(Refusal::SecretKey), "{file}");
        }
    }

    #[test]
    fn a_damaged_certificate_leaves_the_others() {
        let (one, two) = (gpg_key("a@x.io", None), gpg_key("b@x.io", None));
        let damaged = one.armored.replacen("\n\n", "\n\n!!!!", 1);
        let content = reads("a.asc", format!("{damaged}{}", two.armored).as_bytes()).unwrap();
        assert_eq!(content.keys.len(), 1);
        assert!(!content.problems.is_empty());
    }
}
