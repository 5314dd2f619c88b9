//! Signatures on record: all that is found for an image, what each comes to, and `ImageSignature` objects of it.
//!
//! ```text
//!   store, registry ── collect ──┐
//!   ImageSignature objects ──────┴─► examine (key, digest, identity) ─► a verdict on each ─► plan ─► objects ─► cluster
//! ```
//! This is for people who look at signatures by hand and for the list of what is there. Nothing that decides about an
//! admission is above it in the list of layers, and nothing there reads what it writes.

pub mod cluster;
pub mod collect;
pub mod examine;
pub mod hold;
pub mod object;
pub mod plan;
