//! What ought to be in the cluster, beside what is: one row per key file or Secret, and at most one step to bring them
//! together. Pure; the controller takes the steps, `podseal keys` shows the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::content::{Content, HeldKey, Refusal, cut};
use super::model::{Directory, FileState, Files, KeyFile, Live, MANAGED_BY, State};
use super::name::{KeyKind, KeyName};
use crate::cluster::objects::SYNCED_KEY_LABEL;

/// Annotations of a synced Secret.
const FINGERPRINTS: &str = "podseal.io/key-fingerprints";
const USER_IDS: &str = "podseal.io/key-user-ids";
const EXPIRES: &str = "podseal.io/key-expires";
const SOURCE: &str = "podseal.io/key-source";
const PROBLEM: &str = "podseal.io/key-problem";
const ANNOTATIONS: [&str; 5] = [FINGERPRINTS, USER_IDS, EXPIRES, SOURCE, PROBLEM];
/// Characters of one annotation; a file may hold a thousand certificates.
const MAX_ANNOTATION: usize = 4_000;

/// What the Secret of a file ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The file.
    pub name: KeyName,
    /// Its data: one value, or none for a file without a key.
    pub data: BTreeMap<String, Vec<u8>>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a step does, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A key file is new.
    Added,
    /// The Secret gets other keys, or is put right.
    Changed,
    /// The Secret loses its keys.
    Emptied,
    /// The Secret goes.
    Removed,
}

/// One write to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes the Secret, if there is none by then.
    Create(Wanted),
    /// Changes this very version of it.
    Apply(Wanted, Box<Live>),
    /// Deletes this very version of it.
    Delete(Box<Live>),
}

/// A key file and its Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file; `None` for a Secret that belongs to none.
    pub file: Option<String>,
    /// The Secret's name; `None` where a name fits none.
    pub secret: Option<String>,
    /// The Secret's identity, if it exists.
    pub uid: Option<String>,
    /// What the file holds.
    pub kind: Option<KeyKind>,
    /// How they stand.
    pub state: State,
    /// What is to be said about it; empty when nothing is.
    pub detail: String,
    /// The keys: of the file, else of the Secret.
    pub keys: Vec<HeldKey>,
    /// How they come together, if something is to be done.
    pub step: Option<(Change, Step)>,
}

/// Compares. `withdrawn` are the files that were seen to go as it takes to delete their Secrets.
pub fn rows(files: &Files, live: &BTreeMap<String, Live>, withdrawn: &BTreeSet<String>, now: SystemTime) -> Vec<Row> {
    let mut rows: Vec<Row> = files.refused.iter().map(|(file, why)| refused(file, None, why.clone())).collect();
    let mut wanted: BTreeMap<&str, Vec<&KeyFile>> = BTreeMap::new();
    for file in files.files.values() {
        wanted.entry(&file.name.secret).or_default().push(file);
    }
    for (secret, candidates) in &wanted {
        let live = live.get(*secret);
        let chosen = choose(candidates, live);
        let all: Vec<_> = candidates.iter().map(|file| file.name.file.as_str()).collect();
        for file in candidates {
            rows.push(if chosen == Some(&file.name.file) {
                compare(file, live)
            } else {
                let why = format!("{} belong to one Secret: keep one of them", all.join(" and "));
                refused(&file.name.file, Some(&file.name), why)
            });
        }
    }
    let others = live.values().filter(|live| !wanted.contains_key(live.name.as_str()));
    rows.extend(others.map(|live| without_file(live, files, withdrawn, now)));
    rows.sort_by(|a, b| (&a.file, &a.secret).cmp(&(&b.file, &b.secret)));
    rows
}

/// Of the files that want one Secret, the one that has it already; none if none has, for chance would decide.
fn choose<'a>(candidates: &[&'a KeyFile], live: Option<&Live>) -> Option<&'a String> {
    if let [only] = candidates {
        return Some(&only.name.file);
    }
    let owner = live.and_then(Live::owner)?;
    candidates.iter().find(|file| file.name == owner).map(|file| &file.name.file)
}

fn refused(file: &str, name: Option<&KeyName>, why: String) -> Row {
    Row {
        file: Some(file.to_owned()),
        secret: name.map(|name| name.secret.clone()),
        uid: None,
        kind: name.map(|name| name.kind),
        state: State::Refused,
        detail: why,
        keys: Vec::new(),
        step: None,
    }
}

fn compare(file: &KeyFile, live: Option<&Live>) -> Row {
    let mut row = Row {
        file: Some(file.name.file.clone()),
        secret: Some(file.name.secret.clone()),
        uid: live.map(|live| live.uid.clone()),
        kind: Some(file.name.kind),
        state: State::InSync,
        detail: String::new(),
        keys: match &*file.state {
            FileState::Held(content) => content.keys.clone(),
            _ => Vec::new(),
        },
        step: None,
    };
    if let Some(live) = live.filter(|live| live.owner().is_none()) {
        row.state = State::Foreign;
        row.detail = format!(
            "the Secret {} is not podseal's and is left alone: delete it, or hand it over with the labels {}={} and {}={}",
            live.name, MANAGED_BY.0, MANAGED_BY.1, SYNCED_KEY_LABEL, file.name.file
        );
        return row;
    }
    match &*file.state {
        FileState::Unreadable(why) => {
            row.state = State::Unreadable;
            row.detail = format!("cannot be read ({why}); its Secret stays as it is");
        }
        FileState::Refused(refusal) => {
            row.state = if *refusal == Refusal::SecretKey { State::SecretKey } else { State::NoKey };
            row.detail = refusal.to_string();
            let wanted = wanted(file, None, &row.detail);
            row.step = live.filter(|live| !matches(live, &wanted)).map(|live| {
                let change = if live.data.is_empty() { Change::Changed } else { Change::Emptied };
                (change, Step::Apply(wanted, Box::new(live.clone())))
            });
        }
        FileState::Held(content) => {
            row.detail.clone_from(&content.problems);
            let wanted = wanted(file, Some(content), &content.problems);
            (row.state, row.step) = match live {
                None => (State::Missing, Some((Change::Added, Step::Create(wanted)))),
                Some(live) if matches(live, &wanted) => (State::InSync, None),
                Some(live) => (State::Differs, Some((Change::Changed, Step::Apply(wanted, Box::new(live.clone()))))),
            };
        }
    }
    row
}

fn without_file(live: &Live, files: &Files, withdrawn: &BTreeSet<String>, now: SystemTime) -> Row {
    let owner = live.owner();
    let (state, detail, step) = match (&owner, &files.directory) {
        (None, _) => (State::Foreign, "not kept for a key file".to_owned(), None),
        (Some(_), Directory::NotAsked) => (State::NotCompared, String::new(), None),
        (Some(_), Directory::Unreadable(why)) => {
            (State::Unreadable, format!("the key directory cannot be read ({why}); the Secret stays as it is"), None)
        }
        (Some(name), _) if withdrawn.contains(&name.file) => {
            let step = Some((Change::Removed, Step::Delete(Box::new(live.clone()))));
            (State::Orphan, "its file was withdrawn".to_owned(), step)
        }
        (Some(name), _) => {
            let detail = format!(
                "there is no key file {}; its keys still count: withdraw them with podseal keys remove {}",
                name.file, name.file
            );
            (State::Orphan, detail, None)
        }
    };
    Row {
        // A file that is gone is no file, but it is what the row is about.
        file: owner.as_ref().map(|name| name.file.clone()),
        secret: Some(live.name.clone()),
        uid: Some(live.uid.clone()),
        kind: owner.map(|name| name.kind),
        state,
        detail,
        keys: live.keys(now),
        step,
    }
}

fn wanted(file: &KeyFile, content: Option<&Content>, problem: &str) -> Wanted {
    let mut annotations = BTreeMap::from([(SOURCE.to_owned(), cut(&file.source, MAX_ANNOTATION))]);
    if let Some(content) = content {
        let join = |texts: Vec<&str>, by: &str| texts.join(by).chars().take(MAX_ANNOTATION).collect::<String>();
        let keys = || content.keys.iter();
        annotations.insert(FINGERPRINTS.to_owned(), join(keys().map(|key| key.fingerprint.as_str()).collect(), " "));
        let user_ids: Vec<_> = keys().flat_map(|key| key.user_ids.iter().map(String::as_str)).collect();
        if !user_ids.is_empty() {
            annotations.insert(USER_IDS.to_owned(), join(user_ids, "\n"));
        }
        if file.name.kind == KeyKind::OpenPgp {
            let first = keys().filter_map(|key| key.expires).min();
            annotations.insert(EXPIRES.to_owned(), first.map_or_else(|| "never".to_owned(), date));
        }
    }
    if !problem.is_empty() {
        annotations.insert(PROBLEM.to_owned(), cut(problem, MAX_ANNOTATION));
    }
    let data = content.map(|content| (file.name.data_key().to_owned(), content.bytes.clone())).into_iter().collect();
    Wanted { name: file.name.clone(), data, annotations }
}

/// Whether the Secret is as wanted; labels and annotations of others do not matter, data of others does.
fn matches(live: &Live, wanted: &Wanted) -> bool {
    live.data == wanted.data
        && live.owner().as_ref() == Some(&wanted.name)
        && ANNOTATIONS.iter().all(|name| live.annotations.get(*name) == wanted.annotations.get(*name))
}

/// A time as people read it (RFC 3339, UTC).
pub fn date(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
