//! Every signature with its verdict, and how the command ends.

use std::process::Command;

use super::world::{Keeping, MAKER, World, json};
use crate::support::podseal::BINARY;
use crate::support::registry::{Auth, Image, Options, Registry, docker_config};
use crate::support::scratch;
use crate::support::signer::{GpgKey, KeySpec, Payload};
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Registry, Store, Gpg];
    a_signature_by_the_key_under_the_name_is_verified,
    every_signature_is_shown_with_its_own_reason,
    the_keyring_of_a_gnupg_home_counts_when_no_file_is_given,
    without_a_key_nothing_is_found_out,
    a_name_must_be_equal_as_a_whole,
    a_store_that_does_not_answer_is_no_empty_store,
    a_folder_that_is_not_there_is_no_empty_store,
    a_login_that_is_there_is_used,
    the_digest_alone_and_another_registry_are_enough,
    a_registry_that_keeps_signatures_itself_is_asked_where_no_store_is_configured,
    expired_and_revoked_keys_verify_nothing,
    usage_of_verify_is_checked,
}

fn keys(world: &World) -> [&str; 2] {
    ["--public-key", world.maker_file.to_str().unwrap()]
}

fn reasons(ran: &Ran) -> Vec<String> {
    let found = json(ran);
    let rows = found["signatures"].as_array().unwrap().clone();
    rows.iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect()
}

/// A blob in the store, made by hand.
fn put(world: &World, image: &Image, number: usize, content: &[u8]) {
    world.store.put(image, number, content);
}

fn a_signature_by_the_key_under_the_name_is_verified() {
    let world = World::shared();
    let image = world.signed("verified");
    let ran = world.verify(&image.tagged(), &image.tagged(), &[&keys(world)[..], &["-o", "json"]].concat()).succeeded();
    let found = json(&ran);
    assert_eq!((&found["verified"], &found["image"]), (&true.into(), &image.digest.as_str().into()), "{ran}");
    let row = &found["signatures"][0];
    assert_eq!(row["fingerprint"], world.maker.fingerprint.as_str());
    assert_eq!(row["userIDs"][0], format!("Maker <{MAKER}>"));
    assert_eq!(row["identity"], image.tagged());
    assert!(row["created"].as_str().unwrap().ends_with('Z') && row["place"].as_str().unwrap().contains("signature-1"));
    let table = world.verify(&image.pinned(), &image.tagged(), &keys(world)).succeeded();
    assert!(table.stdout.contains(&world.maker.fingerprint) && table.stdout.contains("is verified as"), "{table}");
    // The other maker's key verifies nothing.
    let other = ["--public-key", world.other_file.to_str().unwrap(), "-o", "json"];
    let ran = world.verify(&image.tagged(), &image.tagged(), &other);
    assert_eq!((ran.code, reasons(&ran)), (Some(1), vec!["UntrustedKey".to_owned()]), "{ran}");
    // And an image without a signature is not verified, whatever the key.
    let bare = world.image("bare");
    let ran = world.verify(&bare.tagged(), &bare.tagged(), &keys(world));
    assert!(ran.code == Some(1) && ran.stdout.contains("has no GPG signature"), "{ran}");
}

fn every_signature_is_shown_with_its_own_reason() {
    let world = World::shared();
    let image = world.image("mixed");
    let sign = |payload: &Payload| world.gpg.sign(&world.maker, &payload.bytes());
    let good = sign(&Payload::new(&image.digest, &image.tagged()));
    put(world, &image, 1, b"<html>");
    put(world, &image, 2, &world.gpg.sign(&world.other, &Payload::new(&image.digest, &image.tagged()).bytes()));
    put(world, &image, 3, &sign(&Payload::new(&image.digest, "registry.local/another:1")));
    put(world, &image, 4, &sign(&Payload::new(&format!("sha256:{}", "0".repeat(64)), &image.tagged())));
    put(world, &image, 5, &world.gpg.sign(&world.maker, b"no payload"));
    let expected =
        ["MalformedSignature", "UntrustedKey", "IdentityMismatch", "DigestMismatch", "MalformedSignature", "Verified"];
    let all = [&keys(world)[..], &["-o", "json"]].concat();
    let ran = world.verify(&image.pinned(), &image.tagged(), &all);
    assert_eq!((ran.code, reasons(&ran)), (Some(1), expected[..5].iter().map(ToString::to_string).collect()), "{ran}");
    put(world, &image, 6, &good);
    let ran = world.verify(&image.pinned(), &image.tagged(), &all).succeeded();
    assert_eq!(reasons(&ran), expected);
    // Whom the second claims to be by is shown, and as a claim: there is no fingerprint that was proved.
    let row = &json(&ran)["signatures"][1];
    assert!(row["issuers"].to_string().contains(&world.other.fingerprint) && row.get("fingerprint").is_none(), "{row}");
}

fn the_keyring_of_a_gnupg_home_counts_when_no_file_is_given() {
    let world = World::shared();
    let image = world.signed("home");
    let verify = |home: &std::path::Path| world.verify_in(Some(home), &image.pinned(), &image.tagged(), &[]);
    verify(world.gpg.home()).succeeded();
    let stranger = crate::support::signer::Gpg::new();
    stranger.generate(&KeySpec::new("Stranger <s@x.io>"));
    assert_eq!(verify(stranger.home()).code, Some(1));
    let empty = crate::support::signer::Gpg::new();
    let ran = verify(empty.home());
    assert!(ran.code == Some(2) && ran.stderr.contains("no public keys imported from the keyring of"), "{ran}");
    let nowhere = empty.home().join("nowhere");
    let ran = verify(&nowhere);
    assert!(ran.code == Some(64) && ran.stderr.contains("give --public-key FILE"), "{ran}");
    assert!(!nowhere.exists(), "nothing is made");
    // Without gpg the new format cannot be read, and the old one can.
    let old = scratch::folder("old-home");
    std::fs::write(old.join("pubring.gpg"), world.gpg.export(&[&world.maker])).unwrap();
    let without_gpg = |home: &std::path::Path| {
        let mut command = Command::new(BINARY);
        command.args(["verify", &image.pinned(), "--expected-identity", &image.tagged(), "--insecure"]);
        command.args(["--lookaside", &world.store.url]).env("GNUPGHOME", home).env("PATH", "/nonexistent");
        tools::run(&mut command)
    };
    without_gpg(&old).succeeded();
    let ran = without_gpg(world.gpg.home());
    assert!(ran.code == Some(64) && ran.stderr.contains("gpg is not installed"), "{ran}");
}

fn without_a_key_nothing_is_found_out() {
    let world = World::shared();
    let image = world.signed("keyless");
    let file = scratch::folder("keys").join("group1.pgp");
    let verify = || world.verify(&image.pinned(), &image.tagged(), &["--public-key", file.to_str().unwrap()]);
    let ran = verify();
    assert!(ran.code == Some(64) && ran.stderr.contains("No such file"), "{ran}");
    std::fs::write(&file, b"corrupt").unwrap();
    let ran = verify();
    assert!(ran.code == Some(2) && ran.stderr.contains("no public keys imported from"), "{ran}");
    std::fs::write(&file, world.gpg.export_armored(&[&world.maker])).unwrap();
    verify().succeeded();
}

fn a_name_must_be_equal_as_a_whole() {
    let world = World::shared();
    let image = world.signed("named");
    let code = |expected: &str| world.verify(&image.pinned(), expected, &keys(world)).code;
    let repository = format!("{}/{}", image.host, image.repository);
    assert_eq!(code(&image.tagged()), Some(0));
    assert_eq!(code(&format!("{repository}:2")), Some(1));
    assert_eq!(code(&format!("{repository}@{}", image.digest)), Some(1), "the signature names a tag");
    assert_eq!(code(&repository), Some(64), "a name alone says nothing about a version");
    // A name with a digest can only be of that image.
    let zeros = format!("{repository}@sha256:{}", "0".repeat(64));
    let ran = world.verify(&image.pinned(), &zeros, &keys(world));
    assert!(ran.code == Some(64) && ran.stderr.contains("no signature can be for both"), "{ran}");
    let by_digest = world.image("by-digest");
    let payload = Payload::new(&by_digest.digest, &by_digest.pinned());
    put(world, &by_digest, 1, &world.gpg.sign(&world.maker, &payload.bytes()));
    world.verify(&by_digest.pinned(), &by_digest.pinned(), &keys(world)).succeeded();
}

fn a_store_that_does_not_answer_is_no_empty_store() {
    let world = World::shared();
    let image = world.signed("unreachable");
    let identity = image.tagged();
    let base = ["verify", &image.pinned(), "--expected-identity", &identity, "--insecure", "--timeout", "20s"];
    let away = |more: &[&str]| {
        let args = [&base[..], &keys(world)[..], more].concat();
        crate::support::podseal::podseal_with(&args, &[("HOME", "/nonexistent")], b"")
    };
    let ran = away(&["--lookaside", "http://127.0.0.1:1/sigstore/"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("127.0.0.1:1"), "{ran}");
    // Neither a store nor a registry that keeps signatures: nothing is known.
    let empty = scratch::folder("registries.d");
    let ran = away(&["--registries-d", empty.to_str().unwrap()]);
    assert!(ran.code == Some(2) && ran.stderr.contains("no signature store is configured"), "{ran}");
    let stores = crate::support::store::registries_d(&[(&image.host, &world.store.url)]);
    assert_eq!(away(&["--registries-d", stores.to_str().unwrap()]).code, Some(0));
    // A tag that nobody can resolve.
    let ran = world.verify(&format!("{}/records/none:9", image.host), &image.tagged(), &keys(world));
    assert!(ran.code == Some(2) && ran.stderr.contains("does not exist"), "{ran}");
}

fn a_folder_that_is_not_there_is_no_empty_store() {
    let world = World::shared();
    let image = world.signed("folder");
    let verify = |store: &str| {
        let args = ["verify", &image.pinned(), "--expected-identity", &image.tagged(), "--insecure", "--lookaside"];
        let args = [&args[..], &[store], &keys(world)[..]].concat();
        crate::support::podseal::podseal_with(&args, &[("HOME", "/nonexistent")], b"")
    };
    let folder = world.store.folder().display().to_string();
    verify(&format!("file://{folder}")).succeeded();
    let ran = verify(&format!("file://{folder}-typo"));
    let said = format!("--lookaside file://{folder}-typo: there is no folder {folder}-typo");
    assert!(ran.code == Some(2) && ran.stderr.contains(&said), "{ran}");
    // A folder without signatures is an answer.
    let ran = verify(&format!("file://{}", scratch::folder("empty").display()));
    assert!(ran.code == Some(1) && ran.stdout.contains("has no GPG signature"), "{ran}");
}

fn a_login_that_is_there_is_used() {
    let world = World::shared();
    let options = Options { auth: Auth::Basic, users: vec!["auditor:secret:records".to_owned()], ..Options::default() };
    let registry = Registry::with(&options);
    let image = registry.push("records/private:1");
    put(world, &image, 1, &world.gpg.sign(&world.maker, &Payload::new(&image.digest, &image.tagged()).bytes()));
    let verify = |password: &str, more: &[&str]| {
        let folder = docker_config(&[(&registry.host, "auditor", password)]);
        let args = ["verify", &image.tagged(), "--expected-identity", &image.tagged(), "--insecure", "--lookaside"];
        let args = [&args[..], &[&world.store.url], &keys(world)[..], more].concat();
        let env = [("HOME", "/nonexistent"), ("XDG_RUNTIME_DIR", ""), ("DOCKER_CONFIG", folder.to_str().unwrap())];
        crate::support::podseal::podseal_with(&args, &env, b"")
    };
    verify("secret", &[]).succeeded();
    assert_eq!(verify("wrong", &[]).code, Some(2));
    // A file that is named stands alone.
    let nobody = docker_config(&[]).join("config.json");
    assert_eq!(verify("secret", &["--docker-config", nobody.to_str().unwrap()]).code, Some(2));
}

fn the_digest_alone_and_another_registry_are_enough() {
    let world = World::shared();
    let image = world.image("elsewhere");
    let name = format!("registry.local/{}:1", image.repository);
    put(world, &image, 1, &world.gpg.sign(&world.maker, &Payload::new(&image.digest, &name).bytes()));
    world.verify(&image.digest, &name, &keys(world)).succeeded();
    // A tag of a registry that has another address here.
    let there = format!("http://{}", image.host);
    let url = [&keys(world)[..], &["--registry-url", &there]].concat();
    world.verify(&name, &name, &url).succeeded();
    let wrong = [&keys(world)[..], &["--registry-url", "ftp://x"]].concat();
    assert_eq!(world.verify(&name, &name, &wrong).code, Some(64));
}

fn a_registry_that_keeps_signatures_itself_is_asked_where_no_store_is_configured() {
    let world = World::shared();
    let image = world.image("kept-there");
    let name = |host: &str| format!("{host}/{}:1", image.repository);
    let signed = |key: &GpgKey| world.gpg.sign(key, &Payload::new(&image.digest, &name("registry.local")).bytes());
    let registry = Keeping::start(&image, &[signed(&world.other), signed(&world.maker)]);
    let empty = scratch::folder("registries.d");
    let verify = |keys: &std::path::Path| {
        let (image, name) =
            (format!("{}/{}@{}", registry.host, image.repository, image.digest), name("registry.local"));
        let args = ["verify", &image, "--expected-identity", &name, "--insecure", "--registries-d"];
        let more = [empty.to_str().unwrap(), "--public-key", keys.to_str().unwrap(), "-o", "json"];
        crate::support::podseal::podseal_with(&[&args[..], &more].concat(), &[("HOME", "/nonexistent")], b"")
    };
    let ran = verify(&world.maker_file).succeeded();
    assert_eq!(reasons(&ran), ["UntrustedKey", "Verified"]);
    assert!(json(&ran)["signatures"][1]["place"].as_str().unwrap().contains("signature 2 of the registry 127.0.0.1"));
    let stranger = world.gpg.generate(&KeySpec::new("Third <third@x.io>"));
    let ran = verify(&world.gpg.export_file(&[&stranger]));
    assert_eq!((ran.code, reasons(&ran)), (Some(1), vec!["UntrustedKey".to_owned(); 2]), "{ran}");
}

fn expired_and_revoked_keys_verify_nothing() {
    let world = World::shared();
    let gpg = crate::support::signer::Gpg::new();
    let (expired, revoked) = (gpg.generate(&KeySpec::new("E <e@x.io>")), gpg.generate(&KeySpec::new("R <r@x.io>")));
    let image = world.image("expired");
    let payload = Payload::new(&image.digest, &image.tagged()).bytes();
    put(world, &image, 1, &gpg.sign(&expired, &payload));
    put(world, &image, 2, &gpg.sign(&revoked, &payload));
    let verify = || {
        let file = gpg.export_file(&[&expired, &revoked]);
        world.verify(&image.pinned(), &image.tagged(), &["--public-key", file.to_str().unwrap(), "-o", "json"])
    };
    assert_eq!(reasons(&verify().succeeded()), ["Verified", "Verified"]);
    gpg.set_expiry(&expired, "seconds=1", None);
    gpg.revoke(&revoked);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let ran = verify();
    assert_eq!((ran.code, reasons(&ran)), (Some(1), vec!["KeyNotValid".to_owned(); 2]), "{ran}");
}

fn usage_of_verify_is_checked() {
    let podseal = |args: &[&str]| crate::support::podseal::podseal(args);
    for (args, said) in [
        (&["verify", "registry.local/a:1"][..], "--expected-identity <PULL_SPEC>"),
        (&["verify", "A", "--expected-identity", "registry.local/a:1"], "write NAME:TAG"),
        (&["verify", "registry.local/a:1", "--expected-identity", "registry.local/a:1", "--dry-run"], "--save"),
        (
            &["verify", "registry.local/a:1", "--expected-identity", "registry.local/a:1", "--lookaside", "ftp://x"],
            "--lookaside ftp://x: ",
        ),
        (&["verify", "sha256:00", "--expected-identity", "a b"], "--expected-identity a b: "),
    ] {
        let ran = podseal(args);
        assert!(ran.code == Some(64) && ran.stderr.contains(said), "{said}: {ran}");
    }
    let help = podseal(&["verify", "--help"]).succeeded().stdout;
    assert!(help.contains("all records of that image in that repository are removed"), "{help}");
}
