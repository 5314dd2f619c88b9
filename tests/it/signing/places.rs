//! Where signatures go besides the staging folder that registries.d names.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::world::World;
use crate::support::front::{Front, SignatureStore, USER};
use crate::support::registry::{Image, Registry, docker_config};
use crate::support::signer::{GpgKey, KeySpec};
use crate::support::tools::{self, Ran};
use crate::support::{scratch, store};

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store];
    a_staging_folder_can_be_named,
    what_only_can_be_read_is_not_written_to,
    podseals_store_takes_signatures_over_http,
    uploads_of_the_same_moment_lose_no_signature,
    makers_of_one_group_share_the_staging_folder_and_others_are_told_what_is_missing,
    a_registry_that_announces_it_keeps_signatures_of_podseal_and_of_skopeo,
}

fn maker(world: &World) -> GpgKey {
    world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"))
}

fn a_staging_folder_can_be_named() {
    let world = World::new();
    let key = maker(&world);
    let image = world.registry.push("alt/a/b:1");
    let folder = world.store.folder().to_str().unwrap().to_owned();
    let args = ["sign", &image.tagged(), "--sign-by", "m@registry.local", "--insecure", "--staging", &folder];
    world.podseal(&args).succeeded();
    world.assert_accepted(&image, &image.tagged(), &key);
}

fn what_only_can_be_read_is_not_written_to() {
    let world = World::new();
    maker(&world);
    let image = world.registry.push("alt/a:1");
    let file = world.registries_d.join("default.yaml");
    let text = format!("default-docker: {{lookaside: '{}'}}\n", world.store.url);
    std::fs::write(&file, text).unwrap();
    let ran = world.sign(&image.tagged(), "m@registry.local", &[]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("nothing can be written to http://"), "{ran}");
    // nginx serves files, and takes none.
    let ran = world.sign(&image.tagged(), "m@registry.local", &["--upload", &world.store.url]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("takes no signatures over HTTP (405)"), "{ran}");
    assert!(world.signatures(&image).is_empty());
    // The path of a store is easily forgotten, and not every registry keeps signatures.
    let signatures = SignatureStore::start();
    let login = authfile(&signatures.host, USER.0, USER.1);
    let root = signatures.url().replace("/sigstore", "");
    let ran =
        world.sign(&image.tagged(), "m@registry.local", &["--upload", &root, "--authfile", login.to_str().unwrap()]);
    assert!(ran.code == Some(1) && ran.stderr.contains("(404): look at the path of the URL"), "{ran}");
    let ran = world.sign(&image.tagged(), "m@registry.local", &["--extension"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("has no API for signatures (404)"), "{ran}");
}

/// Credentials for a host in a file.
fn authfile(host: &str, user: &str, password: &str) -> PathBuf {
    docker_config(&[(host, user, password)]).join("config.json")
}

fn upload(world: &World, store: &SignatureStore, image: &Image, more: &[&str]) -> Ran {
    world.sign(&image.tagged(), "m@registry.local", &[&["--upload", &store.url()], more].concat())
}

fn podseals_store_takes_signatures_over_http() {
    let world = World::new();
    let key = maker(&world);
    let image = world.registry.push("alt/a:1");
    let signatures = SignatureStore::start();
    let anonymous = upload(&world, &signatures, &image, &[]);
    assert_eq!(anonymous.code, Some(1), "{anonymous}");
    assert!(anonymous.stderr.contains("writing is refused to the anonymous"), "{anonymous}");
    let wrong = authfile(&signatures.host, USER.0, "battery staple");
    let refused = upload(&world, &signatures, &image, &["--authfile", wrong.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("the store does not know the token or password"), "{refused}");
    assert!(!refused.stderr.contains("staple"), "{refused}");
    let right = authfile(&signatures.host, USER.0, USER.1);
    let right = right.to_str().unwrap();
    upload(&world, &signatures, &image, &["--authfile", right]).succeeded();
    let again = upload(&world, &signatures, &image, &["--authfile", right]).succeeded();
    assert!(again.stderr.contains("before, and nothing is added"), "{again}");
    // What was taken is served, and everybody accepts it.
    let skopeo = crate::support::signer::Skopeo {
        gpg: &world.gpg,
        registries_d: store::registries_d(&[(&world.registry.host, &signatures.url())]),
    };
    let public = world.gpg.export_file(&[&key]);
    skopeo.accepts(&world.registry, &image.tagged(), &public, None).succeeded();
    let token = scratch::folder("token").join("token");
    std::fs::write(&token, "not-a-token\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Another second, another signature: the same bytes would be there already.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let by_token = upload(&world, &signatures, &image, &["--again", "--token-file", token.to_str().unwrap()]);
    assert_eq!(by_token.code, Some(1), "{by_token}");
    assert!(!by_token.stderr.contains("not-a-token"), "{by_token}");
    // Credentials are told nobody in the clear, unless that is wanted.
    let args = ["sign", &image.tagged(), "--sign-by", "m@registry.local", "--again", "--upload", &signatures.url()];
    let tls = Registry::tls();
    let there = tls.push("alt/a:1").tagged();
    let ca = tls.authority.as_ref().unwrap().file();
    let args =
        [&args[..1], &[there.as_str()], &args[2..], &["--authfile", right, "--ca", ca.to_str().unwrap()]].concat();
    let in_the_clear = world.podseal(&args);
    assert_eq!(in_the_clear.code, Some(1), "{in_the_clear}");
    assert!(in_the_clear.stderr.contains("credentials are not sent over plain HTTP"), "{in_the_clear}");
}

fn uploads_of_the_same_moment_lose_no_signature() {
    let world = World::new();
    let image = world.registry.push("alt/a:1");
    let signatures = SignatureStore::start();
    let login = authfile(&signatures.host, USER.0, USER.1);
    let keys: Vec<_> =
        (0..6).map(|i| world.gpg.generate(&KeySpec::new(&format!("M{i} <m{i}@registry.local>")))).collect();
    let args = ["--upload", &signatures.url(), "--authfile", login.to_str().unwrap()];
    std::thread::scope(|scope| {
        for key in &keys {
            let sign = || world.sign(&image.tagged(), &key.fingerprint, &args).succeeded();
            scope.spawn(sign);
        }
    });
    let folder = signatures.folder.join(format!("sigstore/{}@sha256={}", image.repository, image.hex()));
    let blobs: Vec<_> = (1..).map_while(|n| std::fs::read(folder.join(format!("signature-{n}"))).ok()).collect();
    assert_eq!(blobs.len(), keys.len(), "{}", folder.display());
    for blob in blobs {
        world.gpg.gpg(None, &["--decrypt"], &blob).succeeded();
    }
}

/// `podseal sign` into this folder as a user of this number, who is in the group.
fn sign_as(user: u32, group: u32, home: &Path, image: &Image, staging: &Path) -> Ran {
    let key = home.join(format!("key-{user}"));
    if !key.exists() {
        std::fs::write(&key, crate::store::world::Maker::new(&format!("m{user}@registry.local")).secret()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&key, Some(user), Some(user)).unwrap();
    }
    let mut command = tools::command("setpriv");
    let [user, group] = [user, group].map(|number| number.to_string());
    command.args(["--reuid", &user, "--regid", &user, "--groups", &group]).arg(home.join("podseal"));
    command.args(["sign", &image.tagged(), "--insecure", "--sign-by"]).arg(key).arg("--staging").arg(staging);
    tools::run(command.env("HOME", home).env("XDG_RUNTIME_DIR", ""))
}

fn makers_of_one_group_share_the_staging_folder_and_others_are_told_what_is_missing() {
    const GROUP: u32 = 63_000;
    const ONE: u32 = 63_001;
    const OTHER: u32 = 63_002;
    const STRANGER: u32 = 63_003;
    // The folder of the run is closed to other users.
    let home = tempfile::tempdir().unwrap();
    let staging = home.path().join("sigstore");
    std::fs::create_dir(&staging).unwrap();
    let allow = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if chown(&staging, None, Some(GROUP)).is_err() {
        // Nobody but root can be several users.
        return;
    }
    allow(home.path(), 0o755);
    allow(&staging, 0o2775);
    std::fs::copy(crate::support::podseal::BINARY, home.path().join("podseal")).unwrap();
    let registry = Registry::debian();
    let [web, db, app] = ["k8s/web:1", "k8s/db:1", "k8s/app:1"].map(|name| registry.push(name));
    let sign = |user, group, image| sign_as(user, group, home.path(), image, &staging);
    sign(ONE, GROUP, &web).succeeded();
    sign(OTHER, GROUP, &web).succeeded();
    sign(OTHER, GROUP, &db).succeeded();
    sign(ONE, GROUP, &db).succeeded();
    let folder = |image: &Image| staging.join(format!("{}@sha256={}", image.repository, image.hex()));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for image in [&web, &db] {
        assert_eq!((mode(&folder(image)), mode(&staging.join("k8s"))), (0o2775, 0o2775));
        for number in [1, 2] {
            assert_eq!(mode(&folder(image).join(format!("signature-{number}"))), 0o644);
        }
    }
    // As skopeo makes it, or as it was made before: the message names who has it, and the way out.
    allow(&staging.join("k8s"), 0o2755);
    let refused = sign(OTHER, GROUP, &app);
    let wanted =
        format!("{} (owner {ONE}, group {GROUP}, mode 2755), and this user may not", staging.join("k8s").display());
    assert!(refused.code == Some(1) && refused.stderr.contains(&wanted), "{refused}");
    assert!(refused.stderr.contains(&format!("find {} -type d -exec chmod 2775", staging.display())), "{refused}");
    allow(&staging.join("k8s"), 0o2775);
    sign(OTHER, GROUP, &app).succeeded();
    let refused = sign(STRANGER, STRANGER, &app);
    let wanted = format!("{} (owner {OTHER}, group {GROUP}, mode 2775)", folder(&app).display());
    assert!(refused.code == Some(1) && refused.stderr.contains(&wanted), "{refused}");
}

/// skopeo with credentials for the front; it finds out by itself that signatures go there.
fn skopeo(world: &World, login: &Path, policy: &Path, args: &[&str]) -> Ran {
    let empty = scratch::folder("registries.d");
    let mut command = world.gpg.command("skopeo");
    command.arg("--registries.d").arg(empty).arg("--policy").arg(policy).args(["copy", "-q", "--authfile"]);
    tools::run(command.arg(login.join("config.json")).arg("--src-tls-verify=false").args(args))
}

fn policy(front: &Front, public: &Path) -> PathBuf {
    let rule = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": public}]);
    let text = json!({"default": [{"type": "reject"}], "transports": {"docker": {(&front.host): rule}}});
    let file = scratch::folder("policy").join("policy.json");
    std::fs::write(&file, text.to_string()).unwrap();
    file
}

fn a_registry_that_announces_it_keeps_signatures_of_podseal_and_of_skopeo() {
    let world = World::new();
    let (key, other) = (maker(&world), world.gpg.generate(&KeySpec::new("Other <o@registry.local>")));
    let signatures = SignatureStore::start();
    let front = Front::before(&world.registry, &signatures);
    let login = front.login(USER.0, USER.1);
    let authfile = login.join("config.json");
    let anyone = scratch::folder("policy").join("policy.json");
    std::fs::write(&anyone, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let [by_podseal, by_skopeo] = ["alt/podseal:1", "alt/skopeo:1"].map(|name| {
        let image = Image { host: front.host.clone(), ..world.registry.push(name) };
        (image.tagged(), image)
    });
    // Without --extension: nothing else is configured, and the registry announces it.
    let empty = scratch::folder("registries.d");
    let sign = |more: &[&str]| {
        let args = ["sign", &by_podseal.0, "--sign-by", "m@registry.local", "--insecure", "--registries-d"];
        world.podseal(&[&args[..], &[empty.to_str().unwrap()], more].concat())
    };
    let anonymous = sign(&[]);
    assert_ne!(anonymous.code, Some(0), "{anonymous}");
    let signed = sign(&["--authfile", authfile.to_str().unwrap()]).succeeded();
    assert!(signed.stdout.contains(&format!("in the registry {}", front.host)), "{signed}");
    let again = sign(&["--authfile", authfile.to_str().unwrap(), "--extension"]).succeeded();
    assert!(again.stderr.contains("before, and nothing is added"), "{again}");
    let name = format!("docker://{}", by_skopeo.0);
    let args = ["--dest-tls-verify=false", "--sign-by", &key.fingerprint, &name, &name];
    skopeo(&world, &login, &anyone, &args).succeeded();
    // Both are taken by both, and nobody else's.
    for (name, _) in [&by_podseal, &by_skopeo] {
        for (key, accepted) in [(&key, true), (&other, false)] {
            let policy = policy(&front, &world.gpg.export_file(&[key]));
            let to = format!("dir:{}", scratch::folder("out").display());
            let from = format!("docker://{name}");
            let ran = skopeo(&world, &login, &policy, &["--remove-signatures", &from, &to]);
            assert_eq!(ran.ok(), accepted, "{ran}");
            let args = ["check", "--image", name, "--containers-policy", policy.to_str().unwrap()];
            let more = ["--insecure-registry", &front.host, "--docker-config", authfile.to_str().unwrap()];
            let ran = world.podseal(&[args, [more[0], more[1], more[2], more[3], "-ojson"]].concat());
            assert_eq!(ran.code, Some(i32::from(!accepted)), "{ran}");
        }
    }
}
