//! The support layer by itself: the servers run, the signers sign, and the field's own tools accept what they made.

mod cluster;
mod cosign;
mod gpg;
mod images;
mod local;
mod podseal;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let trials =
        [local::trials(), images::trials(), gpg::trials(), cosign::trials(), cluster::trials(), podseal::trials()];
    trials.into_iter().flatten().collect()
}
