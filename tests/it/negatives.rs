//! Attacks and faults, by the ids of the list that `tests/negative-cases.txt` maps, as far as they need a real API server
//! or registry; and rules of the tree that some of them come down to. The others are unit tests beside the code.

mod cluster;
mod map;
mod tree;
mod trouble;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [map::trials(), tree::trials(), cluster::trials(), trouble::trials()].into_iter().flatten().collect()
}
