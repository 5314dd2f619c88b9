//! Signatures as cosign makes them: keys, formats, registries, annotations, references.

use super::{FORMATS, World};
use crate::support::opinions::Table;
use crate::support::registry::Image;
use crate::support::signer::{CosignKey, Format, KeyKind};

pub(super) fn judge(world: &World, table: &mut Table) {
    kinds(world, table);
    registries(world, table);
    keys(world, table);
    annotations(world, table);
    signers(world, table);
    references(world, table);
}

fn kinds(world: &World, table: &mut Table) {
    for (kind, name) in [
        (KeyKind::P256, "P-256"),
        (KeyKind::P384, "P-384"),
        (KeyKind::P521, "P-521"),
        (KeyKind::Rsa(2048), "RSA 2048"),
        (KeyKind::Rsa(3072), "RSA 3072"),
        (KeyKind::Rsa(4096), "RSA 4096"),
        (KeyKind::Ed25519, "Ed25519"),
    ] {
        let key = CosignKey::of(kind);
        for (format, word) in FORMATS {
            let image = world.signed_with(&key, format, &[]);
            world.accepted(format!("{name}, {word}"), &image).keys(&[&key]).judge(world, table);
        }
    }
}

/// Debian's registry has no referrers API: bundles are found by a tag.
fn registries(world: &World, table: &mut Table) {
    let unsigned = world.plain.push("alt/a:1");
    world.refused("no referrers API, unsigned", "no cosign signature", &unsigned).judge(world, table);
    for (format, word) in FORMATS {
        let (image, foreign) = (world.plain.push("alt/a:1"), world.plain.push("alt/a:1"));
        world.sign(&world.key, &image, format, &[]);
        world.accepted(format!("no referrers API, {word}"), &image).judge(world, table);
        world.sign(&world.stranger, &foreign, format, &[]);
        let name = format!("no referrers API, wrong key, {word}");
        world.refused(name, "untrusted key", &foreign).judge(world, table);
        world.sign(&world.key, &foreign, format, &[]);
        let name = format!("no referrers API, two signatures, one by the key, {word}");
        world.accepted(name, &foreign).judge(world, table);
    }
}

fn keys(world: &World, table: &mut Table) {
    let (key, stranger, third) = (&world.key, &world.stranger, &CosignKey::new());
    let untrusted = "untrusted key";
    for (format, word) in FORMATS {
        let good = world.signed(format);
        world.accepted(format!("good key first, {word}"), &good).keys(&[key, third]).judge(world, table);
        world.accepted(format!("good key last, {word}"), &good).keys(&[stranger, third, key]).judge(world, table);
        let name = format!("no key fits, {word}");
        world.refused(name, untrusted, &good).keys(&[third, stranger]).judge(world, table);
        let foreign = world.signed_with(stranger, format, &[]);
        world.refused(format!("wrong key, {word}"), untrusted, &foreign).judge(world, table);
        world.sign(key, &foreign, format, &[]);
        world.accepted(format!("two signatures, one by the key, {word}"), &foreign).judge(world, table);
    }
    world.refused("unsigned", "no cosign signature", &world.image()).judge(world, table);
    let broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let mut case = world.accepted("good key behind a broken one", &world.signed(Format::Legacy));
    case.pem.insert_str(0, broken);
    case.judge(world, table);
}

fn annotations(world: &World, table: &mut Table) {
    let lacks = "lacks the annotation";
    for (format, word) in FORMATS {
        let image = world.signed_with(&world.key, format, &["stage=prod", "team=a"]);
        let accepted = |what: &str| world.accepted(format!("{what}, {word}"), &image);
        let refused = |what: &str| world.refused(format!("{what}, {word}"), lacks, &image);
        accepted("annotation").annotations(&[("stage", "prod")]).judge(world, table);
        accepted("two annotations").annotations(&[("stage", "prod"), ("team", "a")]).judge(world, table);
        refused("annotation with another value").annotations(&[("stage", "test")]).judge(world, table);
        refused("annotation in other case").annotations(&[("stage", "Prod")]).judge(world, table);
        refused("one of two annotations").annotations(&[("stage", "prod"), ("site", "b")]).judge(world, table);
        let name = format!("annotation of a signature without any, {word}");
        world.refused(name, lacks, &world.signed(format)).annotations(&[("stage", "prod")]).judge(world, table);

        let split = world.signed_with(&world.key, format, &["stage=prod"]);
        world.sign(&world.key, &split, format, &["team=a"]);
        let name = format!("two annotations in two signatures, {word}");
        let wanted = [("stage", "prod"), ("team", "a")];
        world.refused(name, lacks, &split).annotations(&wanted).judge(world, table);
        let name = format!("annotation of one of two signatures, {word}");
        world.accepted(name, &split).annotations(&[("stage", "prod")]).judge(world, table);
    }
}

fn signers(world: &World, table: &mut Table) {
    let unlisted = "is not listed";
    for (format, word) in FORMATS {
        let image = world.signed_with(&world.key, format, &["signer=im@registry.local"]);
        let (one, two) = (["im@registry.local"], ["a@registry.local", "im@registry.local"]);
        world.accepted(format!("signer listed, {word}"), &image).signers(&one).judge(world, table);
        world.accepted(format!("signer listed second, {word}"), &image).signers(&two).judge(world, table);
        let name = format!("signer not listed, {word}");
        world.refused(name, unlisted, &image).signers(&["a@registry.local", "b@x"]).judge(world, table);
        let name = format!("no signer named, {word}");
        world.refused(name, unlisted, &world.signed(format)).signers(&one).judge(world, table);
    }
}

fn references(world: &World, table: &mut Table) {
    let both = |image: &Image, tag| format!("{}/{}:{tag}@{}", image.host, image.repository, image.digest);
    for (format, word) in FORMATS {
        let image = world.signed(format);
        let accepted = |what: &str| world.accepted(format!("{what}, {word}"), &image);
        accepted("by tag").named(image.tagged()).judge(world, table);
        accepted("by tag and digest").named(both(&image, "1")).judge(world, table);
        accepted("by another tag and digest").named(both(&image, "9")).judge(world, table);
    }
    let unsigned = world.image();
    world.refused("unsigned by tag", "no cosign signature", &unsigned).named(unsigned.tagged()).judge(world, table);
}
