//! Servers on loopback addresses, and the certificate authority they are known by.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::failed;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A private certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Result<Self, String> {
        let make = || {
            let mut params = CertificateParams::new(Vec::<String>::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "podseal demo");
            CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        };
        make().map(Self).map_err(failed("make a certificate authority"))
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for loopback with its key.
    pub(super) fn certificate(&self) -> Result<(rcgen::Certificate, KeyPair), String> {
        let make = || {
            let key = KeyPair::generate()?;
            let names = vec![Ipv4Addr::LOCALHOST.to_string(), "localhost".to_owned()];
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, "podseal demo server");
            Ok((params.signed_by(&key, &self.0)?, key))
        };
        make().map_err(|error: rcgen::Error| failed("make a certificate")(error))
    }

    fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let (certificate, key) = self.certificate()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key));
        Ok(TlsAcceptor::from(Arc::new(config.map_err(failed("set up TLS"))?)))
    }
}

/// A free port of 127.0.0.1.
pub(super) async fn listen() -> Result<TcpListener, String> {
    TcpListener::bind(LOOPBACK).await.map_err(failed("listen on 127.0.0.1"))
}

/// The address of a listener.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(failed("listen on 127.0.0.1"))
}

/// A port where every connection is refused for as long as the socket lives: it is taken, and nobody listens.
pub(super) fn closed_port() -> Result<(TcpSocket, SocketAddr), String> {
    let take = || {
        let socket = TcpSocket::new_v4()?;
        socket.bind(LOOPBACK)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    take().map_err(|error: std::io::Error| failed("take a port of 127.0.0.1")(error))
}

/// Servers that end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Servers(JoinSet<()>);

impl Servers {
    /// Over plain HTTP.
    pub(super) fn plain(&mut self, listener: TcpListener, router: Router) {
        self.serve(listener, router);
    }

    /// Over HTTPS.
    pub(super) fn tls(&mut self, listener: TcpListener, authority: &Authority, router: Router) -> Result<(), String> {
        self.serve(TlsListener { listener, acceptor: authority.acceptor()? }, router);
        Ok(())
    }

    fn serve<L: Listener<Addr = SocketAddr>>(&mut self, listener: L, router: Router) {
        self.0.spawn(async move {
            // It never ends by itself: errors of accepting are waited out.
            let _ = axum::serve(listener, router).await;
        });
    }
}

/// Accepts TLS connections, one handshake at a time, which is enough for one machine's loopback.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Whoever does not speak TLS, or not soon, must not keep the next one waiting.
            if let Ok(Ok(stream)) = timeout(Duration::from_secs(1), self.acceptor.accept(stream)).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
