//! What one signature comes to, with everything about it that people ask for.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::domain::digest::Digest;
use crate::domain::identity::SignedIdentity;
use crate::domain::image::ImageRef;
use crate::domain::payload::SimplePayload;
use crate::domain::printable::unprintable;
use crate::domain::signer::{GpgSigner, gpg_signer_name};
use crate::signature::SignatureError;
use crate::signature::openpgp::{Keyring, UntrustedSignature, inspect};

/// Longest text that is taken from a signature, in characters.
const MAX_TEXT: usize = 512;

/// What a signature comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By a given key, for this digest, under the expected name.
    Verified,
    /// By a given key, for this digest, under the expected name, and by none of the listed signers.
    SignerMismatch,
    /// By a given key, for this digest, under another name.
    IdentityMismatch,
    /// By a given key, for another digest.
    DigestMismatch,
    /// By a key that was not given.
    UntrustedKey,
    /// By a given key that is expired, revoked, too weak or not for signing.
    KeyNotValid,
    /// Expired, from the future, or with a digest that is too weak.
    SignatureNotValid,
    /// It does not fit what it signs.
    BadSignature,
    /// Not of the form of a simple signature, or with a payload that is not.
    MalformedSignature,
}

impl Outcome {
    /// As one word for programs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Verified => "Verified",
            Self::SignerMismatch => "SignerMismatch",
            Self::IdentityMismatch => "IdentityMismatch",
            Self::DigestMismatch => "DigestMismatch",
            Self::UntrustedKey => "UntrustedKey",
            Self::KeyNotValid => "KeyNotValid",
            Self::SignatureNotValid => "SignatureNotValid",
            Self::BadSignature => "BadSignature",
            Self::MalformedSignature => "MalformedSignature",
        }
    }

    /// Whether it only says that other keys or another name were asked for, so that it takes nothing from a verdict by
    /// somebody else.
    pub fn depends_on_the_question(self) -> bool {
        matches!(self, Self::UntrustedKey | Self::IdentityMismatch | Self::SignerMismatch)
    }
}

/// Who signed, proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the primary key, upper-case hexadecimal.
    pub fingerprint: String,
    /// Valid user IDs.
    pub user_ids: Vec<String>,
    /// The key file.
    pub file: String,
}

/// One signature and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What it comes to.
    pub outcome: Outcome,
    /// Why, as a sentence.
    pub message: String,
    /// Who signed; only of signatures whose mathematics are right.
    pub signer: Option<Signer>,
    /// The keys it says it was made by.
    pub issuers: Vec<String>,
    /// When it says it was made. Proved if there is a signer.
    pub created: Option<SystemTime>,
    /// The name under which it says the image was signed. Proved if there is a signer.
    pub identity: Option<String>,
    /// The digest it says it is for. Proved if there is a signer.
    pub digest: Option<Digest>,
}

/// What signatures are held against.
#[derive(Debug)]
pub struct Question<'a> {
    keyring: &'a Keyring,
    digest: &'a Digest,
    image: &'a ImageRef,
    identity: &'a SignedIdentity,
    listed: &'a [String],
    now: SystemTime,
    user_ids: HashMap<String, Vec<String>>,
}

impl<'a> Question<'a> {
    /// Whether keys of the ring signed `digest` under a name that `identity` accepts for `image`, as of `now`.
    pub fn new(
        keyring: &'a Keyring,
        digest: &'a Digest,
        image: &'a ImageRef,
        identity: &'a SignedIdentity,
        now: SystemTime,
    ) -> Self {
        let user_ids = keyring.keys(now).into_iter().map(|key| (key.fingerprint, key.user_ids)).collect();
        Self { keyring, digest, image, identity, listed: &[], now, user_ids }
    }

    /// And whether they are among these signers, as a policy lists them; all are when none is listed.
    #[must_use]
    pub fn listed(self, listed: &'a [String]) -> Self {
        Self { listed, ..self }
    }

    /// Examines one signature; `blob` is untrusted and may be at most 4 MiB. In the order of containers/image: signature
    /// and key, payload, digest, name.
    pub fn examine(&self, blob: &[u8]) -> Examined {
        let said = match inspect(blob) {
            Ok(said) => said,
            Err(error) => return Examined::unreadable(error.to_string()),
        };
        let mut examined = Examined::claimed(&said);
        let signed = match self.keyring.verify(blob, self.now) {
            Ok(signed) => signed,
            Err(error) => {
                examined.outcome = outcome_of(&error);
                examined.message = error.to_string();
                return examined;
            }
        };
        let user_ids = self.user_ids.get(&signed.signer.fingerprint).cloned().unwrap_or_default();
        let (outcome, message) = match SimplePayload::parse(&signed.content) {
            Err(error) => (Outcome::MalformedSignature, format!("the signed payload is malformed: {error}")),
            Ok(payload) => self.compare(&payload, &signed.signer),
        };
        let (fingerprint, file) = (signed.signer.fingerprint, signed.signer.file);
        examined.signer = Some(Signer { fingerprint, user_ids, file });
        Examined { outcome, message, ..examined }
    }

    fn compare(&self, payload: &SimplePayload, signer: &GpgSigner) -> (Outcome, String) {
        if payload.digest != *self.digest {
            return (Outcome::DigestMismatch, format!("signed for another image, {}", payload.digest));
        }
        if !self.identity.accepts(self.image, &payload.reference) {
            let (name, expected) = (shown(&payload.reference), self.expected());
            return (Outcome::IdentityMismatch, format!("signed as {name}, and expected was {expected}"));
        }
        if gpg_signer_name(self.listed, signer).is_none() {
            return (Outcome::SignerMismatch, "by none of the signers that are listed".to_owned());
        }
        (Outcome::Verified, format!("signed as {}", shown(&payload.reference)))
    }

    fn expected(&self) -> String {
        match self.identity {
            SignedIdentity::ExactReference(reference) => reference.to_string(),
            SignedIdentity::ExactRepository(repository) => format!("any version of {repository}"),
            _ => format!("a name that counts for {}", self.image),
        }
    }
}

impl Examined {
    /// Of what is no signature.
    pub fn unreadable(message: String) -> Self {
        Self {
            outcome: Outcome::MalformedSignature,
            message,
            signer: None,
            issuers: Vec::new(),
            created: None,
            identity: None,
            digest: None,
        }
    }

    /// What a signature says about itself.
    fn claimed(said: &UntrustedSignature) -> Self {
        let payload = SimplePayload::parse(&said.content).ok();
        Self {
            issuers: said.issuers.clone(),
            created: said.created,
            identity: payload.as_ref().map(|payload| shown(&payload.reference)),
            digest: payload.map(|payload| payload.digest),
            ..Self::unreadable(String::new())
        }
    }

    /// The best name of who signed, or of whom it claims to be by, marked as a claim.
    pub fn by(&self) -> String {
        let proved = self.signer.as_ref().map(|s| s.user_ids.first().unwrap_or(&s.fingerprint).clone());
        let claimed = || self.issuers.first().map_or_else(|| "-".to_owned(), |issuer| format!("{issuer} (claimed)"));
        proved.unwrap_or_else(claimed)
    }

    /// The key ID that the signature names, or that belongs to the fingerprint it names.
    pub fn key_id(&self) -> Option<String> {
        let short = self.issuers.iter().find(|issuer| issuer.len() == 16).cloned();
        short.or_else(|| {
            let v4 = self.issuers.iter().find(|issuer| issuer.len() == 40)?;
            v4.get(24..).map(str::to_owned)
        })
    }

    /// When it says it was made, RFC 3339 in UTC.
    pub fn made(&self) -> Option<String> {
        self.created.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(|time| time.to_string())
    }
}

fn outcome_of(error: &SignatureError) -> Outcome {
    match error {
        SignatureError::Malformed(_) => Outcome::MalformedSignature,
        SignatureError::UntrustedKey(_) => Outcome::UntrustedKey,
        SignatureError::Bad => Outcome::BadSignature,
        SignatureError::Key(_) => Outcome::KeyNotValid,
        SignatureError::NotValid(_) => Outcome::SignatureNotValid,
        SignatureError::OtherDigest(_) => Outcome::DigestMismatch,
        SignatureError::Mismatch(_) => Outcome::IdentityMismatch,
    }
}

/// Text from a signature for terminals and objects: short, on one line, and without what hides or turns around what
/// stands beside it.
pub fn shown(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if unprintable(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every blob comes to something, and nothing by a stranger is ever verified.
        #[test]
        fn whatever_a_store_serves_is_answered(mut blob in proptest::collection::vec(any::<u8>(), 0..256), first in any::<u8>()) {
            if let Some(byte) = blob.first_mut() {
                *byte = 0x80 | first;
            }
            let (keyring, digest) = (Keyring::default(), Digest::sha256(b"manifest"));
            let image: ImageRef = "registry.local/a:1".parse().unwrap();
            let identity = SignedIdentity::exact_reference("registry.local/a:1").unwrap();
            let question = Question::new(&keyring, &digest, &image, &identity, SystemTime::UNIX_EPOCH);
            let examined = question.examine(&blob);
            prop_assert!(examined.outcome != Outcome::Verified && examined.signer.is_none());
            prop_assert!(!examined.message.is_empty());
        }
    }

    #[test]
    fn text_of_strangers_is_short_and_on_one_line() {
        assert_eq!(shown("a\n\u{1b}[31mb"), "a\u{fffd}\u{fffd}[31mb");
        assert_eq!(shown("a\u{202e}\u{2028}\u{200b}ü–b"), "a\u{fffd}\u{fffd}\u{fffd}ü–b");
        assert_eq!(shown(&"x".repeat(10_000)).len(), MAX_TEXT);
    }

    #[test]
    fn a_key_id_is_the_end_of_a_fingerprint() {
        let mut examined = Examined::unreadable(String::new());
        assert_eq!((examined.key_id(), examined.by()), (None, "-".to_owned()));
        examined.issuers = vec!["0123456789ABCDEF0123456789ABCDEF01234567".to_owned()];
        assert_eq!(examined.key_id().as_deref(), Some("89ABCDEF01234567"));
        assert!(examined.by().ends_with(" (claimed)"));
    }
}
