//! The configuration of nodes (CRI-O, podman, skopeo): containers-policy.json, beside registries.d, in both directions.
//!
//! ```text
//!   policy.json ── json ── policy ──┬─ scope + rule ── judge     decide by it, through podseal's own verifier
//!                  (strict) (types) └─ into_policies             the policies that ask for the same
//!   policies ──────────────────────── from_policies              a policy.json, registries.d and key files that do
//! ```
//! A requirement becomes an entry as policies have it ([`rule`]) before anything else is done with it, so that there is one
//! verifier and one reading of entries. Specification: containers-policy.json(5), with what the code of containers/image
//! does where that says more.

mod from_policies;
mod into_policies;
mod json;
mod judge;
mod node_rules;
mod policy;
mod rule;
#[cfg(test)]
mod tests;

pub use from_policies::{Node, NodeFiles, node_files};
pub use into_policies::{Converted, Naming, convert};
pub use judge::Judge;
pub use policy::{ContainersPolicy, Key, PolicyError, Requirement, SignedBy, Sigstore, SigstoreSigner};
