//! podseal as it is delivered: its image, and its chart, on a node under a real kubelet.

mod faults;
mod image;
mod install;
mod load;
mod node;
mod world;

/// The image, which is built while others run.
pub fn builds() -> Vec<libtest_mimic::Trial> {
    image::builds::trials()
}

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let trials = [node::trials(), image::contents::trials(), image::trials(), install::trials(), faults::trials()];
    trials.into_iter().flatten().collect()
}
