//! `podseal imagemaker create`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use super::choice::{PlannedKey, early_end};
use super::obtain::{Obtained, examine, obtain, shared};
use super::plan::{Plan, makers};
use super::{Failure, entries, hosts, leftover};
use crate::cli::args::imagemaker::{CreateArguments, Printed};
use crate::cli::output::{complain, print};
use crate::signature::openpgp::KeyInfo;
use crate::signing::gnupg::{Gnupg, SecretKey};
use crate::signing::makers::{Maker, MakerKey, Makers, lay_out};

pub(super) fn run(arguments: &CreateArguments) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    let plans = makers(arguments, now)?;
    check_hosts(arguments, &plans)?;
    lay_out(&arguments.host.dir)?;
    let home = home(arguments.key.gnupg_home.as_deref(), &arguments.host.dir)?;
    let gnupg = Gnupg::new(home.clone());
    let mut registry = Makers::open(&arguments.host.dir)?;
    // Everything that can be known beforehand is, for all of them.
    for (at, plan) in plans.iter().enumerate() {
        check(plan, plans.get(..at).unwrap_or_default(), arguments, &registry, &gnupg)?;
        if let Some(note) = early_end(&plan.key, now) {
            complain(&format!("warning: {}: {note}", plan.name));
        }
    }
    let mut made = Vec::new();
    for plan in &plans {
        match make(plan, arguments, &gnupg, &mut registry) {
            Ok(maker) => made.push(maker),
            Err(error) => {
                report(arguments, &made, true)?;
                return Err(unfinished(&plans, &made, error));
            }
        }
    }
    report(arguments, &made, false)?;
    Ok(ExitCode::SUCCESS)
}

/// What was made stays; the rest is to be asked for again.
fn unfinished(plans: &[Plan], made: &[Maker], error: Failure) -> Failure {
    let (Failure::Usage(why) | Failure::Failed(why)) = error;
    let rest: Vec<_> = plans.iter().skip(made.len()).map(|plan| format!("{}@{}", plan.name, plan.path)).collect();
    let done: Vec<_> = made.iter().map(|maker| maker.name.as_str()).collect();
    let done = if done.is_empty() { "nothing was made".to_owned() } else { format!("made: {}", done.join(", ")) };
    Failure::Failed(format!("{why}\n{done}; when that is put right: podseal imagemaker create {}", rest.join(" ")))
}

fn check_hosts(arguments: &CreateArguments, plans: &[Plan]) -> Result<(), Failure> {
    let registries = plans.iter().map(|plan| plan.path.split('/').next().unwrap_or(&plan.path));
    let found = hosts::look(registries, [arguments.lookaside.as_str()]);
    for note in &found.notes {
        complain(&format!("note: {note}: its images are signed here and their signatures served from here"));
    }
    if found.wrong.is_empty() {
        return Ok(());
    }
    if arguments.force {
        found.wrong.iter().for_each(|line| complain(&format!("warning: {line}")));
        return Ok(());
    }
    let why = "image makers belong on the host of registry and signature store: run it there, put the names into /etc/hosts, \
               or go on with --force";
    Err(Failure::Failed(format!("{}; {why}", found.wrong.join("; "))))
}

/// The home with its whole path, made if it is not there. Secret keys must not lie where web servers serve.
pub(super) fn home(given: Option<&Path>, directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let environment = std::env::var_os("GNUPGHOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let Some(home) = given.map(Path::to_owned).or(environment) else { return Ok(None) };
    let named = |error: std::io::Error| Failure::Failed(format!("the GnuPG home {}: {error}", home.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(named)?;
    let whole = home.canonicalize().map_err(named)?;
    if directory.canonicalize().is_ok_and(|directory| whole.starts_with(directory)) {
        let why = "lies in the directory that web servers serve: keep secret keys elsewhere";
        return Err(Failure::Usage(format!("--gnupg-home {} {why}", home.display())));
    }
    Ok(Some(whole))
}

fn check(
    plan: &Plan,
    before: &[Plan],
    arguments: &CreateArguments,
    registry: &Makers,
    gnupg: &Gnupg,
) -> Result<(), Failure> {
    if let Some(why) = registry.refuse(&plan.name, &plan.path) {
        return Err(Failure::Failed(why));
    }
    let Some(email) = &plan.email else { return Ok(()) };
    check_address(plan, email, before, registry)?;
    if let PlannedKey::New { .. } = &plan.key {
        let begun = resumable(plan, &maker(plan, arguments, gnupg), registry, gnupg);
        let keys = gnupg.secret_keys()?;
        let other =
            |key: &&SecretKey| Some(&key.fingerprint) != begun.as_ref() && key.is_usable() && key.is_named(email);
        if let Some(key) = keys.iter().find(other) {
            return Err(Failure::Failed(format!(
                "{0} holds a key for {email} already ({1}): take it with --key-type existing --key {1}, or give another \
                 --email",
                gnupg.place(),
                key.fingerprint
            )));
        }
    }
    Ok(())
}

fn check_address(plan: &Plan, email: &str, before: &[Plan], registry: &Makers) -> Result<(), Failure> {
    let same = |other: &&Plan| other.email.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(email));
    let other = before.iter().find(same).map(|other| format!("the maker {}", other.name));
    let other = match other {
        Some(other) => Some(other),
        None => registry.address_taken(&format!("{}.pgp", plan.name), email)?,
    };
    match other {
        Some(other) => Err(Failure::Failed(shared(&plan.name, &other, email) + "give another --email")),
        None => Ok(()),
    }
}

/// The maker that is planned, still without a key.
fn maker(plan: &Plan, arguments: &CreateArguments, gnupg: &Gnupg) -> Maker {
    Maker {
        name: plan.name.clone(),
        path: plan.path.clone(),
        email: plan.email.clone().unwrap_or_default(),
        full_name: plan.full_name.clone(),
        note: plan.note.clone(),
        key_file: format!("{}.pgp", plan.name),
        gnupg_home: gnupg.home.clone(),
        lookaside: Some(arguments.lookaside.clone()),
        insecure: arguments.insecure,
        keys: Vec::new(),
    }
}

/// The key of an earlier run for this maker that was broken off, if it is what is wanted now.
fn resumable(plan: &Plan, maker: &Maker, registry: &Makers, gnupg: &Gnupg) -> Option<String> {
    let same = |begun: &&Maker| begun.name == maker.name && begun.gnupg_home == maker.gnupg_home;
    registry.begun().iter().find(same)?;
    let left = leftover::unrecorded(registry, maker, &leftover::secret_keys(gnupg));
    left.into_iter().rfind(|key| leftover::fits(key, &plan.key, gnupg)).map(|key| key.fingerprint)
}

/// The key of a maker: what is made is announced before, so that nothing is left behind unknown.
fn key(plan: &Plan, maker: &Maker, registry: &mut Makers, gnupg: &Gnupg) -> Result<Obtained, Failure> {
    if let PlannedKey::Existing(_) = plan.key {
        return obtain(&plan.key, maker, gnupg, registry);
    }
    if let Some(fingerprint) = resumable(plan, maker, registry, gnupg) {
        complain(&format!(
            "note: the making of {} was broken off after key {fingerprint} was made: it is finished with that key",
            maker.name
        ));
        return Ok(Obtained::found(examine(&fingerprint, &maker.name, gnupg, registry)?));
    }
    registry.begin(maker.clone())?;
    obtain(&plan.key, maker, gnupg, registry).inspect_err(|_| forget(registry, maker, gnupg))
}

/// Nothing of this maker is in its home: it was never begun.
fn forget(registry: &mut Makers, maker: &Maker, gnupg: &Gnupg) {
    if leftover::unrecorded(registry, maker, &leftover::secret_keys(gnupg)).is_empty() {
        // What stays recorded has no key that could be found.
        let _ = registry.give_up(&maker.name);
    }
}

fn make(plan: &Plan, arguments: &CreateArguments, gnupg: &Gnupg, registry: &mut Makers) -> Result<Maker, Failure> {
    let mut maker = maker(plan, arguments, gnupg);
    let key = key(plan, &maker, registry, gnupg)?;
    maker.keys.push(MakerKey::active(&key.info.fingerprint, SystemTime::now()));
    if maker.email.is_empty() {
        maker.email = key.info.addresses.first().cloned().unwrap_or_default();
    }
    let added = plan_email_is_in(plan, &key.info).and_then(|()| Ok(registry.add(maker.clone(), &key.armored)?));
    added.inspect_err(|_| {
        key.take_back(gnupg);
        forget(registry, &maker, gnupg);
    })?;
    Ok(maker)
}

fn plan_email_is_in(plan: &Plan, key: &KeyInfo) -> Result<(), Failure> {
    match &plan.email {
        Some(email) if !key.addresses.contains(&email.to_ascii_lowercase()) => Err(Failure::Failed(format!(
            "key {} does not carry {email}, only {}: leave --email out",
            key.fingerprint,
            key.addresses.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn report(arguments: &CreateArguments, made: &[Maker], partly: bool) -> Result<(), Failure> {
    if made.is_empty() {
        return Ok(());
    }
    for maker in made {
        let path = arguments.host.dir.join("keys").join(&maker.key_file);
        let key = maker.active().map(|key| key.fingerprint.as_str()).unwrap_or_default();
        complain(&format!("{} signs for {} with key {key}, public in {}", maker.name, maker.path, path.display()));
    }
    if arguments.output == Printed::Json {
        let object = |maker: &Maker| {
            json!({
                "name": maker.name,
                "path": maker.path,
                "email": maker.email,
                "fingerprint": maker.active().map(|key| &key.fingerprint),
                "keyFile": arguments.host.dir.join("keys").join(&maker.key_file),
            })
        };
        print(&format!("{:#}\n", json!({"makers": made.iter().map(object).collect::<Vec<_>>()})));
    }
    if arguments.entries.apply && !partly {
        return entries::apply(made, &arguments.entries).map_err(|error| {
            let (Failure::Usage(why) | Failure::Failed(why)) = error;
            let way =
                "the makers are made, the policy is not: podseal imagemaker policy --apply does it for all makers";
            Failure::Failed(format!("{why}; {way}"))
        });
    }
    if arguments.output == Printed::Yaml {
        print(&entries::yaml(made, &arguments.entries)?);
    }
    Ok(())
}
