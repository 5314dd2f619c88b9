//! Who may write.
//!
//! | how | who it is |
//! |---|---|
//! | a client certificate of the client CA | the certificate's common name |
//! | user and password of the htpasswd file | the user |
//! | a token of the cluster, as a bearer or as anybody's password | whom the API server says, if it says that they may create `imagesignatures.podseal.io` |
//!
//! Where there are users and a cluster, a password is taken for a token only if nobody has the user's name and it looks
//! like one.
//!
//! Reading is open, as it is on the web servers this takes the place of: signatures and public keys are no secrets.

mod crowd;
mod htpasswd;
mod kubernetes;

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, StatusCode};
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use self::htpasswd::Htpasswd;
pub use self::kubernetes::Kubernetes;
use crate::domain::printable::printable;
use crate::server::Peer;
use crate::telemetry::TurnedAway;

/// Longest name that is logged, in characters.
const MAX_NAME: usize = 200;

/// How writers prove who they are; without any nobody may write.
#[derive(Debug, Default)]
pub struct Writers {
    /// Client certificates count. The listener has verified them.
    pub certificates: bool,
    /// Users and passwords.
    pub htpasswd: Option<Htpasswd>,
    /// Tokens of a cluster.
    pub kubernetes: Option<Kubernetes>,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writer {
    /// Their name, printable.
    pub(super) name: String,
    /// How they proved it.
    pub(super) by: &'static str,
}

/// Why somebody may not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// There is no way to write here.
    #[error("this store is read-only: it was started without --kubernetes-auth, --client-ca and --htpasswd")]
    ReadOnly,
    /// Nothing was shown, or nothing that counts.
    #[error("uploading needs authentication: {0}")]
    Unauthenticated(&'static str),
    /// Known, and not allowed to.
    #[error(
        "{0} may not create imagesignatures.podseal.io; the ClusterRole podseal-image-signer grants it (RELEASE-podseal-image-signer in a release of another name)"
    )]
    Forbidden(String),
    /// Too much of one client waits already.
    #[error("too many passwords or tokens of your address wait to be checked or were wrong; try again later")]
    Crowded,
    /// It could not be found out.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    pub(super) fn reason(&self) -> TurnedAway {
        match self {
            Self::ReadOnly => TurnedAway::ReadOnly,
            Self::Unauthenticated(_) => TurnedAway::Unauthenticated,
            Self::Forbidden(_) => TurnedAway::Forbidden,
            Self::Crowded => TurnedAway::Crowded,
            Self::Unavailable(_) => TurnedAway::Unavailable,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::ReadOnly | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Crowded => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What a request shows.
enum Shown {
    Nothing,
    Bearer(String),
    Basic(String, String),
}

impl Writers {
    /// Whether nobody may write.
    pub fn is_empty(&self) -> bool {
        !self.certificates && self.htpasswd.is_none() && self.kubernetes.is_none()
    }

    /// What to answer those who showed nothing (RFC 9110, section 11.6.1).
    pub(super) fn challenge() -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"podseal signature store\", charset=\"UTF-8\"")
    }

    /// Who asks, if they may write.
    pub(super) async fn admit(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Writer, Refusal> {
        if self.is_empty() {
            return Err(Refusal::ReadOnly);
        }
        if self.certificates
            && let Some(certificate) = peer.and_then(|peer| peer.certificate.as_ref())
        {
            return Ok(Writer { name: subject(certificate), by: "certificate" });
        }
        let client = peer.map(|peer| peer.address);
        match shown(headers)? {
            Shown::Nothing => Err(Refusal::Unauthenticated(self.offered())),
            Shown::Bearer(token) => self.admit_token(token, client).await,
            Shown::Basic(user, password) => match &self.htpasswd {
                // Whoever mistypes a name must not have the password sent to the API server.
                Some(users) if self.kubernetes.is_none() || users.knows(&user) || !is_token(&password) => {
                    users.admit(user, password, client).await
                }
                _ => self.admit_token(password, client).await,
            },
        }
    }

    async fn admit_token(&self, token: String, client: Option<IpAddr>) -> Result<Writer, Refusal> {
        match &self.kubernetes {
            Some(kubernetes) => kubernetes.admit(token, client).await,
            None => Err(Refusal::Unauthenticated(self.offered())),
        }
    }

    fn offered(&self) -> &'static str {
        match (self.kubernetes.is_some(), self.htpasswd.is_some(), self.certificates) {
            (true, true, _) => {
                "a token of the cluster, as a bearer token or as the password, or a user of the htpasswd file"
            }
            (true, false, _) => "a token of the cluster, as a bearer token or as the password",
            (false, true, _) => "a user of the htpasswd file and the password",
            _ => "a client certificate",
        }
    }
}

/// The credential in the `Authorization` header (RFC 7617, RFC 6750). No error repeats any of it.
fn shown(headers: &HeaderMap) -> Result<Shown, Refusal> {
    let unreadable = Refusal::Unauthenticated("the Authorization header cannot be read");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(Shown::Nothing) };
    let (Ok(text), None) = (value.to_str(), values.next()) else { return Err(unreadable) };
    let (scheme, credential) = text.split_once(' ').ok_or(unreadable.clone())?;
    let credential = credential.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Shown::Bearer(credential.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unreadable);
    }
    let decoded = BASE64_STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = decoded.as_deref().and_then(|text| text.split_once(':')).ok_or(unreadable)?;
    Ok(Shown::Basic(user.to_owned(), password.to_owned()))
}

/// Whether a text has the form of a signed token (RFC 7515, section 3.1): three parts of base64url with dots between.
fn is_token(text: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let parts: Vec<&str> = text.split('.').take(4).collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(base64url))
}

/// The common name of a certificate's subject, or all of the subject if it has none.
fn subject(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return "unnamed".to_owned() };
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    loggable(common.unwrap_or_else(|| certificate.subject().to_string()))
}

/// A name as it may stand in a log line.
pub(super) fn loggable(name: impl fmt::Display) -> String {
    let short: String = name.to_string().chars().take(MAX_NAME).collect();
    printable(&short).into_owned()
}

#[cfg(test)]
mod tests;
