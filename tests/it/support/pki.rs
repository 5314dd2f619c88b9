//! Certificates, made when a test wants them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::scratch;

/// Every server of the tests is reached by one of these.
pub const LOCAL: [&str; 2] = ["127.0.0.1", "localhost"];

/// A certificate authority with its certificate in a file.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
    folder: PathBuf,
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self::of(params, key, pem)
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn of(params: CertificateParams, key: KeyPair, pem: String) -> Self {
        let folder = scratch::folder("pki");
        std::fs::write(folder.join("ca.crt"), &pem).unwrap();
        Self { issuer: Issuer::new(params, key), pem, folder }
    }

    /// The folder whose `ca.crt` is the certificate, as skopeo's `--cert-dir` wants it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Its certificate for `caBundle`.
    pub fn bundle(&self) -> String {
        STANDARD.encode(&self.pem)
    }

    /// A server certificate for names and addresses.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, |_| {})
    }

    /// A server certificate that is valid in the given years only, such as `(2001, 2002)`.
    pub fn server_between(&self, names: &[&str], years: (i32, i32)) -> Issued {
        self.issue(names, |params| {
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        })
    }

    /// A client certificate for somebody of this name.
    pub fn client(&self, name: &str) -> Issued {
        self.client_by(name, &KeyPair::generate().unwrap(), (2001, 2100))
    }

    /// The same with an RSA key.
    pub fn client_rsa(&self, name: &str) -> Issued {
        self.client_by(name, &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(), (2001, 2100))
    }

    /// The same, valid in the given years only.
    pub fn client_between(&self, name: &str, years: (i32, i32)) -> Issued {
        self.client_by(name, &KeyPair::generate().unwrap(), years)
    }

    fn client_by(&self, name: &str, key: &KeyPair, years: (i32, i32)) -> Issued {
        let issued = self.issue_for(&[], key, |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        });
        std::fs::set_permissions(&issued.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        issued
    }

    /// An authority below this one, valid in the given years only.
    pub fn below(&self, name: &str, years: (i32, i32)) -> Self {
        let (mut params, key) = (Self::params(name), KeyPair::generate().unwrap());
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self::of(params, key, pem)
    }

    fn issue(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_for(names, &KeyPair::generate().unwrap(), adjust)
    }

    fn issue_for(&self, names: &[&str], key: &KeyPair, adjust: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        adjust(&mut params);
        let folder = scratch::folder("cert");
        let issued = Issued { cert: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&issued.cert, params.signed_by(key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }
}
