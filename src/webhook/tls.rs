//! The serving certificate: loaded, checked, and replaced while connections live on.
//!
//! TLS 1.2 and 1.3 with the AEAD suites of the provider, nothing older. A new pair replaces the whole configuration,
//! and with it the cache of sessions: a connection that is open keeps what it has, one that is new (resumed ones
//! included) sees the new certificate. A pair that cannot be used changes nothing and is reported.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt as _;

use super::validity;
use crate::telemetry::Metrics;

/// How often the files are looked at. A Secret volume follows a change of the Secret within a minute or so.
pub const POLL: Duration = Duration::from_secs(5);
/// Largest certificate or key file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// Why a certificate cannot be served. No message holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than 1 MiB.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A PEM text has not what it should have.
    #[error("the {0} is not PEM with what belongs there")]
    Pem(&'static str),
    /// Certificate and key do not belong together, or cannot be used.
    #[error("the webhook's certificate and key cannot be used")]
    Pair(#[source] rustls::Error),
    /// The client CA cannot be used.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(String),
    /// Once demanded, client certificates stay demanded.
    #[error("the client CA is gone; restart without it to no longer demand client certificates")]
    ClientCaGone,
}

/// PEM texts.
pub struct Pem {
    /// The chain, leaf first.
    pub certificate: Vec<u8>,
    /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: Vec<u8>,
    /// CAs of clients that may ask for reviews; `None`: everybody may.
    pub client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").finish_non_exhaustive()
    }
}

/// Files with PEM texts.
#[derive(Debug, Clone)]
pub struct Files {
    /// See [`Pem::certificate`].
    pub certificate: PathBuf,
    /// See [`Pem::key`].
    pub key: PathBuf,
    /// See [`Pem::client_ca`].
    pub client_ca: Option<PathBuf>,
}

impl Files {
    async fn read(&self) -> Result<Pem, TlsError> {
        let client_ca = match &self.client_ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Pem { certificate: read(&self.certificate).await?, key: read(&self.key).await?, client_ca })
    }
}

/// The TLS side of a listener; a cheap handle.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ArcSwap<ServerConfig>>,
    demands_client: bool,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("demands_client", &self.demands_client).finish_non_exhaustive()
    }
}

impl Tls {
    /// Serves this pair until it is replaced.
    pub fn new(pem: &Pem, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let loaded = load(pem)?;
        report_expiry(&loaded, &metrics);
        Ok(Self {
            config: Arc::new(ArcSwap::from_pointee(loaded.config)),
            demands_client: pem.client_ca.is_some(),
            metrics,
        })
    }

    /// Serves the pair in these files until it is replaced; see [`Self::watch`].
    pub async fn open(files: &Files, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        Self::new(&files.read().await?, metrics)
    }

    /// Replaces pair and client CA for new connections, or leaves everything as it is.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        let loaded = load(pem).and_then(|loaded| match (self.demands_client, &pem.client_ca) {
            // A certificate alone must never take away the demand for client certificates.
            (true, None) => Err(TlsError::ClientCaGone),
            _ => Ok(loaded),
        });
        self.metrics.tls_reload(loaded.is_ok());
        let loaded = loaded?;
        report_expiry(&loaded, &self.metrics);
        self.config.store(Arc::new(loaded.config));
        Ok(())
    }

    /// Looks at the files every `interval` and replaces the pair when their content changed. Never returns.
    ///
    /// Content and not time stamps decide: Secret volumes switch by symbolic links. A pair that is half replaced does
    /// not fit together, is reported once and repaired by the next look.
    pub async fn watch(self, files: Files, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first look replaces what `open` read by the same: files may have changed in between.
        let mut seen: Option<Seen> = None;
        loop {
            ticks.tick().await;
            let read = files.read().await;
            let now = Seen::of(&read);
            if seen.as_ref() == Some(&now) {
                continue;
            }
            let first = seen.replace(now).is_none();
            match read.and_then(|pem| self.replace(&pem)) {
                Ok(()) if first => {}
                Ok(()) => tracing::info!(file = %files.certificate.display(), "the webhook's certificate was replaced"),
                Err(error) => tracing::error!(
                    error = %Chain(&error), file = %files.certificate.display(),
                    "the webhook's new certificate cannot be used, the one before is kept"
                ),
            }
        }
    }

    /// The configuration for the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Whether only callers with a client certificate may ask for reviews.
    pub(super) fn demands_client(&self) -> bool {
        self.demands_client
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// An error with its causes in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What was in the files, without keeping another copy of the key.
#[derive(PartialEq, Eq)]
enum Seen {
    Content([u8; digest::SHA256_OUTPUT_LEN]),
    Unreadable(String),
}

impl Seen {
    fn of(read: &Result<Pem, TlsError>) -> Self {
        let pem = match read {
            Ok(pem) => pem,
            Err(error) => return Self::Unreadable(Chain(error).to_string()),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [Some(&pem.certificate), Some(&pem.key), pem.client_ca.as_ref()].into_iter().flatten() {
            // With lengths, so that a byte that moves from one file to the next is a change.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Self::Content(hash)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let of = |source| TlsError::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(of)?;
    file.take(MAX_FILE + 1).read_to_end(&mut content).await.map_err(of)?;
    if content.len() as u64 > MAX_FILE {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

struct Loaded {
    config: ServerConfig,
    not_after: Option<i64>,
}

fn load(pem: &Pem) -> Result<Loaded, TlsError> {
    let chain = certificates(&pem.certificate, "certificate")?;
    // The causes of these errors quote lines of the file, which holds the key: left out on purpose.
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| TlsError::Pem("private key"))?;
    let not_after = chain.first().and_then(|leaf| validity::not_after(leaf));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Pair)?;
    let builder = match &pem.client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { config, not_after })
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Pem(what))
}

/// A client without a certificate is let in, for the kubelet's probes; the connection then answers nothing else. One
/// with a certificate of another CA is refused in the handshake.
fn client_verifier(
    ca: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "client CA")? {
        roots.add(certificate).map_err(|error| TlsError::ClientCa(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::ClientCa(error.to_string()))
}

#[allow(clippy::cast_precision_loss)] // seconds of any real date fit a double exactly
fn report_expiry(loaded: &Loaded, metrics: &Metrics) {
    if let Some(seconds) = loaded.not_after {
        metrics.certificate_expiry("webhook", seconds as f64);
    }
}
