//! The two Secrets: the authorities with their keys, and the serving pair with what is trusted.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource as _, ResourceExt as _};

use super::pki::{Authority, Bundle, Pair};
use super::plan::{Found, Wanted};
use crate::cluster::watch::AUTHORITY_TYPE;
use crate::controller::{Context, FIELD_MANAGER};

/// Says that podseal keeps a Secret, and what for. One without it is somebody else's.
const LABEL: &str = "podseal.io/certificate";
const SERVING_TYPE: &str = "kubernetes.io/tls";

/// Why the Secrets cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(
        "the Secret {name} exists without the label {LABEL}: it is not podseal's and is left alone; \
         delete or rename it, or choose another --certificate-secret"
    )]
    Foreign { name: String, about: Box<ObjectReference> },
}

/// A Secret as it was found.
pub(super) struct Kept {
    name: String,
    role: &'static str,
    type_: &'static str,
    found: Option<Secret>,
}

impl Kept {
    async fn read(context: &Context, name: &str, role: &'static str, type_: &'static str) -> Result<Self, StoreError> {
        let found = api(context).get_opt(name).await?;
        if let Some(secret) = &found {
            let is_ours = secret.labels().get(LABEL).is_some_and(|found| found == role);
            if !is_ours {
                let about = Box::new(secret.object_ref(&()));
                return Err(StoreError::Foreign { name: name.to_owned(), about });
            }
        }
        Ok(Self { name: name.to_owned(), role, type_, found })
    }

    fn bytes(&self, key: &str) -> &[u8] {
        let data = self.found.as_ref().and_then(|secret| secret.data.as_ref());
        data.and_then(|data| data.get(key)).map_or(&[], |value| value.0.as_slice())
    }

    fn text(&self, key: &str) -> String {
        String::from_utf8_lossy(self.bytes(key)).into_owned()
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { certificate: self.text(&format!("{name}.crt")), key: self.text(&format!("{name}.key")) }
    }

    /// For Events; `None` when it did not exist.
    pub(super) fn reference(&self) -> Option<ObjectReference> {
        Some(self.found.as_ref()?.object_ref(&()))
    }

    /// Writes the data unless it is there already. What is absent is created, so that what somebody else made meanwhile
    /// is not overwritten; what is there is replaced in exactly the version that was read.
    async fn write(&self, context: &Context, data: &[(&str, &str)]) -> Result<bool, StoreError> {
        if self.found.is_some() && data.iter().all(|(key, value)| self.bytes(key) == value.as_bytes()) {
            return Ok(false);
        }
        let mut secret = Secret {
            type_: Some(self.type_.to_owned()),
            data: Some(data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()),
            ..Secret::default()
        };
        secret.metadata.name = Some(self.name.clone());
        let labels = [(LABEL, self.role), ("app.kubernetes.io/managed-by", "podseal")];
        secret.metadata.labels = Some(BTreeMap::from(labels.map(|(k, v)| (k.to_owned(), v.to_owned()))));
        if let Some(found) = &self.found {
            secret.metadata.resource_version.clone_from(&found.metadata.resource_version);
            secret.metadata.uid.clone_from(&found.metadata.uid);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            api(context).patch(&self.name, &params, &Patch::Apply(&secret)).await?;
        } else {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            api(context).create(&params, &secret).await?;
        }
        Ok(true)
    }
}

fn api(context: &Context) -> Api<Secret> {
    Api::namespaced(context.client.clone(), &context.namespace)
}

/// The same without the content of Secrets, for watches.
pub(super) fn metadata(context: &Context) -> Api<PartialObjectMeta<Secret>> {
    Api::namespaced(context.client.clone(), &context.namespace)
}

/// The name of the Secret with the authorities.
pub(super) fn authority_secret(serving: &str) -> String {
    format!("{serving}-ca")
}

/// Both Secrets.
pub(super) struct Secrets {
    authority: Kept,
    /// The serving pair.
    pub(super) serving: Kept,
}

impl Secrets {
    pub(super) async fn read(context: &Context, serving: &str) -> Result<Self, StoreError> {
        Ok(Self {
            authority: Kept::read(context, &authority_secret(serving), "authority", AUTHORITY_TYPE).await?,
            serving: Kept::read(context, serving, "serving", SERVING_TYPE).await?,
        })
    }

    pub(super) fn found(&self) -> Found {
        Found {
            signer: Authority::open(&self.authority.pair("tls")),
            next: Authority::open(&self.authority.pair("next")),
            bundle: Bundle::read(self.serving.bytes("ca.crt")),
            leaf: self.serving.pair("tls"),
        }
    }

    /// Writes what changed, authorities first: no certificate is served whose authority is not kept.
    pub(super) async fn write(&self, context: &Context, wanted: &Wanted) -> Result<bool, StoreError> {
        let (signer, leaf, bundle) = (&wanted.signer.pair, &wanted.leaf, wanted.bundle.pem());
        let next = wanted.next.as_ref().map(|next| next.pair.clone()).unwrap_or_default();
        let authorities = [
            ("tls.crt", signer.certificate.as_str()),
            ("tls.key", &signer.key),
            ("next.crt", &next.certificate),
            ("next.key", &next.key),
        ];
        let changed = self.authority.write(context, &authorities).await?;
        let serving = [("tls.crt", leaf.certificate.as_str()), ("tls.key", &leaf.key), ("ca.crt", &bundle)];
        Ok(self.serving.write(context, &serving).await? || changed)
    }
}
