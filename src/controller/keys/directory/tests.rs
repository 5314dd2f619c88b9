use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use super::*;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn stamp(listing: &Listing, file: &str) -> Stamp {
    match listing.files[file].1 {
        Found::File(stamp) => stamp,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn key_files_are_found_and_others_left_alone() {
    let folder = folder(&[("a.pgp", b"a"), ("b.pub", b"b"), ("README.md", b""), (".hidden.pgp", b""), ("C.asc", b"")]);
    let listing = list(folder.path()).unwrap();
    assert_eq!(listing.files.keys().collect::<Vec<_>>(), ["a.pgp", "b.pub"]);
    assert_eq!(listing.refused.keys().collect::<Vec<_>>(), ["C.asc"]);
    assert_eq!(read(&folder.path().join("a.pgp"), stamp(&listing, "a.pgp")).unwrap(), b"a");
}

#[test]
fn nothing_that_is_no_file_blocks_or_is_read() {
    let folder = folder(&[]);
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("directory.pgp")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe.pgp"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket.pgp")).unwrap();
    symlink("/dev/null", path("masked.pgp")).unwrap();
    symlink("nowhere", path("dangling.pgp")).unwrap();
    symlink("circle.pgp", path("circle.pgp")).unwrap();
    let started = Instant::now();
    let listing = list(folder.path()).unwrap();
    let found = |name: &str| listing.files[name].1.clone();
    assert_eq!(found("directory.pgp"), Found::Other("a directory"));
    assert_eq!(found("pipe.pgp"), Found::Other("a pipe"));
    assert_eq!(found("socket.pgp"), Found::Other("a socket"));
    assert_eq!(found("masked.pgp"), Found::Other("a device"));
    assert!(matches!(found("dangling.pgp"), Found::Unreadable(_)));
    assert!(matches!(found("circle.pgp"), Found::Unreadable(_)));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_file_that_became_another_one_is_not_read() {
    let folder = folder(&[("a.pgp", b"old")]);
    let path = folder.path().join("a.pgp");
    let old = stamp(&list(folder.path()).unwrap(), "a.pgp");
    fs::write(&path, b"longer").unwrap();
    assert_eq!(read(&path, old), Err(ReadError::Changed));
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&path, old), Err(ReadError::Changed));
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(read(&path, old), Err(ReadError::Changed), "a pipe in its place does not block");
}

#[test]
fn no_more_than_a_bounded_amount_is_read() {
    let folder = folder(&[("huge.pgp", &vec![b'a'; MAX_FILE + 1_000])]);
    let listing = list(folder.path()).unwrap();
    let bytes = read(&folder.path().join("huge.pgp"), stamp(&listing, "huge.pgp")).unwrap();
    assert_eq!(bytes.len(), MAX_FILE + 1);
}

#[test]
fn more_files_than_are_kept_are_refused_by_name() {
    let folder = folder(&[]);
    for n in 0..MAX_FILES + 3 {
        fs::write(folder.path().join(format!("k{n:04}.pgp")), b"").unwrap();
    }
    let listing = list(folder.path()).unwrap();
    assert_eq!(listing.files.len(), MAX_FILES);
    assert_eq!(listing.refused.keys().collect::<Vec<_>>(), ["k0500.pgp", "k0501.pgp", "k0502.pgp"]);
}

#[test]
fn many_large_files_are_refused_beyond_their_total() {
    let folder = folder(&[]);
    for n in 0..20 {
        let file = File::create(folder.path().join(format!("k{n:02}.pgp"))).unwrap();
        file.set_len(MAX_FILE as u64).unwrap();
    }
    let listing = list(folder.path()).unwrap();
    assert!(!listing.refused.is_empty() && listing.files.len() as u64 * MAX_FILE as u64 <= MAX_TOTAL);
}

#[test]
fn a_directory_with_too_many_entries_or_none_at_all_is_not_known() {
    let folder = folder(&[]);
    for n in 0..=MAX_ENTRIES {
        fs::write(folder.path().join(format!("{n}.txt")), b"").unwrap();
    }
    assert!(list(folder.path()).unwrap_err().contains("entries"));
    assert!(list(&folder.path().join("0.txt")).unwrap_err().contains("not a directory"));
    assert!(list(&folder.path().join("missing")).is_err());
    assert_eq!(identify(&folder.path().join("missing")), None);
}

#[test]
fn another_directory_under_the_same_path_is_another_one() {
    let folder = folder(&[]);
    let path = folder.path().join("keys");
    fs::create_dir(&path).unwrap();
    let old = list(&path).unwrap().identity;
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_ne!(list(&path).unwrap().identity, old);
}

#[test]
fn links_are_followed_as_config_map_volumes_need_it() {
    let folder = folder(&[]);
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("..1")).unwrap();
    fs::create_dir(path("..2")).unwrap();
    fs::write(path("..1/a.pgp"), b"one").unwrap();
    fs::write(path("..2/a.pgp"), b"two").unwrap();
    symlink("..1", path("..data")).unwrap();
    symlink("..data/a.pgp", path("a.pgp")).unwrap();
    let first = list(folder.path()).unwrap();
    assert_eq!(read(&path("a.pgp"), stamp(&first, "a.pgp")).unwrap(), b"one");
    symlink("..2", path("..tmp")).unwrap();
    fs::rename(path("..tmp"), path("..data")).unwrap();
    let second = list(folder.path()).unwrap();
    assert_ne!(stamp(&first, "a.pgp"), stamp(&second, "a.pgp"));
    assert_eq!(read(&path("a.pgp"), stamp(&first, "a.pgp")), Err(ReadError::Changed));
    assert_eq!(read(&path("a.pgp"), stamp(&second, "a.pgp")).unwrap(), b"two");
}

#[test]
fn what_may_not_be_read_says_so() {
    let folder = folder(&[("a.pgp", b"a")]);
    let path = folder.path().join("a.pgp");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let listing = list(folder.path()).unwrap();
    match read(&path, stamp(&listing, "a.pgp")) {
        Err(ReadError::Unreadable(why)) => assert!(why.contains("ermission"), "{why}"),
        // The superuser reads everything.
        Ok(bytes) => assert_eq!(bytes, b"a"),
        Err(error) => panic!("{error:?}"),
    }
}
