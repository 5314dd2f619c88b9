//! What a signature says without a key to verify it with.

use sequoia_openpgp::Packet;
use sequoia_openpgp::cert::CipherSuite;
use sequoia_openpgp::crypto::mpi;
use sequoia_openpgp::packet::signature::Signature4;
use sequoia_openpgp::packet::signature::subpacket::{NotationDataFlags, Subpacket, SubpacketTag, SubpacketValue};
use sequoia_openpgp::packet::{Literal, Signature};
use sequoia_openpgp::types::{CompressionAlgorithm, DataFormat, KeyFlags, SignatureType};

use super::super::super::SignatureError;
use super::super::inspect::inspect;
use super::support::{
    CONTENT, blob, builder, bytes, compress, good, literal, one_pass, primary, ring, sign, signed, signer, template,
};

#[test]
fn content_issuer_and_time_are_told_without_a_key() {
    let cert = signer("a");
    let blob = blob(&sign(&mut primary(&cert)));
    for form in [blob.clone(), compress(CompressionAlgorithm::Zip, &blob)] {
        let seen = inspect(&form).unwrap();
        assert_eq!(seen.content, CONTENT);
        assert_eq!(seen.issuers.first(), Some(&cert.fingerprint().to_hex()));
        assert!(seen.issuers[1..].iter().all(|id| *id == cert.keyid().to_hex()), "{:?}", seen.issuers);
        assert_eq!(seen.created, Some(signed()));
    }
}

#[test]
fn what_no_key_could_verify_is_refused() {
    let cert = signer("a");
    let sig = sign(&mut primary(&cert));
    let good = blob(&sig);
    let armored = b"-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n".to_vec();
    let two = bytes(&[one_pass(&sig), literal(CONTENT), sig.clone().into(), sig.clone().into()]);
    for bad in [vec![], b"<html>".to_vec(), armored, two, good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()] {
        assert!(matches!(inspect(&bad), Err(SignatureError::Malformed(_))));
    }
}

/// The same with another prefix of the digest and other values.
fn rewritten(sig: &Signature, prefix: [u8; 2], values: mpi::Signature) -> Signature {
    let (hashed, unhashed) = (sig.hashed_area().clone(), sig.unhashed_area().clone());
    Signature4::new(sig.typ(), sig.pk_algo(), sig.hash_algo(), hashed, unhashed, prefix, values).into()
}

fn core(blob: &[u8]) -> (String, String) {
    let seen = inspect(blob).unwrap();
    (seen.statement.to_string(), seen.values.to_string())
}

#[test]
fn what_is_not_signed_makes_no_other_statement() {
    let cert = signer("a");
    let (ring, sig) = (ring(&[&cert]), sign(&mut primary(&cert)));
    let original = core(&blob(&sig));
    let mut noted = sig.clone();
    let notation = SubpacketValue::Unknown { tag: SubpacketTag::Private(100), body: vec![1] };
    noted.unhashed_area_mut().add(Subpacket::new(notation, false).unwrap()).unwrap();
    let mut named = Literal::new(DataFormat::Unicode);
    named.set_body(CONTENT.to_vec());
    named.set_filename("web.json").unwrap();
    let plain = [Packet::from(sig.clone()), literal(CONTENT)];
    for form in [
        blob(&noted),
        blob(&rewritten(&sig, [1, 2], sig.mpis().clone())),
        bytes(&plain),
        bytes(&[one_pass(&sig), named.into(), sig.clone().into()]),
        compress(CompressionAlgorithm::Zip, &blob(&sig)),
        compress(CompressionAlgorithm::BZip2, &bytes(&plain)),
    ] {
        good(&ring, &form);
        assert_eq!(core(&form), original);
        assert_ne!(form, blob(&sig));
    }
}

#[test]
fn what_is_signed_makes_another_statement() {
    let cert = signer("a");
    let original = core(&blob(&sign(&mut primary(&cert))));
    let pair = &mut primary(&cert);
    let noted = template().add_notation("n@example.org", "1", NotationDataFlags::empty().set_human_readable(), false);
    let other = noted.unwrap().sign_message(pair, CONTENT).unwrap();
    let text = template().set_type(SignatureType::Text).sign_message(pair, CONTENT).unwrap();
    let content = template().sign_message(pair, b"{}").unwrap();
    let content = bytes(&[one_pass(&content), literal(b"{}"), content.clone().into()]);
    for form in [blob(&other), blob(&text), content, blob(&sign(&mut primary(&signer("b"))))] {
        assert_ne!(core(&form).0, original.0);
    }
}

/// `a - b`, where that is not negative and both are equally long.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (mut left, mut borrow) = (a.to_vec(), 0_i16);
    for (byte, less) in left.iter_mut().rev().zip(b.iter().rev()) {
        let value = i16::from(*byte) - i16::from(*less) - borrow;
        borrow = i16::from(value < 0);
        *byte = value.to_le_bytes()[0];
    }
    left
}

#[test]
fn other_values_made_without_the_key_are_good_for_the_same_statement() {
    const ORDER_OF_P256: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&ORDER_OF_P256[2 * at..2 * at + 2], 16).unwrap()).collect();
    let flags = KeyFlags::empty().set_certification().set_signing();
    let cert = builder("a").set_cipher_suite(CipherSuite::P256).set_primary_key_flags(flags).generate().unwrap().0;
    let first = sign(&mut primary(&cert));
    let mpi::Signature::ECDSA { r, s } = first.mpis() else { panic!("{first:?}") };
    let s = difference(&order, &s.value_padded(32).unwrap());
    let second = rewritten(&first, *first.digest_prefix(), mpi::Signature::ECDSA { r: r.clone(), s: s.into() });
    let ring = ring(&[&cert]);
    good(&ring, &blob(&first));
    good(&ring, &blob(&second));
    let ((first, values), (second, others)) = (core(&blob(&first)), core(&blob(&second)));
    assert_eq!(first, second);
    assert_ne!(values, others);
}
