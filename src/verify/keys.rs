//! Parsed keys by the hash of the Secret they came from: parsing a keyring costs more than a cached review.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::cluster::SecretData;
use crate::domain::policy::ObjectRef;
use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::Keyring;
use crate::telemetry::Metrics;

/// The Secret's key for cosign public keys.
pub(super) const COSIGN_PUB: &str = "cosign.pub";
/// Bytes of the Secrets whose parsed content is kept, at most; parsed, they take several times as much.
const CAPACITY: u64 = 8 << 20;
const OVERHEAD: usize = 512;
const IDLE: Duration = Duration::from_secs(3_600);

/// What Secrets were parsed into, by the hash of their content, bounded by their bytes.
#[derive(Debug)]
pub(super) struct Parsed<T: Send + Sync + 'static>(moka::sync::Cache<[u8; 32], (Arc<T>, u32)>);

impl<T: Send + Sync + 'static> Parsed<T> {
    pub(super) fn new() -> Self {
        let weigh = |_: &[u8; 32], (_, bytes): &(Arc<T>, u32)| *bytes;
        Self(moka::sync::Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_idle(IDLE).build())
    }

    /// From memory, or parsed now, once.
    pub(super) fn get(&self, secret: &SecretData, parse: impl FnOnce() -> T) -> Arc<T> {
        let parse = || {
            let bytes = secret.data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() + OVERHEAD;
            (Arc::new(parse()), u32::try_from(bytes).unwrap_or(u32::MAX))
        };
        self.0.get_with(secret.hash, parse).0
    }
}

/// Keyrings and cosign keys.
#[derive(Debug)]
pub(super) struct Keys {
    keyrings: Parsed<Keyring>,
    cosign: Parsed<PublicKeys>,
    metrics: Arc<Metrics>,
}

impl Keys {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { keyrings: Parsed::new(), cosign: Parsed::new(), metrics }
    }

    /// Every value of the Secret is a keyring file.
    pub(super) fn keyring(&self, reference: &ObjectRef, secret: &SecretData) -> Arc<Keyring> {
        self.keyrings.get(secret, || {
            let files = secret.data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
            let (keyring, problems) = Keyring::from_files(files);
            for problem in &problems {
                warn!(secret = %reference, "{problem}");
            }
            self.metrics.forget_keys(&reference.to_string());
            for key in keyring.keys(SystemTime::now()) {
                let expires = key.expires.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs_f64());
                self.metrics.key(&key.fingerprint, &format!("{reference}/{}", key.file), expires);
            }
            keyring
        })
    }

    /// The PEM blocks of `cosign.pub`; no usable key when it is missing.
    pub(super) fn cosign(&self, reference: &ObjectRef, secret: &SecretData) -> Arc<PublicKeys> {
        self.cosign.get(secret, || {
            let pem = secret.data.get(COSIGN_PUB).map_or(&b""[..], |bytes| bytes.as_ref());
            let (keys, problems) = PublicKeys::from_pem(pem);
            for problem in &problems {
                warn!(secret = %reference, key = COSIGN_PUB, "{problem}");
            }
            keys
        })
    }
}
