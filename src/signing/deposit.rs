//! Where signatures go: a folder of the machine, a store over HTTP, or the registry itself.
//!
//! ```text
//!  Folder    <folder>/<repository path>@sha256=<hex>/signature-<n>    lookaside-staging of registries.d, --staging
//!  Upload    PUT <url>/<repository path>@sha256=<hex>/signature-<n>   a store such as podseal's
//!  Registry  PUT /extensions/v2/<repository>/signatures/<digest>      a registry that announces it
//! ```
//! Nothing is ever replaced, and what was put is read back before it counts as put. Several writers may be at work: each
//! takes the next number that is free. A web server that knows no `If-None-Match` (plain `WebDAV`) cannot keep two writers
//! of the same moment apart; the one that finds another's signature under its number goes on to the next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};
use crate::source::access::{Access, Transport};
use crate::source::credentials::Keychain;
use crate::source::lookaside::{MAX_SIGNATURES, Put, StoreWriter};
use crate::source::registry::Upstream;
use crate::store::disk::{DiskError, Place, SignatureDir};

/// A simple signature has a few hundred bytes, and a name and a digest in it.
const MAX_OWN: usize = 64 << 10;

/// The way to registries and stores, with time for each request.
#[derive(Debug, Clone)]
pub struct Line {
    /// Connections and tokens.
    pub upstream: Arc<Upstream>,
    /// How the registry is reached.
    pub transport: Transport,
    /// On whose account.
    pub keychain: Arc<Keychain>,
    /// How long one question may take, with its tries.
    pub timeout: Duration,
}

impl Line {
    /// For one question, from now.
    pub fn access(&self) -> Access {
        self.access_for(self.timeout)
    }

    /// For something that takes longer.
    pub fn access_for(&self, time: Duration) -> Access {
        Access { transport: self.transport.clone(), keychain: self.keychain.clone(), deadline: Instant::now() + time }
    }
}

/// Where signatures go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A lookaside-staging folder.
    Folder(SignatureDir),
    /// A store that takes signatures over HTTP.
    Upload(StoreWriter),
    /// The registry that has the image.
    Registry,
}

/// A destination and the way there.
#[derive(Debug, Clone)]
pub struct Depot {
    /// The way.
    pub line: Line,
    /// The destination.
    pub destination: Destination,
}

impl Depot {
    /// The signatures that are there for a digest; untrusted. A store's that are larger than any that is made here are left
    /// out: it may have as many as it likes, and all are kept in memory.
    pub async fn existing(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Bytes>, Fault> {
        match &self.destination {
            Destination::Folder(folder) => {
                let kept = on_disk(folder, repository, digest, SignatureDir::list).await?;
                Ok(kept.into_iter().map(|kept| kept.content.into()).collect())
            }
            Destination::Upload(writer) => {
                let mut found = Vec::new();
                for number in 1..=MAX_SIGNATURES {
                    match self.read(writer, repository, digest, number).await? {
                        Some(signature) if signature.len() <= MAX_OWN => found.push(signature),
                        Some(_) => {}
                        None => break,
                    }
                }
                Ok(found)
            }
            Destination::Registry => {
                let kept = self.line.upstream.own_signatures_to_add_to(repository, digest, &self.line.access()).await?;
                Ok(kept.signatures.into_iter().flatten().collect())
            }
        }
    }

    /// Puts a signature behind those that are there, and gives the place for people. It was read back, byte for byte.
    pub async fn put(&self, repository: &Repository, digest: &Digest, signature: &Bytes) -> Result<String, Fault> {
        match &self.destination {
            Destination::Folder(folder) => put_into(folder, repository, digest, signature).await,
            Destination::Upload(writer) => self.upload(writer, repository, digest, signature).await,
            Destination::Registry => self.extend(repository, digest, signature).await,
        }
    }

    async fn upload(
        &self,
        writer: &StoreWriter,
        repository: &Repository,
        digest: &Digest,
        signature: &Bytes,
    ) -> Result<String, Fault> {
        let upstream = &self.line.upstream;
        for number in 1..=MAX_SIGNATURES {
            let there = self.read(writer, repository, digest, number).await?;
            if there.is_none() {
                let access = self.line.access();
                let put = upstream.put_signature(writer, repository, digest, number, signature, &access).await?;
                let now = self.read(writer, repository, digest, number).await?;
                if now.as_ref() == Some(signature) {
                    return Ok(format!("{} (signature-{number})", writer.store()));
                }
                // Another writer was faster if another one is there. A store that took it and shows nothing has lost it.
                if now.is_none() {
                    let store = writer.store().to_string();
                    match put {
                        Put::Created => return Err(lost(&store, repository, digest)),
                        Put::Known => return Err(known(&store, repository, digest)),
                        Put::Refused(why) => return Err(refused(&store, repository, digest, &why)),
                        // The next number would lie behind a gap, where nobody reads.
                        Put::Taken => return Err(hidden(&store, number, repository, digest)),
                    }
                }
            } else if there.as_ref() == Some(signature) {
                return Ok(format!("{} (signature-{number})", writer.store()));
            }
        }
        Err(full(&writer.store().to_string(), repository, digest))
    }

    async fn extend(&self, repository: &Repository, digest: &Digest, signature: &Bytes) -> Result<String, Fault> {
        let place = format!("the registry {}", repository.host());
        let upstream = &self.line.upstream;
        upstream.put_own_signature(repository, digest, signature, &self.line.access()).await?;
        if self.existing(repository, digest).await?.contains(signature) {
            return Ok(place);
        }
        Err(lost(&place, repository, digest))
    }

    async fn read(
        &self,
        writer: &StoreWriter,
        repository: &Repository,
        digest: &Digest,
        number: usize,
    ) -> Result<Option<Bytes>, Fault> {
        self.line.upstream.signature(writer.store(), repository, digest, number, &self.line.access()).await
    }
}

async fn put_into(
    folder: &SignatureDir,
    repository: &Repository,
    digest: &Digest,
    signature: &Bytes,
) -> Result<String, Fault> {
    let wanted = signature.clone();
    let (number, read) = on_disk(folder, repository, digest, move |folder, place| {
        let number = folder.append(place, &wanted, None)?.number;
        Ok((number, folder.read(place, number)?))
    })
    .await?;
    let path = folder.path().display();
    if read.is_some_and(|blob| blob.content == *signature) {
        let (algorithm, hex) = (digest.algorithm_name(), digest.hex());
        return Ok(format!("{path}/{}@{algorithm}={hex}/signature-{number}", repository.path()));
    }
    Err(lost(&path.to_string(), repository, digest))
}

/// Does something in a folder, where blocking is fine.
async fn on_disk<T: Send + 'static>(
    folder: &SignatureDir,
    repository: &Repository,
    digest: &Digest,
    act: impl FnOnce(&SignatureDir, &Place) -> Result<T, DiskError> + Send + 'static,
) -> Result<T, Fault> {
    let place = Place::of(repository, digest).map_err(|e| Fault::new(FaultKind::Configuration, e.to_string()))?;
    let subject = format!("signatures of {}@{digest}", repository.path());
    let folder = folder.clone();
    let done = tokio::task::spawn_blocking(move || act(&folder, &place)).await;
    let done = done.map_err(|_| Fault::new(FaultKind::Internal, format!("{subject}: the writer failed")))?;
    done.map_err(|error| Fault::new(kind(&error), format!("{subject}: {error}")))
}

fn kind(error: &DiskError) -> FaultKind {
    match error {
        DiskError::Busy => FaultKind::Overloaded,
        DiskError::TooLarge(_) | DiskError::TooMany(_) => FaultKind::TooLarge,
        _ => FaultKind::Configuration,
    }
}

fn lost(place: &str, repository: &Repository, digest: &Digest) -> Fault {
    let what = format!("{place} took the signature of {}@{digest}, and does not show it", repository.path());
    Fault::new(FaultKind::BadAnswer, what)
}

/// Whoever has a signature can write it in other forms, and may have been faster.
fn known(place: &str, repository: &Repository, digest: &Digest) -> Fault {
    let path = repository.path();
    let what = format!("{place} has the signature of {path}@{digest} already, in another form; sign once more");
    Fault::new(FaultKind::BadAnswer, what)
}

fn refused(place: &str, repository: &Repository, digest: &Digest, why: &str) -> Fault {
    let why = if why.is_empty() { "it does not say why" } else { why };
    let what = format!("{place} refuses the signature of {}@{digest} (409): {why}", repository.path());
    Fault::new(FaultKind::TooLarge, what)
}

/// A server with a condition of its own for everything, or a cache before it that has not noticed.
fn hidden(place: &str, number: usize, repository: &Repository, digest: &Digest) -> Fault {
    let path = repository.path();
    let what = format!(
        "{place} says that it has signature-{number} of {path}@{digest} (412), and does not show it: if it is no cache that \
         has yet to notice, the server does not take signatures"
    );
    Fault::new(FaultKind::BadAnswer, what)
}

fn full(place: &str, repository: &Repository, digest: &Digest) -> Fault {
    let path = repository.path();
    let what = format!("{place} has {MAX_SIGNATURES} signatures of {path}@{digest}, and no more are read");
    Fault::new(FaultKind::TooLarge, what)
}

#[cfg(test)]
mod tests;
