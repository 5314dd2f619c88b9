//! Parsed keys by the hash of the Secret they came from: parsing a keyring costs more than a cached review.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::future::Cache;
use tokio::time::Instant;
use tracing::warn;

use super::cosign::bad_root;
use super::labour::Labour;

use crate::cluster::SecretData;
use crate::domain::policy::ObjectRef;
use crate::fault::{Fault, FaultKind};
use crate::signature::cosign::PublicKeys;
use crate::signature::keyless::TrustRoot;
use crate::signature::openpgp::Keyring;
use crate::telemetry::Metrics;

/// The Secret's key for cosign public keys.
pub(crate) const COSIGN_PUB: &str = "cosign.pub";
/// The key of a Secret or `ConfigMap` for a Sigstore trust root.
pub(crate) const TRUSTED_ROOT: &str = "trusted_root.json";
/// Bytes of the Secrets whose parsed content is kept, at most; parsed, they take several times as much.
const CAPACITY: u64 = 8 << 20;
const OVERHEAD: usize = 512;
const IDLE: Duration = Duration::from_secs(3_600);

/// Bytes of a key Secret that a namespaced policy names, at most. Room for dozens of ordinary keys; what costs most in a
/// key, its signatures upon itself, is bounded with it.
pub(crate) const MAX_TENANT: usize = 64 << 10;

/// Whose Secret, and on whose behalf it is read.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) reference: &'a ObjectRef,
    /// The namespace that waits.
    pub(super) namespace: &'a str,
    /// A namespaced policy names a Secret that the administrator does not keep.
    pub(super) tenant: bool,
    pub(super) deadline: Instant,
}

/// What Secrets were parsed into, by the hash of their content, bounded by their bytes.
#[derive(Debug)]
struct Parsed<T: Send + Sync + 'static>(Cache<[u8; 32], (Arc<T>, u32)>);

impl<T: Send + Sync + 'static> Parsed<T> {
    fn new() -> Self {
        let weigh = |_: &[u8; 32], (_, bytes): &(Arc<T>, u32)| *bytes;
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_idle(IDLE).build())
    }

    /// From memory, or parsed now, once for everybody who waits, and off the threads that answer.
    async fn get(
        &self,
        labour: &Labour,
        origin: Origin<'_>,
        secret: &Arc<SecretData>,
        parse: impl FnOnce(&SecretData) -> T + Send + 'static,
    ) -> Result<Arc<T>, Fault> {
        let bytes = secret.data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        if origin.tenant && bytes > MAX_TENANT {
            let what =
                format!("{} has more than {MAX_TENANT} bytes, too many for a namespaced policy", origin.reference);
            return Err(Fault::new(FaultKind::TooLarge, what));
        }
        let hash = secret.hash;
        let secret = secret.clone();
        let parsing = async {
            // What the administrator keeps is parsed for everybody, and waits behind nobody's own.
            let lane = if origin.tenant { origin.namespace } else { "" };
            let parsed = labour.run(lane, origin.deadline, move || parse(&secret)).await?;
            Ok((Arc::new(parsed), u32::try_from(bytes + OVERHEAD).unwrap_or(u32::MAX)))
        };
        self.0.try_get_with(hash, parsing).await.map(|(parsed, _)| parsed).map_err(|fault: Arc<Fault>| (*fault).clone())
    }
}

/// Keyrings and cosign keys.
#[derive(Debug)]
pub(super) struct Keys {
    keyrings: Parsed<Keyring>,
    cosign: Parsed<PublicKeys>,
    roots: Parsed<Result<Arc<TrustRoot>, String>>,
    metrics: Arc<Metrics>,
}

impl Keys {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { keyrings: Parsed::new(), cosign: Parsed::new(), roots: Parsed::new(), metrics }
    }

    /// Every value of the Secret is a keyring file.
    pub(super) async fn keyring(
        &self,
        labour: &Labour,
        origin: Origin<'_>,
        secret: &Arc<SecretData>,
    ) -> Result<Arc<Keyring>, Fault> {
        let (reference, metrics) = (origin.reference.to_string(), (!origin.tenant).then(|| self.metrics.clone()));
        let parse = move |secret: &SecretData| {
            let files = secret.data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
            let (keyring, problems) = Keyring::from_files(files);
            for problem in &problems {
                warn!(secret = %reference, "{problem}");
            }
            if let Some(metrics) = metrics {
                count(&metrics, &reference, &keyring);
            }
            keyring
        };
        self.keyrings.get(labour, origin, secret, parse).await
    }

    /// The PEM blocks of `cosign.pub`; no usable key when it is missing.
    pub(super) async fn cosign(
        &self,
        labour: &Labour,
        origin: Origin<'_>,
        secret: &Arc<SecretData>,
    ) -> Result<Arc<PublicKeys>, Fault> {
        let reference = origin.reference.to_string();
        let parse = move |secret: &SecretData| {
            let pem = secret.data.get(COSIGN_PUB).map_or(&b""[..], |bytes| bytes.as_ref());
            let (keys, problems) = PublicKeys::from_pem(pem);
            for problem in &problems {
                warn!(secret = %reference, key = COSIGN_PUB, "{problem}");
            }
            keys
        };
        self.cosign.get(labour, origin, secret, parse).await
    }

    /// The trust root of `trusted_root.json`; the error says what is wrong with it.
    pub(super) async fn trust_root(
        &self,
        labour: &Labour,
        origin: Origin<'_>,
        object: &Arc<SecretData>,
    ) -> Result<Arc<TrustRoot>, Fault> {
        let parse = |object: &SecretData| {
            let json = object.data.get(TRUSTED_ROOT).map_or(&b""[..], |bytes| bytes.as_ref());
            TrustRoot::parse(json).map(Arc::new)
        };
        let parsed = self.roots.get(labour, origin, object, parse).await?;
        parsed.as_ref().clone().map_err(|why| bad_root(&origin.reference.to_string(), &why))
    }
}

/// Expiry of the keys, for alerts.
fn count(metrics: &Metrics, reference: &str, keyring: &Keyring) {
    metrics.forget_keys(reference);
    for key in keyring.keys(SystemTime::now()) {
        let expires = key.expires.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs_f64());
        metrics.key(&key.fingerprint, &format!("{reference}/{}", key.file), expires);
    }
}
