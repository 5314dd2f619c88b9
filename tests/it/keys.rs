//! Key files become Secrets, and what becomes of them becomes of the Secrets: against the real API server, with keys made
//! by gpg and cosign.

mod accidents;
mod command;
mod contents;
mod flow;
mod world;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [flow::trials(), contents::trials(), accidents::trials(), command::trials()].into_iter().flatten().collect()
}
