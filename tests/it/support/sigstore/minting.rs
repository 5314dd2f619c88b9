//! Certificates, timestamps and log entries that no honest service would make, made with the services' own keys: so
//! that nothing is wrong with them but the one thing that a test is about.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SigningKey as _,
};
use serde_json::{Value, json};

use super::materials::Ca;
use super::services::Sigstore;
use super::stored::{Bundle, Legacy};
use crate::support::http::Http;
use crate::support::registry::Image;
use crate::support::scratch;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const LEGACY_BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// `1.3.6.1.4.1.57264.1`
const FULCIO: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];

/// The time so many seconds ago, in seconds since 1970; negative is in the future.
pub fn seconds_ago(seconds: i64) -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() - seconds
}

/// What to certify.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Subject alternative names.
    pub names: Names,
    /// The identity provider; `None` leaves the extension out.
    pub issuer: Option<String>,
    /// From when until when it is valid, in seconds since 1970.
    pub valid: (i64, i64),
    /// Whether it may sign code.
    pub code_signing: bool,
}

/// Subject alternative names of a certificate.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<SanType>);

impl Names {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// And an e-mail address.
    pub fn mail(mut self, address: &str) -> Self {
        self.0.push(SanType::Rfc822Name(address.try_into().unwrap()));
        self
    }

    /// And a host name.
    pub fn dns(mut self, name: &str) -> Self {
        self.0.push(SanType::DnsName(name.try_into().unwrap()));
        self
    }

    /// And a URI.
    pub fn uri(mut self, uri: &str) -> Self {
        self.0.push(SanType::URI(uri.try_into().unwrap()));
        self
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Minted {
    der: Vec<u8>,
    key: KeyPair,
}

impl Sigstore {
    /// A leaf for an e-mail address as the issuer `mail` has it, valid now for ten minutes.
    pub fn leaf(&self, address: &str) -> Leaf {
        Leaf {
            names: Names::none().mail(address),
            issuer: Some(self.issuer("mail")),
            valid: (seconds_ago(1), seconds_ago(-600)),
            code_signing: true,
        }
    }

    /// Certifies by the world's own authority, without telling the certificate log.
    pub fn mint(&self, leaf: &Leaf) -> Minted {
        mint_by(&self.materials.fulcio, leaf)
    }

    /// A timestamp response of the authority for these bytes at a time of anybody's choice, in base64.
    #[track_caller]
    pub fn stamp(&self, bytes: &[u8], at: i64) -> String {
        self.stamp_as(bytes, at, "")
    }

    /// The same by the authority's key with another certificate, PEM.
    #[track_caller]
    pub fn stamp_as(&self, bytes: &[u8], at: i64, certificate: &str) -> String {
        let at = jiff::Timestamp::from_second(at).unwrap();
        let mut url = format!("{}/at?time={at}", self.places.any_time);
        if !certificate.is_empty() {
            let file = scratch::folder("stamper").join("cert.pem");
            std::fs::write(&file, certificate).unwrap();
            write!(url, "&certificate={}", file.display()).unwrap();
        }
        let reply = Http::trusting("").post(&url, "application/octet-stream", bytes.to_vec()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        STANDARD.encode(&reply.body)
    }

    /// The bundle with this stamp alone.
    pub fn stamped(&self, bundle: &Bundle, at: i64) -> Bundle {
        self.stamped_as(bundle, at, "")
    }

    /// The same with another certificate of the authority's key.
    pub fn stamped_as(&self, bundle: &Bundle, at: i64, certificate: &str) -> Bundle {
        let stamp = self.stamp_as(&bundle.signature(), at, certificate);
        bundle.bent(|bundle| {
            bundle["verificationMaterial"]["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": stamp}]});
        })
    }

    /// The bundle's Rekor v1 entry with another time, which the log has signed.
    pub fn recorded(&self, bundle: &Bundle, at: i64) -> Bundle {
        bundle.bent(|bundle| {
            let entry = Bundle::entry(bundle);
            let log_id = STANDARD.decode(entry["logId"]["keyId"].as_str().unwrap()).unwrap();
            let index: u64 = entry["logIndex"].as_str().unwrap_or("0").parse().unwrap();
            let set = self.promise(entry["canonicalizedBody"].as_str().unwrap(), at, &hex(&log_id), index);
            entry["integratedTime"] = at.to_string().into();
            entry["inclusionPromise"]["signedEntryTimestamp"] = set.into();
        })
    }

    /// The same for a `.sig` signature.
    pub fn recorded_legacy(&self, signature: &Legacy, at: i64) -> Legacy {
        signature.bent_json(LEGACY_BUNDLE, |bundle| {
            let payload = &mut bundle["Payload"];
            payload["integratedTime"] = at.into();
            let text = |name: &str| payload[name].as_str().unwrap().to_owned();
            let set = self.promise(&text("body"), at, &text("logID"), payload["logIndex"].as_u64().unwrap());
            bundle["SignedEntryTimestamp"] = set.into();
        })
    }

    /// A signed entry timestamp of Rekor v1, in base64.
    fn promise(&self, body: &str, at: i64, log_id: &str, index: u64) -> String {
        // Members in the order of canonical JSON.
        let text = format!(r#"{{"body":"{body}","integratedTime":{at},"logID":"{log_id}","logIndex":{index}}}"#);
        STANDARD.encode(self.materials.rekor1.sign(text.as_bytes()).unwrap())
    }
}

/// Certifies by any authority.
pub fn mint_by(authority: &Ca, leaf: &Leaf) -> Minted {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names.clone_from(&leaf.names.0);
    let time = |at: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at).unwrap());
    (params.not_before, params.not_after) = (time(leaf.valid.0), time(leaf.valid.1));
    params.insert_extended_key_usage(if leaf.code_signing {
        ExtendedKeyUsagePurpose::CodeSigning
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    });
    if let Some(issuer) = &leaf.issuer {
        let text = [&[0x0c, u8::try_from(issuer.len()).unwrap()], issuer.as_bytes()].concat();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[&FULCIO[..], &[8]].concat(), text));
    }
    let key = KeyPair::generate().unwrap();
    let der = authority.certificate(&params, &key).der().to_vec();
    Minted { der, key }
}

impl Minted {
    /// A bundle with a signature of an image, which says neither when nor where it was made.
    pub fn bundle(&self, image: &Image) -> Bundle {
        self.bundle_of(&statement(image, SIGNATURE_PREDICATE))
    }

    /// A bundle with any statement.
    pub fn bundle_of(&self, statement: &Value) -> Bundle {
        let payload = statement.to_string();
        let signature = self.key.sign(&envelope(PAYLOAD_TYPE, payload.as_bytes())).unwrap();
        Bundle(json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": STANDARD.encode(&self.der)}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
        }))
    }

    /// Its key, as a public key in PEM.
    pub fn public_key(&self) -> String {
        self.key.public_key_pem()
    }
}

/// A statement about an image.
pub fn statement(image: &Image, predicate_type: &str) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex()}}],
        "predicateType": predicate_type,
        "predicate": {},
    })
}

/// What a signature of an envelope is made over (DSSE's pre-authentication encoding).
fn envelope(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
