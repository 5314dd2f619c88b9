//! The serving certificate: loaded, checked, and replaced while connections live on.
//!
//! TLS 1.2 and 1.3 with the AEAD suites of the provider, nothing older. A new pair replaces the whole configuration,
//! and with it the cache of sessions: a connection that is open keeps what it has, one that is new (resumed ones
//! included) sees the new certificate. A pair that cannot be used changes nothing and is reported, and one that is not
//! valid now never replaces one that is. When there is no valid one, the invalid one is served and an error logged:
//! whoever trusts it in spite of its date, or has a clock that is wrong, is not locked out by this end as well.
//!
//! Where pairs come from, files or a Secret, is in [`source`].

mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use self::source::{Files, POLL, SecretSource};
use super::validity::{self, Period, date};
use crate::telemetry::Metrics;

/// Before a certificate expires there is a warning this long, or, if it is less, for a sixth of its lifetime.
const WARNING: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often the dates of the served certificate are looked at.
const LOOK: Duration = Duration::from_secs(3600);

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
    /// The Secrets were not listed yet.
    #[error("the Secrets of podseal's namespace, and {name} among them, were not read yet")]
    Unknown {
        /// The Secret.
        name: String,
    },
    /// There is no such Secret.
    #[error("the Secret {name} does not exist in podseal's namespace")]
    NoSecret {
        /// The Secret.
        name: String,
    },
    /// A Secret does not hold what it should.
    #[error("the Secret {name} has no {key}")]
    Key {
        /// The Secret.
        name: String,
        /// What is missing.
        key: &'static str,
    },
    /// A pair that is not valid now must not replace one that is.
    #[error(
        "the new certificate is valid from {} to {} and not now, the one before until {}",
        date(new.not_before), date(new.not_after), date(old.not_after)
    )]
    NotValid {
        /// The one that is refused.
        new: Period,
        /// The one that is kept.
        old: Period,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("the certificate and key cannot be used")]
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

/// The TLS side of a listener; a cheap handle.
#[derive(Clone)]
pub struct Tls {
    served: Arc<ArcSwapOption<Served>>,
    /// Why nothing is served yet.
    missing: Arc<ArcSwap<String>>,
    demands_client: bool,
    /// Whose certificate it is, for messages.
    whose: &'static str,
    metrics: Arc<Metrics>,
}

/// What is served.
struct Served {
    config: Arc<ServerConfig>,
    period: Option<Period>,
    /// Where it comes from, for messages.
    origin: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("demands_client", &self.demands_client).finish_non_exhaustive()
    }
}

impl Tls {
    /// Serves this pair until it is replaced.
    pub fn new(pem: &Pem, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let tls = Self::waiting(pem.client_ca.is_some(), String::new(), metrics);
        tls.put(pem, "memory", now())?;
        Ok(tls)
    }

    /// Serves nothing yet: every handshake fails, and [`Self::ready`] says that `missing` is missing. With
    /// `demands_client` no pair without a client CA will do.
    pub fn waiting(demands_client: bool, missing: String, metrics: Arc<Metrics>) -> Self {
        Self {
            served: Arc::default(),
            missing: Arc::new(ArcSwap::from_pointee(missing)),
            demands_client,
            whose: "the webhook",
            metrics,
        }
    }

    /// Names whose certificate it is in messages, such as `the store`; without it, the webhook's.
    #[must_use]
    pub fn of(mut self, whose: &'static str) -> Self {
        self.whose = whose;
        self
    }

    /// `Ok` when there is a certificate to serve, else what is missing.
    pub fn ready(&self) -> Result<(), String> {
        if self.served.load().is_some() { Ok(()) } else { Err(self.missing.load().as_ref().clone()) }
    }

    /// Replaces pair and client CA for new connections, or leaves everything as it is.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        self.replace_at(pem, "memory", now())
    }

    /// The same from a place that messages name, at a time in seconds since 1970.
    fn replace_at(&self, pem: &Pem, origin: &str, now: i64) -> Result<(), TlsError> {
        let done = self.put(pem, origin, now);
        self.metrics.tls_reload(done.is_ok());
        done
    }

    fn put(&self, pem: &Pem, origin: &str, now: i64) -> Result<(), TlsError> {
        if self.demands_client && pem.client_ca.is_none() {
            // A certificate alone must never take away the demand for client certificates.
            return Err(TlsError::ClientCaGone);
        }
        let (config, period) = load(pem)?;
        if let (Some(new), Some(old)) = (period, self.period())
            && !new.holds_at(now)
            && old.holds_at(now)
        {
            return Err(TlsError::NotValid { new, old });
        }
        report_expiry(period, self.whose, &self.metrics);
        self.served.store(Some(Arc::new(Served { config: Arc::new(config), period, origin: origin.to_owned() })));
        self.remind(now);
        Ok(())
    }

    fn period(&self) -> Option<Period> {
        self.served.load().as_ref()?.period
    }

    /// Warns again and again of a certificate that expires soon or has expired. Never returns.
    pub async fn watch_dates(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.remind(now());
        }
    }

    fn remind(&self, now: i64) {
        let served = self.served.load();
        let Some((served, period)) = served.as_ref().and_then(|served| Some((served, served.period?))) else { return };
        let origin = &served.origin;
        match standing(period, now) {
            Standing::Early => tracing::error!(
                %origin, "{}'s certificate is not valid before {}; clients refuse it until then", self.whose, date(period.not_before)
            ),
            Standing::Good => {}
            Standing::Late => {
                tracing::warn!(%origin, "{}'s certificate expires at {}; renew it", self.whose, date(period.not_after));
            }
            Standing::Expired => tracing::error!(
                %origin, "{}'s certificate expired at {}; clients refuse it: renew it", self.whose, date(period.not_after)
            ),
        }
    }

    /// The configuration for the next connection; `None` while there is no certificate.
    pub(super) fn config(&self) -> Option<Arc<ServerConfig>> {
        Some(Arc::clone(&self.served.load().as_ref()?.config))
    }

    /// Whether only callers with a client certificate may ask for reviews.
    pub(super) fn demands_client(&self) -> bool {
        self.demands_client
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// How a certificate stands to the time.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Early,
    Good,
    /// It expires soon.
    Late,
    Expired,
}

fn standing(period: Period, now: i64) -> Standing {
    if now < period.not_before {
        Standing::Early
    } else if now > period.not_after {
        Standing::Expired
    } else if period.left_at(now) < WARNING.min(period.length() / 6) {
        Standing::Late
    } else {
        Standing::Good
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn load(pem: &Pem) -> Result<(ServerConfig, Option<Period>), TlsError> {
    let chain = certificates(&pem.certificate, "certificate")?;
    // The causes of these errors quote lines of the file, which holds the key: left out on purpose.
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| TlsError::Pem("private key"))?;
    let period = chain.first().and_then(|leaf| validity::period(leaf));
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
    Ok((config, period))
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
fn report_expiry(period: Option<Period>, whose: &'static str, metrics: &Metrics) {
    if let Some(period) = period {
        metrics.certificate_expiry(whose.trim_start_matches("the "), period.not_after as f64);
    }
}
