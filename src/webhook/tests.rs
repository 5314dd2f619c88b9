//! Tests over real sockets: a listener, a client that writes what it wants, and reviewers that misbehave.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{Files, Pem, TlsError};
use super::{App, Limits, Reviewer, Routes, Timing, Tls, serve};
use crate::admission::{Answer, Question};
use crate::telemetry::Metrics;

const HOST: &str = "webhook.test";
const WAIT: Duration = Duration::from_secs(5);

/// Does what the body says.
#[derive(Default)]
struct Puppet {
    entered: Arc<Notify>,
    release: Arc<Notify>,
    finished: Arc<Notify>,
}

fn say(status: u16, text: impl Into<Bytes>) -> Answer {
    Answer { status, body: text.into() }
}

impl Reviewer for Puppet {
    async fn validate(&self, body: Bytes, budget: Duration) -> Answer {
        match &body[..] {
            b"panic" => panic!("by order"),
            b"panic later" => {
                tokio::task::yield_now().await;
                panic!("by order");
            }
            b"wait" => {
                self.entered.notify_one();
                self.release.notified().await;
                self.finished.notify_one();
                say(200, "waited")
            }
            b"forever" => std::future::pending().await,
            b"budget" => say(200, budget.as_millis().to_string()),
            b"none" => say(400, "no review"),
            other => say(200, format!("judged {}", other.len())),
        }
    }
    fn validate_policy(&self, body: &[u8]) -> Answer {
        assert_ne!(body, b"panic", "by order");
        say(200, "policy")
    }
    async fn mutate(&self, body: Bytes, budget: Duration) -> Answer {
        match &body[..] {
            b"pins" => say(200, "pinned"),
            _ => self.validate(body, budget).await,
        }
    }
    fn overloaded(&self, question: Question, _body: &[u8]) -> Answer {
        say(200, if question == Question::Pins { "overloaded, not pinned" } else { "overloaded" })
    }
    fn internal_error(&self, question: Question, _body: &[u8]) -> Answer {
        say(200, if question == Question::Pins { "internal error, not pinned" } else { "internal error" })
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A CA and what it signs, made anew in every test.
struct Ca {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Ca {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self { params, key: rcgen::KeyPair::generate().unwrap() }
    }

    fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    /// Certificate and key of a leaf.
    fn leaf(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap(), key)
    }

    fn serving(&self) -> Pem {
        let (certificate, key) = self.leaf();
        Pem { certificate: certificate.pem().into(), key: key.serialize_pem().into(), client_ca: None }
    }

    fn client(&self, own: Option<&Ca>, alpn: &[&str]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.params.self_signed(&self.key).unwrap().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let (certificate, key) = ca.leaf();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

fn quick() -> Timing {
    Timing {
        handshake: Duration::from_millis(300),
        first_request: Duration::from_millis(300),
        idle: Duration::from_secs(60),
        drain_delay: Duration::from_millis(300),
        drain: Duration::from_secs(3),
        ..Timing::default()
    }
}

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    tls: Option<Tls>,
    ca: Ca,
    puppet: [Arc<Notify>; 3],
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn start(limits: Limits, timing: Timing, pem: Option<Pem>, ca: Ca) -> Running {
    let metrics = Arc::new(Metrics::new());
    let tls = pem.map(|pem| Tls::new(&pem, Arc::clone(&metrics)).unwrap());
    let puppet = Puppet::default();
    let notes = [&puppet.entered, &puppet.release, &puppet.finished].map(Arc::clone);
    let app = App::new(puppet, Arc::clone(&metrics), limits);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve(listener, tls.clone(), app.routes(), timing, shutdown));
    Running { address, metrics, tls, ca, puppet: notes, stop, server }
}

async fn start_tls(limits: Limits, timing: Timing) -> Running {
    let ca = Ca::new();
    let pem = ca.serving();
    start(limits, timing, Some(pem), ca).await
}

impl Running {
    async fn connect_with(&self, config: rustls::ClientConfig) -> io::Result<Client<TlsStream<TcpStream>>> {
        connect_to(self.address, config).await
    }

    async fn connect(&self) -> Client<TlsStream<TcpStream>> {
        self.connect_with(self.ca.client(None, &["http/1.1"])).await.unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> (StatusCode, String) {
        self.connect().await.post(path, body).await
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

async fn connect_to(address: SocketAddr, config: rustls::ClientConfig) -> io::Result<Client<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(HOST).unwrap();
    Ok(Client(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

/// HTTP/1.1 by hand.
struct Client<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn post(&mut self, path: &str, body: &str) -> (StatusCode, String) {
        self.send(&post_of(path, "application/json", body)).await;
        self.answer().await.expect("an answer")
    }

    async fn get(&mut self, path: &str) -> (StatusCode, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).await;
        self.answer().await.expect("an answer")
    }

    /// Kind and payload of the next HTTP/2 frame; `None` when the server closed the connection in order.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            read => read.unwrap(),
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.unwrap();
        Some((head[3], payload))
    }

    /// Status and body of the next answer; `None` when the server closed the connection.
    async fn answer(&mut self) -> Option<(StatusCode, String)> {
        tokio::time::timeout(WAIT, self.read_answer()).await.expect("the server neither answers nor closes")
    }

    async fn read_answer(&mut self) -> Option<(StatusCode, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1).map_or("0", |rest| rest.split('\r').next().unwrap());
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        Some((status, String::from_utf8(body).unwrap()))
    }
}

fn post_of(path: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn small() -> Limits {
    Limits { body: 1000, body_time: Duration::from_millis(300), ..Limits::default() }
}

#[tokio::test]
async fn a_review_is_answered_and_the_connection_kept() {
    let running = start_tls(small(), quick()).await;
    let mut client = running.connect().await;
    for _ in 0..3 {
        assert_eq!(client.post("/validate?timeout=10s", "{}").await, (StatusCode::OK, "judged 2".to_owned()));
        assert_eq!(client.post("/validate-policy", "{}").await, (StatusCode::OK, "policy".to_owned()));
    }
    assert_eq!(client.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(client.get("/readyz").await.0, StatusCode::OK);
    assert!(client.get("/metrics").await.1.ends_with("# EOF\n"));
    assert_eq!(client.post("/validate", "none").await, (StatusCode::BAD_REQUEST, "no review".to_owned()));
    assert_eq!(client.get("/other").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_budget_comes_from_the_query_less_a_margin() {
    let running = start_tls(small(), quick()).await;
    let (_, budget) = running.post("/validate?timeout=3s", "budget").await;
    let budget: u64 = budget.parse().unwrap();
    assert!((2_000..=2_500).contains(&budget), "{budget}");
}

#[tokio::test]
async fn a17_wrong_media_type_and_method_are_refused() {
    let running = start_tls(small(), quick()).await;
    let mut client = running.connect().await;
    for (media_type, status) in [
        ("application/json; charset=utf-8", StatusCode::OK),
        ("Application/JSON", StatusCode::OK),
        ("text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/jsonx", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        client.send(&post_of("/validate", media_type, "{}")).await;
        assert_eq!(client.answer().await.unwrap().0, status, "{media_type}");
    }
    assert_eq!(client.get("/validate").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.get("/validate-policy").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.post("/healthz", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn h16_a_large_body_is_refused_before_it_is_sent() {
    let running = start_tls(small(), quick()).await;
    let body = "x".repeat(1000);
    assert_eq!(running.post("/validate", &body).await.0, StatusCode::OK);
    assert_eq!(running.post("/validate", &format!("{body}x")).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let mut client = running.connect().await;
    client
        .send("POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn h16_a_slow_body_is_given_up() {
    let running = start_tls(small(), quick()).await;
    let mut client = running.connect().await;
    client
        .send("POST /validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{")
        .await;
    assert_eq!(client.answer().await.unwrap().0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(client.answer().await, None, "the connection is closed");
}

#[tokio::test]
async fn h16_slow_headers_a_silent_client_and_a_slow_handshake_are_closed() {
    let running = start_tls(small(), quick()).await;
    let mut slow = running.connect().await;
    slow.send("POST /validate HTTP/1.1\r\nhost: x\r\n").await;
    let mut silent_http2 = running.connect_with(running.ca.client(None, &["h2"])).await.unwrap();
    let mut silent = Client(TcpStream::connect(running.address).await.unwrap());
    assert_eq!(slow.answer().await, None);
    assert_eq!(silent.answer().await, None);
    // HTTP/2 says something when it starts and when it ends; what counts is that it ends.
    let mut rest = Vec::new();
    tokio::time::timeout(WAIT, silent_http2.0.read_to_end(&mut rest)).await.expect("closed").ok();
    assert!(running.counts("podseal_tls_handshake_failures_total 1"));
}

#[tokio::test]
async fn h16_an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let timing = Timing { idle: Duration::from_millis(400), close: Duration::from_millis(200), ..quick() };
    let running = start_tls(small(), timing).await;
    let (mut busy, mut idle) = (running.connect().await, running.connect().await);
    idle.post("/validate", "{}").await;
    for _ in 0..20 {
        assert_eq!(busy.post("/validate", "{}").await.0, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(idle.answer().await, None);
}

#[tokio::test]
async fn h12_beyond_the_limit_a_review_is_turned_away_at_once() {
    let running = start_tls(Limits { in_flight: 1, ..small() }, quick()).await;
    let [entered, release, _] = &running.puppet;
    let mut first = running.connect().await;
    first.send(&post_of("/validate", "application/json", "wait")).await;
    entered.notified().await;
    assert_eq!(running.post("/validate", "{}").await, (StatusCode::OK, "overloaded".to_owned()));
    assert_eq!(running.post("/validate-policy", "{}").await, (StatusCode::OK, "overloaded".to_owned()));
    assert!(running.counts("podseal_shed_total 2"));
    release.notify_one();
    assert_eq!(first.answer().await.unwrap().1, "waited");
    assert_eq!(running.post("/validate", "{}").await.1, "judged 2");
}

#[tokio::test]
async fn e8_a_panic_is_a_denial_and_is_counted() {
    let running = start_tls(Limits { in_flight: 1, ..small() }, quick()).await;
    let mut client = running.connect().await;
    assert_eq!(client.post("/validate", "panic").await, (StatusCode::OK, "internal error".to_owned()));
    assert_eq!(client.post("/validate", "panic later").await, (StatusCode::OK, "internal error".to_owned()));
    assert_eq!(client.post("/validate-policy", "panic").await, (StatusCode::OK, "internal error".to_owned()));
    assert!(running.counts("podseal_panics_total 3"));
    assert_eq!(client.post("/validate", "{}").await.1, "judged 2", "the slot was given back");
}

#[tokio::test]
async fn h4_a_review_that_overruns_is_ended_with_a_denial_in_time() {
    let running = start_tls(small(), quick()).await;
    let started = Instant::now();
    assert_eq!(running.post("/validate?timeout=1s", "forever").await.1, "internal error");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_end_the_review() {
    let running = start_tls(small(), quick()).await;
    let [entered, release, finished] = &running.puppet;
    let mut client = running.connect().await;
    client.send(&post_of("/validate", "application/json", "wait")).await;
    entered.notified().await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    release.notify_one();
    tokio::time::timeout(WAIT, finished.notified()).await.expect("the review went on");
}

#[tokio::test]
async fn h3_a_new_certificate_is_served_and_the_open_connection_lives_on() {
    let running = start_tls(small(), quick()).await;
    let config = running.ca.client(None, &["http/1.1"]);
    let mut open = running.connect_with(config.clone()).await.unwrap();
    assert_eq!(open.post("/validate", "{}").await.0, StatusCode::OK);
    let before = shown(&open);
    running.tls.as_ref().unwrap().replace(&running.ca.serving()).unwrap();
    assert_eq!(open.post("/validate", "{}").await.0, StatusCode::OK);
    // The same client configuration has a session to resume, which must not bring the old certificate back.
    let mut new = running.connect_with(config).await.unwrap();
    assert_ne!(shown(&new), before);
    assert_eq!(new.post("/validate", "{}").await.0, StatusCode::OK);
    assert!(running.counts("podseal_tls_reloads_total{result=\"done\"} 1"));
}

fn shown(client: &Client<TlsStream<TcpStream>>) -> CertificateDer<'static> {
    client.0.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn h3_a_bad_pair_keeps_the_old_one() {
    let running = start_tls(small(), quick()).await;
    let tls = running.tls.as_ref().unwrap();
    let before = shown(&running.connect().await);
    let mixed = Pem { key: running.ca.serving().key, ..running.ca.serving() };
    assert!(matches!(tls.replace(&mixed), Err(TlsError::Pair(_))));
    let empty = Pem { certificate: Vec::new(), ..running.ca.serving() };
    assert!(matches!(tls.replace(&empty), Err(TlsError::Pem("certificate"))));
    let no_key = Pem { key: b"-----BEGIN SECRET-----\nsesame".to_vec(), ..running.ca.serving() };
    let error = tls.replace(&no_key).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sesame"), "a key file never reaches a message");
    assert_eq!(shown(&running.connect().await), before);
    assert!(running.counts("podseal_tls_reloads_total{result=\"failed\"} 3"));
}

#[tokio::test]
async fn h3_changed_files_are_found_and_half_changed_ones_do_no_harm() {
    let running = start_tls(small(), quick()).await;
    let directory = tempfile::tempdir().unwrap();
    let files =
        Files { certificate: directory.path().join("tls.crt"), key: directory.path().join("tls.key"), client_ca: None };
    let write = |pem: &Pem, with_key: bool| {
        std::fs::write(&files.certificate, &pem.certificate).unwrap();
        if with_key {
            std::fs::write(&files.key, &pem.key).unwrap();
        }
    };
    let (first, second) = (running.ca.serving(), running.ca.serving());
    write(&first, true);
    let tls = running.tls.clone().unwrap();
    let watch = tokio::spawn(tls.watch(files.clone(), Duration::from_millis(20)));
    let served = |expected: &Pem| CertificateDer::from_pem_slice(&expected.certificate).unwrap();
    let until_served = async |expected: &Pem| {
        for _ in 0..200 {
            if shown(&running.connect().await) == served(expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the pair is not served");
    };
    until_served(&first).await;
    write(&second, false);
    let failed = "podseal_tls_reloads_total{result=\"failed\"} 1";
    while !running.counts(failed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Several more looks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(shown(&running.connect().await), served(&first), "the old pair is served");
    assert!(running.counts(failed), "reported once");
    std::fs::write(&files.key, &second.key).unwrap();
    until_served(&second).await;
    std::fs::remove_file(&files.key).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.post("/validate", "{}").await.0, StatusCode::OK);
    watch.abort();
}

#[tokio::test]
async fn g8_tls_1_1_is_refused() {
    let running = start_tls(small(), quick()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // ClientHello of TLS 1.1 (RFC 4346) with two of its suites and the extension for signature algorithms.
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    stream.write_all(&record).await.unwrap();
    let mut alert = Vec::new();
    tokio::time::timeout(WAIT, stream.read_to_end(&mut alert)).await.unwrap().ok();
    assert_eq!(alert.first(), Some(&0x15), "an alert");
    assert_eq!(alert.get(5..7), Some(&[2, 70][..]), "fatal, protocol_version");
}

#[tokio::test]
async fn g8_tls_1_2_and_1_3_are_spoken_with_aead_suites() {
    let running = start_tls(small(), quick()).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(running.ca.params.self_signed(&running.ca.key).unwrap().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = running.connect_with(config).await.unwrap();
        assert_eq!(client.post("/validate", "{}").await.0, StatusCode::OK);
        let suite = format!("{:?}", client.0.get_ref().1.negotiated_cipher_suite().unwrap().suite());
        assert!(suite.contains("GCM") || suite.contains("CHACHA20"), "{suite}");
    }
}

#[tokio::test]
async fn h17_http2_works_and_announces_its_limits() {
    let running = start_tls(small(), quick()).await;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(running.ca.client(None, &["h2"]))
        .resolve(HOST, running.address)
        .build()
        .unwrap();
    let url = format!("https://{HOST}:{}/validate", running.address.port());
    let send = |body: String| client.post(&url).header("content-type", "application/json").body(body).send();
    let answer = send("{}".to_owned()).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "judged 2");
    assert_eq!(send("x".repeat(2000)).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut raw = running.connect_with(running.ca.client(None, &["h2"])).await.unwrap();
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.0.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut head = [0; 9];
    raw.0.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS comes first");
    let mut settings = vec![0; usize::from(head[2])];
    raw.0.read_exact(&mut settings).await.unwrap();
    let value = |id: u8| {
        let setting = settings.chunks(6).find(|setting| setting[1] == id).unwrap();
        u32::from_be_bytes(setting[2..].try_into().unwrap())
    };
    assert_eq!(value(3), 250, "streams");
    assert_eq!(value(6), 16 * 1024, "header list");
}

#[tokio::test]
async fn a_drain_turns_unready_then_refuses_connections_and_finishes_what_is_in_flight() {
    let running = start_tls(small(), quick()).await;
    let [entered, release, _] = running.puppet.clone();
    let mut in_flight = running.connect().await;
    let mut idle = running.connect().await;
    assert_eq!(idle.get("/readyz").await.0, StatusCode::OK);
    let mut asking = running.connect().await;
    in_flight.send(&post_of("/validate", "application/json", "wait")).await;
    entered.notified().await;
    running.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (status, text) = asking.get("/readyz").await;
    assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n"));
    // Endpoints still lead here, so new connections are still answered.
    let mut new = connect_to(running.address, running.ca.client(None, &["http/1.1"])).await.unwrap();
    assert_eq!(new.post("/validate", "{}").await.0, StatusCode::OK);
    assert_eq!(idle.answer().await, None, "idle connections are closed");
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens");
    assert!(!running.server.is_finished(), "the review is waited for");
    release.notify_one();
    assert_eq!(in_flight.answer().await.unwrap().1, "waited");
    tokio::time::timeout(WAIT, running.server).await.unwrap().unwrap();
}

/// A client of HTTP/1.1, such as an API server, that sends a review on a connection which is closed at that moment does not
/// ask again. Before the drain ends idle connections, answers have ended those in use.
#[tokio::test]
async fn while_it_drains_each_answer_ends_its_connection() {
    let running = start_tls(small(), Timing { drain_delay: Duration::from_secs(60), ..quick() }).await;
    let [entered, release, _] = running.puppet.clone();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = running.connect().await;
        // Twice: neither of them is the last.
        assert_eq!(client.post("/validate", "{}").await.0, StatusCode::OK);
        assert_eq!(client.post("/validate", "{}").await.0, StatusCode::OK);
        clients.push(client);
    }
    let [mut in_flight, mut idle] = <[_; 2]>::try_from(clients).ok().unwrap();
    in_flight.send(&post_of("/validate", "application/json", "wait")).await;
    entered.notified().await;
    running.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    release.notify_one();
    let mut new = connect_to(running.address, running.ca.client(None, &["http/1.1"])).await.unwrap();
    for client in [&mut idle, &mut new] {
        client.send(&post_of("/validate", "application/json", "{}")).await;
    }
    for client in [in_flight, idle, new] {
        let Client(mut stream) = client;
        let mut text = String::new();
        tokio::time::timeout(WAIT, stream.read_to_string(&mut text)).await.expect("it is closed").unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nconnection: close\r\n"), "{text}");
    }
    assert!(!running.server.is_finished());
}

/// A client of HTTP/2 may have a request on its way while it is told that the connection ends. A socket that were gone
/// then would answer with a reset, and the client would never read that it may ask another replica.
#[tokio::test]
async fn a_drain_is_heard_by_a_client_that_has_just_sent_a_request() {
    const GOAWAY: u8 = 7;
    const PING: u8 = 6;
    let running = start_tls(small(), Timing { drain_delay: Duration::ZERO, ..quick() }).await;
    let mut client = running.connect_with(running.ca.client(None, &["h2"])).await.unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.0.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(client.frame().await.unwrap().0, 4, "SETTINGS comes first");
    running.stop.send(()).unwrap();
    let ping = loop {
        let (kind, payload) = client.frame().await.unwrap();
        if kind == PING {
            break payload;
        }
    };
    client.0.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0], &ping[..]].concat()).await.unwrap();
    client.0.flush().await.unwrap();
    // The server has nothing more to do by now, and this client has not read so yet: it asks (:method POST), twice, since
    // the first of two is what a reset answers.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for stream in [1, 3] {
        client.0.write_all(&[0, 0, 1, 1, 4, 0, 0, 0, stream, 0x83]).await.expect("the connection is still there");
        client.0.flush().await.expect("the connection is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut last = None;
    while let Some((kind, payload)) = client.frame().await {
        last = (kind == GOAWAY).then_some(payload).or(last);
    }
    assert_eq!(last.expect("it says that it goes")[..4], [0; 4], "no request was accepted: all may be asked elsewhere");
    drop(client);
    tokio::time::timeout(Duration::from_secs(1), running.server).await.expect("it ends with its client").unwrap();
}

#[tokio::test]
async fn a_drain_ends_even_if_a_review_does_not() {
    let timing = Timing { drain_delay: Duration::ZERO, drain: Duration::from_millis(200), ..quick() };
    let running = start_tls(small(), timing).await;
    let mut client = running.connect().await;
    client.send(&post_of("/validate?timeout=30s", "application/json", "wait")).await;
    running.puppet[0].notified().await;
    running.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(2), running.server).await.expect("ended").unwrap();
    assert_eq!(client.answer().await, None);
}

#[tokio::test]
async fn plain_http_answers_probes_and_never_reviews() {
    let running = start(small(), quick(), None, Ca::new()).await;
    let mut client = Client(TcpStream::connect(running.address).await.unwrap());
    assert_eq!(client.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(client.get("/readyz").await.0, StatusCode::OK);
    assert!(client.get("/metrics").await.1.contains("podseal_build_info"));
    assert_eq!(client.post("/validate", "{}").await.0, StatusCode::FORBIDDEN);
    assert_eq!(client.post("/validate-policy", "{}").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn where_client_certificates_are_demanded_the_others_get_probes_alone() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let pem = Pem { client_ca: Some(clients.pem().into()), ..ca.serving() };
    let running = start(small(), quick(), Some(pem), ca).await;
    let known = running.ca.client(Some(&clients), &["http/1.1"]);
    assert_eq!(running.connect_with(known).await.unwrap().post("/validate", "{}").await.0, StatusCode::OK);
    let mut unknown = running.connect().await;
    assert_eq!(unknown.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(unknown.post("/validate", "{}").await.0, StatusCode::FORBIDDEN);
    // In TLS 1.3 the client learns of the refusal with its first read.
    let stranger = running.ca.client(Some(&strangers), &["http/1.1"]);
    if let Ok(mut stranger) = running.connect_with(stranger).await {
        let _ = stranger.0.write_all(post_of("/validate", "application/json", "{}").as_bytes()).await;
        assert_eq!(stranger.answer().await, None);
    }
    let without = running.ca.serving();
    assert!(matches!(running.tls.as_ref().unwrap().replace(&without), Err(TlsError::ClientCaGone)));
}

#[tokio::test]
async fn h16_connections_beyond_the_limit_wait_for_a_free_place() {
    let running = start_tls(small(), Timing { connections: 1, ..quick() }).await;
    let mut first = running.connect().await;
    assert_eq!(first.post("/validate", "{}").await.0, StatusCode::OK);
    let config = running.ca.client(None, &["http/1.1"]);
    let second = running.connect_with(config);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err());
    drop(first);
    assert_eq!(second.await.unwrap().post("/validate", "{}").await.0, StatusCode::OK);
}

#[tokio::test]
async fn h16_one_client_cannot_hold_all_connections() {
    let running = start_tls(small(), Timing { per_client: 2, ..quick() }).await;
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.post("/validate", "{}").await.0, StatusCode::OK);
    }
    let mut third = TcpStream::connect(running.address).await.unwrap();
    let ended = tokio::time::timeout(WAIT, third.read(&mut [0; 1])).await.expect("ended");
    assert!(matches!(ended, Ok(0) | Err(_)), "one too many is closed");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(running.address).await.unwrap();
    let open = tokio::time::timeout(Duration::from_millis(50), other.read(&mut [0; 1])).await;
    assert!(open.is_err(), "another client is not turned away: {open:?}");
    assert_eq!(first.post("/validate", "{}").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a17_h12_pins_are_asked_for_on_a_path_of_their_own_and_fail_in_their_own_way() {
    let limits = Limits { in_flight: 1, ..Limits::default() };
    let running = start_tls(limits, quick()).await;
    assert_eq!(running.post("/mutate", "pins").await, (StatusCode::OK, "pinned".to_owned()));
    let budget: u128 = running.post("/mutate?timeout=3s", "budget").await.1.parse().unwrap();
    assert!((2000..=2500).contains(&budget), "{budget}");
    for order in ["panic", "panic later"] {
        assert_eq!(running.post("/mutate", order).await.1, "internal error, not pinned");
        assert_eq!(running.post("/validate", order).await.1, "internal error");
    }
    assert_eq!(running.post("/mutate?timeout=1s", "forever").await.1, "internal error, not pinned");
    let (connected, [entered, release, _]) = (running.connect(), &running.puppet);
    let mut waiting = connected.await;
    waiting.send(&post_of("/mutate", "application/json", "wait")).await;
    entered.notified().await;
    assert_eq!(running.post("/mutate", "pins").await.1, "overloaded, not pinned");
    assert_eq!(running.post("/validate", "x").await.1, "overloaded");
    release.notify_one();
    assert_eq!(waiting.answer().await.expect("an answer").1, "waited");
}
