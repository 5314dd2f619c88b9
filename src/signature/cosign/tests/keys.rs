//! Reading of keys, and the mathematics.

use sigstore::crypto::{CosignVerificationKey, Signature};

use super::*;

fn problems(text: &str) -> Vec<String> {
    PublicKeys::from_pem(text.as_bytes()).1
}

/// The keys stay empty and the one problem contains `why`.
fn assert_refused(text: &str, why: &str) {
    let (keys, problems) = PublicKeys::from_pem(text.as_bytes());
    assert!(keys.is_empty(), "{text}");
    assert!(problems.len() == 1 && problems[0].contains(why), "{problems:?} should say {why:?}");
}

fn openssl_public(args: &[&str]) -> Option<Vec<u8>> {
    openssl(&args.join(" "), args, "-sha256").map(|signer| signer.spki)
}

#[test]
fn verifies_every_kind_of_key_and_refuses_another_message_key_or_signature() {
    let signers = every_kind();
    let other = [p256(), ecdsa("P-384", &ECDSA_P384_SHA384_ASN1_SIGNING), ed25519()];
    for signer in &signers {
        let keys = signer.keys();
        let mut signature = signer.sign(b"message");
        let verifies = |message: &[u8], signature: &[u8]| keys.signer(message, signature).is_some();
        assert!(verifies(b"message", &signature), "{}", signer.name);
        assert!(!verifies(b"Message", &signature), "{}", signer.name);
        assert!(!verifies(b"", &signature), "{}", signer.name);
        assert!(!verifies(b"message", b""), "{}", signer.name);
        assert!(!verifies(b"message", &vec![0; signature.len()]), "{}", signer.name);
        assert!(other.iter().all(|other| other.keys().signer(b"message", &signature).is_none()), "{}", signer.name);
        signature.push(0);
        assert!(!verifies(b"message", &signature), "{}: a byte behind the signature", signer.name);
        assert_eq!(keys.fingerprints(), [signer.fingerprint()]);
    }
}

#[test]
fn e8_no_flipped_bit_of_a_signature_verifies_or_panics() {
    for signer in [p256(), ed25519(), ed25519ph()] {
        let (keys, good) = (signer.keys(), signer.sign(b"message"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.signer(b"message", &bad).is_none(), "{} bit {bit}", signer.name);
        }
        assert!((0..good.len()).all(|end| keys.signer(b"message", &good[..end]).is_none()), "{}", signer.name);
    }
}

/// What the `openssl` program thinks of a signature; nothing where it is missing or cannot (Ed25519ph).
fn openssl_verifies(signer: &Signer, message: &[u8], signature: &[u8]) -> Option<bool> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (key, message) = (file("key", signer.pem().as_bytes()), file("message", message));
    let signature = file("signature", signature);
    let verifies = |args: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(args).arg(&key).arg(if args[0] == "dgst" { "-signature" } else { "-sigfile" }).arg(&signature);
        openssl.args((args[0] != "dgst").then_some("-in")).arg(&message);
        openssl.stdout(Stdio::null()).stderr(Stdio::null()).status().ok().map(|status| status.success())
    };
    match signer.name.as_str() {
        "Ed25519ph" => None,
        "Ed25519" => verifies(&["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]),
        "P-256" | "P-256 of openssl" => verifies(&["dgst", "-sha256", "-verify"]),
        _ => ["-sha256", "-sha384", "-sha512"].iter().map(|hash| verifies(&["dgst", hash, "-verify"])).max()?,
    }
}

#[test]
fn agrees_with_openssl() {
    let mut accepted = 0;
    for signer in every_kind() {
        let good = signer.sign(b"message");
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        for (message, signature) in [(&b"message"[..], &good), (b"other", &good), (b"message", &bad)] {
            let Some(theirs) = openssl_verifies(&signer, message, signature) else { continue };
            assert_eq!(signer.keys().signer(message, signature).is_some(), theirs, "{}", signer.name);
            accepted += usize::from(theirs);
        }
    }
    // All kinds but Ed25519ph, unless the program is missing.
    assert!(accepted == 10 || accepted == 0, "{accepted}");
}

#[test]
fn agrees_with_the_sigstore_crate_on_what_it_supports() {
    // It tries one digest per kind of key and no Ed25519ph.
    let beyond = ["P-384 with SHA-256", "P-521 with SHA-256", "RSA 4096 with SHA-512", "RSA with SHA-384", "Ed25519ph"];
    for signer in every_kind() {
        let theirs = CosignVerificationKey::try_from_pem(signer.pem().as_bytes()).unwrap();
        let good = signer.sign(b"message");
        for message in [&b"message"[..], b"other"] {
            let they = theirs.verify_signature(Signature::Raw(&good), message).is_ok();
            let we = signer.keys().signer(message, &good).is_some();
            let only_we = message == b"message" && beyond.contains(&signer.name.as_str());
            assert_eq!((we, they), (message == b"message", we && !only_we), "{}", signer.name);
        }
    }
}

#[test]
fn finds_the_key_among_several_and_names_it() {
    let (one, two) = (p256(), ed25519ph());
    let (keys, problems) = PublicKeys::from_pem(format!("{}{}{}", one.pem(), two.pem(), one.pem()).as_bytes());
    assert_eq!(problems, [""; 0]);
    assert_eq!(keys.fingerprints(), [one.fingerprint(), two.fingerprint()]);
    assert_eq!(keys.signer(b"m", &two.sign(b"m")).unwrap().fingerprint, two.fingerprint());
}

#[test]
fn reads_an_rsa_key_in_pkcs1_form_as_the_same_key() {
    let signer = rsa_with("RSA", rsa::KeySize::Rsa2048, &RSA_PKCS1_SHA256);
    let pkcs1 = &signer.spki[24..];
    let (keys, problems) = PublicKeys::from_pem(pem("RSA PUBLIC KEY", pkcs1).as_bytes());
    assert_eq!((problems, keys.fingerprints()), (Vec::new(), vec![signer.fingerprint()]));
    assert!(keys.signer(b"m", &signer.sign(b"m")).is_some());
    assert_refused(&pem("RSA PUBLIC KEY", &signer.spki), "not a public key in DER form");
    assert_refused(&pem("PUBLIC KEY", pkcs1), "not a public key in DER form");
    assert_refused(&pem("RSA PUBLIC KEY", &[pkcs1, &[0]].concat()), "not a public key in DER form");
}

#[test]
fn e40_a_broken_block_is_reported_and_the_good_ones_stay_usable() {
    let (one, two) = (p256(), ed25519());
    let broken = one.pem().replace("MFkw", "!!!!");
    let private = pem("EC PRIVATE KEY", b"s3cr3t");
    let (keys, problems) = PublicKeys::from_pem(format!("{broken}{}{private}{}", one.pem(), two.pem()).as_bytes());
    assert_eq!(keys.fingerprints(), [one.fingerprint(), two.fingerprint()]);
    assert_eq!(
        problems,
        [
            "block 1 (PUBLIC KEY): not valid base64",
            "block 3 (EC PRIVATE KEY): a private key, ignored: it does not belong here, store the public key alone",
        ]
    );
    assert!(keys.signer(b"m", &two.sign(b"m")).is_some());
}

#[test]
fn e40_text_without_a_usable_key_gives_none_and_says_why() {
    for text in ["", "\n", "garbage", "\u{0}\u{ff}", "MFkwEwYHKoZIzj0CAQ=="] {
        assert_refused(text, "no PEM block found");
    }
    assert_refused(&pem("CERTIFICATE", b"x"), "a certificate is not a public key");
    assert_refused(&pem("PGP PUBLIC KEY BLOCK", b"x"), "expected PUBLIC KEY");
    assert_refused(&pem("PUBLIC KEY", b""), "not a public key in DER form");
    assert_refused(&pem("PUBLIC KEY", b"garbage"), "not a public key in DER form");
    // A key that was pasted without its line breaks must not reach a log.
    let flat = pem("PRIVATE KEY", b"s3cr3t").replace('\n', "");
    assert_eq!(problems(&flat), ["block 1 (?): not a BEGIN line"]);
}

#[test]
fn e40_keys_of_unsupported_kind_or_strength_are_refused() {
    for (args, why) in [
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"][..], "fewer than 2048 bits"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "unsupported kind of key"),
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
            "unsupported",
        ),
        (&["-algorithm", "ED448"], "unsupported kind of key"),
        (&["-algorithm", "X25519"], "unsupported kind of key"),
        (&["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], "unsupported kind of key"),
    ] {
        if let Some(spki) = openssl_public(args) {
            assert_refused(&pem("PUBLIC KEY", &spki), why);
        }
    }
}

#[test]
fn e40_points_that_are_no_keys_are_refused() {
    let spki = p256().spki;
    let mut off_curve = spki.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    assert_refused(&pem("PUBLIC KEY", &off_curve), "not a public key");
    // The same point compressed, and the point at infinity.
    let compressed = [&[0x30, 0x39], &spki[2..23], &[0x03, 0x22, 0x00, 0x02], &spki[27..59]].concat();
    assert_refused(&pem("PUBLIC KEY", &compressed), "not in uncompressed form");
    let infinity = [&[0x30, 0x19], &spki[2..23], &[0x03, 0x02, 0x00, 0x00]].concat();
    assert_refused(&pem("PUBLIC KEY", &infinity), "not in uncompressed form");
    // A P-256 point under the name of P-384.
    let p384 = ecdsa("P-384", &ECDSA_P384_SHA384_ASN1_SIGNING).spki;
    let mixed = [&[0x30, 0x56], &p384[2..20], &spki[23..]].concat();
    assert_refused(&pem("PUBLIC KEY", &mixed), "not a public key");
    // The neutral element of Ed25519: every message has a signature under it.
    let mut neutral = ed25519().spki[..12].to_vec();
    neutral.extend([1]);
    neutral.extend([0; 31]);
    assert_refused(&pem("PUBLIC KEY", &neutral), "small order");
}

#[test]
fn e40_an_rsa_exponent_that_makes_forging_easy_is_refused() {
    let signer = rsa_with("RSA", rsa::KeySize::Rsa2048, &RSA_PKCS1_SHA256);
    assert_eq!(signer.spki[signer.spki.len() - 5..], [2, 3, 1, 0, 1]);
    for exponent in [[0, 0, 1], [1, 0, 0], [0, 0, 0]] {
        let mut weak = signer.spki.clone();
        let end = weak.len();
        weak[end - 3..].copy_from_slice(&exponent);
        assert_refused(&pem("PUBLIC KEY", &weak), "not a public key");
    }
    let one = [&signer.spki[24..signer.spki.len() - 5], &[2, 1, 1]].concat();
    let mut one = one;
    one[3] -= 2;
    assert_refused(&pem("RSA PUBLIC KEY", &one), "not a public key");
}

#[test]
fn e40_der_is_read_strictly_and_never_panics() {
    for signer in [p256(), ed25519(), rsa_with("RSA", rsa::KeySize::Rsa2048, &RSA_PKCS1_SHA256)] {
        let spki = &signer.spki;
        let refused = |der: &[u8]| PublicKeys::from_pem(pem("PUBLIC KEY", der).as_bytes()).0.is_empty();
        assert!(!refused(spki), "{}", signer.name);
        assert!((0..spki.len()).all(|end| refused(&spki[..end])), "{}", signer.name);
        assert!(refused(&[spki, &[0][..]].concat()), "{}", signer.name);
        for bit in 0..spki.len() * 8 {
            let mut other = spki.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            // Some flips give another key, never the same one.
            let (keys, _) = PublicKeys::from_pem(pem("PUBLIC KEY", &other).as_bytes());
            assert!(!keys.fingerprints().contains(&signer.fingerprint()), "{} bit {bit}", signer.name);
        }
    }
}

#[test]
fn e34_at_most_64_blocks_are_read_and_the_rest_reported() {
    let (first, last) = (p256(), ed25519());
    let text = format!("{}{}", first.pem().repeat(64), last.pem());
    let (keys, problems) = PublicKeys::from_pem(text.as_bytes());
    assert_eq!(keys.fingerprints(), [first.fingerprint()]);
    assert_eq!(problems, ["only the first 64 blocks within 1 MiB are read; split the keys"]);
}

#[test]
fn e44_an_rsa_key_made_to_cost_time_is_refused() {
    let Some(cheap) = openssl_rsa("65537") else { return };
    assert!(!PublicKeys::from_pem(&cheap).0.is_empty());
    let costly = openssl_rsa("8589934591").expect("openssl is there");
    let (keys, problems) = PublicKeys::from_pem(&costly);
    assert!(keys.is_empty() && problems[0].contains("public exponent"), "{problems:?}");
}

/// The public key of a new RSA key with this exponent; nothing without the program.
fn openssl_rsa(exponent: &str) -> Option<Vec<u8>> {
    let pipe = format!(
        "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:{exponent} 2>/dev/null \
         | openssl pkey -pubout"
    );
    match Command::new("sh").args(["-c", &pipe]).output() {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => {
            println!("skipped: openssl is not installed");
            None
        }
    }
}
