//! The trusted certificates and how the one behind a signature is found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sequoia_openpgp::cert::amalgamation::ValidAmalgamation;
use sequoia_openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use sequoia_openpgp::cert::prelude::ValidCert;
use sequoia_openpgp::packet::key::PublicParts;
use sequoia_openpgp::packet::{Signature, UserID};
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle, KeyID};

use super::super::SignatureError;
use super::keyfile;
use crate::domain::printable::printable;

/// Most issuers a signature may name. Real ones name one key, twice: by key ID and by fingerprint.
pub(super) const MAX_ISSUERS: usize = 8;
/// Most keys tried for a signature that names no issuer.
pub(super) const MAX_TRIED: usize = 64;

/// Trusted certificates, each with the key file it came from.
///
/// One certificate occurring several times is merged, so that a revocation or an extension in any copy counts. In
/// several files, it belongs to the one whose name sorts first, and that is reported. The order in which files and
/// certificates come never matters: entries are sorted by fingerprint.
#[derive(Debug, Default)]
pub struct Keyring {
    pub(super) entries: Vec<Entry>,
    /// Every primary key and subkey by its key ID; those are short enough to collide, so there may be several.
    by_key_id: HashMap<KeyID, Vec<Place>>,
    /// Addresses that name nobody, because certificates of different files carry them.
    ambiguous: HashSet<String>,
}

/// A certificate and where it came from.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) cert: Cert,
    pub(super) file: String,
}

/// One key of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    entry: usize,
    key: Fingerprint,
}

/// A trusted key that may have made a signature.
pub(super) struct Candidate<'a> {
    pub(super) entry: &'a Entry,
    pub(super) key: ErasedKeyAmalgamation<'a, PublicParts>,
}

/// A certificate while files are read.
struct Collected {
    cert: Cert,
    files: BTreeSet<String>,
}

impl Keyring {
    /// Reads key files (name and content): binary, armored, concatenated. The second value says, a line each, what was
    /// left out and why, and what else an administrator ought to put right.
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut collected: BTreeMap<Fingerprint, Collected> = BTreeMap::new();
        for (file, bytes) in files {
            let (certs, trouble) = keyfile::read(file, bytes);
            problems.extend(trouble);
            for cert in certs {
                collect(&mut collected, file, cert, &mut problems);
            }
        }
        for (fingerprint, found) in &collected {
            if found.files.len() > 1 {
                let files: Vec<_> = found.files.iter().map(String::as_str).collect();
                problems.push(format!(
                    "certificate {fingerprint} occurs in several key files ({}); it counts as one of the first",
                    files.join(", ")
                ));
            }
        }
        let ambiguous = ambiguous_addresses(&collected, &mut problems);
        let entries: Vec<Entry> = collected
            .into_values()
            .filter_map(|found| Some(Entry { cert: found.cert, file: found.files.into_iter().next()? }))
            .collect();
        (Self { by_key_id: index(&entries), entries, ambiguous }, problems)
    }

    /// Whether there is no certificate at all ("no public keys imported").
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Addresses that name nobody, because certificates of different key files carry them; sorted.
    pub fn ambiguous_addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.ambiguous.iter().map(|a| printable(a).into_owned()).collect();
        addresses.sort();
        addresses
    }

    /// The trusted keys that the signature names as its issuer, in a fixed order.
    ///
    /// Issuer subpackets need not be signed, so they only choose what is tried. A signature that names no issuer is
    /// tried with every key of its algorithm, if there are few enough of them.
    pub(super) fn candidates(&self, sig: &Signature) -> Result<Vec<Candidate<'_>>, SignatureError> {
        let issuers = sig.get_issuers();
        let Some(first) = issuers.first() else { return self.all_of_its_algorithm(sig) };
        if issuers.len() > MAX_ISSUERS {
            return Err(SignatureError::Malformed("the signature names too many issuers".to_owned()));
        }
        let mut places: Vec<&Place> = Vec::new();
        for issuer in &issuers {
            let same_id = self.by_key_id.get(&KeyID::from(issuer.clone())).into_iter().flatten();
            for place in same_id.filter(|place| KeyHandle::from(&place.key).aliases(issuer)) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        places.sort_by_key(|place| place.entry);
        let found: Vec<_> = places.into_iter().filter_map(|place| self.at(place)).collect();
        if found.is_empty() {
            return Err(SignatureError::UntrustedKey(Some(first.to_hex())));
        }
        Ok(found)
    }

    fn all_of_its_algorithm(&self, sig: &Signature) -> Result<Vec<Candidate<'_>>, SignatureError> {
        let found: Vec<_> = self
            .entries
            .iter()
            .flat_map(|entry| entry.cert.keys().map(move |key| Candidate { entry, key }))
            .filter(|candidate| candidate.key.key().pk_algo() == sig.pk_algo())
            .take(MAX_TRIED + 1)
            .collect();
        match found.len() {
            0 => Err(SignatureError::UntrustedKey(None)),
            1..=MAX_TRIED => Ok(found),
            // Trying only some would make the verdict depend on their order.
            _ => Err(SignatureError::Malformed(
                "the signature does not name its issuer, and there are too many keys to try them all".to_owned(),
            )),
        }
    }

    fn at(&self, place: &Place) -> Option<Candidate<'_>> {
        let entry = self.entries.get(place.entry)?;
        let key = entry.cert.keys().find(|key| key.key().fingerprint() == place.key)?;
        Some(Candidate { entry, key })
    }

    /// The addresses by which policies can name the holder: of User IDs valid at the certificate's reference time,
    /// lower case, sorted, without those that name nobody.
    pub(super) fn addresses(&self, cert: &ValidCert<'_>) -> Vec<String> {
        let all: BTreeSet<String> = valid_user_ids(cert).filter_map(address).collect();
        all.into_iter().filter(|address| !self.ambiguous.contains(address)).collect()
    }
}

/// User IDs with a self-signature that is valid at the certificate's reference time and that are not revoked.
pub(super) fn valid_user_ids<'a>(cert: &ValidCert<'a>) -> impl Iterator<Item = &'a UserID> {
    cert.userids()
        .filter(|user_id| !matches!(user_id.revocation_status(), RevocationStatus::Revoked(_)))
        .map(|user_id| user_id.userid())
}

/// The address in a User ID, lower case.
fn address(user_id: &UserID) -> Option<String> {
    user_id.email().ok().flatten().map(str::to_ascii_lowercase)
}

fn collect(collected: &mut BTreeMap<Fingerprint, Collected>, file: &str, cert: Cert, problems: &mut Vec<String>) {
    let fingerprint = cert.fingerprint();
    let (cert, mut files) = if let Some(known) = collected.remove(&fingerprint) {
        // Neither copy would be safe to use alone: the other may hold the revocation.
        let Ok(merged) = known.cert.merge_public(cert) else {
            problems.push(format!("key file {file}: copies of {fingerprint} do not fit together; left out"));
            return;
        };
        (merged, known.files)
    } else {
        (cert, BTreeSet::new())
    };
    files.insert(file.to_owned());
    collected.insert(fingerprint, Collected { cert, files });
}

/// Addresses that different certificates of different files carry, in any User ID: one that is revoked or without a
/// valid self-signature counts here too, so that time never makes an address change hands.
fn ambiguous_addresses(collected: &BTreeMap<Fingerprint, Collected>, problems: &mut Vec<String>) -> HashSet<String> {
    let mut carriers: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for found in collected.values() {
        let addresses: BTreeSet<String> = found.cert.userids().filter_map(|id| address(id.userid())).collect();
        for address in addresses {
            let (certs, files) = carriers.entry(address).or_default();
            *certs += 1;
            files.extend(found.files.iter().map(String::as_str));
        }
    }
    carriers.retain(|_, (certs, files)| *certs > 1 && files.len() > 1);
    for (address, (_, files)) in &carriers {
        let files: Vec<&str> = files.iter().copied().collect();
        let shown = printable(address);
        problems.push(format!(
            "address {shown} names nobody, because certificates of different key files carry it ({}); \
             list the file or the fingerprint instead",
            files.join(", ")
        ));
    }
    carriers.into_keys().collect()
}

fn index(entries: &[Entry]) -> HashMap<KeyID, Vec<Place>> {
    let mut places: HashMap<KeyID, Vec<Place>> = HashMap::new();
    for (entry, found) in entries.iter().enumerate() {
        for key in found.cert.keys() {
            let key = key.key().fingerprint();
            places.entry(KeyID::from(&key)).or_default().push(Place { entry, key });
        }
    }
    places
}
