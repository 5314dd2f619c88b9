//! What goes away by accident takes no key with it.

use std::fs;
use std::process::Command;

use super::world::{Keys, a_while};
use crate::support::cluster::{Cluster, User};
use crate::support::signer::{Gpg, KeySpec};
use crate::support::tools;

/// Three files in sync, `a`, `b` and `c`, with their fingerprint.
fn three(hint: &str) -> (Keys, Gpg, String) {
    let (keys, gpg) = (Keys::new(hint), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    for file in ["a.pgp", "b.pgp", "c.pgp"] {
        keys.put(file, gpg.export(&[&key]));
    }
    for name in ["a", "b", "c"] {
        keys.wait_for_key(name, &key.fingerprint);
    }
    (keys, gpg, key.fingerprint)
}

#[track_caller]
fn assert_all_there(keys: &Keys, fingerprint: &str) {
    a_while();
    for name in ["a", "b", "c"] {
        assert_eq!(keys.fingerprints(name).as_deref(), Some(fingerprint), "{name}");
    }
}

fn a_directory_that_vanishes_or_is_another_one_deletes_nothing() {
    let (keys, gpg, print) = three("vanished");
    let elsewhere = keys.directory.with_file_name("elsewhere");
    fs::rename(&keys.directory, &elsewhere).unwrap();
    assert_eq!(keys.wait_for_event("KeyDirectoryUnreadable", &["all 3 Secrets"]), "Namespace");
    assert_eq!(keys.metric("podseal_key_directory_readable"), 0);
    assert_all_there(&keys, &print);
    // The mount point below, with something else in it.
    fs::create_dir(&keys.directory).unwrap();
    keys.put("other.pgp", gpg.export(&[&gpg.generate(&KeySpec::new("other@registry.local"))]));
    keys.wait("the other file is there", || keys.secret("other").is_some());
    assert_all_there(&keys, &print);
    keys.wait_for_event("KeyFileMissing", &["a.pgp", "podseal keys remove"]);
    fs::remove_dir_all(&keys.directory).unwrap();
    fs::rename(&elsewhere, &keys.directory).unwrap();
    keys.wait("it is back", || keys.metric("podseal_key_files{state=\"in-sync\"}") == 3);
    assert_eq!(keys.metric("podseal_key_directory_readable"), 1);
    // Files are withdrawn again as they should be.
    keys.remove("a.pgp");
    keys.wait_for_none("a");
}

fn a_directory_that_is_unmounted_deletes_nothing() {
    let mount = |args: &[&str]| tools::run(Command::new("mount").args(args));
    let mut keys = Keys::at(&Cluster::shared().bare_namespace("unmounted"), User::Admin);
    let path = keys.directory.to_str().unwrap().to_owned();
    if !mount(&["-t", "tmpfs", "tmpfs", &path]).ok() {
        eprintln!("key files: nothing can be mounted here; a renamed directory stands for it");
        return;
    }
    let gpg = Gpg::new();
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    for file in ["a.pgp", "b.pgp"] {
        keys.put(file, gpg.export(&[&key]));
    }
    keys.start();
    keys.wait_for_key("a", &key.fingerprint);
    keys.wait_for_key("b", &key.fingerprint);
    tools::run(Command::new("umount").args(["-l", &path])).succeeded();
    keys.wait_for_event("KeyDirectoryEmpty", &["all 2 Secrets"]);
    a_while();
    assert!(keys.secret("a").is_some() && keys.secret("b").is_some());
}

fn a_directory_that_empties_at_once_and_its_last_file_delete_nothing() {
    let (keys, gpg, print) = three("emptied");
    for file in ["a.pgp", "b.pgp", "c.pgp"] {
        keys.remove(file);
    }
    assert_eq!(keys.wait_for_event("KeyDirectoryEmpty", &["all 3 Secrets"]), "Namespace");
    assert_all_there(&keys, &print);
    let key = gpg.generate(&KeySpec::new("new@registry.local"));
    keys.put("a.pgp", gpg.export(&[&key]));
    keys.wait_for_key("a", &key.fingerprint);
    a_while();
    assert!(keys.secret("b").is_some() && keys.secret("c").is_some(), "they went before");
    keys.remove("a.pgp");
    keys.wait("the last file is missed", || keys.metric("podseal_key_files{state=\"orphan\"}") == 3);
    a_while();
    assert_eq!(keys.fingerprints("a"), Some(key.fingerprint));
    // The last key is withdrawn by emptying its file.
    keys.put("a.pgp", "");
    keys.wait_for_empty("a");
}

fn a_file_that_went_while_nobody_looked_is_an_orphan_and_not_withdrawn() {
    let (mut keys, _, print) = three("restart");
    keys.stop();
    assert_eq!(keys.metric("podseal_key_files{state=\"in-sync\"}"), 0, "another replica counts now");
    keys.remove("a.pgp");
    keys.put("b.pgp", "aaa");
    a_while();
    assert_eq!(keys.fingerprints("b").as_deref(), Some(print.as_str()), "nobody leads");
    keys.start();
    keys.wait_for_empty("b");
    keys.wait_for_event("KeyFileMissing", &["a.pgp"]);
    a_while();
    assert_eq!(keys.fingerprints("a").as_deref(), Some(print.as_str()));
    assert_eq!(keys.metric("podseal_key_files{state=\"orphan\"}"), 1);
}

fn a_secret_of_somebody_else_is_never_touched() {
    let (mut keys, gpg) = (Keys::at(&Cluster::shared().bare_namespace("foreign"), User::Admin), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    let cluster = Cluster::shared();
    cluster.secret(&keys.namespace, "sigstore-key-a", &[("mine", b"mine")]);
    cluster.secret(&keys.namespace, "sigstore-key-b", &[("b.pgp", b"mine")]);
    // Kept by hand for namespaced policies, as the documentation has it.
    keys.kubectl(&["label", "secret", "sigstore-key-b", "podseal.io/key-file=b.pgp"]).succeeded();
    let before = [keys.secret("a"), keys.secret("b")];
    for file in ["a.pgp", "b.pgp", "c.pgp"] {
        keys.put(file, gpg.export(&[&key]));
    }
    keys.start();
    keys.wait_for_key("c", &key.fingerprint);
    for file in ["a.pgp", "b.pgp"] {
        assert_eq!(keys.wait_for_event("KeySecretForeign", &[file, "app.kubernetes.io/managed-by=podseal"]), "Secret");
    }
    keys.put("a.pgp", "aaa");
    keys.remove("b.pgp");
    a_while();
    assert_eq!([keys.secret("a"), keys.secret("b")], before);
    assert_eq!(keys.metric("podseal_key_files{state=\"foreign\"}"), 2);
    // Its owner hands it over.
    keys.put("a.pgp", gpg.export(&[&key]));
    let labels = ["app.kubernetes.io/managed-by=podseal", "podseal.io/key-file=a.pgp"];
    keys.kubectl(&[&["label", "secret", "sigstore-key-a"], &labels[..]].concat()).succeeded();
    keys.wait_for_key("a", &key.fingerprint);
    let names: Vec<_> = keys.data("a").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.pgp"]);
}

fn a_file_that_cannot_be_read_keeps_its_secret() {
    let (keys, _, print) = three("unreadable");
    keys.remove("a.pgp");
    std::os::unix::fs::symlink("nowhere", keys.path("a.pgp")).unwrap();
    assert_eq!(keys.wait_for_event("KeyFileUnreadable", &["a.pgp"]), "Secret");
    assert_all_there(&keys, &print);
    // A device is no file that might come back.
    keys.remove("a.pgp");
    std::os::unix::fs::symlink("/dev/null", keys.path("a.pgp")).unwrap();
    keys.wait_for_empty("a");
}

crate::tests! {
    needs [Cluster, Gpg];
    a_directory_that_vanishes_or_is_another_one_deletes_nothing,
    a_directory_that_is_unmounted_deletes_nothing,
    a_directory_that_empties_at_once_and_its_last_file_delete_nothing,
    a_file_that_went_while_nobody_looked_is_an_orphan_and_not_withdrawn,
    a_secret_of_somebody_else_is_never_touched,
    a_file_that_cannot_be_read_keeps_its_secret,
}
