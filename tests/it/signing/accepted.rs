//! Simple signatures: who takes them, and who does not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::world::World;
use crate::support::podseal::BINARY;
use crate::support::process::{Process, eventually};
use crate::support::registry::Registry;
use crate::support::scratch;
use crate::support::signer::{Gpg, KeySpec};

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store];
    keys_of_every_kind_sign_what_everybody_accepts,
    a_key_file_with_a_passphrase_signs_and_a_wrong_one_does_not,
    a_key_file_that_others_may_read_is_refused,
    a_damaged_registry_of_makers_stops_those_alone_who_need_it,
    a_signal_leaves_no_temporary_home,
    a_signature_is_for_one_digest_name_and_key,
    the_payload_is_that_of_skopeo,
    signing_twice_adds_nothing_unless_it_is_wanted,
    a_signature_that_gpg_lets_end_is_said_to_end,
    signers_of_the_same_moment_lose_no_signature,
    an_index_is_signed_alone_or_with_its_manifests,
    what_cannot_be_signed_is_said_and_leaves_nothing,
}

fn keys_of_every_kind_sign_what_everybody_accepts() {
    let world = World::new();
    for algorithm in ["ed25519", "rsa3072", "nistp256", "dsa2048"] {
        let image = world.registry.push(&format!("alt/{algorithm}:1"));
        let user_id = format!("Maker <{algorithm}@registry.local>");
        let key = world.gpg.generate(&KeySpec { algorithm, ..KeySpec::new(&user_id) });
        let mail = format!("{algorithm}@registry.local");
        let signed = world.sign(&image.tagged(), &mail, &[]).succeeded();
        assert!(signed.stdout.contains(&format!(
            "signed {} ({}) by {}",
            image.tagged(),
            image.digest,
            key.fingerprint
        )));
        world.assert_accepted(&image, &image.tagged(), &key);
        // From a file, too, where only gpg does arithmetic with secret numbers of RSA and DSA.
        let file = world.gpg.secret_file(&key);
        // gpg's signatures of the same second are the same bytes, and the same bytes are one signature.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let by_file = world.sign(&image.tagged(), file.to_str().unwrap(), &["--again"]).succeeded();
        assert_eq!(world.signatures(&image).len(), 2, "{algorithm}: {signed} {by_file}");
        world.assert_accepted(&image, &image.tagged(), &key);
        let other = world.gpg.generate(&KeySpec::new("Other <other@registry.local>"));
        let others = world.gpg.export_file(&[&other]);
        world.skopeo().accepts(&world.registry, &image.tagged(), &others, None).failed();
        world.check(&image.tagged(), &others).failed();
        World::sq(&world.store.file(&image, 1), &others).failed();
    }
}

fn a_key_file_with_a_passphrase_signs_and_a_wrong_one_does_not() {
    let world = World::new();
    let image = world.registry.push("alt/a:1");
    let passphrase = |text: &str| {
        let file = scratch::folder("passphrase").join("file");
        std::fs::write(&file, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (passphrase("open sesame"), passphrase("shut sesame"));
    for algorithm in ["ed25519", "rsa3072"] {
        let maker = Gpg::new();
        let spec = KeySpec { algorithm, ..KeySpec::new("Maker <m@registry.local>") };
        // The last passphrase counts.
        let args = [
            "--passphrase",
            "open sesame",
            "--status-fd",
            "1",
            "--quick-generate-key",
            spec.user_id,
            algorithm,
            "sign",
        ];
        let made = maker.gpg(None, &args, b"").succeeded().stdout;
        let fingerprint = made.split("KEY_CREATED P ").nth(1).unwrap()[..40].to_owned();
        let secret =
            maker.gpg(None, &["--passphrase", "open sesame", "--export-secret-keys", &fingerprint], b"").succeeded();
        let file = scratch::folder("secret").join("key.pgp");
        std::fs::write(&file, secret.bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = file.to_str().unwrap();
        for (more, said) in [(&["--passphrase-file", &wrong][..], ""), (&[], "--passphrase-file")] {
            let ran = world.sign(&image.tagged(), file, more).failed();
            assert!(ran.stderr.contains(said) && !ran.stderr.contains("sesame"), "{ran}");
            assert!(world.signatures(&image).is_empty(), "{ran}");
        }
        world.sign(&image.tagged(), file, &["--passphrase-file", &right]).succeeded();
        let in_home = maker.gpg(None, &["--passphrase", "open sesame", "--export", &fingerprint], b"").succeeded();
        let public = scratch::folder("public").join("key.pgp");
        std::fs::write(&public, in_home.bytes).unwrap();
        world.check(&image.tagged(), &public).succeeded();
        world.skopeo().accepts(&world.registry, &image.tagged(), &public, None).succeeded();
        std::fs::remove_dir_all(world.store.file(&image, 1).parent().unwrap()).unwrap();
    }
    let left = std::fs::read_dir(std::env::temp_dir())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let homes: Vec<_> = left.filter(|name| name.len() == 24 && name.starts_with("podseal-")).collect();
    assert!(homes.is_empty(), "temporary homes are left: {homes:?}");
}

fn a_key_file_that_others_may_read_is_refused() {
    let world = World::new();
    let (key, image) = (world.gpg.generate(&KeySpec::new("Maker <m@registry.local>")), world.registry.push("alt/a:1"));
    let file = world.gpg.secret_file(&key);
    let of_mode = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        world.sign(&image.tagged(), file.to_str().unwrap(), &[])
    };
    for mode in [0o640, 0o604, 0o644] {
        let ran = of_mode(mode);
        assert_eq!(ran.code, Some(64), "{ran}");
        let path = file.display();
        let said = format!("the key file {path}: others may read it (mode {mode:04o}): chmod 600 {path}");
        assert!(ran.stderr.contains(&said), "{ran}");
        assert!(world.signatures(&image).is_empty());
    }
    of_mode(0o400).succeeded();
    world.assert_accepted(&image, &image.tagged(), &key);
}

fn a_damaged_registry_of_makers_stops_those_alone_who_need_it() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let file = world.gpg.secret_file(&key);
    let dir = scratch::folder("host");
    std::fs::write(dir.join("imagemakers.json"), "{\"version\": 1, \"makers\": [").unwrap();
    let sign = |image: &str, key: &str| world.sign(image, key, &["--dir", dir.to_str().unwrap()]);
    let image = world.registry.push("alt/mail:1");
    let by_mail = sign(&image.tagged(), "m@registry.local");
    assert_eq!(by_mail.code, Some(64), "{by_mail}");
    assert!(by_mail.stderr.contains("--dir: ") && by_mail.stderr.contains("imagemakers.json"), "{by_mail}");
    assert!(world.signatures(&image).is_empty());
    let id = &key.fingerprint[24..];
    for (name, by) in [("file", file.to_str().unwrap()), ("fingerprint", &key.fingerprint), ("id", id)] {
        let image = world.registry.push(&format!("alt/{name}:1"));
        let ran = sign(&image.tagged(), by).succeeded();
        assert!(ran.stderr.contains("whether the key is retiring or revoked is not looked at"), "{ran}");
        world.assert_accepted(&image, &image.tagged(), &key);
    }
}

fn a_signal_leaves_no_temporary_home() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec { algorithm: "rsa3072", ..KeySpec::new("Maker <m@registry.local>") });
    let file = world.gpg.secret_file(&key);
    // A registry that takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/a:1", silent.local_addr().unwrap());
    for signal in ["INT", "TERM", "HUP", "QUIT", "KILL"] {
        let temporary = scratch::folder("tmp");
        let mut command = std::process::Command::new(BINARY);
        command.args(["sign", &image, "--insecure", "--staging"]).arg(world.store.folder()).arg("--sign-by").arg(&file);
        command.env("XDG_RUNTIME_DIR", &temporary).env("HOME", scratch::folder("home"));
        let running = Process::spawn("sign", &mut command);
        // The key is in its home before the registry is asked.
        eventually("the temporary home", || {
            let homes = std::fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path());
            homes.into_iter().any(|home| home.join("private-keys-v1.d").exists())
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        running.signal(signal);
        let ended = running.ended_within(std::time::Duration::from_secs(20)).expect("an end");
        if signal == "KILL" {
            // The next command sweeps, whatever becomes of it.
            let runtime = temporary.to_str().unwrap();
            let args = ["sign", &image, "--sign-by", "/no/such/key", "--extension"];
            world.podseal_with(&args, &[("XDG_RUNTIME_DIR", runtime)]).failed();
        } else {
            assert!(ended.code().is_some_and(|code| code > 128), "{signal}: {ended:?}\n{}", running.log());
        }
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{signal}: {}", running.log());
    }
}

fn a_signature_is_for_one_digest_name_and_key() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let public = world.gpg.export_file(&[&key]);
    let (image, other) = (world.registry.push("alt/a:1"), world.registry.push("alt/b:1"));
    world.sign(&image.tagged(), &key.fingerprint, &[]).succeeded();
    world.check(&other.tagged(), &public).failed();
    // The same digest under another tag: the name in the signature is another one.
    let renamed = world.registry.copy(&image, "alt/a:2");
    world.skopeo().accepts(&world.registry, &renamed.tagged(), &public, None).failed();
    world.check(&renamed.tagged(), &public).failed();
    // A tag that moves on takes no signature along.
    world.registry.copy(&other, "alt/a:1");
    world.check(&image.tagged(), &public).failed();
    world.skopeo().accepts(&world.registry, &image.tagged(), &public, None).failed();
    // Another name, as it is wanted.
    let named = format!("{}/k8s/app:7", world.registry.host);
    world.sign(&other.tagged(), &key.fingerprint, &["--identity", &named]).succeeded();
    let identity = json!({"type": "exactReference", "dockerReference": named});
    let rule = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": public, "signedIdentity": identity}]);
    world.check_by(&other.tagged(), &rule).succeeded();
    world.skopeo().accepts(&world.registry, &other.tagged(), &public, Some(identity)).succeeded();
    // By digest the tag beside it is free text, and not vouched for.
    let both = format!("{}@{}", other.tagged(), other.digest);
    let signed = world.sign(&both, &key.fingerprint, &[]).succeeded();
    assert!(signed.stdout.contains(&format!("signed {} (", other.pinned())), "{signed}");
    world.check(&other.pinned(), &public).succeeded();
}

fn the_payload_is_that_of_skopeo() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let image = world.registry.push("alt/a:1");
    world.sign(&image.tagged(), &key.fingerprint, &[]).succeeded();
    world.skopeo().sign(&world.registry, &image, &key).succeeded();
    let payloads: Vec<_> =
        world.signatures(&image).iter().map(|blob| world.gpg.gpg(None, &["--decrypt"], blob).stdout).collect();
    let [own, theirs] = payloads.as_slice() else { panic!("{payloads:?}") };
    // Up to the creator, and then of the same form.
    let start = |text: &str| text.split(r#""creator":""#).next().unwrap().to_owned();
    assert_eq!(start(own), start(theirs));
    let digits =
        |text: &str| text.rsplit(r#"","timestamp":"#).next().unwrap().trim_end_matches("}}").parse::<u64>().is_ok();
    assert!(digits(own) && digits(theirs), "{own}\n{theirs}");
}

fn signing_twice_adds_nothing_unless_it_is_wanted() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let image = world.registry.push("alt/a:1");
    world.sign(&image.tagged(), "m@registry.local", &[]).succeeded();
    let before = world.signatures(&image);
    let again = world.sign(&image.tagged(), "m@registry.local", &[]).succeeded();
    assert!(again.stderr.contains(&format!("was signed by {} before", key.fingerprint)), "{again}");
    assert_eq!(world.signatures(&image), before);
    // Of the same second it would be the same, byte for byte.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    world.sign(&image.tagged(), "m@registry.local", &["--again"]).succeeded();
    let after = world.signatures(&image);
    assert_eq!((after.len(), &after[..1]), (2, &before[..]), "the first one is as it was");
    // Somebody else's signature, or a bad one, does not stand for one's own.
    let other = world.gpg.generate(&KeySpec::new("Other <o@registry.local>"));
    world.store.put(&image, 3, b"no signature at all");
    world.sign(&image.tagged(), &other.fingerprint, &[]).succeeded();
    assert_eq!(world.signatures(&image).len(), 4);
    world.check(&image.tagged(), &world.gpg.export_file(&[&other])).succeeded();
}

fn a_signature_that_gpg_lets_end_is_said_to_end() {
    let world = World::new();
    world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let image = world.registry.push("alt/a:1");
    let sign = |more: &[&str]| world.sign(&image.tagged(), "m@registry.local", more).succeeded();
    let conf = world.gpg.home().join("gpg.conf");
    let before = std::fs::read_to_string(&conf).unwrap_or_default();
    std::fs::write(&conf, format!("{before}\ndefault-sig-expire 1d\n")).unwrap();
    for _ in 0..2 {
        let ran = sign(&[]);
        assert!(ran.stderr.contains("this signature ends on 20") && ran.stderr.contains("Z, and verifies"), "{ran}");
        let place = format!("default-sig-expire in {}", conf.display());
        assert!(ran.stderr.contains(&place), "{ran}");
    }
    // One without an end beside it, and nothing needs to be said.
    std::fs::write(&conf, before).unwrap();
    for more in [&["--again"][..], &[]] {
        let ran = sign(more);
        assert!(!ran.stderr.contains("ends on"), "{ran}");
    }
    assert_eq!(world.signatures(&image).len(), 2);
}

fn signers_of_the_same_moment_lose_no_signature() {
    let world = World::new();
    let image = world.registry.push("alt/a:1");
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let file = world.gpg.secret_file(&key);
    let signed: Vec<_> = std::thread::scope(|scope| {
        let sign = || world.sign(&image.tagged(), file.to_str().unwrap(), &["--again"]).succeeded();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(sign)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Each says where it put its own; of the same second some may be the same bytes, but none is another's.
    assert!(signed.iter().all(|ran| ran.stdout.is_empty() == ran.stderr.contains("the very same signature by")));
    let places: BTreeSet<_> = signed
        .iter()
        .filter(|ran| !ran.stdout.is_empty())
        .map(|ran| ran.stdout.rsplit(" in ").next().unwrap().trim().to_owned())
        .collect();
    let blobs = world.signatures(&image);
    assert_eq!(blobs.len(), places.len(), "{places:?}");
    for blob in &blobs {
        let ran = world.gpg.gpg(None, &["--decrypt"], blob).succeeded();
        assert!(ran.stdout.contains(&image.digest), "{ran}");
    }
}

fn an_index_is_signed_alone_or_with_its_manifests() {
    let world = World::of(Registry::start());
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let public = world.gpg.export_file(&[&key]);
    let children = [world.registry.push("alt/i:amd64"), world.registry.push("alt/i:arm64")];
    let index = world.registry.push_index("alt/i:1", &[&children[0], &children[1]]);
    let alone = world.sign(&index.tagged(), &key.fingerprint, &[]).succeeded();
    assert!(alone.stderr.contains("--all-platforms signs every manifest"), "{alone}");
    assert_eq!(world.signatures(&index).len(), 1);
    assert!(children.iter().all(|child| world.signatures(child).is_empty()));
    world.skopeo().accepts_with(&world.registry, &index.tagged(), &public, None, &["--all"]).failed();
    world.sign(&index.tagged(), &key.fingerprint, &["--all-platforms"]).succeeded();
    assert_eq!(world.signatures(&index).len(), 1);
    assert!(children.iter().all(|child| world.signatures(child).len() == 1));
    world.skopeo().accepts_with(&world.registry, &index.tagged(), &public, None, &["--all"]).succeeded();
    world.check(&index.tagged(), &public).succeeded();
}

fn what_cannot_be_signed_is_said_and_leaves_nothing() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>")).fingerprint;
    let image = world.registry.push("alt/a:1");
    let name = image.tagged();
    let missing = format!("{}/alt/none:1", world.registry.host);
    let cases: [(&str, &str, &[&str], i32, &str); 8] = [
        (&missing, &key, &[], 1, "there is no such image in the registry"),
        ("127.0.0.1:1/alt/a:1", &key, &[], 2, "cannot be reached"),
        ("127.0.0.1:1/alt/A:1", &key, &[], 64, "the repository path is malformed"),
        (&name, "nobody@registry.local", &[], 64, "there is no secret key"),
        (&name, "/no/such/key", &[], 64, "the key file /no/such/key: No such file"),
        (&name, &key, &["--staging", "/no/such/folder"], 64, "/no/such/folder"),
        (&name, &key, &["--identity", "app"], 64, "docker.io/library/app:latest may be meant"),
        (&name, &key, &["--upload", "ftp://x"], 64, "expected an http or https URL"),
    ];
    for (image, key, more, code, said) in cases {
        let ran = world.sign(image, key, more);
        assert_eq!(ran.code, Some(code), "{ran}");
        assert!(ran.stderr.contains(said) && !ran.stderr.contains("panicked"), "{said}: {ran}");
    }
    // Of several images each is reported, and the good one is signed.
    let args = ["sign", &missing, &name, "--sign-by", &key, "--insecure", "--registries-d"];
    let both = world.podseal(&[&args[..], &[world.registries_d.to_str().unwrap()]].concat());
    assert_eq!(both.code, Some(1), "{both}");
    assert!(both.stdout.contains(&format!("signed {name}")) && both.stderr.contains(&missing), "{both}");
    assert_eq!(world.signatures(&image).len(), 1);
    // Nowhere to put it.
    let empty = scratch::folder("registries.d");
    let args = ["sign", &name, "--sign-by", &key, "--insecure", "--registries-d", empty.to_str().unwrap()];
    let nowhere = world.podseal(&args);
    assert_eq!(nowhere.code, Some(1), "{nowhere}");
    assert!(nowhere.stderr.contains("nothing says where signatures of"), "{nowhere}");
    let neither = world.podseal(&["sign", &name]);
    assert_eq!(neither.code, Some(64), "{neither}");
}
