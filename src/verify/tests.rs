//! One image from end to end, against a registry that may lie. Named by the cases of the attack list.

mod caching;
mod content;
mod extension;
mod index;
mod keyless;
mod methods;
mod notary;
mod references;
