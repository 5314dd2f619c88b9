//! Makers, their keys and their files, as they are to be.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::world::{Host, PLAIN, keys, mode, verify};
use crate::support::signer::{GpgKey, KeySpec};

crate::tests! {
    needs [Gpg];
    the_three_makers_of_the_example_get_keys_files_and_entries,
    without_a_name_there_is_one_maker_for_the_local_registry,
    every_kind_of_key_signs_what_verifies,
    a_key_ends_when_it_was_said_to,
    an_existing_key_is_taken_by_fingerprint_or_address_and_not_made_anew,
    a_key_with_a_passphrase_signs_with_it_alone,
    what_fails_midway_leaves_nothing_half_made,
    of_two_at_once_one_gets_the_path,
}

const THREE: [&str; 3] =
    ["immkk8s@registry.local/k8s-c10f1", "imklocal@registry.local", "immkalt@registry.altlinux.org"];

fn the_three_makers_of_the_example_get_keys_files_and_entries() {
    let host = Host::new();
    let made = host.create(&[&THREE[..], &["--force"]].concat()).succeeded();
    // With --force it says what the host's names lack.
    assert!(made.stderr.contains("warning: registry.local does not resolve"), "{made}");
    for (path, wanted) in [("", 0o755), ("keys", 0o775), ("sigstore", 0o775), ("imagemakers.json", 0o644)] {
        assert_eq!(mode(&host.dir.join(path)), wanted, "{path}");
    }
    let policy: Value = serde_saphyr::from_str(&made.stdout).unwrap();
    assert_eq!(
        (&policy["kind"], &policy["metadata"]["name"]),
        (&"ClusterRegistrySecurityPolicy".into(), &"imagemakers".into())
    );
    for (i, (name, path)) in THREE.iter().map(|maker| maker.split_once('@').unwrap()).enumerate() {
        assert_eq!(mode(&host.key_file(name)), 0o644);
        let held = keys(&host.key_file(name), SystemTime::now());
        let [key] = held.as_slice() else { panic!("{held:?}") };
        assert_eq!((&key.unusable, key.fingerprint.as_str()), (&None, host.key(name).fingerprint.as_str()));
        let host_name = path.split('/').next().unwrap();
        assert_eq!(key.user_ids, [format!("Image Maker <{name}@{host_name}>")]);
        let entry = &policy["spec"]["registries"][i];
        assert_eq!(entry["registry"], path);
        assert_eq!(entry["gpgKeyRef"], format!("k8s://registry-system/sigstore-key-{name}"));
        assert_eq!((&entry["signCheck"], &entry["lookaside"]), (&true.into(), &"http://localhost:81/sigstore/".into()));
    }
    let listed = host.run(&["list"]).succeeded().stdout;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert_eq!(host.secret_keys(), 3);
}

fn without_a_name_there_is_one_maker_for_the_local_registry() {
    let host = Host::new();
    host.create(&["--force"]).succeeded();
    let listed = host.list();
    assert_eq!((&listed[0]["name"], &listed[0]["path"]), (&"imagemaker".into(), &"registry.local".into()));
    assert_eq!(listed[0]["email"], "imagemaker@registry.local");
}

/// What gpg thinks a key is for: the letters of its primary key and of its subkeys.
fn usage(host: &Host, key: &GpgKey) -> Vec<String> {
    let listed = host.gpg.gpg(None, &["--with-colons", "--list-keys", &key.fingerprint], b"").succeeded().stdout;
    let lines = listed.lines().filter(|line| line.starts_with("pub:") || line.starts_with("sub:"));
    let field = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let letters: String = fields[11].chars().filter(char::is_ascii_lowercase).collect();
        format!("{} {} {letters}", fields[3], fields[2])
    };
    lines.map(field).collect()
}

fn every_kind_of_key_signs_what_verifies() {
    let host = Host::new();
    // Algorithm numbers of OpenPGP: 1 RSA, 16 Elgamal, 17 DSA, 22 EdDSA.
    for (kind, bits, wanted) in [
        ("rsa", "2048", &["1 2048 sc", "1 2048 e"][..]),
        ("rsa-sign", "3072", &["1 3072 sc"]),
        ("dsa", "2048", &["17 2048 sc", "16 2048 e"]),
        ("dsa-sign", "2048", &["17 2048 sc"]),
        ("ed25519", "", &["22 255 sc"]),
    ] {
        let name = format!("{kind}@localhost/{kind}");
        let mut flags = vec!["create", &name];
        flags.extend(PLAIN);
        flags[3] = kind;
        if !bits.is_empty() {
            flags.extend(["--bits", bits]);
        }
        host.run(&flags).succeeded();
        let key = host.key(kind);
        assert_eq!(usage(&host, &key), wanted, "{kind}");
        let blob = host.gpg.sign(&key, b"content");
        let signed = verify(&host.key_file(kind), &blob, SystemTime::now()).unwrap();
        assert_eq!(
            (signed.content.as_slice(), signed.signer.fingerprint),
            (&b"content"[..], key.fingerprint),
            "{kind}"
        );
        verify(&host.key_file("rsa"), &host.gpg.sign(&host.key(kind), b"x"), SystemTime::now())
            .map_or_else(|_| assert_ne!(kind, "rsa"), |_| assert_eq!(kind, "rsa"));
    }
}

fn a_key_ends_when_it_was_said_to() {
    let host = Host::new();
    for (name, expires, days) in [("d", "30d", 30), ("w", "4w", 28), ("m", "6m", 180), ("y", "2y", 730)] {
        let maker = format!("{name}@localhost/{name}");
        let mut flags = vec!["create", &maker];
        flags.extend(PLAIN);
        flags[5] = expires;
        host.run(&flags).succeeded();
        let (made, file) = (SystemTime::now(), host.key_file(name));
        let blob = host.gpg.sign(&host.key(name), b"content");
        let day = Duration::from_secs(24 * 3600);
        verify(&file, &blob, made + day * days - Duration::from_secs(60)).unwrap();
        let why = verify(&file, &blob, made + day * days + Duration::from_secs(60)).unwrap_err().to_string();
        assert!(why.contains(" expired on "), "{why}");
    }
    let mut flags = vec!["create", "ever@localhost/ever"];
    flags.extend(PLAIN);
    flags[5] = "0";
    host.run(&flags).succeeded();
    assert_eq!(keys(&host.key_file("ever"), SystemTime::now())[0].expires, None);
}

fn an_existing_key_is_taken_by_fingerprint_or_address_and_not_made_anew() {
    let host = Host::new();
    let one = host.gpg.generate(&KeySpec::new("One Maker <one@localhost>"));
    let two = host.gpg.generate(&KeySpec { algorithm: "rsa2048", ..KeySpec::new("Two Maker <two@localhost>") });
    let take = |name: &str, key: &str| {
        let store = "--lookaside=http://localhost:81/";
        host.run(&["create", name, "--key-type", "existing", "--key", key, store])
    };
    take("one@localhost/one", &one.fingerprint.to_lowercase()).succeeded();
    take("two@localhost/two", "two@localhost").succeeded();
    assert_eq!((host.key("one"), host.key("two")), (one.clone(), two));
    assert_eq!(host.secret_keys(), 2);
    let again = take("three@localhost/three", &one.fingerprint).failed();
    assert!(again.stderr.contains("is the maker one's: each has a key of its own"), "{again}");

    // Keys whose signatures nobody would take.
    let old = KeySpec { expires: "30d", at: Some("20240101T000000"), ..KeySpec::new("old@localhost") };
    let weak = KeySpec { algorithm: "rsa1024", ..KeySpec::new("weak@localhost") };
    for (spec, said) in [(old, " expired on "), (weak, "RSA1024 is too weak")] {
        let key = host.gpg.generate(&spec);
        let ran = take("three@localhost/three", &key.fingerprint).failed();
        assert!(ran.stderr.contains("podseal takes no signature by it") && ran.stderr.contains(said), "{ran}");
        assert!(!host.key_file("three").exists());
    }
    let unknown = take("three@localhost/three", "nobody@localhost").failed();
    assert!(unknown.stderr.contains("there is no secret key"), "{unknown}");
    // The keys that were there before are there still.
    assert_eq!(host.secret_keys(), 4);
}

fn a_key_with_a_passphrase_signs_with_it_alone() {
    let host = Host::new();
    let (right, wrong) = (Host::passphrase("correct horse"), Host::passphrase("battery staple"));
    let flags =
        ["--key-type", "ed25519", "--expires", "1y", "--full-name", "Image Maker", "--lookaside=http://localhost/"];
    host.run(&[&["create", "a@localhost", "--passphrase-file", &right], &flags[..]].concat()).succeeded();
    let key = host.key("a");
    host.forget();
    let sign = |file: &str| {
        let mut command = host.gpg.command("gpg");
        command.args([
            "--batch",
            "--pinentry-mode",
            "loopback",
            "--passphrase-file",
            file,
            "--local-user",
            &key.fingerprint,
        ]);
        crate::support::tools::run_with(command.arg("--sign"), b"content")
    };
    sign(&wrong).failed();
    verify(&host.key_file("a"), &sign(&right).succeeded().bytes, SystemTime::now()).unwrap();
    // Nothing of it is in what podseal wrote.
    for file in ["imagemakers.json", "keys/a.pgp"] {
        assert!(!std::fs::read_to_string(host.dir.join(file)).unwrap().contains("horse"));
    }
}

/// A folder for the front of `PATH` whose gpg fails when its arguments and a count say so.
fn faulty_gpg(condition: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = crate::support::scratch::folder("faulty");
    let real = crate::support::tools::file("gpg");
    let (count, gpg) = (folder.join("count"), folder.join("gpg"));
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *{condition}*) echo x >> {count}; [ $(wc -l < {count}) -lt 2 ] || {{ echo 'gpg: broken' >&2; exit 2; }};; \
         esac\nexec {gpg} \"$@\"\n",
        count = count.display(),
        gpg = real.display()
    );
    std::fs::write(&gpg, text).unwrap();
    std::fs::set_permissions(&gpg, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

fn what_fails_midway_leaves_nothing_half_made() {
    // The second key is not made; it is made and cannot be published.
    for condition in ["--generate-key", "--export"] {
        let host = Host::new();
        let path = faulty_gpg(condition);
        let names = ["create", "one@localhost/one", "two@localhost/two", "three@localhost/three"];
        let ran = host.run_with(&[&names[..], &PLAIN].concat(), &[("PATH", &path)]).failed();
        assert!(ran.stderr.contains("broken\nmade: one; when that is put right: "), "{ran}");
        assert!(ran.stderr.contains("podseal imagemaker create two@localhost/two three@localhost/three"), "{ran}");
        // What was made can be used: its entry is printed.
        assert!(ran.stdout.contains("localhost/one") && !ran.stdout.contains("localhost/two"), "{ran}");
        let made: Vec<_> = std::fs::read_dir(host.dir.join("keys")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!((made, host.secret_keys(), host.list().len()), (vec!["one.pgp".into()], 1, 1), "{condition}");
        let revocations = std::fs::read_dir(host.gpg.home().join("openpgp-revocs.d")).unwrap().count();
        assert_eq!(revocations, 1, "{condition}");
        // And it goes on as it says.
        host.create(&["two@localhost/two", "three@localhost/three"]).succeeded();
        assert_eq!(host.list().len(), 3);
    }
}

fn of_two_at_once_one_gets_the_path() {
    let host = Host::new();
    let ran: Vec<_> = std::thread::scope(|scope| {
        let names = ["a@localhost/x", "b@localhost/x", "c@localhost/x"];
        let all: Vec<_> = names.into_iter().map(|name| scope.spawn(|| host.create(&[name]))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.ok());
    assert_eq!((won.len(), lost.len()), (1, 2));
    assert!(lost.iter().all(|ran| ran.stderr.contains("localhost/x belongs to the image maker")), "{lost:?}");
    assert_eq!((host.list().len(), host.secret_keys()), (1, 1));
}
