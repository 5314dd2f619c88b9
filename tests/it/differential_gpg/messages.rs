//! Forms of a signature: compression, framing, damage.

use super::{Case, World};
use crate::support::signer::KeySpec;

pub(super) fn cases(world: &World) -> Vec<Case> {
    [compression(world), framing(world), damage(world), signers(world)].into_iter().flatten().collect()
}

fn compression(world: &World) -> Vec<Case> {
    let case = |name: &'static str, algorithm| {
        let signature = world.made(&["--compress-algo", algorithm, "--sign"]);
        world.accepted(name).signature(world, signature)
    };
    vec![
        case("not compressed", "none"),
        case("compressed with zip", "zip"),
        case("compressed with zlib", "zlib"),
        case("compressed with bzip2", "bzip2"),
    ]
}

fn framing(world: &World) -> Vec<Case> {
    let literal = world.made(&["--compress-algo", "none", "--store"]);
    let detached = world.made(&["--detach-sign"]);
    let plain = world.made(&["--compress-algo", "none", "--sign"]);
    let refused = |name, words, signature: &[u8]| world.refused(name, words).signature(world, signature);
    let key = world.gpg.generate(&KeySpec { usage: "cert,sign", ..KeySpec::new("reader@registry.local") });
    let reader = world.gpg.add_subkey(&key, "cv25519", "encr", "never", None);
    let encrypt = ["--trust-model", "always", "--recipient", &reader.fingerprint, "--sign", "--encrypt"];
    vec![
        world.accepted("text-mode signature").signature(world, world.made(&["--textmode", "--sign"])),
        world.accepted("signature packet in front").signature(world, [&detached[..], &literal].concat()),
        refused("armored message", "armored or cleartext", &world.made(&["--armor", "--sign"])),
        refused("cleartext message", "armored or cleartext", &world.made(&["--clearsign"])),
        refused("detached signature", "not a signed OpenPGP message", &detached),
        refused("literal alone", "not a binary OpenPGP", &literal),
        refused("compressed literal alone", "no signature packet", &world.made(&["--store"])),
        refused("signed and encrypted", "not a binary OpenPGP", &world.made(&encrypt)),
        refused("marker packet first", "not a binary OpenPGP", &[b"\xCA\x03PGP", &plain[..]].concat()),
        refused("two messages", "more than one one-pass signature", &[&plain[..], &plain].concat()),
        refused("literal behind", "more than one literal", &[&plain[..], &literal].concat()),
        refused("literal in front", "not a binary OpenPGP", &[&literal[..], &plain].concat()),
        refused("second signature packet behind", "more than one signature", &[&plain[..], &detached].concat()),
    ]
}

fn damage(world: &World) -> Vec<Case> {
    let plain = world.made(&["--compress-algo", "none", "--sign"]);
    let zipped = world.made(&["--compress-algo", "zip", "--sign"]);
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    // Within the name, so that the payload stays as long and as readable as it was.
    let name = plain.windows(5).position(|window| window == b"alt/a").unwrap();
    let refused = |name, words, signature: Vec<u8>| world.refused(name, words).signature(world, signature);
    vec![
        refused("one byte of the content changed", "does not fit its content", flipped(&plain, name)),
        refused("last byte of the signature changed", "does not fit its content", flipped(&plain, plain.len() - 1)),
        refused("one byte of the compressed data changed", "is invalid", flipped(&zipped, zipped.len() / 2)),
        refused("truncated by one byte", "malformed signature", plain[..plain.len() - 1].to_vec()),
        refused("truncated in the middle", "damaged or truncated", plain[..plain.len() / 2].to_vec()),
        refused("compressed and truncated", "malformed signature", zipped[..zipped.len() - 8].to_vec()),
        refused("junk behind", "does not belong into a signed message", [&plain[..], b"junk"].concat()),
        refused("junk behind a compressed one", "data behind the compressed", [&zipped[..], b"junk"].concat()),
        refused("junk in front", "not a binary OpenPGP", [b"junk", &plain[..]].concat()),
        refused("empty file", "malformed signature: empty", Vec::new()),
        refused("a web page", "not a binary OpenPGP", b"<!DOCTYPE html><title>Not found</title>".to_vec()),
        refused("the payload without any OpenPGP", "not a binary OpenPGP", world.payload().bytes()),
    ]
}

fn signers(world: &World) -> Vec<Case> {
    let second = format!("{}!", world.stranger.fingerprint);
    let both = world.made(&["--local-user", &second, "--sign"]);
    let known = vec![world.gpg.export(&[&world.key, &world.stranger])];
    vec![
        world
            .refused("two signers, both trusted", "more than one one-pass signature")
            .signature(world, &both)
            .keys(known),
        world.refused("two signers, one trusted", "more than one one-pass signature").signature(world, &both),
    ]
}
