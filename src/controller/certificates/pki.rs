//! Authorities, serving certificates and bundles: made, read back, and checked as the API server would check them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, server::ParsedCertificate};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::server::validity::{self, Period, date};

/// Certificates are valid from this long before they are made: clocks of API servers may be behind.
pub(super) const SKEW: Duration = Duration::from_secs(3600);
/// No bundle has more certificates; what comes after is left out.
const MAX_BUNDLE: usize = 16;

/// Certificate or key could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate could not be made")]
pub struct PkiError(#[from] rcgen::Error);

/// A certificate and its private key, PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate authority with its key: ECDSA with P-256.
pub struct Authority {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Certificate and key.
    pub pair: Pair,
    /// When it is valid.
    pub period: Period,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("period", &self.period).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, valid for `lifetime` from `now` (seconds since 1970).
    pub fn make(now: i64, lifetime: Duration) -> Result<Self, PkiError> {
        let mut params = params(now, now.saturating_add(whole_seconds(lifetime)));
        // The date tells generations apart, for people and for whoever looks an issuer up by its name.
        params.distinguished_name.push(DnType::CommonName, format!("podseal webhook CA {}", date(now)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let pair = Pair { certificate: made.pem(), key: key.serialize_pem() };
        let certificate = made.der().clone();
        let period = validity::period(&certificate).ok_or(PkiError(rcgen::Error::CouldNotParseCertificate))?;
        Ok(Self { certificate, pair, period, issuer: Issuer::new(params, key) })
    }

    /// One that was kept; `None` when what was kept is none, or certificate and key do not belong together.
    pub fn open(pair: &Pair) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
        let period = validity::period(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(&pair.key).ok()?).ok()?;
        if !issuer.key_usages().contains(&KeyUsagePurpose::KeyCertSign) {
            return None;
        }
        let authority = Self { certificate, pair: pair.clone(), period, issuer };
        // Whether key and certificate fit shows in what is issued.
        let now = period.not_after;
        let names = ["check.invalid".to_owned()];
        let probe = authority.issue(&names, now, Duration::from_secs(1)).ok()?;
        Leaf::read(&probe)?.is_good_for(&names, std::slice::from_ref(&authority.certificate), now).then_some(authority)
    }

    /// A serving certificate for these names, valid for `lifetime` from `now` and never beyond the authority itself.
    pub fn issue(&self, names: &[String], now: i64, lifetime: Duration) -> Result<Pair, PkiError> {
        let until = now.saturating_add(whole_seconds(lifetime)).min(self.period.not_after);
        let mut params = params(now, until);
        params.distinguished_name.push(DnType::CommonName, "podseal webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        let made = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: made.pem(), key: key.serialize_pem() })
    }
}

fn params(now: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = at(now.saturating_sub(whole_seconds(SKEW)));
    params.not_after = at(until);
    params
}

/// Whole seconds of a duration, a century at most: dates stay in the range that every X.509 reader knows.
pub(super) fn whole_seconds(duration: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 24 * 3600;
    i64::try_from(duration.as_secs()).unwrap_or(CENTURY).min(CENTURY)
}

/// When a certificate that podseal made is due for renewal: after two thirds of its life, counted from when it was made.
pub(super) fn due(period: Period) -> i64 {
    let made = made(period);
    made.saturating_add(period.not_after.saturating_sub(made) / 3 * 2)
}

/// When podseal made a certificate.
pub(super) fn made(period: Period) -> i64 {
    period.not_before.saturating_add(whole_seconds(SKEW))
}

/// A serving certificate with a key that fits.
#[derive(Debug)]
pub struct Leaf {
    /// When it is valid.
    pub period: Period,
    chain: Vec<CertificateDer<'static>>,
}

impl Leaf {
    /// `None` when this is no certificate or the key is not its own.
    pub fn read(pair: &Pair) -> Option<Self> {
        let chain = certificates(pair.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).ok()?;
        let key = CertifiedKey::from_der(chain.clone(), key, &provider()).ok()?;
        key.keys_match().ok()?;
        Some(Self { period: validity::period(chain.first()?)?, chain })
    }

    /// Whether a client that trusts `roots` accepts it at `now` under each of these names. Authorities that are not
    /// valid at that time are trusted by no API server, and do not count here either.
    pub fn is_good_for(&self, names: &[String], roots: &[CertificateDer<'static>], now: i64) -> bool {
        let mut store = RootCertStore::empty();
        for root in roots.iter().filter(|root| is_valid_at(root, now)) {
            // One that cannot be read is trusted by nobody.
            let _ = store.add(root.clone());
        }
        let Some((leaf, rest)) = self.chain.split_first() else { return false };
        let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build() else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        names.iter().all(|name| {
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| verifier.verify_server_cert(leaf, rest, &name, &[], now).is_ok())
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn is_valid_at(certificate: &CertificateDer<'_>, now: i64) -> bool {
    validity::period(certificate).is_some_and(|period| period.holds_at(now))
}

/// All certificates of a PEM text; `None` when there is none, or one that cannot be read.
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty() && all.iter().all(|one| ParsedCertificate::try_from(one).is_ok()))
}

/// What is trusted: certificates of authorities, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle(pub Vec<CertificateDer<'static>>);

impl Bundle {
    /// The certificates in a PEM text that can be read; empty when there are none.
    pub fn read(pem: &[u8]) -> Self {
        let mut bundle = Self::default();
        for certificate in CertificateDer::pem_slice_iter(pem).filter_map(Result::ok) {
            if ParsedCertificate::try_from(&certificate).is_ok() {
                bundle.add(certificate);
            }
        }
        bundle
    }

    /// Adds one unless it is there, or there is no room.
    pub fn add(&mut self, certificate: CertificateDer<'static>) {
        if !self.has(&certificate) && self.0.len() < MAX_BUNDLE {
            self.0.push(certificate);
        }
    }

    /// Whether this one is in it.
    pub fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.iter().any(|one| one.as_ref() == certificate.as_ref())
    }

    /// Leaves out what is not valid at `now`.
    #[must_use]
    pub fn without_expired(mut self, now: i64) -> Self {
        self.0.retain(|one| is_valid_at(one, now));
        self
    }

    /// As PEM (RFC 7468); the same certificates give the same text.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(certificate);
            let mut rest = encoded.as_str();
            while !rest.is_empty() {
                let (line, after) = rest.split_at(rest.len().min(64));
                text.push_str(line);
                text.push('\n');
                rest = after;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn names() -> Vec<String> {
        ["podseal.ns.svc", "127.0.0.1"].map(str::to_owned).into()
    }

    #[test]
    fn a_certificate_is_good_for_its_names_its_authority_and_its_time_alone() {
        let (ours, other) = (Authority::make(NOW, 10 * DAY).unwrap(), Authority::make(NOW, 10 * DAY).unwrap());
        let leaf = Leaf::read(&ours.issue(&names(), NOW, DAY).unwrap()).unwrap();
        let roots = |authority: &Authority| vec![authority.certificate.clone()];
        let day = i64::try_from(DAY.as_secs()).unwrap();
        assert!(leaf.is_good_for(&names(), &roots(&ours), NOW));
        assert!(leaf.is_good_for(&names(), &[roots(&other), roots(&ours)].concat(), NOW - 3600), "clock skew");
        assert!(!leaf.is_good_for(&names(), &roots(&other), NOW));
        assert!(!leaf.is_good_for(&names(), &[], NOW));
        assert!(!leaf.is_good_for(&["other.ns.svc".to_owned()], &roots(&ours), NOW));
        assert!(!leaf.is_good_for(&names(), &roots(&ours), NOW + day + 1), "expired");
        assert!(!leaf.is_good_for(&names(), &roots(&ours), NOW - 3601), "not yet");
    }

    #[test]
    fn h2_a_certificate_is_never_valid_longer_than_its_authority_and_worth_nothing_after_it() {
        let authority = Authority::make(NOW, DAY).unwrap();
        let leaf = Leaf::read(&authority.issue(&names(), NOW, 30 * DAY).unwrap()).unwrap();
        assert_eq!(leaf.period.not_after, authority.period.not_after);
        assert!(!leaf.is_good_for(
            &names(),
            std::slice::from_ref(&authority.certificate),
            authority.period.not_after + 1
        ));
    }

    #[test]
    fn a_kept_authority_issues_what_the_one_that_was_made_would() {
        let made = Authority::make(NOW, 10 * DAY).unwrap();
        let opened = Authority::open(&made.pair).unwrap();
        let leaf = Leaf::read(&opened.issue(&names(), NOW, DAY).unwrap()).unwrap();
        assert!(leaf.is_good_for(&names(), std::slice::from_ref(&made.certificate), NOW));
        assert_eq!(opened.period, made.period);
    }

    #[test]
    fn what_is_no_authority_is_not_opened() {
        let (a, b) = (Authority::make(NOW, DAY).unwrap(), Authority::make(NOW, DAY).unwrap());
        assert!(Authority::open(&Pair { key: b.pair.key.clone(), ..a.pair.clone() }).is_none(), "another's key");
        assert!(Authority::open(&a.issue(&names(), NOW, DAY).unwrap()).is_none(), "a serving certificate");
        assert!(Authority::open(&Pair::default()).is_none());
        assert!(Authority::open(&Pair { certificate: "-----BEGIN".to_owned(), ..a.pair.clone() }).is_none());
    }

    #[test]
    fn a_pair_that_does_not_fit_is_no_leaf() {
        let authority = Authority::make(NOW, DAY).unwrap();
        let (a, b) = (authority.issue(&names(), NOW, DAY).unwrap(), authority.issue(&names(), NOW, DAY).unwrap());
        assert!(Leaf::read(&a).is_some());
        assert!(Leaf::read(&Pair { key: b.key, ..a.clone() }).is_none());
        assert!(Leaf::read(&Pair { key: String::new(), ..a }).is_none());
        assert!(Leaf::read(&Pair::default()).is_none());
    }

    #[test]
    fn bundles_are_read_back_as_they_were_written_and_hold_each_once() {
        let (a, b) = (Authority::make(NOW, DAY).unwrap(), Authority::make(NOW, 2 * DAY).unwrap());
        let mut bundle = Bundle::default();
        for authority in [&a, &b, &a] {
            bundle.add(authority.certificate.clone());
        }
        assert_eq!(bundle.0.len(), 2);
        assert_eq!(Bundle::read(bundle.pem().as_bytes()), bundle);
        assert_eq!(
            Bundle::read(a.pair.certificate.replace('\r', "").as_bytes()).0,
            std::slice::from_ref(&a.certificate)
        );
        assert_eq!(bundle.without_expired(a.period.not_after + 1).0, std::slice::from_ref(&b.certificate));
        assert!(Bundle::read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").0.is_empty());
        assert!(certificates(b"no PEM").is_none());
        assert!(!a.pair.certificate.is_empty() && !format!("{:?}", a.pair).contains("PRIVATE"));
    }

    #[test]
    fn renewal_is_due_after_two_thirds_of_the_life_without_the_allowance_for_clocks() {
        let authority = Authority::make(NOW, 30 * DAY).unwrap();
        assert_eq!(due(authority.period), NOW + 20 * 86_400);
        assert_eq!(made(authority.period), NOW);
    }
}
