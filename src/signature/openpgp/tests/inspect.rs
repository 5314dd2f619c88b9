//! What a signature says without a key to verify it with.

use sequoia_openpgp::types::CompressionAlgorithm;

use super::super::super::SignatureError;
use super::super::inspect::inspect;
use super::support::{CONTENT, blob, bytes, compress, literal, one_pass, primary, sign, signed, signer};

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
