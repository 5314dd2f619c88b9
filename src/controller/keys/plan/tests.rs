use std::sync::Arc;

use super::super::content;
use super::super::testing::{cosign_key, gpg_key};
use super::*;

fn name(file: &str) -> KeyName {
    KeyName::read(file).unwrap().unwrap()
}

fn with(file: &str, state: FileState) -> (String, KeyFile) {
    (file.to_owned(), KeyFile { name: name(file), state: Arc::new(state), source: "directory".to_owned() })
}

fn held(file: &str, days: Option<u64>) -> (String, KeyFile) {
    let bytes = match name(file).kind {
        KeyKind::OpenPgp => gpg_key(&format!("Maker of {file} <maker@x.io>"), days).binary,
        KeyKind::Cosign => cosign_key().into_bytes(),
    };
    with(file, FileState::Held(content::read(&name(file), &bytes, SystemTime::now()).unwrap()))
}

fn no_key(file: &str) -> (String, KeyFile) {
    with(file, FileState::Refused(Refusal::NoKey("nothing".to_owned())))
}

fn files(files: Vec<(String, KeyFile)>) -> Files {
    Files { files: files.into_iter().collect(), directory: Directory::Listed, ..Files::default() }
}

fn found(files: &Files, live: &BTreeMap<String, Live>) -> Vec<Row> {
    rows(files, live, &BTreeSet::new(), SystemTime::now())
}

/// The Secrets after all steps.
fn after(files: &Files, live: &BTreeMap<String, Live>, withdrawn: &[&str]) -> BTreeMap<String, Live> {
    let withdrawn = withdrawn.iter().map(|&file| file.to_owned()).collect();
    let mut live = live.clone();
    for row in rows(files, &live.clone(), &withdrawn, SystemTime::now()) {
        match row.step.map(|(_, step)| step) {
            None => {}
            Some(Step::Delete(old)) => drop(live.remove(&old.name)),
            Some(Step::Create(wanted) | Step::Apply(wanted, _)) => {
                let labels = [MANAGED_BY, (SYNCED_KEY_LABEL, wanted.name.file.as_str())];
                let secret = Live {
                    name: wanted.name.secret.clone(),
                    uid: "uid".to_owned(),
                    labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                    annotations: wanted.annotations,
                    data: wanted.data,
                    ..Live::default()
                };
                live.insert(secret.name.clone(), secret);
            }
        }
    }
    live
}

fn states(rows: &[Row]) -> Vec<(&str, State)> {
    rows.iter().map(|row| (row.file.as_deref().unwrap_or("-"), row.state)).collect()
}

#[test]
fn a_file_gets_a_secret_that_says_what_it_holds() {
    let files = files(vec![held("a.pgp", Some(60)), held("b.pub", None), held("c.asc", None)]);
    assert_eq!(states(&found(&files, &BTreeMap::new())).iter().filter(|(_, s)| *s == State::Missing).count(), 3);
    let live = after(&files, &BTreeMap::new(), &[]);
    assert_eq!(live.keys().collect::<Vec<_>>(), ["sigstore-key-a", "sigstore-key-b", "sigstore-key-c"]);
    let a = &live["sigstore-key-a"];
    assert_eq!(a.data.keys().collect::<Vec<_>>(), ["a.pgp"]);
    assert_eq!(a.annotations[USER_IDS], "Maker of a.pgp <maker@x.io>");
    assert!(a.annotations[EXPIRES].ends_with('Z') && a.annotations[FINGERPRINTS].len() == 40, "{a:?}");
    assert_eq!(live["sigstore-key-c"].annotations[EXPIRES], "never");
    assert_eq!(live["sigstore-key-b"].data.keys().collect::<Vec<_>>(), ["cosign.pub"]);
    let rows = found(&files, &live);
    assert!(rows.iter().all(|row| row.state == State::InSync && row.step.is_none()), "{rows:?}");
}

#[test]
fn f2_a_file_that_changed_changes_its_secret_and_an_edited_secret_is_put_right() {
    let old = files(vec![held("a.pgp", None)]);
    let live = after(&old, &BTreeMap::new(), &[]);
    let new = files(vec![held("a.pgp", None)]);
    assert_eq!(states(&found(&new, &live)), [("a.pgp", State::Differs)]);
    let edits: [fn(&mut Live); 3] = [
        |live| drop(live.data.insert("more.pgp".to_owned(), b"x".to_vec())),
        |live| live.data.clear(),
        |live| live.annotations.clear(),
    ];
    for edit in edits {
        let mut edited = live.clone();
        edit(edited.get_mut("sigstore-key-a").unwrap());
        assert_eq!(states(&found(&old, &edited)), [("a.pgp", State::Differs)]);
        assert_eq!(after(&old, &edited, &[]), live);
    }
}

#[test]
fn a_file_without_a_key_empties_its_secret_and_makes_none() {
    let live = after(&files(vec![held("a.pgp", None)]), &BTreeMap::new(), &[]);
    for refusal in [Refusal::NoKey("x".to_owned()), Refusal::SecretKey] {
        let files = files(vec![with("a.pgp", FileState::Refused(refusal))]);
        assert!(after(&files, &BTreeMap::new(), &[]).is_empty());
        let rows = found(&files, &live);
        assert_eq!(rows[0].step.as_ref().unwrap().0, Change::Emptied);
        let emptied = after(&files, &live, &[]);
        assert!(emptied["sigstore-key-a"].data.is_empty());
        assert!(emptied["sigstore-key-a"].annotations.contains_key(PROBLEM));
        assert!(!emptied["sigstore-key-a"].annotations.contains_key(FINGERPRINTS));
        assert!(found(&files, &emptied)[0].step.is_none());
    }
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing() {
    let live = after(&files(vec![held("a.pgp", None)]), &BTreeMap::new(), &[]);
    let files = files(vec![with("a.pgp", FileState::Unreadable("stale handle".to_owned()))]);
    assert_eq!(states(&found(&files, &live)), [("a.pgp", State::Unreadable)]);
    assert_eq!(after(&files, &live, &[]), live);
}

#[test]
fn a_secret_without_a_file_stays_unless_its_file_was_seen_to_go() {
    let all = files(vec![held("a.pgp", None), held("b.pgp", None)]);
    let live = after(&all, &BTreeMap::new(), &[]);
    let rest = files(vec![(all.files["b.pgp"].name.file.clone(), all.files["b.pgp"].clone())]);
    assert_eq!(states(&found(&rest, &live)), [("a.pgp", State::Orphan), ("b.pgp", State::InSync)]);
    assert_eq!(after(&rest, &live, &[]), live);
    assert_eq!(after(&rest, &live, &["a.pgp"]).keys().collect::<Vec<_>>(), ["sigstore-key-b"]);
    for directory in [Directory::NotAsked, Directory::Unreadable("gone".to_owned())] {
        let unknown = Files { directory, ..Files::default() };
        assert_eq!(after(&unknown, &live, &["a.pgp"]), live);
    }
}

#[test]
fn a_secret_of_somebody_else_is_left_alone() {
    let files = files(vec![held("a.pgp", None), no_key("b.pgp")]);
    let mine = after(&files, &BTreeMap::new(), &[]).remove("sigstore-key-a").unwrap();
    let changes: [fn(&mut Live); 4] = [
        |live| live.labels.clear(),
        |live| drop(live.labels.remove(MANAGED_BY.0)),
        |live| drop(live.labels.insert(MANAGED_BY.0.to_owned(), "Helm".to_owned())),
        // A copy of a Secret of podseal's under another name.
        |live| drop(live.labels.insert(SYNCED_KEY_LABEL.to_owned(), "z.pgp".to_owned())),
    ];
    for change in changes {
        let (mut a, mut b) = (mine.clone(), mine.clone());
        b.name = "sigstore-key-b".to_owned();
        change(&mut a);
        change(&mut b);
        let live: BTreeMap<_, _> = [a, b].map(|live| (live.name.clone(), live)).into();
        assert_eq!(states(&found(&files, &live)), [("a.pgp", State::Foreign), ("b.pgp", State::Foreign)]);
        assert_eq!(after(&files, &live, &["a.pgp", "z.pgp"]), live);
        assert_eq!(
            after(&Files { directory: Directory::Listed, ..Files::default() }, &live, &["a.pgp", "z.pgp"]),
            live
        );
    }
}

#[test]
fn files_that_want_one_secret_are_refused_but_for_the_one_that_has_it() {
    for pair in [["a.asc", "a.pgp"], ["a.gpg", "a.pub"]] {
        let both = files(pair.map(|file| held(file, None)).into());
        let rows = found(&both, &BTreeMap::new());
        assert_eq!(states(&rows), pair.map(|file| (file, State::Refused)));
        assert!(rows.iter().all(|row| row.step.is_none() && row.detail.contains("keep one")), "{rows:?}");
        for (has, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let one = files(vec![(has.to_owned(), both.files[has].clone())]);
            let live = after(&one, &BTreeMap::new(), &[]);
            let mut rows = found(&both, &live);
            rows.sort_by_key(|row| row.state);
            assert_eq!(states(&rows), [(has, State::InSync), (other, State::Refused)]);
            assert_eq!(after(&both, &live, &[]), live);
            // The other one takes over when the first is withdrawn, and its Secret is not deleted.
            let rest = files(vec![(other.to_owned(), both.files[other].clone())]);
            let taken = after(&rest, &live, &[has]);
            assert_eq!(taken["sigstore-key-a"].labels[SYNCED_KEY_LABEL], other);
            assert!(found(&rest, &taken).iter().all(|row| row.state == State::InSync));
        }
    }
}

#[test]
fn annotations_are_bounded() {
    let key = |n: usize| HeldKey {
        fingerprint: format!("{n:040}"),
        user_ids: vec!["x".repeat(1_000)],
        expires: None,
        unusable: None,
    };
    let content = Content { bytes: b"x".to_vec(), keys: (0..1_000).map(key).collect(), problems: "y".repeat(100_000) };
    let live = after(&files(vec![with("a.pgp", FileState::Held(content))]), &BTreeMap::new(), &[]);
    assert!(live["sigstore-key-a"].annotations.values().all(|text| text.len() <= MAX_ANNOTATION + 4));
}
