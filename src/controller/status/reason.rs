//! Why a policy is ready or not, as one word.

use crate::telemetry::metrics::READY_REASONS;

/// The reasons of the condition `Ready`. Where several apply, the first in this order is the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reason {
    /// Every entry can be used.
    Usable,
    /// An entry cannot be read, and denies.
    InvalidEntry,
    /// An entry asks for a signature and has nothing to check it with.
    NoVerifier,
    /// An entry never decides anything.
    Shadowed,
    /// A Secret or `ConfigMap` does not exist; for a namespaced policy also: lacks the key, or may not be named.
    SecretNotFound,
    /// podseal may not read the Secrets of that namespace.
    SecretForbidden,
    /// A Secret is larger than a namespaced policy may name.
    SecretTooLarge,
    /// No key in the Secret can be read.
    NoPublicKeys,
    /// All keys in the Secret have expired.
    KeyExpired,
    /// No key in the Secret can verify anything: revoked, weak, not for signing.
    KeyUnusable,
    /// `ca.crt` holds no certificate.
    InvalidCertificates,
    /// `trusted_root.json` cannot be used.
    InvalidTrustRoot,
    /// The namespace's policies name more Secrets than are followed.
    TooManyReferences,
    /// The API server did not say what a Secret holds.
    Unavailable,
}

impl Reason {
    /// Where it stands among [`READY_REASONS`].
    pub(super) fn place(self) -> usize {
        self as usize
    }

    /// As the condition has it.
    pub(super) fn label(self) -> &'static str {
        READY_REASONS.get(self.place()).map_or("Unavailable", |(reason, _)| reason)
    }

    /// `True`, `False` or `Unknown`.
    pub(super) fn ready(self) -> &'static str {
        READY_REASONS.get(self.place()).map_or("Unknown", |(_, ready)| ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word() {
        for (reason, word) in [
            (Reason::Usable, "Usable"),
            (Reason::InvalidEntry, "InvalidEntry"),
            (Reason::NoVerifier, "NoVerifier"),
            (Reason::Shadowed, "Shadowed"),
            (Reason::SecretNotFound, "SecretNotFound"),
            (Reason::SecretForbidden, "SecretForbidden"),
            (Reason::SecretTooLarge, "SecretTooLarge"),
            (Reason::NoPublicKeys, "NoPublicKeys"),
            (Reason::KeyExpired, "KeyExpired"),
            (Reason::KeyUnusable, "KeyUnusable"),
            (Reason::InvalidCertificates, "InvalidCertificates"),
            (Reason::InvalidTrustRoot, "InvalidTrustRoot"),
            (Reason::TooManyReferences, "TooManyReferences"),
            (Reason::Unavailable, "Unavailable"),
        ] {
            assert_eq!(reason.label(), word);
        }
        assert_eq!(Reason::Unavailable.place() + 1, READY_REASONS.len());
        assert_eq!(
            [Reason::Usable.ready(), Reason::KeyExpired.ready(), Reason::Unavailable.ready()],
            ["True", "False", "Unknown"]
        );
    }
}
