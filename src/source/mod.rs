//! The network: registries and signature stores, whose every byte is untrusted.

pub mod access;
pub mod credentials;
pub mod guard;
pub mod lookaside;
pub mod registries_d;
pub mod registry;

use std::time::Duration;

/// What the administrator set for outbound requests.
#[derive(Debug, Clone, Default)]
pub struct SourceConfig {
    /// Registry host → further token service hosts that may receive this registry's credentials.
    pub token_realms: Vec<(String, String)>,
    /// Addresses that namespaced policies may lead to although they are loopback, link-local or an API server.
    pub allowed_addresses: Vec<ipnet::IpNet>,
    /// Addresses of the API server, refused like loopback for what namespaced policies name.
    pub api_server_addresses: Vec<std::net::IpAddr>,
    /// PEM certificates trusted for every registry and store, besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Requests in flight per upstream host.
    pub per_host: usize,
    /// The longest one request may take, within the review's deadline.
    pub request_timeout: Duration,
}
