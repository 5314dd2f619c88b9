//! The signature store: a folder of simple signatures as containers/image lays it out, and a server for it.

pub mod disk;
