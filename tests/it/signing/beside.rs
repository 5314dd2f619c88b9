//! Signatures in cosign's forms, beside the image.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::world::World;
use crate::support::opinions::{Answer, Opinion, policy, secret};
use crate::support::registry::{Image, Registry};
use crate::support::signer::{CosignKey, Format, KeyKind};
use crate::support::tools::Ran;

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Sq, Store, Cosign];
    cosign_and_podseal_accept_both_forms_with_and_without_a_referrers_api,
    keys_of_other_kinds_sign,
    a_cosign_key_that_cannot_be_used_is_said_why,
    a_cosign_key_that_others_may_read_is_refused,
}

fn sign(world: &World, image: &Image, key: &CosignKey, format: Format, more: &[&str]) -> Ran {
    let form = if format == Format::Legacy { "legacy" } else { "bundle" };
    let (name, file) = (image.tagged(), key.file());
    let args = ["sign", &name, "--cosign-key", file.to_str().unwrap(), "--cosign-format", form, "--insecure"];
    world.podseal_with(&[&args[..], more].concat(), &[("COSIGN_PASSWORD", "")])
}

fn accepts(image: &Image, key: &CosignKey) -> bool {
    let keys = secret("keys", &[("cosign.pub".to_owned(), key.public.clone().into_bytes())]);
    let entry = json!({"cosignKeyRef": "k8s://registry-system/keys"});
    Opinion::podseal(&image.tagged(), &[policy(&image.host, &entry), keys]).answer == Answer::Accepts
}

fn cosign_and_podseal_accept_both_forms_with_and_without_a_referrers_api() {
    let registries = [Registry::start as fn() -> Registry, Registry::debian];
    for registry in registries {
        let world = World::of(registry());
        for format in Format::ALL {
            let (key, other) = (CosignKey::new(), CosignKey::new());
            let image = world.registry.push("alt/a:1");
            let signed = sign(&world, &image, &key, format, &[]).succeeded();
            assert!(signed.stdout.contains(&format!("({}) by cosign key", image.digest)), "{signed}");
            key.verify(&world.registry, &image, format, &[]).succeeded();
            other.verify(&world.registry, &image, format, &[]).failed();
            assert!(accepts(&image, &key) && !accepts(&image, &other));
            // Once is enough; and nobody's signature goes by another's.
            let again = sign(&world, &image, &key, format, &[]).succeeded();
            assert!(again.stderr.contains("was signed by cosign key"), "{again}");
            sign(&world, &image, &other, format, &[]).succeeded();
            sign(&world, &image, &key, format, &["--again"]).succeeded();
            for key in [&key, &other] {
                key.verify(&world.registry, &image, format, &[]).succeeded();
            }
            // What cosign signs beside it stays, too.
            let third = CosignKey::new();
            third.sign(&world.registry, &image, format, &[]).succeeded();
            key.verify(&world.registry, &image, format, &[]).succeeded();
        }
    }
}

fn keys_of_other_kinds_sign() {
    let world = World::of(Registry::start());
    for kind in [KeyKind::P384, KeyKind::P521, KeyKind::Rsa(3072)] {
        let key = CosignKey::of(kind);
        for format in Format::ALL {
            let image = world.registry.push("alt/a:1");
            sign(&world, &image, &key, format, &[]).succeeded();
            key.verify(&world.registry, &image, format, &[]).succeeded();
        }
    }
}

fn a_cosign_key_that_cannot_be_used_is_said_why() {
    let world = World::of(Registry::start());
    let image = world.registry.push("alt/a:1");
    let key = CosignKey::new();
    let ran = |file: &str, env: &[(&str, &str)]| {
        world.podseal_with(&["sign", &image.tagged(), "--cosign-key", file, "--insecure"], env)
    };
    let file = key.file();
    let ed25519 = CosignKey::of(KeyKind::Ed25519).file();
    let none: &[(&str, &str)] = &[("COSIGN_PASSWORD", "")];
    for (file, env, said) in [
        (file.to_str().unwrap(), &[("COSIGN_PASSWORD", "other")][..], "the password does not open it"),
        (file.to_str().unwrap(), &[], "--cosign-password-file"),
        (key.public_file().to_str().unwrap(), none, "a public key"),
        (ed25519.to_str().unwrap(), none, "ECDSA (P-256, P-384, P-521) or RSA"),
        ("Cargo.toml", none, "no private key in PEM form"),
        ("/no/such/file", none, "--cosign-key /no/such/file: No such file"),
    ] {
        let ran = ran(file, env);
        assert_eq!(ran.code, Some(64), "{ran}");
        assert!(ran.stderr.contains(said), "{said}: {ran}");
    }
    key.verify(&world.registry, &image, Format::Bundle, &[]).failed();
}

fn a_cosign_key_that_others_may_read_is_refused() {
    let world = World::of(Registry::start());
    let (image, key) = (world.registry.push("alt/a:1"), CosignKey::new());
    let of_mode = |mode: u32| {
        std::fs::set_permissions(key.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        sign(&world, &image, &key, Format::Bundle, &[])
    };
    for mode in [0o640, 0o604, 0o644] {
        let ran = of_mode(mode);
        assert_eq!(ran.code, Some(64), "{ran}");
        let path = key.file().display().to_string();
        let said = format!("the cosign key {path}: others may read it (mode {mode:04o}): chmod 600 {path}");
        assert!(ran.stderr.contains(&said), "{ran}");
    }
    key.verify(&world.registry, &image, Format::Bundle, &[]).failed();
    of_mode(0o400).succeeded();
    key.verify(&world.registry, &image, Format::Bundle, &[]).succeeded();
}
