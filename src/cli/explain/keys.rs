//! The keys that an entry asks for, as far as the caller may read them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::entries::keys_of_status;
use crate::cluster::{Freshness, Objects, SecretData};
use crate::domain::policy::{Check, Entry, ObjectRef};
use crate::records::examine::shown;
use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::Keyring;
use crate::verify::{COSIGN_PUB, may_name, unusable_text};

/// The keys behind one reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyList {
    pub(super) method: &'static str,
    pub(super) reference: String,
    pub(super) keys: Vec<ShownKey>,
    /// What stands in the way of reading them, and where those that are shown are from instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// A key for people.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownKey {
    pub(super) fingerprint: String,
    #[serde(rename = "userIDs", skip_serializing_if = "Vec::is_empty")]
    pub(super) user_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    /// Why it verifies nothing now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unusable: Option<String>,
}

/// Reads with the caller's rights, and only what the webhook would.
pub(super) struct Reader<'a> {
    pub(super) objects: &'a dyn Objects,
    /// Namespaces whose objects every policy may name.
    pub(super) shared: &'a [String],
    /// podseal's, whose synchronised keys every policy may name.
    pub(super) own_namespace: &'a str,
    pub(super) deadline: Instant,
}

impl Reader<'_> {
    /// Everything an entry names keys by, and the keyring for GPG if there is one to be had.
    pub(super) async fn keys(&self, entry: &Entry, object: Option<&Value>) -> (Vec<KeyList>, Option<Keyring>) {
        let Check::Signed(check) = &entry.check else { return (Vec::new(), None) };
        let (mut lists, mut keyring) = (Vec::new(), None);
        if let Some(reference) = check.cosign.as_ref().and_then(|cosign| cosign.key_ref.as_ref()) {
            let keys = self.secret(entry, reference).await.map(|secret| cosign(&secret));
            lists.push(list("cosign", reference, keys, entry, object));
        }
        if let Some(gpg) = &check.gpg {
            let read = self.secret(entry, &gpg.key_ref).await.map(|secret| openpgp(&secret));
            let keys = read.map(|(ring, keys)| {
                keyring = Some(ring);
                keys
            });
            lists.push(list("gpg", &gpg.key_ref, keys, entry, object));
        }
        (lists, keyring)
    }

    /// A Secret of keys. Nothing is told about one that the policy may not name, as the verdict tells nothing.
    async fn secret(&self, entry: &Entry, reference: &ObjectRef) -> Result<Arc<SecretData>, Unread> {
        let named = may_name(&entry.policy, reference, self.shared);
        if !named && *reference.namespace != *self.own_namespace {
            return Err(Unread::Unusable(unusable_text(reference)));
        }
        let asked = self.objects.secret(&reference.namespace, &reference.name, Freshness::Key, self.deadline);
        match asked.await {
            Ok(Some(secret)) if named || secret.synced_key => Ok(secret),
            Ok(Some(_)) => Err(Unread::Unusable(unusable_text(reference))),
            Ok(None) => {
                Err(Unread::Otherwise(format!("there is no Secret {}/{}", reference.namespace, reference.name)))
            }
            Err(fault) => Err(Unread::Otherwise(fault.message().to_owned())),
        }
    }

    /// `ca.crt` of a Secret, else of a `ConfigMap`, that the policy may name.
    pub(super) async fn certificates(&self, entry: &Entry, reference: &ObjectRef) -> Result<Arc<[u8]>, String> {
        if !may_name(&entry.policy, reference, self.shared) {
            return Err(unusable_text(reference));
        }
        let (namespace, name) = (&reference.namespace, &reference.name);
        let secret = self.objects.secret(namespace, name, Freshness::Key, self.deadline).await.ok().flatten();
        let found = match secret {
            Some(secret) => Some(secret),
            None => self.objects.config_map(namespace, name, self.deadline).await.ok().flatten(),
        };
        let pem = found.and_then(|object| object.data.get("ca.crt").map(|pem| Arc::from(pem.as_ref())));
        pem.ok_or_else(|| format!("the certificates of {reference} cannot be read"))
    }
}

/// Why there are no keys.
enum Unread {
    /// The policy may not use them, so that none of them counts.
    Unusable(String),
    /// They cannot be read, but the status of the policy may tell of them.
    Otherwise(String),
}

fn list(
    method: &'static str,
    reference: &ObjectRef,
    keys: Result<Vec<ShownKey>, Unread>,
    entry: &Entry,
    object: Option<&Value>,
) -> KeyList {
    let (keys, note) = match keys {
        Ok(keys) if keys.is_empty() => (keys, Some(format!("no public keys imported from {reference}"))),
        Ok(keys) => (keys, None),
        Err(Unread::Unusable(why)) => (Vec::new(), Some(why)),
        Err(Unread::Otherwise(why)) => match object.and_then(|object| keys_of_status(object, entry.index)) {
            Some((fingerprints, signers)) => {
                let keys = fingerprints.into_iter().filter(|f| f.starts_with("sha256:") == (method == "cosign"));
                let bare = |fingerprint| ShownKey { fingerprint, user_ids: Vec::new(), expires: None, unusable: None };
                let held = if signers.is_empty() { String::new() } else { format!(", held by {}", signers.join(", ")) };
                (keys.map(bare).collect(), Some(format!("{why}; these are from the status of the policy{held}")))
            }
            None => (Vec::new(), Some(why)),
        },
    };
    KeyList { method, reference: reference.to_string(), keys, note }
}

fn openpgp(secret: &SecretData) -> (Keyring, Vec<ShownKey>) {
    let files = secret.data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
    let (keyring, _) = Keyring::from_files(files);
    let infos = keyring.keys(SystemTime::now());
    let shown = infos.into_iter().map(|info| ShownKey {
        fingerprint: info.fingerprint,
        user_ids: info.user_ids.iter().map(|id| shown(id)).collect(),
        expires: info.expires.and_then(|at| jiff::Timestamp::try_from(at).ok()).map(|at| at.to_string()),
        unusable: info.unusable,
    });
    let shown = shown.collect();
    (keyring, shown)
}

fn cosign(secret: &SecretData) -> Vec<ShownKey> {
    let pem = secret.data.get(COSIGN_PUB).map_or(&b""[..], |bytes| bytes.as_ref());
    let (keys, _) = PublicKeys::from_pem(pem);
    let shown = |fingerprint| {
        let fingerprint = format!("sha256:{fingerprint}");
        ShownKey { fingerprint, user_ids: Vec::new(), expires: None, unusable: None }
    };
    keys.fingerprints().into_iter().map(shown).collect()
}
