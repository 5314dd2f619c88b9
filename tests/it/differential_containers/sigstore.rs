//! `sigstoreSigned` with certificates and logs, signed in the tests' own Sigstore. containers/image 5.42 is the one to
//! compare with; Debian's has it taken out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Files, differences};
use crate::support::opinions::{Answer, Opinion};
use crate::support::registry::{Image, Registry};
use crate::support::signer::CosignKey;
use crate::support::sigstore::materials::Ca;
use crate::support::sigstore::{By, How, Identity, Sigstore};

const DEV: &str = "dev@example.test";
const ATTACHMENTS: &str = "default-docker: {use-sigstore-attachments: true}\n";

struct World {
    sigstore: &'static Sigstore,
    registry: Registry,
    key: CosignKey,
    /// By an identity, by a key in the log, by a key in no log, by nobody.
    images: [Image; 4],
}

impl World {
    fn start() -> Self {
        let (sigstore, registry, key) = (Sigstore::shared(), Registry::start(), CosignKey::new());
        let images = ["keyless", "logged", "bare", "unsigned"].map(|name| registry.push(&format!("team/{name}:1")));
        let identity = By::Identity(Identity::mail(DEV));
        let sign = |image: &Image, how, by: &By<'_>| {
            sigstore.sign(&registry, &image.pinned(), how, by, &[]).succeeded();
        };
        sign(&images[0], How::LEGACY, &identity);
        sign(&images[1], How::LEGACY, &By::Key(&key));
        sign(&images[2], How::LEGACY_BARE, &By::Key(&key));
        Self { sigstore, registry, key, images }
    }

    fn rekor(&self) -> String {
        encoded(&self.sigstore.materials.rekor1.public_key_pem())
    }

    /// The intermediate authority and its root, as a node has them.
    fn authorities(&self) -> String {
        let materials = &self.sigstore.materials;
        encoded(&format!("{}{}", materials.fulcio.pem, materials.fulcio_root.pem))
    }

    fn fulcio(&self, authorities: &str, issuer: &str, email: &str) -> Value {
        json!({"caData": authorities, "oidcIssuer": self.sigstore.issuer(issuer), "subjectEmail": email})
    }

    /// Both answers.
    fn judge(&self, image: &Image, requirement: &Value) -> (Opinion, Opinion) {
        let mut requirement = requirement.clone();
        requirement["type"] = "sigstoreSigned".into();
        if requirement.get("signedIdentity").is_none() {
            requirement["signedIdentity"] = json!({"type": "matchRepository"});
        }
        let files = Files::of(&json!({"default": [requirement]}), ATTACHMENTS);
        (files.podseal(&self.registry, &image.tagged()), files.current(&image.tagged()))
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn sigstore_signed_with_certificates_and_logs_is_judged_alike() {
    let world = World::start();
    let [keyless, logged, bare, unsigned] = &world.images;
    let (rekor, authorities) = (world.rekor(), world.authorities());
    let other = Ca::root("another authority");
    let foreign = encoded(&format!("{}{}", other.pem, Ca::root("and another").pem));
    let (key, stranger) = (encoded(&world.key.public), encoded(&CosignKey::new().public));
    let fulcio = |fulcio: Value, rekor: &str| json!({"fulcio": fulcio, "rekorPublicKeyData": rekor});
    let good = || world.fulcio(&authorities, "mail", DEV);
    let with = |mut requirement: Value, name: &str, value: Value| {
        requirement[name] = value;
        requirement
    };
    let mut found = Vec::new();
    for (name, image, requirement, accepts) in [
        ("an identity", keyless, fulcio(good(), &rekor), true),
        ("another address", keyless, fulcio(world.fulcio(&authorities, "mail", "other@example.test"), &rekor), false),
        ("another issuer", keyless, fulcio(world.fulcio(&authorities, "post", DEV), &rekor), false),
        ("another authority", keyless, fulcio(world.fulcio(&foreign, "mail", DEV), &rekor), false),
        (
            "one authority of several",
            keyless,
            fulcio(
                world.fulcio(
                    &encoded(&format!(
                        "{}{}{}",
                        other.pem, world.sigstore.materials.fulcio.pem, world.sigstore.materials.fulcio_root.pem
                    )),
                    "mail",
                    DEV,
                ),
                &rekor,
            ),
            true,
        ),
        ("another log", keyless, fulcio(good(), &stranger), false),
        ("one log of several", keyless, json!({"fulcio": good(), "rekorPublicKeyDatas": [stranger, rekor]}), true),
        ("an identity where a key is asked for", keyless, json!({"keyData": key}), false),
        ("a key where an identity is asked for", logged, fulcio(good(), &rekor), false),
        (
            "an identity, its name compared",
            keyless,
            with(fulcio(good(), &rekor), "signedIdentity", json!({"type": "matchExact"})),
            false,
        ),
        (
            "an identity under another name",
            keyless,
            with(
                fulcio(good(), &rekor),
                "signedIdentity",
                json!({"type": "exactRepository", "dockerRepository": "a.b/c"}),
            ),
            false,
        ),
        ("a key", logged, json!({"keyData": key}), true),
        ("a key in the log", logged, json!({"keyData": key, "rekorPublicKeyData": rekor}), true),
        ("a key in another log", logged, json!({"keyData": key, "rekorPublicKeyData": stranger}), false),
        ("a key in no log", bare, json!({"keyData": key}), true),
        ("a key in no log, where one is asked for", bare, json!({"keyData": key, "rekorPublicKeyData": rekor}), false),
        ("one key of several", logged, json!({"keyDatas": [stranger, key]}), true),
        (
            "one key of several, in the log",
            logged,
            json!({"keyDatas": [stranger, key], "rekorPublicKeyData": rekor}),
            true,
        ),
        ("another key", logged, json!({"keyData": stranger}), false),
        ("a key that is none", logged, json!({"keyData": encoded("no key")}), false),
        ("one key that is none beside a good one", logged, json!({"keyDatas": [key, encoded("no key")]}), false),
        (
            "a second key behind the first",
            logged,
            json!({"keyData": encoded(&format!("{}{}", CosignKey::new().public, world.key.public))}),
            false,
        ),
        (
            "an authority that is none",
            keyless,
            fulcio(world.fulcio(&encoded("no authority"), "mail", DEV), &rekor),
            false,
        ),
        ("unsigned", unsigned, fulcio(good(), &rekor), false),
    ] {
        let (podseal, current) = world.judge(image, &requirement);
        let expected = Opinion::new(accepts, "as written here");
        found.extend(differences(name, &podseal, &[("image-copy", current), ("the test", expected)]));
    }
    // The intermediate authority comes with the signature there; here the trust root has to hold it.
    let root = encoded(&world.sigstore.materials.fulcio_root.pem);
    let (podseal, current) = world.judge(keyless, &fulcio(world.fulcio(&root, "mail", DEV), &rekor));
    drop(world);
    eprintln!("root alone: podseal {:?}, image-copy {:?}", podseal.answer, current.answer);
    assert!(podseal.answer == Answer::Refuses || current.answer == Answer::Accepts, "{}", podseal.words);
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

crate::tests! {
    needs [Registry, Cosign, Sigstore, Containers];
    sigstore_signed_with_certificates_and_logs_is_judged_alike,
}
