//! HTTP clients: one per set of TLS and address rules, shared by all requests under the same rules, so that
//! connections are reused across reviews.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use moka::future::Cache;
use reqwest::{Certificate, Client, Identity};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::fault::{Fault, FaultKind};
use crate::source::certificate::Presented;
use crate::source::guard::{AddressGuard, GuardedResolver};

/// Sets of rules with a client at a time: each has a connection pool and a certificate store.
const MAX_CLIENTS: u64 = 64;
const CLIENT_IDLE: Duration = Duration::from_secs(30 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECTION_IDLE: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS_PER_HOST: usize = 16;

/// What makes two clients different.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    ca: Option<[u8; 32]>,
    /// Of the administrator's certificates.
    extra: [u8; 32],
    /// Certificates are not verified: for the registry's own host of an entry that says `insecure`.
    unverified: bool,
    /// Names that lead to refused addresses do not resolve.
    guarded: bool,
    /// Of the client certificate, so that no connection with one is used where none is to be shown.
    certificate: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(super) struct Clients {
    pool: Cache<ClientKey, Client>,
    guard: AddressGuard,
    extra: ArcSwap<Extra>,
}

/// Certificates that every client trusts besides the system's.
#[derive(Debug, Default)]
struct Extra {
    hash: [u8; 32],
    certificates: Vec<Certificate>,
}

impl Clients {
    /// `extra_ca` are PEM certificates that every client trusts.
    pub(super) fn new(guard: AddressGuard, extra_ca: Option<&[u8]>) -> Result<Self, String> {
        let pool = Cache::builder().max_capacity(MAX_CLIENTS).time_to_idle(CLIENT_IDLE).build();
        let clients = Self { pool, guard, extra: ArcSwap::default() };
        if let Some(pem) = extra_ca {
            clients.set_extra(pem)?;
        }
        Ok(clients)
    }

    /// Replaces the certificates that every client trusts; what cannot be read changes nothing.
    pub(super) fn set_extra(&self, pem: &[u8]) -> Result<(), String> {
        let hash = hash(pem);
        if self.extra.load().hash != hash {
            self.extra.store(Arc::new(Extra { hash, certificates: certificates(pem)? }));
        }
        Ok(())
    }

    /// The client for these rules. A CA that cannot be read is a configuration fault, never ignored.
    pub(super) async fn get(
        &self,
        ca: Option<&Arc<[u8]>>,
        unverified: bool,
        guarded: bool,
        certificate: Option<&Presented>,
    ) -> Result<Client, Fault> {
        let extra = self.extra.load_full();
        let (ca_hash, certificate_hash) = (ca.map(|pem| hash(pem)), certificate.map(Presented::id));
        let key = ClientKey { ca: ca_hash, extra: extra.hash, unverified, guarded, certificate: certificate_hash };
        if let Some(client) = self.pool.get(&key).await {
            return Ok(client);
        }
        let (ca, guard) = (ca.cloned(), guarded.then(|| self.guard.clone()));
        let identity = certificate.map(|certificate| certificate.identity().clone());
        let build = async move {
            // Reading the system's certificates is blocking work.
            let built = tokio::task::spawn_blocking(move || {
                build(ca.as_deref(), &extra.certificates, unverified, guard.as_ref(), identity.as_ref())
            })
            .await;
            built.map_err(|_| "the HTTP client could not be set up".to_owned()).flatten()
        };
        self.pool.try_get_with(key, build).await.map_err(|e| Fault::new(FaultKind::Configuration, e.as_str()))
    }
}

fn hash(pem: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, pem).as_ref());
    out
}

fn build(
    ca: Option<&[u8]>,
    extra: &[Certificate],
    unverified: bool,
    guard: Option<&AddressGuard>,
    identity: Option<&Identity>,
) -> Result<Client, String> {
    let mut roots = ca.map(certificates).transpose()?.unwrap_or_default();
    roots.extend_from_slice(extra);
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("podseal/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_danger_accept_invalid_certs(unverified)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST);
        let builder = match identity {
            // A server tells with the first answer whether it takes the certificate (RFC 8446, section 4.4.2.4). What it
            // says against it is lost in HTTP/2, whose connection is set up before that.
            Some(identity) => builder.identity(identity.clone()).http1_only(),
            None => builder,
        };
        match guard {
            Some(guard) => builder.dns_resolver(GuardedResolver(guard.clone())),
            None => builder,
        }
    };
    // A system without certificates (a bare image) trusts those of the configuration alone, or nothing; plain HTTP
    // stores still work there.
    builder()
        .tls_certs_merge(roots.clone())
        .build()
        .or_else(|_| builder().tls_certs_only(roots).build())
        .map_err(|_| "the HTTP client could not be set up".to_owned())
}

/// Reads PEM certificates; each must be one that TLS can use as an authority.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    const BAD: &str = "the CA is not PEM with certificates that can be used";
    let mut store = RootCertStore::empty();
    let mut out = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| BAD.to_owned())?;
        out.push(Certificate::from_der(&der).map_err(|_| BAD.to_owned())?);
        store.add(der).map_err(|_| BAD.to_owned())?;
    }
    if out.is_empty() { Err(BAD.to_owned()) } else { Ok(out) }
}
