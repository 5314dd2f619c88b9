//! Signature verification as pure computation over bytes: what goes in is untrusted, what comes out is proved.

pub mod cosign;
pub mod keyless;
pub mod openpgp;

/// Why one signature is not a good one. The text is safe to show and short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not in the form the format prescribes.
    #[error("malformed signature: {0}")]
    Malformed(String),
    /// Made by a key that is not trusted here.
    #[error("signed by an untrusted key{}", .0.as_deref().map(|id| format!(" ({id})")).unwrap_or_default())]
    UntrustedKey(Option<String>),
    /// The key is trusted and the mathematics do not fit the content.
    #[error("the signature does not fit its content")]
    Bad,
    /// The key cannot be used: expired, revoked, not for signing, weak.
    #[error("{0}")]
    Key(String),
    /// The signature itself is not valid now: expired, from the future, weak digest.
    #[error("{0}")]
    NotValid(String),
    /// Validly signed, for another digest.
    #[error("signed for another digest ({0})")]
    OtherDigest(String),
    /// Validly signed, and not what this check asks for (predicate type, annotation).
    #[error("{0}")]
    Mismatch(String),
}
