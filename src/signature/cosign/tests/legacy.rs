//! The legacy `.sig` layer.

use super::*;
use crate::signature::SignatureError;
use crate::signature::cosign::CosignClaim;

fn verify(signer: &Signer, payload: &[u8]) -> Result<CosignClaim, SignatureError> {
    signer.keys().verify_legacy(payload, &signer.sign_base64(payload), &image())
}

#[test]
fn accepts_a_signature_by_every_kind_of_key_and_refuses_what_is_not_one() {
    let bytes = payload(&image()).to_string().into_bytes();
    for signer in every_kind() {
        let (keys, signature) = (signer.keys(), signer.sign_base64(&bytes));
        let claim = keys.verify_legacy(&bytes, &signature, &image()).unwrap();
        assert_eq!(claim.key, signer.fingerprint());
        assert_eq!(claim.annotations.into_iter().collect::<Vec<_>>(), [("signer".into(), "alice@example.com".into())]);

        let tampered = String::from_utf8(bytes.clone()).unwrap().replace("alice", "mallo").into_bytes();
        assert_eq!(keys.verify_legacy(&tampered, &signature, &image()), Err(SignatureError::UntrustedKey(None)));
        assert_eq!(p256().keys().verify_legacy(&bytes, &signature, &image()), Err(SignatureError::UntrustedKey(None)));
        let other = Digest::sha256(b"another image");
        let err = keys.verify_legacy(&bytes, &signature, &other);
        assert_eq!(err, Err(SignatureError::OtherDigest(image().to_string())), "{}", signer.name);
    }
}

#[test]
fn d8_a_signature_for_another_digest_is_refused() {
    let signer = p256();
    let other = Digest::sha256(b"another image");
    let err = verify(&signer, payload(&other).to_string().as_bytes());
    assert_eq!(err, Err(SignatureError::OtherDigest(other.to_string())));
}

#[test]
fn without_keys_nothing_verifies() {
    let bytes = payload(&image()).to_string().into_bytes();
    let err = PublicKeys::default().verify_legacy(&bytes, &p256().sign_base64(&bytes), &image());
    assert_eq!(err, Err(SignatureError::Key("no public keys imported".to_owned())));
}

#[test]
fn annotations_are_the_strings_of_optional() {
    let signer = p256();
    let mut value = payload(&image());
    for (optional, want) in [
        (json!(null), vec![]),
        (json!({}), vec![]),
        (json!({"a": "1", "n": 1, "l": ["x"], "z": null}), vec![("a".to_owned(), "1".to_owned())]),
    ] {
        value["optional"] = optional;
        let claim = verify(&signer, value.to_string().as_bytes()).unwrap();
        assert_eq!(claim.annotations.into_iter().collect::<Vec<_>>(), want);
    }
    value.as_object_mut().unwrap().remove("optional");
    assert!(verify(&signer, value.to_string().as_bytes()).unwrap().annotations.is_empty());
    for wrong in [json!([]), json!("x"), json!(1), json!([["a", "1"]])] {
        value["optional"] = wrong;
        assert!(matches!(verify(&signer, value.to_string().as_bytes()), Err(SignatureError::Malformed(_))));
    }
}

#[test]
fn a_payload_of_another_type_is_refused() {
    let signer = p256();
    for kind in ["atomic container signature", "", "Cosign container image signature"] {
        let mut value = payload(&image());
        value["critical"]["type"] = json!(kind);
        let err = verify(&signer, value.to_string().as_bytes()).unwrap_err();
        assert!(
            matches!(&err, SignatureError::Mismatch(text) if text.starts_with(&format!("signed as \"{kind}\""))),
            "{err}"
        );
    }
}

#[test]
fn the_docker_reference_may_be_anything_or_absent() {
    let signer = p256();
    let mut value = payload(&image());
    for identity in [json!({"docker-reference": ""}), json!({"docker-reference": null}), json!({}), json!(null)] {
        value["critical"]["identity"] = identity;
        assert!(verify(&signer, value.to_string().as_bytes()).is_ok(), "{value}");
    }
}

#[test]
fn e7_e41_a_validly_signed_payload_that_does_not_parse_is_a_failure() {
    let signer = p256();
    let digest = image().as_str().to_owned();
    let image = format!(r#""image":{{"docker-manifest-digest":"{digest}"}}"#);
    let kind = r#""type":"cosign container image signature""#;
    for text in [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        r#"{"critical":null}"#.into(),
        format!(r#"{{"critical":{{{kind}}}}}"#),
        format!(r#"{{"critical":{{{image}}}}}"#),
        format!(r#"{{"critical":{{{image},"type":null}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":null}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":["{digest}"]}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":{{"docker-manifest-digest":null}}}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":{{"docker-manifest-digest":["{digest}"]}}}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":{{"docker-manifest-digest":" {digest}"}}}}}}"#),
        format!(r#"{{"critical":{{{kind},"image":{{"docker-manifest-digest":"{}"}}}}}}"#, &digest[7..]),
        format!(r#"{{"critical":{{{kind},"image":{{"docker-manifest-digest":"{}"}}}}}}"#, digest.to_uppercase()),
        format!(r#"{{"critical":{{{kind},{image},"identity":"x"}}}}"#),
        format!(r#"{{"critical":{{{kind},{image},"identity":{{"other":"x"}}}}}}"#),
        format!(r#"{{"critical":{{{kind},{image},"expires":"2020-01-01"}}}}"#),
        format!(r#"{{"critical":{{{kind},{image}}},"extra":1}}"#),
        format!(r#"{{"critical":{{{kind},{image},{image}}}}}"#),
        format!(r#"{{"critical":{{{kind},{image}}},"critical":{{{kind},{image}}}}}"#),
        format!(r#"{{"critical":{{{kind},{image}}},"optional":{{"a":"1","a":"2"}}}}"#),
        format!(r#"{{"critical":{{{kind},{image}}}}} x"#),
        format!(r#"[{{"critical":{{{kind},{image}}}}}]"#),
    ] {
        let err = verify(&signer, text.as_bytes());
        assert!(matches!(err, Err(SignatureError::Malformed(_))), "{text}: {err:?}");
    }
    // The twin: the same pieces, rightly put together.
    assert!(verify(&signer, format!(r#"{{"critical":{{{kind},{image}}}}}"#).as_bytes()).is_ok());
    assert!(matches!(verify(&signer, b"\xff\xfe"), Err(SignatureError::Malformed(_))));
}

#[test]
fn e7_an_unsigned_payload_is_not_even_parsed() {
    let err = p256().keys().verify_legacy(b"not json", &p256().sign_base64(b"not json"), &image());
    assert_eq!(err, Err(SignatureError::UntrustedKey(None)));
}

#[test]
fn signatures_in_other_forms_of_base64_and_garbage() {
    let signer = ed25519();
    let bytes = payload(&image()).to_string().into_bytes();
    let signature = signer.sign_base64(&bytes);
    let keys = signer.keys();
    for good in [
        format!("{signature}\n"),
        format!("{}\r\n{}", &signature[..76], &signature[76..]),
        signature.trim_end_matches('=').to_owned(),
        signature.replace('+', "-").replace('/', "_"),
    ] {
        assert!(keys.verify_legacy(&bytes, &good, &image()).is_ok(), "{good:?}");
    }
    for bad in ["", "\n", "!", "====", " ", "null", &"A".repeat(5000), &format!("{signature}{signature}")] {
        assert!(keys.verify_legacy(&bytes, bad, &image()).is_err(), "{bad:?}");
    }
    assert!((1..signature.len() - 2).all(|end| keys.verify_legacy(&bytes, &signature[..end], &image()).is_err()));
}

#[test]
fn e34_an_oversized_payload_is_refused_before_any_work() {
    let signer = p256();
    let mut bytes = payload(&image()).to_string().into_bytes();
    bytes.resize(128 * 1024, b' ');
    assert!(verify(&signer, &bytes).is_ok());
    bytes.push(b' ');
    assert!(matches!(verify(&signer, &bytes), Err(SignatureError::Malformed(_))));
}

#[test]
fn e8_e41_no_truncation_or_flipped_bit_is_accepted_or_panics() {
    let signer = p256();
    let bytes = payload(&image()).to_string().into_bytes();
    let (keys, signature) = (signer.keys(), signer.sign_base64(&bytes));
    assert!((0..bytes.len()).all(|end| keys.verify_legacy(&bytes[..end], &signature, &image()).is_err()));
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.verify_legacy(&bad, &signature, &image()).is_err(), "bit {bit}");
        // Signed as it is: whatever comes out, no panic, and no claim for a digest that is not there.
        if let Ok(claim) = verify(&signer, &bad) {
            assert!(String::from_utf8_lossy(&bad).contains(image().hex()), "{claim:?}");
        }
    }
}
