//! A private Sigstore: certificate authority, transparency logs of both versions, certificate log, timestamp authority
//! and identity provider, all real programs on loopback, with keys made for the run.
//!
//! ```text
//!   materials   keys, certificates, configuration files       services    the processes, and when they are ready
//!   trust       trusted roots, also bent ones                 signing     cosign in every way that it can sign
//!   stored      signatures as they lie in a registry          minting     certificates, stamps and log entries with a
//!                                                                         defect, made with the keys of the services
//! ```

pub mod materials;
mod minting;
mod services;
mod signing;
mod stored;
mod trust;

pub use minting::{Leaf, Names, hex, mint_by, seconds_ago, statement};
pub use services::Sigstore;
pub use signing::{By, Format, How, Identity, Log};
pub use stored::{Bundle, Legacy, attach};
pub use trust::{Root, der};
