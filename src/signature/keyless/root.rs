//! The trust root: `trusted_root.json` as Sigstore's clients read it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use sigstore_crypto::Keyring;
use sigstore_trust_root::{CertificateAuthority, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TimeRange, TrustedRoot};
use sigstore_verify::Verifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::told;

/// Bytes of a trust root. The public one has some 8 KiB.
const MAX_ROOT: usize = 1 << 20;
/// Authorities and logs of each kind: every one may be tried for every signature.
const MAX_PARTIES: usize = 64;
/// Certificates of one authority.
const MAX_CHAIN: usize = 8;

/// Certificate authorities, logs and timestamp authorities that are trusted, ready to verify with.
pub struct TrustRoot {
    pub(super) verifier: Verifier,
    pub(super) logs: Keyring,
    pub(super) timestamps: bool,
    hash: [u8; 32],
    summary: String,
}

impl TrustRoot {
    /// Reads a trust root. The error says what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > MAX_ROOT {
            return Err(format!("has more than {MAX_ROOT} bytes"));
        }
        let text = std::str::from_utf8(json).map_err(|_| "is not JSON text".to_owned())?;
        let mut root = TrustedRoot::from_json(text).map_err(|error| format!("is no trust root: {}", told(&error)))?;
        let parties =
            [root.tlogs.len(), root.ctlogs.len(), root.certificate_authorities.len(), root.timestamp_authorities.len()];
        if parties.iter().any(|count| *count > MAX_PARTIES) {
            return Err(format!("lists more than {MAX_PARTIES} logs or authorities of one kind"));
        }
        let chains = root.certificate_authorities.iter().map(|authority| &authority.cert_chain);
        let mut chains = chains.chain(root.timestamp_authorities.iter().map(|authority| &authority.cert_chain));
        if chains.any(|chain| chain.certificates.len() > MAX_CHAIN) {
            return Err(format!("has an authority with more than {MAX_CHAIN} certificates"));
        }
        if parties == [0; 4] {
            return Err("lists no log and no authority".to_owned());
        }
        let complete = root.certificate_authorities.into_iter().filter_map(within_chain);
        root.certificate_authorities = complete.collect();
        let verifier = Verifier::new(&root).map_err(|error| format!("cannot be used: {}", told(&error)))?;
        let logs = root.rekor_keys().map_err(|error| format!("cannot be used: {}", told(&error)))?;
        let [rekor, ct, fulcio, tsa] = parties;
        let summary = format!(
            "{fulcio} certificate authorities, {rekor} transparency logs, {ct} certificate logs, {tsa} timestamp \
             authorities"
        );
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, json).as_ref());
        Ok(Self { verifier, logs, timestamps: tsa > 0, hash, summary })
    }

    /// The root of the public Sigstore as it was when this version was built. The error is a defect of the build.
    pub fn public_good() -> Result<Self, String> {
        Self::parse(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// SHA-256 of the text that it was read from.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

/// The authority for as long as every certificate of its chain is valid; `None` when they never are at the same time.
///
/// The crate takes each certificate of the chain for an anchor, whose own validity nobody looks at: without this an
/// expired intermediate would go on certifying.
fn within_chain(mut authority: CertificateAuthority) -> Option<CertificateAuthority> {
    let mut window = authority.valid_for;
    for certificate in &authority.cert_chain.certificates {
        // What cannot be parsed is left to the crate, which refuses it.
        let Ok((_, parsed)) = X509Certificate::from_der(certificate.raw_bytes.as_bytes()) else { continue };
        let (start, end) = (&parsed.validity().not_before, &parsed.validity().not_after);
        let (start, end) = (start.timestamp(), end.timestamp());
        let start = Timestamp::from_second(start).ok()?;
        // A year beyond what the clock can hold is no end at all.
        let end = Timestamp::from_second(end).ok();
        let outer = window.get_or_insert_with(|| TimeRange::new(start, end));
        outer.start = outer.start.max(start);
        outer.end = [outer.end, end].into_iter().flatten().min();
        if outer.end.is_some_and(|end| end < outer.start) {
            return None;
        }
    }
    authority.valid_for = window;
    Some(authority)
}

impl fmt::Display for TrustRoot {
    /// How many of each it trusts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", self.summary)
    }
}
