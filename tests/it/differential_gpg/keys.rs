//! Algorithms, and what became of the key since it signed.

use jiff::{SignedDuration, Timestamp};

use super::{Case, LATER, MADE, SIGNED, World};
use crate::support::signer::{GpgKey, KeySpec, Reason, SignSpec};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let groups = [algorithms, digests, expiry, dates, revocation, subkeys, usage];
    groups.into_iter().flat_map(|group| group(world)).collect()
}

/// A case with this key alone, in the state it has now.
fn with_key(world: &World, case: Case, key: &GpgKey, signature: &[u8]) -> Case {
    case.signature(world, signature).keys(vec![world.gpg.export(&[key])])
}

fn algorithms(world: &World) -> Vec<Case> {
    let case = |name: &'static str, case: Case| {
        let algorithm = name.trim_start_matches("key ");
        let user_id = format!("{algorithm}@registry.local");
        let key = world.gpg.generate(&KeySpec { algorithm, ..KeySpec::new(&user_id) });
        let signature = world.signed_by(&key);
        with_key(world, case, &key, &signature)
    };
    let good = ["key rsa2048", "key rsa3072", "key rsa4096", "key ed25519", "key dsa2048", "key nistp256"];
    let good = good.into_iter().chain(["key nistp384", "key nistp521"]);
    let mut cases: Vec<_> = good.map(|name| case(name, world.accepted(name))).collect();
    for name in ["key rsa1024", "key dsa1024"] {
        cases.push(case(name, world.refused(name, "too weak")));
    }
    let name = "key brainpoolP256r1";
    cases.push(case(name, world.refused(name, "not supported")));
    cases
}

fn digests(world: &World) -> Vec<Case> {
    let signed =
        |hash| world.gpg.sign_with(&world.key, &world.payload().bytes(), &SignSpec { hash, ..SignSpec::default() });
    let old = ["--cert-digest-algo", "SHA1", "--quick-generate-key", "sha1@registry.local", "ed25519", "sign", "never"];
    world.gpg.gpg(None, &old, b"").succeeded();
    let listed = world.gpg.gpg(None, &["--with-colons", "--list-keys", "sha1@registry.local"], b"").succeeded().stdout;
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
    let old = GpgKey { fingerprint };
    vec![
        world.accepted("digest SHA224").signature(world, signed(Some("SHA224"))),
        world.accepted("digest SHA384").signature(world, signed(Some("SHA384"))),
        world.accepted("digest SHA512").signature(world, signed(Some("SHA512"))),
        world.refused("digest SHA1", "too weak").signature(world, signed(Some("SHA1"))),
        world.refused("digest RIPEMD160", "too weak").signature(world, signed(Some("RIPEMD160"))),
        with_key(world, world.refused("key with SHA-1 self-signatures", "too weak"), &old, &world.signed_by(&old)),
    ]
}

/// A key made long ago, and its signature from then.
fn old(world: &World, expires: &str) -> (GpgKey, Vec<u8>) {
    let key = world.gpg.generate(&KeySpec { expires, at: Some(MADE), ..KeySpec::new("old@registry.local") });
    let signature = signed_at(world, &key, MADE);
    (key, signature)
}

fn signed_at(world: &World, key: &GpgKey, at: &str) -> Vec<u8> {
    world.gpg.sign_with(key, &world.payload().bytes(), &SignSpec { at: Some(at), ..SignSpec::default() })
}

fn expiry(world: &World) -> Vec<Case> {
    let gpg = &world.gpg;
    let (expired, by_expired) = old(world, "30d");
    let (extended, by_extended) = old(world, "30d");
    let before = gpg.export(&[&extended]);
    gpg.set_expiry(&extended, "0", Some(LATER));
    let (shortened, by_shortened) = old(world, "never");
    gpg.set_expiry(&shortened, "30d", Some(SIGNED));
    let (primary, _) = old(world, "never");
    let subkey = gpg.add_subkey(&primary, "ed25519", "sign", "30d", Some(MADE));
    let by_subkey = signed_at(world, &subkey, MADE);
    vec![
        with_key(world, world.refused("key expired since it signed", "expired on 2024-01-31"), &expired, &by_expired),
        with_key(world, world.accepted("key expiry extended since it signed"), &extended, &by_extended),
        with_key(world, world.refused("key expiry shortened since it signed", "expired on"), &shortened, &by_shortened),
        world
            .accepted("key as it was before its extension beside the extended one")
            .signature(world, &by_extended)
            .keys(vec![before.clone(), gpg.export(&[&extended])]),
        world.refused("key before its extension", "expired on").signature(world, &by_extended).keys(vec![before]),
        with_key(world, world.refused("signing subkey expired", "expired on"), &primary, &by_subkey),
    ]
}

fn dates(world: &World) -> Vec<Case> {
    let (key, _) = old(world, "never");
    let far = signed_at(world, &key, "20991231T000000");
    let soon = Timestamp::now().saturating_add(SignedDuration::from_secs(120)).unwrap();
    let soon = signed_at(world, &world.key, &soon.strftime("%Y%m%dT%H%M%S").to_string());
    let payload = world.payload().bytes();
    let until = |at, expires| {
        world.gpg.sign_with(&key, &payload, &SignSpec { at, expires: Some(expires), ..SignSpec::default() })
    };
    vec![
        with_key(world, world.refused("signature expired", "expired on"), &key, &until(Some(MADE), "30d")),
        with_key(world, world.accepted("signature that expires later"), &key, &until(None, "10y")),
        with_key(world, world.refused("signature of the far future", "dated in the future"), &key, &far),
        world.accepted("signature by a clock two minutes fast").signature(world, soon),
    ]
}

fn revocation(world: &World) -> Vec<Case> {
    let gpg = &world.gpg;
    let mut cases = Vec::new();
    for (name, reason, at, expected) in [
        ("key compromised after signing", Reason::Compromised, LATER, "is revoked"),
        ("key compromised before signing", Reason::Compromised, MADE, "is revoked"),
        ("key retired after signing", Reason::Retired, LATER, "is revoked"),
        ("key retired before signing", Reason::Retired, MADE, "is revoked"),
    ] {
        let (key, _) = old(world, "never");
        let signature = signed_at(world, &key, SIGNED);
        gpg.revoke_for(&key, reason, Some(at));
        cases.push(with_key(world, world.refused(name, expected), &key, &signature));
    }
    let (key, signature) = old(world, "never");
    let before = gpg.export(&[&key]);
    gpg.revoke(&key);
    let copies = vec![before, gpg.export(&[&key])];
    cases
        .push(world.refused("key revoked in one of two copies", "is revoked").signature(world, signature).keys(copies));
    cases
}

fn subkeys(world: &World) -> Vec<Case> {
    let gpg = &world.gpg;
    let mut cases = Vec::new();
    let (key, by_primary) = old(world, "never");
    let subkey = gpg.add_subkey(&key, "ed25519", "sign", "never", Some(MADE));
    let by_subkey = signed_at(world, &subkey, SIGNED);
    cases.push(with_key(world, world.accepted("signing subkey"), &key, &by_subkey));
    gpg.revoke_subkey(&key, Reason::Retired, Some(LATER));
    cases.push(with_key(world, world.refused("signing subkey retired", "is revoked"), &key, &by_subkey));
    cases.push(with_key(world, world.accepted("primary key while its subkey is retired"), &key, &by_primary));

    let (key, _) = old(world, "never");
    let subkey = gpg.add_subkey(&key, "ed25519", "sign", "never", Some(MADE));
    let by_subkey = signed_at(world, &subkey, SIGNED);
    gpg.revoke_for(&key, Reason::Compromised, Some(LATER));
    cases.push(with_key(world, world.refused("subkey of a revoked key", "is revoked"), &key, &by_subkey));

    let key = gpg.generate(&KeySpec::new("first@registry.local"));
    gpg.add_user_id(&key, "second@registry.local");
    gpg.revoke_user_id(&key, "second@registry.local");
    cases.push(with_key(world, world.accepted("one of two user ids revoked"), &key, &world.signed_by(&key)));
    cases
}

fn usage(world: &World) -> Vec<Case> {
    let gpg = &world.gpg;
    let spec = KeySpec { algorithm: "rsa2048", usage: "cert,sign", ..KeySpec::new("usage@registry.local") };
    let (certifier, master) = (gpg.generate(&spec), gpg.generate(&spec));
    let by_certifier = world.signed_by(&certifier);
    gpg.change_usage(&certifier, "", &["S"]);
    let subkey = gpg.add_subkey(&master, "rsa2048", "sign", "never", None);
    let by_subkey = world.signed_by(&subkey);
    gpg.change_usage(&master, "key 1", &["S", "E"]);
    vec![
        with_key(world, world.refused("key that may only certify", "not for signing"), &certifier, &by_certifier),
        with_key(world, world.refused("subkey that may only encrypt", "not for signing"), &master, &by_subkey),
    ]
}
