//! Certificates, made when a test wants them.

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
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
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
        self.issue(&[], |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn issue(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let folder = scratch::folder("cert");
        let issued = Issued { cert: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&issued.cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        issued
    }
}
