//! The signing side: `GnuPG` homes, secret keys, and what is made with them.
//!
//! ```text
//!   gnupg     gpg and its homes: the keeper of secret keys
//!   makers    the image makers of a signing host, and the files that hold their public keys
//! ```
//! Nothing here decides about images; what is made here is checked like anybody else's by [`crate::signature`].

pub mod gnupg;
pub mod makers;
