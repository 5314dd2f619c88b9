//! Keys and signatures are made here, by the library or by gpg, at times that are arguments: nothing expires.

mod files;
mod gpg;
mod inspect;
mod structure;
mod support;
mod validity;
