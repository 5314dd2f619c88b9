//! The key directory as a whole: other files than the makers' may lie there, and their keys count as well.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::{MAX_KEY_FILE, Makers, certificates, files, read_bounded};
use crate::signature::openpgp::Keyring;

/// Endings of `OpenPGP` key files, as the controller takes them.
const OPENPGP: [&str; 3] = ["pgp", "asc", "gpg"];
/// Of cosign's.
const COSIGN: &str = "pub";
/// Most files of the directory, as its readers have it.
const MAX_FILES: usize = 500;

impl Makers {
    /// Whether the directory holds a key file of any kind; if it cannot be read, it may.
    pub fn has_key_files(&self) -> bool {
        self.named(&[&OPENPGP[..], &[COSIGN]].concat()).map_or(true, |names| !names.is_empty())
    }

    /// The `OpenPGP` key files of the directory, by name. The error says which one cannot be read.
    pub fn key_files(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let folder = self.directory.join(files::KEYS);
        let names = self.named(&OPENPGP)?;
        let read = |name: String| read_bounded(&folder.join(&name), MAX_KEY_FILE).map(|bytes| (name, bytes));
        names.into_iter().map(read).collect()
    }

    /// The files of the directory with these endings.
    fn named(&self, endings: &[&str]) -> Result<BTreeSet<String>, String> {
        let folder = self.directory.join(files::KEYS);
        let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&folder).map_err(broken)? {
            let name = entry.map_err(broken)?.file_name().to_string_lossy().into_owned();
            let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
            if !name.starts_with('.') && ending.is_some_and(|ending| endings.contains(&ending.as_str())) {
                found.insert(name);
            }
        }
        if found.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} key files", folder.display()));
        }
        Ok(found)
    }

    /// The fingerprints of all keys in it; a file that cannot be read adds none.
    pub fn published_fingerprints(&self) -> BTreeSet<String> {
        let files = self.key_files().unwrap_or_default();
        files
            .iter()
            .flat_map(|(name, bytes)| certificates(name, bytes, SystemTime::now()))
            .map(|k| k.fingerprint)
            .collect()
    }

    /// Who else has this address: a maker that is recorded with it, or a key file with a key that carries it. `own` is the
    /// key file that does not count.
    pub fn address_taken(&self, own: &str, address: &str) -> Result<Option<String>, String> {
        let other = self.list.iter().find(|maker| maker.key_file != own && maker.email.eq_ignore_ascii_case(address));
        if let Some(maker) = other {
            return Ok(Some(format!("the maker {}", maker.name)));
        }
        let wanted = address.to_ascii_lowercase();
        for (name, bytes) in self.key_files()?.iter().filter(|(name, _)| name != own) {
            if certificates(name, bytes, SystemTime::now()).iter().any(|key| key.addresses.contains(&wanted)) {
                return Ok(Some(self.whose(name)));
            }
        }
        Ok(None)
    }

    /// An address of this certificate that a key of another file carries, too, and who that is: readers of the directory
    /// take it as naming neither of them. Revoked User IDs count, as they do for those readers.
    pub fn address_shared(&self, own: &str, certificate: &[u8]) -> Result<Option<(String, String)>, String> {
        for (name, bytes) in self.key_files()?.iter().filter(|(name, _)| name != own) {
            let (keyring, _) = Keyring::from_files([(own, certificate), (name.as_str(), bytes.as_slice())]);
            if let Some(address) = keyring.ambiguous_addresses().into_iter().next() {
                return Ok(Some((address, self.whose(name))));
            }
        }
        Ok(None)
    }

    fn whose(&self, file: &str) -> String {
        match self.list.iter().find(|maker| maker.key_file == file) {
            Some(maker) => format!("the maker {}", maker.name),
            None => format!("the key file {file}"),
        }
    }
}
