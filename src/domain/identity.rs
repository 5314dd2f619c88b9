//! Which signed references count for an image: the `signedIdentity` rules of containers-policy.json(5).
//!
//! Both sides are brought to the one normal form of image names before they are compared. Two things differ between them:
//!
//! - The image is taken as it will be pulled: with a digest its tag is free text and left out
//!   ([`ImageRef::identity_form`]). This deviates from containers-policy.json, where `name:tag@digest` only matches a
//!   signature for the same text. Here it is treated as `name@digest`, because the digest is what was checked.
//! - The signed reference keeps what it has: a bare name does not become `name:latest`, because a signature that names no
//!   version claims none, and the rules that compare versions refuse it.

use super::digest::Digest;
use super::image::{ImageRef, Repository, normal_host, split_tag, valid_path, valid_tag};

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SignedIdentity {
    /// Equal references, tag or digest included.
    MatchExact,
    /// By tag: equal references. By digest: the same repository.
    #[default]
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// Signed under this reference.
    ExactReference(ImageRef),
    /// Signed under this repository.
    ExactRepository(Repository),
    /// Replace `prefix` of the image's name by `signed_prefix`, then `MatchRepoDigestOrExact`.
    RemapIdentity {
        /// Host or repository prefix in whole components.
        prefix: String,
        /// What stands in its place in signatures.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// `exactReference`: a reference with a tag or a digest. The error says what is wrong and what to write.
    pub fn exact_reference(reference: &str) -> Result<Self, String> {
        let image: ImageRef = reference.parse().map_err(|error| format!("not an image reference: {error}"))?;
        // A name alone would silently become `latest`.
        match SignedRef::parse(reference) {
            Some(signed) if signed.has_version() => Ok(Self::ExactReference(image)),
            _ => Err("the reference has neither tag nor digest: add one; for every version of a repository, a policy has exactRepository".to_owned()),
        }
    }

    /// `exactRepository`: a name without tag and digest. The error says what is wrong and what to write.
    pub fn exact_repository(repository: &str) -> Result<Self, String> {
        let parsed = Repository::parse(repository);
        parsed.map(Self::ExactRepository).map_err(|error| format!("not a repository without tag and digest: {error}"))
    }

    /// `remapIdentity`: both prefixes are `host[:port]` or `host[:port]/path` in whole components and full form
    /// (`docker.io/library/busybox`, not `busybox`). The error says which is wrong and what to write.
    pub fn remap(prefix: &str, signed_prefix: &str) -> Result<Self, String> {
        let prefix = remap_prefix(prefix).map_err(|error| format!("prefix: {error}"))?;
        let signed_prefix = remap_prefix(signed_prefix).map_err(|error| format!("signedPrefix: {error}"))?;
        Ok(Self::RemapIdentity { prefix, signed_prefix })
    }

    /// Whether a signature made for `signed` (the payload's `docker-reference` as written) counts for `image`.
    pub fn accepts(&self, image: &ImageRef, signed: &str) -> bool {
        let Some(signed) = SignedRef::parse(signed) else { return false };
        let image = image.identity_form();
        let repository = image.repository();
        match self {
            Self::MatchExact => signed.equals(&image),
            Self::MatchRepoDigestOrExact => signed.repo_digest_or_exact(&image, repository),
            Self::MatchRepository => signed.repository == *repository,
            Self::ExactReference(fixed) => signed.equals(fixed),
            Self::ExactRepository(fixed) => signed.repository == *fixed,
            Self::RemapIdentity { prefix, signed_prefix } => {
                remapped(repository, prefix, signed_prefix).is_some_and(|to| signed.repo_digest_or_exact(&image, &to))
            }
        }
    }
}

/// A signed reference in normal form; a bare name stays one.
struct SignedRef {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl SignedRef {
    /// `None` when the text is no reference as a whole: it counts for nothing.
    fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !valid_tag(tag)) {
            return None;
        }
        Some(Self { repository: Repository::parse(name).ok()?, tag: tag.map(str::to_owned), digest })
    }

    fn has_version(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    fn same_version(&self, image: &ImageRef) -> bool {
        self.tag.as_deref() == image.tag() && self.digest.as_ref() == image.digest()
    }

    /// Equal as whole references. An image always has a version, so a bare name equals none.
    fn equals(&self, image: &ImageRef) -> bool {
        self.repository == *image.repository() && self.same_version(image)
    }

    /// `matchRepoDigestOrExact` for an image that goes under the name `repository`.
    fn repo_digest_or_exact(&self, image: &ImageRef, repository: &Repository) -> bool {
        // By digest the signed bytes themselves say which content they are for, so that any tag may stand here.
        self.has_version() && self.repository == *repository && (image.digest().is_some() || self.same_version(image))
    }
}

/// The name that signatures of the repository carry: the prefix replaced once, or the name itself when it has another
/// one. `None` when the result is no name in normal form, which can match nothing.
fn remapped(repository: &Repository, prefix: &str, signed_prefix: &str) -> Option<Repository> {
    let name = repository.to_string();
    let Some(rest) = name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(repository.clone());
    };
    let name = format!("{signed_prefix}{rest}");
    let (host, path) = name.split_once('/')?;
    Repository::new(host, path).ok().filter(|repository| repository.to_string() == name)
}

/// Checks one side of `remapIdentity` and brings its host to normal form.
fn remap_prefix(text: &str) -> Result<String, String> {
    let (host, path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(
            "does not start with a registry host: write the full form, such as docker.io/library/busybox".into()
        );
    }
    let host = normal_host(host)
        .map_err(|error| format!("{error}: write host[:port] or host[:port]/path without tag and digest"))?;
    match path {
        None => Ok(host),
        Some(path) if valid_path(path) => Ok(format!("{host}/{path}")),
        Some(_) => Err("the path is malformed: write whole components without tag, digest and trailing slash".into()),
    }
}

#[cfg(test)]
mod tests;
