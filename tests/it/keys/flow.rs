//! From the drop of a file to the Pod that may run, and back.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::world::{Keys, link};
use crate::support::cluster::{Cluster, OWN_NAMESPACE, User};
use crate::support::podseal::Podseal;
use crate::support::process::within;
use crate::support::registry::Registry;
use crate::support::review::{Answer, Review};
use crate::support::signer::{CosignKey, Format, Gpg, KeySpec, Skopeo};
use crate::support::store::{Store, registries_d};

/// The aim is two seconds; other work on the machine may take its time.
const LIMIT: Duration = Duration::from_secs(15);

fn f2_a_key_file_acts_on_images_from_its_drop_to_its_withdrawal() {
    let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
    let maker = gpg.generate(&KeySpec::new("Image Maker <immkk8s@registry.local/k8s-c10f1>"));
    let other = gpg.generate(&KeySpec::new("Other <other@registry.local>"));
    let image = registry.push("alt/alt:1");
    let staging = format!("file://{}", store.folder().display());
    let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    skopeo.sign(&registry, &image, &maker).succeeded();

    // With the rights that podseal has in its own namespace, and no others.
    let mut keys = Keys::at(OWN_NAMESPACE, User::Podseal);
    keys.put("flow-stays.pgp", gpg.export(&[&other]));
    keys.start();
    keys.wait_for_key("flow-stays", &other.fingerprint);
    let namespace = Cluster::shared().namespace(Podseal::shared(), "key-files");
    namespace.policy(
        "p",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, lookaside: '{}', signer: [flow-group1.pgp], \
             gpgKeyRef: 'k8s://{OWN_NAMESPACE}/sigstore-key-flow-group1'}}",
            registry.host, store.url
        ),
    );
    let asked = || Podseal::shared().review(&Review::pod(&namespace.name).container("c", &image.tagged()));
    let acts = |what: &str, wanted: &dyn Fn(&Answer) -> bool| {
        let started = Instant::now();
        let seen = within(Duration::from_secs(60), || wanted(&asked()).then(|| started.elapsed()));
        let seen = seen.unwrap_or_else(|| panic!("{what}: never; {:?}", asked()));
        eprintln!("key files: {what}: {seen:?}");
        assert!(seen < LIMIT, "{what}: {seen:?}");
    };
    namespace.run("before", &image.tagged()).failed();

    keys.put("flow-group1.pgp", gpg.export_armored(&[&maker]));
    acts("a file dropped, the image allowed", &|answer| answer.allowed);
    namespace.run("signed", &image.tagged()).succeeded();

    keys.put("flow-group1.pgp", "aaa\n");
    acts("a file that no longer holds a key", &|answer| answer.message.contains("no public keys imported"));
    let ran = namespace.run("emptied", &image.tagged()).failed();
    assert!(ran.stderr.contains("no public keys imported"), "{ran}");
    assert_eq!(keys.wait_for_event("KeyFileWithoutKey", &["flow-group1.pgp"]), "Secret");

    keys.put("flow-group1.pgp", gpg.export(&[&other]));
    acts("another key", &|answer| answer.message.contains("untrusted key"));
    keys.put("flow-group1.pgp", gpg.export(&[&other, &maker]));
    acts("both keys", &|answer| answer.allowed);

    keys.remove("flow-group1.pgp");
    acts("a file withdrawn", &|answer| !answer.allowed);
    keys.wait_for_none("flow-group1");
    assert_eq!(keys.wait_for_event("KeyRemoved", &["flow-group1.pgp"]), "Namespace");
    assert!(keys.secret("flow-stays").is_some());
    Cluster::shared().kubectl(&["-n", OWN_NAMESPACE, "delete", "secret", "sigstore-key-flow-stays"]).succeeded();
}

fn a_cosign_key_file_acts_likewise() {
    let (registry, key) = (Registry::start(), CosignKey::new());
    let image = registry.push("alt/alt:1");
    key.sign(&registry, &image, Format::Legacy, &[]).succeeded();
    let mut keys = Keys::at(OWN_NAMESPACE, User::Podseal);
    keys.put("flow-ci.pub", &key.public);
    keys.start();
    let namespace = Cluster::shared().namespace(Podseal::shared(), "cosign-files");
    namespace.policy(
        "p",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, cosignKeyRef: 'k8s://{OWN_NAMESPACE}/sigstore-key-flow-ci'}}",
            registry.host
        ),
    );
    keys.wait("the image is allowed", || namespace.run("signed", &image.tagged()).ok());
    keys.stop();
    Cluster::shared().kubectl(&["-n", OWN_NAMESPACE, "delete", "secret", "sigstore-key-flow-ci"]).succeeded();
}

fn a_half_written_file_takes_no_key_away() {
    let (keys, gpg) = (Keys::new("half-written"), Gpg::new());
    let key = |n: usize| gpg.generate(&KeySpec::new(&format!("k{n}@registry.local")));
    let (old, new) = (key(1), key(2));
    keys.put("a.asc", gpg.export_armored(&[&old]));
    let dropped = keys.wait_for_key("a", &old.fingerprint);
    eprintln!("key files: a file dropped, its Secret there: {dropped:?}");
    assert!(dropped < LIMIT, "{dropped:?}");
    let text = gpg.export_armored(&[&new]);
    let mut seen = Vec::new();
    {
        // Truncated at first, as a shell's `>` and scp do it, and slower than the quiet period.
        let mut file = std::fs::File::create(keys.path("a.asc")).unwrap();
        for piece in text.chunks(text.len() / 4 + 1) {
            file.write_all(piece).unwrap();
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(900) {
                seen.push(keys.fingerprints("a"));
            }
        }
    }
    keys.wait("the new key is there", || {
        seen.push(keys.fingerprints("a"));
        seen.last() == Some(&Some(new.fingerprint.clone()))
    });
    let wrong = seen.iter().find(|seen| !matches!(seen, Some(f) if *f == old.fingerprint || *f == new.fingerprint));
    assert_eq!(wrong, None, "of {} looks", seen.len());
    // Likewise in pieces that open and close it, each within the quiet period.
    std::fs::write(keys.path("a.asc"), "").unwrap();
    for piece in gpg.export_armored(&[&old]).chunks(200) {
        std::fs::File::options().append(true).open(keys.path("a.asc")).unwrap().write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    keys.wait_for_key("a", &old.fingerprint);
    assert!(keys.events().iter().all(|event| event["reason"] != "KeyFileWithoutKey"), "{:#?}", keys.events());
}

fn a_config_map_volume_is_followed_through_its_links() {
    let (mut keys, gpg) = (Keys::at(&Cluster::shared().bare_namespace("config-map"), User::Admin), Gpg::new());
    let [old, new] = ["a@registry.local", "b@registry.local"].map(|id| gpg.generate(&KeySpec::new(id)));
    // As the kubelet lays it out: files are links through `..data`, which is exchanged as a whole.
    let lay = |version: &str, files: &[(&str, Vec<u8>)]| {
        std::fs::create_dir(keys.path(version)).unwrap();
        for (name, content) in files {
            std::fs::write(keys.path(version).join(name), content).unwrap();
        }
        link(version, &keys.path("..data"));
    };
    lay("..1", &[("a.pgp", gpg.export(&[&old])), ("b.pgp", gpg.export(&[&old]))]);
    for file in ["a.pgp", "b.pgp"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), keys.path(file)).unwrap();
    }
    keys.start();
    keys.wait_for_key("a", &old.fingerprint);
    keys.wait_for_key("b", &old.fingerprint);
    let lay = |version: &str, files: &[(&str, Vec<u8>)]| {
        std::fs::create_dir(keys.path(version)).unwrap();
        for (name, content) in files {
            std::fs::write(keys.path(version).join(name), content).unwrap();
        }
        link(version, &keys.path("..data"));
    };
    lay("..2", &[("a.pgp", gpg.export(&[&new]))]);
    // The kubelet takes links away only afterwards.
    std::thread::sleep(Duration::from_millis(50));
    keys.remove("b.pgp");
    let taken = keys.wait_for_key("a", &new.fingerprint);
    eprintln!("key files: a ConfigMap volume exchanged, its Secret changed: {taken:?}");
    assert!(taken < LIMIT, "{taken:?}");
    keys.wait_for_none("b");
}

fn what_is_changed_by_hand_is_put_right() {
    let (keys, gpg) = (Keys::new("by-hand"), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    keys.put("a.pgp", gpg.export(&[&key]));
    keys.wait_for_key("a", &key.fingerprint);
    keys.kubectl(&["delete", "secret", "sigstore-key-a"]).succeeded();
    keys.wait_for_key("a", &key.fingerprint);
    let wanted = keys.data("a").unwrap();
    let patch = r#"{"data":{"more.pgp":"eA==","a.pgp":"eA=="},"metadata":{"annotations":{"mine":"stays"}}}"#;
    keys.kubectl(&["patch", "secret", "sigstore-key-a", "-p", patch]).succeeded();
    keys.wait("the data are as they were", || keys.data("a").as_ref() == Some(&wanted));
    assert_eq!(keys.secret("a").unwrap()["metadata"]["annotations"]["mine"], "stays");
}

fn many_files_become_as_many_secrets() {
    let (keys, gpg) = (Keys::new("many"), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    let (binary, count) = (gpg.export(&[&key]), 150);
    for n in 0..count {
        keys.put(&format!("k{n:03}.pgp"), &binary);
    }
    let series = "podseal_key_files{state=\"in-sync\"}";
    let taken = keys.wait("all are in sync", || keys.metric(series) == count);
    eprintln!("key files: {count} files dropped, all Secrets there: {taken:?}");
    let listed = keys.kubectl(&["get", "secret", "-l", "podseal.io/key-file", "-o", "name"]).succeeded().stdout;
    assert_eq!(listed.lines().count(), 150);
    for n in 0..count - 1 {
        keys.remove(&format!("k{n:03}.pgp"));
    }
    keys.wait("one is left", || keys.metric(series) == 1);
    assert_eq!(keys.metric("podseal_key_changes_total{change=\"removed\"}"), count - 1);
}

crate::tests! {
    needs [Cluster, Registry, Gpg, Store, Cosign];
    f2_a_key_file_acts_on_images_from_its_drop_to_its_withdrawal,
    a_cosign_key_file_acts_likewise,
    a_half_written_file_takes_no_key_away,
    a_config_map_volume_is_followed_through_its_links,
    what_is_changed_by_hand_is_put_right,
    many_files_become_as_many_secrets,
}
