//! Rotations that follow each other, and rotations that are broken off.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use super::world::{DAY, Host, NEW, PLAIN, keys, verify};
use crate::support::podseal::BINARY;
use crate::support::scratch;
use crate::support::tools;

crate::tests! {
    needs [Gpg];
    a_shorter_overlap_shortens_the_keys_that_retire_already,
    a_longer_overlap_prolongs_nothing,
    a_rotation_that_is_killed_is_finished_by_the_next_one,
    a_key_that_was_recorded_and_never_published_is_the_next_one,
    a_key_left_behind_of_another_kind_is_named_and_not_taken,
    a_creation_that_is_killed_is_listed_and_finished_by_the_next_one,
    a_creation_that_is_killed_and_done_otherwise_names_the_key,
    a_creation_that_is_killed_after_its_key_file_is_listed_and_finished_by_the_next_one,
    old_keys_with_a_passphrase_each_are_shortened,
    a_retiring_key_whose_secret_part_was_taken_away_holds_nothing_up,
}

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
    let listed = host.list();
    let keys = listed[0]["keys"].as_array().unwrap();
    for key in &keys[..2] {
        let line =
            format!("key {} verifies until {}", key["fingerprint"].as_str().unwrap(), key["ends"].as_str().unwrap());
        assert_eq!(ran.stdout.matches(&line).count(), 1, "{line}: {ran}");
    }
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

/// Whoever called gpg was killed, and gpg may be at it still.
fn wait_for_gpg(host: &Host) {
    let home = host.gpg.home().to_string_lossy().into_owned();
    let works = |process: &Path| {
        let read =
            |name: &str| String::from_utf8_lossy(&std::fs::read(process.join(name)).unwrap_or_default()).into_owned();
        read("comm").trim() == "gpg" && (read("cmdline").contains(&home) || read("environ").contains(&home))
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir("/proc").unwrap().any(|entry| works(&entry.unwrap().path())) {
        assert!(Instant::now() < deadline, "gpg does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
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
        wait_for_gpg(&host);
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

fn a_key_that_was_recorded_and_never_published_is_the_next_one() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let before = std::fs::read(host.key_file("a")).unwrap();
    rotate(&host, "30d").succeeded();
    let new = host.key("a").fingerprint;
    // As if it had been killed in between.
    std::fs::write(host.key_file("a"), before).unwrap();
    assert_eq!(host.run(&["list"]).code, Some(1));
    let ran = rotate(&host, "30d").succeeded();
    assert!(
        ran.stderr.contains(&format!("broken off after key {new} was made: it is finished with that key")),
        "{ran}"
    );
    assert_eq!((host.key("a").fingerprint, host.secret_keys()), (new, 2));
    assert_eq!(host.states("a"), ["retiring", "active"]);
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

/// A PATH whose gpg ends podseal by SIGKILL as soon as it has made a key.
fn deadly() -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = scratch::folder("deadly");
    let gpg = tools::file("gpg");
    let script =
        format!("#!/bin/sh\n{} \"$@\"\ncase \"$*\" in *--generate-key*) kill -9 $PPID;; esac\n", gpg.display());
    std::fs::write(folder.join("gpg"), script).unwrap();
    std::fs::set_permissions(folder.join("gpg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// A creation of `a@localhost` that was killed when its key was made, and the key.
fn killed() -> (Host, String) {
    let host = Host::new();
    let args = [&["create", "a@localhost"], &PLAIN[..]].concat();
    let ran = host.run_with(&args, &[("PATH", &deadly())]);
    assert_eq!(ran.code, None, "{ran}");
    let left = unrecorded(&host);
    let [key] = left.as_slice() else { panic!("{left:?}: {ran}") };
    let listed = host.run(&["list"]).succeeded();
    assert!(
        listed.stderr.contains(&format!("holds key {key} for a, which is neither recorded nor published")),
        "{listed}"
    );
    assert!(listed.stderr.contains(&format!("--delete-secret-and-public-key {key}")), "{listed}");
    let key = key.clone();
    (host, key)
}

fn a_creation_that_is_killed_is_listed_and_finished_by_the_next_one() {
    let (host, key) = killed();
    let ran = host.create(&["a@localhost"]).succeeded();
    assert!(
        ran.stderr.contains(&format!("broken off after key {key} was made: it is finished with that key")),
        "{ran}"
    );
    assert_eq!((host.key("a").fingerprint, host.secret_keys()), (key, 1));
    assert_eq!(host.run(&["list"]).succeeded().stderr, "");
}

fn a_creation_that_is_killed_and_done_otherwise_names_the_key() {
    let (host, key) = killed();
    let mut flags = PLAIN;
    flags[3] = "1y";
    let ran = host.run(&[&["create", "a@localhost"], &flags[..]].concat()).failed();
    assert!(ran.stderr.contains(&format!("holds a key for a@localhost already ({key})")), "{ran}");
    host.gpg.gpg(None, &["--yes", "--delete-secret-and-public-key", &key], b"").succeeded();
    assert_eq!(host.run(&["list"]).succeeded().stderr, "");
    host.run(&[&["create", "a@localhost"], &flags[..]].concat()).succeeded();
    assert_ne!(host.key("a").fingerprint, key);
}

fn a_creation_that_is_killed_after_its_key_file_is_listed_and_finished_by_the_next_one() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    host.create(&["b@localhost/b"]).succeeded();
    let key = host.key("a");
    // A kill hits the few milliseconds between key file and registry too seldom: this is the state in between.
    let registry = host.dir.join("imagemakers.json");
    let mut recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(&registry).unwrap()).unwrap();
    let begun = recorded["makers"].as_array_mut().unwrap().remove(0);
    recorded["begun"] = serde_json::json!([begun]);
    std::fs::write(&registry, recorded.to_string()).unwrap();
    let listed = host.run(&["list"]).succeeded();
    assert!(listed.stderr.contains("keys/a.pgp is published, and the making of a was broken off"), "{listed}");
    assert!(!listed.stderr.contains("--delete-secret"), "{listed}");
    // What is somebody else's is in the way as ever, and so is an empty file.
    let own = std::fs::read(host.key_file("a")).unwrap();
    for other in [std::fs::read(host.key_file("b")).unwrap(), Vec::new()] {
        std::fs::write(host.key_file("a"), &other).unwrap();
        let ran = host.create(&["a@localhost"]).failed();
        assert!(ran.stderr.contains("keys/a.pgp is there already, and no image maker's"), "{ran}");
        assert_eq!(std::fs::read(host.key_file("a")).unwrap(), other);
    }
    std::fs::write(host.key_file("a"), own).unwrap();
    let ran = host.create(&["a@localhost"]).succeeded();
    assert!(ran.stderr.contains(&format!("broken off after key {} was made", key.fingerprint)), "{ran}");
    assert_eq!((host.key("a").fingerprint, host.secret_keys()), (key.fingerprint, 2));
    assert_eq!(host.run(&["list"]).succeeded().stderr, "");
}

fn old_keys_with_a_passphrase_each_are_shortened() {
    let host = Host::new();
    let [one, two, three] = ["one", "two", "three"].map(Host::passphrase);
    let flags = |file: &str| ["--key-type", "ed25519", "--expires", "1y", "--passphrase-file", file].map(str::to_owned);
    let run = |args: &[&str], file: &str| {
        host.forget();
        let flags = flags(file);
        host.run(&args.iter().copied().chain(flags.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    run(&["create", "a@localhost", "--full-name", "Image Maker", PLAIN[7]], &one).succeeded();
    let first = host.key("a").fingerprint;
    run(&["rotate", "a", "--overlap", "90d", "--old-passphrase-file", &one], &two).succeeded();
    let ran = run(&["rotate", "a", "--overlap", "1d", "--old-passphrase-file", &two], &three).failed();
    assert!(ran.stderr.contains(&format!("wrong is the passphrase of a's old key {first}")), "{ran}");
    assert_eq!(host.secret_keys(), 2);
    let old = ["--old-passphrase-file", &one, "--old-passphrase-file", &two];
    let ran = run(&[&["rotate", "a", "--overlap", "1d"], &old[..]].concat(), &three).succeeded();
    assert_eq!(ran.stdout.matches(" verifies until ").count(), 2, "{ran}");
    let (held, soon) = (keys(&host.key_file("a"), SystemTime::now()), SystemTime::now() + 2 * DAY);
    assert_eq!(held.iter().filter(|key| key.expires.unwrap() < soon).count(), 2, "{held:?}");
}

fn a_retiring_key_whose_secret_part_was_taken_away_holds_nothing_up() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let first = host.key("a").fingerprint;
    rotate(&host, "90d").succeeded();
    let until = host.list()[0]["keys"][0]["ends"].as_str().unwrap().to_owned();
    // As docs/imagemakers.md has it.
    host.gpg.gpg(None, &["--yes", "--delete-secret-keys", &first], b"").succeeded();
    let ran = rotate(&host, "1d").succeeded();
    assert!(ran.stderr.contains(&format!("the secret part of key {first} is not in ")), "{ran}");
    assert!(ran.stdout.contains(&format!("key {first} verifies until {until}")), "{ran}");
    assert_eq!(host.states("a"), ["retiring", "retiring", "active"]);
}
