use std::os::unix::fs::PermissionsExt;

use super::*;

fn maker(name: &str, path: &str) -> Maker {
    Maker {
        name: name.to_owned(),
        path: path.to_owned(),
        email: format!("{name}@registry.local"),
        full_name: "Image Maker".to_owned(),
        note: String::new(),
        key_file: format!("{name}.pgp"),
        gnupg_home: None,
        lookaside: None,
        insecure: false,
        keys: vec![MakerKey::active(&fingerprint(path), SystemTime::UNIX_EPOCH)],
    }
}

/// One of its own for each path that the tests have as an only one, or as a second.
fn fingerprint(path: &str) -> String {
    if path.ends_with("k8s-c10f1") { "C".repeat(40) } else { "A".repeat(40) }
}

fn host() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    lay_out(&folder.path().join("sig")).unwrap();
    folder
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_maker_is_recorded_with_its_key_file_and_found_again() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    makers.add(maker("immkk8s", "registry.local/k8s-c10f1"), b"key").unwrap();
    let again = Makers::read(&directory).unwrap();
    assert_eq!(again.list(), [maker("imklocal", "registry.local"), maker("immkk8s", "registry.local/k8s-c10f1")]);
    assert_eq!(std::fs::read(directory.join("keys/immkk8s.pgp")).unwrap(), b"key");
    for (path, wanted) in
        [("", 0o755), ("keys", 0o775), ("sigstore", 0o775), ("keys/immkk8s.pgp", 0o644), ("imagemakers.json", 0o644)]
    {
        assert_eq!(mode(&directory.join(path)), wanted, "{path}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.join("keys")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn names_paths_and_files_that_are_taken_are_refused_with_who_has_them() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    std::fs::write(directory.join("keys/other.pgp"), "somebody's").unwrap();
    for (name, path, said) in [
        ("imklocal", "registry.local/x", "there is an image maker imklocal already, for registry.local"),
        ("new", "registry.local", "registry.local belongs to the image maker imklocal already"),
        ("other", "registry.local/x", "other.pgp is there already, and no image maker's"),
    ] {
        let refused = makers.refuse(name, path).unwrap();
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(makers.refuse("new", "registry.local/x"), None);
    let error = makers.add(maker("other", "registry.local/x"), b"key").unwrap_err();
    assert!(error.contains("left alone"), "{error}");
    assert_eq!(std::fs::read(directory.join("keys/other.pgp")).unwrap(), b"somebody's");
    assert!(makers.get("nobody").unwrap_err().contains("there are imklocal"));
}

#[test]
fn what_cannot_be_recorded_is_not_published() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    // A folder in the registry's place cannot be replaced by a file.
    std::fs::create_dir(directory.join("imagemakers.json")).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap_err();
    assert!(!directory.join("keys/imklocal.pgp").exists());
}

#[test]
fn a_key_file_with_foreign_keys_or_behind_a_link_is_left_alone() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    let path = directory.join("keys/imklocal.pgp");
    let (foreign, _) =
        sequoia_openpgp::cert::CertBuilder::general_purpose(Some("other@registry.local")).generate().unwrap();
    let bytes = sequoia_openpgp::serialize::SerializeInto::to_vec(&foreign).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let error = makers.update(maker("imklocal", "registry.local"), b"new").unwrap_err();
    assert!(error.contains(&foreign.fingerprint().to_hex()) && error.contains("left alone"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // Damaged, as in "echo aaa": there is nothing in it to lose.
    std::fs::write(&path, "aaa\n").unwrap();
    makers.update(maker("imklocal", "registry.local"), b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    std::fs::rename(&path, directory.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &path).unwrap();
    assert!(makers.update(maker("imklocal", "registry.local"), b"newer").unwrap_err().contains("not a regular file"));
}

#[test]
fn a_damaged_registry_is_an_error_and_never_none() {
    let host = host();
    let directory = host.path().join("sig");
    for text in [
        "",
        "{",
        "[]",
        "{\"version\":1}",
        "{\"version\":2,\"makers\":[]}",
        "{\"version\":1,\"makers\":[{}]}",
        "{\"version\":1,\"makers\":[{\"name\":\"a\",\"path\":\"b\",\"email\":\"c\",\"keyFile\":\"d\",\"keys\":[],\"x\":1}]}",
    ] {
        std::fs::write(directory.join("imagemakers.json"), text).unwrap();
        let error = Makers::read(&directory).unwrap_err();
        assert!(error.contains("imagemakers.json: "), "{text}: {error}");
    }
    std::fs::remove_file(directory.join("imagemakers.json")).unwrap();
    assert!(Makers::read(&directory).unwrap().list().is_empty());
}

#[test]
fn directories_that_are_there_keep_their_modes() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("sig");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    lay_out(&directory).unwrap();
    assert_eq!((mode(&directory), mode(&directory.join("keys"))), (0o700, 0o775));
}

#[test]
fn a_new_key_that_cannot_be_published_is_not_recorded_either() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    std::fs::remove_dir_all(directory.join("keys")).unwrap();
    let mut changed = maker("imklocal", "registry.local");
    changed.keys.push(MakerKey::active(&"B".repeat(40), SystemTime::UNIX_EPOCH));
    makers.update(changed.clone(), b"new").unwrap_err();
    assert_eq!(Makers::read(&directory).unwrap().list(), [maker("imklocal", "registry.local")]);
    assert_eq!(makers.list(), [maker("imklocal", "registry.local")]);
    std::fs::create_dir(directory.join("keys")).unwrap();
    makers.update(changed.clone(), b"new").unwrap();
    assert_eq!(Makers::read(&directory).unwrap().list(), [changed]);
}

#[test]
fn a_registry_changed_by_hand_is_refused_with_the_field() {
    let host = host();
    let directory = host.path().join("sig");
    let file = directory.join("imagemakers.json");
    let mut makers = Makers::open(&directory).unwrap();
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to, said) in [
        ("\"imklocal.pgp\"", "\"../../x\"", "maker 1, keyFile: "),
        ("\"imklocal.pgp\"", "\"other.pgp\"", "maker 1, keyFile: "),
        ("\"imklocal.pgp\"", "\"imklocal.pub\"", "maker 1, keyFile: "),
        ("\"name\": \"imklocal\"", "\"name\": \"../x\"", "maker 1, name: "),
        ("\"registry.local\"", "\"Registry.local/*\"", "maker 1, path: "),
        ("\"registry.local\"", "\"*\"", "maker 1, path: "),
        ("\"Image Maker\"", "\"\\u001b[31mred\"", "maker 1, fullName: "),
        ("imklocal@registry.local", "a@b\\u0007", "maker 1, email: "),
        ("1970-01-01T00:00:00Z", "\\u001b]0;x", "maker 1, keys.created: "),
        ("AAAAA\"", "aaaaa\"", "maker 1, keys.fingerprint: "),
        ("\"fullName\"", "\"\\u001bName\"", "unknown field"),
        ("\"keys\"", "\"gnupgHome\": \"x\", \"keys\"", "maker 1, gnupgHome: "),
        ("\"keys\"", "\"lookaside\": \"file:///x\", \"keys\"", "maker 1, lookaside: "),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let error = Makers::read(&directory).unwrap_err();
        assert!(error.contains("imagemakers.json: ") && error.contains(said), "{to}: {error}");
        assert!(error.ends_with("; put that right in it, or restore the file"), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    // Two for one path, or with one key.
    let twice = |other: Maker| record::text(&[maker("imklocal", "registry.local"), other], &[]).unwrap();
    for (other, said) in [
        (maker("other", "registry.local"), "maker 2, path: registry.local is there twice"),
        (maker("imklocal", "registry.local/x"), "maker 2, name: imklocal is there twice"),
        (maker("other", "registry.local/x"), "maker 2, keys.fingerprint: AAAA"),
        (
            Maker { email: "Imklocal@registry.local".to_owned(), ..maker("other", "registry.local/k8s-c10f1") },
            "maker 2, email: imklocal@registry.local is there twice",
        ),
    ] {
        std::fs::write(&file, twice(other)).unwrap();
        let error = Makers::read(&directory).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    std::fs::write(&file, text).unwrap();
    assert_eq!(Makers::read(&directory).unwrap().list().len(), 1);
}

#[test]
fn a_maker_that_is_begun_is_recorded_until_it_is_there_or_given_up() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    let begun = |makers: &Makers| makers.begun().iter().map(|maker| maker.name.clone()).collect::<Vec<_>>();
    for name in ["imklocal", "imklocal", "other"] {
        makers.begin(maker(name, "registry.local")).unwrap();
    }
    let read = Makers::read(&directory).unwrap();
    assert_eq!((begun(&read), read.list().len()), (vec!["imklocal".to_owned(), "other".to_owned()], 0));
    assert!(read.begun().iter().all(|maker| maker.keys.is_empty()));
    makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
    makers.give_up("other").unwrap();
    let read = Makers::read(&directory).unwrap();
    assert_eq!((begun(&read), read.list().len()), (vec![], 1));
    let file = directory.join("imagemakers.json");
    makers.begin(maker("other", "registry.local/x")).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"other.pgp\"", "\"../other.pgp\"")).unwrap();
    let error = Makers::read(&directory).unwrap_err();
    assert!(error.contains("begun, keyFile: "), "{error}");
}

#[test]
fn a_maker_is_removed_with_its_key_file_or_without() {
    let host = host();
    let directory = host.path().join("sig");
    let mut makers = Makers::open(&directory).unwrap();
    for keep in [false, true] {
        makers.add(maker("imklocal", "registry.local"), b"key").unwrap();
        makers.remove("imklocal", keep).unwrap();
        assert_eq!(directory.join("keys/imklocal.pgp").exists(), keep);
        assert!(Makers::read(&directory).unwrap().list().is_empty());
    }
}
