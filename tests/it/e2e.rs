//! podseal as it is delivered: its image, on a node under a real kubelet.

mod image;
mod node;

/// The image, which is built while others run.
pub fn builds() -> Vec<libtest_mimic::Trial> {
    image::builds::trials()
}

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let trials = [node::trials(), image::contents::trials(), image::trials()];
    trials.into_iter().flatten().collect()
}
