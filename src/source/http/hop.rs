//! One request of a chain: where it may go, over what, and where it leads next.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use moka::future::Cache;
use reqwest::Client;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use url::Url;

use super::failure::{NO_CERTIFICATE_IN_THE_CLEAR, failure, may_be_plain, refused};
use super::{Failure, Home, Request, Upstream};
use crate::fault::{Fault, FaultKind};
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
        let certificate = home.certificate(url);
        if url.scheme() == "http" && own && home.transport.certificate.as_ref().is_some_and(|shown| shown.names(url)) {
            return Err(home.fault(FaultKind::Configuration, NO_CERTIFICATE_IN_THE_CLEAR).into());
        }
        let guarded = self.is_guarded(home, own).await;
        if guarded {
            self.guard.admit(url).await.map_err(|Refused| refused(home))?;
        }
        let ca = home.transport.ca.as_ref();
        let client = self.clients.get(ca, insecure, guarded, certificate).await;
        let client = client.map_err(|f| home.fault(f.kind(), f.message()))?;
        let Some(place) = self.limits.enter(&host_key(url), until).await else {
            return Err(home.fault(FaultKind::Overloaded, "too many requests to this server are in flight").into());
        };
        let sender = Sender { client, request, authorization };
        // With a certificate to show there is no going on without TLS.
        let may_lack_tls = home.may_lack_tls() && certificate.is_none();
        let (response, url) = if insecure && may_lack_tls && url.scheme() == "https" {
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
