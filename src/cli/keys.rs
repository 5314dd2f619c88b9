//! `podseal keys`: key files beside the Secrets that are kept for them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::args::{ClusterArguments, Format, KeysAction, KeysCommand, KeysList, KeysRemove, LogFormat};
use super::output::{columns, complain, print};
use super::runtime;
use crate::cluster::describe;
use crate::cluster::objects::SYNCED_KEY_PREFIX;
use crate::controller::keys::{self, Directory, Files, HeldKey, KeyName, Live, Row, State};

const AMISS: u8 = 1;
const UNKNOWN: u8 = 2;
/// The API server has so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(command: &KeysCommand, verbose: u8) -> ExitCode {
    let _logs = super::serve::logs(LogFormat::Text, verbose, "error");
    let done = runtime().and_then(|runtime| {
        runtime.block_on(async {
            match &command.action {
                None => list(&command.list).await,
                Some(KeysAction::List(arguments)) => list(arguments).await,
                Some(KeysAction::Remove(arguments)) => remove(arguments).await,
            }
        })
    });
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(UNKNOWN)
    })
}

async fn secrets(arguments: &ClusterArguments) -> Result<Api<Secret>, String> {
    let config = super::serve::kube_config_of(&arguments.connection).await?;
    let client = Client::try_from(config).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    Ok(Api::namespaced(client, &arguments.own_namespace))
}

async fn answered<T>(what: &str, asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| format!("{what}: {}", describe(&error))),
        Err(_) => Err(format!("{what}: the API server does not answer")),
    }
}

async fn list(arguments: &KeysList) -> Result<ExitCode, String> {
    let files = match arguments.dir.clone() {
        None => Files::default(),
        Some(directory) => tokio::task::spawn_blocking(move || keys::scan_once(&directory))
            .await
            .map_err(|_| "the directory could not be looked at".to_owned())?,
    };
    let live = if arguments.no_cluster {
        BTreeMap::new()
    } else {
        let api = secrets(&arguments.cluster).await?;
        let what = format!("the Secrets of {} cannot be listed", arguments.cluster.own_namespace);
        answered(&what, keys::read_secrets(&api, &files)).await?
    };
    let mut rows = keys::rows(&files, &live, &BTreeSet::new(), SystemTime::now());
    if arguments.no_cluster {
        let missing = rows.iter_mut().filter(|row| row.state == State::Missing);
        missing.for_each(|row| row.state = State::NotCompared);
    }
    if let (Directory::Unreadable(why), Some(directory)) = (&files.directory, &arguments.dir) {
        complain(&format!("--dir {}: {why}", directory.display()));
    }
    match arguments.output {
        Format::Table if rows.is_empty() => complain(&nothing(arguments)),
        Format::Table => print(&table(&rows)),
        Format::Json => print(&format!("{:#}\n", json!({"keys": rows.iter().map(object).collect::<Vec<_>>()}))),
    }
    let fine = |row: &Row| matches!(row.state, State::InSync | State::NotCompared) || is_by_hand(row);
    Ok(if matches!(files.directory, Directory::Unreadable(_)) {
        ExitCode::from(UNKNOWN)
    } else if rows.iter().all(fine) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(AMISS)
    })
}

/// What is said when there is nothing to list.
fn nothing(arguments: &KeysList) -> String {
    let directory = arguments.dir.as_ref().map(|directory| format!("no key files in {}", directory.display()));
    let namespace = &arguments.cluster.own_namespace;
    let secrets = (!arguments.no_cluster)
        .then(|| format!("no Secrets of keys in the namespace {namespace} (--own-namespace names another one)"));
    format!("there are {}", directory.into_iter().chain(secrets).collect::<Vec<_>>().join(" and "))
}

/// A Secret that somebody keeps by hand, and that stands in no file's way.
fn is_by_hand(row: &Row) -> bool {
    row.state == State::Foreign && row.file.is_none()
}

async fn remove(arguments: &KeysRemove) -> Result<ExitCode, String> {
    let api = secrets(&arguments.cluster).await?;
    let name = secret_name(&arguments.name);
    let what = format!("the Secret {name} of {} cannot be read", arguments.cluster.own_namespace);
    let found = answered(&what, api.get_opt(&name)).await?;
    let Some(live) = found.map(Live::from) else {
        complain(&format!("there is no Secret {name} in {}", arguments.cluster.own_namespace));
        return Ok(ExitCode::from(AMISS));
    };
    let Some(owner) = live.owner() else {
        complain(&format!("the Secret {name} is not kept for a key file, and is left alone: delete it with kubectl"));
        return Ok(ExitCode::from(AMISS));
    };
    if arguments.name.contains('.') && KeyName::read(&arguments.name).is_some() && owner.file != arguments.name {
        complain(&format!("the Secret {name} is kept for {}, not for {}", owner.file, arguments.name));
        return Ok(ExitCode::from(AMISS));
    }
    answered(&format!("the Secret {name} cannot be deleted"), keys::delete(&api, &live)).await?;
    print(&format!(
        "The Secret {name} is deleted; its keys count no longer.\nIt comes back if the controller still finds {}.\n",
        owner.file
    ));
    Ok(ExitCode::SUCCESS)
}

/// The Secret that is meant: by its own name, the file's, or the file's without extension.
fn secret_name(text: &str) -> String {
    match KeyName::read(text) {
        _ if text.starts_with(SYNCED_KEY_PREFIX) => text.to_owned(),
        Some(Ok(name)) => name.secret,
        _ => format!("{SYNCED_KEY_PREFIX}{text}"),
    }
}

fn expiry(key: &HeldKey) -> String {
    key.expires.map_or_else(|| "never".to_owned(), keys::date)
}

fn object(row: &Row) -> Value {
    let key = |key: &HeldKey| {
        json!({
            "fingerprint": key.fingerprint,
            "userIds": key.user_ids,
            "expires": key.expires.map(keys::date),
            "unusable": key.unusable,
        })
    };
    json!({
        "file": row.file,
        "secret": row.secret,
        "kind": row.kind.map(keys::KeyKind::label),
        "state": row.state.label(),
        "detail": row.detail,
        "keys": row.keys.iter().map(key).collect::<Vec<_>>(),
    })
}

fn table(rows: &[Row]) -> String {
    let head = ["FILE", "SECRET", "KIND", "STATE", "EXPIRES", "FINGERPRINT", "USER ID"].map(str::to_owned);
    let mut lines = vec![(head, Vec::new())];
    for row in rows {
        let about = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let kind = row.kind.map_or("-", keys::KeyKind::label);
        let first = [about(row.file.as_deref()), about(row.secret.as_deref()), kind.into(), row.state.label().into()];
        let mut keys = row.keys.iter().map(|key| {
            let user_id = key.user_ids.first().cloned().unwrap_or_else(|| "-".to_owned());
            [expiry(key), key.fingerprint.clone(), user_id]
        });
        let key = keys.next().unwrap_or_else(|| ["-"; 3].map(str::to_owned));
        lines.push((cells(first, key), Vec::new()));
        lines.extend(keys.map(|key| (cells([(); 4].map(|()| String::new()), key), Vec::new())));
        let unusable = row.keys.iter().filter_map(|k| Some(format!("{}: {}", k.fingerprint, k.unusable.as_ref()?)));
        let detail = Some(row.detail.clone()).filter(|detail| !detail.is_empty());
        if let Some((_, notes)) = lines.last_mut() {
            notes.extend(detail.into_iter().chain(unusable));
        }
    }
    columns(&lines)
}

fn cells(first: [String; 4], last: [String; 3]) -> [String; 7] {
    let mut cells = first.into_iter().chain(last);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_file_or_its_secret() {
        for name in ["group1", "group1.pgp", "group1.pub", "sigstore-key-group1"] {
            assert_eq!(secret_name(name), "sigstore-key-group1");
        }
        assert_eq!(secret_name("team.a"), "sigstore-key-team.a");
    }

    #[test]
    fn the_table_shows_every_key_and_what_is_wrong() {
        let key = |print: &str, unusable: Option<&str>| HeldKey {
            fingerprint: print.to_owned(),
            user_ids: vec!["A <a@x.io>".to_owned()],
            expires: None,
            unusable: unusable.map(str::to_owned),
        };
        let row = Row {
            file: Some("a.pgp".to_owned()),
            secret: Some("sigstore-key-a".to_owned()),
            uid: None,
            kind: Some(keys::KeyKind::OpenPgp),
            state: State::Differs,
            detail: "one was left out".to_owned(),
            keys: vec![key("F1", None), key("F2", Some("it expired"))],
            step: None,
        };
        assert_eq!(
            table(&[row]),
            "\
FILE   SECRET          KIND     STATE    EXPIRES  FINGERPRINT  USER ID
a.pgp  sigstore-key-a  OpenPGP  differs  never    F1           A <a@x.io>
                                         never    F2           A <a@x.io>
  one was left out
  F2: it expired
"
        );
    }
}
