//! What is refused, with which words, and that nothing is made then.

use super::world::{Host, PLAIN};
use crate::support::tools::Ran;

crate::tests! {
    needs [Gpg];
    flags_that_are_missing_without_a_terminal_are_named,
    flags_that_do_not_fit_together_are_named,
    makers_that_collide_are_named,
    a_key_too_weak_for_podseal_is_refused_before_it_is_made,
    names_that_do_not_lead_to_this_host_are_refused_without_force,
    a_passphrase_file_that_others_may_read_is_refused,
    a_home_that_web_servers_would_serve_is_refused,
    a_file_in_the_way_is_left_alone,
    an_address_that_has_a_key_already_is_refused_with_the_way_out,
    what_is_asked_of_nobody_names_those_there_are,
}

#[track_caller]
fn assert_refused(host: &Host, ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran}");
    for words in said {
        assert!(ran.stderr.contains(words), "{words:?} is not in {ran}");
    }
    assert_eq!((host.list().len(), host.secret_keys()), (0, 0), "{ran}");
}

fn flags_that_are_missing_without_a_terminal_are_named() {
    let host = Host::new();
    let all = ["--key-type", "--expires", "--full-name", "--passphrase-file, --passphrase-agent or --no-passphrase"];
    let ran = host.run(&["create", "a@localhost"]);
    assert_refused(&host, &ran, 64, &[&["missing, with no terminal to ask at"], &all[..]].concat());
    for (left_out, length, flag) in [(0, 2, "--key-type"), (2, 2, "--expires"), (4, 2, "--full-name"), (6, 1, all[3])] {
        let mut flags = PLAIN.to_vec();
        flags.drain(left_out..left_out + length);
        let ran = host.run(&[&["create", "a@localhost"], &flags[..]].concat());
        assert_refused(&host, &ran, 64, &[&format!("no terminal to ask at: {flag}\n")]);
    }
    let ran = host.run(&["create", "a@localhost", "--key-type", "existing"]);
    assert_refused(&host, &ran, 64, &["no terminal to ask at: --key\n"]);
    assert!(!host.dir.exists());
}

fn flags_that_do_not_fit_together_are_named() {
    let host = Host::new();
    for (flags, said) in [
        (&["a@localhost", "--bits", "2048"][..], "--bits is for RSA and DSA keys"),
        (&["a@localhost", "--key", "b@localhost"], "--key is for --key-type existing"),
        (&["a@localhost", "b@localhost/b", "--email", "a@localhost"], "--email is for one maker"),
        (&["a@localhost", "--passphrase-agent"], "cannot be used with"),
        (&["a@localhost", "--email", "nobody"], "E-mail: an address such as"),
        (&["A@localhost"], "cannot be a maker's name"),
        (&["../a@localhost"], "'../a@localhost'"),
        (&["a@*"], "a maker signs for one registry"),
    ] {
        assert_refused(&host, &host.create(flags), 64, &[said]);
    }
    for (number, value, said) in
        [(3, "90000d", "more than 50 years"), (3, "30h", "expected 0 (never)"), (5, "Bob@x", "Full name: ")]
    {
        let mut flags = PLAIN;
        flags[number] = value;
        let ran = host.run(&[&["create", "a@localhost"], &flags[..]].concat());
        assert_refused(&host, &ran, 64, &[said]);
    }
    let existing = ["create", "a@localhost", "b@localhost/b", "--key-type", "existing", "--key", "x"];
    assert_refused(&host, &host.run(&existing), 64, &["--key-type existing is for one maker"]);
}

fn makers_that_collide_are_named() {
    let host = Host::new();
    for (names, said) in [
        (["a@localhost/x", "b@localhost/x"], "a and b have the same path localhost/x: no two makers may"),
        (["a@localhost/x", "a@localhost/y"], "the maker a is named twice"),
        (["a@localhost/x", "b"], "b: of several makers each needs a path"),
    ] {
        assert_refused(&host, &host.create(&names), 64, &[said]);
    }
    host.create(&["a@localhost/x"]).succeeded();
    for (name, said) in [
        ("b@localhost/x", "localhost/x belongs to the image maker a already"),
        ("a@localhost/y", "there is an image maker a already, for localhost/x"),
    ] {
        let ran = host.create(&[name]).failed();
        assert!(ran.stderr.contains(said), "{ran}");
    }
    assert_eq!((host.list().len(), host.secret_keys()), (1, 1));
    // A narrower path is another path.
    host.create(&["b@localhost/x/y"]).succeeded();
}

fn a_key_too_weak_for_podseal_is_refused_before_it_is_made() {
    let host = Host::new();
    for (kind, bits, said) in [
        ("dsa", "1024", "DSA of 1024 bits is too weak"),
        ("dsa-sign", "2047", "DSA of 2047 bits is too weak"),
        ("rsa", "1024", "RSA of 1024 bits is too weak"),
        ("rsa-sign", "2047", "RSA of 2047 bits is too weak"),
        ("rsa", "8192", "gpg makes such keys of at most 4096 bits"),
        ("dsa", "4096", "gpg makes such keys of at most 3072 bits"),
    ] {
        let mut flags = PLAIN;
        flags[1] = kind;
        let ran = host.run(&[&["create", "a@localhost", "--bits", bits], &flags[..]].concat());
        let way = if said.contains("weak") { "--key-type ed25519" } else { "" };
        assert_refused(&host, &ran, 64, &[said, way]);
    }
}

fn names_that_do_not_lead_to_this_host_are_refused_without_force() {
    let host = Host::new();
    let ran = host.create(&["a@podseal-nowhere.local"]);
    assert_refused(&host, &ran, 1, &["podseal-nowhere.local does not resolve", "--force"]);
    let mut flags = PLAIN;
    flags[7] = "--lookaside=http://203.0.113.7:81/sigstore/";
    let ran = host.run(&[&["create", "a@localhost"], &flags[..]].concat());
    assert_refused(&host, &ran, 1, &["203.0.113.7 leads to 203.0.113.7, and not to this host", "--force"]);
    assert!(!host.dir.exists());
    // A registry elsewhere is noted.
    let ran = host.create(&["a@203.0.113.8:5000/x"]).succeeded();
    assert!(ran.stderr.contains("note: 203.0.113.8 leads to 203.0.113.8, and not to this host"), "{ran}");
    let ran = host.create(&["b@podseal-nowhere.local", "--force"]).succeeded();
    assert!(ran.stderr.contains("warning: podseal-nowhere.local does not resolve"), "{ran}");
}

fn a_passphrase_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::new();
    let file = Host::passphrase("correct horse");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut flags = PLAIN.to_vec();
    flags[6] = "--passphrase-file";
    flags.insert(7, &file);
    let ran = host.run(&[&["create", "a@localhost"], &flags[..]].concat());
    assert_refused(&host, &ran, 1, &["others may read it (mode 0644): chmod 600 "]);
    assert!(!ran.stderr.contains("horse"), "{ran}");
}

fn a_home_that_web_servers_would_serve_is_refused() {
    let host = Host::new();
    let inside = host.dir.join("gnupg");
    let ran = host.create(&["a@localhost", "--gnupg-home", inside.to_str().unwrap()]);
    assert_refused(&host, &ran, 64, &["lies in the directory that web servers serve: keep secret keys elsewhere"]);
}

fn a_file_in_the_way_is_left_alone() {
    let host = Host::new();
    std::fs::create_dir_all(host.dir.join("keys")).unwrap();
    std::fs::write(host.key_file("a"), "somebody's").unwrap();
    let ran = host.create(&["a@localhost"]);
    assert_refused(&host, &ran, 1, &["a.pgp is there already, and no image maker's"]);
    assert_eq!(std::fs::read_to_string(host.key_file("a")).unwrap(), "somebody's");
}

fn an_address_that_has_a_key_already_is_refused_with_the_way_out() {
    let host = Host::new();
    let key = host.gpg.generate(&crate::support::signer::KeySpec::new("Somebody <a@localhost>"));
    let ran = host.create(&["a@localhost"]).failed();
    let way = format!("take it with --key-type existing --key {}", key.fingerprint);
    assert!(ran.stderr.contains("holds a key for a@localhost already") && ran.stderr.contains(&way), "{ran}");
    assert_eq!((host.list().len(), host.secret_keys()), (0, 1));
}

fn what_is_asked_of_nobody_names_those_there_are() {
    let host = Host::new();
    let ran = host.run(&["policy"]).failed();
    assert!(ran.stderr.contains("no image makers: podseal imagemaker create makes them"), "{ran}");
    host.create(&["a@localhost"]).succeeded();
    for command in [&["passwd", "b"][..], &["revoke", "b"], &["rotate", "b", "--overlap", "30d"]] {
        let ran = host.run(command).failed();
        assert!(ran.stderr.contains("no image maker \"b\"; there are a"), "{ran}");
    }
    std::fs::write(host.dir.join("imagemakers.json"), "{").unwrap();
    let ran = host.run(&["list"]).failed();
    assert!(ran.stderr.contains("imagemakers.json: ") && ran.stderr.contains("restore the file"), "{ran}");
    assert_eq!(ran.code, Some(1));
}
