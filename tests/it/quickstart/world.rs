//! What the quick start's tests share: a registry with signed and unsigned images, a signature store, keys.

use std::sync::OnceLock;

use crate::support::cluster::{Cluster, Namespace};
use crate::support::harness;
use crate::support::podseal::Podseal;
use crate::support::registry::{Image, Registry};
use crate::support::signer::{CosignKey, Format, Gpg, KeySpec, Skopeo};
use crate::support::store::{Store, registries_d};

/// The signer of everything that is signed.
pub const MAKER: &str = "immkk8s@registry.local/k8s-c10f1";

/// The shared servers and images.
pub struct World {
    pub registry: Registry,
    pub store: Store,
    /// The public key that policies trust.
    pub cosign_pub: String,
    /// The certificate, for GPG, that policies trust.
    pub gpg_pub: Vec<u8>,
    /// Signed by cosign, as [`MAKER`], one image in each format.
    pub cosigned: [Image; 2],
    /// Signed by cosign with another key, as [`MAKER`].
    pub other_key: Image,
    /// Signed by GPG.
    pub gpg_signed: Image,
    /// Not signed at all.
    pub unsigned: Image,
}

impl World {
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| harness::attempt("the quick start's world", Self::new));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    fn new() -> Self {
        let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
        let (key, other) = (CosignKey::new(), CosignKey::new());
        let signer = format!("signer={MAKER}");
        let cosigned = Format::ALL.map(|format| {
            let image = registry.push(&format!("k8s-c10f1/{format:?}:1").to_lowercase());
            key.sign(&registry, &image, format, &[&signer]).succeeded();
            image
        });
        let other_key = registry.push("k8s-c10f1/other-key:1");
        other.sign(&registry, &other_key, Format::Legacy, &[&signer]).succeeded();
        let maker = gpg.generate(&KeySpec::new(&format!("Image Maker <{MAKER}>")));
        let gpg_signed = registry.push("k8s-c10f1/gpg:1");
        let staging = format!("file://{}", store.folder().display());
        let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
        skopeo.sign(&registry, &gpg_signed, &maker).succeeded();
        let unsigned = registry.push("k8s-c10f1/unsigned:1");
        let (cosign_pub, gpg_pub) = (key.public, gpg.export(&[&maker]));
        Self { registry, store, cosign_pub, gpg_pub, cosigned, other_key, gpg_signed, unsigned }
    }

    /// A namespace with the Secrets `cosign-key` and `gpg-key`.
    pub fn namespace(&self, hint: &str) -> Namespace<'static> {
        let namespace = Cluster::shared().namespace(Podseal::shared(), hint);
        namespace.secret("cosign-key", &[("cosign.pub", self.cosign_pub.as_bytes())]);
        namespace.secret("gpg-key", &[("maker.pgp", &self.gpg_pub)]);
        namespace
    }

    /// A policy entry for the registry that asks for a cosign signature; `more` is further fields.
    pub fn cosign_entry(&self, namespace: &Namespace<'_>, more: &str) -> String {
        let (host, name) = (&self.registry.host, &namespace.name);
        format!(
            "- {{registry: '{host}', signCheck: true, insecure: true, cosignKeyRef: k8s://{name}/cosign-key, {more}}}"
        )
    }

    /// A policy entry for the registry that asks for a GPG signature; `more` is further fields.
    pub fn gpg_entry(&self, namespace: &Namespace<'_>, more: &str) -> String {
        let (host, name, url) = (&self.registry.host, &namespace.name, &self.store.url);
        format!(
            "- {{registry: '{host}', signCheck: true, insecure: true, gpgKeyRef: k8s://{name}/gpg-key, \
             lookaside: '{url}', {more}}}"
        )
    }
}
