//! Certificate authorities that root certificates have to come from.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::certificate::Bundle;

/// Certificates in one `ca.crt`.
const MAX_AUTHORITIES: usize = 64;
/// What a root certificate may be for, when it says so: signing code, as Notary makes them; servers, which Notary's own
/// check asks for; anything.
const USAGES: [&[u8]; 3] = [&[0x2b, 6, 1, 5, 5, 7, 3, 3], &[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x55, 0x1d, 0x25, 0]];

/// Trusted authorities.
#[derive(Debug, Clone)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

impl Authorities {
    /// Reads PEM with certificates, each of which must be usable. The error says what is wrong, never what is in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        const BAD: &str = "not PEM with certificates that can be used";
        let mut anchors = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| BAD)?;
            anchors.push(anchor_from_trusted_cert(&der).map_err(|_| BAD)?.to_owned());
            if anchors.len() > MAX_AUTHORITIES {
                return Err(format!("more than {MAX_AUTHORITIES} certificates"));
            }
        }
        if anchors.is_empty() { Err(BAD.to_owned()) } else { Ok(Self(anchors)) }
    }

    /// Whether the bundle's leaf comes from one of these, at this time, with what is needed in between in the bundle.
    /// RSA keys have 2048 bits or more all the way, and no signature is over SHA-1.
    pub(super) fn issued(&self, bundle: &Bundle, now: SystemTime) -> bool {
        let (Some(leaf), intermediates) = bundle.chain() else { return false };
        let Ok(leaf) = EndEntityCert::try_from(leaf) else { return false };
        let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        USAGES.into_iter().any(|usage| {
            let usage = KeyUsage::required_if_present(usage);
            leaf.verify_for_usage(algorithms, &self.0, &intermediates, time, usage, None, None).is_ok()
        })
    }
}
