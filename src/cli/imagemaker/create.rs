//! `podseal imagemaker create`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use super::choice::{PlannedKey, early_end};
use super::plan::{Plan, makers};
use super::{Failure, entries, hosts};
use crate::cli::args::imagemaker::{CreateArguments, Printed};
use crate::cli::output::{complain, print};
use crate::signature::openpgp::KeyInfo;
use crate::signing::gnupg::{Gnupg, NewKey};
use crate::signing::makers::{Maker, MakerKey, Makers, certificates, lay_out};

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
        check(plan, plans.get(..at).unwrap_or_default(), &registry, &gnupg)?;
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

fn check(plan: &Plan, before: &[Plan], registry: &Makers, gnupg: &Gnupg) -> Result<(), Failure> {
    if let Some(why) = registry.refuse(&plan.name, &plan.path) {
        return Err(Failure::Failed(why));
    }
    if let Some(email) = &plan.email {
        let same = |other: &&Plan| other.email.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(email));
        let other = before.iter().find(same).map(|other| format!("the maker {}", other.name));
        let other = match other {
            Some(other) => Some(other),
            None => registry.address_taken(&format!("{}.pgp", plan.name), email)?,
        };
        if let Some(other) = other {
            return Err(Failure::Failed(shared(&plan.name, &other, email) + "give another --email"));
        }
    }
    if let (PlannedKey::New { .. }, Some(email)) = (&plan.key, &plan.email) {
        let keys = gnupg.secret_keys()?;
        if let Some(key) = keys.iter().find(|key| key.is_usable() && key.is_named(email)) {
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

fn make(plan: &Plan, arguments: &CreateArguments, gnupg: &Gnupg, registry: &mut Makers) -> Result<Maker, Failure> {
    let key_file = format!("{}.pgp", plan.name);
    let email = plan.email.clone().unwrap_or_default();
    let holder = Holder { name: &plan.full_name, note: &plan.note, email: &email };
    let key = obtain(&plan.key, &holder, &plan.name, gnupg, registry)?;
    let maker = Maker {
        name: plan.name.clone(),
        path: plan.path.clone(),
        email: if email.is_empty() { key.info.addresses.first().cloned().unwrap_or_default() } else { email },
        full_name: plan.full_name.clone(),
        note: plan.note.clone(),
        key_file,
        gnupg_home: gnupg.home.clone(),
        lookaside: Some(arguments.lookaside.clone()),
        insecure: arguments.insecure,
        keys: vec![MakerKey::active(&key.info.fingerprint, SystemTime::now())],
    };
    let added = plan_email_is_in(plan, &key.info).and_then(|()| Ok(registry.add(maker.clone(), &key.armored)?));
    added.inspect_err(|_| key.take_back(gnupg))?;
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

/// Whose key it is.
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    pub(super) note: &'a str,
    pub(super) email: &'a str,
}

/// A key that is at hand, made or found.
pub(super) struct Obtained {
    pub(super) info: KeyInfo,
    pub(super) armored: Vec<u8>,
    made: bool,
}

impl Obtained {
    /// One that was there before.
    pub(super) fn found((info, armored): (KeyInfo, Vec<u8>)) -> Self {
        Self { info, armored, made: false }
    }

    /// Takes away what was only just made, so that another try begins where this one did.
    pub(super) fn take_back(&self, gnupg: &Gnupg) {
        if self.made {
            take_back(gnupg, &self.info.fingerprint);
        }
    }
}

fn take_back(gnupg: &Gnupg, fingerprint: &str) {
    if let Err(error) = gnupg.delete(fingerprint) {
        complain(&format!("the new key {fingerprint} stays in {}: {error}", gnupg.place()));
    }
}

/// Makes the key, or finds it, and makes sure that what it signs would verify.
pub(super) fn obtain(
    planned: &PlannedKey,
    holder: &Holder<'_>,
    maker: &str,
    gnupg: &Gnupg,
    registry: &Makers,
) -> Result<Obtained, Failure> {
    let (fingerprint, made) = match planned {
        PlannedKey::Existing(name) => (gnupg.secret_key(name)?.fingerprint, false),
        PlannedKey::New { algorithm, bits, lifetime, passphrase } => {
            let new = NewKey {
                algorithm: *algorithm,
                bits: *bits,
                lifetime: *lifetime,
                name: holder.name.to_owned(),
                comment: holder.note.to_owned(),
                email: holder.email.to_owned(),
            };
            (gnupg.generate(&new, passphrase)?, true)
        }
    };
    let found = examine(&fingerprint, maker, gnupg, registry).map(|(info, armored)| Obtained { info, armored, made });
    found.inspect_err(|_| {
        if made {
            take_back(gnupg, &fingerprint);
        }
    })
}

fn shared(maker: &str, other: &str, address: &str) -> String {
    format!("the maker {maker} and {other} would both have the address {address}, which names neither of them then: ")
}

/// Whether readers of the key directory can tell the key's addresses from those of others. Where they cannot already, a
/// rotation makes nothing worse and must not be held up.
fn check_addresses(maker: &str, armored: &[u8], registry: &Makers) -> Result<(), Failure> {
    let own = format!("{maker}.pgp");
    let Some((address, other)) = registry.address_shared(&own, armored)? else { return Ok(()) };
    let now = registry.get(maker).ok().and_then(|maker| registry.key_file_of(maker).ok());
    let before = now.map(|file| registry.address_shared(&own, &file)).transpose()?.flatten();
    let text = shared(maker, &other, &address)
        + "take another key, or delete that User ID from this one (gpg --edit-key, deluid)";
    if before.is_some_and(|(before, _)| before == address) {
        complain(&format!("warning: {text}"));
        return Ok(());
    }
    Err(Failure::Failed(text))
}

/// A key of the home for this maker, if what it signs would verify and it is nobody else's.
pub(super) fn examine(
    fingerprint: &str,
    maker: &str,
    gnupg: &Gnupg,
    registry: &Makers,
) -> Result<(KeyInfo, Vec<u8>), Failure> {
    if let Some(other) = registry.holder(fingerprint).filter(|other| other.name != maker) {
        return Err(Failure::Failed(format!(
            "key {fingerprint} is the maker {}'s: each has a key of its own",
            other.name
        )));
    }
    let armored = gnupg.export_armored(fingerprint)?;
    let found = certificates("key", &armored, SystemTime::now());
    let Some(info) = found.into_iter().find(|key| key.fingerprint == fingerprint) else {
        return Err(Failure::Failed(format!("key {fingerprint} cannot be read as podseal reads key files")));
    };
    match info.unusable {
        Some(why) => Err(Failure::Failed(format!("podseal takes no signature by it: {why}; take --key-type ed25519"))),
        None => check_addresses(maker, &armored, registry).map(|()| (info, armored)),
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
