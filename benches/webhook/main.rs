//! `cargo bench --bench webhook` (`make bench`): what podseal costs, against what it has to cost at least.
//!
//! ```text
//!   scene    two control planes (10 policies and 10,000), a registry of each kind, a store, signed images, one podseal each
//!   floor    a server of the same crates that reads the review and says yes
//!   load     wrk: keep-alive connections over TLS, one request after the other on each
//!   warm     rounds in which floor and podseal take turns; ratios of neighbours, medians of the ratios
//!   cold     first verdicts: requests to the servers upstream, counted in their own logs, and times
//!   routing  the decision core alone, 10 against 10,000
//! ```
//! The binary under test is `podseal serve` as `cargo bench` builds it, with its default logs (into a file) and metrics. All
//! figures with a target are ratios, counts or sizes, so that they hold on any machine; run it on a quiet one all the same.
//!
//! `--quick` does less of everything. Exit status 1: a target was missed.

// A benchmark that cannot be set up ends with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod cold;
mod floor;
mod load;
mod routing;
mod scene;
mod server;
// Only a part of it is used here.
#[allow(unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod table;
mod warm;

use std::process::ExitCode;
use std::time::Duration;

use scene::Scene;
use support::scratch;
use support::tools::{self, Need};
use table::Table;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds of the comparison.
    pub rounds: usize,
    /// Time of one measurement.
    pub slice: Duration,
    /// Warm reviews before memory is read.
    pub reviews: u64,
    /// Images of each kind for first verdicts.
    pub images: usize,
}

const FULL: Plan = Plan { rounds: 9, slice: Duration::from_secs(2), reviews: 100_000, images: 7 };
const QUICK: Plan = Plan { rounds: 3, slice: Duration::from_secs(1), reviews: 100_000, images: 2 };

const NEEDS: [Need; 8] = [
    Need::Cluster,
    Need::Registry,
    Need::DebianRegistry,
    Need::Gpg,
    Need::Cosign,
    Need::Store,
    Need::Sigstore,
    Need::Notary,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [floor, certificate, key] = arguments.as_slice()
        && floor == "floor"
    {
        return floor::run(certificate.as_ref(), key.as_ref());
    }
    let plan = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    if let Some(missing) = tools::missing(&NEEDS).or_else(load::missing) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    measure(plan, &mut table);
    scratch::finish();
    if table.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(plan: Plan, table: &mut Table) {
    routing::measure(table);
    eprintln!("setting the scene: control planes, registries, signatures …");
    let scene = Scene::set(plan);
    eprintln!("first verdicts …");
    cold::measure(&scene, table);
    eprintln!("{} rounds of {:?} per server …", plan.rounds, plan.slice);
    warm::measure(&scene, plan, table);
}
