//! What the administrator of the demo's cluster wrote: policies, whitelist, keys, as YAML that `kubectl apply` would take.

use std::fmt::Write as _;

use super::world::{Keys, SIGNER};
use crate::cli::documents::{Configuration, Document};

/// podseal's own namespace.
pub(super) const OWN_NAMESPACE: &str = "registry-system";

/// Where things are, each as `address:port`.
pub(super) struct Places {
    pub(super) registry: String,
    pub(super) store: String,
    /// Where nobody listens.
    pub(super) nobody: String,
}

/// The objects' texts, by what they are.
pub(super) struct Texts {
    pub(super) policies: String,
    pub(super) whitelist: String,
    /// Secrets with public keys, and the registry's certificate authority.
    pub(super) keys: String,
}

impl Texts {
    pub(super) fn write(places: &Places, keys: &Keys, authority: &str) -> Result<Self, String> {
        Ok(Self {
            policies: policies(places),
            whitelist: whitelist(places),
            keys: key_objects(&keys.maker.public_key()?, &keys.cosign.public_key()?, authority),
        })
    }

    /// Reads the texts as `podseal check` reads its files. A remark about them is a defect of the demo.
    pub(super) fn read(&self) -> Result<Configuration, String> {
        let mut configuration = Configuration::default();
        for (origin, text) in [("policies", &self.policies), ("whitelist", &self.whitelist), ("keys", &self.keys)] {
            for object in serde_saphyr::from_multiple(text).map_err(|e| format!("{origin}: {e}"))? {
                let document = Document { origin: origin.to_owned(), object };
                if !configuration.take(&document, OWN_NAMESPACE)? {
                    return Err(format!("{origin}: a {} configures nothing", document.kind()));
                }
            }
        }
        match configuration.remarks.first() {
            Some(remark) => Err(remark.clone()),
            None => Ok(configuration),
        }
    }
}

fn policies(Places { registry, store, nobody }: &Places) -> String {
    format!(
        "\
apiVersion: tmax.io/v1
kind: ClusterRegistrySecurityPolicy
metadata:
  name: demo
spec:
  registries:
  # shop/: signed by the image maker with OpenPGP; signatures lie in a store of their own.
  - registry: {registry}/shop
    signCheck: true
    gpgKeyRef: k8s://{OWN_NAMESPACE}/sigstore-key-imagemaker
    signer: [{SIGNER}]
    lookaside: http://{store}/sigstore/
    caRef: k8s://{OWN_NAMESPACE}/registry-ca
  # platform/: signed with a cosign key; signatures lie in the registry.
  - registry: {registry}/platform
    signCheck: true
    cosignKeyRef: k8s://{OWN_NAMESPACE}/cosign-key
    caRef: k8s://{OWN_NAMESPACE}/registry-ca
  # vault/: as shop/, but its signature store is down.
  - registry: {registry}/vault
    signCheck: true
    gpgKeyRef: k8s://{OWN_NAMESPACE}/sigstore-key-imagemaker
    lookaside: http://{nobody}/sigstore/
    caRef: k8s://{OWN_NAMESPACE}/registry-ca
  # sandbox/: whatever is there may run.
  - registry: {registry}/sandbox
    signCheck: false
"
    )
}

fn whitelist(Places { registry, .. }: &Places) -> String {
    format!(
        "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: image-validation-webhook-whitelist
  namespace: {OWN_NAMESPACE}
data:
  whitelist-images: |
    # Images that need no signature, one per line
    {registry}/tools/*
  whitelist-namespaces: \"\"
"
    )
}

fn key_objects(maker: &str, cosign: &str, authority: &str) -> String {
    let object = |kind: &str, name: &str, data: &str, file: &str, content: &str| {
        let mut text = format!(
            "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {OWN_NAMESPACE}\n{data}:\n  {file}: |\n"
        );
        for line in content.lines() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}", format!("    {line}").trim_end());
        }
        text
    };
    [
        object("Secret", "sigstore-key-imagemaker", "stringData", "imagemaker.asc", maker),
        object("Secret", "cosign-key", "stringData", "cosign.pub", cosign),
        object("ConfigMap", "registry-ca", "data", "ca.crt", authority),
    ]
    .join("---\n")
}
