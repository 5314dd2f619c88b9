//! The signature store: a folder of simple signatures as containers/image lays it out, and a server for it.
//!
//! ```text
//!   /var/sigstore/keys/<name>.pgp|asc|gpg|pub                    GET /keys/<name>
//!   /var/sigstore/sigstore/<repository>@sha256=<hex>/signature-<n>  GET, PUT /sigstore/<the same>
//!                                                                GET, PUT /extensions/v2/<repository>/signatures/<digest>
//!                                                                GET /          a page for people
//! ```
//! Everybody may read, as from the web server this takes the place of. Who may write proves who they are ([`auth`]), and
//! what they write is checked ([`check`]) and kept durably ([`disk`]). Nothing is ever changed or deleted here.
//!
//! No path becomes a file name before it was taken apart into a checked repository, digest and number ([`paths`]), and
//! files are opened so that no link leads out of the folder. So there is no name by which anything else could be read
//! or written: the registry of image makers, hidden and unfinished files, and secret keys that somebody put into the
//! folder of public ones.

pub mod auth;
mod census;
mod check;
pub mod disk;
mod extension;
mod file;
mod keys;
mod page;
mod paths;
mod room;
mod routes;
mod share;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::sync::Semaphore;

use self::auth::Writers;
use self::census::Census;
use self::disk::{DirLimits, SignatureDir};
use self::keys::KeyFolder;
use self::page::Verdicts;
use self::share::{Cores, Known};
use crate::server::load::Load;
use crate::server::{Peer, Routes};
use crate::telemetry::Metrics;

/// Uploads under way, waiting ones included, and bytes of their bodies; more are turned away.
const UPLOADS: usize = 2048;
const UPLOAD_BYTES: usize = 64 << 20;
/// Uploads written at once: more only wait for the same disk.
const WRITING: usize = 16;
/// Signatures and keys read from a slow disk at once.
const READING: usize = 64;
/// Pages made at once.
const PAGES: usize = 2;
/// How often everything is counted anew.
const RECOUNT: Duration = Duration::from_secs(10 * 60);

/// What is stored where, and how much.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder with `keys` and `sigstore`.
    pub dir: PathBuf,
    /// How much one digest may have.
    pub limits: DirLimits,
    /// Signatures in all.
    pub total: usize,
    /// Take signatures alone that a key of the folder `keys` verifies.
    pub known_keys_only: bool,
}

/// The server; a cheap handle.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signatures: SignatureDir,
    keys: KeyFolder,
    known_keys_only: bool,
    writers: Writers,
    census: Census,
    verdicts: Verdicts,
    cores: Cores,
    known: Known,
    load: Arc<Load>,
    reading: Semaphore,
    writing: Semaphore,
    pages: Semaphore,
    draining: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens the folder, counts what is in it and removes what a process that was killed left; may block. The error is
    /// for the user.
    pub fn open(config: &StoreConfig, writers: Writers, metrics: Arc<Metrics>) -> Result<Self, String> {
        let failed = |error: disk::DiskError| format!("--dir {}: {}", config.dir.display(), error);
        let signatures = SignatureDir::create(&config.dir.join("sigstore"), config.limits).map_err(failed)?;
        let census = Census::new(signatures.clone(), config.total);
        census.begin().map_err(failed)?;
        metrics.store.signatures(census.signatures());
        Ok(Self(Arc::new(Inner {
            signatures,
            keys: KeyFolder::new(&config.dir.join("keys")),
            known_keys_only: config.known_keys_only,
            writers,
            census,
            verdicts: Verdicts::default(),
            cores: Cores::default(),
            known: Known::default(),
            load: Arc::new(Load::new(UPLOADS, UPLOAD_BYTES)),
            reading: Semaphore::new(READING),
            writing: Semaphore::new(WRITING),
            pages: Semaphore::new(PAGES),
            draining: Arc::default(),
            metrics,
        })))
    }

    /// What a listener answers. It has to tell requests who sends them: [`Self::routes`].
    pub fn router(&self) -> Router {
        Router::new().fallback(routes::answer).with_state(self.clone())
    }

    /// What a listener answers, over TLS or not.
    pub fn routes(&self) -> Routes {
        Routes::open(self.router(), Arc::clone(&self.0.draining))
    }

    /// How many signatures there are, as of the last count.
    pub fn signatures(&self) -> usize {
        self.0.census.signatures()
    }

    /// `Ok` unless the process is about to end.
    pub fn ready(&self) -> Result<(), String> {
        if self.0.draining.load(Ordering::Acquire) { Err("shutting down".to_owned()) } else { Ok(()) }
    }

    /// Counts again and again, because others write to the folder as well. Never returns.
    pub async fn recount(self) {
        loop {
            tokio::time::sleep(RECOUNT).await;
            let store = self.clone();
            let counted = tokio::task::spawn_blocking(move || store.0.census.look().map(drop)).await;
            if let Ok(Err(error)) = counted {
                tracing::error!("the signatures cannot be counted: {}", error);
            }
            self.0.metrics.store.signatures(self.signatures());
        }
    }

    /// Does what waits for the disk, with no more of its kind at once than there are slots; `None` if that panicked.
    async fn blocking<T: Send + 'static>(
        &self,
        slots: impl Fn(&Inner) -> &Semaphore,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Option<T> {
        let _slot = slots(&self.0).acquire().await.ok()?;
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store.0)).await.ok()
    }
}

/// Who sent a request, for the log.
fn client(peer: Option<&Peer>) -> String {
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.address.to_string())
}

/// The bytes of a blob, to be sent.
fn bytes_of(blob: disk::Blob) -> (Bytes, i64) {
    (blob.content.into(), blob.modified)
}
