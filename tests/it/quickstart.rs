//! The quick start of the original, flow by flow, as a user of kubectl sees it.
//!
//! Every test has a namespace with policies of its own; the registry, the store and the keys are shared and only read.
//! A test with a cluster policy starts a registry of its own, because that policy speaks for all namespaces.

mod flows;
mod objects;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [flows::trials(), objects::trials()].into_iter().flatten().collect()
}
