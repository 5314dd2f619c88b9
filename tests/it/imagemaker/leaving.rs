//! Makers that leave, keys that end behind podseal's back, homes that are lost.

use std::time::SystemTime;

use super::world::{Host, NEW, verify};
use crate::support::signer::{Gpg, KeySpec};

crate::tests! {
    needs [Gpg];
    a_departed_maker_is_removed_with_its_key_file_and_what_stays_is_said,
    the_key_file_of_a_removed_maker_can_stay,
    a_maker_with_a_key_in_use_is_removed_by_force_alone,
    what_remove_recommends_of_several_keys_can_be_done,
    a_key_file_with_somebody_elses_key_is_not_removed,
    a_key_that_gpg_revoked_is_named_and_its_revocation_published,
    a_home_that_is_gone_is_named_with_whose_it_is,
    a_wrong_passphrase_is_named_with_whose_it_is,
    an_overlap_below_nothing_is_wrong_usage,
}

fn a_departed_maker_is_removed_with_its_key_file_and_what_stays_is_said() {
    let host = Host::new();
    host.create(&["a@localhost/a", "b@localhost"]).succeeded();
    let key = host.key("a").fingerprint;
    let ran = host.run(&["revoke", "a"]).succeeded();
    assert!(ran.stdout.contains("about a second after the file has changed in the controller's mount"), "{ran}");
    assert!(ran.stdout.contains("within ten seconds"), "{ran}");
    host.run(&["list"]).succeeded();
    let ran = host.run(&["remove", "a"]).succeeded();
    for said in [
        "the maker a and its key file ",
        "the controller deletes its Secret",
        "no image of localhost/a that it signed is admitted while a policy asks for its key",
        &format!("gpg --homedir {} --delete-secret-and-public-key {key}", host.gpg.home().display()),
        "take it out of the ClusterRegistrySecurityPolicy imagemakers",
        "gpgKeyRef: k8s://registry-system/sigstore-key-a\n",
    ] {
        assert!(ran.stdout.contains(said), "{said:?}: {ran}");
    }
    assert_eq!((host.list().len(), host.secret_keys(), host.key_file("a").exists()), (1, 2, false));
    // Name and path are free; the address is that of a revoked key.
    host.create(&["a@localhost/a"]).succeeded();
    host.run(&["revoke", "a"]).succeeded();
    host.run(&["remove", "a"]).succeeded();
    host.run(&["revoke", "b"]).succeeded();
    let ran = host.run(&["remove", "b"]).succeeded();
    assert!(
        ran.stdout.contains("it was the last key file") && ran.stdout.contains("podseal keys remove b.pgp"),
        "{ran}"
    );
    let ran = host.run(&["remove", "b"]).failed();
    assert!(ran.stderr.contains("no image maker \"b\""), "{ran}");
}

fn the_key_file_of_a_removed_maker_can_stay() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let blob = host.gpg.sign(&host.key("a"), b"content");
    let ran = host.run(&["remove", "a", "--keep-key-file", "--force"]).succeeded();
    assert!(
        ran.stdout.contains("a.pgp stays") && ran.stdout.contains("images that it signed verify as before"),
        "{ran}"
    );
    verify(&host.key_file("a"), &blob, SystemTime::now()).unwrap();
    assert_eq!(host.list().len(), 0);
}

fn a_maker_with_a_key_in_use_is_removed_by_force_alone() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let key = host.key("a").fingerprint;
    let ran = host.run(&["remove", "a"]).failed();
    assert!(ran.stderr.contains(&format!("the maker a has keys that still verify ({key})")), "{ran}");
    assert!(host.key_file("a").exists());
    host.run(&["remove", "a", "--force"]).succeeded();
    assert_eq!((host.list().len(), host.secret_keys(), host.key_file("a").exists()), (0, 1, false));
}

fn what_remove_recommends_of_several_keys_can_be_done() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    host.run(&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()).succeeded();
    let ran = host.run(&["remove", "a"]).failed();
    let advice = ran.stderr.split("): ").nth(1).unwrap().split(" ends them").next().unwrap();
    let commands: Vec<_> = advice.split(" && ").collect();
    assert_eq!(commands.len(), 2, "{ran}");
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(words[..2], ["podseal", "imagemaker"], "{ran}");
        host.run(&words[2..]).succeeded();
    }
    host.run(&["remove", "a"]).succeeded();
}

fn a_key_file_with_somebody_elses_key_is_not_removed() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let other = host.gpg.generate(&KeySpec::new("Other <other@localhost>"));
    let mut both = std::fs::read(host.key_file("a")).unwrap();
    both.extend(host.gpg.export_armored(&[&other]));
    std::fs::write(host.key_file("a"), &both).unwrap();
    let ran = host.run(&["remove", "a", "--force"]).failed();
    assert!(ran.stderr.contains(&other.fingerprint) && ran.stderr.contains("left alone"), "{ran}");
    assert_eq!((std::fs::read(host.key_file("a")).unwrap(), host.list().len()), (both, 1));
}

fn a_key_that_gpg_revoked_is_named_and_its_revocation_published() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let (key, blob) = (host.key("a"), host.gpg.sign(&host.key("a"), b"content"));
    let laid_by = host.gpg.home().join(format!("openpgp-revocs.d/{}.rev", key.fingerprint));
    let revocation = std::fs::read_to_string(laid_by).unwrap().replace("\n:-----BEGIN", "\n-----BEGIN");
    host.gpg.gpg(None, &["--import"], revocation.as_bytes()).succeeded();
    for command in [&[&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat()[..], &["passwd", "a"]] {
        let ran = host.run(command).failed();
        assert!(ran.stderr.contains(&format!("key {} is revoked in ", key.fingerprint)), "{ran}");
        let way = format!("podseal imagemaker revoke a --fingerprint {}", key.fingerprint);
        assert!(ran.stderr.contains("and not in the key file") && ran.stderr.contains(&way), "{ran}");
    }
    let ran = host.run(&["revoke", "a"]).succeeded();
    assert!(ran.stderr.contains("already: that is published"), "{ran}");
    verify(&host.key_file("a"), &blob, SystemTime::now()).unwrap_err();
    let ran = host.run(&["revoke", "a"]).failed();
    assert!(ran.stderr.contains("every key of the maker a is revoked"), "{ran}");
}

fn a_home_that_is_gone_is_named_with_whose_it_is() {
    let host = Host::new();
    let (elsewhere, moved) = (Gpg::new(), crate::support::scratch::folder("moved").join("home"));
    host.create(&["a@localhost", "--gnupg-home", elsewhere.home().to_str().unwrap()]).succeeded();
    crate::support::tools::run(elsewhere.command("gpgconf").args(["--kill", "all"])).succeeded();
    std::fs::rename(elsewhere.home(), &moved).unwrap();
    let named = format!("the GnuPG home {} of the maker a is not there: bring it back; ", elsewhere.home().display());
    let rotate = [&["rotate", "a", "--overlap", "30d"], &NEW[..]].concat();
    for (command, way) in [
        (&rotate[..], "podseal imagemaker rotate a --gnupg-home DIR"),
        (&["passwd", "a"], "podseal imagemaker rotate a --gnupg-home DIR"),
        (&["revoke", "a"], "podseal imagemaker remove a --force"),
    ] {
        let ran = host.run(command).failed();
        assert!(ran.stderr.contains(&named) && ran.stderr.contains(way), "{ran}");
        assert!(!elsewhere.home().exists());
    }
    host.run(&["list"]).succeeded();
    assert!(!elsewhere.home().exists());
    host.run(&[&rotate[..], &["--gnupg-home", moved.to_str().unwrap()]].concat()).succeeded();
    assert_eq!(host.states("a"), ["retiring", "active"]);
    std::fs::rename(&moved, elsewhere.home()).unwrap();
}

fn a_wrong_passphrase_is_named_with_whose_it_is() {
    let host = Host::new();
    let (right, wrong) = (Host::passphrase("one"), Host::passphrase("two"));
    host.create_locked("a@localhost", &right);
    let key = host.key("a").fingerprint;
    let new = ["--key-type", "ed25519", "--expires", "1y", "--passphrase-file", &wrong];
    let ran = host.run(&[&["rotate", "a", "--overlap", "30d"], &new[..]].concat()).failed();
    let said = format!("wrong is the passphrase of a's old key {key}: give that by --old-passphrase-file");
    assert!(ran.stderr.contains(&said), "{ran}");
    host.forget();
    let ran = host.run(&["passwd", "a", "--passphrase-file", &wrong, "--new-passphrase-file", &wrong]).failed();
    assert!(ran.stderr.contains(&format!("wrong is the present passphrase of a's key {key}")), "{ran}");
    assert!(!ran.stderr.contains("WARRANTY") && !ran.stderr.contains("Copyright"), "{ran}");
}

fn an_overlap_below_nothing_is_wrong_usage() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    for (overlap, said) in
        [("-1d", "expected 0 (never), or days"), ("0", "--overlap 0 would let the old key live for ever")]
    {
        let ran = host.run(&[&["rotate", "a", "--overlap", overlap], &NEW[..]].concat());
        assert_eq!(ran.code, Some(64), "{ran}");
        assert!(ran.stderr.contains("--overlap") && ran.stderr.contains(said), "{ran}");
    }
    assert_eq!(host.secret_keys(), 1);
}
