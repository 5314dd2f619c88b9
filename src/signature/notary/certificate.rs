//! The certificates that keys come in: a root key names its repository by one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::signature::json::shown;

/// Certificates of one key.
const MAX_CERTIFICATES: usize = 8;
/// A clock that is a little slow must not refuse a root that was just made.
const LEEWAY: Duration = Duration::from_secs(300);
/// sha1WithRSAEncryption, dsa-with-SHA1, ecdsa-with-SHA1.
const SHA1: [&str; 3] = ["1.2.840.113549.1.1.5", "1.2.840.10040.4.3", "1.2.840.10045.4.1"];

/// A leaf certificate with those above it, as one key.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    certificates: Vec<Certificate>,
}

#[derive(Debug, Clone)]
struct Certificate {
    der: CertificateDer<'static>,
    /// `SubjectPublicKeyInfo` in DER.
    spki: Vec<u8>,
    name: Option<String>,
    is_authority: bool,
    by_sha1: bool,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Bundle {
    /// Reads PEM with 1 to 8 certificates.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            if certificates.len() == MAX_CERTIFICATES {
                return Err(format!("it has more than {MAX_CERTIFICATES} certificates"));
            }
            let der = der.map_err(|_| "its certificates are not PEM")?;
            certificates.push(Certificate::read(&der)?);
        }
        if certificates.is_empty() {
            return Err("it has no certificate".to_owned());
        }
        Ok(Self { certificates })
    }

    /// The key of the first certificate, which is the one that signs.
    pub(super) fn first_key(&self) -> &[u8] {
        self.certificates.first().map_or(&[], |certificate| certificate.spki.as_slice())
    }

    /// Whether this can be a root certificate of the repository `gun`: the leaf comes first and is the only one, it
    /// carries the repository's name, and no weak hash.
    pub(super) fn check_root(&self, gun: &str) -> Result<(), String> {
        let leaf = self.leaf()?;
        if leaf.by_sha1 {
            return Err("its certificate is signed with SHA-1".to_owned());
        }
        match &leaf.name {
            Some(name) if names(name, gun) => Ok(()),
            Some(name) => Err(format!("its certificate is for {}", shown(name))),
            None => Err("its certificate has no common name".to_owned()),
        }
    }

    /// Whether the leaf is valid at this time.
    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.leaf().is_ok_and(|leaf| leaf.not_before <= now + LEEWAY && now < leaf.not_after)
    }

    /// Until when the leaf is valid.
    pub(super) fn valid_until(&self) -> Option<SystemTime> {
        self.leaf().ok().map(|leaf| leaf.not_after)
    }

    /// The leaf and the certificates above it, for building a chain.
    pub(super) fn chain(&self) -> (Option<&CertificateDer<'static>>, Vec<CertificateDer<'static>>) {
        let mut ders = self.certificates.iter().map(|certificate| &certificate.der);
        (ders.next(), ders.cloned().collect())
    }

    fn leaf(&self) -> Result<&Certificate, String> {
        match self.certificates.as_slice() {
            [leaf, above @ ..] if !leaf.is_authority && above.iter().all(|one| one.is_authority) => Ok(leaf),
            _ => Err("its certificates do not begin with the only one that is no authority".to_owned()),
        }
    }
}

impl Certificate {
    fn read(der: &CertificateDer<'static>) -> Result<Self, String> {
        let bad = || "one of its certificates cannot be read".to_owned();
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| bad())?;
        if !rest.is_empty() {
            return Err(bad());
        }
        let mut names = parsed.subject().iter_common_name();
        let name = match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            // Two names: which one counts would be anybody's guess.
            _ => None,
        };
        let constraints = parsed.basic_constraints().map_err(|_| bad())?;
        let by = parsed.signature_algorithm.algorithm.to_id_string();
        Ok(Self {
            spki: parsed.public_key().raw.to_vec(),
            name,
            is_authority: constraints.is_some_and(|constraints| constraints.value.ca),
            by_sha1: SHA1.contains(&by.as_str()),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            der: der.clone(),
        })
    }
}

/// Seconds since 1970; times before that are 1970.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whether a common name is the repository's, or a prefix of it with an asterisk behind it.
fn names(name: &str, gun: &str) -> bool {
    match name.strip_suffix('*') {
        Some(prefix) => gun.starts_with(prefix.trim_end_matches('*')),
        None => name == gun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_the_repository_or_a_prefix_with_an_asterisk() {
        let gun = "r.io/team/app";
        for name in [gun, "r.io/team/*", "r.io/*", "r.io/team/app*", "*", "r.io/te*"] {
            assert!(names(name, gun), "{name}");
        }
        for name in ["", "r.io/team", "r.io/team/app2", "r.io/team/*/app", "R.io/team/app", "r.io/other/*"] {
            assert!(!names(name, gun), "{name}");
        }
    }
}
