//! The network: registries and signature stores, whose every byte is untrusted.
//!
//! ```text
//!  registry ── auth ──┐                 (who may ask: challenges, tokens, one tenant's never for another)
//!                     ├── http ── guard (how: connections, retries, redirects by hand, limits, refused addresses)
//!  notary ── auth ────┤
//!  lookaside ─────────┘
//! ```

pub mod access;
mod auth;
pub mod certificate;
pub mod credentials;
pub mod extension;
pub mod guard;
mod http;
pub mod lookaside;
pub mod notary;
pub mod registries_d;
pub mod registry;
#[cfg(test)]
pub(crate) mod testing;
pub mod tuf;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::FaultKind;
pub use crate::telemetry::UpstreamKind;

/// Told of every try of every request, redirects included: how long it took, and its status or what stopped it.
/// Called on the path of an admission, so it must not block. It gets no name, so that labels stay bounded.
pub type Observer = Arc<dyn Fn(UpstreamKind, Duration, Result<u16, FaultKind>) + Send + Sync>;

/// What the administrator set for outbound requests.
#[derive(Clone, Default)]
pub struct SourceConfig {
    /// Registry host → further token service hosts (with or without port) that may receive this registry's credentials.
    pub token_realms: Vec<(String, String)>,
    /// Addresses that namespaced policies may lead to although they are loopback, link-local or an API server.
    pub allowed_addresses: Vec<ipnet::IpNet>,
    /// Addresses of the API server, refused like loopback for what namespaced policies name.
    pub api_server_addresses: Vec<std::net::IpAddr>,
    /// PEM certificates trusted for every registry and store, besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Requests in flight per upstream host; 0 = 64.
    pub per_host: usize,
    /// The longest one try of one request may take, within the review's deadline; zero = 5 s.
    pub request_timeout: Duration,
    /// Told of every request, for metrics.
    pub observer: Option<Observer>,
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceConfig")
            .field("token_realms", &self.token_realms)
            .field("allowed_addresses", &self.allowed_addresses)
            .field("api_server_addresses", &self.api_server_addresses)
            .field("extra_ca", &self.extra_ca.as_ref().map(Vec::len))
            .field("per_host", &self.per_host)
            .field("request_timeout", &self.request_timeout)
            .field("observer", &self.observer.is_some())
            .finish()
    }
}
