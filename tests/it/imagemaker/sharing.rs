//! What two makers must not share, and what somebody writes into the registry of makers by hand.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::world::{Host, NEW, PLAIN};
use crate::support::scratch;
use crate::support::signer::{Gpg, KeySpec};

crate::tests! {
    needs [Gpg];
    an_address_of_another_maker_is_refused_whatever_home_its_key_is_in,
    an_existing_key_with_the_address_of_another_maker_is_refused,
    an_address_that_cannot_be_in_a_key_is_refused_before_a_key_is_made,
    a_recorded_home_that_others_could_have_made_is_never_used,
}

/// Whoever may write the registry may record a home whose configuration runs a program of his.
fn a_recorded_home_that_others_could_have_made_is_never_used() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let folder = scratch::folder("evil");
    let (evil, trace) = (folder.join("home"), folder.join("trace"));
    std::fs::create_dir(&evil).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let program = folder.join("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\nexit 1\n", trace.display())).unwrap();
    mode(&program, 0o755);
    std::fs::write(evil.join("gpg.conf"), format!("agent-program {}\n", program.display())).unwrap();
    std::fs::copy(host.gpg.home().join("pubring.kbx"), evil.join("pubring.kbx")).unwrap();
    host.forget();
    let registry = host.dir.join("imagemakers.json");
    let text = std::fs::read_to_string(&registry).unwrap();
    let own = host.gpg.home().canonicalize().unwrap();
    let recorded = text.replace(own.to_str().unwrap(), evil.to_str().unwrap());
    assert_ne!(recorded, text);
    std::fs::write(&registry, &recorded).unwrap();
    let words = Host::passphrase("words");
    let rotate = [&["rotate", "a", "--overlap", "1d"], &NEW[..]].concat();
    let commands = [&["passwd", "a", "--new-passphrase-file", &words][..], &["revoke", "a"], &rotate];
    let run = |command: &[&str]| host.run_with(command, &[("GNUPGHOME", "")]);

    mode(&evil, 0o700);
    run(commands[0]).failed();
    assert!(trace.exists(), "gpg does what the configuration says: this test can fail");
    std::fs::remove_file(&trace).unwrap();

    let refused = |why: &str| {
        for command in &commands {
            let ran = run(command).failed();
            assert!(ran.stderr.contains("the GnuPG home") && ran.stderr.contains("imagemakers.json records"), "{ran}");
            assert!(ran.stderr.contains(why), "{ran}");
        }
        // What is only shown goes on.
        run(&["list"]).succeeded();
        assert!(!trace.exists());
        assert_eq!(std::fs::read_to_string(&registry).unwrap(), recorded);
    };
    mode(&evil, 0o770);
    refused("others than its owner may write in");
    mode(&evil, 0o700);
    mode(&folder, 0o777);
    refused("others than its owner may write in");
    mode(&folder, 0o755);
    if std::fs::metadata(&folder).unwrap().uid() == 0 {
        chown(&evil, Some(1001), Some(1001)).unwrap();
        refused("belongs to uid 1001, and this runs as uid 0");
        chown(&evil, Some(0), Some(0)).unwrap();
    }
    std::fs::write(&registry, &text).unwrap();
    run(commands[0]).succeeded();
}

fn an_address_of_another_maker_is_refused_whatever_home_its_key_is_in() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let elsewhere = Gpg::new();
    let home = ["--gnupg-home", elsewhere.home().to_str().unwrap()];
    let ran = host.create(&[&["b@localhost/b", "--email", "A@localhost"], &home[..]].concat()).failed();
    assert!(ran.stderr.contains("the maker b and the maker a would both have the address A@localhost"), "{ran}");
    assert!(ran.stderr.contains("give another --email"), "{ran}");
    assert_eq!(host.list().len(), 1);
    // A key file that is no maker's counts as well.
    let key = elsewhere.generate(&KeySpec::new("Other <other@localhost>"));
    std::fs::write(host.dir.join("keys/theirs.asc"), elsewhere.export_armored(&[&key])).unwrap();
    let ran = host.create(&["c@localhost/c", "--email", "other@localhost"]).failed();
    assert!(ran.stderr.contains("the maker c and the key file theirs.asc would both have the address"), "{ran}");
    assert_eq!((host.list().len(), host.secret_keys()), (1, 1));
    host.create(&["c@localhost/c"]).succeeded();
}

fn an_existing_key_with_the_address_of_another_maker_is_refused() {
    let host = Host::new();
    host.create(&["a@localhost"]).succeeded();
    let elsewhere = Gpg::new();
    let key = elsewhere.generate(&KeySpec::new("B <b@localhost>"));
    elsewhere.gpg(None, &["--quick-add-uid", &key.fingerprint, "B too <a@localhost>"], b"").succeeded();
    let home = elsewhere.home().to_str().unwrap().to_owned();
    let existing = ["--key-type", "existing", "--key", &key.fingerprint, "--gnupg-home", &home];
    let ran = host.run(&[&["create", "b@localhost/b"], &existing[..], &[PLAIN[7]]].concat()).failed();
    assert!(ran.stderr.contains("the maker b and the maker a would both have the address a@localhost"), "{ran}");
    assert!(ran.stderr.contains("deluid"), "{ran}");
    assert_eq!(host.list().len(), 1);
    assert!(!host.key_file("b").exists());
}

fn an_address_that_cannot_be_in_a_key_is_refused_before_a_key_is_made() {
    let host = Host::new();
    let ran = host.create(&["a@[::1]:5000/x"]);
    assert_eq!(ran.code, Some(64), "{ran}");
    assert!(ran.stderr.contains("--email is missing: a@[::1] cannot be an address"), "{ran}");
    let ran = host.create(&["a@localhost", "--email", "a@[::1]"]);
    assert_eq!(ran.code, Some(64), "{ran}");
    assert_eq!((host.list().len(), host.secret_keys()), (0, 0));
    host.create(&["a@[::1]:5000/x", "--email", "a@localhost"]).succeeded();
}
