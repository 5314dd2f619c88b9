use std::os::unix::fs::PermissionsExt as _;

use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use sequoia_openpgp::crypto::mem::Protected;

use super::*;
use crate::signing::secret_file::SecretFile;
use crate::source::testing::{Server, insecure, reply, upstream};

fn pem(label: &str, body: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(body)).into_bytes()
}

fn pkcs8() -> Vec<u8> {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_der()
}

/// What cosign writes, with cheap parameters.
fn sealed(content: &[u8], password: &[u8], n: u64) -> Value {
    let (salt, nonce, mut key) = ([7; 32], [9; 24], [0; 32]);
    let log = u8::try_from(n.min(1 << 10).trailing_zeros()).expect("small");
    scrypt::scrypt(password, &salt, &scrypt::Params::new(log, 8, 1).expect("parameters"), &mut key).expect("a key");
    let sealed =
        XSalsa20Poly1305::new(Key::from_slice(&key)).encrypt(Nonce::from_slice(&nonce), content).expect("sealed");
    json!({
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": BASE64_STANDARD.encode(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": BASE64_STANDARD.encode(nonce)},
        "ciphertext": BASE64_STANDARD.encode(sealed),
    })
}

fn read(content: &[u8], password: &str) -> Result<CosignKey, String> {
    let password = Protected::from(password.as_bytes());
    CosignKey::read(&file(content, 0o600), || Ok(password)).map_err(|error| error.to_string())
}

fn file(content: &[u8], mode: u32) -> SecretFile {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cosign.key");
    std::fs::write(&path, content).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    SecretFile::read(&path, MAX_KEY_FILE).expect("content")
}

#[test]
fn a_key_that_others_may_read_is_refused_before_its_password_is_asked_for() {
    let (pkcs8, never) = (pkcs8(), || panic!("the password was asked for"));
    let body = sealed(&pkcs8, b"open", 1024).to_string();
    for form in [pem("ENCRYPTED SIGSTORE PRIVATE KEY", body.as_bytes()), pem("PRIVATE KEY", &pkcs8)] {
        let error = CosignKey::read(&file(&form, 0o640), never).expect_err("refused").to_string();
        assert!(error.contains("others may read it (mode 0640): chmod 600 /"), "{error}");
    }
    assert!(read(&pem("PRIVATE KEY", &pkcs8), "").is_ok());
}

#[test]
fn sealed_and_plain_keys_are_read_and_sign() {
    let pkcs8 = pkcs8();
    let body = sealed(&pkcs8, b"open", 1024).to_string();
    let forms = [
        pem("ENCRYPTED SIGSTORE PRIVATE KEY", body.as_bytes()),
        pem("ENCRYPTED COSIGN PRIVATE KEY", body.as_bytes()),
        pem("PRIVATE KEY", &pkcs8),
    ];
    for form in forms {
        let key = read(&form, "open").expect("a key");
        let digest = Digest::sha256(b"image");
        let payload = json!({
            "critical": {"identity": {"docker-reference": "r.local/a"},
                "image": {"docker-manifest-digest": digest.as_str()}, "type": "cosign container image signature"},
            "optional": null,
        });
        let payload = payload.to_string();
        let signature = key.sign(payload.as_bytes()).expect("a signature");
        key.public.verify_legacy(payload.as_bytes(), &signature, &digest).expect("a good one");
        assert!(key.public.verify_legacy(payload.as_bytes(), &signature, &Digest::sha256(b"other")).is_err());
        let debug = format!("{key:?}");
        assert!(!debug.contains(&format!("{:?}", &pkcs8[40..48])), "{debug}");
    }
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let pkcs8 = pkcs8();
    let body = |change: &dyn Fn(&mut Value)| {
        let mut body = sealed(&pkcs8, b"open", 1024);
        change(&mut body);
        pem("ENCRYPTED SIGSTORE PRIVATE KEY", body.to_string().as_bytes())
    };
    let costly = "costs too much";
    let cases: [(Vec<u8>, &str, &str); 13] = [
        (body(&|_| {}), "shut", "the password does not open it"),
        (body(&|b| b["kdf"]["params"]["N"] = json!(1_u64 << 40)), "open", costly),
        (body(&|b| b["kdf"]["params"]["N"] = json!(1000)), "open", costly),
        (body(&|b| b["kdf"]["params"]["N"] = json!(0)), "open", costly),
        (body(&|b| b["kdf"]["params"]["p"] = json!(1000)), "open", costly),
        (body(&|b| b["kdf"]["params"]["r"] = json!(4_000_000_000_u64)), "open", costly),
        (body(&|b| b["kdf"]["name"] = json!("pbkdf2")), "open", "not encrypted as cosign does it"),
        (body(&|b| b["cipher"]["nonce"] = json!("AAAA")), "open", "not encrypted as cosign does it"),
        (pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"{}"), "open", "not encrypted as cosign does it"),
        (pem("PUBLIC KEY", &pkcs8), "", "a public key"),
        (pem("EC PRIVATE KEY", &pkcs8), "", "cosign import-key-pair"),
        (pem("PRIVATE KEY", b"x"), "", "not a key that can be signed with"),
        (b"hello".to_vec(), "", "no private key in PEM form"),
    ];
    for (content, password, said) in cases {
        let error = read(&content, password).expect_err(said);
        assert!(error.contains(said) && error.contains("cosign.key"), "{said}: {error}");
    }
    let asked = CosignKey::read(&file(&body(&|_| {}), 0o600), || Err("give it".to_owned()));
    assert!(asked.expect_err("not asked").to_string().contains("give it"));
}

#[test]
fn a_key_on_another_curve_has_the_digest_of_its_curve() {
    let pkcs8 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key").serialize_der();
    let key = read(&pem("PRIVATE KEY", &pkcs8), "").expect("a key");
    let signature = BASE64_STANDARD.decode(key.sign(b"message").expect("a signature")).expect("base64");
    assert!(signature.len() > 96, "two numbers of 48 bytes");
}

#[tokio::test]
async fn what_is_under_the_tag_of_signatures_stays_or_nothing_is_written() {
    let key = read(&pem("PRIVATE KEY", &pkcs8()), "").expect("a key");
    let digest = Digest::sha256(b"image");
    // An index has no layers that could be kept.
    let server = Server::plain(1, |seen| match seen.method.as_str() {
        "GET" | "HEAD" if seen.target.contains("/manifests/sha256-") => {
            reply(200, r#"{"schemaVersion":2,"manifests":[]}"#)
                .with("content-type", "application/vnd.oci.image.index.v1+json")
        }
        "HEAD" => reply(200, ""),
        _ => reply(500, ""),
    });
    let access = insecure();
    let line = Line {
        upstream: Arc::new(upstream()),
        transport: access.transport,
        keychain: access.keychain,
        timeout: std::time::Duration::from_secs(5),
    };
    let repository = server.repository("a/b");
    let manifest = Manifest { digest: digest.clone(), media_type: MANIFEST_TYPE.to_owned(), bytes: Bytes::new() };
    let wanted = Wanted { repository: &repository, digest: &digest, identity: "r.local/a:1", again: false };
    sign(&key, &line, &manifest, wanted, Form::Legacy).await.expect_err("refused");
    assert!(!server.lines().iter().any(|line| line.starts_with("PUT /v2/a/b/manifests")), "{:?}", server.lines());
    let long = Digest::of(Algorithm::Sha512, b"image");
    let wanted = Wanted { digest: &long, ..wanted };
    let refused = sign(&key, &line, &manifest, wanted, Form::Bundle).await.expect_err("refused");
    assert!(matches!(refused, SignError::Payload(_)));
}
