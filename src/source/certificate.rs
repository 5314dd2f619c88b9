//! A client certificate (mTLS): read and checked before anything is asked, and shown to one server alone.
//!
//! What the server would refuse anyway is refused here, in words that say what to do: TLS has one byte to say why. Who may
//! see the certificate is part of it ([`Presented`]), so that no other code has to think of it.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Identity;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::lookaside::StoreUrl;
use super::registry::api_url;
use crate::domain::image::Repository;

/// Certificates in one file: the client's, and those between it and its authority.
const MAX_CHAIN: usize = 16;

/// Why a certificate cannot be shown. The texts hold nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// It is the certificate's file.
    #[error("{0}")]
    Certificate(String),
    /// It is the key's file.
    #[error("{0}")]
    Key(&'static str),
}

/// A certificate with its chain and key.
pub struct ClientCertificate {
    identity: Identity,
    /// SHA-256 of certificates and key.
    id: [u8; 32],
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

impl ClientCertificate {
    /// Reads PEM texts: certificates, the client's first, and its private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    /// They must belong together, and the certificate be valid at `now` and good for clients.
    pub fn read(certificates: &[u8], key: &[u8], now: SystemTime) -> Result<Self, ClientCertificateError> {
        let chain = chain(certificates).map_err(|why| ClientCertificateError::Certificate(why.to_owned()))?;
        let key = private_key(key).map_err(ClientCertificateError::Key)?;
        if let Some(leaf) = chain.first() {
            check(leaf, now).map_err(ClientCertificateError::Certificate)?;
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                ClientCertificateError::Key("it belongs to another certificate: give certificate and key of one pair")
            }
            rustls::Error::InvalidCertificate(_) => {
                ClientCertificateError::Certificate("its certificate cannot be used: make a new one".to_owned())
            }
            _ => ClientCertificateError::Key("it is of a kind that TLS does not take: ECDSA, Ed25519 or RSA"),
        })?;
        let mut hash = Context::new(&SHA256);
        for certificate in &chain {
            hash.update(certificate);
        }
        hash.update(key.secret_der());
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        let identity = Identity::from_pem(&pem(&chain, &key));
        let identity = identity.map_err(|_| ClientCertificateError::Key("certificate and key cannot be used"))?;
        Ok(Self { identity, id })
    }
}

/// A certificate, and the one server that may see it.
#[derive(Clone)]
pub struct Presented {
    certificate: Arc<ClientCertificate>,
    host: Box<str>,
    port: u16,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Presented {
    /// For a store, which must have TLS; `None` if it has not.
    pub fn to_store(certificate: &Arc<ClientCertificate>, store: &StoreUrl) -> Option<Self> {
        Self::to(certificate, store.url())
    }

    /// For the registry that has this repository; `None` if its host cannot be part of a URL.
    pub fn to_registry(certificate: &Arc<ClientCertificate>, repository: &Repository) -> Option<Self> {
        Self::to(certificate, &api_url(repository)?)
    }

    fn to(certificate: &Arc<ClientCertificate>, url: &Url) -> Option<Self> {
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        (url.scheme() == "https").then(|| Self { certificate: certificate.clone(), host: host.into(), port })
    }

    /// Whether a URL is on the server that may see it, over TLS: the same host and port.
    pub(super) fn is_for(&self, url: &Url) -> bool {
        url.scheme() == "https" && self.names(url) && url.port_or_known_default() == Some(self.port)
    }

    /// Whether a URL is on that host, whatever its port and scheme are.
    pub(super) fn names(&self, url: &Url) -> bool {
        url.host_str() == Some(&*self.host)
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.certificate.identity
    }

    /// A hash of the certificate and of who may see it.
    pub(super) fn id(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.certificate.id);
        hash.update(&self.port.to_be_bytes());
        hash.update(self.host.as_bytes());
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        id
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    const BAD: &str = "it is not PEM that can be read: export the certificate again";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CHAIN + 1).collect();
    let chain = chain.map_err(|_| BAD)?;
    if chain.len() > MAX_CHAIN {
        return Err("it holds more than 16 certificates: only the client's and those that issued it belong there");
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    Err(if PrivateKeyDer::from_pem_slice(pem).is_ok() {
        "it holds a private key and no certificate: the key goes with --client-key"
    } else {
        "there is no certificate in it: PEM is expected, from -----BEGIN CERTIFICATE----- on"
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let holds = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    // The second is what OpenSSL wrote before PKCS#8.
    if holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED") {
        return Err(
            "it is encrypted, and nobody is asked for its passphrase: write it without one into a file of mode \
                    0600 (umask 077; openssl pkey -in KEY -out NEW)",
        );
    }
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Ok(key);
    }
    Err(if CertificateDer::pem_slice_iter(pem).any(|certificate| certificate.is_ok()) {
        "it holds a certificate and no private key: the certificate goes with --client-cert"
    } else {
        "there is no private key in it: PEM is expected, PKCS#8, PKCS#1 or SEC1"
    })
}

/// What a server looks at, too.
fn check(leaf: &CertificateDer<'_>, now: SystemTime) -> Result<(), String> {
    let unreadable = || "its certificate cannot be read: export it again".to_owned();
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
    let now = jiff::Timestamp::try_from(now).map_or(i64::MAX, jiff::Timestamp::as_second);
    let date =
        |second| jiff::Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string());
    let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if now > until {
        return Err(format!("its certificate expired on {}: have it renewed", date(until)));
    }
    if now < from {
        return Err(format!("its certificate is not valid before {}: look at the clock of this host", date(from)));
    }
    let usage = leaf.extended_key_usage().map_err(|_| unreadable())?;
    if usage.is_some_and(|usage| !usage.value.any && !usage.value.client_auth) {
        return Err(
            "its certificate is not for clients (its extended key usage lacks clientAuth), and servers refuse \
                    it: have one made for a client"
                .to_owned(),
        );
    }
    Ok(())
}

/// As the HTTP client reads it: nothing but what was checked. It keeps the key in memory for as long as it lives.
fn pem(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Vec<u8> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let sections = chain.iter().map(|certificate| ("CERTIFICATE", certificate.as_ref()));
    let mut text = String::new();
    for (label, der) in sections.chain([(label, key.secret_der())]) {
        let _ = writeln!(text, "-----BEGIN {label}-----\n{}\n-----END {label}-----", BASE64_STANDARD.encode(der));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests;
