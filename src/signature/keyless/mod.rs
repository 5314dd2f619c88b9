//! Evidence around a signature: certificates, transparency logs, timestamps, and the trust root they are checked with.
//!
//! ```text
//!  TrustRoot ── parse ── trusted_root.json
//!    ├─ certificate::verify   a bundle with a certificate ── who signed (Certified), by the sigstore-verify crate
//!    └─ log::prove            a signature by a configured key ── that it stands in a log, by own code
//! ```
//! The crate is used for what it does as a whole: chain, SCT, SET, inclusion, timestamps and that all of them are about
//! this signature. It knows neither patterns for identities nor cosign's predicate type, refuses configured keys without
//! evidence, and lacks kinds of keys that cosign signs with; these are podseal's own. None of its types leaves this
//! module, and its input is bounded before it gets there. It reads the clock by itself.
//!
//! Specifications: Sigstore bundle, trusted root and Fulcio certificate profile; Rekor v1 and v2; RFC 3161, 6962, 9162.

mod certificate;
mod entry;
mod log;
mod root;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;

pub use certificate::{Evidence, LegacyEvidence};
pub use root::TrustRoot;

pub(super) use certificate::Content;
pub(super) use log::Binding;

use super::SignatureError;

/// Text from the crate, made fit for a message: short and printable. It may repeat parts of what was signed.
fn told(error: &dyn std::fmt::Display) -> String {
    const MAX: usize = 200;
    let text = error.to_string();
    let mut short: String = text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        short.push_str("...");
    }
    short
}

fn not_valid(what: &str, error: &dyn std::fmt::Display) -> SignatureError {
    SignatureError::NotValid(format!("{what}: {}", told(error)))
}
