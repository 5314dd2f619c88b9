//! A key for a maker: made or found, and fit to be published.

use std::time::SystemTime;

use super::Failure;
use super::choice::PlannedKey;
use crate::cli::output::complain;
use crate::signature::openpgp::KeyInfo;
use crate::signing::gnupg::{Gnupg, NewKey};
use crate::signing::makers::{Maker, Makers, certificates};

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

/// Makes the maker's key, or finds it, and makes sure that what it signs would verify.
pub(super) fn obtain(
    planned: &PlannedKey,
    maker: &Maker,
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
                name: maker.full_name.clone(),
                comment: maker.note.clone(),
                email: maker.email.clone(),
            };
            (gnupg.generate(&new, passphrase)?, true)
        }
    };
    let found =
        examine(&fingerprint, &maker.name, gnupg, registry).map(|(info, armored)| Obtained { info, armored, made });
    found.inspect_err(|_| {
        if made {
            take_back(gnupg, &fingerprint);
        }
    })
}

/// What is wrong with an address that two have; the way out follows.
pub(super) fn shared(maker: &str, other: &str, address: &str) -> String {
    format!("the maker {maker} and {other} would both have the address {address}, which names neither of them then: ")
}

/// Whether readers of the key directory can tell the key's addresses from those of others. Where they cannot already, a
/// rotation makes nothing worse and must not be held up.
fn check_addresses(maker: &str, armored: &[u8], registry: &Makers) -> Result<(), Failure> {
    let known = registry.get(maker).ok();
    let own = known.map_or_else(|| format!("{maker}.pgp"), |maker| maker.key_file.clone());
    let found = match registry.address_shared(&own, armored) {
        Err(why) if known.is_some() => {
            complain(&format!("warning: {why}"));
            None
        }
        other => other?,
    };
    let Some((address, other)) = found else { return Ok(()) };
    let now = known.and_then(|maker| registry.key_file_of(maker).ok());
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
