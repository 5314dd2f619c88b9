//! The keys of a Docker configuration: `[http[s]://]host[:port][/v1/|/v2/][path]`.
//!
//! As the kubelet matches them (`keyring.go`, functions `Add` and `URLsMatch`):
//! - scheme, query, fragment and a leading `/v1` or `/v2` of the path are dropped;
//! - the host matches label by label, where `*` stands for any characters of one label; both have equally many labels;
//! - the port is equal, or absent on both sides;
//! - the path is a prefix **of the text**: `/team` is for `/team-b/app`, too. It stays within the registry that the key
//!   names, so nothing is disclosed to a host that was not meant.
//!
//! Hosts are compared without case, and `registry-1.docker.io` is Docker Hub, because the repositories they are compared
//! with are in normal form. The kubelet, which sees the Pod's own spelling, matches those keys, too.

use crate::domain::image::{Repository, normal_host};

/// Longer keys match nothing: a repository's name has at most 255 characters.
const MAX_KEY: usize = 512;

/// A key that may match.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Host, port and path as the kubelet sorts them.
    text: Box<str>,
    host: Host,
    /// Without the leading slash; empty for all repositories of the host.
    path: Box<str>,
}

#[derive(Debug, Clone)]
enum Host {
    /// Host with port, if any.
    Exact(Box<str>),
    Glob {
        labels: Box<[Box<str>]>,
        port: Option<Box<str>>,
    },
}

impl Key {
    /// Reads a key; `None` when it names no registry.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_KEY || text.bytes().any(|b| b.is_ascii_control() || b == b'%') {
            return None;
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let rest = rest.split(['#', '?']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        // A user name in the key is no part of the host, and not kept: it might be a secret.
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = normal_key_host(host)?;
        let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { path.get(3..)? } else { path };
        let path = path.strip_prefix('/').unwrap_or_default();
        let text = if path.is_empty() { host.clone() } else { format!("{host}/{path}") };
        Some(Self { text: text.into(), host: Host::new(&host), path: path.into() })
    }

    /// `host[:port][/path]`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the credential stored under the key is for the repository.
    pub(super) fn matches(&self, repository: &Repository) -> bool {
        self.host.matches(repository.host()) && repository.path().starts_with(&*self.path)
    }
}

impl Host {
    fn new(host: &str) -> Self {
        if !host.contains('*') {
            return Self::Exact(host.into());
        }
        let (name, port) = split_port(host);
        Self::Glob { labels: name.split('.').map(Into::into).collect(), port: port.map(Into::into) }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *host,
            // Addresses in brackets have no labels.
            Self::Glob { .. } if host.starts_with('[') => false,
            Self::Glob { labels, port } => {
                let (name, actual) = split_port(host);
                let mut actual_labels = name.split('.');
                actual == port.as_deref()
                    && labels.iter().all(|pattern| actual_labels.next().is_some_and(|label| glob(pattern, label)))
                    && actual_labels.next().is_none()
            }
        }
    }
}

/// Lower case, an empty port dropped; `None` when it could not be the host of a registry.
fn normal_key_host(host: &str) -> Option<String> {
    let host = host.strip_suffix(':').unwrap_or(host).to_ascii_lowercase();
    if host.starts_with('[') {
        return normal_host(&host).ok();
    }
    let (name, port) = split_port(&host);
    let label_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*');
    let labels_are_fine = name.split('.').all(|label| !label.is_empty() && label.bytes().all(label_byte));
    let port_is_fine = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    match (name, port) {
        _ if !labels_are_fine || !port_is_fine => None,
        ("registry-1.docker.io", None) => Some("docker.io".to_owned()),
        _ => Some(host),
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)))
}

/// Whether the text is the pattern with any characters, or none, for each `*`. At most pattern × text steps.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut pieces = rest.split('*');
    let Some(end) = pieces.next_back() else {
        return true;
    };
    // The earliest place for each piece leaves the most for those after it, so no other place has to be tried.
    for piece in pieces {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(end)
}
