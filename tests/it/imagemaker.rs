//! `podseal imagemaker` with the real gpg, skopeo and API server.

pub mod cluster;
mod later;
mod leaving;
mod making;
pub mod nodes;
mod refused;
mod rotation;
mod sharing;
mod terminal;
pub mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        making::trials(),
        refused::trials(),
        later::trials(),
        leaving::trials(),
        rotation::trials(),
        sharing::trials(),
        terminal::trials(),
        nodes::trials(),
        cluster::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
