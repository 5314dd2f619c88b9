//! Rotations that follow each other, and rotations that are broken off.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use super::world::{Host, keys, verify};
use crate::support::podseal::BINARY;
use crate::support::tools;

crate::tests! {
    needs [Gpg];
    a_shorter_overlap_shortens_the_keys_that_retire_already,
    a_longer_overlap_prolongs_nothing,
    a_rotation_that_is_killed_is_finished_by_the_next_one,
    a_key_left_behind_of_another_kind_is_named_and_not_taken,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const NEW: [&str; 5] = ["--key-type", "ed25519", "--expires", "1y", "--no-passphrase"];

fn rotate(host: &Host, overlap: &str) -> tools::Ran {
    host.run(&[&["rotate", "a", "--overlap", overlap], &NEW[..]].concat())
}

fn a_shorter_overlap_shortens_the_keys_that_retire_already() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let first = host.gpg.sign(&host.key("a"), b"content");
    rotate(&host, "90d").succeeded();
    let second = host.gpg.sign(&host.key("a"), b"content");
    let ran = rotate(&host, "1d").succeeded();
    assert!(ran.stdout.contains("from now on"), "{ran}");
    assert_eq!(host.states("a"), ["retiring", "retiring", "active"]);
    for old in [&first, &second] {
        verify(&host.key_file("a"), old, SystemTime::now()).unwrap();
        verify(&host.key_file("a"), old, SystemTime::now() + 2 * DAY).unwrap_err();
    }
    assert_eq!(host.secret_keys(), 3);
}

fn a_longer_overlap_prolongs_nothing() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let first = host.gpg.sign(&host.key("a"), b"content");
    rotate(&host, "1d").succeeded();
    rotate(&host, "90d").succeeded();
    verify(&host.key_file("a"), &first, SystemTime::now()).unwrap();
    verify(&host.key_file("a"), &first, SystemTime::now() + 2 * DAY).unwrap_err();
}

/// Fingerprints of the home's secret keys that no maker has.
fn unrecorded(host: &Host) -> Vec<String> {
    let listed = host.gpg.gpg(None, &["--with-colons", "--list-secret-keys"], b"").stdout;
    let recorded = std::fs::read_to_string(host.dir.join("imagemakers.json")).unwrap();
    let prints = listed.lines().filter_map(|line| line.strip_prefix("fpr:")).map(|rest| rest.trim_matches(':'));
    prints.filter(|print| !recorded.contains(print)).map(str::to_owned).collect()
}

fn a_rotation_that_is_killed_is_finished_by_the_next_one() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let mut left = 0;
    for round in 0..12 {
        let mut command = tools::server("timeout");
        command.args(["-s", "KILL", &format!("0.{:03}", 20 + 25 * round)]).arg(Path::new(BINARY));
        command.args(["imagemaker", "rotate", "a", "--overlap", "30d"]).args(NEW).arg("--dir").arg(&host.dir);
        command.env("GNUPGHOME", host.gpg.home()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = command.status().unwrap();
        // gpg may be at it still.
        std::thread::sleep(Duration::from_millis(400));
        let found = unrecorded(&host);
        left += found.len();
        assert!(found.len() <= 1, "{found:?}");
        let listed = host.run(&["list"]);
        for key in &found {
            assert!(listed.stderr.contains(&format!("holds key {key} for a, which is neither recorded")), "{listed}");
        }
    }
    eprintln!("image makers: {left} times a key was left behind");
    let ran = rotate(&host, "30d").succeeded();
    assert!(ran.stdout.contains("from now on"), "{ran}");
    assert_eq!(unrecorded(&host), Vec::<String>::new());
    let states = host.states("a");
    assert_eq!(
        (states.iter().filter(|state| *state == "active").count(), states.last().unwrap().as_str()),
        (1, "active")
    );
    assert_eq!(keys(&host.key_file("a"), SystemTime::now()).len(), states.len());
    host.run(&["list"]).succeeded();
}

fn a_key_left_behind_of_another_kind_is_named_and_not_taken() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let other = host.gpg.generate(&crate::support::signer::KeySpec::new("Image Maker <a@localhost>"));
    let ran = rotate(&host, "30d").succeeded();
    assert!(ran.stderr.contains(&format!("--delete-secret-and-public-key {}", other.fingerprint)), "{ran}");
    assert_ne!(host.key("a").fingerprint, other.fingerprint);
    // Somebody else's key for the same address is nobody's business.
    host.gpg.generate(&crate::support::signer::KeySpec::new("Somebody <a@localhost>"));
    let ran = host.run(&["list"]);
    assert_eq!(ran.stderr.matches("neither recorded").count(), 1, "{ran}");
}
