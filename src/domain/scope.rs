//! What an entry's `registry` speaks for, and an index that finds the most specific scopes of an image.

use super::image::Repository;

/// What `registry` of an entry names: a host pattern and a path prefix in whole components.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix in whole components; empty for the whole registry.
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
        let _ = registry;
        Err(ScopeError(String::new()))
    }
}

/// Finds the values under the most specific scopes that match; cost grows with the path's depth, not with the entries.
#[derive(Debug)]
pub struct ScopeIndex<T> {
    all: Vec<T>,
}

impl<T> Default for ScopeIndex<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<T> ScopeIndex<T> {
    /// Adds a value under a scope.
    pub fn insert(&mut self, scope: &Scope, value: T) {
        let _ = scope;
        self.all.push(value);
    }

    /// The values of the most specific scope that matches; all of them when several have the same.
    pub fn most_specific(&self, repository: &Repository) -> &[T] {
        let _ = repository;
        &self.all
    }
}
