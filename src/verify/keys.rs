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
const CAPACITY: u64 = 2_000;
const IDLE: Duration = Duration::from_secs(3_600);

/// Keyrings and cosign keys.
#[derive(Debug)]
pub(super) struct Keys {
    keyrings: moka::sync::Cache<[u8; 32], Arc<Keyring>>,
    cosign: moka::sync::Cache<[u8; 32], Arc<PublicKeys>>,
    metrics: Arc<Metrics>,
}

impl Keys {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            keyrings: moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build(),
            cosign: moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build(),
            metrics,
        }
    }

    /// Every value of the Secret is a keyring file.
    pub(super) fn keyring(&self, reference: &ObjectRef, secret: &SecretData) -> Arc<Keyring> {
        self.keyrings.get_with(secret.hash, || {
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
            Arc::new(keyring)
        })
    }

    /// The PEM blocks of `cosign.pub`; no usable key when it is missing.
    pub(super) fn cosign(&self, reference: &ObjectRef, secret: &SecretData) -> Arc<PublicKeys> {
        self.cosign.get_with(secret.hash, || {
            let pem = secret.data.get(COSIGN_PUB).map_or(&b""[..], |bytes| bytes.as_ref());
            let (keys, problems) = PublicKeys::from_pem(pem);
            for problem in &problems {
                warn!(secret = %reference, key = COSIGN_PUB, "{problem}");
            }
            Arc::new(keys)
        })
    }
}
