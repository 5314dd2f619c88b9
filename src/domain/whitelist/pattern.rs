//! One image line of the whitelist.

use crate::domain::digest::Digest;
use crate::domain::image::{ImageRef, normal_host, split_host, split_tag, valid_path, valid_tag};

/// No image name is longer, so a longer line could never match. The limit of the distribution project.
const MAX_NAME: usize = 255;

/// A line in normal form: what it leaves out is a wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// `host[:port]`; `None` is every host.
    pub host: Option<String>,
    /// The repository path, in which `*` stands for any characters, slashes included.
    pub path: String,
    /// The one version that is admitted, as [`version`] gives it; `None` is every tag and digest.
    pub version: Option<Box<str>>,
}

/// What decides which content an image reference means: its digest, else its tag. With both, the node pulls the digest,
/// so that a line with a tag alone must not admit it. Tags hold no colon, so the two kinds never equal each other.
pub(super) fn version(image: &ImageRef) -> Option<&str> {
    image.digest().map(Digest::as_str).or(image.tag())
}

impl Pattern {
    /// Reads a line without surrounding blanks. The error says what is wrong and what to write.
    pub(super) fn parse(line: &str) -> Result<Self, &'static str> {
        if line.contains("://") {
            return Err("a line is no URL: leave the scheme out");
        }
        let (rest, digest) = match line.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (line, None),
        };
        let (name, tag) = split_tag(rest);
        if digest.is_some_and(|text| text.parse::<Digest>().is_err()) {
            return Err(
                "the digest is malformed: write sha256:<64 lower-case hex digits>, or leave it out to admit every one",
            );
        }
        if tag.is_some_and(|text| !valid_tag(text)) {
            return Err("the tag is malformed: write a whole tag without `*`, or leave it out to admit every one");
        }
        let (host, path) = split_host(name);
        let host = host.map(normal_host).transpose().map_err(|_| {
            "the registry host is malformed: write host[:port] without `*`, or leave the host out to admit every one"
        })?;
        if !valid_glob(path) {
            return Err(
                "the repository path is malformed: write lower-case letters, digits, the separators . _ __ - and /, \
                        and `*` for any characters",
            );
        }
        if host.as_ref().map_or(0, String::len) + 1 + path.len() > MAX_NAME {
            return Err("the name is longer than any image name (255 characters)");
        }
        // With tag and digest the digest decides, as it does in images.
        Ok(Self { host, path: path.to_owned(), version: digest.or(tag).map(Into::into) })
    }

    /// Whether it admits every image there is.
    pub(super) fn admits_all(&self) -> bool {
        self.host.is_none() && self.version.is_none() && self.path.bytes().all(|b| b == b'*')
    }
}

/// A repository path in which `*` may stand anywhere. What it leaves literal must be possible in a path, so that a
/// mistake is reported instead of never matching.
fn valid_glob(path: &str) -> bool {
    let possible = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'*');
    path.split('/').all(
        |component| {
            if component.contains('*') { component.bytes().all(possible) } else { valid_path(component) }
        },
    )
}

/// Matches what follows the first `*` of a glob against what follows its literal beginning, anchored at the end.
///
/// Every piece between two stars is taken at its first occurrence, which leaves the most room for the next one, so no
/// choice is ever revisited: the time is linear in the text for each piece, whatever the pattern.
pub(super) fn matches_after_star(pattern: &str, text: &str) -> bool {
    let (middle, end) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    let Some(mut rest) = text.strip_suffix(end) else { return false };
    for piece in middle.split('*') {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}
