//! `cargo bench --bench signing` (`make bench`): signatures per second, podseal beside gpg alone.
//!
//! ```text
//!   key file   podseal's signer with the key from a file: on curves in process, RSA by gpg
//!   through gpg   podseal's signer with the key in a home of gpg
//!   gpg        `gpg --sign` of the same payload with the same key, and nothing else
//! ```
//! podseal verifies every signature before it gives it out; that is part of the figure. All take turns, in rounds; figures
//! with a target are medians of the ratios of one round. Exit status 1: a target was missed.

// A benchmark that cannot be set up ends with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

// Only a part of it is used here.
#[allow(unused_imports)]
#[path = "../tests/it/support/mod.rs"]
mod support;
// Of the targets only some.
#[allow(dead_code)]
#[path = "webhook/table.rs"]
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use podseal::domain::digest::Digest;
use podseal::signing::gnupg::{Gnupg, GnupgError, Passphrase};
use podseal::signing::payload;
use podseal::signing::signer::{Keys, Signer};
use support::scratch;
use support::signer::{Gpg, KeySpec};
use support::tools::{self, Need};
use table::{Table, Target, median};

const ROUNDS: usize = 7;
/// Time of one measurement.
const SLICE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if let Some(missing) = tools::missing(&[Need::Gpg]) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    for algorithm in ["ed25519", "rsa3072"] {
        measure(algorithm, &mut table);
    }
    scratch::finish();
    if table.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn signer(name: &str, home: &Path) -> Signer {
    let mut ask = |_: &str| Err(GnupgError::Passphrase("none".to_owned()));
    let keys =
        Keys { gnupg: Gnupg::new(Some(home.to_owned())), passphrase: Passphrase::Agent, makers: &[], ask: &mut ask };
    Signer::open(name, keys, SystemTime::now()).unwrap()
}

fn measure(algorithm: &str, table: &mut Table) {
    let gpg = Gpg::new();
    let key = gpg.generate(&KeySpec { algorithm, ..KeySpec::new("Maker <maker@registry.local>") });
    let file = signer(gpg.secret_file(&key).to_str().unwrap(), gpg.home());
    let home = signer(&key.fingerprint, gpg.home());
    let digest = Digest::sha256(b"an image");
    let payload =
        payload::write("registry.local/k8s-c10f1/pause:3.9", &digest, payload::CREATOR, 1_800_000_000).unwrap();
    let [mut by_file, mut by_home, mut alone] = [const { Vec::new() }; 3];
    let alone_args = ["--local-user", key.fingerprint.as_str(), "--compress-algo", "none", "--sign"];
    for _ in 0..ROUNDS {
        alone.push(per_second(|| {
            let mut command = tools::server("gpg");
            command.env("GNUPGHOME", gpg.home()).args(["--batch", "--no-tty", "--quiet"]).args(alone_args);
            drop(tools::run_with(&mut command, &payload).succeeded());
        }));
        by_home.push(per_second(|| drop(home.sign(&payload, SystemTime::now).unwrap())));
        by_file.push(per_second(|| drop(file.sign(&payload, SystemTime::now).unwrap())));
    }
    let ratio = |ours: &[f64]| median(ours.iter().zip(&alone).map(|(ours, gpg)| ours / gpg).collect());
    let file_target = if algorithm == "ed25519" { Target::Least(1.0) } else { Target::Least(0.5) };
    table.row(format!("{algorithm}: signatures per second, gpg alone"), median(alone.clone()), "/s", Target::None);
    table.row(format!("{algorithm}: podseal through gpg, verified"), median(by_home.clone()), "/s", Target::None);
    table.row(format!("{algorithm}: podseal with a key file, verified"), median(by_file.clone()), "/s", Target::None);
    table.row(format!("{algorithm}: through gpg, against gpg alone"), ratio(&by_home), "×", Target::Least(0.5));
    table.row(format!("{algorithm}: with a key file, against gpg alone"), ratio(&by_file), "×", file_target);
}

fn per_second(mut act: impl FnMut()) -> f64 {
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < SLICE {
        act();
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}
