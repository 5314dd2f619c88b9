//! gpg and skopeo, checked by skopeo.

use serde_json::json;

use crate::support::registry::Registry;
use crate::support::scratch;
use crate::support::signer::{Gpg, GpgKey, KeySpec, Payload, SignSpec, Skopeo};
use crate::support::store::{Store, registries_d};

fn skopeo_accepts_what_was_signed_into_the_store_and_nothing_else() {
    let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("Image Maker <immkk8s@registry.local>"));
    let other = gpg.generate(&KeySpec { algorithm: "rsa3072", ..KeySpec::new("Other <other@registry.local>") });
    let (signed, unsigned) = (registry.push("alt/a:1"), registry.push("alt/b:1"));
    let staging = format!("file://{}", store.folder().display());
    let writer = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    writer.sign(&registry, &signed, &key).succeeded();
    assert!(store.file(&signed, 1).is_file());

    let reader = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &store.url)]) };
    let keys = gpg.export_file(&[&key]);
    reader.accepts(&registry, &signed.tagged(), &keys, None).succeeded();
    reader.accepts(&registry, &unsigned.tagged(), &keys, None).failed();
    reader.accepts(&registry, &signed.tagged(), &gpg.export_file(&[&other]), None).failed();
    let found = format!("/{}@sha256={}/signature-1", signed.repository, signed.hex());
    assert!(store.requests().iter().any(|r| r.path.ends_with(&found) && r.status == 200), "{:?}", store.requests());
}

fn names_other_than_the_image_are_accepted_only_where_the_identity_rule_says_so() {
    let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("a@registry.local"));
    let image = registry.push("alt/a:1");
    let staging = format!("file://{}", store.folder().display());
    let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
    skopeo.sign_under(&registry, &image, &key, "registry.local/alt/a:1").succeeded();
    let keys = gpg.export_file(&[&key]);
    skopeo.accepts(&registry, &image.tagged(), &keys, None).failed();
    let remap = json!({"type": "remapIdentity", "prefix": registry.host, "signedPrefix": "registry.local"});
    skopeo.accepts(&registry, &image.tagged(), &keys, Some(remap)).succeeded();
}

fn raw_signatures_by_subkeys_and_at_other_times_verify() {
    let (registry, gpg) = (Registry::start(), Gpg::new());
    let at = Some("20240101T000000");
    let spec = KeySpec { usage: "cert", at, ..KeySpec::new("a@registry.local") };
    let primary = gpg.generate(&spec);
    let subkey = gpg.add_subkey(&primary, "ed25519", "sign", "never", at);
    assert_ne!(primary, subkey);
    let image = registry.push("alt/a:1");
    let payload = Payload::new(&image.digest, &image.tagged()).bytes();
    let sign = SignSpec { at: Some("20240201T000000"), ..SignSpec::default() };
    let file = scratch::folder("sig").join("signature-1");
    std::fs::write(&file, gpg.sign_with(&subkey, &payload, &sign)).unwrap();
    let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[]) };
    let manifest = registry.manifest(&image);
    skopeo.verifies(&manifest, &image.tagged(), &subkey, &file).succeeded();
    skopeo.verifies(&manifest, "registry.local/alt/a:1", &subkey, &file).failed();
}

fn revoked_and_expired_keys_are_what_they_say() {
    let gpg = Gpg::new();
    let state = |key: &GpgKey| {
        let listed = gpg.gpg(None, &["--with-colons", "--list-keys", &key.fingerprint], b"").succeeded().stdout;
        listed.lines().find_map(|line| line.strip_prefix("pub:")).unwrap().chars().next().unwrap()
    };
    let key = gpg.generate(&KeySpec::new("good@registry.local"));
    assert_eq!(state(&key), 'u');
    gpg.revoke(&key);
    assert_eq!(state(&key), 'r');
    let retired = gpg.generate(&KeySpec::new("retired@registry.local"));
    gpg.retire(&retired);
    assert_eq!(state(&retired), 'r');
    let at = Some("20240101T000000");
    let expired = gpg.generate(&KeySpec { expires: "30d", at, ..KeySpec::new("old@registry.local") });
    assert_eq!(state(&expired), 'e');
    gpg.set_expiry(&expired, "0", None);
    assert_eq!(state(&expired), 'u');
    gpg.add_user_id(&expired, "second@registry.local");
    gpg.revoke_user_id(&expired, "second@registry.local");
    assert!(gpg.export_armored(&[&key, &expired]).starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"));
}

crate::tests! {
    needs [Registry, Gpg, Store];
    skopeo_accepts_what_was_signed_into_the_store_and_nothing_else,
    names_other_than_the_image_are_accepted_only_where_the_identity_rule_says_so,
    raw_signatures_by_subkeys_and_at_other_times_verify,
    revoked_and_expired_keys_are_what_they_say,
}
