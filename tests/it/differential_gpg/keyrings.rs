//! Key files: how many, in which form, in which order.

use super::{Case, World};
use crate::support::signer::KeySpec;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let gpg = &world.gpg;
    let (good, stranger) = (gpg.export(&[&world.key]), gpg.export(&[&world.stranger]));
    let (armored, other) = (gpg.export_armored(&[&world.key]), gpg.export_armored(&[&world.stranger]));
    let third = gpg.export(&[&gpg.generate(&KeySpec::new("third@registry.local"))]);
    let signature = world.signed();
    let accepted = |name, keys| world.accepted(name).signature(world, &signature).keys(keys);
    let refused = |name, words, keys| world.refused(name, words).signature(world, &signature).keys(keys);
    let user = format!("{}!", world.key.fingerprint);
    let secret = gpg.gpg(None, &["--export-secret-keys", &user], b"").succeeded().bytes;
    vec![
        accepted("good key first", vec![good.clone(), stranger.clone(), third.clone()]),
        accepted("good key in the middle", vec![stranger.clone(), good.clone(), third.clone()]),
        accepted("good key last", vec![stranger.clone(), third.clone(), good.clone()]),
        accepted("keys concatenated in one file", vec![[&stranger[..], &good, &third].concat()]),
        accepted("the same key twice", vec![good.clone(), good.clone()]),
        accepted("armored key", vec![armored.clone()]),
        accepted("armored keys, concatenated", vec![[&other[..], &armored].concat()]),
        accepted("armored key, text around", vec![[b"A key:\n\n", &armored[..], b"\nend\n"].concat()]),
        accepted("private key instead of the public one", vec![secret]),
        refused("unknown key", "untrusted key", vec![stranger.clone(), third]),
        refused("empty key file", "no public keys imported", vec![Vec::new()]),
        refused("key file without a key", "no public keys imported", vec![b"no key\n".to_vec()]),
        refused("key file cut short", "no public keys imported", vec![good[..good.len() / 3].to_vec()]),
        refused("signature in place of a key", "no public keys imported", vec![signature.clone()]),
    ]
}
