//! One request of a chain: where it may go, over what, and where it leads next.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use moka::future::Cache;
use reqwest::Client;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use url::Url;

use super::{Failure, Home, Request, Upstream};
use crate::fault::{Fault, FaultKind};
use crate::source::UpstreamKind;
use crate::source::guard::Refused;

const MAX_SCHEMES: u64 = 1024;
const SCHEME_TTL: Duration = Duration::from_secs(5 * 60);

/// What an `insecure` host speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Tls,
    Plain,
}

/// The memory of [`Scheme`]s by host and port: bounded and short.
pub(super) fn scheme_memory() -> Cache<Box<str>, Scheme> {
    Cache::builder().max_capacity(MAX_SCHEMES).time_to_live(SCHEME_TTL).build()
}

/// The head of an answer and what is held while its body is read.
pub(super) struct Hop {
    pub(super) response: reqwest::Response,
    /// As it was requested: `http` where an `insecure` host does not speak TLS.
    pub(super) url: Url,
    _place: OwnedSemaphorePermit,
}

/// Host and port, for maps.
pub(super) fn host_key(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

impl Upstream {
    /// Sends one request, if its target is allowed.
    pub(super) async fn hop(
        &self,
        home: &Home<'_>,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
        until: Instant,
    ) -> Result<Hop, Failure> {
        let own = home.owns(url);
        let insecure = home.insecure && own;
        if url.scheme() == "http" && !(own && home.may_lack_tls()) && !home.plain {
            return Err(home.fault(FaultKind::BadAnswer, "led from https to plain http, which is not followed").into());
        }
        let guarded = self.is_guarded(home, own).await;
        if guarded {
            self.guard.admit(url).await.map_err(|Refused| refused(home))?;
        }
        let ca = home.transport.ca.as_ref();
        let client = self.clients.get(ca, insecure, guarded).await.map_err(|f| home.fault(f.kind(), f.message()))?;
        let Some(place) = self.limits.enter(&host_key(url), until).await else {
            return Err(home.fault(FaultKind::Overloaded, "too many requests to this server are in flight").into());
        };
        let sender = Sender { client, request, authorization };
        let (response, url) = if insecure && home.may_lack_tls() && url.scheme() == "https" {
            self.send_insecure(home, &sender, url).await?
        } else {
            (sender.send(url).await.map_err(|e| failure(home, url, e))?, url.clone())
        };
        Ok(Hop { response, url, _place: place })
    }

    /// Whether addresses are checked. Without [`Transport::guarded`](crate::source::access::Transport) the server
    /// itself may be anywhere, and what it leads to only where it already is: an internal registry may have an
    /// internal token service, an outer one may not.
    async fn is_guarded(&self, home: &Home<'_>, own: bool) -> bool {
        if home.transport.guarded {
            return true;
        }
        if own {
            return false;
        }
        match url::Host::parse(&home.host) {
            Ok(url::Host::Domain(name)) => !self.guard.is_refused(url::Host::Domain(name.as_str())).await,
            Ok(url::Host::Ipv4(a)) => !self.guard.is_refused(url::Host::Ipv4(a)).await,
            Ok(url::Host::Ipv6(a)) => !self.guard.is_refused(url::Host::Ipv6(a)).await,
            Err(_) => true,
        }
    }

    /// Unverified TLS first; plain HTTP when the server does not speak TLS. What worked is remembered for some minutes.
    async fn send_insecure(
        &self,
        home: &Home<'_>,
        sender: &Sender<'_>,
        url: &Url,
    ) -> Result<(reqwest::Response, Url), Failure> {
        let key = host_key(url).into_boxed_str();
        let remembered = self.schemes.get(&key).await;
        if remembered != Some(Scheme::Plain) {
            match sender.send(url).await {
                Ok(response) => {
                    self.schemes.insert(key, Scheme::Tls).await;
                    return Ok((response, url.clone()));
                }
                // A host that spoke TLS a moment ago is not downgraded because of one failure.
                Err(error) if remembered.is_none() && may_be_plain(&error) => {}
                Err(error) => {
                    self.schemes.invalidate(&key).await;
                    return Err(failure(home, url, error));
                }
            }
        }
        let plain = plain_url(home, url);
        match sender.send(&plain).await {
            Ok(response) => {
                self.schemes.insert(key, Scheme::Plain).await;
                Ok((response, plain))
            }
            Err(error) => {
                self.schemes.invalidate(&key).await;
                Err(failure(home, &plain, error))
            }
        }
    }
}

struct Sender<'a> {
    client: Client,
    request: &'a Request,
    authorization: Option<&'a HeaderValue>,
}

impl Sender<'_> {
    async fn send(&self, url: &Url) -> Result<reqwest::Response, reqwest::Error> {
        let mut builder = self.client.request(self.request.method.clone(), url.clone());
        if let Some(accept) = self.request.accept {
            builder = builder.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(form) = &self.request.form {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            builder = builder.header(header::CONTENT_TYPE, kind).body(form.0.clone());
        }
        if let Some(content) = &self.request.content {
            if let Some(kind) = &content.media_type {
                builder = builder.header(header::CONTENT_TYPE, kind.clone());
            }
            if let Some((first, last)) = content.range {
                builder = builder.header(header::CONTENT_RANGE, format!("{first}-{last}"));
            }
            if content.only_new {
                builder = builder.header(header::IF_NONE_MATCH, "*");
            }
            // A request that writes nothing yet states a length of 0, without which some servers refuse it.
            builder = builder.header(header::CONTENT_LENGTH, content.bytes.len()).body(content.bytes.clone());
        }
        builder.send().await
    }
}

/// The URL over plain HTTP, with the port that was written out: `host:443` stays 443, `host` becomes 80.
pub(super) fn plain_url(home: &Home<'_>, url: &Url) -> Url {
    let mut plain = url.clone();
    let port = written_port(home, url);
    // Both succeed for every https URL with a host.
    let _ = plain.set_scheme("http");
    let _ = plain.set_port(port);
    plain
}

/// The port of a URL on the home host, unless it is left to the scheme. URLs forget a port that is the scheme's own.
fn written_port(home: &Home<'_>, url: &Url) -> Option<u16> {
    url.port().or(home.port.filter(|p| url.port_or_known_default() == Some(*p)))
}

/// Whether `Authorization` may go along from one URL to the next.
pub(in crate::source) fn same_origin(home: &Home<'_>, from: &Url, to: &Url) -> bool {
    // A server without TLS is one origin under both schemes, if the port, written out or not, is the same.
    let insecure = home.may_lack_tls() && home.owns(from) && home.owns(to);
    (insecure && written_port(home, from) == written_port(home, to)) || from.origin() == to.origin()
}

/// Where the answer leads, if it is a redirect.
pub(super) fn redirect_target(home: &Home<'_>, request: &Request, hop: &Hop) -> Result<Option<Url>, Fault> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !redirects.contains(&hop.response.status()) {
        return Ok(None);
    }
    let bad = |what: &str| home.fault(FaultKind::BadAnswer, what);
    if request.form.is_some() {
        return Err(bad("a request with a secret was redirected, which is not followed"));
    }
    if request.writes() {
        return Err(bad("a request that writes was redirected, which is not followed; name the server itself"));
    }
    let location = hop.response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
    let target =
        location.and_then(|l| hop.url.join(l).ok()).ok_or_else(|| bad("a redirect without a usable target"))?;
    let web = matches!(target.scheme(), "http" | "https") && target.has_host();
    if !web || !target.username().is_empty() || target.password().is_some() {
        return Err(bad("a redirect to something that is not a plain web address"));
    }
    if home.confined && target.host_str() != hop.url.host_str() {
        return Err(bad("a redirect to another host, which is not followed here"));
    }
    Ok(Some(target))
}

fn refused(home: &Home<'_>) -> Fault {
    home.fault(
        FaultKind::AddressRefused,
        "leads to an address that is refused (loopback, link-local, metadata service or API server); \
         an administrator can allow it",
    )
}

/// Everything but name resolution, refused addresses and certificates may mean that nobody speaks TLS there.
fn may_be_plain(error: &reqwest::Error) -> bool {
    error.is_connect() && !error.is_dns() && !is_refused(error) && !is_certificate(error)
}

fn failure(home: &Home<'_>, url: &Url, error: reqwest::Error) -> Failure {
    if is_refused(&error) {
        return refused(home).into();
    }
    let at = if home.owns(url) { String::new() } else { format!(" (on {})", url.host_str().unwrap_or_default()) };
    let (what, again) = if is_certificate(&error) {
        ("the TLS certificate is not trusted; name its authority with caRef", false)
    } else if error.is_dns() {
        ("the host name does not resolve", false)
    } else if speaks_no_tls(&error) {
        (no_tls(home, url), false)
    } else if error.is_connect() {
        ("the server cannot be reached", false)
    } else {
        ("the connection broke off", !error.is_builder() && !error.is_timeout())
    };
    let fault = home.fault(FaultKind::Unreachable, format_args!("{what}{at}")).with_detail(chain(error));
    Failure { fault, again }
}

/// What somebody can do about a server that answers without TLS: what allows plain HTTP differs by who named the server.
fn no_tls(home: &Home<'_>, url: &Url) -> &'static str {
    match home.kind {
        UpstreamKind::Registry if home.owns(url) => "the server speaks plain HTTP; insecure: true allows that",
        UpstreamKind::Notary if home.owns(url) => {
            "the server speaks plain HTTP; a notary URL that begins with http:// allows that"
        }
        UpstreamKind::Store => "the server speaks plain HTTP; a store's URL that begins with http:// allows that",
        _ => "the server speaks plain HTTP, which is not followed",
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    any_cause(error, &|cause| cause.is::<Refused>())
}

fn is_certificate(error: &reqwest::Error) -> bool {
    any_cause(error, &|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// Whether the first bytes of the answer are no TLS record: in practice an HTTP server that complains in the clear.
fn speaks_no_tls(error: &reqwest::Error) -> bool {
    let no_record = rustls::InvalidMessage::InvalidContentType;
    any_cause(error, &|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(m)) if *m == no_record))
}

/// Searches the causes. An I/O error wraps its cause without naming it as its source.
fn any_cause(error: &(dyn Error + 'static), test: &dyn Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    test(error)
        || wrapped.is_some_and(|inner| any_cause(inner, test))
        || error.source().is_some_and(|source| any_cause(source, test))
}

/// The causes for the log, without the URL, whose query may be a signature.
pub(super) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
