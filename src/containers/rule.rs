//! A requirement as an entry of a policy, without the registry that it is for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Map, Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::policy::{Key, Requirement, SignedBy, Sigstore, SigstoreSigner};
use crate::domain::identity::SignedIdentity;
use crate::signature::cosign::PublicKeys;

/// The largest key file.
const MAX_KEY_FILE: u64 = 4 << 20;
/// `SubjectPublicKeyInfo` of ECDSA P-256 up to the point itself, which has 65 bytes.
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04";

/// What a requirement comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// Every image meets it.
    Accept,
    /// No image meets it, and why.
    Never(String),
    /// Images with a signature do.
    Signed(Box<SignedRule>),
}

impl Rule {
    /// Why no image meets it, if none does.
    pub(super) fn never(&self) -> Option<&str> {
        if let Self::Never(why) = self { Some(why) } else { None }
    }
}

/// A signature of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedRule {
    pub(super) kind: Kind,
    /// What the Secret with the keys holds; empty when signers are known by certificates.
    pub(super) keys: BTreeMap<String, Vec<u8>>,
    /// What the `ConfigMap` with the trust root holds, if one is needed.
    pub(super) trust_root: Option<String>,
    /// Issuer and address of a certificate.
    pub(super) certified: Option<(String, String)>,
    pub(super) identity: SignedIdentity,
}

/// The kind of signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gpg,
    Sigstore,
}

impl SignedRule {
    /// The members of the entry, with these references to its objects (`k8s://namespace/name`).
    pub(super) fn entry(&self, keys: &str, trust_root: &str) -> Map<String, Value> {
        let mut entry = Map::new();
        entry.insert("signCheck".to_owned(), true.into());
        let identity = identity_json(&self.identity);
        if self.kind == Kind::Gpg {
            entry.insert("gpgKeyRef".to_owned(), keys.into());
            entry.insert("signedIdentity".to_owned(), identity);
            return entry;
        }
        let mut cosign = json!({"signedIdentity": identity});
        if let Some((issuer, email)) = &self.certified {
            cosign["identities"] = json!([{"issuer": issuer, "subject": email}]);
            // The log has the certificate in it, which is what containers/image relies on.
            cosign["sct"] = "NotRequired".into();
        } else {
            entry.insert("cosignKeyRef".to_owned(), keys.into());
        }
        cosign["transparencyLog"] = if self.trust_root.is_some() { "Required" } else { "NotRequired" }.into();
        if self.trust_root.is_some() {
            cosign["trustRootRef"] = trust_root.into();
        }
        entry.insert("cosign".to_owned(), cosign);
        entry
    }
}

/// `signedIdentity` as policy.json and policies have it.
pub(super) fn identity_json(identity: &SignedIdentity) -> Value {
    match identity {
        SignedIdentity::MatchExact => json!({"type": "matchExact"}),
        SignedIdentity::MatchRepoDigestOrExact => json!({"type": "matchRepoDigestOrExact"}),
        SignedIdentity::MatchRepository => json!({"type": "matchRepository"}),
        SignedIdentity::ExactReference(reference) => {
            json!({"type": "exactReference", "dockerReference": reference.to_string()})
        }
        SignedIdentity::ExactRepository(repository) => {
            json!({"type": "exactRepository", "dockerRepository": repository.to_string()})
        }
        SignedIdentity::RemapIdentity { prefix, signed_prefix } => {
            json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed_prefix})
        }
    }
}

/// Reads what the requirement names. The error says which file cannot be read, and why.
pub(super) fn rule(requirement: &Requirement) -> Result<Rule, String> {
    match requirement {
        Requirement::AcceptAnything => Ok(Rule::Accept),
        Requirement::Reject => Ok(Rule::Never("the policy rejects it".to_owned())),
        Requirement::SignedBaseLayer => Ok(Rule::Never("signedBaseLayer is met by no image".to_owned())),
        Requirement::SignedBy(by) => signed_by(by),
        Requirement::Sigstore(sigstore) => sigstore_signed(sigstore),
    }
}

fn signed_by(by: &SignedBy) -> Result<Rule, String> {
    if let Some(other) = &by.other_key_type {
        return Ok(Rule::Never(format!("keys of the keyType {other} are met by no image")));
    }
    let mut keys = BTreeMap::new();
    for key in &by.keys {
        let (mut name, content) = load(key)?;
        while keys.contains_key(&name) {
            name.push('_');
        }
        keys.insert(name, content);
    }
    if keys.is_empty() {
        return Ok(Rule::Never("keyPaths names no file".to_owned()));
    }
    let identity = by.identity.clone();
    Ok(Rule::Signed(Box::new(SignedRule { kind: Kind::Gpg, keys, trust_root: None, certified: None, identity })))
}

fn sigstore_signed(sigstore: &Sigstore) -> Result<Rule, String> {
    let (mut keys, mut authorities, mut certified) = (BTreeMap::new(), Vec::new(), None);
    match &sigstore.signer {
        SigstoreSigner::Keys(list) => {
            let mut text = String::new();
            for key in list {
                match public_key(&load(key)?.1) {
                    Ok(pem) => text.push_str(&pem),
                    Err(why) => return Ok(Rule::Never(format!("{} {why}", shown(key)))),
                }
            }
            keys.insert("cosign.pub".to_owned(), text.into_bytes());
        }
        SigstoreSigner::Fulcio { ca, issuer, email } => {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&load(ca)?.1).collect();
            match certificates {
                Ok(found) if !found.is_empty() => authorities = found,
                _ => return Ok(Rule::Never(format!("{} holds no certificate", shown(ca)))),
            }
            certified = Some((issuer.clone(), email.clone()));
        }
        SigstoreSigner::Pki => return Ok(Rule::Never(PKI.to_owned())),
    }
    let mut logs = Vec::new();
    for key in &sigstore.rekor {
        match log_key(&load(key)?.1) {
            Some(log) => logs.push(log),
            None => return Ok(Rule::Never(format!("{} is not an ECDSA P-256 public key of a log", shown(key)))),
        }
    }
    let trust_root = (!logs.is_empty()).then(|| trusted_root(&authorities, &logs).to_string());
    let identity = sigstore.identity.clone();
    Ok(Rule::Signed(Box::new(SignedRule { kind: Kind::Sigstore, keys, trust_root, certified, identity })))
}

const PKI: &str = "pki asks for a certificate that is valid now, without a log or a timestamp: podseal does not take such \
                   signatures";

/// The one key of a file in PEM; what stands behind the first block counts for nothing there.
fn public_key(text: &[u8]) -> Result<String, &'static str> {
    const END: &[u8] = b"-----END ";
    let end = text.windows(END.len()).position(|window| window == END).ok_or("holds no public key")?;
    let line = text.iter().skip(end).position(|byte| *byte == b'\n').map_or(text.len(), |length| end + length + 1);
    let (keys, _) = PublicKeys::from_pem(text.get(..line).unwrap_or(text));
    if keys.is_empty() { Err("holds no public key that podseal takes") } else { Ok(keys.to_pem()) }
}

fn log_key(text: &[u8]) -> Option<Vec<u8>> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(text).ok()?;
    is_log_key(&key).then(|| key.to_vec())
}

/// Whether this is the `SubjectPublicKeyInfo` of an ECDSA P-256 key.
pub(super) fn is_log_key(der: &[u8]) -> bool {
    der.starts_with(P256) && der.len() == P256.len() + 64
}

/// A Sigstore trust root (`trusted_root.json`) of these authorities and logs, valid at every time.
fn trusted_root(authorities: &[CertificateDer<'_>], logs: &[Vec<u8>]) -> Value {
    let always = json!({"start": "1970-01-01T00:00:00Z"});
    let log = |key: &Vec<u8>| {
        json!({
            "baseUrl": "https://rekor.invalid",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": BASE64_STANDARD.encode(key),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": always,
            },
            "logId": {"keyId": BASE64_STANDARD.encode(digest(&SHA256, key))},
        })
    };
    let authority = |chain: Vec<&CertificateDer<'_>>| {
        let certificates: Vec<_> =
            chain.iter().map(|der| json!({"rawBytes": BASE64_STANDARD.encode(der.as_ref())})).collect();
        json!({
            "subject": {"organization": "", "commonName": ""},
            "uri": "https://fulcio.invalid",
            "certChain": {"certificates": certificates},
            "validFor": always,
        })
    };
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs.iter().map(log).collect::<Vec<_>>(),
        "certificateAuthorities": chains(authorities).into_iter().map(authority).collect::<Vec<_>>(),
        "ctlogs": [],
        "timestampAuthorities": [],
    })
}

/// A chain for each certificate, from itself up to its root as far as it is there: each of them may issue there.
fn chains<'a>(certificates: &'a [CertificateDer<'a>]) -> Vec<Vec<&'a CertificateDer<'a>>> {
    let names = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some((certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()))
    };
    let known: Vec<_> = certificates.iter().filter_map(|der| Some((der, names(der)?))).collect();
    let mut chains = Vec::with_capacity(known.len());
    for (der, (name, issuer)) in &known {
        let (mut chain, mut name, mut issuer) = (vec![*der], name, issuer);
        // A root names itself; and no chain is longer than the file.
        while name != issuer && chain.len() < known.len() {
            let Some((above, (own, next))) = known.iter().find(|(_, (own, _))| own == issuer) else { break };
            chain.push(*above);
            (name, issuer) = (own, next);
        }
        chains.push(chain);
    }
    chains
}

fn shown(key: &Key) -> String {
    match key {
        Key::File(path) => path.display().to_string(),
        Key::Data(_) => "the key in the policy".to_owned(),
    }
}

/// The content, and a name for it that a Secret takes.
fn load(key: &Key) -> Result<(String, Vec<u8>), String> {
    match key {
        Key::Data(content) => Ok(("key.gpg".to_owned(), content.clone())),
        Key::File(path) => {
            let content = read(path).map_err(|why| format!("{}: {why}", path.display()))?;
            Ok((secret_key(path), content))
        }
    }
}

fn secret_key(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.chars().take(200).map(fit).collect();
    if name.trim_matches('.').is_empty() { "key.gpg".to_owned() } else { name }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Anything else, such as a named pipe, could block for ever.
    if !std::fs::metadata(path).map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_KEY_FILE + 1).read_to_end(&mut content).map_err(|e| e.to_string())?;
    if content.len() as u64 > MAX_KEY_FILE {
        return Err(format!("larger than {MAX_KEY_FILE} bytes"));
    }
    Ok(content)
}
