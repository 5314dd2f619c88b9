//! Image references in Docker's normal form.
//!
//! ```text
//!   nginx                      docker.io / library/nginx : latest
//!   reg.local:5000/a/b:1@sha…  reg.local:5000 / a/b : 1 @ sha…
//! ```
//! Grammar: the `reference` package of the distribution project, whose rule for hosts (the first component is a host when
//! it has a dot or a colon, or is `localhost`) every container runtime follows. A text that is not a reference as a
//! whole is an error; nothing is cut off silently.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

const DOCKER_HUB: &str = "docker.io";
/// The whole name, host included, without tag and digest: the limit of the distribution project.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A repository: registry host with port, and the path below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: Box<str>,
    path: Box<str>,
}

/// An image reference in normal form. At least one of tag and digest is present.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    repository: Repository,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// Nothing there.
    #[error("the image is empty")]
    Empty,
    /// The host is not a host name, an IPv4 address or a bracketed IPv6 address, each with an optional port.
    #[error("the registry host is malformed")]
    Host,
    /// The path is not lower-case components of letters and digits joined by `.`, `_`, `__` or `-`.
    #[error("the repository path is malformed (lower-case letters, digits and the separators . _ __ - only)")]
    Path,
    /// The tag is not `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    #[error("the tag is malformed")]
    Tag,
    /// The digest is not a known algorithm with the right number of lower-case hex digits.
    #[error("the digest is malformed (sha256:<64 lower-case hex digits> or sha512:<128>)")]
    Digest,
    /// The name has more than 255 characters, or is 64 hex digits, which runtimes take for an image ID.
    #[error("the name is too long or is 64 hexadecimal digits")]
    Name,
}

impl Repository {
    /// From a host and a path; both are checked and brought to normal form.
    pub fn new(host: &str, path: &str) -> Result<Self, ImageRefError> {
        let host = normal_host(host)?;
        if !valid_path(path) {
            return Err(ImageRefError::Path);
        }
        let path = if host == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if host.len() + 1 + path.len() > MAX_NAME {
            return Err(ImageRefError::Name);
        }
        Ok(Self { host: host.into(), path: path.into() })
    }

    /// Parses a name without tag and digest, such as `nginx` or `reg.local:5000/a/b`.
    pub fn parse(name: &str) -> Result<Self, ImageRefError> {
        if name.is_empty() {
            return Err(ImageRefError::Empty);
        }
        let (host, path) = split_host(name);
        if host.is_none() && is_image_id(path) {
            return Err(ImageRefError::Name);
        }
        let repository = Self::new(host.unwrap_or(DOCKER_HUB), path)?;
        // `Prod/x`: capitals make it a host, and in lower case it would read back as a repository of Docker Hub.
        if host.is_some() && !repository.host.contains(['.', ':']) && &*repository.host != "localhost" {
            return Err(ImageRefError::Host);
        }
        Ok(repository)
    }

    /// Lower-case host with its port, if any; `docker.io` for all names of Docker Hub.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path below the host, `library/` included on Docker Hub.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl ImageRef {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag; `latest` when the text had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the text had one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The form that signed-identity rules compare: with a digest the tag is free text and left out.
    #[must_use]
    pub fn identity_form(&self) -> Self {
        if self.digest.is_some() { Self { tag: None, ..self.clone() } } else { self.clone() }
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| ImageRefError::Digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let repository = Repository::parse(name)?;
        if tag.is_some_and(|t| !valid_tag(t)) {
            return Err(ImageRefError::Tag);
        }
        let tag = tag.or_else(|| digest.is_none().then_some("latest")).map(Into::into);
        Ok(Self { repository, tag, digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Splits `host/rest`; no host when the first component does not look like one.
pub(crate) fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// A first component with capitals cannot be a path component, so it is read as a host, as the runtimes do.
fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Splits off a tag: the last colon after the last slash.
pub(crate) fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path_start = text.rfind('/').map_or(0, |i| i + 1);
    match text[path_start..].rfind(':') {
        Some(colon) => (&text[..path_start + colon], Some(&text[path_start + colon + 1..])),
        None => (text, None),
    }
}

/// Lower-case host with port, Docker Hub's aliases folded into `docker.io`.
pub(crate) fn normal_host(host: &str) -> Result<String, ImageRefError> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(ImageRefError::Host)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| ImageRefError::Host)?;
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':').ok_or(ImageRefError::Host)?),
        };
        (format!("[{address}]"), port)
    } else {
        let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
        if !valid_host_name(name) {
            return Err(ImageRefError::Host);
        }
        (name.to_ascii_lowercase(), port)
    };
    match port {
        None if matches!(name.as_str(), "index.docker.io" | "registry-1.docker.io") => Ok(DOCKER_HUB.to_owned()),
        None => Ok(name),
        Some(port) if valid_port(port) => Ok(format!("{name}:{port}")),
        Some(_) => Err(ImageRefError::Host),
    }
}

fn valid_port(port: &str) -> bool {
    // A leading zero would give one server two names, and a policy could be got round by the other.
    !port.starts_with('0')
        && (1..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|p| p > 0)
}

fn valid_host_name(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Components of `[a-z0-9]+` joined by one `.`, one or two `_`, or any number of `-`; joined by `/`.
pub(crate) fn valid_path(path: &str) -> bool {
    path.split('/').all(valid_component)
}

fn valid_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(|b| alphanumeric(*b)) || !bytes.last().is_some_and(|b| alphanumeric(*b)) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

pub(crate) fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=MAX_TAG).contains(&tag.len())
        && tag.bytes().enumerate().all(|(i, b)| word(b) || (i > 0 && matches!(b, b'.' | b'-')))
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<ImageRef>().map_or_else(|e| format!("error: {e:?}"), |r| r.to_string())
    }

    #[test]
    fn normal_forms() {
        let sha = Digest::sha256(b"").to_string();
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("registry-1.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("a/b/c:1.2-x_Y", "docker.io/a/b/c:1.2-x_Y"),
            ("localhost/img", "localhost/img:latest"),
            ("localhost:5000/img:1", "localhost:5000/img:1"),
            ("registry:5000/evil/app", "registry:5000/evil/app:latest"),
            ("registry:5000", "docker.io/library/registry:5000"),
            ("REG.example.COM/a", "reg.example.com/a:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("[0:0:0:0:0:0:0:1]/x", "[::1]/x:latest"),
            ("[::ffff:127.0.0.1]:80/x", "[::ffff:127.0.0.1]:80/x:latest"),
            ("xn--80ak6aa92e.com/x", "xn--80ak6aa92e.com/x:latest"),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
        ];
        for (text, expected) in table {
            assert_eq!(normal(text), expected, "{text}");
            assert_eq!(normal(expected), expected, "idempotent: {text}");
        }
        assert_eq!(normal(&format!("r.io/a:t@{sha}")), format!("r.io/a:t@{sha}"));
        assert_eq!(normal(&format!("r.io/a@{sha}")), format!("r.io/a@{sha}"));
    }

    #[test]
    fn rejects_what_is_no_reference_as_a_whole() {
        let sha = Digest::sha256(b"").to_string();
        let upper = sha.to_uppercase().replace("SHA256", "sha256");
        for bad in [
            String::new(),
            " ".into(),
            "nginx ".into(),
            " nginx".into(),
            "Nginx".into(),
            "r.io/A".into(),
            "r.io/a/".into(),
            "/a".into(),
            "r.io//a".into(),
            "r.io/../a".into(),
            "r.io/a:".into(),
            "a:t:t".into(),
            "r.io/a:t:t".into(),
            "https://r.io/a".into(),
            "user:pw@r.io/a".into(),
            "r.io/a\n".into(),
            "r.io/a\0".into(),
            "r.io/a?x".into(),
            "r.io/a%2e".into(),
            "r.io:/a".into(),
            "r.io:99999/a".into(),
            "r.io:0/a".into(),
            "r.io:05000/a".into(),
            "Prod/x".into(),
            "r.io:5x/a".into(),
            "[::1/a".into(),
            "[::g]/a".into(),
            "::1/a".into(),
            "-r.io/a".into(),
            "r..io/a".into(),
            "r.io/a___b".into(),
            "r.io/a._b".into(),
            "r.io/-a".into(),
            "пример.рф/a".into(),
            "r.io/ä".into(),
            "f".repeat(64),
            format!("r.io/a@{upper}"),
            format!("r.io/a@{}", &sha[..40]),
            format!("r.io/a@{sha}x"),
            format!("r.io/a@{sha}@{sha}"),
            format!("@{sha}"),
            format!("r.io/{}", "a".repeat(256)),
            format!("a:{}", "t".repeat(129)),
            "a:.t".into(),
            "a:-t".into(),
            "r.io/a@sha256:../../x".into(),
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?} was accepted as {}", normal(&bad));
        }
    }

    #[test]
    fn identity_form_drops_the_free_text_tag() {
        let sha = Digest::sha256(b"").to_string();
        let both: ImageRef = format!("r.io/a:t@{sha}").parse().expect("reference");
        assert_eq!(both.identity_form().to_string(), format!("r.io/a@{sha}"));
        let tagged: ImageRef = "r.io/a:t".parse().expect("reference");
        assert_eq!(tagged.identity_form(), tagged);
    }
}
