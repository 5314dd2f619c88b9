//! On whose behalf and how a request is made.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::time::Instant;

use super::certificate::Presented;
use super::credentials::Keychain;

/// How a registry is reached, and how far requests may lead.
#[derive(Clone, Default)]
pub struct Transport {
    /// Plain HTTP or unverified TLS, for the registry's own host only.
    pub insecure: bool,
    /// PEM certificates trusted besides the system's and the administrator's.
    pub ca: Option<Arc<[u8]>>,
    /// Refuse loopback, link-local and API server addresses on the first hop, too (namespaced policies, and hosts that
    /// only a wildcard names). Redirects and token services to such addresses are refused unless the registry host itself is one.
    pub guarded: bool,
    /// A client certificate for the one server that it names; no other ever sees it.
    pub certificate: Option<Presented>,
}

impl Transport {
    /// A hash of everything in it. What was learned over one transport (tokens, clients) is used for equal ones only.
    pub(super) fn id(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&[u8::from(self.insecure), u8::from(self.guarded), u8::from(self.ca.is_some())]);
        // Of fixed length or absent, so that what stands last is told apart from it.
        context.update(&self.certificate.as_ref().map_or([0; 32], Presented::id));
        context.update(self.ca.as_deref().unwrap_or_default());
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        id
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("insecure", &self.insecure)
            .field("ca", &self.ca.as_ref().map(|ca| ca.len()))
            .field("guarded", &self.guarded)
            .field("certificate", &self.certificate)
            .finish()
    }
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
