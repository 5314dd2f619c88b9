//! `podseal imagemaker passwd` and `revoke`: the later life of a maker's key.

use std::process::ExitCode;
use std::time::SystemTime;

use super::home::gnupg_of;
use super::prompt::Terminal;
use super::{Failure, check_home, of_key, usable_home};
use crate::cli::args::imagemaker::{PasswdArguments, RevocationReason, RevokeArguments};
use crate::cli::output::{complain, print};
use crate::signature::openpgp::KeyInfo;
use crate::signing::gnupg::{Gnupg, Passphrase, Reason, Secret};
use crate::signing::makers::{Maker, MakerKey, Makers, State, armored, date};

/// When a revocation counts; the figures are those of docs/keys.md, and a test takes the time.
const DELAY: &str = "\
every webhook replica refuses what it signed about a second after the file has changed in the controller's mount, within ten \
seconds where the file system tells nobody of changes (NFS); podseal keys shows it
nodes refuse it once they have the file
";

fn active(maker: &Maker) -> Result<MakerKey, Failure> {
    maker.active().cloned().ok_or_else(|| {
        let way = format!("podseal imagemaker rotate {} makes a new one", maker.name);
        Failure::Failed(format!("the maker {} has no key that is in use: {way}", maker.name))
    })
}

pub(super) fn passwd(arguments: &PasswdArguments) -> Result<ExitCode, Failure> {
    let makers = Makers::read(&arguments.host.dir)?;
    let maker = makers.get(&arguments.name)?;
    let (gnupg, key) = (gnupg_of(maker)?, active(maker)?.fingerprint);
    usable_home(maker, &gnupg)?;
    if arguments.passphrase.passphrase_agent {
        gnupg.change_passphrase_by_agent(&key)?;
    } else {
        // A key on a card is refused here, before anything is asked.
        let protected = gnupg.is_protected(&key)?;
        let new = new_passphrase(arguments)?;
        let old =
            if protected { of_key(&gnupg, &key, &arguments.passphrase)? } else { Passphrase::Prompted(Secret::none()) };
        let new = match new {
            Some(new) => new,
            None => terminal("--new-passphrase-file")?.new_secret(&maker.name)?,
        };
        gnupg.change_passphrase(&key, &old, &new).map_err(|error| {
            let way = "give that by --passphrase-file";
            let wrong = format!("; wrong is the present passphrase of {}'s key {key}: {way}", maker.name);
            Failure::Failed(error.to_string() + if error.is_wrong_passphrase() { &wrong } else { "" })
        })?;
    }
    print(&format!("the key {key} of {} has another passphrase\n", maker.name));
    Ok(ExitCode::SUCCESS)
}

fn new_passphrase(arguments: &PasswdArguments) -> Result<Option<Secret>, Failure> {
    if let Some(file) = &arguments.new_passphrase_file {
        return Ok(Some(Secret::read(file)?));
    }
    terminal("--new-passphrase-file").map(|_| None)
}

fn terminal(flag: &str) -> Result<Terminal, Failure> {
    Terminal::open().ok_or_else(|| Failure::Usage(format!("{flag} is missing, and there is no terminal to ask at")))
}

/// Every certificate of the maker as its home has it now; one that is not there stays as it is published. In one armored
/// block, because some readers take the first one alone.
pub(super) fn assemble(makers: &Makers, maker: &Maker, gnupg: &Gnupg) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    for key in &maker.keys {
        let bytes = match gnupg.export(&key.fingerprint) {
            Ok(bytes) => bytes,
            Err(error) => makers.published(maker, &key.fingerprint).map_err(|_| error)?,
        };
        all.extend_from_slice(&bytes);
    }
    Ok(armored(&all)?)
}

pub(super) fn published(makers: &Makers, maker: &Maker) -> String {
    makers.key_file(&maker.key_file).display().to_string()
}

pub(super) fn revoke(arguments: &RevokeArguments) -> Result<ExitCode, Failure> {
    let mut makers = Makers::open(&arguments.host.dir)?;
    let mut maker = makers.get(&arguments.name)?.clone();
    let held = makers.certificates(&maker, SystemTime::now()).unwrap_or_default();
    let fingerprint = which(&maker, &held, arguments.fingerprint.as_deref())?;
    let gnupg = gnupg_of(&maker)?;
    let lost = format!(
        "if it is lost: podseal imagemaker remove {} --force takes all keys of the maker out of the key directory",
        maker.name
    );
    check_home(&maker, &gnupg, &lost)?;
    revoke_in_home(arguments, &gnupg, &fingerprint)?;
    for key in maker.keys.iter_mut().filter(|key| key.fingerprint == fingerprint) {
        (key.state, key.until) = (State::Revoked, None);
    }
    let file = assemble(&makers, &maker, &gnupg)?;
    makers.update(maker.clone(), &file)?;
    let held = makers.certificates(&maker, SystemTime::now())?;
    if held.iter().any(|key| key.fingerprint == fingerprint && key.unusable.is_none()) {
        return Err(Failure::Failed(format!(
            "key {fingerprint} is revoked, and {} does not say so",
            published(&makers, &maker)
        )));
    }
    print(&format!("key {fingerprint} of {} is revoked in {}\n", maker.name, published(&makers, &maker)));
    print(DELAY);
    if maker.active().is_none() {
        print(&format!(
            "{0} has no key now, and no image of {1} verifies: podseal imagemaker rotate {0} --overlap 1d makes one\n",
            maker.name, maker.path
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// One that was revoked there already, by gpg or by a run that was broken off, only has to be published.
fn revoke_in_home(arguments: &RevokeArguments, gnupg: &Gnupg, fingerprint: &str) -> Result<(), Failure> {
    let reason = match arguments.reason {
        RevocationReason::Unspecified => Reason::Unspecified,
        RevocationReason::Compromised => Reason::Compromised,
        RevocationReason::Superseded => Reason::Superseded,
        RevocationReason::Retired => Reason::Retired,
    };
    let passphrase = match gnupg.secret_key(fingerprint) {
        Ok(key) if key.validity == 'r' => {
            complain(&format!("note: key {fingerprint} is revoked in {} already: that is published", gnupg.place()));
            return Ok(());
        }
        Ok(key) if key.has_secret => of_key(gnupg, fingerprint, &arguments.passphrase)?,
        _ => {
            complain("the secret key is not at hand: the revocation that gpg laid by is used, which states no reason");
            Passphrase::Agent
        }
    };
    Ok(gnupg.revoke(fingerprint, reason, &arguments.note, &passphrase)?)
}

/// The key that is meant: the one that is named, or the only one that is not revoked.
fn which(maker: &Maker, held: &[KeyInfo], named: Option<&str>) -> Result<String, Failure> {
    let usable: Vec<_> = maker.keys.iter().filter(|key| key.state != State::Revoked).collect();
    let described = |key: &&MakerKey| {
        let found = held.iter().find(|held| held.fingerprint == key.fingerprint);
        let ends = found.map_or("-".to_owned(), |found| found.expires.map_or_else(|| "never".to_owned(), date));
        format!("{} ({}, made {}, ends {ends})", key.fingerprint, key.state.label(), key.created)
    };
    let list = || usable.iter().map(described).collect::<Vec<_>>().join(", ");
    match (named, usable.as_slice()) {
        (Some(name), _) => {
            let plain: String = name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_uppercase();
            let found = usable.iter().find(|key| key.fingerprint == plain);
            found.map(|key| key.fingerprint.clone()).ok_or_else(|| {
                Failure::Failed(format!(
                    "the maker {} has no key {name} that could be revoked; it has {}",
                    maker.name,
                    list()
                ))
            })
        }
        (None, [only]) => Ok(only.fingerprint.clone()),
        (None, []) => Err(Failure::Failed(format!("every key of the maker {} is revoked", maker.name))),
        (None, _) => Err(Failure::Usage(format!("--fingerprint is missing: the maker {} has {}", maker.name, list()))),
    }
}
