//! Metadata files of a Notary v1 server: `<server>/v2/<repository with host>/_trust/tuf/<file>`.
//!
//! Only the server that the policy names is asked, and the token service that it names for itself; redirects to other
//! hosts are not followed. It gets the credentials that are stored for its own host and never those of the registry, and
//! over plain HTTP none at all, whatever `insecure` says. Format: Notary's server API (`GET …/_trust/tuf/{role}[.{sha256}].json`,
//! `{version}.root.json`).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use url::Url;

use super::UpstreamKind;
use super::access::Access;
use super::auth::Resource;
use super::credentials::Keychain;
use super::http::{Home, Request, Upstream};
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// Longest URL of a server.
const MAX_URL: usize = 2048;

/// The base URL of a Notary server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotaryUrl(Url);

impl fmt::Display for NotaryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NotaryUrl {
    /// From a policy's `notary`: `http` or `https`, without user, password, query and fragment. The error does not
    /// repeat the text, which may hold a password.
    pub fn from_policy(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_URL {
            return Err("it is longer than 2048 bytes");
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or("it is not an http or https URL")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has a query or fragment");
        }
        Ok(Self(url))
    }

    /// Whether it is reached over plain HTTP.
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

/// The trust data of one repository on one server.
#[derive(Debug, Clone)]
pub struct NotarySource {
    url: NotaryUrl,
    /// The repository's name there, its host included.
    gun: Arc<str>,
    /// Whose credentials count: the server's own host.
    account: Repository,
    /// Whether the server is on the registry's host, for which `insecure` is meant.
    with_registry: bool,
}

impl NotarySource {
    /// For a repository; the error says why the server cannot be asked.
    pub fn new(url: NotaryUrl, repository: &Repository) -> Result<Self, Fault> {
        let bad = |_| Fault::new(FaultKind::Configuration, "notary: the URL's host is no valid host name");
        let host = url.0.host_str().unwrap_or_default();
        let with_port = url.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let account = Repository::new(&with_port, repository.path()).map_err(bad)?;
        let registry = Url::parse(&format!("https://{}/", repository.host())).ok();
        let with_registry = registry.is_some_and(|registry| registry.host_str() == Some(host));
        Ok(Self { gun: repository.to_string().into(), account, with_registry, url })
    }

    /// The repository's name on the server, such as `docker.io/library/nginx`.
    pub fn gun(&self) -> &str {
        &self.gun
    }

    /// The server.
    pub fn url(&self) -> &NotaryUrl {
        &self.url
    }

    /// A hash of the credentials that the server would get; zero for none.
    pub fn credentials(&self, keychain: &Keychain) -> [u8; 32] {
        if self.url.is_plain() { [0; 32] } else { keychain.scope(&self.account) }
    }

    /// The URL of a file. `None` when the name would lead elsewhere; roles and hashes never do.
    fn file(&self, file: &str) -> Option<Url> {
        let base = self.url.0.path().trim_end_matches('/');
        let path = format!("{base}/v2/{}/_trust/tuf/{file}", self.gun);
        let mut url = self.url.0.clone();
        url.set_path(&path);
        (url.path() == path && url.query().is_none()).then_some(url)
    }

    fn home<'a>(&self, access: &'a Access, file: &str) -> Home<'a> {
        Home {
            host: self.url.0.host_str().unwrap_or_default().to_owned(),
            port: self.url.0.port(),
            insecure: access.transport.insecure && self.with_registry,
            plain: self.url.is_plain(),
            confined: true,
            transport: &access.transport,
            deadline: access.deadline,
            kind: UpstreamKind::Notary,
            subject: format!("Notary server {}, {file} of {}", self.url, self.gun).into(),
        }
    }
}

impl Upstream {
    /// A metadata file of at most `limit` bytes; `None` on a definite 404. Every other answer is a fault.
    pub async fn notary(
        &self,
        source: &NotarySource,
        file: &str,
        limit: usize,
        access: &Access,
    ) -> Result<Option<Bytes>, Fault> {
        let home = source.home(access, file);
        let url = source.file(file);
        let url = url.ok_or_else(|| home.fault(FaultKind::Configuration, "a name that cannot be part of a request"))?;
        let credential = [0; 32];
        let request = Request {
            method: Method::GET,
            url,
            accept: None,
            authorization: None,
            credential,
            form: None,
            content: None,
            limit,
        };
        let resource = Resource { repository: &source.account, name: &source.gun };
        let answer = if home.plain {
            // In the clear: anybody on the way would read them, and `insecure` is said of the registry.
            let anonymous = Access { keychain: Arc::default(), ..access.clone() };
            self.authorized_for(&home, resource, &request, &anonymous).await?
        } else {
            self.authorized_for(&home, resource, &request, access).await?
        };
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(home.fault(FaultKind::BadAnswer, format_args!("status {}", status.as_u16()))),
        }
    }
}
