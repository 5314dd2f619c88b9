//! The private Sigstore itself, by cosign's own opinion.

use super::cases::{DEV, Shared};
use crate::support::registry::{Image, Registry};
use crate::support::signer::CosignKey;
use crate::support::sigstore::{Bundle, By, Format, How, Identity, Legacy, Log, Sigstore, seconds_ago};

/// All ways in which cosign signs with a certificate.
pub const BY_IDENTITY: [How; 7] = [
    How::BUNDLE,
    How::BUNDLE_V1,
    How::new(Format::Bundle, Log::V1, true),
    How::BUNDLE_STAMPED,
    How::LEGACY,
    How::new(Format::Legacy, Log::V1, true),
    How::LEGACY_STAMPED,
];

/// And with a key.
pub const BY_KEY: [How; 8] = [
    How::BUNDLE,
    How::new(Format::Bundle, Log::V2, false),
    How::BUNDLE_V1,
    How::BUNDLE_BARE,
    How::LEGACY,
    How::LEGACY_STAMPED,
    How::LEGACY_BARE,
    How::new(Format::Legacy, Log::V1, true),
];

pub fn registries() -> [Registry; 2] {
    [Registry::start(), Registry::debian()]
}

pub fn new_image(registry: &Registry, number: usize) -> Image {
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

/// What the tests make with the services' keys has no defect but the one it was made for.
fn cosign_accepts_what_is_minted_and_refuses_it_out_of_its_time() {
    let (world, shared) = (Sigstore::shared(), Shared::get());
    let who = world.who(DEV);
    let verify = |image: &Image, how: How, more: &[&str]| {
        let who: Vec<_> = who.iter().map(String::as_str).chain(more.iter().copied()).collect();
        world.verify(&shared.registry, &image.pinned(), how, &who)
    };
    let mut leaf = world.leaf(DEV);
    leaf.valid = (seconds_ago(7200), seconds_ago(6600));
    let image = shared.image();
    let bundle = world.mint(&leaf).bundle(&image);
    let stamped = |seconds: i64| {
        let image = shared.with_bundle(&image, &world.stamped(&bundle, seconds_ago(seconds)));
        verify(&image, How::BUNDLE_STAMPED, &["--insecure-ignore-sct"])
    };
    stamped(7000).succeeded();
    stamped(7300).failed();
    stamped(6500).failed();

    let image = shared.signed(How::BUNDLE_V1);
    let bundle = Bundle::of(&shared.registry, &image);
    let at = |seconds: i64| {
        let image = shared.with_bundle(&image, &world.recorded(&bundle, seconds_ago(seconds)));
        verify(&image, How::BUNDLE_V1, &[])
    };
    at(0).succeeded();
    at(3600).failed();

    let image = shared.signed(How::LEGACY);
    let signature = Legacy::of(&shared.registry, &image);
    let at = |seconds: i64| {
        let image = shared.with_legacy(&image, &world.recorded_legacy(&signature, seconds_ago(seconds)));
        verify(&image, How::LEGACY, &[])
    };
    at(0).succeeded();
    at(3600).failed();
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    cosign_accepts_every_kind_of_signature_by_an_identity,
    cosign_accepts_every_kind_of_signature_by_a_key,
    two_worlds_run_side_by_side_and_do_not_trust_each_other,
    cosign_accepts_what_is_minted_and_refuses_it_out_of_its_time,
}
