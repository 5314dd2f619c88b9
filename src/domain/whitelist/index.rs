//! Finds the first line that admits an image without looking at the other lines.
//!
//! ```text
//!  r.io/a/b:1        exact["r.io/a/b"]                       → versions["1"]
//!  a/b               exact["/a/b"]                           → any
//!  r.io/team/*       globs["r.io"].prefixes["team/"]         → whole: any
//!  r.io/app-*x:1     globs["r.io"].prefixes["app-"]          → tails: "x" with version 1
//!  */x               globs[""].prefixes[""]                  → tails: "/x"
//! ```
//! Only globs that share host and literal beginning and go on after the star are compared one by one.

use std::collections::{BTreeSet, HashMap};

use super::pattern::{Pattern, matches_after_star, version};
use crate::domain::image::ImageRef;
use crate::domain::scope::{DOCKER_HUB, HUB_OFFICIAL};

/// Lines by what they match. Numbers are positions in text order.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By `host/path`; by `/path` when every host is admitted.
    exact: HashMap<Box<str>, Versions>,
    /// By host; by the empty text when every host is admitted.
    globs: HashMap<Box<str>, Globs>,
}

/// The first line for every version that is admitted.
#[derive(Debug, Default)]
struct Versions {
    any: Option<usize>,
    named: HashMap<Box<str>, usize>,
}

/// The globs of one host.
#[derive(Debug, Default)]
struct Globs {
    /// The lengths of the literal beginnings: no other beginnings of a path need to be looked up.
    lengths: BTreeSet<usize>,
    prefixes: HashMap<Box<str>, Prefix>,
}

/// The globs with one literal beginning.
#[derive(Debug, Default)]
struct Prefix {
    /// Nothing follows the star.
    whole: Versions,
    tails: Vec<Tail>,
}

/// What follows the first star.
#[derive(Debug)]
struct Tail {
    pattern: Box<str>,
    version: Option<Box<str>>,
    line: usize,
}

impl Index {
    /// Adds a line. Lines come in ascending order of their numbers.
    pub(super) fn insert(&mut self, pattern: &Pattern, line: usize) {
        let Pattern { host, path, version } = pattern;
        let host = host.as_deref().unwrap_or_default();
        // On Docker Hub a single component means the official image. A glob of one component keeps its plain reading,
        // too, because `docker.io/*` stands for every depth.
        let official = host == DOCKER_HUB && !path.contains('/');
        if official {
            self.insert_path(host, &format!("{HUB_OFFICIAL}{path}"), version.as_deref(), line);
        }
        if !official || path.contains('*') {
            self.insert_path(host, path, version.as_deref(), line);
        }
    }

    fn insert_path(&mut self, host: &str, path: &str, version: Option<&str>, line: usize) {
        let Some((literal, after)) = path.split_once('*') else {
            return self.exact.entry(format!("{host}/{path}").into()).or_default().insert(version, line);
        };
        let globs = self.globs.entry(host.into()).or_default();
        globs.lengths.insert(literal.len());
        let prefix = globs.prefixes.entry(literal.into()).or_default();
        match after.trim_start_matches('*') {
            "" => prefix.whole.insert(version, line),
            pattern => prefix.tails.push(Tail { pattern: pattern.into(), version: version.map(Into::into), line }),
        }
    }

    /// The number of the first line that admits the image.
    pub(super) fn first(&self, image: &ImageRef) -> Option<usize> {
        let version = version(image);
        let name = image.repository().to_string();
        let host = image.repository().host();
        let path = image.repository().path();
        // A line without host names the official image of Docker Hub by its short name, too.
        let short = if host == DOCKER_HUB { path.strip_prefix(HUB_OFFICIAL) } else { None };
        let slash_short = short.map(|short| &name[name.len() - short.len() - 1..]);
        [
            self.exact(&name, version),
            self.exact(&name[host.len()..], version),
            slash_short.and_then(|path| self.exact(path, version)),
            self.glob(host, path, version),
            self.glob("", path, version),
            short.and_then(|path| self.glob("", path, version)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn exact(&self, key: &str, version: Option<&str>) -> Option<usize> {
        self.exact.get(key)?.first(version)
    }

    fn glob(&self, host: &str, path: &str, version: Option<&str>) -> Option<usize> {
        let globs = self.globs.get(host)?;
        let beginnings = globs.lengths.iter().map_while(|length| path.split_at_checked(*length));
        beginnings.filter_map(|(literal, rest)| globs.prefixes.get(literal)?.first(rest, version)).min()
    }
}

impl Versions {
    fn insert(&mut self, version: Option<&str>, line: usize) {
        match version {
            None => _ = self.any.get_or_insert(line),
            Some(version) => _ = self.named.entry(version.into()).or_insert(line),
        }
    }

    fn first(&self, version: Option<&str>) -> Option<usize> {
        let named = version.and_then(|version| self.named.get(version).copied());
        self.any.into_iter().chain(named).min()
    }
}

impl Prefix {
    fn first(&self, rest: &str, version: Option<&str>) -> Option<usize> {
        let admits = |tail: &&Tail| {
            (tail.version.is_none() || tail.version.as_deref() == version) && matches_after_star(&tail.pattern, rest)
        };
        self.whole.first(version).into_iter().chain(self.tails.iter().find(admits).map(|tail| tail.line)).min()
    }
}
