//! Which thing a request's path names, if any.

use super::disk::{Place, signature_number};
use crate::domain::digest::Digest;

/// Longest name of a key file, in bytes.
const MAX_KEY_NAME: usize = 200;
/// What key files are called.
const KEY_ENDINGS: [&str; 4] = [".pgp", ".asc", ".gpg", ".pub"];

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The page for people.
    Index,
    /// `/sigstore/<repository>@<algorithm>=<hex>/signature-<n>`.
    Signature(Place, usize),
    /// `/keys/<file>`.
    Key(String),
    /// `/extensions/v2/<repository>/signatures/<digest>`.
    Extension(Place),
}

/// Reads a path: percent signs are decoded once, repeated slashes are one slash (a lookaside that is configured with a
/// slash at its end has clients ask so). Everything is checked before it is a name of anything; `None` names nothing.
pub(super) fn target(path: &str) -> Option<Target> {
    let decoded = decode(path)?;
    let parts: Vec<&str> = decoded.split('/').filter(|part| !part.is_empty()).collect();
    match *parts.as_slice() {
        [] | ["index.html"] => Some(Target::Index),
        ["keys", name] => is_key_name(name).then(|| Target::Key(name.to_owned())),
        ["sigstore", ref repository @ .., file] => {
            let number = signature_number(file)?;
            Some(Target::Signature(repository.join("/").parse().ok()?, number))
        }
        ["extensions", "v2", ref repository @ .., "signatures", digest] => {
            let digest: Digest = digest.parse().ok()?;
            Some(Target::Extension(Place::new(&repository.join("/"), &digest).ok()?))
        }
        _ => None,
    }
}

/// Whether a file of this name may hold public keys: no hidden or temporary file, and an ending that says so.
pub(super) fn is_key_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    let starts = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    starts
        && name.len() <= MAX_KEY_NAME
        && name.bytes().all(plain)
        && KEY_ENDINGS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| !stem.is_empty()))
}

/// Percent-decoding (RFC 3986, section 2.1); `None` for what is not decodable to text without control characters.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { digit(rest.next()?)? << 4 | digit(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex() -> String {
        Digest::sha256(b"image").hex().to_owned()
    }

    #[test]
    fn things_have_the_paths_of_the_seed() {
        let place = |path| Place::new(path, &Digest::sha256(b"image")).unwrap();
        let hex = hex();
        for path in [
            format!("/sigstore/alt/alt@sha256={hex}/signature-1"),
            format!("/sigstore//alt/alt@sha256={hex}/signature-1"),
            format!("/sigstore/alt/alt%40sha256%3D{hex}/signature%2d1"),
        ] {
            assert_eq!(target(&path), Some(Target::Signature(place("alt/alt"), 1)), "{path}");
        }
        for path in ["app", "a/b", "a/b/c/d", "a/signatures/b", "signatures"] {
            let url = format!("/extensions/v2/{path}/signatures/sha256:{hex}");
            assert_eq!(target(&url), Some(Target::Extension(place(path))), "{url}");
        }
        assert_eq!(target("/keys/group1.pgp"), Some(Target::Key("group1.pgp".to_owned())));
        assert_eq!(target("/"), Some(Target::Index));
    }

    #[test]
    fn nothing_else_is_named() {
        let hex = hex();
        for path in [
            "/imagemakers.json",
            "/keys",
            "/keys/",
            "/keys/.pgp",
            "/keys/.group1.pgp",
            "/keys/group1.pgp.tmp",
            "/keys/group1.key",
            "/keys/../imagemakers.pub",
            "/keys/%2e%2e%2fx.pub",
            "/keys/a%00.pgp",
            "/keys/a/b.pgp",
            "/sigstore",
            "/sigstore/signature-1",
            "/extensions/v2/signatures/sha256:00",
            "/extensions/v2/A/signatures/sha256:00",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
        for path in [
            format!("/sigstore/../keys/a@sha256={hex}/signature-1"),
            format!("/sigstore/a/../../b@sha256={hex}/signature-1"),
            format!("/sigstore/%2e%2e/b@sha256={hex}/signature-1"),
            format!("/sigstore/a/b@sha256={hex}/signature-0"),
            format!("/sigstore/a/b@sha256={hex}/.new-00"),
            format!("/sigstore/a/b@sha256={hex}/.name-00"),
            format!("/sigstore/a/b@sha256={hex}"),
            format!("/sigstore/a%252fb@sha256={hex}/signature-1"),
            format!("/sigstore/A@sha256={hex}/signature-1"),
        ] {
            assert_eq!(target(&path), None, "{path}");
        }
    }
}
