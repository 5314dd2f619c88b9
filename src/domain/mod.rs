//! What podseal decides, as pure functions: no clock, no files, no network, no Kubernetes client.
//!
//! ```text
//!  image text ─ image ─┐
//!  whitelist lines ────┤                        ┌─ allowed (whitelist, no policy)
//!  policy entries ─────┼─ evaluate::route ──────┼─ denied (nothing matches)
//!  namespace ──────────┘                        └─ judge by these entries
//!                                                      │ (verify fetches and checks)
//!                        evaluate::combine ◄───────────┘ one outcome per governing entry
//! ```

pub mod digest;
pub mod evaluate;
pub mod expression;
pub mod identity;
pub mod image;
pub mod keyless;
pub mod payload;
pub mod platform;
pub mod policy;
pub mod printable;
pub mod scope;
pub mod signer;
pub mod verdict;
pub mod whitelist;
