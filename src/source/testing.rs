//! A scripted server for tests. It stands in for registries on purpose: a real one cannot be made to lie, stall or send
//! without end. What real registries do is tested against real ones elsewhere.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::Instant;

use super::SourceConfig;
use super::access::{Access, Transport};
use super::credentials::{DockerConfig, Keychain};
use super::registry::Upstream;
use crate::domain::image::Repository;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) tls: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn authorization(&self) -> &str {
        self.header("authorization").unwrap_or_default()
    }

    /// `GET /path`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What to answer, honest or not.
pub(crate) enum Reply {
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Headers as in `Http`, then a body without end and without a length.
    Endless {
        status: u16,
        headers: Vec<(String, String)>,
    },
    /// A body of one byte each 100 ms.
    Drip,
    /// The connection is closed without an answer.
    HangUp,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Http { status, headers: Vec::new(), body: body.into() }
}

impl Reply {
    #[allow(clippy::needless_pass_by_value, reason = "reads better at the call")]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        if let Self::Http { headers, .. } | Self::Endless { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_string()));
        }
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server on a loopback address; each of 127.0.0.0/8 is a host of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

/// A private certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority"))
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn server_config(&self, host: IpAddr) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![host.to_string(), "localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.expect("versions").with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], der).expect("server certificate"))
    }
}

impl Server {
    /// Plain HTTP on 127.0.0.`host`.
    pub(crate) fn plain(host: u8, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(host, None, Arc::new(handler))
    }

    /// TLS on 127.0.0.`host`.
    pub(crate) fn tls(
        host: u8,
        authority: &Authority,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(host, Some(authority), Arc::new(handler))
    }

    fn start(host: u8, authority: Option<&Authority>, handler: Arc<Handler>) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
        let listener = TcpListener::bind((ip, 0)).expect("listener");
        let address = listener.local_addr().expect("address");
        let tls = authority.map(|a| a.server_config(ip));
        let (log, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (Arc::clone(&log), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log, count, tls) = (handler.clone(), seen.clone(), count.clone(), tls.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                    match tls {
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).expect("connection");
                            serve(&mut rustls::StreamOwned::new(connection, stream), true, &*handler, &log, &count);
                        }
                        None => serve::<TcpStream>(&mut { stream }, false, &*handler, &log, &count),
                    }
                });
            }
        });
        Self { address, log, connections }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        Repository::new(&self.host(), path).expect("repository")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().expect("log").clone()
    }

    /// Forgets what it was asked so far.
    pub(crate) fn forget(&self) {
        self.log.lock().expect("log").clear();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Connections over which at least one request came.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve<S: Read + Write>(stream: &mut S, tls: bool, handler: &Handler, log: &Mutex<Vec<Seen>>, count: &AtomicUsize) {
    let mut first = true;
    while let Some(seen) = read_request(stream, tls) {
        count.fetch_add(usize::from(std::mem::take(&mut first)), Ordering::SeqCst);
        log.lock().expect("log").push(seen.clone());
        if write_reply(stream, &seen, handler(&seen)).is_none() {
            return;
        }
    }
}

fn read_request<S: Read>(stream: &mut S, tls: bool) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        // Not HTTP: the beginning of a TLS handshake.
        if head[0] == 0x16 {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut request = lines.next()?.split(' ');
    let (method, target) = (request.next()?.to_owned(), request.next()?.to_owned());
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { method, target, headers, body: String::from_utf8_lossy(&body).into_owned(), tls })
}

/// `None` ends the connection.
fn write_reply<S: Write>(stream: &mut S, seen: &Seen, reply: Reply) -> Option<()> {
    let head = |status: u16, headers: &[(String, String)], last: &str| {
        let lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        format!("HTTP/1.1 {status} x\r\n{}{last}\r\n\r\n", lines.concat())
    };
    match reply {
        Reply::Http { status, headers, body } => {
            let mut bytes = head(status, &headers, &format!("content-length: {}", body.len())).into_bytes();
            if seen.method != "HEAD" {
                bytes.extend(body);
            }
            stream.write_all(&bytes).ok()?;
            stream.flush().ok()
        }
        Reply::Endless { status, headers } => {
            stream.write_all(head(status, &headers, "connection: close").as_bytes()).ok()?;
            while stream.write_all(&[b'x'; 8192]).is_ok() {}
            None
        }
        Reply::Drip => {
            stream.write_all(head(200, &[], "content-length: 100").as_bytes()).ok()?;
            while stream.write_all(b"x").and_then(|()| stream.flush()).is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
            None
        }
        Reply::HangUp => None,
    }
}

pub(crate) fn upstream() -> Upstream {
    Upstream::new(SourceConfig::default()).expect("upstream")
}

pub(crate) fn access(transport: Transport, keychain: Keychain) -> Access {
    Access { transport, keychain: Arc::new(keychain), deadline: Instant::now() + Duration::from_secs(10) }
}

/// Plain HTTP allowed, anonymous.
pub(crate) fn insecure() -> Access {
    access(Transport { insecure: true, ..Transport::default() }, Keychain::default())
}

/// Plain HTTP allowed, with these credentials in this order.
pub(crate) fn insecure_with(keychain: Keychain) -> Access {
    access(Transport { insecure: true, ..Transport::default() }, keychain)
}

pub(crate) fn trusting(authority: &Authority) -> Transport {
    Transport { ca: Some(authority.pem().into()), ..Transport::default() }
}

/// One pull secret for each (host, entry); an entry is `user:password`, or `token:` and an identity token.
pub(crate) fn keychain(entries: &[(&str, &str)]) -> Keychain {
    let secret = |(host, entry): &(&str, &str)| {
        let (user, secret) = entry.split_once(':').expect("user:password");
        let entry = if user == "token" {
            serde_json::json!({"username": "00000000-0000-0000-0000-000000000000", "identitytoken": secret})
        } else {
            serde_json::json!({"username": user, "password": secret})
        };
        let config = serde_json::json!({"auths": {*host: entry}}).to_string();
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), config.into())]);
        Arc::new(DockerConfig::from_secret(&data).expect("pull secret"))
    };
    Keychain::new(entries.iter().map(secret))
}

/// `Basic …` as it arrives.
pub(crate) fn basic(entry: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(entry))
}
