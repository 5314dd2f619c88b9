use std::io::Write as _;

use serde_json::json;

use super::*;

/// A tar archive, made by hand so that it may be wrong.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: u8, name: &str, content: &[u8]) -> Self {
        self.header(kind, name, content.len() as u64);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name, content)
    }

    fn header(&mut self, kind: u8, name: &str, size: u64) {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000644\0");
        put(124, &format!("{size:011o}\0"));
        put(257, "ustar\x0000");
        put(148, "        ");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A layout with one image of this architecture, under `at`.
fn layout(tar: Tar, at: &str, architecture: &str, name: &str) -> Tar {
    let config = json!({"architecture": architecture, "os": "linux"}).to_string();
    let layer = format!("layer for {architecture}");
    let part = |content: &str| json!({"digest": Digest::sha256(content.as_bytes()).as_str(), "size": content.len()});
    let manifest = json!({"schemaVersion": 2, "config": part(&config), "layers": [part(&layer)]}).to_string();
    let mut entry = part(&manifest);
    entry["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let blob = |tar: Tar, content: &str| {
        tar.file(&format!("{at}blobs/sha256/{}", Digest::sha256(content.as_bytes()).hex()), content.as_bytes())
    };
    let tar = tar.file(&format!("{at}index.json"), index.as_bytes()).file(&format!("{at}oci-layout"), b"{}");
    [config.as_str(), &layer, &manifest].into_iter().fold(tar, blob)
}

fn open(bytes: &[u8]) -> Result<Archive, ArchiveError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("archive");
    std::fs::write(&path, bytes).expect("a file");
    let opened = Archive::open(&path, folder.path(), &|_, _| {});
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing is unpacked under a name");
    opened
}

fn names(bytes: &[u8], arch: &str) -> Result<Vec<String>, String> {
    let archive = open(bytes).map_err(|error| error.to_string())?;
    let (images, _) = images(&archive, &arch.parse().expect("an architecture")).map_err(|error| error.to_string())?;
    for image in &images {
        for blob in &image.blobs {
            let member = image.blob(&archive, blob).expect("a blob").expect("a blob");
            assert!(member.has_digest(&blob.digest).expect("readable"));
        }
    }
    Ok(images.into_iter().map(|image| image.name).collect())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn a_folder_of_the_architectures_name_is_taken() {
    let tar = layout(Tar::default(), "amd64/", "amd64", "pause:3.9");
    let both = layout(tar, "./arm64/", "arm64", "pause:3.9").end();
    for bytes in [both.clone(), gzip(&both)] {
        assert_eq!(names(&bytes, "amd64"), Ok(vec!["pause:3.9".to_owned()]));
        assert_eq!(names(&bytes, "aarch64"), Ok(vec!["pause:3.9".to_owned()]));
        let error = names(&bytes, "ppc64le").expect_err("none");
        assert!(error.contains("no images for ppc64le in it, only for amd64, arm64"), "{error}");
    }
}

#[test]
fn a_layout_at_the_top_is_taken_by_what_its_images_say() {
    let one = layout(Tar::default(), "", "amd64", "pause:3.9").end();
    assert_eq!(names(&one, "amd64"), Ok(vec!["pause:3.9".to_owned()]));
    assert_eq!(names(&one, "arm64"), Ok(Vec::new()), "its configuration says amd64");
    let lying = layout(Tar::default(), "arm64/", "amd64", "pause:3.9").end();
    assert_eq!(names(&lying, "arm64"), Ok(Vec::new()));
}

#[test]
fn a_name_that_stands_for_two_images_is_refused() {
    let two = layout(layout(Tar::default(), "a/", "amd64", "x:1"), "b/", "amd64", "x:1").end();
    assert_eq!(names(&two, "amd64"), Ok(vec!["x:1".to_owned()]), "the same image twice is one");
    let tar = layout(Tar::default(), "a/", "amd64", "x:1");
    let manifest =
        json!({"schemaVersion": 2, "config": {"digest": Digest::sha256(b"{}").as_str(), "size": 2}, "layers": []});
    let manifest = manifest.to_string();
    let digest = Digest::sha256(manifest.as_bytes());
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.as_str(),
        "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "x:1"}});
    let tar = tar
        .file("b/index.json", json!({"manifests": [entry]}).to_string().as_bytes())
        .file("b/oci-layout", b"{}")
        .file(&format!("b/blobs/sha256/{}", Digest::sha256(b"{}").hex()), b"{}")
        .file(&format!("b/blobs/sha256/{}", digest.hex()), manifest.as_bytes());
    assert!(names(&tar.end(), "amd64").expect_err("two").contains("x:1 stands for two images"));
}

#[test]
fn what_climbs_out_of_the_archive_ends_the_reading() {
    for name in ["../evil", "/etc/passwd", "a/../../evil", "a/.."] {
        let bytes = layout(Tar::default(), "", "amd64", "x:1").file(name, b"x").end();
        assert!(names(&bytes, "amd64").expect_err(name).contains("outside itself"), "{name}");
        let long = layout(Tar::default(), "", "amd64", "x:1").entry(b'L', "././@LongLink", name.as_bytes());
        assert!(names(&long.file("short", b"x").end(), "amd64").expect_err(name).contains("outside itself"));
        let record = |key: &str| {
            let body = format!(" {key}={name}\n");
            let length = (body.len()..1000).find(|n| n.to_string().len() + body.len() == *n).expect("a length");
            format!("{length}{body}")
        };
        let pax = layout(Tar::default(), "", "amd64", "x:1").entry(b'x', "pax", record("path").as_bytes());
        assert!(names(&pax.file("short", b"x").end(), "amd64").expect_err(name).contains("outside itself"));
    }
}

#[test]
fn links_lead_nowhere() {
    let digest = Digest::sha256(b"{}");
    let blob = format!("blobs/sha256/{}", digest.hex());
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.as_str(), "size": 2,
        "annotations": {"org.opencontainers.image.ref.name": "x:1"}});
    let tar = |kind| {
        let tar = Tar::default().file("index.json", json!({"manifests": [entry]}).to_string().as_bytes());
        let mut tar = tar.file("oci-layout", b"{}");
        tar.header(kind, &blob, 0);
        tar.end()
    };
    for (kind, why) in [(b'1', "no file before it"), (b'2', "is not in it")] {
        assert!(names(&tar(kind), "amd64").expect_err("a link").contains(why));
    }
    // In a folder, too, and for the index itself.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "{}").expect("a file");
    for name in ["index.json", "oci-layout"] {
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join(name)).expect("a link");
    }
    let archive = Archive::open(folder.path(), folder.path(), &|_, _| {}).expect("a folder");
    let error = images(&archive, &"amd64".parse().expect("an architecture")).expect_err("no layout").to_string();
    assert!(error.contains("a symbolic link, which is not followed"), "{error}");
}

#[test]
fn bombs_do_not_go_off() {
    // 1.1 GiB of zeros in little more than a megabyte.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..1126).for_each(|_| encoder.write_all(&zeros).expect("packed"));
    let error = open(&encoder.finish().expect("packed")).expect_err("a bomb").to_string();
    assert!(error.contains("which no archive of images does"), "{error}");
    let mut endless = Tar::default();
    endless.header(b'0', "x", 1 << 40);
    assert!(open(&endless.end()).expect_err("cut off").to_string().contains("it is cut off"));
    let mut long = Tar::default();
    long = long.entry(b'L', "x", &vec![b'x'; 100_000]);
    assert!(open(&long.end()).expect_err("long").to_string().contains("a name that is too long"));
}

/// An index of `count` times this content.
fn index_of(count: usize, media_type: &str, content: &str) -> String {
    let entry = json!({"mediaType": format!("application/vnd.oci.image.{media_type}.v1+json"), "size": content.len(),
        "digest": Digest::sha256(content.as_bytes()).as_str()});
    let named = |n| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": format!("x:{n}")});
        entry
    };
    json!({"manifests": (0..count).map(named).collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_few_bytes_of_indexes_cannot_ask_for_endless_work_or_memory() {
    let top = |index: &str, contents: &[&str], arch: &str| {
        let tar = Tar::default().file("index.json", index.as_bytes()).file("oci-layout", b"{}");
        let blob = |tar: Tar, content: &&str| {
            tar.file(&format!("blobs/sha256/{}", Digest::sha256(content.as_bytes()).hex()), content.as_bytes())
        };
        names(&contents.iter().fold(tar, blob).end(), arch)
    };
    let config = json!({"architecture": "amd64", "os": "linux"}).to_string();
    let manifest = |padding: usize| {
        let config = json!({"digest": Digest::sha256(config.as_bytes()).as_str(), "size": config.len()});
        json!({"config": config, "layers": [], "padding": "x".repeat(padding)}).to_string()
    };
    let (small, large) = (manifest(0), manifest(4_000_000));
    // Each name would keep the same four megabytes once more.
    assert_eq!(top(&index_of(60, "manifest", &large), &[&large, &config], "amd64").expect("few").len(), 60);
    let error = top(&index_of(70, "manifest", &large), &[&large, &config], "amd64").expect_err("many");
    assert!(error.contains("more than 256 MiB together"), "{error}");
    // An index that is itself one image's.
    let wide = index_of(10_000, "manifest", &large);
    let error = top(&index_of(1, "index", &wide), &[&wide, &large, &config], "amd64").expect_err("several");
    assert!(error.contains("several manifests are for amd64"), "{error}");
    // Indexes of indexes of indexes, all of them for another architecture.
    let leaf = index_of(300, "manifest", &small);
    let middle = index_of(300, "index", &leaf);
    let upper = index_of(300, "index", &middle);
    let error =
        top(&index_of(1, "index", &upper), &[&upper, &middle, &leaf, &small, &config], "arm64").expect_err("deep");
    assert!(error.contains("more than 16384 entries together"), "{error}");
}

#[test]
fn damage_is_said() {
    let good = layout(Tar::default(), "", "amd64", "x:1").end();
    let mut turned = good.clone();
    turned[3] ^= 1;
    let packed = gzip(&good);
    for (bytes, said) in [
        (&b""[..], "not a tar archive"),
        (b"hello", "not a tar archive"),
        (&[0; 2048][..], "not a tar archive"),
        (&turned, "damaged"),
        (&good[..700], "cut off"),
        (&packed[..packed.len() / 2], "cannot be unpacked; is it whole?"),
        (b"\xfd7zXZ\0 and then nothing", "cannot be unpacked; is it whole?"),
        (b"\x28\xb5\x2f\xfd", "zstd -d"),
    ] {
        let error = names(bytes, "amd64").expect_err(said);
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn content_is_what_its_digest_says() {
    let text = layout(Tar::default(), "", "amd64", "x:1").end();
    // One byte of a layer, of the configuration, and of the manifest.
    for what in ["layer for amd64", r#""os":"linux""#, r#""schemaVersion":2,"config""#] {
        let at = text.windows(what.len()).position(|window| window == what.as_bytes());
        let at = at.or_else(|| text.windows(8).position(|window| window == b"\"layers\"")).expect("somewhere");
        let mut bent = text.clone();
        bent[at + 2] ^= 1;
        let archive = open(&bent).expect("an archive");
        match images(&archive, &"amd64".parse().expect("an architecture")) {
            Err(error) => assert!(error.to_string().contains("not what it should be"), "{error}"),
            Ok((found, _)) => {
                let bad = found[0].blobs.iter().filter(|blob| {
                    let member = found[0].blob(&archive, blob).expect("a blob").expect("a blob");
                    !member.has_digest(&blob.digest).expect("readable")
                });
                assert_eq!(bad.count(), 1, "{what}");
            }
        }
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let good = layout(Tar::default(), "amd64/", "amd64", "x:1").end();
    for at in (0..good.len()).step_by(37) {
        let mut bent = good.clone();
        bent[at] = bent[at].wrapping_add(101);
        let _ = names_of_bent(&bent);
        let _ = names_of_bent(&good[..at]);
    }
}

fn names_of_bent(bytes: &[u8]) -> Result<usize, ArchiveError> {
    let archive = open(bytes)?;
    images(&archive, &"amd64".parse().expect("an architecture")).map(|(images, _)| images.len())
}

#[test]
fn names_that_steer_a_terminal_are_escaped_in_messages() {
    let tar = layout(Tar::default(), "", "amd64", "\u{1b}]0;evil\u{7}\n");
    let wrong = String::from_utf8(tar.end()).expect("text").replace("image.manifest.v1+json", "image.manifest.v9+json");
    let error = names(wrong.as_bytes(), "amd64").expect_err("an unknown type");
    assert!(error.starts_with(r"\u001b]0;evil\u0007\u000a: its media type"), "{error}");
}

#[test]
fn a_hard_link_in_a_tar_is_the_file_before_it() {
    let link = |tar: Tar, name: &str, target: &str, size: u64| {
        let mut tar = tar;
        tar.header(b'1', name, size);
        let start = tar.0.len() - 512;
        tar.0[start + 157..start + 157 + target.len()].copy_from_slice(target.as_bytes());
        let sum: u64 = tar.0[start..]
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
            .sum();
        tar.0[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    };
    let whole = layout(Tar::default(), "", "amd64", "pause:3.9");
    let linked = link(link(whole, "copy/oci-layout", "./oci-layout", 0), "copy/again", "copy/oci-layout", 0);
    let archive = open(&linked.end()).expect("an archive");
    let content = |path: &str| archive.small(path, 100).expect("a member").expect("a member");
    assert_eq!((content("copy/oci-layout"), content("copy/again")), (content("oci-layout"), content("oci-layout")));
    for (target, size, why) in
        [("later", 0, "no file before it"), ("a", 0, "no file before"), ("../x", 0, "outside"), ("f", 1, "of its own")]
    {
        let tar = link(Tar::default().file("f", b"x"), "a", target, size).file("later", b"x").end();
        let error = open(&tar).expect_err("a wrong link").to_string();
        assert!(error.contains(why), "{target}: {error}");
    }
}

#[test]
fn a_folder_is_read_beneath_itself_alone() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::fs::create_dir(other.path().join("sha256")).expect("a folder");
    std::fs::write(other.path().join("sha256/f"), "secret").expect("a file");
    std::os::unix::fs::symlink(other.path(), folder.path().join("blobs")).expect("a link");
    std::fs::write(folder.path().join("f"), "x").expect("a file");
    let archive = Archive::open(folder.path(), folder.path(), &|_, _| {}).expect("a folder");
    assert!(archive.member("f").expect("a file").is_some());
    assert!(archive.member("none/f").expect("nothing").is_none());
    let error = archive.member("blobs/sha256/f").expect_err("over a link").to_string();
    assert!(error.contains("a symbolic link, which is not followed"), "{error}");
}
