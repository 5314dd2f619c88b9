//! Integration tests against real servers: etcd and kube-apiserver, registries, gpg, skopeo, cosign, nginx, and
//! a node that runs podseal's own image.
//!
//! `tests/tools/install.sh` puts the servers in place. A trial whose servers are missing is ignored with a line that says
//! so; with `PODSEAL_REQUIRE_SERVERS=1` it fails. `PODSEAL_KEEP=1` keeps the files of the run for a look afterwards.
//! The usual arguments work: `cargo test --test it -- quickstart --test-threads 1`.
//!
//! A module of tests ends in `crate::tests! { needs [Cluster, Gpg]; first_test, second_test }` and is named twice below.

// Tests say what they expect by panicking; clippy's own exception for tests does not see functions without `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod audit;
mod chart;
mod check_cluster;
mod controller;
mod differential_containers;
mod differential_cosign;
mod differential_gpg;
mod docs;
mod e2e;
mod imagemaker;
mod keyless;
mod keys;
mod layering;
mod mirrors;
mod negatives;
mod notary;
mod pinning;
mod quickstart;
mod records;
mod seeds;
mod servers;
mod signing;
mod status;
mod store;
mod support;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = [
        e2e::builds(),
        layering::trials(),
        docs::trials(),
        chart::trials(),
        usage::trials(),
        servers::trials(),
        quickstart::trials(),
        status::trials(),
        negatives::trials(),
        keys::trials(),
        store::trials(),
        imagemaker::trials(),
        seeds::trials(),
        notary::trials(),
        controller::trials(),
        pinning::trials(),
        audit::trials(),
        check_cluster::trials(),
        records::trials(),
        differential_gpg::trials(),
        differential_containers::trials(),
        differential_containers::sigstore::trials(),
        mirrors::trials(),
        differential_cosign::trials(),
        keyless::trials(),
        signing::trials(),
        e2e::trials(),
    ];
    support::harness::run(trials.into_iter().flatten().collect())
}
