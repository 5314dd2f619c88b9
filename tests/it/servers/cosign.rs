//! cosign, checked by cosign.

use crate::support::registry::Registry;
use crate::support::signer::{CosignKey, Format, KeyKind};

fn cosign_accepts_both_formats_and_their_annotations() {
    for registry in [Registry::tls(), Registry::debian()] {
        let (key, other) = (CosignKey::new(), CosignKey::new());
        for format in Format::ALL {
            let image = registry.push("alt/a:1");
            key.verify(&registry, &image, format, &[]).failed();
            key.sign(&registry, &image, format, &["signer=im@registry.local"]).succeeded();
            key.verify(&registry, &image, format, &["signer=im@registry.local"]).succeeded();
            key.verify(&registry, &image, format, &["signer=other"]).failed();
            other.verify(&registry, &image, format, &[]).failed();
        }
    }
}

fn keys_of_every_kind_sign() {
    let registry = Registry::start();
    for kind in [KeyKind::P384, KeyKind::P521, KeyKind::Rsa(3072), KeyKind::Ed25519] {
        let key = CosignKey::of(kind);
        assert!(key.public.starts_with("-----BEGIN PUBLIC KEY-----"));
        let image = registry.push("alt/a:1");
        key.sign(&registry, &image, Format::Legacy, &[]).succeeded();
        if kind != KeyKind::Ed25519 {
            key.verify(&registry, &image, Format::Legacy, &[]).succeeded();
        }
    }
}

crate::tests! {
    needs [Registry, DebianRegistry, Cosign];
    cosign_accepts_both_formats_and_their_annotations,
    keys_of_every_kind_sign,
}
