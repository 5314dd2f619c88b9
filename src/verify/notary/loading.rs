//! One pass over the trust data of a repository: from its root down to the roles that count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::roots::Trusted;
use super::{Loaded, NotaryMethod, Stop};
use crate::cluster::roots::RootPlace;
use crate::domain::policy::NotaryTrust;
use crate::domain::verdict::{Cause, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::signature::SignatureError;
use crate::signature::notary::{
    Collection, FileMeta, MAX_UNMEASURED, RELEASES, Root, Snapshot, TARGETS, Targets, Versions, role_of_signer,
};
use crate::source::notary::NotarySource;
use crate::verify::entry::Subject;

/// Delegations looked at for one repository, at most.
const MAX_ROLES: usize = 32;

/// One pass over the trust data of a repository.
pub(super) struct Loading<'a> {
    pub(super) method: &'a NotaryMethod<'a>,
    pub(super) source: &'a NotarySource,
    pub(super) trust: &'a NotaryTrust,
    pub(super) now: SystemTime,
}

impl Loading<'_> {
    pub(super) async fn run(&self) -> Result<Loaded, Stop> {
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
        // Trusted for being the first and not kept as that: it holds for this answer and no other.
        let rehearsed = self.method.subject.dry_run && *self.trust == NotaryTrust::FirstUse && before.is_none();
        let first = self.settle(&root, before, versions).await?;
        let ends = [root.valid_until(), timestamp.expires(), snapshot.expires()];
        let ends = collection.files().map(Targets::expires).chain(ends).chain(rehearsed.then_some(now)).min();
        Ok(Loaded { collection: Arc::new(collection), valid_until: ends.unwrap_or(now), first })
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

    pub(super) async fn fetch(&self, file: &str, limit: usize) -> Result<Option<Bytes>, Stop> {
        let upstream = &self.method.subject.verifier.upstream;
        Ok(upstream.notary(self.source, file, limit, &self.method.notary.access).await?)
    }

    /// Off the threads that answer.
    pub(super) async fn labour<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
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

    pub(super) fn place(&self) -> RootPlace {
        RootPlace {
            namespace: self.method.subject.entry.policy.namespace.clone(),
            asker: self.method.subject.namespace.into(),
            server: self.source.url().to_string(),
            gun: self.source.gun().to_owned(),
        }
    }

    /// Where versions are remembered: apart for every owner, server, repository and beginning of trust, so that nobody
    /// makes data look old to others.
    pub(super) fn place_of_versions(&self) -> [u8; 32] {
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
