//! What an entry's `registry` speaks for, and an index that finds the most specific scopes of an image.
//!
//! ```text
//!   registry.local:5000           every repository of this host and port
//!   registry.local/team           registry.local/team and everything below it
//!   *.example.com/team            the same on every host that ends in .example.com
//!   *                             every image
//! ```
//! Hosts have the normal form of image references and paths are compared in whole components, so `host/ns` never covers
//! `host/ns-evil`. An exact host outranks every wildcard host, a longer wildcard a shorter one, `*` comes last; among equal
//! hosts the longest path wins.
//!
//! Docker Hub has one special case. People write `docker.io/nginx` for the official image, whose normal form is
//! `docker.io/library/nginx`, and also for an organisation, whose images are `docker.io/nginx/…`. The scope covers both
//! readings, because the wrong guess would leave images without the check that somebody asked for.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::image::{Repository, normal_host, valid_path};

/// The host of every name of Docker Hub in normal form.
pub(super) const DOCKER_HUB: &str = "docker.io";
/// The namespace of Docker Hub's official images, with its slash.
pub(super) const HUB_OFFICIAL: &str = "library/";
/// No image name is longer, so a longer scope could never match. The limit of the distribution project.
const MAX_NAME: usize = 255;

/// What `registry` of an entry names: a host pattern and a path prefix in whole components.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix in whole components; empty for the whole registry. Without meaning when the host is `*`.
    pub path: Box<str>,
}

/// Exact host before `*.` host before `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `host[:port]` in normal form.
    Exact(Box<str>),
    /// `*.suffix[:port]`: any host that ends in `.suffix`.
    Suffix(Box<str>),
    /// `*`.
    Any,
}

/// Why a `registry` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScopeError(pub String);

impl Scope {
    /// Reads `registry`; also gives the warnings it deserves (a tolerated `https://`, a host no image can have, …).
    pub fn parse(registry: &str) -> Result<(Self, Vec<String>), ScopeError> {
        let mut warnings = Vec::new();
        let text = without_scheme(registry, &mut warnings)?;
        let text = text.strip_suffix("/*").or_else(|| text.strip_suffix('/')).unwrap_or(text);
        if text == "*" {
            return Ok((Self { host: HostPattern::Any, path: "".into() }, warnings));
        }
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        let host = HostPattern::parse(host)?;
        if let Some(path) = path {
            check_path(path)?;
        }
        let path = path.unwrap_or_default();
        if host.text_len() + 1 + path.len() > MAX_NAME {
            return Err(error("the registry is longer than any image name (255 characters): shorten it"));
        }
        warnings.extend(host.warning(path));
        Ok((Self { host, path: path.into() }, warnings))
    }

    /// Whether the scope covers a repository. [`ScopeIndex`] gives the same answer, faster.
    pub fn matches(&self, repository: &Repository) -> bool {
        if self.host == HostPattern::Any {
            return true;
        }
        let below = |rest: &str| self.path.is_empty() || rest.is_empty() || rest.starts_with('/');
        self.host.matches(repository.host())
            && (repository.path().strip_prefix(&*self.path).is_some_and(below)
                || self.official().is_some_and(|path| path == repository.path()))
    }

    /// The official image that a single component on Docker Hub names, too.
    fn official(&self) -> Option<String> {
        let hub = matches!(&self.host, HostPattern::Exact(host) if &**host == DOCKER_HUB);
        (hub && !self.path.is_empty() && !self.path.contains('/')).then(|| format!("{HUB_OFFICIAL}{}", self.path))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Exact(host) => f.write_str(host)?,
            HostPattern::Suffix(suffix) => write!(f, "*.{suffix}")?,
            HostPattern::Any => return f.write_str("*"),
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl HostPattern {
    fn parse(host: &str) -> Result<Self, ScopeError> {
        if host.is_empty() {
            return Err(error(
                "the registry host is missing: write host[:port][/path], *.example.com[:port][/path] or *",
            ));
        }
        if host == "*" {
            return Err(error("`*` takes no path: name the hosts, as in *.example.com/team, or leave the path out"));
        }
        let malformed = |_| {
            error(
                "the registry host is malformed: write a host name, an IPv4 address or a bracketed IPv6 address, each with \
                 an optional port, without user, tag, digest or blanks",
            )
        };
        match host.strip_prefix("*.") {
            Some(suffix) if !suffix.contains('*') => {
                // One label stands in for the star, so that the suffix gets exactly the normal form of image hosts,
                // and so that no alias of Docker Hub is folded into something it does not end in.
                let normal = normal_host(&format!("x.{suffix}")).map_err(malformed)?;
                Ok(Self::Suffix(normal.strip_prefix("x.").unwrap_or(&normal).into()))
            }
            _ if host.contains('*') => Err(error(
                "`*` in a registry host can only stand as a whole first label: write *.example.com, or * alone",
            )),
            _ => Ok(Self::Exact(normal_host(host).map_err(malformed)?.into())),
        }
    }

    /// Whether a host in normal form fits; ports are part of it.
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *host,
            Self::Suffix(suffix) => host.strip_suffix(&**suffix).is_some_and(|labels| labels.ends_with('.')),
            Self::Any => true,
        }
    }

    fn text_len(&self) -> usize {
        match self {
            Self::Exact(host) => host.len(),
            Self::Suffix(suffix) => suffix.len() + 2,
            Self::Any => 1,
        }
    }

    /// What is suspicious about the host: a pattern that can be read and yet covers none of the images it seems to.
    fn warning(&self, path: &str) -> Option<String> {
        match self {
            Self::Exact(host) if !host.contains(['.', ':']) && &**host != "localhost" => {
                let tail = if path.is_empty() { String::new() } else { format!("/{path}") };
                Some(format!(
                    "no image is pulled from the host {host}, because {host}/x means docker.io/{host}/x: write \
                     docker.io/{host}{tail} for Docker Hub, or add the registry's domain or port"
                ))
            }
            Self::Suffix(suffix) if &**suffix == DOCKER_HUB => Some(
                "every name of Docker Hub is read as docker.io, which *.docker.io does not match: write docker.io"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn without_scheme<'a>(registry: &'a str, warnings: &mut Vec<String>) -> Result<&'a str, ScopeError> {
    match registry.split_once("://") {
        None => Ok(registry),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            warnings.push("`https://` is ignored: write the registry without it".to_owned());
            Ok(rest)
        }
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
            Err(error("a registry is no URL: leave `http://` out and set `insecure: true` to reach it over plain HTTP"))
        }
        Some(_) => Err(error("a registry is no URL: leave the scheme out and write host[:port][/path]")),
    }
}

fn check_path(path: &str) -> Result<(), ScopeError> {
    if path.contains('*') {
        return Err(error(
            "`*` in a registry path can only stand as the trailing /*: a path covers everything below it",
        ));
    }
    if path.contains([':', '@']) {
        return Err(error("a registry path names repositories: leave tag and digest out"));
    }
    if valid_path(path) {
        return Ok(());
    }
    Err(error(
        "the registry path is malformed: write components of lower-case letters, digits and the separators . _ __ - \
         joined by single slashes",
    ))
}

fn error(text: &str) -> ScopeError {
    ScopeError(text.to_owned())
}

/// Finds the values under the most specific scopes that match; cost grows with the path's depth, not with the entries.
///
/// One map holds all scopes by their text, `host/path` or `.suffix/path`. The text of a repository is cut down component
/// by component, and label by label for the wildcard hosts, so that each step is one look-up of a part of one text.
#[derive(Debug)]
pub struct ScopeIndex<T> {
    scopes: HashMap<Box<str>, Vec<T>>,
    /// The wildcard hosts in use, as `.suffix`: other labels of an image's host need no look at the path.
    wildcards: HashSet<Box<str>>,
    /// Official images of Docker Hub that a one-component scope names, matched as a whole. Every list also holds what
    /// `scopes` has under the same text: both are equally specific, and no governing entry may be lost.
    official: HashMap<Box<str>, Vec<T>>,
    any: Vec<T>,
}

impl<T> Default for ScopeIndex<T> {
    fn default() -> Self {
        Self { scopes: HashMap::new(), wildcards: HashSet::new(), official: HashMap::new(), any: Vec::new() }
    }
}

impl<T> ScopeIndex<T> {
    /// Adds a value under a scope.
    pub fn insert(&mut self, scope: &Scope, value: T)
    where
        T: Clone,
    {
        let host = match &scope.host {
            HostPattern::Any => return self.any.push(value),
            HostPattern::Exact(host) => host.to_string(),
            HostPattern::Suffix(suffix) => {
                let host = format!(".{suffix}");
                if !self.wildcards.contains(host.as_str()) {
                    self.wildcards.insert(host.as_str().into());
                }
                host
            }
        };
        if let Some(official) = scope.official() {
            let key = format!("{host}/{official}");
            let known = self.scopes.get(key.as_str());
            self.official.entry(key.into()).or_insert_with(|| known.cloned().unwrap_or_default()).push(value.clone());
        }
        let key = if scope.path.is_empty() { host } else { format!("{host}/{}", scope.path) };
        if let Some(official) = self.official.get_mut(key.as_str()) {
            official.push(value.clone());
        }
        self.scopes.entry(key.into()).or_default().push(value);
    }

    /// The values of the most specific scope that matches; all of them when several have the same.
    pub fn most_specific(&self, repository: &Repository) -> &[T] {
        let name = repository.to_string();
        let host = repository.host().len();
        if let Some(values) = self.official.get(name.as_str()) {
            return values;
        }
        let known_wildcard = |dot: &usize| self.wildcards.contains(&name[*dot..host]);
        let wildcards = name[..host].match_indices('.').map(|(dot, _)| dot).filter(known_wildcard);
        std::iter::once(0)
            .chain(wildcards)
            .find_map(|start| self.longest_path(&name[start..], host - start))
            .unwrap_or(&self.any)
    }

    /// The values under the longest whole-component prefix of `name`, whose host ends at `host`.
    fn longest_path(&self, name: &str, host: usize) -> Option<&[T]> {
        let mut prefix = name;
        loop {
            if let Some(values) = self.scopes.get(prefix) {
                return Some(values);
            }
            let slash = prefix.rfind('/').filter(|slash| *slash >= host)?;
            prefix = &prefix[..slash];
        }
    }
}

#[cfg(test)]
mod tests;
