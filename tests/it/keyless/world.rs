//! The private Sigstore itself, by cosign's own opinion.

use crate::support::registry::{Image, Registry};
use crate::support::signer::CosignKey;
use crate::support::sigstore::{By, Format, How, Identity, Log, Sigstore};

/// All ways in which cosign signs with a certificate.
const BY_IDENTITY: [How; 7] = [
    How::BUNDLE,
    How::BUNDLE_V1,
    How::new(Format::Bundle, Log::V1, true),
    How::BUNDLE_STAMPED,
    How::LEGACY,
    How::new(Format::Legacy, Log::V1, true),
    How::LEGACY_STAMPED,
];

/// And with a key.
const BY_KEY: [How; 8] = [
    How::BUNDLE,
    How::new(Format::Bundle, Log::V2, false),
    How::BUNDLE_V1,
    How::BUNDLE_BARE,
    How::LEGACY,
    How::LEGACY_STAMPED,
    How::LEGACY_BARE,
    How::new(Format::Legacy, Log::V1, true),
];

fn registries() -> [Registry; 2] {
    [Registry::start(), Registry::debian()]
}

fn new_image(registry: &Registry, number: usize) -> Image {
    registry.push(&format!("world/a{number}:1"))
}

fn cosign_accepts_every_kind_of_signature_by_an_identity() {
    let world = Sigstore::shared();
    for registry in registries() {
        for (number, how) in BY_IDENTITY.into_iter().enumerate() {
            let image = new_image(&registry, number).pinned();
            world.sign(&registry, &image, how, &By::Identity(Identity::mail("dev@example.test")), &[]).succeeded();
            let verify = |who: &[String]| {
                let who: Vec<_> = who.iter().map(String::as_str).collect();
                world.verify(&registry, &image, how, &who)
            };
            verify(&world.who("dev@example.test")).succeeded();
            verify(&world.who("other@example.test")).failed();
        }
    }
}

fn cosign_accepts_every_kind_of_signature_by_a_key() {
    let world = Sigstore::shared();
    let (key, other) = (CosignKey::new(), CosignKey::new());
    for registry in registries() {
        for (number, how) in BY_KEY.into_iter().enumerate() {
            let image = new_image(&registry, number).pinned();
            world.sign(&registry, &image, how, &By::Key(&key), &[]).succeeded();
            let verify =
                |key: &CosignKey| world.verify(&registry, &image, how, &["--key", key.public_file().to_str().unwrap()]);
            verify(&key).succeeded();
            verify(&other).failed();
        }
    }
}

fn two_worlds_run_side_by_side_and_do_not_trust_each_other() {
    let (one, two) = (Sigstore::shared(), Sigstore::start());
    let registry = Registry::start();
    let image = new_image(&registry, 0).pinned();
    two.sign(&registry, &image, How::BUNDLE, &By::Identity(Identity::mail("dev@example.test")), &[]).succeeded();
    let who = two.who("dev@example.test");
    let who: Vec<_> = who.iter().map(String::as_str).collect();
    two.verify(&registry, &image, How::BUNDLE, &who).succeeded();
    one.verify(&registry, &image, How::BUNDLE, &who).failed();
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    cosign_accepts_every_kind_of_signature_by_an_identity,
    cosign_accepts_every_kind_of_signature_by_a_key,
    two_worlds_run_side_by_side_and_do_not_trust_each_other,
}
