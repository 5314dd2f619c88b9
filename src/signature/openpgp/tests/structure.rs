//! The form of the message (reference matrix 2.4; E29, E37, E39).

use std::io::Write;

use sequoia_openpgp::armor;
use sequoia_openpgp::packet::signature::subpacket::{Subpacket, SubpacketArea, SubpacketValue};
use sequoia_openpgp::packet::signature::{Signature3, Signature4, SignatureBuilder};
use sequoia_openpgp::packet::{Marker, Signature};
use sequoia_openpgp::serialize::stream::{Encryptor, LiteralWriter, Message};
use sequoia_openpgp::types::{CompressionAlgorithm, HashAlgorithm, SignatureType, Timestamp};
use sequoia_openpgp::{Cert, Packet};

use super::super::super::SignatureError;
use super::super::{Keyring, keyring, message};
use super::support::*;

fn alice() -> (Cert, Keyring, Signature) {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    let sig = sign(&mut primary(&cert));
    (cert, ring, sig)
}

#[test]
fn one_pass_form_is_accepted_and_names_its_signer() {
    let (cert, ring, sig) = alice();
    let verified = good(&ring, &blob(&sig));
    assert_eq!(verified.signer.fingerprint, cert.fingerprint().to_hex());
    assert_eq!(verified.signer.file, "k0.pgp");
    assert_eq!(verified.signer.emails, ["alice@example.org"]);
    assert_eq!(verified.valid_until, None);
}

#[test]
fn prefix_form_is_accepted_and_its_content_counts() {
    let (_, ring, sig) = alice();
    good(&ring, &bytes(&[sig.clone().into(), literal(CONTENT)]));
    assert_eq!(refused(&ring, &bytes(&[sig.into(), literal(b"other")])), SignatureError::Bad);
}

#[test]
fn compressed_forms_are_accepted() {
    let (_, ring, sig) = alice();
    let prefix = bytes(&[sig.clone().into(), literal(CONTENT)]);
    for algorithm in [CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib, CompressionAlgorithm::BZip2] {
        good(&ring, &compress(algorithm, &blob(&sig)));
        good(&ring, &compress(algorithm, &prefix));
    }
}

#[test]
fn e29_nesting_is_capped() {
    let (_, ring, sig) = alice();
    let mut nested = blob(&sig);
    for _ in 0..message::MAX_NESTING {
        nested = compress(CompressionAlgorithm::Zip, &nested);
        good(&ring, &nested);
    }
    nested = compress(CompressionAlgorithm::Zip, &nested);
    malformed(&ring, &nested, "compressed too many times");
}

#[test]
fn text_mode_signature_covers_normalised_line_endings() {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    let sig = SignatureBuilder::new(SignatureType::Text)
        .set_signature_creation_time(signed())
        .unwrap()
        .sign_message(&mut primary(&cert), b"{\r\n}\r\n")
        .unwrap();
    let with = |content: &[u8]| bytes(&[one_pass(&sig), literal(content), sig.clone().into()]);
    assert_eq!(ring.verify(&with(b"{\n}\r\n"), now()).unwrap().content, b"{\n}\r\n");
    assert_eq!(refused(&ring, &with(b"{\n }\n")), SignatureError::Bad);
}

#[test]
fn v3_signature_is_accepted_and_its_content_counts() {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    let algorithm = cert.primary_key().key().pk_algo();
    let keyid = cert.primary_key().key().keyid();
    let sig = sign_raw(&mut primary(&cert), CONTENT, |prefix, mpis| {
        let created = Timestamp::try_from(signed()).unwrap();
        let hash = HashAlgorithm::SHA256;
        Signature3::new(SignatureType::Binary, created, keyid.clone(), algorithm, hash, prefix, mpis).into()
    });
    good(&ring, &blob(&sig));
    let changed = bytes(&[one_pass(&sig), literal(b"other"), sig.into()]);
    assert_eq!(refused(&ring, &changed), SignatureError::Bad);
}

fn without_issuer(cert: &Cert) -> Signature {
    let algorithm = cert.primary_key().key().pk_algo();
    sign_raw(&mut primary(cert), CONTENT, |prefix, mpis| {
        let created = SubpacketValue::SignatureCreationTime(signed().try_into().unwrap());
        let hashed = SubpacketArea::new(vec![Subpacket::new(created, true).unwrap()]).unwrap();
        let none = SubpacketArea::new(Vec::new()).unwrap();
        let hash = HashAlgorithm::SHA256;
        Signature4::new(SignatureType::Binary, algorithm, hash, hashed, none, prefix, mpis).into()
    })
}

#[test]
fn signature_without_issuer_is_tried_with_every_key() {
    let (alice, dave, carol) = (signer("alice"), signer("dave"), signer("carol"));
    let sig = without_issuer(&dave);
    let blob = bytes(&[sig.clone().into(), literal(CONTENT)]);
    assert!(sig.get_issuers().is_empty());
    let verified = good(&ring(&[&alice, &dave, &carol]), &blob);
    assert_eq!(verified.signer.fingerprint, dave.fingerprint().to_hex());
    assert_eq!(refused(&ring(&[&alice, &carol]), &blob), SignatureError::Bad);
    assert_eq!(refused(&Keyring::default(), &blob), SignatureError::UntrustedKey(None));
}

#[test]
fn signature_without_issuer_is_refused_by_a_large_keyring() {
    let certs: Vec<Cert> = (0..=keyring::MAX_TRIED).map(|n| signer(&format!("k{n}"))).collect();
    let refs: Vec<&Cert> = certs.iter().collect();
    let blob = bytes(&[without_issuer(&certs[0]).into(), literal(CONTENT)]);
    malformed(&ring(&refs), &blob, "does not name its issuer");
    good(&ring(&refs[..keyring::MAX_TRIED]), &blob);
    // With an issuer the size does not matter.
    good(&ring(&refs), &self::blob(&sign(&mut primary(&certs[5]))));
}

#[test]
fn e29_every_other_structure_is_refused() {
    let (cert, ring, sig) = alice();
    let other = sign(&mut primary(&signer("bob")));
    let ops = one_pass(&sig);
    let lit = literal(CONTENT);
    let packet = Packet::from(sig.clone());
    let refuse = |packets: &[&Packet], why| {
        malformed(&ring, &bytes(&packets.iter().map(|&p| p.clone()).collect::<Vec<_>>()), why);
    };
    let several = "more than one";
    refuse(&[&ops, &lit, &packet, &packet], several);
    refuse(&[&packet, &packet, &lit], several);
    refuse(&[&packet, &other.clone().into(), &lit], several);
    refuse(&[&one_pass(&other), &ops, &lit, &packet, &other.clone().into()], several);
    refuse(&[&ops, &lit, &packet, &ops, &lit, &packet], several);
    refuse(&[&ops, &lit, &packet, &lit], several);
    refuse(&[&ops, &lit, &lit, &packet], several);
    refuse(&[&ops, &lit], "no signature");
    refuse(&[&packet], "not a signed OpenPGP message");
    refuse(&[&ops, &packet], "not a signed OpenPGP message");
    refuse(&[&lit, &packet], "not a binary OpenPGP signed message");
    refuse(&[&lit], "not a binary OpenPGP signed message");
    refuse(&[&Marker::default().into(), &ops, &lit, &packet], "not a binary OpenPGP signed message");
    refuse(&[&ops, &Marker::default().into(), &lit, &packet], "does not belong");
    refuse(&[&ops, &lit, &packet, &Packet::from(cert.primary_key().key().clone())], "does not belong");
    malformed(&ring, &compress(CompressionAlgorithm::Zip, &bytes(std::slice::from_ref(&lit))), "no signature");
    let mut trailing = blob(&sig);
    trailing.extend(b"junk");
    assert!(matches!(refused(&ring, &trailing), SignatureError::Malformed(_)));
}

#[test]
fn e29_armor_cleartext_and_foreign_data_are_refused() {
    let (_, ring, sig) = alice();
    let mut armored = armor::Writer::new(Vec::new(), armor::Kind::Message).unwrap();
    armored.write_all(&blob(&sig)).unwrap();
    malformed(&ring, &armored.finalize().unwrap(), "armored or cleartext");
    malformed(&ring, b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}\n", "armored or cleartext");
    malformed(&ring, b"", "empty");
    malformed(&ring, b"<html>", "not a binary OpenPGP signed message");
    malformed(&ring, &vec![0x90; message::MAX_BLOB + 1], "larger than 4 MiB");
}

#[test]
fn e29_encrypted_message_is_refused_also_inside_compression() {
    let ring = ring(&[&signer("alice")]);
    let mut encrypted = Vec::new();
    let message = Encryptor::with_passwords(Message::new(&mut encrypted), Some("x")).build().unwrap();
    let mut message = LiteralWriter::new(message).build().unwrap();
    message.write_all(CONTENT).unwrap();
    message.finalize().unwrap();
    malformed(&ring, &encrypted, "not a binary OpenPGP signed message");
    malformed(&ring, &compress(CompressionAlgorithm::Zip, &encrypted), "encrypted");
}

#[test]
fn e29_one_pass_packet_that_announces_another_signature_is_refused() {
    let (cert, ring, sig) = alice();
    let text = SignatureBuilder::new(SignatureType::Text).sign_message(&mut primary(&cert), CONTENT).unwrap();
    malformed(&ring, &bytes(&[one_pass(&text), literal(CONTENT), sig.into()]), "announces another");
}

#[test]
fn e29_signature_of_another_type_is_refused() {
    let cert = signer("alice");
    let ring = ring(&[&cert]);
    for typ in [SignatureType::Standalone, SignatureType::Timestamp, SignatureType::GenericCertification] {
        let algorithm = cert.primary_key().key().pk_algo();
        let sig = sign_raw(&mut primary(&cert), CONTENT, |prefix, mpis| {
            let created = Timestamp::try_from(signed()).unwrap();
            Signature3::new(typ, created, cert.keyid(), algorithm, HashAlgorithm::SHA256, prefix, mpis).into()
        });
        malformed(&ring, &bytes(&[sig.into(), literal(CONTENT)]), "not a signature over a document");
    }
}

#[test]
fn e37_decompression_bomb_is_cut_off() {
    let (_, ring, sig) = alice();
    let bomb = vec![b' '; 64 << 20];
    let inner = bytes(&[one_pass(&sig), literal(&bomb), sig.clone().into()]);
    let once = compress(CompressionAlgorithm::Zip, &inner);
    assert!(once.len() < 1 << 20);
    malformed(&ring, &once, "larger than 1 MiB");
    malformed(&ring, &compress(CompressionAlgorithm::BZip2, &once), "larger than 1 MiB");
    // The limit itself.
    let limit = usize::try_from(message::MAX_CONTENT).unwrap();
    let at = bytes(&[one_pass(&sig), literal(&bomb[..limit]), sig.clone().into()]);
    assert_eq!(refused(&ring, &at), SignatureError::Bad);
    let above = bytes(&[one_pass(&sig), literal(&bomb[..=limit]), sig.into()]);
    malformed(&ring, &above, "larger than 1 MiB");
}

#[test]
fn e39_truncations_and_trailing_bytes_never_verify() {
    let (_, ring, sig) = alice();
    for form in [
        blob(&sig),
        bytes(&[sig.clone().into(), literal(CONTENT)]),
        compress(CompressionAlgorithm::Zip, &blob(&sig)),
        compress(CompressionAlgorithm::BZip2, &blob(&sig)),
    ] {
        for length in 0..form.len() {
            // The compressed forms may lose bytes behind the end of the compressed stream, not any of the content.
            if let Ok(verified) = ring.verify(&form[..length], now()) {
                assert_eq!(verified.content, CONTENT, "cut at {length}");
                assert!(form[0] & 0xFC == 0xA0 || form[0] == 0xC8, "cut at {length}");
            }
        }
    }
}

#[test]
fn e39_data_behind_a_compressed_message_is_refused() {
    let (_, ring, sig) = alice();
    for algorithm in [CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib, CompressionAlgorithm::BZip2] {
        // The same packet in every framing: as the library writes it, and as gpg does, without a length.
        let new = compress(algorithm, &blob(&sig));
        let length = usize::from(new[1]);
        let stream = if length < 192 { &new[2..] } else { &new[3..] };
        let old = [&[0xA3], stream].concat();
        for form in [&new, &old] {
            good(&ring, form);
            for tail in [&b"x"[..], b"\0", b"junk behind", &blob(&sig), &new] {
                assert!(matches!(refused(&ring, &[form, tail].concat()), SignatureError::Malformed(_)), "{algorithm}");
            }
        }
        // Behind the stream and inside the packet; and one level deeper.
        let two = |body: &[u8]| [&[0xA1], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
        good(&ring, &two(stream));
        malformed(&ring, &two(&[stream, b"x"].concat()), "data behind the compressed message");
        malformed(&ring, &compress(CompressionAlgorithm::Zip, &[&old[..], b"x"].concat()), "data behind");
    }
}

#[test]
fn e39_flipped_bits_never_panic_nor_verify_other_content() {
    let (_, ring, sig) = alice();
    let forms = [blob(&sig), compress(CompressionAlgorithm::Zip, &blob(&sig))];
    for form in forms {
        for at in 0..form.len() {
            for bit in 0..8 {
                let mut changed = form.clone();
                changed[at] ^= 1 << bit;
                if let Ok(verified) = ring.verify(&changed, now()) {
                    assert_eq!(verified.content, CONTENT, "byte {at} bit {bit}");
                }
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn e39_garbage_never_panics(first in proptest::sample::select(vec![0x88_u8, 0x90, 0xA0, 0xA3, 0xC2, 0xC4, 0xC8]),
                                mut rest in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        rest.insert(0, first);
        proptest::prop_assert!(Keyring::default().verify(&rest, now()).is_err());
        let (ring, _) = Keyring::from_files([("garbage", rest.as_slice())]);
        let _ = ring.keys(now());
    }
}
