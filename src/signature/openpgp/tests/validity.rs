//! Validity as of now (reference matrix 2.3; E22–E28), with what the library itself can make.

use std::time::Duration;

use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, SubkeyRevocationBuilder};
use sequoia_openpgp::packet::Packet;
use sequoia_openpgp::packet::key::{Key4, PrimaryRole, SecretParts};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::signature::subpacket::NotationDataFlags;
use sequoia_openpgp::packet::{Key, Signature, UserID};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{Curve, HashAlgorithm, KeyFlags, ReasonForRevocation, RevocationKey, SignatureType};
use sequoia_openpgp::{Cert, KeyHandle};

use super::super::super::SignatureError;
use super::support::*;

/// `cert` with its expiry set to `end` by self-signatures made at `at`; like gpg, without the former ones.
fn reissued(cert: &Cert, at: std::time::SystemTime, end: std::time::SystemTime) -> Cert {
    let policy = StandardPolicy::at(at);
    let mut key = primary(cert);
    // The library's clock is the machine's, hence built by hand.
    let valid = cert.with_policy(&policy, made()).unwrap();
    let renew = |old: &Signature| {
        SignatureBuilder::from(old.clone())
            .set_signature_creation_time(at)
            .unwrap()
            .set_key_validity_period(end.duration_since(made()).unwrap())
            .unwrap()
    };
    let direct =
        renew(valid.direct_key_signature().unwrap()).sign_direct_key(&mut key, Some(cert.primary_key().key())).unwrap();
    let user_id = valid.userids().next().unwrap();
    let binding = renew(user_id.binding_signature())
        .sign_userid_binding(&mut key, Some(cert.primary_key().key()), user_id.userid())
        .unwrap();
    let bare = [Packet::from(cert.primary_key().key().clone()), user_id.userid().clone().into()];
    Cert::from_packets(bare.into_iter()).unwrap().insert_packets([direct, binding]).unwrap().0
}

fn expiring(end: Duration) -> Cert {
    builder("alice")
        .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing())
        .set_validity_period(end)
        .generate()
        .unwrap()
        .0
}

#[test]
fn e22_key_expired_now_is_refused_and_alive_key_bounds_the_verdict() {
    let cert = expiring(DAY * 200);
    let blob = blob(&sign(&mut primary(&cert)));
    let ring = ring(&[&cert]);
    key_refused(&ring, &blob, &cert.fingerprint(), "expired on 2024-07-19T00:00:00Z");
    let verified = ring.verify(&blob, signed() + DAY).unwrap();
    assert_eq!(verified.valid_until, Some(made() + DAY * 200));
}

#[test]
fn e22_expiry_extended_after_signing_is_accepted() {
    let cert = expiring(DAY * 200);
    let blob = blob(&sign(&mut primary(&cert)));
    let extended = reissued(&cert, made() + DAY * 250, made() + DAY * 900);
    let verified = good(&ring(&[&extended]), &blob);
    assert_eq!(verified.valid_until, Some(made() + DAY * 900));
    // Also when the old and the new copy are both there, in any order.
    good(&super::super::Keyring::from_files([("a", &*public(&cert)), ("b", &*public(&extended))]).0, &blob);
    good(&super::super::Keyring::from_files([("b", &*public(&extended)), ("a", &*public(&cert))]).0, &blob);
}

#[test]
fn e22_expiry_shortened_after_signing_is_refused() {
    let cert = expiring(DAY * 900);
    let blob = blob(&sign(&mut primary(&cert)));
    good(&ring(&[&cert]), &blob);
    let shortened = reissued(&cert, made() + DAY * 250, made() + DAY * 300);
    key_refused(&ring(&[&shortened]), &blob, &cert.fingerprint(), "expired on");
}

#[test]
fn e22_expired_subkey_is_refused_and_alive_subkey_bounds_the_verdict() {
    let cert =
        builder("alice").add_subkey(KeyFlags::empty().set_signing(), Some(DAY * 300), None).generate().unwrap().0;
    let mut key = subkey(&cert);
    let fingerprint = key.public().fingerprint();
    let blob = blob(&sign(&mut key));
    key_refused(&ring(&[&cert]), &blob, &fingerprint, "expired on");
    assert_eq!(ring(&[&cert]).verify(&blob, signed()).unwrap().valid_until, Some(made() + DAY * 300));
    let info = ring(&[&cert]).keys(now());
    assert!(info[0].unusable.as_ref().unwrap().contains("expired on"), "{info:?}");
}

fn revoked(cert: &Cert, reason: ReasonForRevocation, at: std::time::SystemTime) -> Cert {
    let revocation = CertRevocationBuilder::new()
        .set_signature_creation_time(at)
        .unwrap()
        .set_reason_for_revocation(reason, b"")
        .unwrap()
        .build(&mut primary(cert), cert, None)
        .unwrap();
    cert.clone().insert_packets(revocation).unwrap().0
}

#[test]
fn e23_revoked_key_is_refused_hard_or_soft_whatever_the_date() {
    use ReasonForRevocation::{KeyCompromised, KeyRetired, KeySuperseded, UIDRetired, Unspecified};
    let cert = subkey_signer("alice");
    let blob = blob(&sign(&mut subkey(&cert)));
    good(&ring(&[&cert]), &blob);
    for reason in [KeyCompromised, KeyRetired, KeySuperseded, UIDRetired, Unspecified] {
        for at in [made() + DAY, signed() + DAY, now() + DAY * 30] {
            let revoked = revoked(&cert, reason, at);
            key_refused(&ring(&[&revoked]), &blob, &cert.fingerprint(), "is revoked");
            assert!(ring(&[&revoked]).keys(now())[0].unusable.as_ref().unwrap().contains("is revoked"));
        }
    }
}

#[test]
fn e23_soft_revocation_is_not_undone_by_a_newer_self_signature() {
    let cert = expiring(DAY * 900);
    let blob = blob(&sign(&mut primary(&cert)));
    let revocation = revoked(&cert, ReasonForRevocation::KeyRetired, signed() + DAY);
    let newer = reissued(&cert, signed() + DAY * 2, made() + DAY * 900);
    good(&ring(&[&newer]), &blob);
    let both = newer.merge_public(revocation).unwrap();
    key_refused(&ring(&[&both]), &blob, &cert.fingerprint(), "is revoked");
}

#[test]
fn e23_revocation_by_somebody_else_counts_only_if_he_is_appointed() {
    let revoker = signer("revoker");
    let appoint = |list: Vec<RevocationKey>| {
        builder("alice")
            .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing())
            .set_revocation_keys(list)
            .generate()
            .unwrap()
            .0
    };
    for appointed in [true, false] {
        let cert = appoint(if appointed { vec![RevocationKey::from(&revoker)] } else { Vec::new() });
        let revocation = SignatureBuilder::new(SignatureType::KeyRevocation)
            .set_signature_creation_time(signed())
            .unwrap()
            .sign_direct_key(&mut primary(&revoker), Some(cert.primary_key().key()))
            .unwrap();
        let blob = blob(&sign(&mut primary(&cert)));
        let with = cert.clone().insert_packets(revocation).unwrap().0;
        if appointed {
            key_refused(&ring(&[&with]), &blob, &cert.fingerprint(), "revoked by a revoker");
        } else {
            good(&ring(&[&with]), &blob);
        }
    }
}

#[test]
fn e23_revoked_subkey_is_refused_and_its_siblings_are_not() {
    let cert = builder("alice").add_signing_subkey().add_signing_subkey().generate().unwrap().0;
    let subkeys: Vec<_> = cert.keys().subkeys().secret().collect();
    let (mut first, mut second) =
        (pair(subkeys[0].key().role_as_unspecified()), pair(subkeys[1].key().role_as_unspecified()));
    for reason in [ReasonForRevocation::KeyCompromised, ReasonForRevocation::KeyRetired] {
        let revocation = SubkeyRevocationBuilder::new()
            .set_signature_creation_time(signed() + DAY)
            .unwrap()
            .set_reason_for_revocation(reason, b"")
            .unwrap()
            .build(&mut primary(&cert), &cert, subkeys[0].key(), None)
            .unwrap();
        let ring = ring(&[&cert.clone().insert_packets(revocation).unwrap().0]);
        key_refused(&ring, &blob(&sign(&mut first)), &first.public().fingerprint(), "is revoked");
        good(&ring, &blob(&sign(&mut second)));
        assert_eq!(ring.keys(now())[0].unusable, None);
    }
}

#[test]
fn e24_key_of_the_future_is_refused() {
    let cert = CertBuilder::general_purpose(Some("alice")).set_creation_time(now() + DAY).generate().unwrap().0;
    let sig = template().set_signature_creation_time(now() + DAY).unwrap();
    let blob = blob(&sig.sign_message(&mut subkey(&cert), CONTENT).unwrap());
    let ring = ring(&[&cert]);
    not_valid(&ring, &blob, "dated in the future");
    assert!(ring.keys(now())[0].unusable.as_ref().unwrap().contains("is not valid before"));
    ring.verify(&blob, now() + DAY * 2).unwrap();
    // Within the tolerance for the signature, there is none for the key.
    match ring.verify(&blob, now() + DAY - Duration::from_secs(60)) {
        Err(SignatureError::Key(why)) => assert!(why.contains("is not valid before"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e24_signature_of_the_future_is_refused_beyond_five_minutes() {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    let dated = |ahead: u64| {
        let sig = template().set_signature_creation_time(now() + Duration::from_secs(ahead)).unwrap();
        blob(&sig.sign_message(&mut primary(&cert), CONTENT).unwrap())
    };
    good(&ring, &dated(0));
    good(&ring, &dated(300));
    for ahead in [301, 600, 3600, 24 * 3600] {
        not_valid(&ring, &dated(ahead), "dated in the future");
    }
}

#[test]
fn signature_dated_before_its_key_is_refused() {
    let cert = signer("alice");
    let sig = template().set_signature_creation_time(made() - DAY).unwrap();
    let digest_fits = sig.sign_message(&mut primary(&cert), CONTENT).unwrap();
    not_valid(&ring(&[&cert]), &blob(&digest_fits), "before its key was made");
}

#[test]
fn e25_subkey_not_for_signing_is_refused() {
    for flags in [KeyFlags::empty().set_authentication(), KeyFlags::empty().set_certification()] {
        let cert = builder("alice").add_subkey(flags, None, None).generate().unwrap().0;
        let mut key = subkey(&cert);
        let fingerprint = key.public().fingerprint();
        key_refused(&ring(&[&cert]), &blob(&sign(&mut key)), &fingerprint, "is not for signing");
    }
}

#[test]
fn e25_primary_key_not_for_signing_is_refused() {
    let cert = subkey_signer("alice");
    key_refused(&ring(&[&cert]), &blob(&sign(&mut primary(&cert))), &cert.fingerprint(), "is not for signing");
    good(&ring(&[&cert]), &blob(&sign(&mut subkey(&cert))));
}

#[test]
fn e25_unbound_subkey_is_refused() {
    let (cert, stolen) = (signer("alice"), subkey_signer("mallory"));
    let mut key = subkey(&stolen);
    let foreign = stolen.keys().subkeys().next().unwrap();
    let packets: Vec<Packet> = cert
        .clone()
        .strip_secret_key_material()
        .into_packets()
        .chain([Packet::from(foreign.key().clone())])
        .chain(foreign.self_signatures().cloned().map(Packet::from))
        .collect();
    let ring = super::super::Keyring::from_files([("k.pgp", &*bytes(&packets))]).0;
    let blob = blob(&sign(&mut key));
    key_refused(&ring, &blob, &key.public().fingerprint(), "is not bound to it");
}

#[test]
fn e25_adopted_subkey_without_back_signature_is_refused() {
    // The thief binds a stranger's signing subkey to his own certificate; he cannot make its back signature.
    let (thief, victim) = (signer("thief"), subkey_signer("victim"));
    let mut key = subkey(&victim);
    let adopted = victim.keys().subkeys().next().unwrap().key().clone();
    let binding = SignatureBuilder::new(SignatureType::SubkeyBinding)
        .set_signature_creation_time(made())
        .unwrap()
        .set_key_flags(KeyFlags::empty().set_signing())
        .unwrap()
        .sign_subkey_binding(&mut primary(&thief), Some(thief.primary_key().key()), &adopted)
        .unwrap();
    let thief = thief.insert_packets([Packet::from(adopted), binding.into()]).unwrap().0;
    let blob = blob(&sign(&mut key));
    assert!(matches!(refused(&ring(&[&thief]), &blob), SignatureError::Key(_)));
    for certs in [[&thief, &victim], [&victim, &thief]] {
        assert_eq!(good(&ring(&certs), &blob).signer.fingerprint, victim.fingerprint().to_hex());
    }
}

#[test]
fn unknown_key_is_untrusted_and_named() {
    let (alice, stranger) = (signer("alice"), signer("stranger"));
    let blob = blob(&sign(&mut primary(&stranger)));
    let issuer = Some(stranger.fingerprint().to_hex());
    assert_eq!(refused(&ring(&[&alice]), &blob), SignatureError::UntrustedKey(issuer.clone()));
    assert_eq!(refused(&super::super::Keyring::default(), &blob), SignatureError::UntrustedKey(issuer));
}

#[test]
fn changed_content_is_bad_whatever_the_key_is() {
    let cert = expiring(DAY * 200);
    let sig = sign(&mut primary(&cert));
    let blob = bytes(&[one_pass(&sig), literal(b"{}"), sig.into()]);
    assert_eq!(refused(&ring(&[&cert]), &blob), SignatureError::Bad);
}

#[test]
fn issuer_that_is_not_the_signer_is_bad() {
    let (alice, bob) = (signer("alice"), signer("bob"));
    let sig = template()
        .set_issuer_fingerprint(alice.fingerprint())
        .unwrap()
        .set_issuer(alice.keyid())
        .unwrap()
        .sign_message(&mut primary(&bob), CONTENT)
        .unwrap();
    assert!(sig.get_issuers().iter().all(|issuer| issuer.aliases(KeyHandle::from(alice.fingerprint()))));
    assert_eq!(refused(&ring(&[&alice, &bob]), &blob(&sig)), SignatureError::Bad);
}

#[test]
fn e27_weak_digest_is_refused_by_name() {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    for (weak, name) in
        [(HashAlgorithm::SHA1, "SHA1"), (HashAlgorithm::MD5, "MD5"), (HashAlgorithm::RipeMD, "RipeMD160")]
    {
        let sig = template().set_hash_algo(weak).sign_message(&mut primary(&cert), CONTENT).unwrap();
        not_valid(&ring, &blob(&sig), &format!("digest algorithm {name} is too weak"));
        // A clock set back brings nothing back.
        assert!(matches!(ring.verify(&blob(&sig), signed()), Err(SignatureError::NotValid(_))));
    }
    for fine in [HashAlgorithm::SHA256, HashAlgorithm::SHA384, HashAlgorithm::SHA512] {
        good(&ring, &blob(&template().set_hash_algo(fine).sign_message(&mut primary(&cert), CONTENT).unwrap()));
    }
}

/// A certificate of `bits` RSA whose self-signature uses `hash`.
fn rsa(bits: usize, hash: HashAlgorithm) -> Cert {
    let mut key: Key<SecretParts, PrimaryRole> = Key4::<SecretParts, PrimaryRole>::generate_rsa(bits).unwrap().into();
    key.set_creation_time(made()).unwrap();
    let mut signer = pair(key.role_as_unspecified());
    let user_id = UserID::from("old <old@example.org>");
    let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_hash_algo(hash)
        .set_signature_creation_time(made())
        .unwrap()
        .set_key_flags(KeyFlags::empty().set_certification().set_signing())
        .unwrap()
        .sign_userid_binding(&mut signer, Some(key.parts_as_public()), &user_id)
        .unwrap();
    Cert::from_packets([Packet::from(key), user_id.into(), binding.into()].into_iter()).unwrap()
}

#[test]
fn e27_weak_keys_and_self_signatures_are_refused_by_name() {
    let fine = rsa(2048, HashAlgorithm::SHA256);
    good(&ring(&[&fine]), &blob(&sign(&mut primary(&fine))));
    for (cert, why) in [
        (rsa(1024, HashAlgorithm::SHA256), "RSA1024 is too weak"),
        (rsa(2048, HashAlgorithm::SHA1), "SHA1 is too weak"),
    ] {
        key_refused(&ring(&[&cert]), &blob(&sign(&mut primary(&cert))), &cert.fingerprint(), why);
        assert!(ring(&[&cert]).keys(now())[0].unusable.as_ref().unwrap().contains(why));
    }
}

#[test]
fn e28_expired_signature_is_refused_and_alive_one_bounds_the_verdict() {
    let cert = signer("alice");
    let sig = template().set_signature_validity_period(DAY * 10).unwrap();
    let blob = blob(&sig.sign_message(&mut primary(&cert), CONTENT).unwrap());
    let ring = ring(&[&cert]);
    not_valid(&ring, &blob, "expired on 2024-06-09T00:00:00Z");
    let end = signed() + DAY * 10;
    assert_eq!(ring.verify(&blob, end - DAY).unwrap().valid_until, Some(end));
    assert!(ring.verify(&blob, end).is_err());
}

#[test]
fn critical_notation_that_nobody_knows_is_refused() {
    let cert = signer("alice");
    let with = |critical| {
        let sig = template()
            .set_notation("rule@example.org", "x", NotationDataFlags::empty().set_human_readable(), critical)
            .unwrap();
        blob(&sig.sign_message(&mut primary(&cert), CONTENT).unwrap())
    };
    good(&ring(&[&cert]), &with(false));
    not_valid(&ring(&[&cert]), &with(true), "rule@example.org");
}

/// A key whose self-signature says nothing about its purpose, or says that it has none.
fn key_with_purpose(flags: Option<KeyFlags>) -> Cert {
    let key = Key4::<SecretParts, PrimaryRole>::generate_ecc(true, Curve::Ed25519).unwrap();
    let mut key = Key::from(key);
    key.set_creation_time(made()).unwrap();
    let mut signer = key.clone().into_keypair().unwrap();
    let user_id = UserID::from("old <old@example.org>");
    let mut binding = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_hash_algo(HashAlgorithm::SHA256)
        .set_signature_creation_time(made())
        .unwrap();
    if let Some(flags) = flags {
        binding = binding.set_key_flags(flags).unwrap();
    }
    let binding = binding.sign_userid_binding(&mut signer, key.parts_as_public(), &user_id).unwrap();
    let packets: Vec<Packet> = vec![key.into(), user_id.into(), binding.into()];
    Cert::from_packets(packets.into_iter()).unwrap()
}

#[test]
fn e25_a_primary_key_without_stated_purpose_signs_and_one_stated_otherwise_does_not() {
    let unstated = key_with_purpose(None);
    good(&ring(&[&unstated]), &blob(&sign(&mut primary(&unstated))));
    for flags in [KeyFlags::empty(), KeyFlags::empty().set_certification()] {
        let stated = key_with_purpose(Some(flags));
        let error = ring(&[&stated]).verify(&blob(&sign(&mut primary(&stated))), now()).unwrap_err();
        assert!(error.to_string().contains("not for signing"), "{error}");
    }
}

#[test]
fn a_key_that_could_not_verify_is_known_before_it_is_made() {
    use super::super::{KeyAlgorithm, accepted_until};
    let day = |text: &str| std::time::SystemTime::from(text.parse::<jiff::Timestamp>().unwrap());
    let (then, later) = (day("2026-01-01T00:00:00Z"), day("2031-01-01T00:00:00Z"));
    for (algorithm, bits) in [(KeyAlgorithm::Rsa, 1024), (KeyAlgorithm::Rsa, 2047), (KeyAlgorithm::Dsa, 1024)] {
        let error = accepted_until(algorithm, bits, then).unwrap_err();
        assert!(error.contains(&bits.to_string()) && error.ends_with("is too weak"), "{error}");
    }
    for (algorithm, bits) in [(KeyAlgorithm::Rsa, 2048), (KeyAlgorithm::Rsa, 4096), (KeyAlgorithm::Ed25519, 0)] {
        assert_eq!(accepted_until(algorithm, bits, later), Ok(None), "{algorithm:?} {bits}");
    }
    for bits in [2048, 3072] {
        let end = accepted_until(KeyAlgorithm::Dsa, bits, then).unwrap().unwrap();
        assert!(end > day("2030-01-01T00:00:00Z") && end < later);
        accepted_until(KeyAlgorithm::Dsa, bits, later).unwrap_err();
    }
}
