//! What files may hold, and what never comes into the cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podseal::controller::keys::{Config, KeyUrl};
use podseal::signature::openpgp::holds_secret_key;

use super::world::{Keys, a_while};
use crate::support::cluster::{Cluster, User};
use crate::support::signer::{CosignKey, Gpg, KeyKind, KeySpec};
use crate::support::store::Store;

fn a_secret_says_what_it_holds() {
    let (keys, gpg) = (Keys::new("says"), Gpg::new());
    let first = gpg.generate(&KeySpec { expires: "60d", ..KeySpec::new("First <first@registry.local>") });
    let second = gpg.generate(&KeySpec { algorithm: "rsa3072", ..KeySpec::new("Second <second@registry.local>") });
    keys.put("both.asc", [gpg.export_armored(&[&first]), gpg.export_armored(&[&second])].concat());
    let mut prints = [first.fingerprint.as_str(), second.fingerprint.as_str()];
    prints.sort_unstable();
    keys.wait_for_key("both", &prints.join(" "));
    let secret = keys.secret("both").unwrap();
    let (labels, annotations) = (&secret["metadata"]["labels"], &secret["metadata"]["annotations"]);
    assert_eq!(labels["podseal.io/key-file"], "both.asc");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "podseal");
    let user_ids = annotations["podseal.io/key-user-ids"].as_str().unwrap();
    assert!(user_ids.contains("<first@registry.local>") && user_ids.contains("<second@registry.local>"), "{user_ids}");
    assert!(annotations["podseal.io/key-expires"].as_str().unwrap().starts_with("20"), "{annotations}");
    assert_eq!(annotations["podseal.io/key-source"], "directory");
    // gpg reads it, too.
    let shown = gpg.gpg(None, &["--show-keys", "--with-colons"], &keys.data("both").unwrap()[0].1).succeeded().stdout;
    assert!(prints.iter().all(|print| shown.contains(print)), "{shown}");
    assert_eq!(keys.wait_for_event("KeyAdded", &["both.asc", prints[0]]), "Secret");
    for (n, kind) in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa(3072), KeyKind::Ed25519].into_iter().enumerate() {
        let key = CosignKey::of(kind);
        keys.put(&format!("cosign{n}.pub"), &key.public);
        let name = format!("cosign{n}");
        keys.wait("the key is there", || keys.secret(&name).is_some_and(|s| s["data"]["cosign.pub"].is_string()));
        let held = String::from_utf8(keys.data(&name).unwrap()[0].1.clone()).unwrap();
        assert_eq!(held.trim(), key.public.trim());
    }
}

/// Everything that anybody could read: Secrets (also in older states that managed fields or Events might quote), Events.
fn assert_nowhere(keys: &Keys, secret: &[u8]) {
    let everything = Cluster::shared().kubectl(&["get", "secrets,configmaps,events", "-A", "-o", "json"]).succeeded();
    let text = String::from_utf8_lossy(secret);
    for line in text.lines().filter(|line| line.len() == 64) {
        assert!(!everything.stdout.contains(line), "a line of the secret key is in the cluster");
    }
    let all: serde_json::Value = serde_json::from_str(&everything.stdout).unwrap();
    for item in all["items"].as_array().unwrap().iter().filter(|item| item["metadata"]["namespace"] == *keys.namespace)
    {
        for value in item["data"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
            let bytes = STANDARD.decode(value).unwrap_or_else(|_| value.into());
            assert!(!holds_secret_key(&bytes), "{}", item["metadata"]["name"]);
            assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"), "{}", item["metadata"]["name"]);
        }
    }
}

fn a_secret_key_is_refused_and_nowhere_in_the_cluster() {
    let (keys, gpg) = (Keys::new("secret-key"), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    let secret =
        |args: &[&str]| gpg.gpg(None, &[args, &["--export-secret-keys", &key.fingerprint]].concat(), b"").bytes;
    let (armored, binary) = (secret(&["--armor"]), secret(&[]));
    assert!(holds_secret_key(&armored) && holds_secret_key(&binary) && !holds_secret_key(&gpg.export(&[&key])));
    keys.put("held.pgp", gpg.export(&[&key]));
    keys.wait_for_key("held", &key.fingerprint);
    keys.put("held.pgp", [gpg.export(&[&key]), binary.clone()].concat());
    keys.put("new.asc", &armored);
    let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n-----END EC PRIVATE KEY-----\n";
    keys.put("ci.pub", format!("{}{pem}", CosignKey::new().public));
    keys.wait_for_empty("held");
    assert_eq!(keys.wait_for_event("SecretKeyRefused", &["held.pgp"]), "Secret");
    assert_eq!(keys.wait_for_event("SecretKeyRefused", &["new.asc"]), "Namespace");
    assert_eq!(keys.wait_for_event("SecretKeyRefused", &["ci.pub"]), "Namespace");
    assert!(keys.secret("new").is_none() && keys.secret("ci").is_none());
    assert_eq!(keys.metric("podseal_key_files{state=\"secret-key\"}"), 3);
    assert_eq!(keys.metric("podseal_key_changes_total{change=\"emptied\"}"), 1);
    assert_nowhere(&keys, &armored);
    assert_nowhere(&keys, pem.as_bytes());
}

fn keys_that_expire_soon_are_told_of() {
    let (keys, gpg) = (Keys::new("expiring"), Gpg::new());
    let soon = gpg.generate(&KeySpec { expires: "10d", ..KeySpec::new("soon@registry.local") });
    let later = gpg.generate(&KeySpec { expires: "40d", ..KeySpec::new("later@registry.local") });
    let at = Some("20240101T000000");
    let past = gpg.generate(&KeySpec { expires: "30d", at, ..KeySpec::new("past@registry.local") });
    keys.put("soon.pgp", gpg.export(&[&soon, &later]));
    keys.put("past.pgp", gpg.export(&[&past]));
    assert_eq!(keys.wait_for_event("KeyExpiring", &["soon.pgp", &soon.fingerprint, "soon@registry.local"]), "Secret");
    assert_eq!(keys.wait_for_event("KeyExpired", &["past.pgp", &past.fingerprint]), "Secret");
    assert!(
        !keys
            .events()
            .iter()
            .any(|event| event["note"].as_str().unwrap().contains(&later.fingerprint) && event["reason"] != "KeyAdded")
    );
    assert_eq!(keys.metric("podseal_key_files_expiring{when=\"within-30-days\"}"), 1);
    assert_eq!(keys.metric("podseal_key_files_expiring{when=\"past\"}"), 1);
    gpg.set_expiry(&soon, "1y", None);
    keys.put("soon.pgp", gpg.export(&[&soon, &later]));
    keys.wait("nothing expires soon", || keys.metric("podseal_key_files_expiring{when=\"within-30-days\"}") == 0);
}

fn names_that_fit_no_secret_or_collide_are_refused() {
    let (keys, gpg) = (Keys::new("names"), Gpg::new());
    let [one, two] = ["a@registry.local", "b@registry.local"].map(|id| gpg.generate(&KeySpec::new(id)));
    keys.put("Group1.pgp", gpg.export(&[&one]));
    keys.put("a.pgp", gpg.export(&[&one]));
    keys.put("a.asc", gpg.export_armored(&[&two]));
    keys.put("README", "no key");
    keys.wait_for_event("KeyFileRefused", &["Group1.pgp", "lower-case"]);
    for file in ["a.pgp", "a.asc"] {
        assert_eq!(keys.wait_for_event("KeyFileRefused", &[file, "a.asc and a.pgp"]), "Namespace");
    }
    assert!(keys.secret("a").is_none());
    keys.remove("a.asc");
    keys.wait_for_key("a", &one.fingerprint);
    // Who has the Secret keeps it.
    keys.put("a.asc", gpg.export_armored(&[&two]));
    keys.wait("the other one is refused", || keys.metric("podseal_key_files{state=\"refused\"}") == 2);
    a_while();
    assert_eq!(keys.fingerprints("a"), Some(one.fingerprint));
    keys.remove("a.pgp");
    keys.wait_for_key("a", &two.fingerprint);
    let names: Vec<_> = keys.data("a").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.asc"]);
}

fn a_key_is_fetched_from_where_it_is_published() {
    let (store, gpg) = (Store::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    let other = gpg.generate(&KeySpec::new("b@registry.local"));
    let folder = store.folder().join("keys");
    std::fs::create_dir(&folder).unwrap();
    for (name, key) in [("group1.pgp", &key), ("group2.pgp", &other)] {
        std::fs::write(folder.join(name), gpg.export_armored(&[key])).unwrap();
    }
    let mut keys = Keys::at(&Cluster::shared().bare_namespace("fetched"), User::Admin);
    let url = |name: &str| format!("{}keys/{name}#{}", store.url, key.fingerprint).parse::<KeyUrl>().unwrap();
    let urls = ["group1.pgp", "group2.pgp", "missing.pgp"].map(url).into();
    keys.start_with(Config { urls, ..Config::default() });
    keys.wait_for_key("group1", &key.fingerprint);
    let source = &keys.secret("group1").unwrap()["metadata"]["annotations"]["podseal.io/key-source"];
    assert_eq!(*source, format!("{}keys/group1.pgp", store.url));
    keys.wait_for_event("KeyFileWithoutKey", &["group2.pgp", "none of the keys that its address expects"]);
    keys.wait_for_event("KeyFileUnreadable", &["missing.pgp", "404"]);
    assert!(keys.secret("group2").is_none() && keys.secret("missing").is_none());
    // A server that has the file no longer takes no key away.
    std::fs::remove_file(folder.join("group1.pgp")).unwrap();
    keys.stop();
    keys.start_with(Config { urls: vec![url("group1.pgp")], ..Config::default() });
    keys.wait_for_event("KeyFileUnreadable", &["group1.pgp", "404"]);
    assert_eq!(keys.fingerprints("group1"), Some(key.fingerprint));
}

crate::tests! {
    needs [Cluster, Gpg, Cosign, Store];
    a_secret_says_what_it_holds,
    a_secret_key_is_refused_and_nowhere_in_the_cluster,
    keys_that_expire_soon_are_told_of,
    names_that_fit_no_secret_or_collide_are_refused,
    a_key_is_fetched_from_where_it_is_published,
}
