//! On whose behalf and how a request is made.

use std::sync::Arc;

use tokio::time::Instant;

use super::credentials::Keychain;

/// How a registry is reached, and how far requests may lead.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Plain HTTP or unverified TLS, for the registry's own host only.
    pub insecure: bool,
    /// PEM certificates trusted besides the system's and the administrator's.
    pub ca: Option<Arc<[u8]>>,
    /// Refuse loopback, link-local and API server addresses on the first hop, too (namespaced policies, and hosts that
    /// only a wildcard names). Redirects and token services to such addresses are refused unless the registry host itself is one.
    pub guarded: bool,
}

/// Everything a request needs besides its target.
#[derive(Debug, Clone)]
pub struct Access {
    /// How.
    pub transport: Transport,
    /// Credentials that may be tried, in order.
    pub keychain: Arc<Keychain>,
    /// When the answer must be there.
    pub deadline: Instant,
}
