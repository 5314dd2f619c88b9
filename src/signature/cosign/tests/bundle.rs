//! The bundle with a DSSE envelope.

use super::*;
use crate::signature::SignatureError;
use crate::signature::cosign::CosignClaim;

fn verify(signer: &Signer, bundle: &Value) -> Result<CosignClaim, SignatureError> {
    signer.keys().verify_bundle(bundle.to_string().as_bytes(), &image())
}

fn assert_malformed(signer: &Signer, bundle: &Value) {
    let err = verify(signer, bundle);
    assert!(matches!(err, Err(SignatureError::Malformed(_))), "{bundle}: {err:?}");
}

fn assert_mismatch(signer: &Signer, bundle: &Value, why: &str) {
    match verify(signer, bundle) {
        Err(SignatureError::Mismatch(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{bundle}: {other:?}"),
    }
}

#[test]
fn e52_a_keyed_bundle_is_accepted_for_every_kind_of_key_and_its_twins_are_not() {
    for signer in every_kind() {
        let bundle = signer.bundle(&statement(&image()));
        let claim = verify(&signer, &bundle).unwrap();
        assert_eq!(claim.key, signer.fingerprint());
        assert_eq!(claim.annotations.into_iter().collect::<Vec<_>>(), [("signer".into(), "alice@example.com".into())]);

        let err = verify(&p256(), &bundle);
        assert_eq!(err, Err(SignatureError::UntrustedKey(Some(signer.fingerprint()))), "{}", signer.name);
        let mut tampered = bundle;
        tampered["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement(&Digest::sha256(b"evil")).to_string()));
        assert_eq!(verify(&signer, &tampered), Err(SignatureError::Bad), "{}", signer.name);
    }
}

#[test]
fn accepts_every_media_type_of_a_bundle_and_no_other() {
    let signer = p256();
    let mut bundle = signer.bundle(&statement(&image()));
    for version in ["0.1", "0.2", "0.3"] {
        for good in [
            format!("application/vnd.dev.sigstore.bundle.v{version}+json"),
            format!("application/vnd.dev.sigstore.bundle+json;version={version}"),
        ] {
            bundle["mediaType"] = json!(good);
            assert!(verify(&signer, &bundle).is_ok(), "{good}");
        }
    }
    for bad in [
        json!("application/vnd.dev.sigstore.bundle.v0.4+json"),
        json!("application/vnd.dev.sigstore.bundle+json"),
        json!("application/json"),
        json!(""),
        json!(null),
        json!(["application/vnd.dev.sigstore.bundle.v0.3+json"]),
    ] {
        bundle["mediaType"] = bad;
        assert_malformed(&signer, &bundle);
    }
}

#[test]
fn d8_a_bundle_for_another_digest_is_refused() {
    let signer = p256();
    let other = Digest::sha256(b"another image");
    let err = verify(&signer, &signer.bundle(&statement(&other)));
    assert_eq!(err, Err(SignatureError::OtherDigest(other.to_string())));
    let mut value = statement(&image());
    value["subject"][0]["digest"] = json!({"sha512": image().hex()});
    let err = verify(&signer, &signer.bundle(&value));
    assert_eq!(err, Err(SignatureError::OtherDigest("no subject has a sha256 digest".to_owned())));
    value["subject"][0]["digest"] = json!({"sha256": image().hex().to_uppercase()});
    assert!(matches!(verify(&signer, &signer.bundle(&value)), Err(SignatureError::OtherDigest(_))));
    value["subject"][0]["digest"] = json!({"sha256": image().as_str()});
    assert!(matches!(verify(&signer, &signer.bundle(&value)), Err(SignatureError::OtherDigest(_))));
}

#[test]
fn an_image_named_by_sha512_is_bound_by_sha512() {
    let signer = p256();
    let long = Digest::of(crate::domain::digest::Algorithm::Sha512, b"the image");
    let mut value = statement(&image());
    value["subject"][0]["digest"]["sha512"] = json!(long.hex());
    let bundle = signer.bundle(&value).to_string();
    assert!(signer.keys().verify_bundle(bundle.as_bytes(), &long).is_ok());
    let bundle = signer.bundle(&statement(&image())).to_string();
    assert!(signer.keys().verify_bundle(bundle.as_bytes(), &long).is_err());
}

#[test]
fn e1_e2_an_attestation_by_the_right_key_over_the_right_digest_is_no_signature() {
    let signer = p256();
    for kind in [
        "https://spdx.dev/Document",
        "https://slsa.dev/provenance/v1",
        "https://sigstore.dev/cosign/sign/v2",
        "https://sigstore.dev/cosign/sign/v1/",
        "HTTPS://sigstore.dev/cosign/sign/v1",
        "",
    ] {
        let mut value = statement(&image());
        value["predicateType"] = json!(kind);
        assert_mismatch(&signer, &signer.bundle(&value), &format!("an attestation of type {kind}"));
        value["_type"] = json!("https://in-toto.io/Statement/v0.1");
        assert_mismatch(&signer, &signer.bundle(&value), "not a signature");
    }
    assert!(verify(&signer, &signer.bundle(&statement(&image()))).is_ok());
}

#[test]
fn both_statement_versions_are_read_and_no_other() {
    let signer = p256();
    let mut value = statement(&image());
    value["_type"] = json!("https://in-toto.io/Statement/v0.1");
    assert!(verify(&signer, &signer.bundle(&value)).is_ok());
    for kind in [json!("https://in-toto.io/Statement/v2"), json!(""), json!(null), json!(1)] {
        value["_type"] = kind;
        assert_malformed(&signer, &signer.bundle(&value));
    }
}

#[test]
fn annotations_are_those_of_the_subject_that_is_the_image() {
    let signer = p256();
    let mut value = statement(&image());
    value["subject"] = json!([
        {"digest": {"sha256": Digest::sha256(b"another").hex()}, "annotations": {"signer": "mallory"}},
        {"digest": {"sha256": image().hex()}, "annotations": {"signer": "alice", "n": 1, "z": null}},
        {"digest": {"sha256": image().hex()}, "annotations": {"signer": "bob"}},
    ]);
    let claim = verify(&signer, &signer.bundle(&value)).unwrap();
    assert_eq!(claim.annotations.into_iter().collect::<Vec<_>>(), [("signer".into(), "alice".into())]);
    value["subject"] = json!([{"digest": {"sha256": image().hex()}}]);
    assert!(verify(&signer, &signer.bundle(&value)).unwrap().annotations.is_empty());
    value["subject"] = json!([{"digest": {"sha256": image().hex()}, "annotations": null}]);
    assert!(verify(&signer, &signer.bundle(&value)).unwrap().annotations.is_empty());
}

#[test]
fn e5_a_signature_of_another_payload_type_or_bundle_does_not_count() {
    let signer = p256();
    let payload = statement(&image()).to_string();
    let mut bundle = signer.bundle_of(payload.as_bytes());
    // Signed under another type, then relabelled.
    bundle["dsseEnvelope"]["signatures"][0]["sig"] =
        json!(signer.sign_base64(&pae("application/vnd.other+json", payload.as_bytes())));
    assert_eq!(verify(&signer, &bundle), Err(SignatureError::Bad));
    // Signed without the envelope's encoding, as a legacy payload or a blob would be.
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!(signer.sign_base64(payload.as_bytes()));
    assert_eq!(verify(&signer, &bundle), Err(SignatureError::Bad));
    // Rightly signed for its own type, which is none of a cosign signature.
    bundle["dsseEnvelope"]["payloadType"] = json!("application/vnd.other+json");
    assert_mismatch(&signer, &bundle, "payload type \"application/vnd.other+json\"");
    // And a bundle's statement is no legacy payload.
    let message = pae("application/vnd.in-toto+json", payload.as_bytes());
    let err = signer.keys().verify_legacy(&message, &signer.sign_base64(&message), &image());
    assert!(matches!(err, Err(SignatureError::Malformed(_))));
}

#[test]
fn e5_two_contents_or_two_kinds_of_material_are_refused() {
    let signer = p256();
    let good = signer.bundle(&statement(&image()));
    let mut bundle = good.clone();
    bundle["messageSignature"] = json!({"signature": "AA=="});
    assert_malformed(&signer, &bundle);
    for member in ["certificate", "x509CertificateChain"] {
        let mut bundle = good.clone();
        bundle["verificationMaterial"][member] = json!({"rawBytes": "AA=="});
        assert_malformed(&signer, &bundle);
        // Protocol buffers take null for absent.
        bundle["verificationMaterial"][member] = json!(null);
        assert!(verify(&signer, &bundle).is_ok());
    }
}

#[test]
fn e6_a_key_that_comes_with_the_bundle_is_never_trusted() {
    let (trusted, attacker) = (p256(), p256());
    let mut bundle = attacker.bundle(&statement(&image()));
    for material in [
        json!({"hint": STANDARD.encode(digest(&attacker.spki)), "rawBytes": STANDARD.encode(&attacker.spki)}),
        json!({"hint": attacker.pem()}),
        json!({"rawBytes": STANDARD.encode(&attacker.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256"}),
    ] {
        bundle["verificationMaterial"]["publicKey"] = material;
        bundle["dsseEnvelope"]["signatures"][0]["keyid"] = json!(trusted.fingerprint());
        assert!(matches!(verify(&trusted, &bundle), Err(SignatureError::UntrustedKey(_))));
    }
    // The hint of the trusted key changes the words, not the outcome.
    bundle["verificationMaterial"]["publicKey"] = json!({"hint": STANDARD.encode(digest(&trusted.spki))});
    assert_eq!(verify(&trusted, &bundle), Err(SignatureError::Bad));
    // Nor does a wrong hint keep a good signature from being one.
    let mut good = trusted.bundle(&statement(&image()));
    for material in [json!({"hint": STANDARD.encode(digest(b"x"))}), json!({"hint": "any"}), json!({})] {
        good["verificationMaterial"]["publicKey"] = material;
        assert!(verify(&trusted, &good).is_ok());
    }
}

#[test]
fn a_bundle_with_a_certificate_or_a_blob_signature_is_named_as_such() {
    let signer = p256();
    let mut bundle = signer.bundle(&statement(&image()));
    bundle["verificationMaterial"] = json!({"certificate": {"rawBytes": "AA=="}});
    assert_mismatch(&signer, &bundle, "keyless");
    bundle["verificationMaterial"] = json!({"x509CertificateChain": {"certificates": []}});
    assert_mismatch(&signer, &bundle, "keyless");
    let mut bundle = signer.bundle(&statement(&image()));
    bundle.as_object_mut().unwrap().remove("dsseEnvelope");
    bundle["messageSignature"] = json!({"signature": signer.sign_base64(b"the image")});
    assert_mismatch(&signer, &bundle, "blob");
}

#[test]
fn log_entries_and_timestamps_neither_help_nor_hinder() {
    let (signer, attacker) = (p256(), p256());
    for extra in [json!([]), json!(null), json!([{"logIndex": "1", "inclusionProof": {}}]), json!("garbage")] {
        for (by, accepted) in [(&signer, true), (&attacker, false)] {
            let mut bundle = by.bundle(&statement(&image()));
            bundle["verificationMaterial"]["tlogEntries"] = extra.clone();
            bundle["verificationMaterial"]["timestampVerificationData"] = extra.clone();
            bundle["unknown"] = extra.clone();
            assert_eq!(verify(&signer, &bundle).is_ok(), accepted, "{extra}");
        }
    }
}

#[test]
fn e34_between_1_and_4_signatures_of_which_one_by_a_trusted_key_passes() {
    let (signer, foreign) = (p256(), ed25519());
    let mut bundle = signer.bundle(&statement(&image()));
    let good = bundle["dsseEnvelope"]["signatures"][0].clone();
    let other = foreign.bundle(&statement(&image()))["dsseEnvelope"]["signatures"][0].clone();
    let mut signatures = vec![other; 3];
    signatures.push(good);
    bundle["dsseEnvelope"]["signatures"] = json!(signatures);
    assert!(verify(&signer, &bundle).is_ok());
    bundle["dsseEnvelope"]["signatures"] = json!(&signatures[..3]);
    assert_eq!(verify(&signer, &bundle), Err(SignatureError::Bad));
    signatures.push(signatures[0].clone());
    for bad in [json!(signatures), json!([]), json!(null), json!({}), json!({"sig": "AA=="})] {
        bundle["dsseEnvelope"]["signatures"] = bad;
        assert_malformed(&signer, &bundle);
    }
}

#[test]
fn e34_an_oversized_bundle_or_payload_or_too_many_subjects_are_refused() {
    let signer = p256();
    let mut bundle = signer.bundle(&statement(&image()));
    bundle["padding"] = json!("x".repeat(1 << 20));
    assert_malformed(&signer, &bundle);
    let mut value = statement(&image());
    value["predicate"] = json!({"x": "x".repeat(127 * 1024)});
    assert!(verify(&signer, &signer.bundle(&value)).is_ok());
    value["predicate"] = json!({"x": "x".repeat(128 * 1024)});
    assert_malformed(&signer, &signer.bundle(&value));
    let subject = statement(&image())["subject"][0].clone();
    let mut value = statement(&image());
    value["subject"] = json!(vec![subject.clone(); 256]);
    assert!(verify(&signer, &signer.bundle(&value)).is_ok());
    value["subject"] = json!(vec![subject; 257]);
    assert_malformed(&signer, &signer.bundle(&value));
}

#[test]
fn e7_e41_a_validly_signed_payload_that_is_no_statement_is_a_failure() {
    let signer = p256();
    let good = statement(&image());
    for (path, value) in [
        ("/subject", json!(null)),
        ("/subject", json!([])),
        ("/subject", json!({})),
        ("/subject", json!([null])),
        ("/subject", json!([[]])),
        ("/subject", json!([{}])),
        ("/subject/0/digest", json!(null)),
        ("/subject/0/digest", json!([image().hex()])),
        ("/subject/0/digest", json!(image().hex())),
        ("/subject/0/digest/sha256", json!([image().hex()])),
        ("/subject/0/digest/sha256", json!(1)),
        ("/subject/0/annotations", json!([["signer", "alice"]])),
        ("/subject/0/annotations", json!("signer")),
        ("/predicateType", json!(null)),
        ("/predicateType", json!(["https://sigstore.dev/cosign/sign/v1"])),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert_malformed(&signer, &signer.bundle(&bad));
    }
    let mut bad = good.clone();
    bad["subject"].as_array_mut().unwrap().push(json!(null));
    assert_malformed(&signer, &signer.bundle(&bad));
    let text = good.to_string();
    for bad in [
        "not json".to_owned(),
        "[]".into(),
        "null".into(),
        format!("[{text}]"),
        format!("{text}{text}"),
        text.replacen("\"predicate\":{}", "\"predicate\":{},\"predicate\":{}", 1),
        text.replacen("\"signer\":", "\"signer\":\"x\",\"signer\":", 1),
        text.replacen("\"sha256\":", "\"sha256\":\"x\",\"sha256\":", 1),
    ] {
        assert_ne!(bad, text);
        assert_malformed(&signer, &signer.bundle_of(bad.as_bytes()));
    }
    assert_malformed(&signer, &signer.bundle_of(b"\xff"));
    assert_malformed(&signer, &signer.bundle_of(b""));
    assert!(verify(&signer, &signer.bundle_of(text.as_bytes())).is_ok());
}

#[test]
fn e7_an_unsigned_statement_is_not_even_parsed() {
    let (signer, attacker) = (p256(), p256());
    let err = verify(&signer, &attacker.bundle_of(b"not json"));
    assert_eq!(err, Err(SignatureError::UntrustedKey(Some(attacker.fingerprint()))));
}

#[test]
fn e41_wrong_types_nulls_and_missing_members_of_the_bundle_are_errors() {
    let signer = p256();
    let good = signer.bundle(&statement(&image()));
    for path in [
        "/mediaType",
        "/verificationMaterial",
        "/verificationMaterial/publicKey",
        "/dsseEnvelope",
        "/dsseEnvelope/payload",
        "/dsseEnvelope/payloadType",
        "/dsseEnvelope/signatures",
        "/dsseEnvelope/signatures/0",
        "/dsseEnvelope/signatures/0/sig",
    ] {
        for value in [json!(null), json!(1), json!(true), json!([]), json!([1]), json!("!"), json!({"a": 1})] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = value.clone();
            let reads_as_absent_hint = path.ends_with("publicKey") && value == json!({"a": 1});
            assert_eq!(verify(&signer, &bad).is_ok(), reads_as_absent_hint, "{path} = {value}");
        }
        let mut bad = good.clone();
        let (parent, member) = path.rsplit_once('/').unwrap();
        match bad.pointer_mut(parent).unwrap() {
            Value::Object(object) => drop(object.remove(member)),
            Value::Array(array) => array.clear(),
            _ => unreachable!(),
        }
        assert_malformed(&signer, &bad);
    }
    let mut bad = good.clone();
    bad["verificationMaterial"]["publicKey"]["hint"] = json!(1);
    assert_malformed(&signer, &bad);
    for text in ["", "null", "[]", "{}", "\"\"", "garbage"] {
        let err = signer.keys().verify_bundle(text.as_bytes(), &image());
        assert!(matches!(err, Err(SignatureError::Malformed(_))), "{text}");
    }
    let twice = good.to_string().replacen("\"payload\":", "\"payload\":\"AA==\",\"payload\":", 1);
    let err = signer.keys().verify_bundle(twice.as_bytes(), &image());
    assert!(matches!(err, Err(SignatureError::Malformed(_))), "{err:?}");
}

#[test]
fn e8_e41_no_truncation_or_flipped_bit_is_wrongly_accepted_or_panics() {
    let signer = p256();
    let good = signer.bundle(&statement(&image())).to_string().into_bytes();
    let keys = signer.keys();
    assert!((0..good.len()).all(|end| keys.verify_bundle(&good[..end], &image()).is_err()));
    let want = keys.verify_bundle(&good, &image()).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Flips in the unsigned hint do no harm; whatever is accepted is what was signed.
        if let Ok(claim) = keys.verify_bundle(&bad, &image()) {
            assert_eq!(claim, want, "bit {bit}");
        }
    }
    let text = statement(&image()).to_string().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut bad = text.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Signed as it is: no panic, and no claim for a digest that is not there.
        if verify(&signer, &signer.bundle_of(&bad)).is_ok() {
            assert!(String::from_utf8_lossy(&bad).contains(image().hex()));
        }
    }
}

#[test]
fn e49_garbage_beside_a_good_bundle_fails_itself_alone() {
    let signer = p256();
    let (good, keys) = (signer.bundle(&statement(&image())).to_string(), signer.keys());
    let outcomes = ["garbage", &ed25519().bundle(&statement(&image())).to_string(), &good]
        .map(|bundle| keys.verify_bundle(bundle.as_bytes(), &image()).is_ok());
    assert_eq!(outcomes, [false, false, true]);
}

#[test]
fn without_keys_no_bundle_verifies() {
    let bundle = p256().bundle(&statement(&image())).to_string();
    let err = PublicKeys::default().verify_bundle(bundle.as_bytes(), &image());
    assert_eq!(err, Err(SignatureError::Key("no public keys imported".to_owned())));
}
