//! Which signed references count for an image: the `signedIdentity` rules of containers-policy.json(5).

use super::image::{ImageRef, Repository};

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
    /// Whether a signature made for `signed` (the payload's `docker-reference` as written) counts for `image`.
    pub fn accepts(&self, image: &ImageRef, signed: &str) -> bool {
        let _ = (image, signed);
        false
    }
}
