//! Docker Content Trust: the metadata of a Notary v1 server, verified from a root of trust down to what a tag is.
//!
//! ```text
//!   root.json ── pinned, or following from one that is ──► Root
//!     └ timestamp.json ── snapshot.json ── targets.json ──► Targets
//!        (each: keys and threshold    └ targets/<role>.json ── within the paths of its role ──► Targets
//!         of its role, expiry, length, hashes)                      └► Collection: tag ─► digest, and who says so
//! ```
//! The format is that of The Update Framework as Notary writes it: canonical JSON, key ids over the key object with
//! `"private":null`, hashes in base64. Everything that comes in is untrusted; time is an argument; nothing here fetches.
//!
//! Specifications: TUF 1.0 section 5, Notary's `tuf` and `trustpinning` packages (format and order of the checks).

mod authority;
mod canonical;
mod certificate;
mod collection;
mod document;
mod key;
mod metadata;
mod role;
mod root;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod versions;

pub use self::authority::Authorities;
pub use self::collection::{Collection, role_of_signer};
pub use self::metadata::{FileMeta, Snapshot, Timestamp};
pub use self::root::{Pin, Root, UntrustedRoot};
pub use self::targets::{Delegation, Targets};
pub use self::versions::Versions;

/// Bytes of one metadata file, at most.
pub const MAX_FILE: usize = 4 << 20;
/// Bytes of a root or timestamp file, whose length nothing says beforehand.
pub const MAX_UNMEASURED: usize = 1 << 20;

/// The role whose targets count as released before those of [`TARGETS`].
pub const RELEASES: &str = "targets/releases";
/// The role below which all delegations are.
pub const TARGETS: &str = "targets";
