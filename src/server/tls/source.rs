//! Where the serving pair comes from: files that change, or a Secret of podseal's namespace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::{Pem, Tls, TlsError, now};
use crate::cluster::watch::OwnSecrets;
use crate::fault::causes;
use crate::telemetry::Metrics;

/// How often the files are looked at. A Secret volume follows a change of the Secret within a minute or so.
pub const POLL: Duration = Duration::from_secs(5);
/// Largest certificate or key file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// Files with PEM texts.
#[derive(Debug, Clone)]
pub struct Files {
    /// See [`Pem::certificate`].
    pub certificate: PathBuf,
    /// See [`Pem::key`].
    pub key: PathBuf,
    /// See [`Pem::client_ca`].
    pub client_ca: Option<PathBuf>,
}

impl Files {
    async fn read(&self) -> Result<Pem, TlsError> {
        let client_ca = optional(self.client_ca.as_deref()).await?;
        Ok(Pem { certificate: read(&self.certificate).await?, key: read(&self.key).await?, client_ca })
    }
}

/// A Secret with the pair: `tls.crt` and `tls.key`, as the type `kubernetes.io/tls` has them.
#[derive(Debug)]
pub struct SecretSource {
    /// Its name in podseal's namespace.
    pub name: String,
    /// The Secrets of podseal's namespace.
    pub secrets: OwnSecrets,
    /// Says when one of them may have changed.
    pub changes: watch::Receiver<u64>,
    /// See [`Pem::client_ca`]; a file, because it has nothing to do with the serving pair.
    pub client_ca: Option<PathBuf>,
}

impl SecretSource {
    async fn read(&self) -> Result<Pem, TlsError> {
        let missing = |key| TlsError::Key { name: self.name.clone(), key };
        let known = self.secrets.load();
        let known = known.as_ref().ok_or_else(|| TlsError::Unknown { name: self.name.clone() })?;
        let secret = known.get(&self.name).ok_or_else(|| TlsError::NoSecret { name: self.name.clone() })?;
        let part = |key: &'static str| {
            secret
                .data
                .get(key)
                .filter(|value| !value.is_empty())
                .map(|value| value.to_vec())
                .ok_or_else(|| missing(key))
        };
        let (certificate, key) = (part("tls.crt")?, part("tls.key")?);
        Ok(Pem { certificate, key, client_ca: optional(self.client_ca.as_deref()).await? })
    }
}

impl Tls {
    /// Serves the pair in these files, which `whose` names the owner of in messages, until it is replaced; see [`Self::watch`].
    pub async fn open(files: &Files, whose: &'static str, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let tls = Self::waiting(files.client_ca.is_some(), String::new(), metrics).of(whose);
        tls.put(&files.read().await?, &files.certificate.display().to_string(), now())?;
        Ok(tls)
    }

    /// Looks at the files every `interval` and replaces the pair when their content changed. Never returns.
    ///
    /// Content and not time stamps decide: Secret volumes switch by symbolic links. A pair that is half replaced does
    /// not fit together, is reported once and repaired by the next look.
    pub async fn watch(self, files: Files, interval: Duration) {
        let mut ticks = ticks(interval);
        let origin = files.certificate.display().to_string();
        // The first look replaces what `open` read by the same: files may have changed in between.
        let mut last = Last::default();
        loop {
            ticks.tick().await;
            self.take(files.read().await, &origin, &mut last);
        }
    }

    /// Serves the pair in a Secret, from the moment that it is there, and each one that takes its place. Never returns.
    pub async fn follow(self, mut source: SecretSource) {
        // For the client CA's file, and should a change ever go untold.
        let mut ticks = ticks(POLL);
        let origin = format!("Secret {}", source.name);
        let mut last = Last::default();
        loop {
            self.take(source.read().await, &origin, &mut last);
            tokio::select! {
                _ = ticks.tick() => {}
                changed = source.changes.changed() => if changed.is_err() {
                    // Nobody is left who could tell of changes.
                    ticks.tick().await;
                },
            }
        }
    }

    /// Puts what was read in force unless it is what was read before.
    fn take(&self, read: Result<Pem, TlsError>, origin: &str, last: &mut Last) {
        let seen = Seen::of(&read);
        if last.seen.as_ref() == Some(&seen) {
            // Time alone can make this pair the better one: it begins to be valid, or the one before ends.
            if last.waits && read.and_then(|pem| self.put(&pem, origin, now())).is_ok() {
                last.waits = false;
                self.metrics.tls_reload(true);
                tracing::info!(%origin, "{} has a new certificate", self.whose);
            }
            return;
        }
        let first = last.seen.replace(seen).is_none();
        let done = read.and_then(|pem| self.replace_at(&pem, origin, now()));
        last.waits = matches!(done, Err(TlsError::NotValid { .. }));
        match done {
            Ok(()) if first => {}
            Ok(()) => tracing::info!(%origin, "{} has a new certificate", self.whose),
            Err(error) if self.ready().is_ok() => tracing::error!(
                error = %causes(&error), %origin, "{}'s new certificate cannot be used, the one before is kept", self.whose
            ),
            Err(error) => {
                let missing = format!("{} has no certificate yet: {}", self.whose, causes(&error));
                tracing::warn!(%origin, "{missing}");
                self.missing.store(Arc::new(missing));
            }
        }
    }
}

/// What was read last.
#[derive(Default)]
struct Last {
    seen: Option<Seen>,
    /// It was refused for its dates alone.
    waits: bool,
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// What was in the files, without keeping another copy of the key.
#[derive(PartialEq, Eq)]
enum Seen {
    Content([u8; digest::SHA256_OUTPUT_LEN]),
    Unreadable(String),
}

impl Seen {
    fn of(read: &Result<Pem, TlsError>) -> Self {
        let pem = match read {
            Ok(pem) => pem,
            Err(error) => return Self::Unreadable(causes(error)),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [Some(&pem.certificate), Some(&pem.key), pem.client_ca.as_ref()].into_iter().flatten() {
            // With lengths, so that a byte that moves from one file to the next is a change.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Self::Content(hash)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let of = |source| TlsError::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(of)?;
    file.take(MAX_FILE + 1).read_to_end(&mut content).await.map_err(of)?;
    if content.len() as u64 > MAX_FILE {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

async fn optional(path: Option<&Path>) -> Result<Option<Vec<u8>>, TlsError> {
    match path {
        Some(path) => Ok(Some(read(path).await?)),
        None => Ok(None),
    }
}
