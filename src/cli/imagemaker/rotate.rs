//! `podseal imagemaker rotate`: a new key beside those that a maker has, which end by themselves.

use std::process::ExitCode;
use std::time::SystemTime;

use super::choice::PlannedKey;
use super::create::home;
use super::home::{gnupg_of, place};
use super::keys::{assemble, published};
use super::obtain::{Obtained, examine, obtain};
use super::{Failure, choice, file_passphrase, given, leftover, of_key, usable_home};
use crate::cli::args::imagemaker::{PassphraseArguments, RotateArguments};
use crate::cli::output::{complain, print};
use crate::signing::gnupg::{Gnupg, GnupgError, Passphrase};
use crate::signing::makers::{Maker, MakerKey, Makers, Period, State, certificates, date};

/// A key that goes on for longer than it may, and what may unlock it, never nothing.
struct Old {
    fingerprint: String,
    passphrases: Vec<Passphrase>,
}

pub(super) fn run(arguments: &RotateArguments) -> Result<ExitCode, Failure> {
    let Period(Some(overlap)) = arguments.overlap else {
        return Err(Failure::Usage(
            "--overlap 0 would let the old key live for ever: give a time such as 30d".to_owned(),
        ));
    };
    let now = SystemTime::now();
    let end = now.checked_add(overlap).unwrap_or(now);
    let mut makers = Makers::open(&arguments.host.dir)?;
    let mut maker = makers.get(&arguments.name)?.clone();
    let planned = choice::key(&arguments.key, &maker.name, now)?;
    if let Some(note) = choice::early_end(&planned, now) {
        complain(&format!("warning: {note}"));
    }
    let unpublished = leftover::unpublished(&makers, &maker, now);
    let new_home = new_home(arguments, &maker)?;
    let gnupg = Gnupg::new(new_home.clone());
    usable_home(&maker, &gnupg)?;
    // Asked for before anything is made.
    let old = lasting(arguments, &makers, &maker, (unpublished.as_deref(), &gnupg), end)?;
    let key = match unpublished {
        Some(fingerprint) => finish(&fingerprint, &gnupg, &makers, &maker)?,
        None => new_key(&planned, &gnupg, &makers, &maker)?,
    };
    maker.gnupg_home = new_home;
    let done = retire(&maker, &old, &gnupg, end).and_then(|()| {
        record(&mut maker, &makers, &key.info.fingerprint, &gnupg, end);
        let file = assemble(&makers, &maker, &gnupg)?;
        Ok(makers.update(maker.clone(), &file)?)
    });
    done.inspect_err(|_| {
        complain("the key file is as it was; the old key's own expiry may be set in its home already");
        key.take_back(&gnupg);
    })?;
    report(&makers, &maker, &key)
}

fn new_home(arguments: &RotateArguments, maker: &Maker) -> Result<Option<std::path::PathBuf>, Failure> {
    let gone = maker.gnupg_home.as_ref().is_some_and(|home| !home.is_dir());
    if gone && arguments.key.gnupg_home.is_none() {
        // The environment's home is somebody's, and nobody said that it is the maker's.
        usable_home(maker, &gnupg_of(maker)?)?;
    }
    let Some(new) = home(arguments.key.gnupg_home.as_deref(), &arguments.host.dir)? else {
        return Ok(gnupg_of(maker)?.home);
    };
    let new = Some(new);
    let moved = |key: &MakerKey| gone && Gnupg::new(new.clone()).secret_key(&key.fingerprint).is_ok();
    if new != maker.gnupg_home && maker.active().is_some_and(|key| !moved(key)) {
        return Err(Failure::Usage(format!(
            "the keys of {} are in {}: both keys must be in one home while they overlap",
            maker.name,
            place(maker)
        )));
    }
    Ok(new)
}

/// The keys that would outlive the overlap, each with its passphrase: those in use, and those that an earlier rotation
/// gave a longer time.
fn lasting(
    arguments: &RotateArguments,
    makers: &Makers,
    maker: &Maker,
    (new, gnupg): (Option<&str>, &Gnupg),
    end: SystemTime,
) -> Result<Vec<Old>, Failure> {
    let mut lasting = Vec::new();
    for key in maker.keys.iter().filter(|key| key.state != State::Revoked && Some(key.fingerprint.as_str()) != new) {
        let fingerprint = &key.fingerprint;
        let own = expiry(makers, maker, gnupg, fingerprint);
        if own.is_some_and(|own| own <= end) {
            continue;
        }
        // Who has taken an old secret key away has an end for it already, only a later one.
        if let (State::Retiring, Some(own)) = (key.state, own)
            && !gnupg.secret_key(fingerprint).is_ok_and(|key| key.has_secret)
        {
            complain(&format!(
                "note: the secret part of key {fingerprint} is not in {}: it verifies until {} as before; podseal \
                 imagemaker revoke {} --fingerprint {fingerprint} ends it at once",
                gnupg.place(),
                date(own),
                maker.name
            ));
            continue;
        }
        let passphrases = old_passphrases(arguments, gnupg, fingerprint)?;
        lasting.push(Old { fingerprint: fingerprint.clone(), passphrases });
    }
    Ok(lasting)
}

/// When a key ends by itself, as its home has it, or else as it is published.
fn expiry(makers: &Makers, maker: &Maker, gnupg: &Gnupg, fingerprint: &str) -> Option<SystemTime> {
    let bytes = gnupg.export(fingerprint).ok().or_else(|| makers.published(maker, fingerprint).ok())?;
    let held = certificates("key", &bytes, SystemTime::now());
    held.into_iter().find(|key| key.fingerprint == fingerprint).and_then(|key| key.expires)
}

/// A key that a rotation recorded which was broken off before it was published.
fn finish(fingerprint: &str, gnupg: &Gnupg, makers: &Makers, maker: &Maker) -> Result<Obtained, Failure> {
    complain(&format!(
        "note: a rotation of {} was broken off after key {fingerprint} was made: it is finished with that key",
        maker.name
    ));
    Ok(Obtained::found(examine(fingerprint, &maker.name, gnupg, makers)?))
}

/// The newest key of a rotation that was broken off, or else one that is made.
fn new_key(planned: &PlannedKey, gnupg: &Gnupg, makers: &Makers, maker: &Maker) -> Result<Obtained, Failure> {
    let mut left = leftover::unrecorded(makers, maker, &leftover::secret_keys(gnupg));
    if let PlannedKey::Existing(name) = planned {
        left.retain(|key| !key.is_named(name));
    }
    let fitting = left.iter().rposition(|key| leftover::fits(key, planned, gnupg));
    let taken = fitting.map(|at| left.remove(at).fingerprint);
    for key in &left {
        complain(&leftover::note(maker, &key.fingerprint, gnupg));
    }
    match taken {
        Some(fingerprint) => finish(&fingerprint, gnupg, makers, maker),
        None => obtain(planned, maker, gnupg, makers),
    }
}

/// Keys of several rotations may have a passphrase each: those of the files are tried, and the new key's.
fn old_passphrases(arguments: &RotateArguments, gnupg: &Gnupg, key: &str) -> Result<Vec<Passphrase>, Failure> {
    if arguments.old_passphrase_file.is_empty() {
        let none = PassphraseArguments { passphrase_file: None, passphrase_agent: false };
        let flags = if arguments.key.no_passphrase { &none } else { &arguments.key.passphrase };
        return Ok(vec![of_key(gnupg, key, flags)?]);
    }
    let files = arguments.old_passphrase_file.iter().map(|file| file_passphrase(file));
    files.chain(given(&arguments.key.passphrase).transpose()).collect()
}

/// Lets the old keys end themselves: their own self-signatures say when, so that nothing needs to be done then.
fn retire(maker: &Maker, old: &[Old], gnupg: &Gnupg, end: SystemTime) -> Result<(), Failure> {
    for Old { fingerprint, passphrases } in old {
        let mut tried = passphrases.iter().map(|passphrase| gnupg.expire(fingerprint, end, passphrase));
        let wrong = |done: &Result<(), GnupgError>| done.as_ref().is_err_and(GnupgError::is_wrong_passphrase);
        let mut done = tried.next().unwrap_or(Ok(()));
        while wrong(&done) {
            let Some(next) = tried.next() else { break };
            done = next;
        }
        done.map_err(|error| {
            let way = if error.is_wrong_passphrase() {
                format!(
                    "wrong is the passphrase of {}'s old key {fingerprint}: give that by --old-passphrase-file",
                    maker.name
                )
            } else {
                format!(
                    "if the secret part of {fingerprint} is lost: podseal imagemaker revoke {} --fingerprint {fingerprint}",
                    maker.name
                )
            };
            Failure::Failed(format!("{error}; {way}"))
        })?;
    }
    Ok(())
}

/// Every key but the new one is retiring, until the end that it has now.
fn record(maker: &mut Maker, makers: &Makers, new: &str, gnupg: &Gnupg, end: SystemTime) {
    let before = maker.clone();
    for key in maker.keys.iter_mut().filter(|key| key.state != State::Revoked && key.fingerprint != new) {
        let own = expiry(makers, &before, gnupg, &key.fingerprint).unwrap_or(end);
        (key.state, key.until) = (State::Retiring, Some(date(own)));
    }
    if before.keys.iter().all(|key| key.fingerprint != new) {
        maker.keys.push(MakerKey::active(new, SystemTime::now()));
    }
}

fn report(makers: &Makers, maker: &Maker, new: &Obtained) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    // What counts is what readers of the file see.
    let held = makers.certificates(maker, now)?;
    print(&format!("{} signs with key {} from now on\n", maker.name, new.info.fingerprint));
    let mut lasting = None;
    for key in maker.keys.iter().filter(|key| key.state == State::Retiring) {
        let until = key.until.as_deref().unwrap_or_default();
        match held.iter().find(|held| held.fingerprint == key.fingerprint && held.unusable.is_none()) {
            Some(held) if held.expires.map(date).as_deref() == Some(until) => {
                print(&format!("key {} verifies until {until}: sign its images anew until then\n", key.fingerprint));
            }
            Some(_) => lasting = Some(key),
            None => print(&format!("key {} verifies nothing any more\n", key.fingerprint)),
        }
    }
    match lasting {
        None => Ok(ExitCode::SUCCESS),
        Some(key) => Err(Failure::Failed(format!(
            "key {} in {} does not end by {}: set its expiry with gpg, or revoke it",
            key.fingerprint,
            published(makers, maker),
            key.until.as_deref().unwrap_or_default()
        ))),
    }
}
