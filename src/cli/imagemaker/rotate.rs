//! `podseal imagemaker rotate`: a new key beside those that a maker has, which end by themselves.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::choice::PlannedKey;
use super::create::{Holder, Obtained, examine, home, obtain};
use super::keys::{assemble, published};
use super::{Failure, choice, file_passphrase, gnupg_of, leftover, of_key, usable_home};
use crate::cli::args::imagemaker::{PassphraseArguments, RotateArguments};
use crate::cli::output::{complain, print};
use crate::signing::gnupg::{Gnupg, Passphrase};
use crate::signing::makers::{Maker, MakerKey, Makers, Period, State, certificates, date};

/// A key that goes on for longer than it may, and how it is unlocked.
struct Old {
    fingerprint: String,
    passphrase: Passphrase,
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
    report(&makers, &maker, &key, end)
}

fn new_home(arguments: &RotateArguments, maker: &Maker) -> Result<Option<std::path::PathBuf>, Failure> {
    let gone = maker.gnupg_home.as_ref().is_some_and(|home| !home.is_dir());
    if gone && arguments.key.gnupg_home.is_none() {
        // The environment's home is somebody's, and nobody said that it is the maker's.
        usable_home(maker, &gnupg_of(maker))?;
    }
    let new = match home(arguments.key.gnupg_home.as_deref(), &arguments.host.dir)? {
        Some(home) => Some(home),
        None => maker.gnupg_home.clone(),
    };
    let moved = |key: &MakerKey| gone && Gnupg::new(new.clone()).secret_key(&key.fingerprint).is_ok();
    if new != maker.gnupg_home && maker.active().is_some_and(|key| !moved(key)) {
        return Err(Failure::Usage(format!(
            "the keys of {} are in {}: both keys must be in one home while they overlap",
            maker.name,
            gnupg_of(maker).place()
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
        if expiry(makers, maker, gnupg, &key.fingerprint).is_none_or(|own| own > end) {
            let passphrase = old_passphrase(arguments, gnupg, &key.fingerprint)?;
            lasting.push(Old { fingerprint: key.fingerprint.clone(), passphrase });
        }
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
    let mut left = leftover::unrecorded(makers, maker, gnupg);
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
        None => {
            let holder = Holder { name: &maker.full_name, note: &maker.note, email: &maker.email };
            obtain(planned, &holder, &maker.name, gnupg, makers)
        }
    }
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

/// Lets the old keys end themselves: their own self-signatures say when, so that nothing needs to be done then.
fn retire(maker: &Maker, old: &[Old], gnupg: &Gnupg, end: SystemTime) -> Result<(), Failure> {
    for Old { fingerprint, passphrase } in old {
        gnupg.expire(fingerprint, end, passphrase).map_err(|error| {
            let why = error.to_string();
            let way = if why.contains("Bad passphrase") {
                format!(
                    "; this is the passphrase of {}'s old key {fingerprint}: give it by --old-passphrase-file",
                    maker.name
                )
            } else {
                format!("; if the secret part of {fingerprint} is lost: podseal imagemaker revoke {}", maker.name)
            };
            Failure::Failed(why + &way)
        })?;
    }
    Ok(())
}

/// Every key but the new one is retiring, until its own end or that of the overlap, whichever comes first.
fn record(maker: &mut Maker, makers: &Makers, new: &str, gnupg: &Gnupg, end: SystemTime) {
    let before = maker.clone();
    for key in maker.keys.iter_mut().filter(|key| key.state != State::Revoked && key.fingerprint != new) {
        let own = expiry(makers, &before, gnupg, &key.fingerprint).unwrap_or(end);
        (key.state, key.until) = (State::Retiring, Some(date(own.min(end))));
    }
    if before.keys.iter().all(|key| key.fingerprint != new) {
        maker.keys.push(MakerKey::active(new, SystemTime::now()));
    }
}

fn report(makers: &Makers, maker: &Maker, new: &Obtained, end: SystemTime) -> Result<ExitCode, Failure> {
    // What counts is what readers of the file see.
    let held = makers.certificates(maker, SystemTime::now())?;
    let lasting = held.iter().find(|key| {
        key.unusable.is_none()
            && key.fingerprint != new.info.fingerprint
            && key.expires.is_none_or(|own| own > end + Duration::from_secs(60))
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
