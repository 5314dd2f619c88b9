//! The question that all this is for: is this digest released, and by whom?

use std::fmt::Write as _;

use super::metadata::Hashes;
use super::targets::{Targets, is_role};
use super::{RELEASES, TARGETS};
use crate::domain::digest::{Algorithm, Digest, hex};
use crate::domain::verdict::{Refusal, RefusalKind};
use crate::signature::json::shown;

/// Whoever holds the key of the role `targets` itself, as he has always been called.
const REPO_ADMIN: &str = "Repo Admin";

/// Verified targets of one repository: the released roles, and those of listed signers.
#[derive(Debug, Clone)]
pub struct Collection {
    /// In messages.
    gun: String,
    targets: Targets,
    /// `targets/releases` and the roles of signers.
    delegated: Vec<Targets>,
    /// Roles that count for nothing now, and why.
    skipped: Vec<String>,
}

/// The full name of the delegation that an entry of a policy's `signer` list names; `None` when it can be none.
pub fn role_of_signer(listed: &str) -> Option<String> {
    let role = if listed.starts_with("targets/") { listed.to_owned() } else { format!("targets/{listed}") };
    is_role(&role).then_some(role)
}

impl Collection {
    /// Puts verified roles together; `skipped` says which roles could not be used, and why.
    pub fn new(gun: &str, targets: Targets, delegated: Vec<Targets>, skipped: Vec<String>) -> Self {
        Self { gun: gun.to_owned(), targets, delegated, skipped }
    }

    /// Who released the digest: the listed signer that did, or the released role when none is listed.
    ///
    /// With a tag, the tag must be released with this digest: `targets/releases` decides, and `targets` about tags
    /// that it does not have. Without one, the digest must be that of any released tag. A listed signer must have signed
    /// the same tag with the same digest.
    pub fn judge(&self, tag: Option<&str>, digest: &Digest, signers: &[String]) -> Result<String, Refusal> {
        let released = match tag {
            Some(tag) => vec![self.released_as(tag, digest)?],
            None => self.released_anywhere(digest)?,
        };
        if signers.is_empty() {
            return Ok(released.first().map_or(TARGETS, |(_, role)| role).to_owned());
        }
        let signed = |listed: &&String| {
            released.iter().any(|(tag, role)| {
                (*listed == REPO_ADMIN && *role == TARGETS)
                    || role_of_signer(listed)
                        .and_then(|role| self.delegated(&role))
                        .and_then(|targets| targets.target(tag))
                        .is_some_and(|hashes| is(hashes, digest))
            })
        };
        signers.iter().find(signed).cloned().ok_or_else(|| {
            let text = format!("validly signed by Notary for {}, and by none of the listed signers", self.gun);
            self.refusal(RefusalKind::Signer, text)
        })
    }

    /// Everything that was verified, for its versions and expiry.
    pub fn files(&self) -> impl Iterator<Item = &Targets> {
        std::iter::once(&self.targets).chain(&self.delegated)
    }

    fn delegated(&self, role: &str) -> Option<&Targets> {
        self.delegated.iter().find(|targets| targets.role() == role)
    }

    fn released(&self, tag: &str) -> Option<(&Hashes, &str)> {
        let roles = [self.delegated(RELEASES), Some(&self.targets)].into_iter().flatten();
        roles.map(|targets| (targets.target(tag), targets.role())).find_map(|(hashes, role)| Some((hashes?, role)))
    }

    fn released_as<'a>(&'a self, tag: &'a str, digest: &Digest) -> Result<(&'a str, &'a str), Refusal> {
        match self.released(tag) {
            Some((hashes, role)) if is(hashes, digest) => Ok((tag, role)),
            Some((hashes, role)) => {
                let signed =
                    hashes.sha256.as_deref().map_or("another digest".to_owned(), |h| format!("sha256:{}", hex(h)));
                Err(Refusal::new(RefusalKind::Digest, format!("{role} of {} says that {tag} is {signed}", self.gun)))
            }
            None => {
                let text = format!("the trust data of {} has no released tag {}", self.gun, shown(tag));
                Err(self.refusal(RefusalKind::Unsigned, text))
            }
        }
    }

    fn released_anywhere(&self, digest: &Digest) -> Result<Vec<(&str, &str)>, Refusal> {
        let tags = self.delegated(RELEASES).into_iter().chain([&self.targets]).flat_map(Targets::all);
        let tags = tags.filter(|(_, hashes)| is(hashes, digest)).map(|(tag, _)| tag);
        // A tag of `targets` counts only as far as `targets/releases` does not say otherwise.
        let found: Vec<_> = tags.filter_map(|tag| self.released_as(tag, digest).ok()).collect();
        if found.is_empty() {
            let text = format!("no released tag in the trust data of {} has the digest {digest}", self.gun);
            return Err(self.refusal(RefusalKind::Unsigned, text));
        }
        Ok(found)
    }

    fn refusal(&self, kind: RefusalKind, mut text: String) -> Refusal {
        if let Some(first) = self.skipped.first() {
            text.push_str("; not counted: ");
            text.push_str(first);
            if self.skipped.len() > 1 {
                let _ = write!(text, " and {} more roles", self.skipped.len() - 1);
            }
        }
        Refusal::new(kind, text)
    }
}

/// Whether the hashes are those of the digest; a hash of another algorithm says nothing.
fn is(hashes: &Hashes, digest: &Digest) -> bool {
    let stated = match digest.algorithm() {
        Algorithm::Sha256 => &hashes.sha256,
        Algorithm::Sha512 => &hashes.sha512,
    };
    stated.as_deref().is_some_and(|bytes| hex(bytes) == digest.hex())
}
