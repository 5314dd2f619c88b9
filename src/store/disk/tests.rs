use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::files::Lock;
use super::*;

struct Scene {
    folder: tempfile::TempDir,
    dir: SignatureDir,
}

fn scene() -> Scene {
    scene_with(DirLimits::default())
}

fn scene_with(limits: DirLimits) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let dir = SignatureDir::create(&folder.path().join("sigstore"), limits).unwrap();
    Scene { folder, dir }
}

impl Scene {
    fn file(&self, place: &Place, name: &str) -> PathBuf {
        self.folder.path().join("sigstore").join(place.to_string()).join(name)
    }

    fn names_in(&self, place: &Place) -> BTreeSet<String> {
        let entries = fs::read_dir(self.file(place, "")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn place() -> Place {
    Place::new("team/app", &Digest::sha256(b"image")).unwrap()
}

fn name(letter: &str) -> Name {
    letter.repeat(32).parse().unwrap()
}

fn first(content: &[u8]) -> String {
    Digest::sha256(content).hex()[..32].to_owned()
}

#[test]
fn signatures_lie_where_containers_image_looks_for_them() {
    let s = scene();
    let stored = s.dir.append(&place(), b"one", None).unwrap();
    assert_eq!((stored.number, stored.name.as_str(), stored.new), (1, &*first(b"one"), true));
    assert_eq!(s.dir.append(&place(), b"two", None).unwrap().number, 2);
    let hex = Digest::sha256(b"image").hex().to_owned();
    let file = s.folder.path().join(format!("sigstore/team/app@sha256={hex}/signature-2"));
    assert_eq!(fs::read(file).unwrap(), b"two");
    assert_eq!(s.names_in(&place()), ["signature-1", "signature-2"].map(str::to_owned).into());
    assert_eq!(s.dir.read(&place(), 1).unwrap().unwrap().content, b"one");
    assert_eq!(s.dir.read(&place(), 3).unwrap(), None);
}

#[test]
fn the_same_bytes_are_kept_once() {
    let s = scene();
    s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    let again = s.dir.append(&place(), b"one", Some(&name("b"))).unwrap();
    assert_eq!(again, Stored { number: 1, name: name("a"), new: false });
    assert_eq!(s.dir.list(&place()).unwrap().len(), 1);
}

#[test]
fn chosen_names_survive_and_others_follow_from_the_content() {
    let s = scene();
    s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    fs::write(s.file(&place(), "signature-2"), "by skopeo").unwrap();
    let again = SignatureDir::open(s.dir.path(), DirLimits::default()).unwrap();
    let names: Vec<_> = again.list(&place()).unwrap().into_iter().map(|kept| kept.name.to_string()).collect();
    assert_eq!(names, ["a".repeat(32), first(b"by skopeo")]);
}

#[test]
fn a_name_is_given_once_and_other_digests_have_names_of_their_own() {
    let s = scene();
    s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    assert!(matches!(s.dir.append(&place(), b"two", Some(&name("a"))), Err(DiskError::NameTaken(_))));
    let derived: Name = first(b"three").parse().unwrap();
    s.dir.append(&place(), b"two", Some(&derived)).unwrap();
    // What would have that name by its content gets another one.
    let three = s.dir.append(&place(), b"three", None).unwrap();
    assert_ne!(three.name, derived);
    assert_eq!(s.dir.list(&place()).unwrap()[2].name, three.name);
    let other = Place::new("team/app", &Digest::sha256(b"other")).unwrap();
    assert_eq!(s.dir.append(&other, b"two", Some(&name("a"))).unwrap().name, name("a"));
}

#[test]
fn a_signature_that_is_overwritten_loses_its_name() {
    let s = scene();
    s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    fs::write(s.file(&place(), "signature-1"), "other").unwrap();
    assert_eq!(s.dir.list(&place()).unwrap()[0].name.as_str(), first(b"other"));
    assert_eq!(s.dir.append(&place(), b"two", Some(&name("a"))).unwrap().name, name("a"));
}

#[test]
fn a_name_left_without_its_signature_is_free() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    fs::write(s.file(&place(), &name_file(&Digest::sha256(b"lost"))), "a".repeat(32)).unwrap();
    assert_eq!(s.dir.append(&place(), b"two", Some(&name("a"))).unwrap().number, 2);
    assert_eq!(s.dir.append(&place(), b"lost", None).unwrap().name.as_str(), first(b"lost"));
}

#[test]
fn a_gap_is_filled_and_never_made() {
    let s = scene();
    for content in ["one", "two", "three"] {
        s.dir.append(&place(), content.as_bytes(), None).unwrap();
    }
    fs::remove_file(s.file(&place(), "signature-2")).unwrap();
    assert_eq!(s.dir.list(&place()).unwrap().len(), 1);
    assert_eq!(s.dir.append(&place(), b"four", None).unwrap().number, 2);
    assert_eq!(s.dir.append(&place(), b"five", None).unwrap().number, 4);
}

#[test]
fn a_number_that_is_asked_for_must_be_the_next() {
    let s = scene();
    assert!(matches!(s.dir.append_as(&place(), b"one", 2), Err(DiskError::NotNext { next: 1 })));
    assert_eq!(s.dir.append_as(&place(), b"one", 1).unwrap().number, 1);
    assert!(matches!(s.dir.append_as(&place(), b"two", 1), Err(DiskError::NotNext { next: 2 })));
    assert_eq!(s.dir.append_as(&place(), b"one", 7).unwrap(), s.dir.append(&place(), b"one", None).unwrap());
}

#[test]
fn bounds_hold() {
    let s = scene_with(DirLimits { signatures: 2, size: 4 });
    assert!(matches!(s.dir.append(&place(), b"", None), Err(DiskError::Empty)));
    assert!(matches!(s.dir.append(&place(), b"12345", None), Err(DiskError::TooLarge(4))));
    s.dir.append(&place(), b"1", None).unwrap();
    s.dir.append(&place(), b"1234", None).unwrap();
    assert!(matches!(s.dir.append(&place(), b"3", None), Err(DiskError::TooMany(2))));
    assert!(!s.dir.append(&place(), b"1", None).unwrap().new);
    fs::write(s.file(&place(), "signature-1"), "too large").unwrap();
    assert!(matches!(s.dir.read(&place(), 1), Err(DiskError::TooLarge(4))));
    assert_eq!(s.dir.list(&place()).unwrap().len(), 1);
}

#[test]
fn links_are_not_followed_and_pipes_not_waited_for() {
    let s = scene();
    let outside = s.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    s.dir.append(&place(), b"one", None).unwrap();
    symlink(outside.join("secret"), s.file(&place(), "signature-2")).unwrap();
    assert!(s.dir.read(&place(), 2).is_err());
    assert_eq!(s.dir.read_at_once(&place(), 2), None);
    assert_eq!(s.dir.append(&place(), b"two", None).unwrap().number, 3, "the next free number");
    symlink(&outside, s.dir.path().join("linked")).unwrap();
    let linked = Place::new("linked/app", &Digest::sha256(b"image")).unwrap();
    assert!(s.dir.append(&linked, b"two", None).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let pipe = Place::new("pipe", &Digest::sha256(b"image")).unwrap();
    s.dir.append(&pipe, b"one", None).unwrap();
    let at = s.file(&pipe, "signature-2");
    rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(s.dir.read(&pipe, 2).is_err());
}

#[test]
fn places_never_climb() {
    let digest = Digest::sha256(b"image");
    for path in
        ["", ".", "..", "../x", "a/../b", "/a", "a//b", "a/", ".a", "A", "a@b", "a b", "a\0b", "a/.new-1", "a\\b"]
    {
        assert_eq!(Place::new(path, &digest), Err(PlaceError::Path), "{path:?}");
    }
    for path in ["a".repeat(184), "a/".repeat(127) + "bc"] {
        assert_eq!(Place::new(&path, &digest), Err(PlaceError::TooLong), "{path:?}");
    }
    for path in ["a".repeat(183), "a/b/c/d-e_f.g".to_owned()] {
        let place = Place::new(&path, &digest).unwrap();
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    for text in ["a", "a@", "a@sha256", "a@sha256=00", "a@sha256:00", "a@md5=00"] {
        assert_eq!(text.parse::<Place>(), Err(PlaceError::Digest), "{text:?}");
    }
}

#[test]
fn numbers_and_names_have_one_form() {
    assert_eq!(signature_number("signature-1"), Some(1));
    assert_eq!(signature_number("signature-120"), Some(120));
    for bad in [
        "signature-0",
        "signature-01",
        "signature-+1",
        "signature-",
        "signature-1 ",
        "signature-1000000",
        "signature-٣",
    ] {
        assert_eq!(signature_number(bad), None, "{bad:?}");
    }
    for bad in ["", &"a".repeat(31), &"a".repeat(33), &"A".repeat(32), &"/".repeat(32), &"é".repeat(16)] {
        assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad:?}");
    }
}

#[test]
fn writers_at_once_lose_nothing_and_leave_no_gap() {
    let s = scene();
    thread::scope(|scope| {
        for writer in 0..8 {
            // Handles of their own, as other processes would have.
            let dir = SignatureDir::open(s.dir.path(), DirLimits::default()).unwrap();
            scope.spawn(move || {
                for n in 0..8 {
                    dir.append(&place(), format!("{writer} {n}").as_bytes(), None).unwrap();
                    dir.append(&place(), format!("all {n}").as_bytes(), None).unwrap();
                }
            });
        }
    });
    let kept = s.dir.list(&place()).unwrap();
    let contents: BTreeSet<_> = kept.iter().map(|kept| kept.content.clone()).collect();
    assert_eq!((kept.len(), contents.len()), (8 * 8 + 8, 8 * 8 + 8));
}

#[test]
fn a_plain_writer_beside_us_is_never_written_over() {
    let s = scene();
    s.dir.append(&place(), b"start", None).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..40 {
                s.dir.append(&place(), format!("ours {n}").as_bytes(), None).unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..40 {
                let free = (1..).map(|n| s.file(&place(), &signature_name(n)));
                let mut created = free.filter_map(|path| fs::File::create_new(path).ok());
                io::Write::write_all(&mut created.next().unwrap(), format!("theirs {n}").as_bytes()).unwrap();
            }
        });
    });
    let kept = s.dir.list(&place()).unwrap();
    let contents: BTreeSet<_> = kept.into_iter().map(|kept| String::from_utf8(kept.content).unwrap()).collect();
    let wanted = (0..40).flat_map(|n| [format!("ours {n}"), format!("theirs {n}")]).chain(["start".to_owned()]);
    assert_eq!(contents, wanted.collect());
}

#[test]
fn leftovers_of_a_killed_writer_are_removed() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    let left = s.file(&place(), ".new-0123");
    fs::write(&left, "half").unwrap();
    s.dir.append(&place(), b"two", None).unwrap();
    assert!(!left.exists());
    fs::write(&left, "half").unwrap();
    assert_eq!(s.dir.walk_and_sweep(100).unwrap().1, 1);
    assert!(!left.exists());
}

#[test]
fn a_writer_that_keeps_the_lock_is_not_waited_for_for_ever() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    let folder = files::open_root(&s.file(&place(), "")).unwrap();
    let lock = Lock::take(&folder, Duration::ZERO).unwrap();
    let other = files::open_root(&s.file(&place(), "")).unwrap();
    assert!(Lock::take(&other, Duration::from_millis(20)).unwrap().is_none());
    drop(lock);
    assert!(Lock::take(&other, Duration::ZERO).unwrap().is_some());
}

#[test]
fn the_walk_sees_repositories_of_any_depth_and_nothing_else() {
    let s = scene();
    let deep = Place::new("a/b/c/d/e", &Digest::sha256(b"deep")).unwrap();
    let flat = Place::new("flat", &Digest::sha256(b"flat")).unwrap();
    for place in [&deep, &flat, &place()] {
        s.dir.append(place, b"one", None).unwrap();
    }
    s.dir.append(&flat, b"two", None).unwrap();
    fs::create_dir_all(s.dir.path().join(".git/x@sha256=00")).unwrap();
    fs::create_dir_all(s.dir.path().join("empty")).unwrap();
    symlink(s.dir.path(), s.dir.path().join("around")).unwrap();
    let walk = s.dir.walk(1000).unwrap();
    let seen = |place: &Place, signatures| Seen { place: place.clone(), signatures };
    assert_eq!(walk, Walk { seen: vec![seen(&deep, 1), seen(&flat, 2), seen(&place(), 1)], more: false });
    assert!(s.dir.walk(3).unwrap().more);
}

#[test]
fn what_is_in_memory_is_read_without_waiting() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    let slow = s.dir.read(&place(), 1).unwrap();
    // A file system without such reads says so, and the caller asks the other way.
    if let Some(fast) = s.dir.read_at_once(&place(), 1) {
        assert_eq!(fast, slow);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn one_odd_entry_fails_itself_alone() {
    let odd: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/hostname", path).unwrap(),
        |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o644)).unwrap(),
    ];
    for make in odd {
        let s = scene();
        s.dir.append(&place(), b"one", None).unwrap();
        make(&s.file(&place(), "signature-2"));
        fs::create_dir(s.file(&place(), ".new-folder")).unwrap();
        assert_eq!(s.dir.append(&place(), b"three", None).unwrap().number, 3);
        let listing = s.dir.listing(&place()).unwrap();
        let numbers: Vec<_> = listing.kept.iter().map(|kept| kept.number).collect();
        assert_eq!((numbers, listing.left_out), (vec![1, 3], vec![2]));
        assert!(s.dir.read(&place(), 2).is_err(), "and is not said to be missing");
        assert_eq!(s.dir.read(&place(), 3).unwrap().unwrap().content, b"three");
    }
}

#[test]
fn errors_of_one_entry_are_told_from_those_of_all() {
    for (number, own) in [(Errno::ACCESS, true), (Errno::LOOP, true), (Errno::MFILE, false), (Errno::NFILE, false)] {
        assert_eq!(files::is_of_entry(&number.into()), own, "{number}");
    }
}

#[test]
fn everybody_may_read_what_was_stored_whatever_the_umask_is() {
    // The umask is the process's: this test alone runs with another one.
    if !behind("umask 077", "everybody_may_read_what_was_stored_whatever_the_umask_is") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = SignatureDir::create(&folder.path().join("made/sigstore"), DirLimits::default()).unwrap();
    dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    let at = folder.path().join("made/sigstore").join(place().to_string());
    for made in [folder.path().join("made"), dir.path().to_owned(), at.parent().unwrap().to_owned(), at.clone()] {
        assert_eq!(mode(&made), 0o755, "{}", made.display());
    }
    for entry in fs::read_dir(&at).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o644);
    }
}

fn folders_in(s: &Scene) -> Vec<String> {
    let entries = fs::read_dir(s.dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_not_stored_leaves_no_folder() {
    let s = scene();
    let deep = Place::new("a/b/c", &Digest::sha256(b"image")).unwrap();
    assert!(matches!(s.dir.append_as(&deep, b"one", 100), Err(DiskError::NotNext { next: 1 })));
    let no = |_: &[Kept]| Some("no".to_owned());
    let rules = Rules { same: &|_| false, objection: &no };
    assert!(matches!(s.dir.append_unless(&deep, b"one", Choice::default(), &rules), Err(DiskError::Refused(_))));
    assert_eq!(folders_in(&s), Vec::<String>::new());
    // Said only when the folders are there: they are taken back, but for those that were there before.
    s.dir.append(&Place::new("a/x", &Digest::sha256(b"image")).unwrap(), b"one", None).unwrap();
    let asked = std::cell::Cell::new(0);
    let later = |_: &[Kept]| {
        asked.set(asked.get() + 1);
        (asked.get() > 1).then(|| "no".to_owned())
    };
    let rules = Rules { same: &|_| false, objection: &later };
    assert!(s.dir.append_unless(&deep, b"one", Choice::default(), &rules).is_err());
    assert_eq!(asked.get(), 2);
    assert!(!s.dir.path().join("a/b").exists() && s.dir.path().join("a").exists());
    assert_eq!(s.dir.append(&deep, b"one", None).unwrap().number, 1);
}

#[test]
fn folders_taken_back_harm_no_writer_beside() {
    let s = scene();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                let asked = std::cell::Cell::new(0);
                let later = |_: &[Kept]| {
                    asked.set(asked.get() + 1);
                    (asked.get() > 1).then(|| "no".to_owned())
                };
                let rules = Rules { same: &|_| false, objection: &later };
                let _ = s.dir.append_unless(&place(), b"refused", Choice::default(), &rules);
            }
        });
        scope.spawn(|| {
            for n in 0..200 {
                let digest = Digest::sha256(format!("{n}").as_bytes());
                let beside = Place::new("team/app", &digest).unwrap();
                s.dir.append(&beside, b"one", None).unwrap();
                fs::remove_dir_all(s.file(&beside, "")).unwrap();
                let _ = fs::remove_dir(s.dir.path().join("team"));
            }
        });
    });
}

#[test]
fn old_empty_folders_are_swept_and_cost_no_count() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    let age = |path: &Path| fs::File::open(path).unwrap().set_modified(old).unwrap();
    for n in 0..200 {
        let digest = Digest::sha256(format!("{n}").as_bytes());
        let at = s.dir.path().join(format!("a{n}/b/c@sha256={}", digest.hex()));
        fs::create_dir_all(&at).unwrap();
        age(&at);
    }
    let hollow = s.dir.path().join("team/hollow");
    fs::create_dir(&hollow).unwrap();
    age(&hollow);
    let fresh = s.dir.path().join(format!("fresh@sha256={}", Digest::sha256(b"fresh").hex()));
    fs::create_dir(&fresh).unwrap();
    let foreign = s.dir.path().join(".git");
    fs::create_dir(&foreign).unwrap();
    age(&foreign);
    // Far fewer than there are: what was removed makes room for the rest.
    let (walk, _) = s.dir.walk_and_sweep(250).unwrap();
    assert!(!walk.more && walk.seen.len() == 1, "{walk:?}");
    let mut left = folders_in(&s);
    left.sort();
    let fresh = fresh.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(left, [".git".to_owned(), fresh, "team".to_owned()]);
    assert!(!hollow.exists());
}

/// Runs this test once more behind a shell that says `before`; whether this is that run.
fn behind(before: &str, test: &str) -> bool {
    const MARK: &str = "PODSEAL_TEST_BEHIND_A_SHELL";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut shell = std::process::Command::new("sh");
    let script = format!("{before}; exec \"$0\" --exact \"$1\"");
    shell.args(["-c", &script]).arg(std::env::current_exe().unwrap()).arg(format!("store::disk::tests::{test}"));
    let ran = shell.env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[test]
fn a_signature_that_cannot_be_written_leaves_neither_its_name_nor_its_folder() {
    // No file has more than 4 KiB: the name can be written, and the signature cannot.
    let test = "a_signature_that_cannot_be_written_leaves_neither_its_name_nor_its_folder";
    if !behind("trap '' XFSZ; ulimit -f 8", test) {
        return;
    }
    let (s, large) = (scene(), vec![b'x'; 60_000]);
    let deep = Place::new("a/b/c", &Digest::sha256(b"image")).unwrap();
    assert!(s.dir.append(&deep, &large, Some(&name("a"))).is_err());
    assert_eq!(folders_in(&s), Vec::<String>::new());
    s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
    let before = s.names_in(&place());
    assert!(s.dir.append(&place(), &large, Some(&name("b"))).is_err());
    assert_eq!(s.names_in(&place()), before);
    assert_eq!(s.dir.append(&place(), b"two", Some(&name("b"))).unwrap().number, 2);
}

#[test]
fn a_number_that_others_took_meanwhile_leaves_no_name() {
    let s = scene();
    s.dir.append(&place(), b"one", None).unwrap();
    // Asked under the lock, after the numbers were looked at: as skopeo would, it takes the last one.
    let taken = s.file(&place(), "signature-2");
    let skopeo = |_: &[Kept]| {
        fs::write(&taken, "theirs").unwrap();
        None
    };
    let rules = Rules { same: &|_| false, objection: &skopeo };
    let choice = Choice { name: Some(&name("b")), number: Some(2) };
    assert!(matches!(s.dir.append_unless(&place(), b"two", choice, &rules), Err(DiskError::NotNext { next: 3 })));
    assert_eq!(s.names_in(&place()), ["signature-1", "signature-2"].map(str::to_owned).into());
}

#[test]
fn a_folder_with_nothing_but_names_is_swept_unless_somebody_is_at_it() {
    let s = scene();
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    let [forsaken, locked, fresh, used] = ["forsaken", "locked", "fresh", "used"].map(|repository| {
        let at = Place::new(&format!("x/{repository}"), &Digest::sha256(b"image")).unwrap();
        fs::create_dir_all(s.file(&at, "")).unwrap();
        fs::write(s.file(&at, &name_file(&Digest::sha256(b"lost"))), "a".repeat(32)).unwrap();
        at
    });
    fs::write(s.file(&forsaken, ".new-0123"), "half").unwrap();
    fs::write(s.file(&used, "signature-1"), "one").unwrap();
    for at in [&forsaken, &locked, &used] {
        fs::File::open(s.file(at, "")).unwrap().set_modified(old).unwrap();
    }
    let folder = files::open_root(&s.file(&locked, "")).unwrap();
    let lock = Lock::take(&folder, Duration::ZERO).unwrap();
    assert_eq!(s.dir.walk_and_sweep(100).unwrap().1, 3, "two files and their folder");
    let there = [&forsaken, &locked, &fresh, &used].map(|at| s.file(at, "").exists());
    assert_eq!(there, [false, true, true, true]);
    assert_eq!(s.names_in(&used).len(), 2);
    drop(lock);
    assert_eq!(s.dir.walk_and_sweep(100).unwrap().1, 2);
    assert!(!s.file(&locked, "").exists());
}

#[test]
fn sweeping_names_harms_no_writer() {
    let s = scene();
    thread::scope(|scope| {
        scope.spawn(|| {
            let old = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
            for _ in 0..300 {
                // As if every folder was old, but for those where a signature is.
                if let Ok(folder) = fs::File::open(s.file(&place(), "")) {
                    let _ = folder.set_modified(old);
                }
                s.dir.walk_and_sweep(100).unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..300 {
                let content = format!("{n}");
                s.dir.append(&place(), content.as_bytes(), Some(&name("a"))).unwrap();
                let kept = s.dir.list(&place()).unwrap();
                assert!(kept.iter().any(|kept| kept.name == name("a") && kept.content == content.as_bytes()));
                fs::remove_file(s.file(&place(), "signature-1")).unwrap();
            }
        });
    });
}

#[test]
fn folders_are_shared_as_far_as_the_one_around_them_is() {
    use std::os::unix::fs::PermissionsExt as _;
    for (around, wanted) in [(0o755, 0o755), (0o775, 0o775), (0o2775, 0o2775), (0o3775, 0o3775), (0o1757, 0o755)] {
        let s = scene();
        fs::set_permissions(s.dir.path(), fs::Permissions::from_mode(around)).unwrap();
        s.dir.append(&place(), b"one", Some(&name("a"))).unwrap();
        for made in [s.dir.path().join("team"), s.file(&place(), "")] {
            assert_eq!(mode(&made), wanted, "{around:o} {}", made.display());
        }
        for file in s.names_in(&place()) {
            assert_eq!(mode(&s.file(&place(), &file)), 0o644);
        }
    }
    // What is shared with one group is not handed to another.
    let s = scene();
    if std::os::unix::fs::chown(s.dir.path(), None, Some(54_321)).is_ok() {
        fs::set_permissions(s.dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
        s.dir.append(&place(), b"one", None).unwrap();
        assert_eq!(mode(&s.dir.path().join("team")), 0o755);
    }
}
