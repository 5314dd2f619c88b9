//! `podseal load-sign`: archives as podsec makes them, pushed and signed, also when it is killed in between.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::world::World;
use crate::support::podseal::BINARY;
use crate::support::process::Process;
use crate::support::registry::{Image, Registry};
use crate::support::signer::{GpgKey, KeySpec};
use crate::support::tools::{self, Ran};
use crate::support::{process, scratch};

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store];
    an_archive_of_podsecs_is_pushed_and_signed,
    of_an_index_the_architecture_is_taken,
    what_was_killed_goes_on_and_ends_whole,
    an_archive_that_lies_is_not_signed,
    a_damaged_archive_is_said_to_be_one_and_nothing_of_it_is_pushed,
    what_an_archive_says_steers_no_terminal,
    a_tag_leads_to_what_is_signed,
    images_that_would_get_one_name_get_none_and_the_others_go_on,
}

/// The images that an archive is made of, in a registry of their own.
pub struct Set {
    _source: Registry,
    pub images: Vec<Image>,
    pub folder: PathBuf,
}

/// `skopeo copy` of images into one layout per architecture, as `podsec-save-oci` does.
pub fn set(names: &[&str]) -> Set {
    let source = Registry::start();
    let folder = scratch::folder("set");
    let images: Vec<_> = names.iter().map(|name| source.push(name)).collect();
    for image in &images {
        let to = format!("oci:{}:{}:{}", folder.join("amd64").display(), image.repository, image.tag);
        copy(&image.tagged(), &to);
    }
    Set { _source: source, images, folder }
}

#[track_caller]
fn copy(from: &str, to: &str) {
    let from = format!("docker://{from}");
    tools::run(tools::command("skopeo").args(["copy", "-q", "--insecure-policy", "--src-tls-verify=false", &from, to]))
        .succeeded();
}

/// `tar` of the folder's architectures, packed by this program.
fn packed(folder: &Path, by: &str, name: &str) -> PathBuf {
    let file = folder.join(name);
    let mut tar = Command::new("tar");
    tools::run(tar.arg(by).arg("-cf").arg(&file).arg("-C").arg(folder).arg("amd64")).succeeded();
    file
}

fn load(world: &World, archive: &Path, key: &str) -> Ran {
    load_for(world, archive, key, "amd64")
}

fn load_for(world: &World, archive: &Path, key: &str, arch: &str) -> Ran {
    let target = format!("{}/k8s-c10f1", world.registry.host);
    let registries_d = world.registries_d.to_str().unwrap();
    let args = ["load-sign", archive.to_str().unwrap(), "--arch", arch, "--sign-by", key, &target, "--insecure"];
    world.podseal(&[&args[..], &["--registries-d", registries_d]].concat())
}

/// The image as it is in the target.
fn pushed(world: &World, image: &Image) -> Image {
    world.registry.image_at(&format!("k8s-c10f1/{}:{}", image.repository, image.tag))
}

#[track_caller]
fn assert_all_there(world: &World, set: &Set, key: &GpgKey) {
    for image in &set.images {
        let there = pushed(world, image);
        assert_eq!(there.digest, image.digest, "the very same manifest");
        assert_eq!(world.signatures(&there).len(), 1, "signed once");
        world.assert_accepted(&there, &there.tagged(), key);
    }
}

fn an_archive_of_podsecs_is_pushed_and_signed() {
    let set = set(&["pause:3.9", "k8s-p10/coredns:v1.9.3"]);
    for (by, name) in [("--xz", "set.tar.xz"), ("--gzip", "set.tar.gz"), ("--sparse", "set.tar"), ("", "")] {
        let world = World::new();
        let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
        let archive = if by.is_empty() { set.folder.clone() } else { packed(&set.folder, by, name) };
        let ran = load(&world, &archive, "m@registry.local").succeeded();
        assert_eq!(ran.stdout.matches("pushed ").count(), 2, "{ran}");
        assert_eq!(ran.stdout.matches("signed ").count(), 2, "{ran}");
        assert!(!ran.stderr.contains('\u{1b}'), "no bar without a terminal: {ran}");
        assert_all_there(&world, &set, &key);
        let again = load(&world, &archive, "m@registry.local").succeeded();
        assert!(
            again.stdout.contains(": 0 B sent, ") && again.stderr.contains("before, and nothing is added"),
            "{again}"
        );
        assert_all_there(&world, &set, &key);
        let wrong = load_for(&world, &archive, "m@registry.local", "arm64");
        assert_eq!(wrong.code, Some(64), "{wrong}");
    }
}

fn of_an_index_the_architecture_is_taken() {
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let source = Registry::start();
    let platform = |name: &str, platform: &str| {
        let image = source.push(name);
        source.crane(&["mutate", "--set-platform", platform, "-t", &image.tagged(), &image.tagged()]).succeeded();
        source.image_at(name)
    };
    let children = [platform("app:amd64", "linux/amd64"), platform("app:arm64", "linux/arm64")];
    let index = source.push_index("app:1", &[&children[0], &children[1]]);
    let folder = scratch::folder("layout");
    let to = format!("oci:{}:app:1", folder.display());
    let from = format!("docker://{}", index.tagged());
    let args = ["copy", "-q", "--all", "--insecure-policy", "--src-tls-verify=false", &from, &to];
    tools::run(tools::command("skopeo").args(args)).succeeded();
    load(&world, &folder, &key.fingerprint).succeeded();
    let there = world.registry.image_at("k8s-c10f1/app:1");
    assert_eq!(there.digest, children[0].digest);
    world.assert_accepted(&there, &there.tagged(), &key);
    let none = load_for(&world, &folder, &key.fingerprint, "s390x");
    assert_eq!(none.code, Some(64), "{none}");
    assert!(none.stderr.contains("there are no images for s390x"), "{none}");
}

/// `load-sign` on its own, to be killed.
fn start(world: &World, archive: &Path, key: &Path) -> Process {
    let target = format!("{}/k8s-c10f1", world.registry.host);
    let mut command = Command::new(BINARY);
    command.arg("load-sign").arg(archive).args(["--arch", "amd64", "--insecure", &target, "--sign-by"]).arg(key);
    command.arg("--registries-d").arg(&world.registries_d).env("HOME", scratch::folder("home"));
    Process::spawn("load-sign", &mut command)
}

fn what_was_killed_goes_on_and_ends_whole() {
    let names: Vec<_> = (0..12).map(|i| format!("app{i}:1")).collect();
    let set = set(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let archive = packed(&set.folder, "--xz", "set.tar.xz");
    let world = World::new();
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let file = world.gpg.secret_file(&key);
    let mut cut_short = 0;
    for killed in 0..8_u64 {
        let running = start(&world, &archive, &file);
        // Somewhere in the middle of it, later every time.
        let before = pushed_manifests(&world);
        let _ = process::within(Duration::from_secs(20), || {
            (pushed_manifests(&world) > before || running.ended().is_some()).then_some(())
        });
        std::thread::sleep(Duration::from_millis(3 * killed));
        cut_short += u32::from(running.ended().is_none());
        running.kill();
        assert_nothing_half_signed(&world, &set);
    }
    assert!(cut_short > 2, "killed in the middle of it {cut_short} times");
    load(&world, &archive, file.to_str().unwrap()).succeeded();
    assert_all_there(&world, &set, &key);
    let left = std::fs::read_dir("/var/tmp").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert_eq!(left.filter(|name| name.starts_with(".podseal-")).count(), 0, "nothing unpacked is left");
}

fn pushed_manifests(world: &World) -> usize {
    world
        .registry
        .requests()
        .iter()
        .filter(|r| r.method == "PUT" && r.path.contains("/manifests/") && r.status == 201)
        .count()
}

/// Whatever is signed is whole in the registry: its manifest and every blob of it.
#[track_caller]
fn assert_nothing_half_signed(world: &World, set: &Set) {
    for image in &set.images {
        let there = Image {
            host: world.registry.host.clone(),
            repository: format!("k8s-c10f1/{}", image.repository),
            ..image.clone()
        };
        if world.signatures(&there).is_empty() {
            continue;
        }
        let manifest: Value = serde_json::from_slice(&world.registry.manifest(&there)).unwrap();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let name = format!("{}/{}@{}", there.host, there.repository, blob["digest"].as_str().unwrap());
            world.registry.crane(&["blob", &name]).succeeded();
        }
    }
}

fn an_archive_that_lies_is_not_signed() {
    let set = set(&["pause:3.9"]);
    let blobs = set.folder.join("amd64/blobs/sha256");
    let manifest = blobs.join(set.images[0].hex());
    let text: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let layer = blobs.join(text["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:"));
    for (file, said) in [(&layer, "has another digest"), (&manifest, "not what it should be")] {
        let world = World::new();
        let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
        let good = std::fs::read(file).unwrap();
        let mut bent = good.clone();
        bent[10] ^= 1;
        std::fs::write(file, &bent).unwrap();
        let ran = load(&world, &set.folder, &key.fingerprint).failed();
        assert!(ran.stderr.contains(said), "{said}: {ran}");
        assert_eq!(pushed_manifests(&world), 0, "{ran}");
        assert_eq!(std::fs::read_dir(world.store.folder()).unwrap().count(), 0, "nothing is signed");
        std::fs::remove_file(file).unwrap();
        let missing = load(&world, &set.folder, &key.fingerprint).failed();
        assert_eq!(pushed_manifests(&world), 0, "{missing}");
        std::fs::write(file, good).unwrap();
    }
}

fn a_damaged_archive_is_said_to_be_one_and_nothing_of_it_is_pushed() {
    let (set, world) = (set(&["pause:3.9"]), World::new());
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let files: Vec<_> = [("--xz", "set.tar.xz"), ("--gzip", "set.tar.gz"), ("--sparse", "set.tar")]
        .map(|(by, name)| packed(&set.folder, by, name))
        .into_iter()
        .collect();
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let from = files.iter().find(|file| file.ends_with(name)).unwrap();
        let mut bytes = std::fs::read(from).unwrap();
        change(&mut bytes);
        let file = scratch::folder("damaged").join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    let flipped = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    for (file, said) in [
        (damaged("set.tar.xz", &flipped), "it cannot be unpacked; is it whole?"),
        (damaged("set.tar.xz", &cut), "it cannot be unpacked; is it whole?"),
        (damaged("set.tar.gz", &flipped), "it cannot be unpacked; is it whole?"),
        (damaged("set.tar.gz", &cut), "it cannot be unpacked; is it whole?"),
        (damaged("set.tar", &cut), "it is cut off"),
        (damaged("set.tar", &|bytes| bytes[148] ^= 1), "not a tar archive, or damaged"),
        (damaged("set.tar", &Vec::clear), "not a tar archive with files in it"),
        (damaged("set.tar", &|bytes| bytes.fill(b'x')), "not a tar archive"),
    ] {
        let ran = load(&world, &file, &key.fingerprint);
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stderr.contains(&format!("podseal: {}: ", file.display())), "{ran}");
        assert!(ran.stderr.contains(said), "{said}: {ran}");
        assert!(ran.stdout.is_empty() && !ran.stderr.contains("panicked"), "{ran}");
        assert_eq!(pushed_manifests(&world), 0, "{ran}");
        assert_eq!(std::fs::read_dir(world.store.folder()).unwrap().count(), 0, "nothing is signed");
    }
    // What it was damaged from is fine.
    for file in &files {
        load(&world, file, &key.fingerprint).succeeded();
    }
    assert_all_there(&world, &set, &key);
}

fn what_an_archive_says_steers_no_terminal() {
    let (set, world) = (set(&["pause:3.9"]), World::new());
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let file = set.folder.join("amd64/index.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let steering = "x\u{1b}[2K\nsigned registry.local/other:1\u{202e}";
    for (field, value) in [("org.opencontainers.image.ref.name", "pause:3.9"), ("digest", &set.images[0].digest)] {
        let (name, hostile) = (Value::from(value).to_string(), Value::from(steering).to_string());
        assert!(good.contains(&name), "{field}: {good}");
        std::fs::write(&file, good.replace(&name, &hostile)).unwrap();
        let ran = load(&world, &set.folder, &key.fingerprint);
        assert!(!ran.ok(), "{ran}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(['\u{1b}', '\u{202e}']) && !said.contains("\nsigned"), "{said}");
    }
    assert_eq!(pushed_manifests(&world), 0);
}

fn a_tag_leads_to_what_is_signed() {
    let (set, world) = (set(&["pause:3.9"]), World::new());
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let live = world.registry.push("k8s-c10f1/pause:3.9");
    assert_ne!(live.digest, set.images[0].digest);
    // A store that takes no signatures: it is asked when the image is in the registry already.
    let target = format!("{}/k8s-c10f1", world.registry.host);
    let args = ["load-sign", set.folder.to_str().unwrap(), "--arch", "amd64", "--sign-by", &key.fingerprint, &target];
    let ran = world.podseal(&[&args[..], &["--insecure", "--upload", &world.store.url]].concat());
    assert!(ran.code == Some(1) && ran.stderr.contains("(405)"), "{ran}");
    assert!(ran.stderr.contains("pause:3.9: not tagged, because it is not signed"), "{ran}");
    assert_eq!(pushed(&world, &set.images[0]).digest, live.digest, "{ran}");
    let ran = load(&world, &set.folder, &key.fingerprint).succeeded();
    assert!(ran.stdout.contains(": 0 B sent, "), "{ran}");
    assert!(ran.stderr.contains(&format!("pause:3.9 was {} before", live.digest)), "{ran}");
    assert_all_there(&world, &set, &key);
}

fn images_that_would_get_one_name_get_none_and_the_others_go_on() {
    let (set, world) = (set(&["x/a:1", "y/a:1", "z/a:1", "good:1", "x/good:2"]), World::new());
    let key = world.gpg.generate(&KeySpec::new("Maker <m@registry.local>"));
    let file = set.folder.join("amd64/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    let names = ["a.io/t/a:1", "b.io/t/a:1", "Bad:1", "good:1", "a.io/good:2"];
    for (entry, name) in entries.iter_mut().zip(names) {
        entry["annotations"]["org.opencontainers.image.ref.name"] = name.into();
    }
    // The same image under a name that comes to the same is the same.
    let mut twin = entries[4].clone();
    twin["annotations"]["org.opencontainers.image.ref.name"] = "b.io/good:2".into();
    entries.push(twin);
    std::fs::write(&file, index.to_string()).unwrap();
    let ran = load(&world, &set.folder, &key.fingerprint);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("would get this name (a.io/t/a:1, b.io/t/a:1)"), "{ran}");
    assert!(ran.stderr.contains("the archive names an image \"Bad:1\""), "{ran}");
    assert_eq!(ran.stdout.matches("signed ").count(), 2, "{ran}");
    for (name, image) in [("good:1", &set.images[3]), ("good:2", &set.images[4])] {
        let there = world.registry.image_at(&format!("k8s-c10f1/{name}"));
        assert_eq!(there.digest, image.digest);
        world.assert_accepted(&there, &there.tagged(), &key);
    }
    let paths: Vec<_> = world.registry.requests().into_iter().map(|request| request.path).collect();
    assert!(!paths.iter().any(|path| path.contains("/t/a/")), "{paths:?}");
}
