//! Signatures by identities, transparency logs, timestamps: made in a private Sigstore, judged by podseal.

mod beside;
mod cases;
mod identities;
mod logs;
mod rows;
mod statements;
mod times;
mod webhook;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        world::trials(),
        rows::trials(),
        identities::trials(),
        statements::trials(),
        times::trials(),
        logs::trials(),
        beside::trials(),
        webhook::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
