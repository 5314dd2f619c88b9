//! Tokens of the distribution project's token service: by GET with a password or anonymously, by `OAuth2` POST with an
//! identity token. Specifications: distribution `spec/auth/token.md` and `oauth.md`.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Challenge;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};
use crate::source::credentials::Credential;
use crate::source::http::{Form, Home, Request, Upstream};
use crate::source::{SourceConfig, UpstreamKind};

const MAX_ANSWER: usize = 1024 * 1024;
/// Longer than any token that a server would take back in a header.
const MAX_TOKEN: usize = 128 * 1024;
/// What the specification says when `expires_in` is missing.
const DEFAULT_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(60 * 60);
/// Token services outside the registry's host that belong to it.
const KNOWN_SERVICES: [(&str, &str); 3] =
    [("docker.io", "auth.docker.io"), ("notary.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// The token service that a registry named.
#[derive(Debug, Clone)]
pub(super) struct TokenService {
    pub(super) realm: Url,
    service: Option<String>,
    /// May receive credentials of this registry.
    pub(super) trusted: bool,
}

/// What a token is to allow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action<'a> {
    /// The repository as the server calls it.
    pub(super) name: &'a str,
    /// To write, besides reading.
    pub(super) push: bool,
}

/// What asking for a token came to.
pub(super) enum Issued {
    Token {
        header: HeaderValue,
        ttl: Duration,
    },
    /// The service does not accept the credential, or gives nothing to the anonymous.
    Rejected,
}

impl TokenService {
    /// Reads a Bearer challenge; the error says why its service is not asked at all.
    ///
    /// Credentials go to the registry's own host, to services known to belong to it and to those the administrator
    /// listed; to any other service only an anonymous request goes. A service without TLS is asked only on the host
    /// of a registry that is `insecure` itself.
    pub(super) fn read(
        challenge: &Challenge,
        home: &Home<'_>,
        repository: &Repository,
        config: &SourceConfig,
    ) -> Result<Self, &'static str> {
        let realm = challenge.parameter("realm").and_then(|r| Url::parse(r).ok()).filter(Url::has_host);
        let realm = realm.ok_or("names a token service that is not a URL")?;
        if !realm.username().is_empty() || realm.password().is_some() {
            return Err("names a token service with a password in its URL");
        }
        match realm.scheme() {
            "https" => {}
            "http" if home.insecure && home.owns(&realm) && (home.may_lack_tls() || home.plain) => {}
            _ => return Err("names a token service without TLS"),
        }
        let trusted = home.owns(&realm) || is_listed(&realm, repository.host(), config);
        let service = challenge.parameter("service").filter(|s| !s.is_empty()).map(str::to_owned);
        Ok(Self { realm, service, trusted })
    }

    pub(super) fn host(&self) -> &str {
        self.realm.host_str().unwrap_or_default()
    }

    /// The request for a token with a credential, or anonymously. `None` when the credential has no form that a token
    /// service takes.
    fn request(&self, action: Action<'_>, credential: Option<&Credential>) -> Option<Request> {
        let scope = format!("repository:{}:{}", action.name, if action.push { "pull,push" } else { "pull" });
        let mut request = Request {
            method: Method::GET,
            url: self.realm.clone(),
            accept: Some("application/json"),
            authorization: None,
            credential: credential.map(Credential::id).unwrap_or_default(),
            form: None,
            content: None,
            limit: MAX_ANSWER,
        };
        if let Some(token) = credential.and_then(Credential::identity_token) {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "podseal");
            form.append_pair("service", self.service.as_deref().unwrap_or_default());
            form.append_pair("scope", &scope).append_pair("refresh_token", token);
            request.method = Method::POST;
            request.form = Some(Form(form.finish()));
            return Some(request);
        }
        if let Some(credential) = credential {
            request.authorization = Some(super::basic_header(credential)?);
        }
        let mut query = request.url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &scope);
        drop(query);
        Some(request)
    }
}

fn is_listed(realm: &Url, registry: &str, config: &SourceConfig) -> bool {
    let host = realm.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", realm.port_or_known_default().unwrap_or_default());
    // The pairs that come with podseal are for the standard port.
    let known = realm.port().is_none() && KNOWN_SERVICES.contains(&(registry, host));
    known || config.token_realms.iter().any(|(r, h)| r == registry && (h == host || *h == with_port))
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Upstream {
    /// Asks for a token to pull from the repository, or to push to it. A service that fails is a fault, not a rejection.
    pub(super) async fn token(
        &self,
        service: &TokenService,
        home: &Home<'_>,
        action: Action<'_>,
        credential: Option<&Credential>,
    ) -> Result<Issued, Fault> {
        let Some(request) = service.request(action, credential) else { return Ok(Issued::Rejected) };
        let subject = format!("{}, token service {}", home.subject, service.host());
        let home = Home { kind: UpstreamKind::Token, subject: subject.into(), ..home.clone() };
        let answer = self.exchange(&home, &request).await?;
        match answer.status {
            StatusCode::OK => read_token(&home, &answer.body),
            // 400 is what OAuth2 says to a bad refresh token (RFC 6749 section 5.2), 404 and 405 what a service
            // without that endpoint says.
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED => Ok(Issued::Rejected),
            status => Err(home.fault(FaultKind::BadAnswer, format_args!("status {} for a token", status.as_u16()))),
        }
    }
}

fn read_token(home: &Home<'_>, body: &[u8]) -> Result<Issued, Fault> {
    let bad = || home.fault(FaultKind::BadAnswer, "the answer holds no usable token");
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| bad())?;
    let given = |t: &Option<String>| t.clone().filter(|t| !t.is_empty() && t.len() <= MAX_TOKEN);
    let token = given(&answer.token).or_else(|| given(&answer.access_token)).ok_or_else(bad)?;
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad())?;
    header.set_sensitive(true);
    let ttl = answer.expires_in.map_or(DEFAULT_TTL, Duration::from_secs).min(MAX_TTL);
    // Not used in its last moments, so that it is still valid when it arrives.
    let skew = (ttl / 10).max(Duration::from_secs(5));
    Ok(Issued::Token { header, ttl: ttl.saturating_sub(skew) })
}
