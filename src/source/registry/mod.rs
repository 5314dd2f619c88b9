//! A registry client after the OCI distribution specification, made for hostile registries and many tenants.
//!
//! Reading: manifests by tag (once) and by digest, blobs, referrers; writing is `push`'s. Everything fetched by digest is hashed before
//! anybody sees it. "Not found" is only what the registry answers with 404 to somebody it lets in; every other status is a
//! fault, so that an outage or a wrong password never looks like an unsigned image.

mod attach;
mod document;
mod push;
mod referrers;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use url::Url;

pub use self::attach::Artifact;
pub(crate) use self::document::{error_code, fold};
pub use self::push::{BlobContent, Pushed};
use super::UpstreamKind;
use super::access::Access;
pub use super::http::Upstream;
use super::http::{Answer, Home, Request};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// Bytes of a manifest, an index or one page of referrers.
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or index whose bytes have the stated digest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type, equal in header and document.
    pub media_type: String,
    /// As received.
    pub bytes: Bytes,
}

/// An entry of a referrers list, untrusted until its content was fetched by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its artifact type, if stated.
    pub artifact_type: Option<String>,
}

/// A repository as one review reaches it.
pub(super) struct Remote<'a> {
    upstream: &'a Upstream,
    repository: &'a Repository,
    access: &'a Access,
    home: Home<'a>,
}

impl Upstream {
    /// Asks once, by HEAD, what digest a tag has; `None` when there is no such image. A registry that does not answer
    /// HEAD, or leaves the digest out, is asked by GET and the digest is computed.
    pub async fn resolve(&self, repository: &Repository, tag: &str, access: &Access) -> Result<Option<Digest>, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let answer = remote.manifest_answer(Method::HEAD, tag).await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            _ => {
                remote.expect_ok(&answer)?;
                if let Some(digest) = remote.stated_digest(&answer)? {
                    return Ok(Some(digest));
                }
            }
        }
        Ok(self.tagged_manifest(repository, tag, access).await?.map(|manifest| manifest.digest))
    }

    /// A manifest by digest; `None` on a definite 404. The bytes have the digest.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<Option<Manifest>, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let answer = remote.manifest_answer(Method::GET, digest.as_str()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        remote.expect_ok(&answer)?;
        remote.expect_digest(digest, &answer.body)?;
        remote.read_manifest(digest.clone(), answer).map(Some)
    }

    /// A manifest by tag, for tags that signature formats prescribe (`sha256-….sig`); `None` on a definite 404.
    pub async fn tagged_manifest(
        &self,
        repository: &Repository,
        tag: &str,
        access: &Access,
    ) -> Result<Option<Manifest>, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let answer = remote.manifest_answer(Method::GET, tag).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        remote.expect_ok(&answer)?;
        let stated = remote.stated_digest(&answer)?;
        if let Some(stated) = &stated {
            remote.expect_digest(stated, &answer.body)?;
        }
        let digest = stated.unwrap_or_else(|| Digest::sha256(&answer.body));
        remote.read_manifest(digest, answer).map(Some)
    }

    /// A blob of at most `limit` bytes; `None` on a definite 404. The bytes have the digest.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
        access: &Access,
    ) -> Result<Option<Bytes>, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let url = remote.url(&format!("blobs/{digest}"))?;
        let answer = remote.ask(Method::GET, url, None, limit).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        remote.expect_ok(&answer)?;
        remote.expect_digest(digest, &answer.body)?;
        Ok(Some(answer.body))
    }
}

/// The host of a registry's API, which for Docker Hub is not the host in image names.
fn api_host(repository: &Repository) -> &str {
    if repository.host() == "docker.io" { "registry-1.docker.io" } else { repository.host() }
}

/// The root of a registry's API; `None` when its host cannot be part of a URL.
pub(super) fn api_url(repository: &Repository) -> Option<Url> {
    let base = Url::parse(&format!("https://{}/", api_host(repository))).ok();
    base.filter(|url| url.path() == "/" && url.has_host())
}

impl<'a> Remote<'a> {
    pub(super) fn new(upstream: &'a Upstream, repository: &'a Repository, access: &'a Access) -> Result<Self, Fault> {
        let subject = format!("registry {}, repository {}", repository.host(), repository.path());
        let host = api_host(repository);
        let base = api_url(repository).ok_or_else(|| {
            Fault::new(FaultKind::Configuration, format!("{subject}: the registry's host is no valid host name"))
        })?;
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let home = Home {
            host: base.host_str().unwrap_or_default().to_owned(),
            port,
            insecure: access.transport.insecure,
            plain: false,
            confined: false,
            transport: &access.transport,
            deadline: access.deadline,
            kind: UpstreamKind::Registry,
            subject: subject.into(),
        };
        Ok(Self { upstream, repository, access, home })
    }

    /// `/v2/<repository>/<tail>`. Its parts are validated types and tags; a part that would change the path is refused.
    fn url(&self, tail: &str) -> Result<Url, Fault> {
        self.absolute(&format!("/v2/{}/{tail}", self.repository.path()))
    }

    /// The registry's URL with this path, under the same rule.
    pub(super) fn absolute(&self, path: &str) -> Result<Url, Fault> {
        let url = Url::parse(&format!("https://{}{path}", api_host(self.repository))).ok();
        let whole = url.filter(|url| url.path() == path && url.query().is_none() && url.fragment().is_none());
        whole.ok_or_else(|| self.home.fault(FaultKind::Configuration, "a name that cannot be part of a request"))
    }

    /// Whom requests are made for.
    pub(super) fn home(&self) -> &Home<'a> {
        &self.home
    }

    /// A request without a credential.
    pub(super) fn request(method: Method, url: Url, accept: Option<&'static str>, limit: usize) -> Request {
        Request { method, url, accept, authorization: None, credential: [0; 32], form: None, content: None, limit }
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        accept: Option<&'static str>,
        limit: usize,
    ) -> Result<Answer, Fault> {
        let request = Self::request(method, url, accept, limit);
        self.upstream.authorized(&self.home, self.repository, &request, self.access).await
    }

    async fn manifest_answer(&self, method: Method, reference: &str) -> Result<Answer, Fault> {
        // Within the path every tag and digest is one component, and this says so.
        if reference.contains(['/', '?', '#', '%', '\\']) {
            return Err(self.home.fault(FaultKind::Configuration, "a name that cannot be part of a request"));
        }
        let url = self.url(&format!("manifests/{reference}"))?;
        self.ask(method, url, Some(document::ACCEPT), MAX_MANIFEST).await
    }

    pub(super) fn expect_ok(&self, answer: &Answer) -> Result<(), Fault> {
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        Err(self.unforeseen(answer))
    }

    fn unforeseen(&self, answer: &Answer) -> Fault {
        let code = error_code(&answer.body).map(|code| format!(" ({code})")).unwrap_or_default();
        let hint = self.home.about_certificate(answer.status);
        let what = format!("status {}{code}, which the protocol does not foresee here{hint}", answer.status.as_u16());
        self.home.fault(FaultKind::BadAnswer, what)
    }

    fn stated_digest(&self, answer: &Answer) -> Result<Option<Digest>, Fault> {
        let Some(value) = answer.headers.get(CONTENT_DIGEST) else { return Ok(None) };
        let digest = value.to_str().ok().and_then(|text| text.parse().ok());
        let bad = || self.home.fault(FaultKind::BadAnswer, "the Docker-Content-Digest header is not a digest");
        digest.map(Some).ok_or_else(bad)
    }

    fn expect_digest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Fault> {
        if digest.matches(bytes) {
            return Ok(());
        }
        Err(self.home.fault(FaultKind::DigestMismatch, format_args!("what was sent for {digest} has another digest")))
    }

    fn read_manifest(&self, digest: Digest, answer: Answer) -> Result<Manifest, Fault> {
        let media_type = document::media_type(content_type(&answer).as_deref(), &answer.body)
            .map_err(|why| self.home.fault(FaultKind::BadAnswer, format_args!("the manifest {digest} {why}")))?;
        Ok(Manifest { digest, media_type, bytes: answer.body })
    }
}

/// `Content-Type` without its parameters, in lower case.
fn content_type(answer: &Answer) -> Option<String> {
    let text = answer.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
