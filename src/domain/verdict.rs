//! The three outcomes: allowed, denied with reasons, could not decide.

use std::fmt;
use std::sync::Arc;

use super::digest::Digest;
use super::policy::Entry;
use crate::fault::Fault;

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Docker Content Trust.
    Notary,
    /// cosign, legacy tag or bundle.
    Cosign,
    /// GPG simple signing.
    Gpg,
}

impl Method {
    /// Stable lower-case label for metrics, logs and JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Notary => "notary",
            Self::Cosign => "cosign",
            Self::Gpg => "gpg",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notary => "Notary",
            Self::Cosign => "Cosign",
            Self::Gpg => "GPG",
        })
    }
}

/// What a refusal is about; distinct causes stay distinct down to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The registry or store says for certain that there is no signature.
    Unsigned,
    /// There are signatures, and none is a valid one by a trusted key.
    Invalid,
    /// Validly signed by a trusted key whose holder is not a listed signer.
    Signer,
    /// Validly signed for another digest.
    Digest,
    /// Validly signed under a name that the identity rule does not accept.
    Identity,
    /// The key Secret holds no public key.
    NoPublicKeys,
    /// `signCheck: true` without any method.
    NothingConfigured,
    /// The entry requires a digest and the image has none.
    DigestRequired,
    /// The entry cannot be read.
    BrokenPolicy,
    /// No policy names the registry.
    NoMatchingPolicy,
    /// No policy exists and the installation denies then.
    NoPolicy,
    /// The image is not a valid reference.
    MalformedImage,
    /// The image name does not exist in the registry.
    NotFound,
    /// A policy.json rejects it, whatever its signatures.
    Rejected,
}

impl RefusalKind {
    /// Stable `CamelCase` reason for JSON output, logs and audit annotations.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unsigned => "Unsigned",
            Self::Invalid => "InvalidSignature",
            Self::Signer => "SignerMismatch",
            Self::Digest => "DigestMismatch",
            Self::Identity => "IdentityMismatch",
            Self::NoPublicKeys => "NoPublicKeys",
            Self::NothingConfigured => "NoVerifier",
            Self::DigestRequired => "DigestRequired",
            Self::BrokenPolicy => "InvalidEntry",
            Self::NoMatchingPolicy => "NoMatchingPolicy",
            Self::NoPolicy => "NoPolicy",
            Self::MalformedImage => "MalformedImage",
            Self::NotFound => "ImageNotFound",
            Self::Rejected => "Rejected",
        }
    }
}

/// A verdict against an image by one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub kind: RefusalKind,
    /// One sentence in lower case that says what was found.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(kind: RefusalKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// Who signed, after every check has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// How; `None` when no signature was asked for.
    pub method: Option<Method>,
    /// The signer as a person knows him: a listed signer's name, else fingerprint or key id.
    pub signer: Option<String>,
}

/// Why one method did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A verdict.
    Refused(Refusal),
    /// An obstacle.
    Undecided(Fault),
}

impl Cause {
    /// Stable `CamelCase` reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.kind.reason(),
            Self::Undecided(_) => "CouldNotDecide",
        }
    }
}

/// One method's failure; `method` is `None` when no method was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which method.
    pub method: Option<Method>,
    /// Why.
    pub cause: Cause,
}

/// What came of one governing entry.
#[derive(Debug, Clone)]
pub struct EntryOutcome {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The pass, or every method's failure.
    pub result: Result<Pass, Vec<Failure>>,
}

/// Why an image was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// Its namespace is whitelisted.
    WhitelistedNamespace,
    /// This whitelist line matches.
    WhitelistedImage(Arc<str>),
    /// No policy exists.
    NoPolicy,
    /// Every governing entry passed (or only warns): the first entry that passed, and how.
    Policy {
        /// The entry, as `Kind/name spec.registries[i]`.
        policy: String,
        /// How.
        pass: Pass,
    },
}

/// One failing entry, or one reason without an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The entry, as `Kind/name spec.registries[i]`, if one governed.
    pub policy: Option<String>,
    /// Every method's failure.
    pub failures: Vec<Failure>,
}

/// The decision about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// May run.
    Allowed(Basis),
    /// A verdict against it.
    Denied(Vec<Finding>),
    /// No verdict; denied, too.
    Undecided(Vec<Finding>),
}

/// The decision about one image with what else there is to say.
#[derive(Debug, Clone)]
pub struct ImageVerdict {
    /// The image as written.
    pub image: String,
    /// The digest that was judged, if one was needed.
    pub digest: Option<Digest>,
    /// The decision.
    pub outcome: Outcome,
    /// Failing entries whose action is `Warn`.
    pub warned: Vec<Finding>,
    /// Failing entries whose action is `Audit`.
    pub audited: Vec<Finding>,
    /// Remarks for the user that change nothing, such as an unusable pull secret.
    pub remarks: Vec<String>,
    /// Whether every signature verdict in it came from the cache.
    pub cached: bool,
}
