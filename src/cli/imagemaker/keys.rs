//! `podseal imagemaker passwd`, `rotate` and `revoke`: the later life of a maker's key.

use std::process::ExitCode;
use std::time::SystemTime;

use super::create::{Holder, Obtained, home, obtain};
use super::prompt::Terminal;
use super::{Failure, choice, file_passphrase, gnupg_of, of_key};
use crate::cli::args::imagemaker::{
    PassphraseArguments, PasswdArguments, RevocationReason, RevokeArguments, RotateArguments,
};
use crate::cli::output::{complain, print};
use crate::signing::gnupg::{Gnupg, Passphrase, Reason, Secret};
use crate::signing::makers::{Maker, MakerKey, Makers, Period, State, armored, certificates, date};

fn active(maker: &Maker) -> Result<MakerKey, Failure> {
    maker.active().cloned().ok_or_else(|| {
        let way = format!("podseal imagemaker rotate {} makes a new one", maker.name);
        Failure::Failed(format!("the maker {} has no key that is in use: {way}", maker.name))
    })
}

pub(super) fn passwd(arguments: &PasswdArguments) -> Result<ExitCode, Failure> {
    let makers = Makers::read(&arguments.host.dir)?;
    let maker = makers.get(&arguments.name)?;
    let (gnupg, key) = (gnupg_of(maker), active(maker)?.fingerprint);
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
        gnupg.change_passphrase(&key, &old, &new)?;
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

pub(super) fn rotate(arguments: &RotateArguments) -> Result<ExitCode, Failure> {
    let Period(Some(overlap)) = arguments.overlap else {
        return Err(Failure::Usage(
            "--overlap 0 would let the old key live for ever: give a time such as 30d".to_owned(),
        ));
    };
    let now = SystemTime::now();
    let mut makers = Makers::open(&arguments.host.dir)?;
    let mut maker = makers.get(&arguments.name)?.clone();
    let planned = choice::key(&arguments.key, &maker.name, now)?;
    if let Some(note) = choice::early_end(&planned, now) {
        complain(&format!("warning: {note}"));
    }
    let old_home = gnupg_of(&maker);
    let old: Vec<_> =
        maker.keys.iter().filter(|key| key.state == State::Active).map(|key| key.fingerprint.clone()).collect();
    // Asked for before anything is made.
    let unlocked = old.iter().map(|key| Ok((key.clone(), old_passphrase(arguments, &old_home, key)?)));
    let unlocked: Vec<_> = unlocked.collect::<Result<_, Failure>>()?;
    let new_home = match home(arguments.key.gnupg_home.as_deref(), &arguments.host.dir)? {
        Some(home) => Some(home),
        None => maker.gnupg_home.clone(),
    };
    if new_home != maker.gnupg_home && !old.is_empty() {
        return Err(Failure::Usage(format!(
            "the keys of {} are in {}: both keys must be in one home while they overlap",
            maker.name,
            old_home.place()
        )));
    }
    let gnupg = Gnupg::new(new_home.clone());
    let holder = Holder { name: &maker.full_name, note: &maker.note, email: &maker.email };
    let key = obtain(&planned, &holder, &gnupg, &makers)?;
    let end = now.checked_add(overlap).unwrap_or(now);
    maker.gnupg_home = new_home;
    let done = retire(&mut maker, &unlocked, &gnupg, end).and_then(|()| {
        maker.keys.push(MakerKey::active(&key.info.fingerprint, SystemTime::now()));
        let file = assemble(&makers, &maker, &gnupg)?;
        Ok(makers.update(maker.clone(), &file)?)
    });
    done.inspect_err(|_| {
        complain("the key file is as it was; the old key's own expiry may be set in its home already");
        key.take_back(&gnupg);
    })?;
    report(&makers, &maker, &key, end)
}

fn old_passphrase(arguments: &RotateArguments, gnupg: &Gnupg, key: &str) -> Result<Passphrase, Failure> {
    if let Some(file) = &arguments.old_passphrase_file {
        return file_passphrase(file);
    }
    if arguments.key.no_passphrase {
        let none = PassphraseArguments { passphrase_file: None, passphrase_agent: false };
        return of_key(gnupg, key, &none);
    }
    of_key(gnupg, key, &arguments.key.passphrase)
}

/// Lets the old keys end themselves: their own self-signatures say when, so that nothing needs to be done then. One that
/// ends earlier anyway is left to do so.
fn retire(maker: &mut Maker, unlocked: &[(String, Passphrase)], gnupg: &Gnupg, end: SystemTime) -> Result<(), Failure> {
    for (fingerprint, passphrase) in unlocked {
        let certificate = gnupg.export(fingerprint)?;
        let held = certificates("key", &certificate, SystemTime::now());
        let expires = held.iter().find(|key| key.fingerprint == *fingerprint).and_then(|key| key.expires);
        let until = match expires {
            Some(own) if own <= end => own,
            _ => {
                gnupg.expire(fingerprint, end, passphrase)?;
                end
            }
        };
        for key in maker.keys.iter_mut().filter(|key| key.fingerprint == *fingerprint) {
            (key.state, key.until) = (State::Retiring, Some(date(until)));
        }
    }
    Ok(())
}

/// Every certificate of the maker as its home has it now; one that is not there stays as it is published. In one armored
/// block, because some readers take the first one alone.
fn assemble(makers: &Makers, maker: &Maker, gnupg: &Gnupg) -> Result<Vec<u8>, Failure> {
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

fn published(makers: &Makers, maker: &Maker) -> String {
    makers.key_file(&maker.key_file).display().to_string()
}

fn report(makers: &Makers, maker: &Maker, new: &Obtained, end: SystemTime) -> Result<ExitCode, Failure> {
    // What counts is what readers of the file see.
    let held = makers.certificates(maker, SystemTime::now())?;
    let lasting = held.iter().find(|key| {
        key.unusable.is_none()
            && key.fingerprint != new.info.fingerprint
            && key.expires.is_none_or(|own| own > end + std::time::Duration::from_secs(60))
    });
    if let Some(key) = lasting {
        return Err(Failure::Failed(format!(
            "key {} in {} does not end by {}: set its expiry with gpg, or revoke it",
            key.fingerprint,
            published(makers, maker),
            date(end)
        )));
    }
    print(&format!("{} signs with key {} from now on\n", maker.name, new.info.fingerprint));
    for key in maker.keys.iter().filter(|key| key.state == State::Retiring) {
        let until = key.until.as_deref().unwrap_or_default();
        print(&format!("key {} verifies until {until}: sign its images anew until then\n", key.fingerprint));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn revoke(arguments: &RevokeArguments) -> Result<ExitCode, Failure> {
    let mut makers = Makers::open(&arguments.host.dir)?;
    let mut maker = makers.get(&arguments.name)?.clone();
    let fingerprint = which(&maker, arguments.fingerprint.as_deref())?;
    let gnupg = gnupg_of(&maker);
    let reason = match arguments.reason {
        RevocationReason::Unspecified => Reason::Unspecified,
        RevocationReason::Compromised => Reason::Compromised,
        RevocationReason::Superseded => Reason::Superseded,
        RevocationReason::Retired => Reason::Retired,
    };
    let there = gnupg.secret_key(&fingerprint).is_ok_and(|key| key.has_secret);
    let passphrase = if there { of_key(&gnupg, &fingerprint, &arguments.passphrase)? } else { Passphrase::Agent };
    if !there {
        complain("the secret key is not at hand: the revocation that gpg laid by is used, which states no reason");
    }
    gnupg.revoke(&fingerprint, reason, &arguments.note, &passphrase)?;
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
    print(
        "webhooks refuse what it signed once the controller has seen the file, about a second after it is in its mount; \
         podseal keys shows it\nnodes refuse it once they have the file\n",
    );
    if maker.active().is_none() {
        print(&format!(
            "{0} has no key now, and no image of {1} verifies: podseal imagemaker rotate {0} --overlap 1d makes one\n",
            maker.name, maker.path
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The key that is meant: the one that is named, or the only one that is not revoked.
fn which(maker: &Maker, named: Option<&str>) -> Result<String, Failure> {
    let usable: Vec<_> = maker.keys.iter().filter(|key| key.state != State::Revoked).collect();
    let list = || usable.iter().map(|key| key.fingerprint.as_str()).collect::<Vec<_>>().join(", ");
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
