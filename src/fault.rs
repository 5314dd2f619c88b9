//! "Could not decide": something stood in the way of a verdict.
//!
//! A fault is never a verdict. It denies, too, but it is counted apart, answered with another status code, and never
//! kept in a cache, because the next try may succeed.

use std::fmt;
use std::sync::Arc;

/// What kind of obstacle it was. The label is a metric label and part of messages, so it is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The time of the review, or of one request inside it, ran out.
    Timeout,
    /// No connection: DNS, TCP, TLS, proxy.
    Unreachable,
    /// The server answered 429 and the deadline left no room for another try.
    RateLimited,
    /// 401 or 403 with every credential there was.
    Unauthorized,
    /// The server answered something that its protocol does not allow, or 5xx.
    BadAnswer,
    /// An answer was larger, or had more parts, than the stated limit.
    TooLarge,
    /// The digest of the received bytes is not the one that was asked for.
    DigestMismatch,
    /// An address that this policy may not lead to.
    AddressRefused,
    /// A Secret or `ConfigMap` reference that cannot be used (one text for every cause).
    Reference,
    /// The policy cannot be read, or asks for what cannot be evaluated.
    Configuration,
    /// Policies, whitelist or keys are not loaded yet.
    NotSynced,
    /// Too much work in flight.
    Overloaded,
    /// A defect of podseal itself, a panic included.
    Internal,
}

impl FaultKind {
    /// Stable lower-case label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::BadAnswer => "bad_answer",
            Self::TooLarge => "too_large",
            Self::DigestMismatch => "digest_mismatch",
            Self::AddressRefused => "address_refused",
            Self::Reference => "reference",
            Self::Configuration => "configuration",
            Self::NotSynced => "not_synced",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
        }
    }

    /// Whether the same question may get an answer later without anybody changing the configuration.
    pub fn retryable(self) -> bool {
        !matches!(
            self,
            Self::Unauthorized | Self::AddressRefused | Self::Reference | Self::Configuration | Self::TooLarge
        )
    }
}

/// One obstacle: its kind and a sentence for the person who reads the denial.
///
/// The message names the object to blame and never holds a secret, a token or a signed URL; what only an operator
/// should see goes into the detail, which is logged and never answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    message: Arc<str>,
    detail: Option<Arc<str>>,
}

impl Fault {
    /// A fault with a message in lower case that names the object to blame.
    pub fn new(kind: FaultKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: Arc::from(message.as_ref()), detail: None }
    }

    /// Adds what only the log may show.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(Arc::from(detail.to_string().as_str()));
        self
    }

    /// What kind of obstacle it was.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The sentence for the person who reads the denial.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What only the log may show.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({}: {})", self.kind.label(), self.message)
    }
}

impl std::error::Error for Fault {}

/// Every cause of an error in one line; those that only repeat what the one before says are left out.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string) {
        match parts.last_mut() {
            Some(last) if last.contains(&cause) => {
                // The shorter one comes at its own place.
                let without = last.replace(&cause, "");
                without.trim_end_matches([':', ' ']).clone_into(last);
                parts.push(cause);
            }
            _ => parts.push(cause),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join(": ")
}
