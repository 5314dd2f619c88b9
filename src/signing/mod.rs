//! The signing side: `GnuPG` homes, secret keys, and what is made with them.
//!
//! Nothing here decides about images; what is made here is checked like anybody else's by [`crate::signature`].

pub mod archive;
pub mod cosign;
pub mod deposit;
pub mod gnupg;
pub mod home;
pub mod image;
pub mod keyfile;
pub mod payload;
pub mod signer;
