//! Docker Content Trust: the trust data of the image's repository, fetched and verified once for all digests of an image.
//!
//! ```text
//!   root.json ─ trusted by key id, by authority, or remembered from the first time
//!     │           └ not itself: older `<n>.root.json` back to a trusted one, and forward again, each by the one before
//!     └► timestamp ─► snapshot ─► targets ─► targets/releases and the roles of listed signers
//!          └► nothing older than what was seen before ─► first use remembered ─► the question about tag and digest
//! ```
//! "Not signed" is only what the server says by 404 to the question for the root, and trust data that is complete and
//! does not have the tag; every other missing or late file is an obstacle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tracing::warn;

use super::Verifier;
use super::entry::{Material, MethodResult, Subject};
use crate::cluster::roots::{KnownRoot, RootPlace};
use crate::domain::policy::{NotaryCheck, NotaryTrust};
use crate::domain::verdict::{Cause, Method, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::notary::{
    Authorities, Collection, FileMeta, MAX_UNMEASURED, Pin, RELEASES, Root, Snapshot, TARGETS, Targets, UntrustedRoot,
    Versions, role_of_signer,
};
use crate::source::access::Access;
use crate::source::notary::NotarySource;

/// Versions of the root between a trusted one and the newest, at most.
const MAX_ROTATIONS: u64 = 64;
/// Delegations looked at for one repository, at most.
const MAX_ROLES: usize = 32;
/// Repositories whose versions are remembered, and for how long after the last look.
const MAX_SEEN: u64 = 20_000;
const SEEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// What was seen before, so that nothing goes back to it.
#[derive(Debug)]
pub(super) struct Seen(moka::sync::Cache<[u8; 32], Arc<Versions>>);

impl Seen {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MAX_SEEN).time_to_idle(SEEN).build())
    }

    /// Refuses what is older than what was seen in this place before; else it is what was seen.
    fn advance(&self, place: [u8; 32], versions: Versions) -> Result<(), SignatureError> {
        let before = self.0.get(&place).unwrap_or_default();
        versions.check(&before)?;
        // Another review may have gone further meanwhile: the highest stays.
        self.0.entry(place).and_upsert_with(|entry| {
            let known = entry.map(moka::Entry::into_value).unwrap_or_default();
            Arc::new(versions.merged(&known))
        });
        Ok(())
    }
}

/// What asking the server takes, and its answer, once it is there.
#[derive(Clone)]
pub(super) struct NotaryMaterial {
    pub(super) source: Result<NotarySource, Fault>,
    pub(super) access: Access,
    /// `ca.crt` of `notaryTrust.caRef`.
    pub(super) authority: Option<Result<Arc<[u8]>, Fault>>,
    pub(super) loaded: Arc<OnceCell<Result<Loaded, Cause>>>,
}

impl NotaryMaterial {
    /// A hash of the credentials that the server would get; zero for none.
    pub(super) fn credentials(&self) -> [u8; 32] {
        self.source.as_ref().map_or([0; 32], |source| source.credentials(&self.access.keychain))
    }
}

/// Verified trust data.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    collection: Arc<Collection>,
    /// The earliest expiry in it.
    valid_until: SystemTime,
}

/// Why loading stopped.
enum Stop {
    Cause(Cause),
    /// Not sound, or changed while it was read.
    Unsound(SignatureError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Cause(Cause::Undecided(fault))
    }
}

impl From<SignatureError> for Stop {
    fn from(error: SignatureError) -> Self {
        Self::Unsound(error)
    }
}

pub(super) struct NotaryMethod<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) check: &'a NotaryCheck,
    pub(super) signers: &'a [String],
    pub(super) material: &'a Material,
    pub(super) notary: &'a NotaryMaterial,
}

impl NotaryMethod<'_> {
    pub(super) async fn judge(&self) -> MethodResult {
        let loaded = self.notary.loaded.get_or_init(|| Box::pin(self.load())).await;
        let Loaded { collection, valid_until } = loaded.as_ref().map_err(Clone::clone)?;
        // With a digest the tag is free text, and the manifests of an index have none.
        let image = self.subject.image;
        let tag = if self.material.child || image.digest().is_some() { None } else { image.tag() };
        let signer = collection.judge(tag, &self.material.digest, self.signers).map_err(Cause::Refused)?;
        Ok((Pass { method: Some(Method::Notary), signer: Some(signer) }, Some(*valid_until)))
    }

    async fn load(&self) -> Result<Loaded, Cause> {
        let source = self.notary.source.as_ref().map_err(|fault| Cause::Undecided(fault.clone()))?;
        let Some(trust) = &self.check.trust else {
            let message = "notary is not used without notaryTrust: set rootKeyIds, caRef or firstUse in the policy";
            return Err(Cause::Undecided(Fault::new(FaultKind::Configuration, message)));
        };
        let loading = Loading { method: self, source, trust, now: Verifier::now() };
        let first = match loading.run().await {
            // Files that do not belong together: somebody may have published between two requests.
            Err(Stop::Unsound(SignatureError::Mismatch(_))) => loading.run().await,
            first => first,
        };
        first.map_err(|stop| match stop {
            Stop::Cause(cause) => cause,
            Stop::Unsound(error) => {
                let detail = format!("the trust data of {} on {} does not hold: {error}", source.gun(), source.url());
                Cause::Refused(Refusal::new(RefusalKind::Invalid, detail))
            }
        })
    }
}

/// One pass over the trust data of a repository.
struct Loading<'a> {
    method: &'a NotaryMethod<'a>,
    source: &'a NotarySource,
    trust: &'a NotaryTrust,
    now: SystemTime,
}

/// A trusted root, and what was remembered of it.
struct Trusted {
    root: Arc<Root>,
    before: Option<KnownRoot>,
}

impl Loading<'_> {
    async fn run(&self) -> Result<Loaded, Stop> {
        let now = self.now;
        let Some(bytes) = self.fetch("root.json", MAX_UNMEASURED).await? else {
            let detail = format!("{} has no trust data for {}", self.source.url(), self.source.gun());
            return Err(Stop::Cause(Cause::Refused(Refusal::new(RefusalKind::Unsigned, detail))));
        };
        let Trusted { root, before } = self.trusted(self.read_root(bytes).await?).await?;
        root.check_current(now)?;
        let bytes = self.need("timestamp.json", MAX_UNMEASURED).await?;
        let timestamp = self.work(&root, move |root| root.timestamp(&bytes, now)).await?;
        let bytes = self.need_file("snapshot", &timestamp.snapshot).await?;
        let (of, root_of) = (timestamp.clone(), root.clone());
        let snapshot = Arc::new(self.work(&root_of, move |root| root.snapshot(&bytes, &of, now)).await?);
        let file =
            snapshot.file(TARGETS).ok_or_else(|| SignatureError::Malformed("no targets are listed".to_owned()))?;
        let bytes = self.need_file(TARGETS, file).await?;
        let of = snapshot.clone();
        let targets = self.work(&root, move |root| root.targets(&bytes, &of, now)).await?;
        let (delegated, skipped) = self.delegations(&snapshot, &targets).await?;

        let collection = Collection::new(self.source.gun(), targets, delegated, skipped);
        let versions = Versions::of(&root, &timestamp, &snapshot, collection.files());
        self.method.subject.verifier.seen.advance(self.place_of_versions(), versions)?;
        if *self.trust == NotaryTrust::FirstUse {
            self.remember(&root, before.as_ref()).await?;
        }
        let ends = [root.valid_until(), timestamp.expires(), snapshot.expires()];
        let ends = collection.files().map(Targets::expires).chain(ends).min();
        Ok(Loaded { collection: Arc::new(collection), valid_until: ends.unwrap_or(now) })
    }

    /// The newest root, once trust in it has a beginning.
    async fn trusted(&self, newest: UntrustedRoot) -> Result<Trusted, Stop> {
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

    /// Keeps the root for all replicas before anybody gets a verdict by it.
    async fn remember(&self, root: &Root, before: Option<&KnownRoot>) -> Result<(), Stop> {
        let new = KnownRoot { version: root.version(), sha256: root.fingerprint() };
        if before == Some(&new) {
            return Ok(());
        }
        let memory = &self.method.subject.verifier.roots;
        memory.remember(&self.place(), before, &new, self.method.subject.deadline).await?;
        warn!(
            gun = self.source.gun(), server = %self.source.url(), version = new.version, sha256 = new.sha256,
            "the root of trust is remembered from now on"
        );
        Ok(())
    }

    /// The released role and those of listed signers, each through the roles above it. Roles that have expired or lack
    /// signatures are left out.
    async fn delegations(
        &self,
        snapshot: &Arc<Snapshot>,
        targets: &Targets,
    ) -> Result<(Vec<Targets>, Vec<String>), Stop> {
        let (mut found, mut skipped): (Vec<Targets>, Vec<String>) = (Vec::new(), Vec::new());
        for role in wanted_roles(self.method.signers) {
            let parent = role.rsplit_once('/').map_or(TARGETS, |(parent, _)| parent);
            let above = if parent == TARGETS { Some(targets) } else { found.iter().find(|t| t.role() == parent) };
            let Some(delegation) = above.and_then(|above| above.delegation(&role)) else { continue };
            // Nobody has published anything in that role yet.
            let Some(file) = snapshot.file(&role) else { continue };
            if found.len() + skipped.len() >= MAX_ROLES {
                let what = format!("notary: more than {MAX_ROLES} delegations of {} would count", self.source.gun());
                return Err(Fault::new(FaultKind::TooLarge, what).into());
            }
            let bytes = self.need_file(&role, file).await?;
            let (delegation, file, now) = (delegation.clone(), file.clone(), self.now);
            match self.labour(move || delegation.read(&bytes, &file, now)).await? {
                Ok(read) => found.push(read),
                Err(error @ (SignatureError::Key(_) | SignatureError::NotValid(_))) => skipped.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((found, skipped))
    }

    async fn older_root(&self, version: u64) -> Result<Option<UntrustedRoot>, Stop> {
        match self.fetch(&format!("{version}.root.json"), MAX_UNMEASURED).await? {
            Some(bytes) => self.read_root(bytes).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read_root(&self, bytes: Bytes) -> Result<UntrustedRoot, Stop> {
        let gun = self.source.gun().to_owned();
        Ok(self.labour(move || UntrustedRoot::read(&bytes, &gun)).await??)
    }

    /// A file by its hash, if one is known, so that what is published meanwhile does not come in between.
    async fn need_file(&self, role: &str, file: &FileMeta) -> Result<Bytes, Stop> {
        let name = match file.sha256_hex() {
            Some(hash) => format!("{role}.{hash}.json"),
            None => format!("{role}.json"),
        };
        self.need(&name, file.length()).await
    }

    async fn need(&self, file: &str, limit: usize) -> Result<Bytes, Stop> {
        self.fetch(file, limit).await?.ok_or_else(|| {
            let what = format!(
                "Notary server {}: it has trust data of {} and not its {file}",
                self.source.url(),
                self.source.gun()
            );
            Fault::new(FaultKind::BadAnswer, what).into()
        })
    }

    async fn fetch(&self, file: &str, limit: usize) -> Result<Option<Bytes>, Stop> {
        let upstream = &self.method.subject.verifier.upstream;
        Ok(upstream.notary(self.source, file, limit, &self.method.notary.access).await?)
    }

    /// Off the threads that answer.
    async fn labour<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let Subject { verifier, namespace, deadline, .. } = self.method.subject;
        verifier.labour.run(namespace, *deadline, work).await
    }

    async fn work<T: Send + 'static>(
        &self,
        root: &Arc<Root>,
        work: impl FnOnce(&Root) -> Result<T, SignatureError> + Send + 'static,
    ) -> Result<T, Stop> {
        let root = root.clone();
        Ok(self.labour(move || work(&root)).await??)
    }

    fn place(&self) -> RootPlace {
        RootPlace {
            namespace: self.method.subject.entry.policy.namespace.clone(),
            server: self.source.url().to_string(),
            gun: self.source.gun().to_owned(),
        }
    }

    /// Where versions are remembered: apart for every owner, server, repository and beginning of trust, so that nobody
    /// makes data look old to others.
    fn place_of_versions(&self) -> [u8; 32] {
        let text = format!("{} {:?}", self.place().key(), self.trust);
        let mut place = [0; 32];
        place.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        place
    }
}

/// The roles to look at, those above before those below.
fn wanted_roles(signers: &[String]) -> BTreeSet<String> {
    let mut wanted = BTreeSet::from([RELEASES.to_owned()]);
    for role in signers.iter().filter_map(|listed| role_of_signer(listed)) {
        let mut end = role.len();
        while end > TARGETS.len() {
            wanted.insert(role.get(..end).unwrap_or_default().to_owned());
            end = role.get(..end).and_then(|part| part.rfind('/')).unwrap_or(0);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_above_are_looked_at_before_those_below() {
        let signers = ["alice", "targets/bob/ci", "mail@example.org", "ABCDEF", "../x", "Repo Admin", ""];
        let roles = wanted_roles(&signers.map(str::to_owned));
        let roles: Vec<_> = roles.iter().map(String::as_str).collect();
        assert_eq!(roles, ["targets/alice", "targets/bob", "targets/bob/ci", "targets/releases"]);
    }
}
