//! Tells people (Events, log) and machines (metrics) what became of key files. Nothing is told twice within an hour.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::content::{HeldKey, cut};
use super::model::{Directory, Files, State};
use super::plan::{Change, Row, date};
use crate::controller::Context;

/// Keys that expire within this time are reported.
pub const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A state that lasts is told again, because Events are kept for an hour by default.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// An Event is worth waiting so long for, but no key.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bounds of the Events API.
const MAX_NOTE: usize = 900;

/// What is to be told.
struct Message<'a> {
    /// Of the Event, `CamelCase`.
    reason: &'static str,
    warning: bool,
    /// What it is about: the file, or the directory.
    subject: &'a str,
    /// The Secret's name and identity, if there is one; else it is told on the namespace.
    secret: Option<(&'a str, &'a str)>,
    note: String,
}

/// Remembers what was told.
#[derive(Debug)]
pub struct Reporter {
    context: Context,
    told: HashMap<(String, &'static str), (String, Instant)>,
}

impl Reporter {
    /// Nothing is told yet.
    pub fn new(context: Context) -> Self {
        Self { context, told: HashMap::new() }
    }

    /// A step was taken on the Secret of this identity.
    pub async fn changed(&mut self, row: &Row, change: Change, uid: &str) {
        let metrics = &self.context.metrics.controller.keys;
        metrics.changed(change_label(change));
        let (reason, what) = match change {
            Change::Added => ("KeyAdded", "is new"),
            Change::Changed => ("KeyChanged", "changed"),
            // What it is now says the state of the row.
            Change::Emptied => return,
            Change::Removed => ("KeyRemoved", "was removed, and its Secret with it"),
        };
        let subject = row.file.as_deref().unwrap_or_default();
        let note = format!("key file {subject} {what}: {}", keys(&row.keys));
        let secret = row.secret.as_deref().filter(|_| change != Change::Removed).map(|name| (name, uid));
        self.tell(Message { reason, warning: false, subject, secret, note }).await;
    }

    /// A step failed.
    pub fn failed(&self, row: &Row, error: &str) {
        self.context.metrics.controller.keys.failed();
        warn!(file = row.file, secret = row.secret, "the Secret of a key file cannot be written: {error}");
    }

    /// How everything stands now.
    pub async fn state(&mut self, files: &Files, rows: &[Row], now: SystemTime) {
        self.directory(files, rows).await;
        let mut current = BTreeSet::new();
        for row in rows {
            let (Some(subject), Some(reason)) = (row.file.as_deref(), reason(row.state)) else { continue };
            current.insert((subject.to_owned(), reason));
            let note = format!("key file {subject}: {}", row.detail);
            self.tell_of_state(Message { reason, warning: true, subject, secret: secret(row), note }).await;
        }
        let (mut soon, mut past) = (0, 0);
        for row in rows.iter().filter(|row| !matches!(row.state, State::Foreign | State::Refused)) {
            for key in &row.keys {
                let Some((reason, note)) = expiry(row, key, now) else { continue };
                if reason == "KeyExpired" {
                    past += 1;
                } else {
                    soon += 1;
                }
                let subject = format!("{} {}", row.file.as_deref().unwrap_or_default(), key.fingerprint);
                current.insert((subject.clone(), reason));
                self.tell_of_state(Message { reason, warning: true, subject: &subject, secret: secret(row), note })
                    .await;
            }
        }
        // What is over may be told anew should it come back.
        self.told.retain(|key, _| key.0.is_empty() || current.contains(key));
        let metrics = &self.context.metrics.controller.keys;
        for state in State::ALL {
            metrics.files(state.label(), rows.iter().filter(|row| row.state == state).count());
        }
        metrics.expiring(soon, past);
    }

    async fn directory(&mut self, files: &Files, rows: &[Row]) {
        let metrics = &self.context.metrics.controller.keys;
        metrics.directory(!matches!(files.directory, Directory::Unreadable(_)));
        let kept = rows.iter().filter(|row| row.secret.is_some() && row.state != State::Foreign).count();
        let said = match &files.directory {
            Directory::Unreadable(why) => Some((
                "KeyDirectoryUnreadable",
                format!("the key directory cannot be read ({why}); all {kept} Secrets of key files stay as they are"),
            )),
            Directory::Listed if files.files.is_empty() && kept > 0 => Some((
                "KeyDirectoryEmpty",
                format!(
                    "the key directory holds no key file; all {kept} Secrets of key files stay as they are: withdraw \
                     keys with podseal keys remove"
                ),
            )),
            _ => None,
        };
        match said {
            None => self.told.retain(|key, _| !key.0.is_empty()),
            Some((reason, note)) => {
                self.told.retain(|key, _| !key.0.is_empty() || key.1 == reason);
                self.tell_of_state(Message { reason, warning: true, subject: "", secret: None, note }).await;
            }
        }
    }

    async fn tell_of_state(&mut self, message: Message<'_>) {
        let key = (message.subject.to_owned(), message.reason);
        let told = self.told.get(&key);
        if told.is_some_and(|(note, at)| *note == message.note && at.elapsed() < AGAIN) {
            return;
        }
        self.told.insert(key, (message.note.clone(), Instant::now()));
        self.tell(message).await;
    }

    async fn tell(&self, message: Message<'_>) {
        let Message { reason, warning, subject, secret, note } = message;
        let (secret_name, uid) = secret.unzip();
        if warning {
            warn!(reason, secret = secret_name, "{note}");
        } else {
            info!(reason, secret = secret_name, "{note}");
        }
        let namespace = self.context.namespace.to_string();
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(if secret.is_some() { "Secret" } else { "Namespace" }.to_owned()),
            name: Some(secret_name.map_or_else(|| namespace.clone(), str::to_owned)),
            uid: uid.filter(|uid| !uid.is_empty()).map(str::to_owned),
            // Also for the Namespace: Events about it are then its own, where podseal may write them.
            namespace: Some(namespace),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            action: action(subject, &note),
            note: Some(cut(&note, MAX_NOTE)),
            secondary: None,
        };
        match timeout(PATIENCE, self.context.recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(reason, "an Event cannot be written: {error}"),
            Err(_) => warn!(reason, "an Event cannot be written in time"),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // Another replica reports from now on.
        self.context.metrics.controller.keys.reset();
    }
}

/// Names what was done. Events that are alike in this are counted as one, with the first one's note; so the note is in it.
fn action(subject: &str, note: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (subject, note).hash(&mut hasher);
    format!("SyncKeys-{:016x}", hasher.finish())
}

fn secret(row: &Row) -> Option<(&str, &str)> {
    row.secret.as_deref().zip(row.uid.as_deref())
}

/// The Event for a state that somebody ought to do something about.
fn reason(state: State) -> Option<&'static str> {
    match state {
        State::InSync | State::Missing | State::Differs | State::NotCompared => None,
        State::Orphan => Some("KeyFileMissing"),
        State::Foreign => Some("KeySecretForeign"),
        State::Unreadable => Some("KeyFileUnreadable"),
        State::NoKey => Some("KeyFileWithoutKey"),
        State::SecretKey => Some("SecretKeyRefused"),
        State::Refused => Some("KeyFileRefused"),
    }
}

fn change_label(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Changed => "changed",
        Change::Emptied => "emptied",
        Change::Removed => "removed",
    }
}

fn expiry(row: &Row, key: &HeldKey, now: SystemTime) -> Option<(&'static str, String)> {
    let expires = key.expires.filter(|at| *at <= now + SOON)?;
    let file = row.file.as_deref().unwrap_or_default();
    let (reason, verb) = if expires <= now { ("KeyExpired", "expired") } else { ("KeyExpiring", "expires") };
    let whose = key.user_ids.first().map(|id| format!(" of {id}")).unwrap_or_default();
    let date = date(expires);
    let way_out = "extend it and put the new public key there";
    Some((reason, format!("key file {file}: {}{whose} {verb} at {date}: {way_out}", key.fingerprint)))
}

fn keys(keys: &[HeldKey]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = keys
        .iter()
        .take(SHOWN)
        .map(|key| match key.user_ids.first() {
            Some(id) => format!("{} ({id})", key.fingerprint),
            None => key.fingerprint.clone(),
        })
        .collect();
    let more = keys.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
