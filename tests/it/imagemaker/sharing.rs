//! What two makers must not share, and what somebody writes into the registry of makers by hand.

use super::world::{Host, PLAIN};
use crate::support::signer::{Gpg, KeySpec};

crate::tests! {
    needs [Gpg];
    an_address_of_another_maker_is_refused_whatever_home_its_key_is_in,
    an_existing_key_with_the_address_of_another_maker_is_refused,
    an_address_that_cannot_be_in_a_key_is_refused_before_a_key_is_made,
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
