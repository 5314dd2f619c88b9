//! Where trust in a repository begins, and the way from there to its newest root.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tracing::warn;

use super::Stop;
use super::loading::Loading;
use crate::cluster::roots::{KnownRoot, RootPlace};
use crate::domain::policy::NotaryTrust;
use crate::domain::verdict::{Cause, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::notary::{Authorities, MAX_UNMEASURED, Pin, Root, UntrustedRoot, Versions};
use crate::verify::entry::Subject;

/// Versions of the root between a trusted one and the newest, at most.
const MAX_ROTATIONS: u64 = 64;

/// A trusted root, and what was remembered of it.
pub(super) struct Trusted {
    pub(super) root: Arc<Root>,
    pub(super) before: Option<KnownRoot>,
}

/// A root that is trusted for being the first one, and not kept yet.
#[derive(Debug)]
pub(super) struct FirstRoot {
    place: RootPlace,
    root: KnownRoot,
    /// Where its versions are kept.
    seen: [u8; 32],
    versions: Versions,
    /// Once for all manifests of an index.
    kept: OnceCell<Result<(), Cause>>,
}

impl FirstRoot {
    /// Keeps it for all replicas, before anybody gets a verdict by it.
    pub(super) async fn keep(&self, subject: &Subject<'_>) -> Result<(), Cause> {
        let keep = async || {
            remember(subject, &self.place, None, &self.root).await.map_err(Cause::Undecided)?;
            let seen = subject.verifier.seen.advance(self.seen, self.versions.clone());
            seen.map_err(|error| Cause::Refused(Refusal::new(RefusalKind::Invalid, error.to_string())))
        };
        self.kept.get_or_init(|| Box::pin(keep())).await.clone()
    }
}

async fn remember(
    subject: &Subject<'_>,
    place: &RootPlace,
    before: Option<&KnownRoot>,
    root: &KnownRoot,
) -> Result<(), Fault> {
    subject.verifier.roots.remember(place, before, root, subject.deadline).await?;
    warn!(
        gun = place.gun,
        server = place.server,
        version = root.version,
        sha256 = root.sha256,
        "the root of trust is remembered from now on"
    );
    Ok(())
}

impl Loading<'_> {
    /// The newest root, once trust in it has a beginning.
    pub(super) async fn trusted(&self, newest: UntrustedRoot) -> Result<Trusted, Stop> {
        let newest = Arc::new(newest);
        let now = Some(self.now);
        match self.trust {
            NotaryTrust::RootKeys(ids) => {
                let (of, pins) = (newest.clone(), ids.clone());
                let root = self.labour(move || of.establish(Pin::Keys(&pins), now)).await??;
                let root = match root {
                    Some(root) => root,
                    None => self.back_to_a_pin(&newest, ids).await?,
                };
                Ok(Trusted { root: Arc::new(root), before: None })
            }
            NotaryTrust::Authority(reference) => {
                let pem = self.method.notary.authority.clone();
                let pem = pem.ok_or_else(|| Fault::new(FaultKind::Internal, "the authority was not read"))??;
                let authorities = Authorities::from_pem(&pem).map_err(|why| {
                    Fault::new(FaultKind::Configuration, format!("ca.crt of {reference} cannot be used: it is {why}"))
                })?;
                let of = newest.clone();
                let root = self.labour(move || of.establish(Pin::Authorities(&authorities), now)).await??;
                let root = root.ok_or_else(|| {
                    let what = format!("no valid root certificate comes from the authority in {reference}");
                    SignatureError::Key(what)
                })?;
                Ok(Trusted { root: Arc::new(root), before: None })
            }
            NotaryTrust::FirstUse => self.seen_first(&newest).await,
        }
    }

    /// Goes back to a root with a pinned key, and forward again.
    async fn back_to_a_pin(&self, newest: &Arc<UntrustedRoot>, ids: &[String]) -> Result<Root, Stop> {
        let oldest = newest.version().saturating_sub(MAX_ROTATIONS).max(1);
        let mut between = Vec::new();
        for version in (oldest..newest.version()).rev() {
            let Some(older) = self.older_root(version).await? else { break };
            let pins = ids.to_vec();
            let (older, root) = self
                .labour(move || {
                    let root = older.establish(Pin::Keys(&pins), None);
                    (older, root)
                })
                .await?;
            match root? {
                Some(root) => {
                    between.reverse();
                    return self.forward(root, between, newest).await;
                }
                None => between.push(older),
            }
        }
        let found = newest.key_ids().into_iter().take(4).collect::<Vec<_>>().join(", ");
        let what =
            format!("its root key is {found}, and notaryTrust names neither that one nor one that it follows from");
        Err(SignatureError::Key(what).into())
    }

    /// Each root must be signed by the one before it. `between` are those that were fetched already, oldest first.
    async fn forward(
        &self,
        mut root: Root,
        between: Vec<UntrustedRoot>,
        newest: &Arc<UntrustedRoot>,
    ) -> Result<Root, Stop> {
        for next in between {
            root = self.labour(move || next.follow(&root)).await??;
        }
        let newest = newest.clone();
        Ok(self.labour(move || newest.follow(&root)).await??)
    }

    /// The root by what is remembered; any valid one when nothing is.
    async fn seen_first(&self, newest: &Arc<UntrustedRoot>) -> Result<Trusted, Stop> {
        let memory = &self.method.subject.verifier.roots;
        let place = self.place();
        let Some(known) = memory.recall(&place, self.method.subject.deadline).await? else {
            let (of, now) = (newest.clone(), Some(self.now));
            let root = self.labour(move || of.establish(Pin::Any, now)).await??;
            let none = || SignatureError::NotValid("no root certificate is valid now".to_owned());
            return Ok(Trusted { root: Arc::new(root.ok_or_else(none)?), before: None });
        };
        let changed = || {
            SignatureError::Key(format!(
                "its root of trust is not the one that was seen first, nor does it follow from that; if the change is \
                 wanted, an administrator takes out {}",
                memory.whereabouts(&place)
            ))
        };
        let start = if newest.version() == known.version { Some(newest.clone()) } else { None };
        let start = match start {
            Some(same) => same,
            None if newest.version() < known.version || newest.version() - known.version > MAX_ROTATIONS => {
                return Err(changed().into());
            }
            None => Arc::new(self.older_root(known.version).await?.ok_or_else(changed)?),
        };
        if start.fingerprint() != known.sha256 {
            return Err(changed().into());
        }
        let root = self.labour(move || start.establish(Pin::Any, None)).await??.ok_or_else(changed)?;
        let root = if root.version() == newest.version() {
            root
        } else {
            let mut between = Vec::new();
            for version in root.version() + 1..newest.version() {
                between.push(self.older_root(version).await?.ok_or_else(changed)?);
            }
            self.forward(root, between, newest).await?
        };
        Ok(Trusted { root: Arc::new(root), before: Some(known) })
    }

    /// What was verified is not to become older, and the root not to be another one, from now on.
    ///
    /// Of a root that is seen first nothing is kept yet: it is handed back, to be kept once an image passes by it, so that
    /// names of repositories that somebody made up take no place. In a dry run nothing is kept of it, nor of one that
    /// follows from the remembered one: whatever was verified counts for this review.
    pub(super) async fn settle(
        &self,
        root: &Root,
        before: Option<KnownRoot>,
        versions: Versions,
    ) -> Result<Option<Arc<FirstRoot>>, Stop> {
        let Subject { verifier, dry_run, .. } = self.method.subject;
        let seen = self.place_of_versions();
        if *self.trust != NotaryTrust::FirstUse {
            verifier.seen.advance(seen, versions)?;
            return Ok(None);
        }
        let root = KnownRoot { version: root.version(), sha256: root.fingerprint() };
        if *dry_run {
            verifier.seen.check(seen, &versions)?;
            return Ok(None);
        }
        if before.is_none() {
            verifier.seen.check(seen, &versions)?;
            return Ok(Some(Arc::new(FirstRoot { place: self.place(), root, seen, versions, kept: OnceCell::new() })));
        }
        verifier.seen.advance(seen, versions)?;
        if before.as_ref() != Some(&root) {
            remember(self.method.subject, &self.place(), before.as_ref(), &root).await?;
        }
        Ok(None)
    }

    async fn older_root(&self, version: u64) -> Result<Option<UntrustedRoot>, Stop> {
        match self.fetch(&format!("{version}.root.json"), MAX_UNMEASURED).await? {
            Some(bytes) => self.read_root(bytes).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn read_root(&self, bytes: Bytes) -> Result<UntrustedRoot, Stop> {
        let gun = self.source.gun().to_owned();
        Ok(self.labour(move || UntrustedRoot::read(&bytes, &gun)).await??)
    }
}
