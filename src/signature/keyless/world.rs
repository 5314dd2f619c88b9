//! A Sigstore of the tests' own: a certificate authority, a certificate log and a transparency log, all in memory. What it
//! makes is JSON, so that a test can spoil one thing in it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;

use crate::domain::digest::{Digest, hex};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const INTOTO: &str = "application/vnd.in-toto+json";
pub(crate) const SIGNATURE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A key of P-256 that signs.
pub(crate) struct Signing {
    pair: EcdsaKeyPair,
    pub(crate) spki: Vec<u8>,
}

impl Signing {
    pub(crate) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        Self { pair, spki }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn id(&self) -> Vec<u8> {
        sha256(&self.spki)
    }

    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    fn trusted(&self) -> Value {
        json!({
            "baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(&self.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                          "validFor": {"start": "2020-01-01T00:00:00Z"}},
            "logId": {"keyId": b64(&self.id())},
        })
    }
}

/// Somebody with a certificate.
pub(crate) struct Person {
    key: Signing,
    pub(crate) certificate: Vec<u8>,
    /// When he signs.
    pub(crate) at: SystemTime,
}

impl Person {
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message)
    }
}

/// What a certificate says.
pub(crate) struct Wanted {
    pub(crate) issuer: &'static str,
    pub(crate) subject: SanType,
    pub(crate) extensions: Vec<(u64, Vec<u8>)>,
    /// Of the certificate, which is good for ten minutes.
    pub(crate) from: SystemTime,
    pub(crate) sct: bool,
    pub(crate) code_signing: bool,
}

impl Wanted {
    pub(crate) fn email(subject: &str) -> Self {
        Self {
            issuer: "https://issuer.test",
            subject: SanType::Rfc822Name(subject.try_into().unwrap()),
            extensions: Vec::new(),
            from: SystemTime::now() - Duration::from_secs(3600),
            sct: true,
            code_signing: true,
        }
    }
}

pub(crate) struct World {
    authority: Issuer<'static, KeyPair>,
    authority_der: Vec<u8>,
    certificates: Signing,
    log: Signing,
}

impl World {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_der = params.self_signed(&key).unwrap().der().to_vec();
        Self { authority: Issuer::new(params, key), authority_der, certificates: Signing::new(), log: Signing::new() }
    }

    /// `trusted_root.json`.
    pub(crate) fn root(&self) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.log.trusted()], "ctlogs": [self.certificates.trusted()], "timestampAuthorities": [],
            "certificateAuthorities": [{
                "subject": {"organization": "test", "commonName": "authority"}, "uri": "https://authority.test",
                "certChain": {"certificates": [{"rawBytes": b64(&self.authority_der)}]},
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            }],
        })
    }

    /// Somebody with a certificate, who signs five minutes after he got it.
    pub(crate) fn person(&self, wanted: &Wanted) -> Person {
        let key = Signing::new();
        let public = rcgen::SubjectPublicKeyInfo::from_der(&key.spki).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since = wanted.from.duration_since(UNIX_EPOCH).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(7_u64));
        params.not_before = epoch + Duration::from_secs(since.as_secs());
        params.not_after = epoch + Duration::from_secs(since.as_secs() + 600);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let usage = ExtendedKeyUsagePurpose::CodeSigning;
        params.extended_key_usages =
            vec![if wanted.code_signing { usage } else { ExtendedKeyUsagePurpose::ServerAuth }];
        params.subject_alt_names = vec![wanted.subject.clone()];
        params.use_authority_key_identifier_extension = true;
        let issuer = [vec![0x0c, u8::try_from(wanted.issuer.len()).unwrap()], wanted.issuer.into()].concat();
        for (number, value) in [(8, issuer)].into_iter().chain(wanted.extensions.clone()) {
            let oid = [1, 3, 6, 1, 4, 1, 57264, 1, number];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, value));
        }
        let mut certificate = params.signed_by(&public, &self.authority).unwrap().der().to_vec();
        if wanted.sct {
            let sct = self.sct(&certificate, since);
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, sct));
            certificate = params.signed_by(&public, &self.authority).unwrap().der().to_vec();
        }
        Person { key, certificate, at: wanted.from + Duration::from_secs(300) }
    }

    /// The list with one signed certificate timestamp (RFC 6962) for a certificate that lacks it.
    fn sct(&self, certificate: &[u8], since: Duration) -> Vec<u8> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).unwrap();
        let (_, issuer) = x509_parser::certificate::X509Certificate::from_der(&self.authority_der).unwrap();
        let tbs = parsed.tbs_certificate.as_ref();
        let time = u64::try_from(since.as_millis()).unwrap().to_be_bytes();
        let length = u32::try_from(tbs.len()).unwrap().to_be_bytes();
        let signed: Vec<u8> =
            [&[0, 0], &time[..], &[0, 1], &sha256(issuer.public_key().raw), &length[1..], tbs, &[0, 0]].concat();
        let signature = self.certificates.sign(&signed);
        let length = u16::try_from(signature.len()).unwrap().to_be_bytes();
        let sct = [&[0], &self.certificates.id()[..], &time, &[0, 0, 4, 3], &length, &signature].concat();
        let counted = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let list = counted(&counted(&sct));
        let length = u8::try_from(list.len()).unwrap();
        let head = if length < 0x80 { vec![0x04, length] } else { vec![0x04, 0x81, length] };
        [head, list].concat()
    }

    /// A bundle with this statement, by a person, logged as Rekor v1 does.
    pub(crate) fn bundle(&self, person: &Person, statement: &Value) -> Value {
        let payload = statement.to_string();
        let signature = person.sign(&encoding(&payload));
        let material = json!({
            "certificate": {"rawBytes": b64(&person.certificate)},
            "tlogEntries": [self.entry("dsse", &dsse_body(&payload, &signature, &person.pem()), person.at)],
        });
        envelope(material, &payload, &signature)
    }

    /// The same by a key.
    pub(crate) fn bundle_by_key(&self, key: &Signing, statement: &Value) -> Value {
        let payload = statement.to_string();
        let signature = key.sign(&encoding(&payload));
        let at = SystemTime::now() - Duration::from_secs(60);
        let material = json!({
            "publicKey": {"hint": ""},
            "tlogEntries": [self.entry("dsse", &dsse_body(&payload, &signature, &key.pem()), at)],
        });
        envelope(material, &payload, &signature)
    }

    /// A legacy payload's signature and the annotations beside it.
    pub(crate) fn legacy(&self, payload: &[u8], signature: &[u8], pem: &str, at: SystemTime) -> Value {
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex(&sha256(payload))}},
            "signature": {"content": b64(signature), "publicKey": {"content": b64(pem.as_bytes())}},
        }});
        let body = body.to_string();
        let bundle = json!({
            "SignedEntryTimestamp": b64(&self.promise(&body, at)),
            "Payload": {"body": b64(body.as_bytes()), "integratedTime": seconds(at), "logIndex": 0,
                        "logID": hex(&self.log.id())},
        });
        json!({
            "dev.cosignproject.cosign/signature": b64(signature),
            "dev.sigstore.cosign/certificate": pem,
            "dev.sigstore.cosign/chain": "",
            "dev.sigstore.cosign/bundle": bundle.to_string(),
        })
    }

    /// A log entry with promise and proof: the first of its log.
    pub(crate) fn entry(&self, kind: &str, body: &str, at: SystemTime) -> Value {
        let root = sha256(&[&[0], body.as_bytes()].concat());
        let note = format!("log.test\n1\n{}\n", b64(&root));
        let hint = [&self.log.id()[..4], &self.log.sign(note.as_bytes())].concat();
        json!({
            "logIndex": "0", "logId": {"keyId": b64(&self.log.id())},
            "kindVersion": {"kind": kind, "version": "0.0.1"}, "integratedTime": seconds(at).to_string(),
            "inclusionPromise": {"signedEntryTimestamp": b64(&self.promise(body, at))},
            "inclusionProof": {"logIndex": "0", "rootHash": b64(&root), "treeSize": "1", "hashes": [],
                               "checkpoint": {"envelope": format!("{note}\n\u{2014} log.test {}\n", b64(&hint))}},
            "canonicalizedBody": b64(body.as_bytes()),
        })
    }

    fn promise(&self, body: &str, at: SystemTime) -> Vec<u8> {
        let text = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":0}}"#,
            b64(body.as_bytes()),
            seconds(at),
            hex(&self.log.id())
        );
        self.log.sign(text.as_bytes())
    }
}

/// An in-toto statement about a digest.
pub(crate) fn statement(digest: &Digest, predicate_type: &str, predicate: &Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": digest.hex()}}],
        "predicateType": predicate_type, "predicate": predicate,
    })
}

/// cosign's legacy payload.
pub(crate) fn payload(digest: &Digest, reference: &str) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest.as_str()},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    payload.to_string().into_bytes()
}

fn dsse_body(payload: &str, signature: &[u8], pem: &str) -> String {
    let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": {"algorithm": "sha256", "value": "00".repeat(32)},
        "payloadHash": {"algorithm": "sha256", "value": hex(&sha256(payload.as_bytes()))},
        "signatures": [{"signature": b64(signature), "verifier": b64(pem.as_bytes())}],
    }});
    body.to_string()
}

fn envelope(mut material: Value, payload: &str, signature: &[u8]) -> Value {
    material["timestampVerificationData"] = json!({});
    json!({
        "mediaType": BUNDLE, "verificationMaterial": material,
        "dsseEnvelope": {"payload": b64(payload.as_bytes()), "payloadType": INTOTO,
                         "signatures": [{"sig": b64(signature)}]},
    })
}

fn encoding(payload: &str) -> Vec<u8> {
    format!("DSSEv1 {} {INTOTO} {} {payload}", INTOTO.len(), payload.len()).into_bytes()
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", b64(der))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap().as_secs()
}
