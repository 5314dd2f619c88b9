//! Writing to a registry: blobs that it lacks, in parts when they are large, and manifests.
//!
//! ```text
//!  push_blob   HEAD ── there? done
//!              POST ── session ── small: PUT ?digest=…
//!                              └─ large: PATCH part by part ── broken? GET session, go on where it is ── PUT ?digest=…
//!              HEAD ── there now, with this size? only then is it done
//! ```
//! The registry says where a session goes on (`Location`); it is followed on the registry's own origin only, so that a
//! credential and what it may write never go to another server. Specification: OCI distribution specification,
//! "Pushing blobs" and "Pushing manifests".

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep};
use url::Url;

use super::document::error_code;
use super::{Access, Answer, MAX_MANIFEST, Remote, Upstream};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};
use crate::source::http::{Content, Request, same_origin};

/// Bytes of one part: what is sent again when the connection breaks, and what is in memory.
const PART: u64 = 8 << 20;
/// So often is a session taken up again for one blob; each part that arrives counts anew.
const MAX_RESUMED: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// One request of an upload may take so long, within the access' own deadline.
const REQUEST: Duration = Duration::from_secs(300);
/// Bytes of the body of an answer to a write; nothing in it is needed.
const MAX_ANSWER: usize = 64 * 1024;

/// In the answer of a registry that lists the manifest among the referrers of its subject.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The content of a blob, which may be larger than memory.
pub trait BlobContent: Send + Sync {
    /// Bytes in it.
    fn size(&self) -> u64;
    /// `length` bytes from `offset`; an error when there are fewer. Called where blocking is fine.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

impl BlobContent for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(length) {
            Some(end) if end <= self.len() => Ok(self.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The registry had it.
    WasThere,
    /// It was uploaded.
    Uploaded,
}

/// One blob on its way.
struct Upload<'a> {
    upstream: &'a Upstream,
    repository: &'a Repository,
    digest: &'a Digest,
    content: Arc<dyn BlobContent>,
    access: &'a Access,
    /// Told of bytes that the registry has taken, and of all again when it starts anew.
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Upstream {
    /// Whether the repository has a blob of this digest, and with this size. The content is not read: registries check
    /// digests when they take a blob.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        access: &Access,
    ) -> Result<bool, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let answer = remote.ask(Method::HEAD, remote.url(&format!("blobs/{digest}"))?, None, 0).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        remote.expect_ok(&answer)?;
        let stated = number(&answer.headers, &header::CONTENT_LENGTH);
        if stated.is_some_and(|stated| stated != size) {
            let what = format!("the blob {digest} is there with another size than {size} bytes");
            return Err(remote.home.fault(FaultKind::BadAnswer, what));
        }
        Ok(true)
    }

    /// Makes sure that the repository has a blob: asks, and uploads it if it is lacking. `progress` is told how many
    /// bytes the registry has. The content must have the digest; the registry refuses it otherwise.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        content: Arc<dyn BlobContent>,
        access: &Access,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Pushed, Fault> {
        let size = content.size();
        if self.has_blob(repository, digest, size, &timely(access)).await? {
            progress(size);
            return Ok(Pushed::WasThere);
        }
        let upload = Upload { upstream: self, repository, digest, content, access, progress };
        upload.run().await?;
        if self.has_blob(repository, digest, size, &timely(access)).await? {
            return Ok(Pushed::Uploaded);
        }
        let remote = Remote::new(self, repository, access)?;
        Err(remote.home.fault(FaultKind::BadAnswer, format_args!("took the blob {digest}, and does not have it")))
    }

    /// Puts a manifest under a tag, or under its digest without one, and reads it back by digest. All that it names must
    /// be there before; registries refuse it otherwise.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        media_type: &str,
        bytes: &Bytes,
        access: &Access,
    ) -> Result<Digest, Fault> {
        self.put_manifest(repository, tag, media_type, bytes, access).await.map(|(digest, _)| digest)
    }

    /// The same; the second value says whether the registry took note of the manifest's subject.
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        media_type: &str,
        bytes: &Bytes,
        access: &Access,
    ) -> Result<(Digest, bool), Fault> {
        let digest = Digest::sha256(bytes);
        let access = &timely(access);
        let remote = Remote::new(self, repository, access)?;
        let bad = |what: &str| remote.home.fault(FaultKind::Configuration, what);
        if bytes.len() > MAX_MANIFEST {
            return Err(remote.home.fault(FaultKind::TooLarge, "the manifest has more than 4 MiB"));
        }
        if tag.is_some_and(|tag| !crate::domain::image::valid_tag(tag)) {
            return Err(bad("the tag is malformed"));
        }
        let kind = HeaderValue::from_str(media_type).map_err(|_| bad("the manifest's media type is malformed"))?;
        let content = Content { bytes: bytes.clone(), media_type: Some(kind), ..Content::default() };
        let url = remote.url(&format!("manifests/{}", tag.unwrap_or(digest.as_str())))?;
        let answer = remote.write(Method::PUT, url, content).await?;
        if is_refusal(&answer) {
            let code = error_code(&answer.body).map(|code| format!(" ({code})")).unwrap_or_default();
            let status = answer.status.as_u16();
            return Err(bad(&format!("the registry refuses the manifest {digest}: status {status}{code}")));
        }
        remote.expect(&answer, &[StatusCode::CREATED, StatusCode::OK])?;
        match self.manifest(repository, &digest, access).await? {
            Some(_) => Ok((digest, answer.headers.contains_key(SUBJECT))),
            None => Err(remote.home.fault(FaultKind::BadAnswer, format_args!("took {digest}, and does not have it"))),
        }
    }
}

impl Remote<'_> {
    /// Sends something; any status but 401 and 403 is an answer.
    pub(in crate::source) async fn write(&self, method: Method, url: Url, content: Content) -> Result<Answer, Fault> {
        let request = Request { content: Some(content), ..Self::request(method, url, None, MAX_ANSWER) };
        self.upstream.authorized(&self.home, self.repository, &request, self.access).await
    }

    /// One of these statuses, or a fault that names the registry's error code.
    pub(in crate::source) fn expect(&self, answer: &Answer, wanted: &[StatusCode]) -> Result<(), Fault> {
        if wanted.contains(&answer.status) { Ok(()) } else { Err(self.unforeseen(answer)) }
    }

    /// Where the session goes on.
    fn session(&self, answer: &Answer) -> Result<Url, Fault> {
        let bad = |what: &str| self.home.fault(FaultKind::BadAnswer, what);
        let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let url = location.and_then(|location| answer.url.join(location).ok());
        let url = url.ok_or_else(|| bad("an upload without a usable Location"))?;
        if !same_origin(&self.home, &answer.url, &url) || !url.username().is_empty() || url.password().is_some() {
            return Err(bad("the registry sends uploads to another address than its own, which is not followed; \
                 behind a proxy it must know the address that clients use"));
        }
        Ok(url)
    }
}

impl Upload<'_> {
    async fn run(&self) -> Result<(), Fault> {
        let access = timely(self.access);
        let remote = Remote::new(self.upstream, self.repository, &access)?;
        let answer = remote.write(Method::POST, remote.url("blobs/uploads/")?, Content::default()).await?;
        remote.expect(&answer, &[StatusCode::ACCEPTED])?;
        let mut session = remote.session(&answer)?;
        let size = self.content.size();
        if size > PART {
            session = self.parts(session).await?;
            return self.close(session, Content::default()).await;
        }
        let bytes = self.part(0, size).await?;
        self.close(session, Content { bytes, media_type: Some(octets()), ..Content::default() }).await
    }

    /// All parts, one after the other; the session that then has everything.
    async fn parts(&self, mut session: Url) -> Result<Url, Fault> {
        let (mut offset, mut resumed) = (0, 0);
        while offset < self.content.size() {
            match self.send_part(&session, offset).await {
                Ok((next, taken)) => (session, offset, resumed) = (next, taken, 0),
                Err(fault) if resumed < MAX_RESUMED && fault.kind().retryable() => {
                    resumed += 1;
                    sleep(PAUSE * resumed).await;
                    // What arrived is the registry's to say. Where it cannot, the first reason is the better one.
                    let Ok((next, taken)) = self.ask_session(&session).await else { return Err(fault) };
                    (session, offset) = (next, taken);
                }
                Err(fault) => return Err(fault),
            }
            (self.progress)(offset);
        }
        Ok(session)
    }

    async fn send_part(&self, session: &Url, offset: u64) -> Result<(Url, u64), Fault> {
        let length = PART.min(self.content.size().saturating_sub(offset));
        let bytes = self.part(offset, length).await?;
        let range = Some((offset, (offset + length).saturating_sub(1)));
        let content = Content { bytes, media_type: Some(octets()), range, only_new: false };
        let access = timely(self.access);
        let remote = Remote::new(self.upstream, self.repository, &access)?;
        let answer = remote.write(Method::PATCH, session.clone(), content).await?;
        remote.expect(&answer, &[StatusCode::ACCEPTED, StatusCode::NO_CONTENT])?;
        let taken = taken(&answer.headers).unwrap_or(offset + length);
        if taken != offset + length {
            let what = "the registry counts the parts of an upload in another way than they were sent";
            return Err(remote.home.fault(FaultKind::BadAnswer, what));
        }
        Ok((remote.session(&answer)?, taken))
    }

    /// How far the session has come.
    async fn ask_session(&self, session: &Url) -> Result<(Url, u64), Fault> {
        let access = timely(self.access);
        let remote = Remote::new(self.upstream, self.repository, &access)?;
        let answer = remote.ask(Method::GET, session.clone(), None, MAX_ANSWER).await?;
        remote.expect(&answer, &[StatusCode::NO_CONTENT, StatusCode::ACCEPTED, StatusCode::OK])?;
        let next = remote.session(&answer).unwrap_or_else(|_| session.clone());
        // Without a Range, or with `0-0`, nothing is there that could be relied on.
        let taken = taken(&answer.headers).filter(|taken| *taken > 1 && *taken <= self.content.size()).unwrap_or(0);
        Ok((next, taken))
    }

    async fn close(&self, mut session: Url, content: Content) -> Result<(), Fault> {
        session.query_pairs_mut().append_pair("digest", self.digest.as_str());
        let access = timely(self.access);
        let remote = Remote::new(self.upstream, self.repository, &access)?;
        let answer = remote.write(Method::PUT, session, content).await?;
        // Sent twice because the first answer got lost, the second one speaks of a session that has ended.
        if answer.status != StatusCode::NOT_FOUND {
            remote.expect(&answer, &[StatusCode::CREATED, StatusCode::NO_CONTENT, StatusCode::OK])?;
        }
        (self.progress)(self.content.size());
        Ok(())
    }

    async fn part(&self, offset: u64, length: u64) -> Result<Bytes, Fault> {
        let (content, size) = (self.content.clone(), usize::try_from(length).unwrap_or(usize::MAX));
        let read = tokio::task::spawn_blocking(move || content.read(offset, size)).await;
        let read = read.unwrap_or_else(|_| Err(io::Error::other("the reader failed")));
        read.map_err(|error| {
            let what = format!("the blob {} cannot be read where it lies: {error}", self.digest);
            Fault::new(FaultKind::Configuration, what)
        })
    }
}

/// Whether the registry will not take this manifest, now or later. What it names may still be on its way to all of a
/// registry's parts.
fn is_refusal(answer: &Answer) -> bool {
    let definite = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    definite.contains(&answer.status) && !error_code(&answer.body).is_some_and(|code| code.contains("UNKNOWN"))
}

/// The same access with time for one request.
fn timely(access: &Access) -> Access {
    Access { deadline: access.deadline.min(Instant::now() + REQUEST), ..access.clone() }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Bytes that the registry has, from `Range: 0-<last>`.
fn taken(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    if first.trim() != "0" {
        return None;
    }
    last.trim().parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests;
