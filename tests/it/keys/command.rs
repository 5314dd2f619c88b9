//! `podseal keys`.

use serde_json::Value;

use super::world::Keys;
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::podseal;
use crate::support::signer::{Gpg, KeySpec};
use crate::support::text::assert_text;
use crate::support::tools::Ran;

fn run(keys: &Keys, args: &[&str]) -> Ran {
    let kubeconfig = Cluster::shared().kubeconfig(User::Admin);
    let cluster = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--own-namespace", &keys.namespace];
    podseal(&[&["keys"], args, &cluster[..]].concat())
}

fn keys_list_shows_how_files_and_secrets_stand() {
    let (mut keys, gpg) = (Keys::new("list"), Gpg::new());
    let key = gpg.generate(&KeySpec::new("Maker <maker@registry.local>"));
    for file in ["a.pgp", "b.pgp", "c.pgp"] {
        keys.put(file, gpg.export(&[&key]));
    }
    keys.wait("all are in sync", || keys.metric("podseal_key_files{state=\"in-sync\"}") == 3);
    let directory = keys.directory.to_str().unwrap().to_owned();
    let listed = run(&keys, &["--dir", &directory]);
    assert_eq!(listed.code, Some(0), "{listed}");
    keys.stop();
    keys.remove("a.pgp");
    keys.put("b.pgp", "aaa");
    keys.put("d.pgp", gpg.export(&[&key]));
    keys.put("E.pgp", gpg.export(&[&key]));
    let listed = run(&keys, &["list", "--dir", &directory]);
    assert_eq!(listed.code, Some(1), "{listed}");
    assert_text(
        listed.stdout.replace(&key.fingerprint, "FINGERPRINT").trim_end(),
        "\
FILE   SECRET          KIND     STATE    EXPIRES  FINGERPRINT                               USER ID
E.pgp  -               -        refused  -        -                                         -
  the name does not fit a Secret: use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit
a.pgp  sigstore-key-a  OpenPGP  orphan   never    FINGERPRINT  Maker <maker@registry.local>
  there is no key file a.pgp; its keys still count: withdraw them with podseal keys remove a.pgp
b.pgp  sigstore-key-b  OpenPGP  no-key   -        -                                         -
  holds no public key: no OpenPGP certificate in it
c.pgp  sigstore-key-c  OpenPGP  in-sync  never    FINGERPRINT  Maker <maker@registry.local>
d.pgp  sigstore-key-d  OpenPGP  missing  never    FINGERPRINT  Maker <maker@registry.local>",
    );
    let json = run(&keys, &["list", "--dir", &directory, "-o", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["keys"][3]["state"], "in-sync");
    assert_eq!(json["keys"][3]["keys"][0]["fingerprint"], *key.fingerprint);
    let cluster = run(&keys, &[]);
    assert_eq!(cluster.code, Some(0), "{cluster}");
    assert_eq!(cluster.stdout.matches("not-compared").count(), 3, "{cluster}");
    let alone = podseal(&["keys", "--dir", &directory, "--no-cluster"]);
    assert!(alone.stdout.contains("not-compared") && alone.code == Some(1), "{alone}");
    assert_eq!(run(&keys, &["--dir", "/nowhere/at/all"]).code, Some(2));
    assert_eq!(podseal(&["keys", "--no-cluster"]).code, Some(64));
}

fn keys_remove_withdraws_what_is_podseals_own() {
    let (mut keys, gpg) = (Keys::new("remove"), Gpg::new());
    let key = gpg.generate(&KeySpec::new("Maker <maker@registry.local>"));
    keys.put("a.pgp", gpg.export(&[&key]));
    keys.put("b.pgp", gpg.export(&[&key]));
    keys.wait_for_key("a", &key.fingerprint);
    keys.wait_for_key("b", &key.fingerprint);
    Cluster::shared().secret(&keys.namespace, "sigstore-key-mine", &[("mine.pgp", b"x")]);
    for (name, said) in [
        ("mine", "not kept for a key file"),
        ("nobody", "there is no Secret"),
        ("a.asc", "is kept for a.pgp, not for a.asc"),
    ] {
        let ran = run(&keys, &["remove", name]);
        assert!(ran.code == Some(1) && ran.stderr.contains(said), "{ran}");
    }
    assert!(keys.secret("mine").is_some() && keys.secret("a").is_some());
    // With its file there, the key comes back.
    run(&keys, &["remove", "a.pgp"]).succeeded();
    keys.wait_for_key("a", &key.fingerprint);
    keys.stop();
    keys.remove("a.pgp");
    keys.start();
    keys.wait_for_event("KeyFileMissing", &["a.pgp"]);
    let ran = run(&keys, &["remove", "sigstore-key-a"]).succeeded();
    assert!(ran.stdout.contains("It comes back if the controller still finds a.pgp"), "{ran}");
    super::world::a_while();
    assert!(keys.secret("a").is_none() && keys.secret("b").is_some());
}

crate::tests! {
    needs [Cluster, Gpg];
    keys_list_shows_how_files_and_secrets_stand,
    keys_remove_withdraws_what_is_podseals_own,
}
