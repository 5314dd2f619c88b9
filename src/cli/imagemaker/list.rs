//! `podseal imagemaker list`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::home::gnupg_of;
use super::{Failure, leftover};
use crate::cli::args::Format;
use crate::cli::args::imagemaker::ListArguments;
use crate::cli::output::{columns, complain, print};
use crate::signature::openpgp::KeyInfo;
use crate::signing::makers::{Maker, MakerKey, Makers, State, date};

/// A key as it is listed.
struct Row<'a> {
    key: &'a MakerKey,
    /// How it stands: what was done with it, or what the key file says of it.
    state: String,
    ends: String,
    why: Option<String>,
}

pub(super) fn run(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let (makers, now) = (Makers::read(&arguments.host.dir)?, SystemTime::now());
    let mut all = Vec::new();
    for maker in makers.list() {
        let (held, problem) = match makers.certificates(maker, now) {
            Ok(held) if held.is_empty() => (held, Some("the key file holds no public key".to_owned())),
            Ok(held) => (held, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let rows: Vec<_> = maker.keys.iter().map(|key| row(key, &held)).collect();
        all.push((maker, rows, problem));
    }
    let mut homes = BTreeMap::new();
    for half in makers.begun().iter().filter_map(|maker| makers.half_added(&maker.name)) {
        complain(&format!(
            "note: {0} is published, and the making of {1} was broken off: its key counts; the same command again \
             finishes it, without {0} it counts no more",
            makers.key_file(&half.key_file).display(),
            half.name
        ));
    }
    for maker in makers.list().iter().chain(makers.begun()).filter(|maker| makers.half_added(&maker.name).is_none()) {
        // Nothing is refused because of leftovers.
        let Ok(gnupg) = gnupg_of(maker) else { continue };
        let keys = homes.entry(gnupg.home.clone()).or_insert_with(|| leftover::secret_keys(&gnupg));
        for key in leftover::unrecorded(&makers, maker, keys) {
            complain(&leftover::note(maker, &key.fingerprint, &gnupg));
        }
    }
    let fine = all.iter().all(|(maker, rows, problem)| {
        // One whose keys are all revoked is as it is meant to be: it has left.
        let left = !maker.keys.is_empty() && maker.keys.iter().all(|key| key.state == State::Revoked);
        problem.is_none()
            && (left || maker.active().is_some_and(|key| rows.iter().any(|row| row.key == key && row.why.is_none())))
    });
    match arguments.output {
        Format::Table => print(&table(&all)),
        Format::Json => {
            let makers: Vec<_> =
                all.iter().map(|(maker, rows, problem)| object(maker, rows, problem.as_deref())).collect();
            print(&format!("{:#}\n", json!({"makers": makers})));
        }
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row<'a>(key: &'a MakerKey, held: &[KeyInfo]) -> Row<'a> {
    let label = key.state.label().to_owned();
    let Some(found) = held.iter().find(|held| held.fingerprint == key.fingerprint) else {
        return Row { key, state: label, ends: "-".to_owned(), why: Some("it is not in the key file".to_owned()) };
    };
    let state = match &found.unusable {
        Some(why) if why.contains(" is revoked") => "revoked".to_owned(),
        Some(why) if why.contains(" expired on ") => "expired".to_owned(),
        Some(_) => "unusable".to_owned(),
        None => label,
    };
    Row { key, state, ends: found.expires.map_or_else(|| "never".to_owned(), date), why: found.unusable.clone() }
}

fn object(maker: &Maker, rows: &[Row<'_>], problem: Option<&str>) -> Value {
    let keys: Vec<_> = rows
        .iter()
        .map(|row| {
            let key = row.key;
            json!({"fingerprint": key.fingerprint, "created": key.created, "state": row.state, "ends": row.ends, "unusable": row.why})
        })
        .collect();
    json!({
        "name": maker.name,
        "path": maker.path,
        "email": maker.email,
        "fullName": maker.full_name,
        "note": maker.note,
        "keyFile": maker.key_file,
        "gnupgHome": maker.gnupg_home,
        "lookaside": maker.lookaside,
        "keys": keys,
        "problem": problem,
    })
}

fn table(makers: &[(&Maker, Vec<Row<'_>>, Option<String>)]) -> String {
    let mut lines = vec![(["NAME", "PATH", "STATE", "ENDS", "FINGERPRINT", "E-MAIL"].map(str::to_owned), Vec::new())];
    for (maker, rows, problem) in makers {
        let mut first = [maker.name.clone(), maker.path.clone(), maker.email.clone()];
        for row in rows {
            let [name, path, email] = std::mem::take(&mut first);
            let cells = [name, path, row.state.clone(), row.ends.clone(), row.key.fingerprint.clone(), email];
            lines.push((cells, row.why.iter().cloned().collect::<Vec<_>>()));
        }
        if let (Some(problem), Some((_, notes))) = (problem, lines.last_mut()) {
            notes.push(problem.clone());
        }
    }
    columns(&lines)
}
