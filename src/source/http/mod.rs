//! Requests to servers that are not trusted: bounded in time, size, number and destination.
//!
//! ```text
//!  exchange   tries again what failed for now ──┐
//!  └─ attempt   one try, redirects and body included, within one time limit
//!     └─ follow   redirects by hand: at most five, `Authorization` left behind with its origin
//!        └─ hop     one request: address check, the right client, a place among the host's requests
//! ```
//! Nothing is decompressed: what is hashed is what was sent.

mod clients;
mod failure;
mod hop;
mod limits;
mod retry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::future::Cache;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

use self::clients::Clients;
use self::hop::Scheme;
pub(super) use self::hop::same_origin;
use self::limits::HostLimits;
use super::access::Transport;
use super::auth::Known;
use super::certificate::Presented;
use super::extension::Announced;
use super::guard::AddressGuard;
use super::{SourceConfig, UpstreamKind};
use crate::fault::{Fault, FaultKind};

const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REDIRECTS: usize = 5;
/// So much of an error's body is read, and for so long; it only serves messages.
const ERROR_BODY: usize = 64 * 1024;
const ERROR_BODY_TIME: Duration = Duration::from_secs(1);

/// Connections, tokens and limits for all upstream servers. One per process; cheap to share in an `Arc`.
pub struct Upstream {
    clients: Clients,
    limits: HostLimits,
    /// What `insecure` hosts were found to speak, by host and port.
    schemes: Cache<Box<str>, Scheme>,
    guard: AddressGuard,
    pub(super) known: Known,
    /// Registries that keep signatures themselves, or do not.
    pub(super) announced: Announced,
    pub(super) config: SourceConfig,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The server that a request is made for, and the rules that come with it.
#[derive(Debug, Clone)]
pub(super) struct Home<'a> {
    /// Its host name as URLs have it, without port.
    pub(super) host: String,
    /// The port, when it was written out.
    pub(super) port: Option<u16>,
    /// Whether `insecure` applies to this host.
    pub(super) insecure: bool,
    /// Whether plain HTTP was asked for by the URL itself (signature stores; nothing secret is sent to them).
    pub(super) plain: bool,
    /// Whether redirects stay on the host where they begin.
    pub(super) confined: bool,
    pub(super) transport: &'a Transport,
    pub(super) deadline: Instant,
    pub(super) kind: UpstreamKind,
    /// What messages blame: `registry r.example, repository a/b`.
    pub(super) subject: Arc<str>,
}

impl Home<'_> {
    pub(super) fn fault(&self, kind: FaultKind, what: impl fmt::Display) -> Fault {
        Fault::new(kind, format!("{}: {what}", self.subject))
    }

    /// Whether plain HTTP may stand for TLS on this host. Never for a Notary server, which `insecure` spares the
    /// verification of its certificate alone: its URL says which of the two it speaks, and over plain HTTP it gets no
    /// credentials.
    pub(super) fn may_lack_tls(&self) -> bool {
        self.insecure && self.kind != UpstreamKind::Notary
    }

    /// The client certificate that the server of this URL may see, if any: of requests made for that very server.
    pub(super) fn certificate(&self, url: &Url) -> Option<&Presented> {
        self.transport.certificate.as_ref().filter(|certificate| self.owns(url) && certificate.is_for(url))
    }

    /// What to add to a status with which web servers, nginx among them, refuse a client certificate.
    pub(super) fn about_certificate(&self, status: StatusCode) -> &'static str {
        if status == StatusCode::BAD_REQUEST && self.transport.certificate.is_some() {
            "; nginx answers so when it does not accept the client certificate"
        } else {
            ""
        }
    }

    /// Whether the URL is on this very host; ports are not compared.
    pub(super) fn owns(&self, url: &Url) -> bool {
        url.host_str() == Some(self.host.as_str())
    }
}

/// A request without its retries and redirects.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// GET, HEAD, POST with a form; to write, POST, PATCH or PUT.
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    /// For the URL's origin only. Marked sensitive, so it is not printed.
    pub(super) authorization: Option<HeaderValue>,
    /// Hash of the credential on whose account the request goes; zero when anonymous.
    pub(super) credential: [u8; 32],
    pub(super) form: Option<Form>,
    /// What is written.
    pub(super) content: Option<Content>,
    /// Bytes of a successful body.
    pub(super) limit: usize,
}

/// A form body, which may hold secrets.
#[derive(Clone)]
pub(super) struct Form(pub(in crate::source) String);

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(…)")
    }
}

/// What a request writes. Nothing in it is secret.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) media_type: Option<HeaderValue>,
    /// `Content-Range` as the distribution specification has it: first and last byte of this part.
    pub(super) range: Option<(u64, u64)>,
    /// Nothing that is there already may be replaced (`If-None-Match: *`).
    pub(super) only_new: bool,
}

impl Request {
    /// Whether it changes something on the server. A form only asks for a token.
    pub(super) fn writes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD) && self.form.is_none()
    }

    /// How often it may be sent. A part of an upload is sent once: whether it arrived is for the caller to ask.
    fn tries(&self) -> u32 {
        if self.method == Method::PATCH { 1 } else { retry::MAX_TRIES }
    }
}

/// A complete answer. Its status is neither 429 nor one of the transient 5xx.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most the request's limit; of an error cut off at 64 KiB.
    pub(super) body: Bytes,
    /// Where it came from after redirects.
    pub(super) url: Url,
}

/// Why a try failed, and whether another one may succeed.
#[derive(Debug)]
struct Failure {
    fault: Fault,
    again: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, again: false }
    }
}

impl Upstream {
    /// Sets up clients and limits. The error says what in the configuration cannot be used.
    pub fn new(config: SourceConfig) -> Result<Self, String> {
        let guard = AddressGuard::new(&config);
        Ok(Self {
            clients: Clients::new(guard.clone(), config.extra_ca.as_deref())?,
            limits: HostLimits::new(config.per_host),
            schemes: hop::scheme_memory(),
            guard,
            known: Known::default(),
            announced: Announced::default(),
            config,
        })
    }

    /// Replaces the administrator's PEM certificates. What cannot be read changes nothing.
    pub fn set_extra_ca(&self, pem: &[u8]) -> Result<(), String> {
        self.clients.set_extra(pem)
    }

    /// Replaces the addresses of the API server, which guarded requests may not lead to.
    pub fn set_api_servers(&self, addresses: &[std::net::IpAddr]) {
        self.guard.set_api_servers(addresses);
    }

    /// Asks until there is an answer that is not "not now": at most three times and never past the deadline.
    pub(super) async fn exchange(&self, home: &Home<'_>, request: &Request) -> Result<Answer, Fault> {
        let mut tried = 0;
        loop {
            tried += 1;
            self.wait_out_pause(home, request).await?;
            let started = Instant::now();
            let result = self.attempt(home, request).await;
            self.observe(home.kind, started.elapsed(), &result);
            let (fault, pause) = match result {
                Ok(answer) if !retry::is_transient(answer.status) => return Ok(answer),
                Ok(answer) => self.not_now(home, request, &answer, tried).await,
                Err(Failure { fault, again: true }) => (fault, retry::backoff(tried)),
                Err(Failure { fault, again: false }) => return Err(fault),
            };
            let next = Instant::now() + pause.min(Duration::from_secs(60 * 60));
            if tried >= request.tries() || next >= home.deadline {
                return Err(fault);
            }
            sleep_until(next).await;
        }
    }

    /// The fault for a transient status, and the pause before the next try. What the server asked for holds for every
    /// request with the same credential, not only for this one.
    async fn not_now(&self, home: &Home<'_>, request: &Request, answer: &Answer, tried: u32) -> (Fault, Duration) {
        let asked = retry::retry_after(&answer.headers, jiff::Timestamp::now());
        let pause = asked.unwrap_or_default().max(retry::backoff(tried));
        let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
        if limited || asked.is_some() {
            self.limits.pause(&hop::host_key(&answer.url), request.credential, pause).await;
        }
        let fault = if limited {
            home.fault(FaultKind::RateLimited, "too many requests (429), and no time is left to wait; try again later")
        } else {
            home.fault(FaultKind::BadAnswer, format_args!("the server failed with status {}", answer.status.as_u16()))
        };
        (fault, pause)
    }

    async fn wait_out_pause(&self, home: &Home<'_>, request: &Request) -> Result<(), Fault> {
        match self.limits.paused_until(&hop::host_key(&request.url), request.credential).await {
            None => Ok(()),
            Some(until) if until < home.deadline => {
                sleep_until(until).await;
                Ok(())
            }
            Some(_) => Err(home.fault(FaultKind::RateLimited, "the server asked for a pause; try again later")),
        }
    }

    async fn attempt(&self, home: &Home<'_>, request: &Request) -> Result<Answer, Failure> {
        let limit = self.config.request_timeout;
        let limit = if limit.is_zero() { DEFAULT_REQUEST_TIMEOUT } else { limit };
        let until = home.deadline.min(Instant::now() + limit);
        match timeout_at(until, self.follow(home, request, until)).await {
            Ok(result) => result,
            Err(_) => Err(home.fault(FaultKind::Timeout, "no complete answer in time").into()),
        }
    }

    async fn follow(&self, home: &Home<'_>, request: &Request, until: Instant) -> Result<Answer, Failure> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization.clone();
        for _ in 0..=MAX_REDIRECTS {
            let hop = self.hop(home, request, &url, authorization.as_ref(), until).await?;
            let Some(next) = hop::redirect_target(home, request, &hop)? else {
                return receive(home, request, hop).await;
            };
            if !same_origin(home, &hop.url, &next) {
                // For good: a later hop back to the first host does not bring it back.
                authorization = None;
            }
            url = next;
        }
        Err(home.fault(FaultKind::BadAnswer, format_args!("more than {MAX_REDIRECTS} redirects")).into())
    }

    fn observe(&self, kind: UpstreamKind, took: Duration, result: &Result<Answer, Failure>) {
        if let Some(observer) = &self.config.observer {
            let result = result.as_ref().map(|a| a.status.as_u16()).map_err(|f| f.fault.kind());
            observer(kind, took, result);
        }
    }
}

/// Reads the body: all of a success, or a fault; the beginning of an error.
async fn receive(home: &Home<'_>, request: &Request, mut hop: hop::Hop) -> Result<Answer, Failure> {
    let (status, headers) = (hop.response.status(), std::mem::take(hop.response.headers_mut()));
    let body = if request.method == Method::HEAD {
        Bytes::new()
    } else if status.is_success() {
        read_all(home, &mut hop.response, request.limit).await?
    } else {
        read_start(&mut hop.response).await
    };
    Ok(Answer { status, headers, body, url: hop.url })
}

async fn read_all(home: &Home<'_>, response: &mut reqwest::Response, limit: usize) -> Result<Bytes, Failure> {
    let too_large = || home.fault(FaultKind::TooLarge, format_args!("the answer has more than {limit} bytes"));
    if response.content_length().is_some_and(|n| n > limit as u64) {
        return Err(too_large().into());
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if chunk.len() <= limit.saturating_sub(body.len()) => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(too_large().into()),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => {
                let fault = home.fault(FaultKind::Unreachable, "the answer broke off");
                return Err(Failure { fault: fault.with_detail(failure::chain(error)), again: true });
            }
        }
    }
}

/// An error's body must not cost more than it is worth: whatever of it comes soon.
async fn read_start(response: &mut reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = ERROR_BODY.saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() >= room {
                break;
            }
        }
    };
    let _ = timeout(ERROR_BODY_TIME, read).await;
    body.freeze()
}
