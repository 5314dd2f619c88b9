//! The keys that an entry asks for, as far as the caller may read them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::entries::keys_of_status;
use crate::cluster::{Freshness, Objects, SecretData};
use crate::domain::policy::{Check, Entry, ObjectRef};
use crate::signature::cosign::PublicKeys;
use crate::signature::openpgp::Keyring;
use crate::verify::COSIGN_PUB;

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

/// Reads with the caller's rights.
pub(super) struct Reader<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) deadline: Instant,
}

impl Reader<'_> {
    /// Everything an entry names keys by, and the keyring for GPG if there is one to be had.
    pub(super) async fn keys(&self, entry: &Entry, object: Option<&Value>) -> (Vec<KeyList>, Option<Keyring>) {
        let Check::Signed(check) = &entry.check else { return (Vec::new(), None) };
        let (mut lists, mut keyring) = (Vec::new(), None);
        if let Some(reference) = check.cosign.as_ref().and_then(|cosign| cosign.key_ref.as_ref()) {
            let keys = self.secret(reference).await.map(|secret| cosign(&secret));
            lists.push(list("cosign", reference, keys, entry, object));
        }
        if let Some(gpg) = &check.gpg {
            let read = self.secret(&gpg.key_ref).await.map(|secret| openpgp(&secret));
            let keys = read.map(|(ring, keys)| {
                keyring = Some(ring);
                keys
            });
            lists.push(list("gpg", &gpg.key_ref, keys, entry, object));
        }
        (lists, keyring)
    }

    async fn secret(&self, reference: &ObjectRef) -> Result<Arc<SecretData>, String> {
        let asked = self.objects.secret(&reference.namespace, &reference.name, Freshness::Key, self.deadline);
        match asked.await {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(format!("there is no Secret {}/{}", reference.namespace, reference.name)),
            Err(fault) => Err(fault.message().to_owned()),
        }
    }
}

fn list(
    method: &'static str,
    reference: &ObjectRef,
    keys: Result<Vec<ShownKey>, String>,
    entry: &Entry,
    object: Option<&Value>,
) -> KeyList {
    let (keys, note) = match keys {
        Ok(keys) if keys.is_empty() => (keys, Some(format!("no public keys imported from {reference}"))),
        Ok(keys) => (keys, None),
        Err(why) => match object.and_then(|object| keys_of_status(object, entry.index)) {
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
        user_ids: info.user_ids,
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
