//! The signing side: `GnuPG` homes, secret keys, and what is made with them.
//!
//! ```text
//!   gnupg     gpg and its homes: the keeper of secret keys
//!   makers    the image makers of a signing host, and the files that hold their public keys
//!   keyfile   a secret key from a file: on curves here, RSA and DSA by gpg in a `home` for the time of one command
//!   choice    which secret key an address means
//!   signer    either of them; what it signs (`payload`) is verified before it is given out
//!   image     one digest: signed before? sign, then deposit
//!   deposit   folder, store over HTTP, or the registry itself; nothing is ever replaced
//!   cosign    the same in cosign's forms, with its keys, beside the image
//!   archive   images in layouts and tar archives
//! ```
//! Nothing here decides about images; what is made here is checked like anybody else's by [`crate::signature`].

pub mod archive;
mod choice;
pub mod cosign;
pub mod deposit;
pub mod gnupg;
pub mod home;
pub mod image;
pub mod keyfile;
pub mod makers;
pub mod payload;
pub mod secret_file;
pub mod signer;
