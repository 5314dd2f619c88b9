//! Trust data made at test time, for this module's tests and for those of what fetches it. Everything in it can be bent
//! before it is signed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{canonical, key};
use crate::signature::json::parse_larger;

/// Signs with one key by one method.
type Signing = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A key of a role.
pub(crate) struct Signer {
    pub(crate) id: String,
    /// The key as metadata has it.
    pub(crate) object: Value,
    method: &'static str,
    sign: Signing,
}

/// Which ECDSA signatures.
#[derive(Clone, Copy)]
pub(crate) enum Ecdsa {
    Fixed,
    Asn1,
    P521,
}

impl Signer {
    fn new(kind: &str, public: &[u8], method: &'static str, sign: Signing) -> Self {
        let public = BASE64_STANDARD.encode(public);
        let object = json!({"keytype": kind, "keyval": {"private": null, "public": public}});
        Self { id: key::id_of(kind, &public).unwrap(), object, method, sign }
    }

    pub(crate) fn ecdsa(form: Ecdsa) -> Self {
        let algorithm: &'static EcdsaSigningAlgorithm = match form {
            Ecdsa::Fixed => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Ecdsa::Asn1 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Ecdsa::P521 => &ECDSA_P521_SHA256_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        Self::new("ecdsa", &spki, "ecdsa", ecdsa_signing(pair))
    }

    pub(crate) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self::new("ed25519", &public, "eddsa", Box::new(move |message| pair.sign(message).as_ref().to_vec()))
    }

    /// By `rsapss`, `rsapkcs1v15` or `pycrypto-pkcs#1 pss`.
    pub(crate) fn rsa(method: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let mut public = spki.as_ref().to_vec();
        if method.starts_with("pycrypto") {
            let body = BASE64_STANDARD.encode(&public);
            public = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n").into_bytes();
        }
        let encoding: &'static dyn RsaEncoding =
            if method == "rsapkcs1v15" { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
        Self::new("rsa", &public, method, rsa_signing(pair, encoding))
    }

    /// A key in a certificate with this common name, by itself.
    pub(crate) fn certified(name: &str) -> Self {
        Self::with(&parameters(name), None)
    }

    /// The same with other parameters, by an authority if one is given.
    pub(crate) fn with(params: &CertificateParams, issuer: Option<&Authority>) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = match issuer {
            Some(Authority(issuer)) => params.signed_by(&key, issuer).unwrap().pem(),
            None => params.self_signed(&key).unwrap().pem(),
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
        Self::new("ecdsa-x509", pem.as_bytes(), "ecdsa", ecdsa_signing(pair))
    }

    /// The same key, and another certificate text in its place.
    pub(crate) fn bundled(self, pem: &str) -> Self {
        Self { sign: self.sign, ..Self::new("ecdsa-x509", pem.as_bytes(), "ecdsa", Box::new(|_| Vec::new())) }
    }

    /// The certificate, or certificates, in PEM.
    pub(crate) fn pem(&self) -> String {
        let public = self.object["keyval"]["public"].as_str().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(public).unwrap()).unwrap()
    }

    /// The id of the key without its certificate.
    pub(crate) fn plain_id(&self) -> String {
        let value = parse_larger(self.object.to_string().as_bytes(), 1 << 20, 100, "key").unwrap();
        key::Key::read(&self.id, &value).unwrap().plain_id
    }

    /// The same key, and signatures that say another method.
    pub(crate) fn saying(self, method: &'static str) -> Self {
        Self { method, ..self }
    }
}

fn ecdsa_signing(pair: EcdsaKeyPair) -> Signing {
    Box::new(move |message| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
}

fn rsa_signing(pair: RsaKeyPair, encoding: &'static dyn RsaEncoding) -> Signing {
    Box::new(move |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    })
}

/// A leaf with this common name.
pub(crate) fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

/// An authority for root certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = parameters(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// One below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        let mut params = parameters(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

/// The bytes of a file: the signed part with signatures over its canonical form.
pub(crate) fn file(signed: &Value, signers: &[&Signer]) -> Vec<u8> {
    let tree = parse_larger(signed.to_string().as_bytes(), 64 << 20, usize::MAX, "it").unwrap();
    let message = canonical::write(&tree).unwrap();
    let signature = |signer: &&Signer| {
        let bytes = BASE64_STANDARD.encode((signer.sign)(&message));
        json!({"keyid": signer.id, "method": signer.method, "sig": bytes})
    };
    json!({"signed": signed, "signatures": signers.iter().map(signature).collect::<Vec<_>>()}).to_string().into_bytes()
}

/// A time, that many days from now.
pub(crate) fn in_days(days: i64) -> SystemTime {
    let span = Duration::from_secs(days.unsigned_abs() * 24 * 3600);
    if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

fn text(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap().to_string()
}

/// The keys that sign a repository.
pub(crate) struct Keys {
    pub(crate) root: Signer,
    pub(crate) timestamp: Signer,
    pub(crate) snapshot: Signer,
    pub(crate) targets: Signer,
}

impl Keys {
    pub(crate) fn new(gun: &str) -> Self {
        Self {
            root: Signer::certified(gun),
            timestamp: Signer::ed25519(),
            snapshot: Signer::ecdsa(Ecdsa::Fixed),
            targets: Signer::ecdsa(Ecdsa::Fixed),
        }
    }

    /// `root.json` before it is signed.
    pub(crate) fn root(&self, version: u64) -> Value {
        let role = |signer: &Signer| json!({"keyids": [signer.id], "threshold": 1});
        let all = [&self.root, &self.timestamp, &self.snapshot, &self.targets];
        let keys: BTreeMap<_, _> = all.into_iter().map(|signer| (signer.id.clone(), signer.object.clone())).collect();
        json!({
            "_type": "Root", "consistent_snapshot": false, "expires": text(in_days(3650)), "version": version,
            "keys": keys,
            "roles": {
                "root": role(&self.root), "timestamp": role(&self.timestamp), "snapshot": role(&self.snapshot),
                "targets": role(&self.targets),
            },
        })
    }
}

/// `{"hashes": …, "length": …}`.
pub(crate) fn measured(bytes: &[u8]) -> Value {
    let hash = |algorithm| BASE64_STANDARD.encode(digest(algorithm, bytes).as_ref());
    json!({"hashes": {"sha256": hash(&SHA256), "sha512": hash(&SHA512)}, "length": bytes.len()})
}

/// A target that has this digest in hexadecimal.
pub(crate) fn target(hex: &str) -> Value {
    let byte = |i: usize| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap();
    json!({"hashes": {"sha256": BASE64_STANDARD.encode((0..32).map(byte).collect::<Vec<_>>())}, "length": 1})
}

/// Tags with the content of what they name.
pub(crate) fn targets(version: u64, tags: &[(&str, &[u8])]) -> Value {
    let tags: BTreeMap<_, _> = tags.iter().map(|(tag, content)| ((*tag).to_owned(), measured(content))).collect();
    json!({
        "_type": "Targets", "expires": text(in_days(1000)), "version": version, "targets": tags,
        "delegations": {"keys": {}, "roles": []},
    })
}

/// Delegates to a role.
pub(crate) fn delegate(targets: &mut Value, role: &str, signers: &[&Signer], paths: &[&str]) {
    for signer in signers {
        targets["delegations"]["keys"][&signer.id] = signer.object.clone();
    }
    let ids: Vec<_> = signers.iter().map(|signer| &signer.id).collect();
    let delegation = json!({"name": role, "keyids": ids, "threshold": 1, "paths": paths});
    targets["delegations"]["roles"].as_array_mut().unwrap().push(delegation);
}

/// All files of a repository but the root, signed, by role: `timestamp`, `snapshot`, `targets`, `targets/…`.
pub(crate) fn publish(
    keys: &Keys,
    root: &[u8],
    version: u64,
    roles: &[(&str, &Value, &[&Signer])],
    bend: impl Fn(&str, &mut Value),
) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut listed = json!({"root": measured(root)});
    for (role, signed, signers) in roles {
        let bytes = file(signed, signers);
        listed[*role] = measured(&bytes);
        files.insert((*role).to_owned(), bytes);
    }
    let mut snapshot = json!({"_type": "Snapshot", "expires": text(in_days(1000)), "version": version, "meta": listed});
    bend("snapshot", &mut snapshot);
    let snapshot = file(&snapshot, &[&keys.snapshot]);
    let mut timestamp = json!({
        "_type": "Timestamp", "expires": text(in_days(14)), "version": version,
        "meta": {"snapshot": measured(&snapshot)},
    });
    bend("timestamp", &mut timestamp);
    files.insert("timestamp".to_owned(), file(&timestamp, &[&keys.timestamp]));
    files.insert("snapshot".to_owned(), snapshot);
    files.insert("root".to_owned(), root.to_vec());
    files
}
