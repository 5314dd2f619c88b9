//! What is known to work, kept apart by everything that could make it another's.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use moka::future::Cache;
use tokio::time::Instant;

use crate::domain::image::Repository;

/// Bytes of all passes together: a hostile token service cannot fill the memory with large tokens.
const MAX_KNOWN: u64 = 32 * 1024 * 1024;
/// What an entry costs besides its text.
const ENTRY: usize = 512;
const MAX_TTL: Duration = Duration::from_secs(60 * 60);

/// Whose authorization for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::source) struct Scope {
    pub(super) repository: Repository,
    /// What the server calls it.
    pub(super) name: Box<str>,
    /// Whether it is to write, too.
    pub(super) push: bool,
    /// Hash of the credential; zero when anonymous.
    pub(super) credential: [u8; 32],
    /// Hash of the transport: what came over an unverified connection is not used on others.
    pub(super) transport: [u8; 32],
}

/// An `Authorization` header that was accepted.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) header: HeaderValue,
    pub(super) until: Instant,
    /// It gave access to this repository, so "not found" under it is the truth.
    pub(super) proved: bool,
}

/// Tokens and accepted passwords: bounded in size and time.
pub(in crate::source) struct Known(Cache<Scope, Pass>);

impl Default for Known {
    fn default() -> Self {
        let weigh = |_: &Scope, pass: &Pass| u32::try_from(ENTRY + pass.header.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(weigh).max_capacity(MAX_KNOWN).time_to_live(MAX_TTL).build())
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known(…)")
    }
}

impl Known {
    pub(super) async fn get(&self, scope: &Scope) -> Option<Pass> {
        self.0.get(scope).await.filter(|pass| pass.until > Instant::now())
    }

    pub(super) async fn put(&self, scope: Scope, pass: Pass) {
        if pass.until > Instant::now() {
            self.0.insert(scope, pass).await;
        }
    }

    pub(super) async fn forget(&self, scope: &Scope) {
        self.0.invalidate(scope).await;
    }
}
