//! Signature stores by path: `<base>/<repository path>@<algorithm>=<hex>/signature-<n>`.
//!
//! The registry's host is no part of the path, so one signature serves every registry with that repository path; whether
//! it is accepted there is for the signed identity to say. Stores get the registry's TLS settings and address rules and
//! never a credential. Format: containers/image `docs/signature-protocols.md`.

mod put;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;
use url::Url;

pub use self::put::{Put, StoreWriter};
use super::UpstreamKind;
use super::access::Access;
use super::http::{Home, Request};
use super::registry::Upstream;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// At most so many signatures of one digest are looked at.
pub const MAX_SIGNATURES: usize = 128;
/// Bytes of one signature.
const MAX_SIGNATURE: usize = 4 * 1024 * 1024;

/// A store: from a policy (`http`, `https`) or from registries.d (`file`, too).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUrl(Url);

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StoreUrl {
    /// From a policy's `lookaside`: `http` or `https`, without user, password, query and fragment.
    pub fn from_policy(text: &str) -> Result<Self, String> {
        let url = parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("a signature store in a policy must be an http or https URL".to_owned());
        }
        Ok(Self(url))
    }

    /// From the administrator's registries.d: also `file:` with an absolute path.
    pub fn from_administrator(text: &str) -> Result<Self, String> {
        let url = parse(text)?;
        match url.scheme() {
            "http" | "https" => {}
            "file" if text.get(5..).is_some_and(|rest| rest.starts_with('/')) && url.to_file_path().is_ok() => {}
            _ => return Err("a signature store must be an http, https or file URL with an absolute path".to_owned()),
        }
        Ok(Self(url))
    }

    /// As a URL.
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The folder, of a `file:` URL.
    pub fn folder(&self) -> Option<PathBuf> {
        self.0.to_file_path().ok().filter(|_| self.0.scheme() == "file")
    }

    /// The URL of one signature. Path and digest are validated types, so they add components and never climb.
    fn signature(&self, repository: &Repository, digest: &Digest, number: usize) -> Url {
        let mut url = self.0.clone();
        let (algorithm, hex) = (digest.algorithm_name(), digest.hex());
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{}@{algorithm}={hex}/signature-{number}", repository.path()));
        url
    }
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("the signature store is not a URL: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a signature store's URL must not hold a user or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a signature store's URL must not have a query or fragment".to_owned());
    }
    Ok(url)
}

impl Upstream {
    /// The signature with this number, from 1; `None` when the store says for certain that it does not exist (404, or
    /// no such file). Every other answer is a fault. Numbers beyond [`MAX_SIGNATURES`] are refused unasked.
    pub async fn signature(
        &self,
        store: &StoreUrl,
        repository: &Repository,
        digest: &Digest,
        number: usize,
        access: &Access,
    ) -> Result<Option<Bytes>, Fault> {
        let subject = format!("signature store {store}, signature {number} of {}@{digest}", repository.path());
        if !(1..=MAX_SIGNATURES).contains(&number) {
            let what = format!("{subject}: at most {MAX_SIGNATURES} signatures are looked at");
            return Err(Fault::new(FaultKind::TooLarge, what));
        }
        let url = store.signature(repository, digest, number);
        if url.scheme() == "file" {
            return read_file(&url, &subject, access).await;
        }
        let request = Request {
            method: Method::GET,
            url,
            accept: None,
            authorization: None,
            credential: [0; 32],
            form: None,
            content: None,
            limit: MAX_SIGNATURE,
        };
        let home = home(store, repository, &subject, access);
        let answer = self.exchange(&home, &request).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let what = format!("status {}{}", status.as_u16(), home.about_certificate(status));
                Err(home.fault(FaultKind::BadAnswer, what))
            }
        }
    }
}

fn home<'a>(store: &StoreUrl, repository: &Repository, subject: &str, access: &'a Access) -> Home<'a> {
    let host = store.0.host_str().unwrap_or_default().to_owned();
    let registry = Url::parse(&format!("https://{}/", repository.host())).ok();
    let same_host = registry.is_some_and(|url| url.host_str() == Some(host.as_str()));
    Home {
        host,
        port: store.0.port(),
        // Unverified TLS was asked for one host, the registry's.
        insecure: access.transport.insecure && same_host,
        plain: store.0.scheme() == "http",
        confined: false,
        transport: &access.transport,
        deadline: access.deadline,
        kind: UpstreamKind::Store,
        subject: subject.into(),
    }
}

async fn read_file(url: &Url, subject: &str, access: &Access) -> Result<Option<Bytes>, Fault> {
    let fault = |kind, what: &str| Fault::new(kind, format!("{subject}: {what}"));
    let path = url.to_file_path().map_err(|()| fault(FaultKind::Configuration, "not an absolute path"))?;
    match timeout_at(access.deadline, read_bounded(path)).await {
        Err(_) => Err(fault(FaultKind::Timeout, "not read in time")),
        Ok(Err(e)) if e.kind() == ErrorKind::NotFound => Ok(None),
        Ok(Err(e)) => Err(fault(FaultKind::Unreachable, "the file cannot be read").with_detail(e)),
        Ok(Ok(bytes)) if bytes.len() > MAX_SIGNATURE => {
            Err(fault(FaultKind::TooLarge, &format!("the file has more than {MAX_SIGNATURE} bytes")))
        }
        Ok(Ok(bytes)) => Ok(Some(bytes.into())),
    }
}

/// Reads a regular file; other kinds (a pipe, a device) could block for ever. One byte more than the limit is enough.
async fn read_bounded(path: PathBuf) -> std::io::Result<Vec<u8>> {
    if !tokio::fs::metadata(&path).await?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(&path).await?;
    file.take(MAX_SIGNATURE as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
