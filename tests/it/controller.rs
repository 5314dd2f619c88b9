//! The controller against a real API server: election, certificates, arming, definitions, whitelist, import of signatures.
//!
//! Every test has a namespace of its own that stands for podseal's, so that no two of them meet.

mod arming;
mod certificates;
mod definitions;
mod election;
mod signatures;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let trials =
        [election::trials(), arming::trials(), certificates::trials(), definitions::trials(), signatures::trials()];
    trials.into_iter().flatten().collect()
}
