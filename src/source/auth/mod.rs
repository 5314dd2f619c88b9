//! Who asks: challenges, credentials one after the other, tokens.
//!
//! ```text
//!  something known to work for this credential and repository? ── use it
//!  else ask without ── not 401/403 ─────────────────────────────► answer
//!        └─ 401/403: its challenge ─ each credential in order, then anonymously
//!                                     ├─ refused (401/403) ─ next one
//!                                     ├─ 404 and others left ─ next one (it may only be hidden from this one)
//!                                     └─ anything else ──────────────────────► answer
//!        none left ─► fault `Unauthorized`; never "not found"
//! ```
//! A credential goes to the registry it is for, over TLS unless the registry is `insecure`, and to a token service under
//! the rule of [`token::TokenService::read`]. Redirects lose it (see `http`).

mod challenge;
mod known;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

pub(super) use self::known::Known;
use self::known::{Pass, Scope};
use self::token::{Action, Issued, TokenService};
use super::access::Access;
use super::credentials::Credential;
use super::http::{Answer, Home, Request, Upstream, same_origin};
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// So many credentials of one keychain are tried.
const MAX_CREDENTIALS: usize = 16;
/// How long an accepted password is sent without asking first.
const BASIC_TTL: Duration = Duration::from_secs(10 * 60);

/// `Authorization: Basic`, for credentials that have a password.
pub(super) fn basic_header(credential: &Credential) -> Option<HeaderValue> {
    let (user, password) = credential.basic()?;
    let text = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// What is asked for, and on whose account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource<'a> {
    /// Credentials stored for it are used; its host names the account.
    pub(super) repository: &'a Repository,
    /// Its name as the server knows it, which tokens are for.
    pub(super) name: &'a str,
}

/// One question to a registry with everything that answering its challenges needs.
struct Session<'a> {
    upstream: &'a Upstream,
    home: &'a Home<'a>,
    resource: Resource<'a>,
    request: &'a Request,
    credentials: Vec<Credential>,
    transport: [u8; 32],
}

/// The ways to authenticate that a registry offers.
struct Offer {
    service: Option<TokenService>,
    basic: bool,
}

impl Upstream {
    /// Asks a registry on behalf of a keychain. The answer is never 401 or 403: those are a fault when no credential
    /// helps.
    pub(super) async fn authorized(
        &self,
        home: &Home<'_>,
        repository: &Repository,
        request: &Request,
        access: &Access,
    ) -> Result<Answer, Fault> {
        self.authorized_for(home, Resource { repository, name: repository.path() }, request, access).await
    }

    /// The same for a server that knows the repository by another name, or has an account of its own.
    pub(super) async fn authorized_for(
        &self,
        home: &Home<'_>,
        resource: Resource<'_>,
        request: &Request,
        access: &Access,
    ) -> Result<Answer, Fault> {
        let mut credentials = access.keychain.for_repository(resource.repository);
        credentials.truncate(MAX_CREDENTIALS);
        let transport = access.transport.id();
        let session = Session { upstream: self, home, resource, request, credentials, transport };
        if let Some(answer) = session.with_known().await? {
            return Ok(answer);
        }
        // The question without a credential goes on the account of the first one: a pause that a server imposed on
        // anonymous requests is not for those who have a credential.
        let credential = session.credentials.first().map(Credential::id).unwrap_or_default();
        let answer = self.exchange(home, &Request { credential, ..request.clone() }).await?;
        if is_refusal(answer.status) { session.answer_challenge(&answer).await } else { Ok(answer) }
    }
}

impl Session<'_> {
    /// With what worked before. Anonymous knowledge serves only those who have nothing else: with a credential they
    /// might see more.
    async fn with_known(&self) -> Result<Option<Answer>, Fault> {
        let anonymous = self.credentials.is_empty().then_some(None);
        for credential in self.credentials.iter().map(Some).chain(anonymous) {
            let scope = self.scope(credential);
            let Some(pass) = self.upstream.known.get(&scope).await else { continue };
            let answer = self.ask(credential, pass.header.clone()).await?;
            if is_refusal(answer.status) {
                self.upstream.known.forget(&scope).await;
                continue;
            }
            if answer.status != StatusCode::NOT_FOUND || pass.proved || self.credentials.len() <= 1 {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    async fn answer_challenge(&self, refusal: &Answer) -> Result<Answer, Fault> {
        if !same_origin(self.home, &self.request.url, &refusal.url) {
            // Another host's challenge says nothing about what may be sent to this registry or its token service.
            return Err(self.home.fault(FaultKind::Unauthorized, "redirected to a host that refuses access"));
        }
        let offer = self.read_offer(refusal)?;
        let mut hidden = None;
        for (i, credential) in self.credentials.iter().enumerate() {
            let Some(answer) = self.try_credential(&offer, Some(credential)).await? else { continue };
            if answer.status != StatusCode::NOT_FOUND || i + 1 == self.credentials.len() {
                return Ok(answer);
            }
            hidden.get_or_insert(answer);
        }
        if let Some(answer) = hidden {
            return Ok(answer);
        }
        match self.try_credential(&offer, None).await? {
            Some(answer) => Ok(answer),
            None => Err(self.unauthorized(&offer)),
        }
    }

    fn read_offer(&self, refusal: &Answer) -> Result<Offer, Fault> {
        let challenges = challenge::challenges(&refusal.headers);
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        let mut service = None;
        let mut reason = None;
        for bearer in challenges.iter().filter(|c| c.scheme == "bearer") {
            match TokenService::read(bearer, self.home, self.resource.repository, &self.upstream.config) {
                Ok(found) => {
                    service = Some(found);
                    break;
                }
                Err(why) => reason = Some(why),
            }
        }
        match reason {
            Some(why) if service.is_none() && !basic => Err(self.home.fault(FaultKind::BadAnswer, why)),
            _ => Ok(Offer { service, basic }),
        }
    }

    /// The answer under this credential; `None` when it cannot be used or is refused.
    async fn try_credential(&self, offer: &Offer, credential: Option<&Credential>) -> Result<Option<Answer>, Fault> {
        let Some((header, ttl)) = self.authorization(offer, credential).await? else { return Ok(None) };
        let answer = self.ask(credential, header.clone()).await?;
        if is_refusal(answer.status) {
            return Ok(None);
        }
        let pass = Pass { header, until: Instant::now() + ttl, proved: answer.status.is_success() };
        self.upstream.known.put(self.scope(credential), pass).await;
        Ok(Some(answer))
    }

    async fn authorization(
        &self,
        offer: &Offer,
        credential: Option<&Credential>,
    ) -> Result<Option<(HeaderValue, Duration)>, Fault> {
        if let Some(service) = offer.service.as_ref().filter(|s| s.trusted || credential.is_none()) {
            return match self.upstream.token(service, self.home, self.action(), credential).await? {
                Issued::Token { header, ttl } => Ok(Some((header, ttl))),
                Issued::Rejected => Ok(None),
            };
        }
        let basic = credential.filter(|_| offer.basic).and_then(basic_header);
        Ok(basic.map(|header| (header, BASIC_TTL)))
    }

    async fn ask(&self, credential: Option<&Credential>, header: HeaderValue) -> Result<Answer, Fault> {
        let request = Request {
            authorization: Some(header),
            credential: credential.map(Credential::id).unwrap_or_default(),
            ..self.request.clone()
        };
        let answer = self.upstream.exchange(self.home, &request).await?;
        let elsewhere = !same_origin(self.home, &request.url, &answer.url);
        if is_refusal(answer.status) && elsewhere {
            // The registry took the credential; whom it sent us to did not. Another credential may be sent elsewhere,
            // but this one is not wrong.
            return Err(self.home.fault(FaultKind::Unauthorized, "redirected to a host that refuses access"));
        }
        Ok(answer)
    }

    /// What a token is to be for.
    fn action(&self) -> Action<'_> {
        Action { name: self.resource.name, push: self.request.writes() }
    }

    fn scope(&self, credential: Option<&Credential>) -> Scope {
        Scope {
            repository: self.resource.repository.clone(),
            name: self.resource.name.into(),
            push: self.request.writes(),
            credential: credential.map(Credential::id).unwrap_or_default(),
            transport: self.transport,
        }
    }

    fn unauthorized(&self, offer: &Offer) -> Fault {
        let tried = self.credentials.len();
        let trusted = offer.service.as_ref().is_none_or(|service| service.trusted);
        if self.request.writes() && trusted {
            let what = format!(
                "writing is refused with every credential there is ({tried}) and anonymously; name a file with \
                 credentials that may push with --authfile"
            );
            return self.home.fault(FaultKind::Unauthorized, what);
        }
        let what = match (tried, offer.service.as_ref().filter(|s| !s.trusted)) {
            (0, _) => {
                "access is refused to anonymous requests; give the Pod or its ServiceAccount an image pull secret \
                       for this registry, by hand --authfile"
                    .to_owned()
            }
            (_, Some(service)) => format!(
                "access is refused, and credentials were not sent to its token service {}, which is on another host; \
                 an administrator can permit that service for this registry",
                service.host()
            ),
            (n, None) => format!(
                "access is refused with every credential there is ({n}) and anonymously; correct the image pull secrets \
                 of the Pod or its ServiceAccount for this registry, by hand those of --authfile"
            ),
        };
        self.home.fault(FaultKind::Unauthorized, what)
    }
}
