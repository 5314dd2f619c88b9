//! The later life of a key: another passphrase, a successor, its end.

use std::time::{Duration, SystemTime};

use super::world::{DAY, Host, NEW, keys, verify};
use crate::support::signer::Payload;
use crate::support::tools;

crate::tests! {
    needs [Gpg];
    a_passphrase_is_changed_for_the_right_one_alone,
    a_rotation_leaves_both_keys_valid_for_the_stated_time_and_no_longer,
    after_a_rotation_an_address_means_the_active_key_and_the_old_one_is_spoken_of,
    a_rotation_that_fails_leaves_the_key_file_as_it_was,
    a_key_that_ends_earlier_is_not_prolonged_by_a_rotation,
    a_revoked_key_verifies_nothing_and_the_other_goes_on,
    a_key_whose_secret_part_is_lost_can_be_revoked,
    a_key_file_with_somebody_elses_key_is_not_overwritten,
    a_damaged_key_file_is_listed_and_made_whole,
}

fn a_passphrase_is_changed_for_the_right_one_alone() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let (one, two) = (Host::passphrase("one"), Host::passphrase("two words"));
    let passwd = |old: &str, new: &str| {
        host.forget();
        host.run(&["passwd", "a", "--passphrase-file", old, "--new-passphrase-file", new])
    };
    // It has none yet, so the old one is not asked for.
    passwd(&two, &one).succeeded();
    let ran = passwd(&two, &two).failed();
    assert!(
        ran.stderr.contains("gpg could not change the passphrase: ") && ran.stderr.contains("Bad passphrase"),
        "{ran}"
    );
    passwd(&one, &two).succeeded();
    passwd(&one, &one).failed();
    host.forget();
    let sign = |file: &str| {
        let mut command = host.gpg.command("gpg");
        command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase-file", file, "--sign"]);
        tools::run_with(&mut command, b"content")
    };
    sign(&one).failed();
    verify(&host.key_file("a"), &sign(&two).succeeded().bytes, SystemTime::now()).unwrap();
    host.forget();
    let ran = host.run(&["passwd", "a"]);
    assert_eq!(ran.code, Some(64), "{ran}");
    assert!(ran.stderr.contains("--new-passphrase-file is missing"), "{ran}");
}

fn a_rotation_leaves_both_keys_valid_for_the_stated_time_and_no_longer() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let file = host.key_file("a");
    let old = host.key("a");
    let before = host.gpg.sign(&old, b"content");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
    let ran = host.run(&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()).succeeded();
    let (now, new) = (SystemTime::now(), host.key("a"));
    assert!(ran.stdout.contains(&format!("key {} verifies until ", old.fingerprint)), "{ran}");
    assert_ne!(old, new);
    assert_ne!(
        inode,
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap()),
        "it took the old one's place"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("-----BEGIN PGP").count(), 1);
    assert_eq!(host.states("a"), ["retiring", "active"]);
    let after = host.gpg.sign(&new, b"content");
    for at in [now, now + 30 * DAY - Duration::from_secs(120)] {
        verify(&file, &before, at).unwrap();
        verify(&file, &after, at).unwrap();
    }
    // By itself: the file is the same.
    let at = now + 30 * DAY + Duration::from_secs(60);
    let why = verify(&file, &before, at).unwrap_err().to_string();
    assert!(why.contains(&old.fingerprint) && why.contains("expired on"), "{why}");
    verify(&file, &after, at).unwrap();

    // gpg and skopeo go by the same file.
    let reader = crate::support::signer::Gpg::new();
    reader.gpg(None, &["--import", file.to_str().unwrap()], b"").succeeded();
    let judged = |blob: &[u8], at: Option<&str>| {
        let mut command = reader.command("gpg");
        if let Some(at) = at {
            command.args(["--faked-system-time", at]);
        }
        tools::run_with(command.args(["--batch", "--status-fd", "1", "--output", "/dev/null", "--verify"]), blob).stdout
    };
    assert!(judged(&before, None).contains("GOODSIG") && judged(&after, None).contains("GOODSIG"));
    let later = jiff(now + 31 * DAY);
    assert!(judged(&before, Some(&later)).contains("EXPKEYSIG"), "{}", judged(&before, Some(&later)));
    assert!(judged(&after, Some(&later)).contains("GOODSIG"));
    let manifest = b"{}";
    let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let blob = host.gpg.sign(&new, &Payload::new(digest, "localhost/a:1").bytes());
    let signature = crate::support::scratch::folder("blob").join("signature-1");
    std::fs::write(&signature, blob).unwrap();
    let skopeo = crate::support::signer::Skopeo { gpg: &reader, registries_d: host.dir.clone() };
    skopeo.verifies(manifest, "localhost/a:1", &new, &signature).succeeded();
}

/// As `--faked-system-time` takes it.
fn jiff(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    format!("{seconds}!")
}

fn after_a_rotation_an_address_means_the_active_key_and_the_old_one_is_spoken_of() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let old = host.key("a").fingerprint;
    host.run(&[&["rotate", "a", "--overlap", "60d"], &NEW[..]].concat()).succeeded();
    let new = host.key("a").fingerprint;
    let staging = host.dir.join("sigstore");
    // Nobody listens there: the key is chosen before.
    let sign = |key: &str, dir: &std::path::Path| {
        let mut command = tools::once(std::path::Path::new(crate::support::podseal::BINARY));
        command.args(["sign", "localhost:1/a:1", "--timeout", "1s", "--sign-by", key, "--dir"]).arg(dir);
        command.arg("--staging").arg(&staging).env("GNUPGHOME", host.gpg.home());
        tools::run(&mut command)
    };
    let ran = sign("a@localhost", &host.dir);
    assert!(ran.stderr.contains(&format!("{new} is the image maker's active one")), "{ran}");
    assert_eq!(ran.code, Some(2), "{ran}");
    let ran = sign(&old, &host.dir);
    assert!(ran.stderr.contains(" is retiring until ") && ran.stderr.contains(&format!("sign with {new}")), "{ran}");
}

fn a_rotation_that_fails_leaves_the_key_file_as_it_was() {
    let host = Host::new();
    let (right, wrong) = (Host::passphrase("one"), Host::passphrase("two"));
    host.create_locked("a@localhost", &right);
    let before = std::fs::read(host.key_file("a")).unwrap();
    let rotate =
        |more: &[&str]| host.run(&[&["rotate", "a", "--key-type", "ed25519", "--expires", "1y"], more].concat());
    let ran = rotate(&["--overlap", "30d", "--passphrase-file", &wrong]).failed();
    assert!(
        ran.stderr.contains("gpg could not set the key's expiry") && ran.stderr.contains("Bad passphrase"),
        "{ran}"
    );
    assert_eq!((std::fs::read(host.key_file("a")).unwrap(), host.secret_keys()), (before, 1));
    assert_eq!(host.states("a"), ["active"]);
    let ran = rotate(&["--overlap", "0", "--passphrase-file", &right]);
    assert_eq!(ran.code, Some(64), "{ran}");
    assert!(ran.stderr.contains("--overlap 0 would let the old key live for ever"), "{ran}");
    // With another passphrase for the new one.
    rotate(&["--overlap", "30d", "--passphrase-file", &wrong, "--old-passphrase-file", &right]).succeeded();
}

fn a_key_that_ends_earlier_is_not_prolonged_by_a_rotation() {
    let host = Host::new();
    let mut flags = super::world::PLAIN;
    flags[3] = "10d";
    host.run(&[&["create", "a@localhost"], &flags[..]].concat()).succeeded();
    let (old, made) = (host.gpg.sign(&host.key("a"), b"content"), SystemTime::now());
    host.run(&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()).succeeded();
    verify(&host.key_file("a"), &old, made + 9 * DAY).unwrap();
    verify(&host.key_file("a"), &old, made + 11 * DAY).unwrap_err();
}

fn a_revoked_key_verifies_nothing_and_the_other_goes_on() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let old = host.key("a");
    host.run(&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()).succeeded();
    let new = host.key("a");
    let (before, after) = (host.gpg.sign(&old, b"content"), host.gpg.sign(&new, b"content"));
    let ran = host.run(&["revoke", "a"]);
    assert_eq!(ran.code, Some(64), "{ran}");
    assert!(ran.stderr.contains("--fingerprint is missing"), "{ran}");
    for (key, how) in [(&old, "retiring"), (&new, "active")] {
        assert!(ran.stderr.contains(&format!("{} ({how}, made ", key.fingerprint)), "{ran}");
    }
    let ran = host.run(&["revoke", "a", "--fingerprint", &"A".repeat(40)]).failed();
    assert!(ran.stderr.contains("has no key AAAA"), "{ran}");
    let reason = ["--reason", "compromised", "--note", "the laptop was stolen"];
    host.run(&[&["revoke", "a", "--fingerprint", &old.fingerprint], &reason[..]].concat()).succeeded();
    let file = host.key_file("a");
    let why = verify(&file, &before, SystemTime::now()).unwrap_err().to_string();
    assert!(why.contains("is revoked (key material has been compromised)"), "{why}");
    verify(&file, &after, SystemTime::now()).unwrap();
    assert_eq!(host.states("a"), ["revoked", "active"]);
    // The last one.
    let ran = host.run(&["revoke", "a"]).succeeded();
    assert!(ran.stdout.contains("a has no key now") && ran.stdout.contains("podseal imagemaker rotate a"), "{ran}");
    verify(&file, &after, SystemTime::now()).unwrap_err();
    let listed = host.run(&["list"]);
    assert_eq!(listed.code, Some(0), "a maker that has left is no error: {listed}");
    // As it says.
    host.run(&[&["rotate", "a", "--overlap", "1d"], &NEW[..]].concat()).succeeded();
    assert_eq!(host.states("a"), ["revoked", "revoked", "active"]);
    verify(&file, &before, SystemTime::now()).unwrap_err();
}

fn a_key_whose_secret_part_is_lost_can_be_revoked() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let blob = host.gpg.sign(&host.key("a"), b"content");
    host.forget();
    let folder = host.gpg.home().join("private-keys-v1.d");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let ran = host.run(&["revoke", "a"]).succeeded();
    assert!(ran.stderr.contains("the revocation that gpg laid by is used"), "{ran}");
    let why = verify(&host.key_file("a"), &blob, SystemTime::now()).unwrap_err().to_string();
    assert!(why.contains("is revoked"), "{why}");
}

fn a_key_file_with_somebody_elses_key_is_not_overwritten() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let other = host.gpg.generate(&crate::support::signer::KeySpec::new("Other <other@localhost>"));
    let mut both = std::fs::read(host.key_file("a")).unwrap();
    both.extend(host.gpg.export_armored(&[&other]));
    std::fs::write(host.key_file("a"), &both).unwrap();
    let ran = host.run(&["revoke", "a"]).failed();
    assert!(ran.stderr.contains(&other.fingerprint) && ran.stderr.contains("left alone"), "{ran}");
    assert_eq!(std::fs::read(host.key_file("a")).unwrap(), both);
}

fn a_damaged_key_file_is_listed_and_made_whole() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    std::fs::write(host.key_file("a"), "aaa\n").unwrap();
    let ran = host.run(&["list"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("the key file holds no public key"), "{ran}");
    host.run(&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()).succeeded();
    assert_eq!(keys(&host.key_file("a"), SystemTime::now()).len(), 2);
    host.run(&["list"]).succeeded();
}
