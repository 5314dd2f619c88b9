//! The key that is to be made or taken: its kind, size, lifetime and passphrase.

use std::time::{Duration, SystemTime};

use super::prompt::Terminal;
use super::{Failure, given};
use crate::cli::args::imagemaker::{KeyArguments, KeyType};
use crate::signature::openpgp::{KeyAlgorithm, accepted_until};
use crate::signing::gnupg::{Algorithm, Passphrase, Secret};
use crate::signing::makers::{Period, date};

/// A key that a maker is to have.
#[derive(Debug, Clone)]
pub(super) enum PlannedKey {
    /// One that is made.
    New {
        /// What it is.
        algorithm: Algorithm,
        /// Its size.
        bits: u32,
        /// How long it is valid.
        lifetime: Option<Duration>,
        /// Its passphrase.
        passphrase: Passphrase,
    },
    /// One that is there, by fingerprint or address.
    Existing(String),
}

/// What flags leave open and only a person can say.
pub(super) fn missing(arguments: &KeyArguments, full_name: bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    match arguments.key_type {
        Some(KeyType::Existing) => return if arguments.key.is_none() { vec!["--key"] } else { missing },
        None => missing.push("--key-type"),
        Some(_) => {}
    }
    if arguments.expires.is_none() {
        missing.push("--expires");
    }
    if !full_name {
        missing.push("--full-name");
    }
    let passphrase = &arguments.passphrase;
    if passphrase.passphrase_file.is_none() && !passphrase.passphrase_agent && !arguments.no_passphrase {
        missing.push("--passphrase-file, --passphrase-agent or --no-passphrase");
    }
    missing
}

pub(super) fn check_flags(arguments: &KeyArguments) -> Result<(), Failure> {
    let usage = |why: &str| Err(Failure::Usage(why.to_owned()));
    match arguments.key_type {
        Some(KeyType::Existing | KeyType::Ed25519) if arguments.bits.is_some() => {
            usage("--bits is for RSA and DSA keys")
        }
        Some(KeyType::Existing) | None => Ok(()),
        Some(_) if arguments.key.is_some() => usage("--key is for --key-type existing"),
        Some(_) => Ok(()),
    }
}

/// Somebody to ask, if something is missing; nobody when nothing is.
pub(super) fn respondent(missing: &[&str]) -> Result<Option<Terminal>, Failure> {
    if missing.is_empty() {
        return Ok(None);
    }
    let why = || format!("missing, with no terminal to ask at: {}", missing.join("; "));
    Terminal::open().map(Some).ok_or_else(|| Failure::Usage(why()))
}

/// The key of `rotate`.
pub(super) fn key(arguments: &KeyArguments, whose: &str, now: SystemTime) -> Result<PlannedKey, Failure> {
    check_flags(arguments)?;
    let mut terminal = respondent(&missing(arguments, true))?;
    let kind = key_type(arguments, terminal.as_mut())?;
    if kind == KeyType::Existing {
        return existing(arguments, terminal.as_mut()).map(PlannedKey::Existing);
    }
    let (bits, lifetime) = size_and_lifetime(arguments, kind, terminal.as_mut(), now)?;
    let passphrase = passphrase(arguments, whose, terminal.as_mut())?;
    Ok(PlannedKey::New { algorithm: algorithm(kind), bits, lifetime, passphrase })
}

const KINDS: [(KeyType, &str); 6] = [
    (KeyType::Rsa, "RSA, signing and encryption"),
    (KeyType::Dsa, "DSA and Elgamal"),
    (KeyType::DsaSign, "DSA, signing only"),
    (KeyType::RsaSign, "RSA, signing only"),
    (KeyType::Ed25519, "Ed25519, signing only"),
    (KeyType::Existing, "a key that is there: on a card or in the GnuPG home"),
];

pub(super) fn key_type(arguments: &KeyArguments, terminal: Option<&mut Terminal>) -> Result<KeyType, Failure> {
    match (arguments.key_type, terminal) {
        (Some(kind), _) => Ok(kind),
        (None, None) => Err(Failure::Usage("--key-type is missing".to_owned())),
        (None, Some(terminal)) => {
            for (number, (_, text)) in (1..).zip(KINDS) {
                terminal.say(&format!("  {number}  {text}"))?;
            }
            terminal.ask("Kind of key", Some("1"), |answer| {
                let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                let kind = number.and_then(|number| KINDS.get(number)).map(|(kind, _)| *kind);
                kind.ok_or_else(|| "a number of the list".to_owned())
            })
        }
    }
}

pub(super) fn existing(arguments: &KeyArguments, terminal: Option<&mut Terminal>) -> Result<String, Failure> {
    match (&arguments.key, terminal) {
        (Some(key), _) => Ok(key.clone()),
        (None, Some(terminal)) => terminal.ask("Fingerprint of the key, or the address in it", None, |answer| {
            if answer.is_empty() { Err("gpg --list-secret-keys shows them".to_owned()) } else { Ok(answer.to_owned()) }
        }),
        (None, None) => Err(Failure::Usage("--key is missing".to_owned())),
    }
}

pub(super) fn algorithm(kind: KeyType) -> Algorithm {
    match kind {
        KeyType::Rsa => Algorithm::Rsa,
        KeyType::RsaSign => Algorithm::RsaSign,
        KeyType::Dsa => Algorithm::Dsa,
        KeyType::DsaSign => Algorithm::DsaSign,
        KeyType::Ed25519 | KeyType::Existing => Algorithm::Ed25519,
    }
}

pub(super) fn size_and_lifetime(
    arguments: &KeyArguments,
    kind: KeyType,
    mut terminal: Option<&mut Terminal>,
    now: SystemTime,
) -> Result<(u32, Option<Duration>), Failure> {
    let (usual, largest) = match kind {
        KeyType::Rsa | KeyType::RsaSign => (3072, 4096),
        KeyType::Dsa | KeyType::DsaSign => (2048, 3072),
        KeyType::Ed25519 | KeyType::Existing => (256, 256),
    };
    let check = |bits: u32| check_size(kind, bits, largest, now).map(|()| bits);
    let bits = match (arguments.bits, &mut terminal) {
        (Some(bits), _) => check(bits).map_err(Failure::Usage)?,
        (None, Some(terminal)) if usual < largest => {
            // A kind that is refused in every size is so at once, with the way out.
            check(largest).map_err(Failure::Usage)?;
            terminal.ask("Bits", Some(&usual.to_string()), |answer| {
                answer.parse().map_err(|_| "a number".to_owned()).and_then(check)
            })?
        }
        _ => check(usual).map_err(Failure::Usage)?,
    };
    let lifetime = match (arguments.expires, terminal) {
        (Some(period), _) => period,
        (None, Some(terminal)) => terminal.ask("Valid for (0 for ever, 30d, 4w, 6m, 2y)", Some("2y"), str::parse)?,
        (None, None) => return Err(Failure::Usage("--expires is missing".to_owned())),
    };
    let Period(lifetime) = lifetime;
    Ok((bits, lifetime))
}

/// Whether signatures by such a key would be taken, and whether gpg makes one.
fn check_size(kind: KeyType, bits: u32, largest: u32, now: SystemTime) -> Result<(), String> {
    let algorithm = match kind {
        KeyType::Rsa | KeyType::RsaSign => KeyAlgorithm::Rsa,
        KeyType::Dsa | KeyType::DsaSign => KeyAlgorithm::Dsa,
        KeyType::Ed25519 | KeyType::Existing => KeyAlgorithm::Ed25519,
    };
    let instead = "take --key-type ed25519, or an RSA key of 2048 bits or more";
    accepted_until(algorithm, bits, now)
        .map_err(|why| format!("{why}: podseal takes no signature by such a key; {instead}"))?;
    if bits > largest { Err(format!("gpg makes such keys of at most {largest} bits")) } else { Ok(()) }
}

/// When signatures by a new key end to be taken although the key goes on, for a note.
pub(super) fn early_end(key: &PlannedKey, now: SystemTime) -> Option<String> {
    let PlannedKey::New { algorithm: Algorithm::Dsa | Algorithm::DsaSign, bits, lifetime, .. } = key else {
        return None;
    };
    let end = accepted_until(KeyAlgorithm::Dsa, *bits, now).ok().flatten()?;
    let own = lifetime.and_then(|lifetime| now.checked_add(lifetime));
    own.is_none_or(|own| own > end)
        .then(|| format!("signatures by DSA keys are taken until {} only; Ed25519 has no such end", date(end)))
}

pub(super) fn passphrase(
    arguments: &KeyArguments,
    whose: &str,
    terminal: Option<&mut Terminal>,
) -> Result<Passphrase, Failure> {
    if arguments.no_passphrase {
        return Ok(Passphrase::Prompted(Secret::none()));
    }
    match (given(&arguments.passphrase)?, terminal) {
        (Some(passphrase), _) => Ok(passphrase),
        (None, Some(terminal)) => terminal.new_secret(whose).map(Passphrase::Prompted),
        (None, None) => Err(Failure::Usage("a passphrase flag is missing".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_whose_signatures_nobody_takes_is_refused_with_another_way() {
        let now = SystemTime::now();
        for (kind, bits) in
            [(KeyType::Dsa, 1024), (KeyType::DsaSign, 1024), (KeyType::Rsa, 1024), (KeyType::RsaSign, 2047)]
        {
            let why = check_size(kind, bits, 4096, now).unwrap_err();
            assert!(why.contains("too weak") && why.contains("--key-type ed25519"), "{why}");
        }
        check_size(KeyType::RsaSign, 2048, 4096, now).unwrap();
        assert!(check_size(KeyType::Rsa, 8192, 4096, now).unwrap_err().contains("at most 4096"));
        let after = SystemTime::from("2031-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
        assert!(check_size(KeyType::Dsa, 3072, 3072, after).unwrap_err().contains("--key-type ed25519"));
    }
}
