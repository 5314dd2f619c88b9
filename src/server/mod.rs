//! Listening over HTTP and TLS, for whatever answers: the webhook, the controller's probes, the signature store.
//!
//! ```text
//! TCP → TLS (tls) → HTTP/1.1 or HTTP/2 (serve, connection) → a router
//! ```
//!
//! Nothing here is without a bound: connections, their handshake, their first request and their idleness, streams and
//! headers per connection, size, time and sum of bodies (for routers that read them with `body`), and the time of a
//! drain.

pub(crate) mod body;
mod connection;
pub(crate) mod load;
mod respond;
mod serve;
pub mod tls;
pub mod validity;

use std::sync::Arc;

pub use self::connection::Peer;
pub(crate) use self::respond::{build, last_of_connection, probe_routes, text};
pub use self::serve::{Routes, Timing, serve};
pub use self::tls::Tls;

/// What must be so before this process is ready: `Ok`, or what is missing.
pub type Gate = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
