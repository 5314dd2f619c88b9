//! One entry as a requirement of nodes, with the key files that it needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::from_policies::Node;
use super::rule::{identity_json, is_log_key};
use crate::cluster::{Freshness, Objects, SecretData};
use crate::domain::identity::SignedIdentity;
use crate::domain::keyless::{KeylessIdentity, TextRule, Workflow};
use crate::domain::policy::{Check, CosignCheck, Entry, GpgCheck, ObjectRef, SignedCheck};
use crate::domain::signer::{GpgSigner, gpg_signer_name};
use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::Keyring;

/// What an entry comes to.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) requirements: Vec<Value>,
    /// Why it is rejected, if it is.
    pub(super) never: Option<String>,
    pub(super) store: Option<String>,
    pub(super) attachments: bool,
    pub(super) notes: Vec<String>,
}

impl Made {
    pub(super) fn accept() -> Self {
        Self { requirements: vec![json!({"type": "insecureAcceptAnything"})], ..Self::default() }
    }

    pub(super) fn never(why: impl Into<String>) -> Self {
        Self { requirements: vec![json!({"type": "reject"})], never: Some(why.into()), ..Self::default() }
    }
}

/// The objects that an entry names; `None` for what does not exist.
#[derive(Debug, Default)]
pub(super) struct Sources {
    gpg: Option<Arc<SecretData>>,
    cosign: Option<Arc<SecretData>>,
    trust_root: Option<Arc<SecretData>>,
}

impl Sources {
    /// Reads them. The error says what could not be read; what does not exist is no error.
    pub(super) async fn read(entry: &Entry, objects: &dyn Objects, deadline: Instant) -> Result<Self, String> {
        let Check::Signed(check) = &entry.check else { return Ok(Self::default()) };
        let secret = async |reference: Option<&ObjectRef>| match reference {
            None => Ok(None),
            Some(r) => objects.secret(&r.namespace, &r.name, Freshness::Key, deadline).await.map_err(|e| e.to_string()),
        };
        let root = check.cosign.as_ref().and_then(|cosign| cosign.trust_root.as_ref());
        let mut trust_root = secret(root).await?.filter(|object| object.data.contains_key(TRUSTED_ROOT));
        if let (None, Some(r)) = (&trust_root, root) {
            trust_root = objects.config_map(&r.namespace, &r.name, deadline).await.map_err(|e| e.to_string())?;
        }
        Ok(Self {
            gpg: secret(check.gpg.as_ref().map(|gpg| &gpg.key_ref)).await?,
            cosign: secret(check.cosign.as_ref().and_then(|cosign| cosign.key_ref.as_ref())).await?,
            trust_root,
        })
    }
}

const TRUSTED_ROOT: &str = "trusted_root.json";

/// Key files as they are made.
pub(super) struct Material<'a> {
    node: &'a Node,
    now: SystemTime,
    files: BTreeMap<String, Vec<u8>>,
}

impl<'a> Material<'a> {
    pub(super) fn new(node: &'a Node, now: SystemTime) -> Self {
        Self { node, now, files: BTreeMap::new() }
    }

    pub(super) fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.files
    }

    /// The path on a node of a file with this content.
    fn file(&mut self, base: &str, extension: &str, content: Vec<u8>) -> String {
        let mut name = format!("{base}.{extension}");
        let mut number = 2;
        while self.files.get(&name).is_some_and(|other| *other != content) {
            name = format!("{base}-{number}.{extension}");
            number += 1;
        }
        let path = format!("{}/{name}", self.node.keys.trim_end_matches('/'));
        self.files.insert(name, content);
        path
    }

    /// Policies let any method of an entry pass; nodes would ask for all of them. So one is chosen, which asks for more.
    pub(super) fn requirement(&mut self, check: &SignedCheck, sources: &Sources) -> Made {
        let mut made = match (&check.gpg, &check.cosign) {
            (Some(gpg), _) => self.gpg(gpg, &check.signers, sources),
            (None, Some(cosign)) => self.cosign(cosign, &check.signers, sources),
            (None, None) if check.notary.is_some() => Made::never("nodes know no Notary signatures"),
            (None, None) => Made::never("the entry names nothing to check a signature with"),
        };
        let others = [(check.notary.is_some(), "Notary"), (check.gpg.is_some() && check.cosign.is_some(), "cosign")];
        for (_, other) in others.iter().filter(|(there, _)| *there && made.never.is_none()) {
            made.notes.push(format!(
                "nodes cannot take one method or another: images with {other} signatures alone are refused"
            ));
        }
        if check.transport.insecure || check.transport.ca_ref.is_some() {
            made.notes.push("insecure and caRef are for podseal: nodes have registries.conf and certs.d".to_owned());
        }
        made
    }

    fn gpg(&mut self, check: &GpgCheck, signers: &[String], sources: &Sources) -> Made {
        let Some(secret) = &sources.gpg else { return missing(&check.key_ref) };
        let (keyring, _) = Keyring::from_files(secret.data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref())));
        let wanted: Vec<String> = keyring
            .keys(self.now)
            .into_iter()
            .filter(|key| {
                let signer = GpgSigner {
                    fingerprint: key.fingerprint.clone(),
                    file: key.file.clone(),
                    emails: key.addresses.clone(),
                };
                gpg_signer_name(signers, &signer).is_some()
            })
            .map(|key| key.fingerprint)
            .collect();
        if wanted.is_empty() {
            return Made::never(format!("{} holds no key of an accepted signer", check.key_ref));
        }
        let bytes = match keyring.to_bytes_of(|fingerprint| wanted.iter().any(|wanted| wanted == fingerprint)) {
            Ok(bytes) => bytes,
            Err(why) => return Made::never(why),
        };
        let path = self.file(&base(&check.key_ref), "gpg", bytes);
        let mut made = Made::default();
        made.requirements.push(json!({
            "type": "signedBy",
            "keyType": "GPGKeys",
            "keyPath": path,
            "signedIdentity": identity_json(&check.identity),
        }));
        made.store.clone_from(&check.lookaside);
        if check.lookaside.is_none() {
            made.notes
                .push("the entry names no lookaside: the nodes' own registries.d must, as podseal's does".to_owned());
        }
        made
    }

    fn cosign(&mut self, check: &CosignCheck, signers: &[String], sources: &Sources) -> Made {
        if let Some(what) = unsaid(check, signers) {
            return Made::never(format!("nodes know no {what}"));
        }
        let root = match &sources.trust_root {
            Some(object) => trust_root(object),
            None => Roots::default(),
        };
        let mut requirement = json!({
            "type": "sigstoreSigned",
            "signedIdentity": identity_json(check.identity.as_ref().unwrap_or(&SignedIdentity::MatchRepository)),
        });
        let by_key = check.key_ref.is_some();
        let made = if let Some(key_ref) = &check.key_ref {
            self.by_key(&mut requirement, key_ref, sources)
        } else {
            self.by_certificate(&mut requirement, check, &root)
        };
        if let Err(why) = made {
            return Made::never(why);
        }
        if !by_key || check.log_for_keys {
            if root.logs.is_empty() {
                return Made::never("trustRootRef names no trust root with a log of ECDSA P-256 that is still in use");
            }
            let files: Vec<_> = root.logs.iter().map(|log| self.file("rekor", "pub", pem("PUBLIC KEY", log))).collect();
            match &files[..] {
                [file] => requirement["rekorPublicKeyPath"] = file.as_str().into(),
                _ => requirement["rekorPublicKeyPaths"] = files.into(),
            }
        }
        let mut made = Made { requirements: vec![requirement], attachments: true, ..Made::default() };
        made.notes
            .push("nodes find signatures under .sig tags alone (cosign sign --new-bundle-format=false)".to_owned());
        if check.identity.is_none() {
            made.notes
                .push("nodes compare names: signatures must be made for the repository that Pods name".to_owned());
        }
        if by_key && !check.identities.is_empty() {
            made.notes.push(
                "nodes cannot take keys or identities: images signed by an identity alone are refused".to_owned(),
            );
        }
        made
    }

    fn by_key(&mut self, requirement: &mut Value, key_ref: &ObjectRef, sources: &Sources) -> Result<(), String> {
        let secret = sources.cosign.as_ref().ok_or_else(|| format!("{key_ref} does not exist"))?;
        let pem = secret.data.get("cosign.pub").map(|bytes| PublicKeys::from_pem(bytes).0.to_pem()).unwrap_or_default();
        let keys: Vec<_> = pem.split_inclusive("-----END PUBLIC KEY-----\n").map(str::to_owned).collect();
        let files: Vec<_> = keys.into_iter().map(|key| self.file(&base(key_ref), "pub", key.into_bytes())).collect();
        match &files[..] {
            [] => return Err(format!("{key_ref} holds no public key in cosign.pub")),
            [file] => requirement["keyPath"] = file.as_str().into(),
            _ => requirement["keyPaths"] = files.into(),
        }
        Ok(())
    }

    fn by_certificate(&mut self, requirement: &mut Value, check: &CosignCheck, root: &Roots) -> Result<(), String> {
        let (issuer, email) = match &check.identities[..] {
            [KeylessIdentity { issuer: TextRule::Exact(issuer), subject: TextRule::Exact(email), workflow }]
                if *workflow == Workflow::default() && email.contains('@') && !email.contains(':') =>
            {
                (issuer, email)
            }
            _ => return Err("nodes know one identity alone, an exact issuer and an exact e-mail address".to_owned()),
        };
        if check.sct {
            return Err("nodes look for no certificate timestamps: set cosign.sct: NotRequired where the log suffices"
                .to_owned());
        }
        if root.authorities.is_empty() {
            return Err("trustRootRef names no trust root with a certificate authority that is still in use".to_owned());
        }
        let chain: Vec<u8> = root.authorities.iter().flat_map(|der| pem("CERTIFICATE", der)).collect();
        let path = self.file("fulcio", "pem", chain);
        requirement["fulcio"] = json!({"caPath": path, "oidcIssuer": issuer, "subjectEmail": email});
        Ok(())
    }
}

fn missing(reference: &ObjectRef) -> Made {
    Made::never(format!("{reference} does not exist; give its file as well"))
}

/// What nodes cannot ask for.
fn unsaid(check: &CosignCheck, signers: &[String]) -> Option<&'static str> {
    let told = [
        (!signers.is_empty(), "signer for sigstore signatures"),
        (!check.annotations.is_empty(), "annotations"),
        (check.threshold > 1, "threshold"),
        (!check.attestations.is_empty(), "attestations"),
        (check.repository.is_some(), "separate repository of signatures"),
    ];
    told.into_iter().find(|(there, _)| *there).map(|(_, what)| what)
}

/// What nodes take of a trust root.
#[derive(Debug, Default)]
struct Roots {
    logs: Vec<Vec<u8>>,
    authorities: Vec<Vec<u8>>,
}

/// Without logs and authorities whose time is over: nodes would take them for ever.
fn trust_root(object: &SecretData) -> Roots {
    let text = object.data.get(TRUSTED_ROOT).map(AsRef::as_ref).unwrap_or_default();
    let root: Value = serde_json::from_slice(text).unwrap_or_default();
    let list = |name: &str| root[name].as_array().cloned().unwrap_or_default();
    let decode = |value: &Value| value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let in_use = |validity: &Value| validity["end"].is_null();
    let logs = list("tlogs").into_iter().filter(|log| in_use(&log["publicKey"]["validFor"]));
    let logs = logs.filter_map(|log| decode(&log["publicKey"]["rawBytes"])).filter(|key| is_log_key(key)).collect();
    let authorities = list("certificateAuthorities").into_iter().filter(|authority| in_use(&authority["validFor"]));
    let certificates = authorities.flat_map(|a| a["certChain"]["certificates"].as_array().cloned().unwrap_or_default());
    Roots { logs, authorities: certificates.filter_map(|certificate| decode(&certificate["rawBytes"])).collect() }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let body = BASE64_STANDARD.encode(der);
    let lines = body.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat());
    [
        format!("-----BEGIN {label}-----\n").into_bytes(),
        lines.collect(),
        format!("-----END {label}-----\n").into_bytes(),
    ]
    .concat()
}

/// The beginning of a file's name.
fn base(reference: &ObjectRef) -> String {
    format!("{}_{}", reference.namespace, reference.name)
}
