//! Docker Content Trust with the real notary-server and the real `notary` client.

mod cluster;
mod verdicts;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [verdicts::trials(), cluster::trials()].into_iter().flatten().collect()
}
