//! podseal as it is delivered: its image on a node, under a real kubelet.

mod node;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    node::trials()
}
