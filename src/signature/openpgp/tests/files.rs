//! Key files and what becomes of them (E26, E39).

use std::time::SystemTime;

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertRevocationBuilder, UserIDRevocationBuilder};
use sequoia_openpgp::packet::UserID;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::types::{KeyFlags, ReasonForRevocation};

use super::super::super::SignatureError;
use super::super::Keyring;
use super::super::keyfile::{MAX_CERTS, MAX_FILE};
use super::support::*;

fn armored(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().armored().to_vec().unwrap()
}

fn load(files: &[(&str, &[u8])]) -> (Keyring, Vec<String>) {
    Keyring::from_files(files.iter().copied())
}

fn fingerprints(ring: &Keyring) -> Vec<String> {
    ring.keys(now()).into_iter().map(|key| key.fingerprint).collect()
}

fn sorted(certs: &[&Cert]) -> Vec<String> {
    let mut all: Vec<_> = certs.iter().map(|cert| cert.fingerprint().to_hex()).collect();
    all.sort();
    all
}

#[test]
fn binary_armored_and_concatenated_files_are_read() {
    let (a, b) = (signer("a"), signer("b"));
    let binary = [public(&a), public(&b)].concat();
    let armor = [armored(&a), armored(&b)].concat();
    let commented = [b"The keys of the group:\n\n".to_vec(), armored(&a), b"\nand\n".to_vec(), armored(&b)].concat();
    let windows = String::from_utf8(armor.clone()).unwrap().replace('\n', "\r\n").into_bytes();
    for file in [&binary, &armor, &commented, &windows] {
        let (ring, problems) = load(&[("group.pgp", file)]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(fingerprints(&ring), sorted(&[&a, &b]));
        good(&ring, &blob(&sign(&mut primary(&a))));
        good(&ring, &blob(&sign(&mut primary(&b))));
    }
}

#[test]
fn files_without_certificate_are_reported() {
    let pem = b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";
    for file in [&b""[..], b"hello", pem, b"\x99\x01", &blob(&sign(&mut primary(&signer("a"))))] {
        let (ring, problems) = load(&[("x.pgp", file)]);
        assert!(ring.is_empty());
        assert!(problems.iter().any(|p| p.starts_with("key file x.pgp: ")), "{problems:?}");
    }
    let (ring, problems) = load(&[]);
    assert!(ring.is_empty() && problems.is_empty());
}

#[test]
fn secret_key_is_reported_and_only_its_public_part_kept() {
    let cert = subkey_signer("a");
    for file in [cert.as_tsk().to_vec().unwrap(), cert.as_tsk().armored().to_vec().unwrap()] {
        let (ring, problems) = load(&[("a.pgp", &file)]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("secret key"), "{problems:?}");
        assert!(ring.entries.iter().all(|entry| !entry.cert.is_tsk()));
        good(&ring, &blob(&sign(&mut subkey(&cert))));
    }
}

#[test]
fn bad_armored_block_is_reported_and_its_neighbours_stay() {
    let (a, b, c) = (signer("a"), signer("b"), signer("c"));
    let damaged = String::from_utf8(armored(&b)).unwrap();
    let damaged = damaged[..damaged.len() / 2].to_owned() + "\n";
    let (ring, problems) = load(&[("g.asc", &[armored(&a), damaged.into_bytes(), armored(&c)].concat())]);
    assert!(!problems.is_empty());
    assert_eq!(fingerprints(&ring), sorted(&[&a, &c]));
}

#[test]
fn damage_inside_a_certificate_never_loses_its_revocation_silently() {
    let cert = signer("a");
    let revocation = CertRevocationBuilder::new()
        .set_signature_creation_time(signed())
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"")
        .unwrap()
        .build(&mut primary(&cert), &cert, None)
        .unwrap();
    let good_blob = blob(&sign(&mut primary(&cert)));
    // Some tools append: the revocation comes last, and truncation hits it first.
    let file = [public(&cert), bytes(&[revocation.into()])].concat();
    key_refused(&load(&[("a.pgp", &file)]).0, &good_blob, &cert.fingerprint(), "revoked");
    for cut in public(&cert).len() + 1..file.len() {
        let (ring, problems) = load(&[("a.pgp", &file[..cut])]);
        assert!(ring.verify(&good_blob, now()).is_err() && !problems.is_empty(), "cut at {cut}: {problems:?}");
    }
}

#[test]
fn bounds_on_files_and_certificates_hold() {
    let cert = signer("a");
    let (ring, problems) = load(&[("big.pgp", &vec![0x98; MAX_FILE + 1]), ("a.pgp", &public(&cert))]);
    assert_eq!(problems, ["key file big.pgp: larger than 4 MiB, not read; split it"]);
    assert_eq!(fingerprints(&ring), sorted(&[&cert]));
    let (_, problems) = load(&[("many.pgp", &public(&cert).repeat(MAX_CERTS))]);
    assert_eq!(problems, Vec::<String>::new());
    for many in [public(&cert), armored(&cert)] {
        let (_, problems) = load(&[("many.pgp", &many.repeat(MAX_CERTS + 1))]);
        assert_eq!(problems, ["key file many.pgp: more than 1000 certificates; the rest is left out"]);
    }
}

#[test]
fn e39_damaged_key_files_never_panic() {
    let (cert, other) = (subkey_signer("a"), signer("b"));
    for file in [[public(&cert), public(&other)].concat(), [armored(&cert), armored(&other)].concat()] {
        for at in (0..file.len()).step_by(7) {
            let mut changed = file.clone();
            changed[at] ^= 0x41;
            let _ = load(&[("x", &changed)]).0.keys(now());
            let _ = load(&[("x", &file[..at])]).0.keys(now());
        }
    }
}

#[test]
fn e26_verdict_is_the_same_in_every_order_of_keyrings() {
    let certs = [signer("a"), signer("b"), signer("c")];
    let files: Vec<(String, Vec<u8>)> =
        certs.iter().enumerate().map(|(n, cert)| (format!("f{n}.pgp"), public(cert))).collect();
    let stranger = blob(&sign(&mut primary(&signer("d"))));
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (apart, _) = Keyring::from_files(order.map(|n| (files[n].0.as_str(), files[n].1.as_slice())));
        let together = order.map(|n| files[n].1.clone()).concat();
        let (together, _) = load(&[("all.pgp", &together)]);
        for (n, cert) in certs.iter().enumerate() {
            let blob = blob(&sign(&mut primary(cert)));
            assert_eq!(good(&apart, &blob).signer.file, format!("f{n}.pgp"));
            assert_eq!(good(&together, &blob).signer.fingerprint, cert.fingerprint().to_hex());
        }
        assert!(matches!(refused(&apart, &stranger), SignatureError::UntrustedKey(Some(_))));
    }
}

#[test]
fn revocation_in_either_copy_of_a_certificate_wins() {
    let cert = signer("a");
    let revocation = CertRevocationBuilder::new()
        .set_signature_creation_time(signed())
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"")
        .unwrap()
        .build(&mut primary(&cert), &cert, None)
        .unwrap();
    let revoked = public(&cert.clone().insert_packets(revocation).unwrap().0);
    let (plain, blob) = (public(&cert), blob(&sign(&mut primary(&cert))));
    for files in [
        vec![("a", revoked.as_slice()), ("b", plain.as_slice())],
        vec![("a", plain.as_slice()), ("b", revoked.as_slice())],
        vec![("b", plain.as_slice()), ("a", revoked.as_slice())],
    ] {
        let (ring, problems) = load(&files);
        key_refused(&ring, &blob, &cert.fingerprint(), "is revoked");
        assert!(problems[0].contains("occurs in several key files (a, b)"), "{problems:?}");
    }
    let (ring, problems) = load(&[("a", &[plain, revoked].concat())]);
    key_refused(&ring, &blob, &cert.fingerprint(), "is revoked");
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn certificate_in_two_files_belongs_to_the_first_by_name() {
    let cert = signer("a");
    let bytes = public(&cert);
    for files in [[("g1", bytes.as_slice()), ("g2", &bytes)], [("g2", &bytes), ("g1", &bytes)]] {
        let (ring, problems) = load(&files);
        let signer = good(&ring, &blob(&sign(&mut primary(&cert)))).signer;
        assert_eq!((signer.file.as_str(), signer.emails.as_slice()), ("g1", &["a@example.org".to_owned()][..]));
        assert_eq!(problems.len(), 1);
    }
}

fn named(user_ids: &[&str]) -> Cert {
    let flags = KeyFlags::empty().set_certification().set_signing();
    let builder = sequoia_openpgp::cert::CertBuilder::new().set_creation_time(made()).set_primary_key_flags(flags);
    user_ids.iter().fold(builder, |builder, id| builder.add_userid(*id)).generate().unwrap().0
}

fn emails(ring: &Keyring, cert: &Cert) -> Vec<String> {
    good(ring, &blob(&sign(&mut primary(cert)))).signer.emails
}

#[test]
fn addresses_are_lower_case_and_of_valid_user_ids_only() {
    let cert = named(&["Alice <Alice@Example.ORG>", "bob@example.org", "No Address", "Old <old@example.org>"]);
    let old = UserID::from("Old <old@example.org>");
    let revocation = UserIDRevocationBuilder::new()
        .set_signature_creation_time(signed())
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"")
        .unwrap()
        .build(&mut primary(&cert), &cert, &old, None)
        .unwrap();
    let unsigned = UserID::from("Forged <boss@example.org>");
    assert!(emails(&ring(&[&cert]), &cert).contains(&"old@example.org".to_owned()));
    let cert = cert.insert_packets([revocation]).unwrap().0.insert_packets([unsigned]).unwrap().0;
    let ring = ring(&[&cert]);
    assert_eq!(emails(&ring, &cert), ["alice@example.org", "bob@example.org"]);
    let info = &ring.keys(now())[0];
    assert!(info.user_ids.contains(&"No Address".to_owned()) && info.user_ids.len() == 3, "{info:?}");
    assert_eq!((info.unusable.clone(), info.expires, info.file.as_str()), (None, None::<SystemTime>, "k0.pgp"));
}

#[test]
fn address_in_two_key_files_names_nobody() {
    let a = named(&["A <a@example.org>", "Boss <boss@example.org>"]);
    let b = named(&["B <b@example.org>", "Boss <BOSS@example.org>"]);
    let (apart, problems) = load(&[("g2", &public(&b)), ("g1", &public(&a))]);
    assert_eq!(emails(&apart, &a), ["a@example.org"]);
    assert_eq!(emails(&apart, &b), ["b@example.org"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("boss@example.org") && problems[0].contains("(g1, g2)"), "{problems:?}");
    // In one file it is one group's matter.
    let (together, problems) = load(&[("g1", &[public(&a), public(&b)].concat())]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(emails(&together, &a), ["a@example.org", "boss@example.org"]);
}

#[test]
fn control_characters_of_user_ids_are_shown_escaped() {
    let cert = named(&["A\n\u{1b}[31m <a@example.org>"]);
    assert_eq!(ring(&[&cert]).keys(now())[0].user_ids, [r"A\u000a\u001b[31m <a@example.org>"]);
}
