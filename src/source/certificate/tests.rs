use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

use super::*;

/// A certificate that is valid in these years, for these uses, and its key.
fn pair(years: (i32, i32), usages: &[ExtendedKeyUsagePurpose]) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params.extended_key_usages = usages.to_vec();
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn now() -> SystemTime {
    // 2027-01-15
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const CLIENT: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ClientAuth];

fn read(certificate: &str, key: &str) -> Result<Arc<ClientCertificate>, ClientCertificateError> {
    ClientCertificate::read(certificate.as_bytes(), key.as_bytes(), now()).map(Arc::new)
}

#[test]
fn a_pair_is_read_alone_in_one_file_and_with_its_chain() {
    let ((certificate, key), (issuer, _)) = (pair((2020, 2040), &CLIENT), pair((2020, 2040), &[]));
    let both = format!("{key}{certificate}");
    let one = read(&certificate, &key).expect("a pair");
    assert_eq!(one.id, read(&both, &both).expect("one file").id);
    assert_ne!(one.id, read(&format!("{certificate}{issuer}"), &key).expect("a chain").id);
    // No usages at all: any is allowed.
    let (certificate, key) = pair((2020, 2040), &[]);
    let debug = format!("{:?}", read(&certificate, &key).expect("a pair"));
    assert_eq!(debug, "ClientCertificate(…)");
}

#[test]
fn what_a_server_would_refuse_is_refused_with_its_file() {
    let (certificate, key) = pair((2020, 2040), &CLIENT);
    let (expired, expired_key) = pair((2020, 2021), &CLIENT);
    let (early, early_key) = pair((2039, 2040), &CLIENT);
    let (server, server_key) = pair((2020, 2040), &[ExtendedKeyUsagePurpose::ServerAuth]);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let broken = certificate.replacen("MII", "!!!", 1);
    let many = certificate.repeat(17);
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, key, of_key, said) in [
        (&*expired, &*expired_key, false, "its certificate expired on 2021-01-01T00:00:00Z"),
        (&early, &early_key, false, "its certificate is not valid before 2039-01-01T00:00:00Z"),
        (&server, &server_key, false, "not for clients"),
        ("", &key, false, "there is no certificate in it"),
        (&key, &key, false, "it holds a private key and no certificate"),
        (&broken, &key, false, "not PEM that can be read"),
        (&many, &key, false, "more than 16 certificates"),
        (nonsense, &key, false, "its certificate cannot be read"),
        (&certificate, "", true, "there is no private key in it"),
        (&certificate, &certificate, true, "it holds a certificate and no private key"),
        (&certificate, locked, true, "it is encrypted"),
        (&certificate, old, true, "it is encrypted"),
        (&certificate, &server_key, true, "it belongs to another certificate"),
    ] {
        let error = read(certificate, key).expect_err(said);
        assert_eq!(matches!(error, ClientCertificateError::Key(_)), of_key, "{error}");
        let error = error.to_string();
        assert!(error.contains(said), "{said}: {error}");
        let secret = key.lines().nth(1).filter(|line| line.len() > 8);
        assert!(secret.is_none_or(|line| !error.contains(line)), "{error}");
    }
}

#[test]
fn one_server_may_see_it_and_only_over_tls() {
    let (certificate, key) = pair((2020, 2040), &CLIENT);
    let certificate = read(&certificate, &key).expect("a pair");
    let store = |url: &str| StoreUrl::from_policy(url).expect("a store");
    assert!(Presented::to_store(&certificate, &store("http://s.local/sigstore")).is_none());
    let to_store = Presented::to_store(&certificate, &store("https://s.local/sigstore")).expect("a store");
    let registry = Repository::new("r.local:5000", "a").expect("a repository");
    let to_registry = Presented::to_registry(&certificate, &registry).expect("a registry");
    let hub = Presented::to_registry(&certificate, &Repository::new("docker.io", "a/b").expect("a repository"));
    for (shown, url, may) in [
        (&to_store, "https://s.local/x", true),
        (&to_store, "https://s.local:443/", true),
        (&to_store, "https://s.local:444/", false),
        (&to_store, "http://s.local/", false),
        (&to_store, "http://s.local:443/", false),
        (&to_store, "https://a.s.local/", false),
        (&to_store, "https://r.local:5000/", false),
        (&to_registry, "https://r.local:5000/v2/", true),
        (&to_registry, "https://r.local/v2/", false),
        (hub.as_ref().expect("a registry"), "https://registry-1.docker.io/v2/", true),
        (hub.as_ref().expect("a registry"), "https://auth.docker.io/token", false),
    ] {
        assert_eq!(shown.is_for(&Url::parse(url).expect("a URL")), may, "{shown:?} {url}");
    }
    assert_ne!(to_store.id(), to_registry.id(), "their connections are not shared");
}
