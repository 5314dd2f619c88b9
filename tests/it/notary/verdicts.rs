//! What podseal says of images by the trust data that a publisher made.

use std::time::{Duration, SystemTime};

use podseal::signature::SignatureError;
use podseal::signature::notary::{Pin, UntrustedRoot};
use serde_json::{Value, json};

use crate::support::notary::{DelegationKey, Kind, Notary, Publisher};
use crate::support::opinions::{Answer, Opinion};
use crate::support::proxy::Proxy;
use crate::support::registry::{Image, Registry};

crate::tests! {
    needs [Registry, Notary];
    released_images_pass_and_others_do_not,
    e13_e18_d12_releases_and_signers_are_delegations,
    a_rotated_root_is_reached_from_the_pinned_one_and_a_wrong_pin_refuses,
    roots_may_be_pinned_by_their_authority,
    d11_expired_trust_data_of_a_real_server_is_refused,
    tampered_targets_are_refused,
    h11_a_server_that_is_down_is_no_verdict,
    e20_check_trusts_what_it_sees_first_for_one_run_and_says_so,
}

/// A registry, a server, and a publisher.
struct Shop {
    registry: Registry,
    notary: Notary,
    publisher: Publisher,
}

impl Shop {
    fn open() -> Self {
        let (registry, notary) = (Registry::start(), Notary::start());
        let publisher = notary.publisher();
        Self { registry, notary, publisher }
    }

    fn gun(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.host)
    }

    /// A policy for the registry with further fields; `notary` is the server when they do not say otherwise.
    fn policy(&self, more: &Value) -> Value {
        let mut entry = json!({
            "registry": self.registry.host, "signCheck": true, "insecure": true, "notary": self.notary.url,
        });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({
            "apiVersion": "tmax.io/v1", "kind": "ClusterRegistrySecurityPolicy", "metadata": {"name": "notary"},
            "spec": {"registries": [entry]},
        })
    }

    #[track_caller]
    fn accepts(&self, image: &str, more: &Value) {
        let opinion = Opinion::podseal(image, &[self.policy(more)]);
        assert_eq!(opinion.answer, Answer::Accepts, "{image}: {}", opinion.words);
    }

    #[track_caller]
    fn refuses(&self, image: &str, more: &Value, words: &str) {
        let opinion = Opinion::podseal(image, &[self.policy(more)]);
        assert_eq!(opinion.answer, Answer::Refuses, "{image}");
        assert!(opinion.words.contains(words), "{image}: {}", opinion.words);
    }
}

fn pinned(id: &str) -> Value {
    json!({"notaryTrust": {"rootKeyIds": [id]}})
}

fn released_images_pass_and_others_do_not() {
    let shop = Shop::open();
    let (image, other) = (shop.registry.push("team/app:1"), shop.registry.push("team/app:2"));
    let gun = shop.gun("team/app");
    shop.publisher.init(&gun);
    shop.publisher.sign(&gun, "1", image.hex(), &[]);
    let trust = pinned(&shop.notary.root_id(&gun));
    for reference in [image.tagged(), image.pinned(), format!("{}/team/app:any@{}", image.host, image.digest)] {
        shop.accepts(&reference, &trust);
    }
    shop.accepts(&image.tagged(), &pinned(&shop.publisher.root_key()));
    shop.refuses(&other.tagged(), &trust, "has no released tag 2");
    shop.refuses(&other.pinned(), &trust, "no released tag in the trust data");
    let unsigned = shop.registry.push("team/unsigned:1");
    shop.refuses(&unsigned.tagged(), &trust, "has no trust data for");
    // The tag moves in the registry, and not in the trust data.
    let moved = shop.registry.push("team/app:1");
    shop.refuses(&moved.tagged(), &trust, "says that 1 is sha256:");
    shop.accepts(&image.pinned(), &trust);
    // What is released no more.
    shop.publisher.notary(&["remove", &gun, "1", "-p"]).succeeded();
    shop.refuses(&image.pinned(), &trust, "no released tag in the trust data");
}

fn e13_e18_d12_releases_and_signers_are_delegations() {
    let shop = Shop::open();
    let gun = shop.gun("team/app");
    let publisher = &shop.publisher;
    let [one, two, three]: [Image; 3] = ["1", "2", "3"].map(|tag| shop.registry.push(&format!("team/app:{tag}")));
    publisher.init(&gun);
    let trust = shop.notary.root_id(&gun);
    // RSA keys sign by `rsapss`, the others by `ecdsa`.
    let (alice, bob) = (DelegationKey::new("alice", Kind::Rsa), DelegationKey::new("bob", Kind::Ecdsa));
    publisher.delegate(&gun, "targets/releases", &alice);
    publisher.delegate(&gun, "targets/alice", &alice);
    publisher.delegate(&gun, "targets/bob", &bob);
    publisher.sign(&gun, "1", one.hex(), &["targets/releases", "targets/alice"]);
    publisher.sign(&gun, "2", two.hex(), &["targets/bob"]);
    publisher.sign(&gun, "3", three.hex(), &[]);
    // The same tag with another digest, by somebody whom nobody listed.
    publisher.sign(&gun, "1", two.hex(), &["targets/bob"]);
    let by = |signers: &[&str]| json!({"notaryTrust": {"rootKeyIds": [trust]}, "signer": signers});
    for (image, signers) in
        [(&one, &[][..]), (&one, &["alice"]), (&one, &["x", "targets/alice"]), (&three, &[]), (&three, &["Repo Admin"])]
    {
        shop.accepts(&image.tagged(), &by(signers));
        shop.accepts(&image.pinned(), &by(signers));
    }
    shop.refuses(&one.tagged(), &by(&["bob"]), "by none of the listed signers");
    shop.refuses(&three.tagged(), &by(&["alice"]), "by none of the listed signers");
    // What only a signer says is not released.
    shop.refuses(&two.tagged(), &by(&[]), "has no released tag 2");
    shop.refuses(&two.tagged(), &by(&["bob"]), "has no released tag 2");
    // Released under another digest than `targets` says: the former counts.
    publisher.sign(&gun, "1", three.hex(), &["targets"]);
    shop.accepts(&one.tagged(), &by(&[]));
}

fn a_rotated_root_is_reached_from_the_pinned_one_and_a_wrong_pin_refuses() {
    let shop = Shop::open();
    let gun = shop.gun("team/app");
    let image = shop.registry.push("team/app:1");
    shop.publisher.init(&gun);
    shop.publisher.sign(&gun, "1", image.hex(), &[]);
    let (first, plain) = (shop.notary.root_id(&gun), shop.publisher.root_key());
    for role in ["snapshot", "targets", "root", "root"] {
        shop.publisher.rotate(&gun, role);
    }
    shop.publisher.sign(&gun, "again", image.hex(), &[]);
    let newest = shop.notary.root_id(&gun);
    assert_ne!(first, newest);
    for id in [&first, &plain, &newest] {
        shop.accepts(&image.tagged(), &pinned(id));
    }
    // Somebody else's root for the same repository on another server.
    let stranger = Shop::open();
    stranger.publisher.init(&gun);
    shop.refuses(&image.tagged(), &pinned(&stranger.notary.root_id(&gun)), "notaryTrust names neither that one");
    let elsewhere = json!({"notary": stranger.notary.url, "notaryTrust": {"rootKeyIds": [first]}});
    shop.refuses(&image.tagged(), &elsewhere, "notaryTrust names neither that one");
}

fn roots_may_be_pinned_by_their_authority() {
    let shop = Shop::open();
    let (gun, image) = (shop.gun("team/app"), shop.registry.push("team/app:1"));
    let authority = shop.publisher.init_certified(&gun);
    shop.publisher.sign(&gun, "1", image.hex(), &[]);
    let stranger = Shop::open();
    let other = stranger.publisher.init_certified(&gun);
    let trust = json!({"notaryTrust": {"caRef": "k8s://keys/roots"}});
    let map = |pem: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "roots", "namespace": "keys"},
            "data": {"ca.crt": pem},
        })
    };
    let say = |pem: &str| Opinion::podseal(&image.tagged(), &[shop.policy(&trust), map(pem)]);
    let opinion = say(&authority);
    assert_eq!(opinion.answer, Answer::Accepts, "{}", opinion.words);
    assert!(say(&(other.clone() + &authority)).answer == Answer::Accepts);
    let opinion = say(&other);
    assert_eq!(opinion.answer, Answer::Refuses);
    assert!(opinion.words.contains("no valid root certificate comes from the authority"), "{}", opinion.words);
}

/// The same bytes, judged at two times: fourteen days is how long the server's timestamps are good for.
fn d11_expired_trust_data_of_a_real_server_is_refused() {
    let shop = Shop::open();
    let gun = shop.gun("team/app");
    shop.publisher.init(&gun);
    shop.publisher.sign(&gun, "1", &"0".repeat(64), &[]);
    let now = SystemTime::now();
    let days = |days: u64| now + Duration::from_secs(days * 24 * 3600);
    let root = UntrustedRoot::read(&shop.notary.file(&gun, "root.json"), &gun).unwrap();
    let root = root.establish(Pin::Keys(&[shop.notary.root_id(&gun)]), Some(now)).unwrap().unwrap();
    let timestamp = shop.notary.file(&gun, "timestamp.json");
    assert!(root.timestamp(&timestamp, days(13)).is_ok());
    let error = root.timestamp(&timestamp, days(15)).unwrap_err();
    assert!(
        matches!(&error, SignatureError::NotValid(text) if text.starts_with("timestamp.json expired on")),
        "{error}"
    );
    let timestamp = root.timestamp(&timestamp, now).unwrap();
    let snapshot = shop.notary.file(&gun, "snapshot.json");
    assert!(root.snapshot(&snapshot, &timestamp, days(1000)).is_ok());
    assert!(matches!(root.snapshot(&snapshot, &timestamp, days(1200)), Err(SignatureError::NotValid(_))));
    let snapshot = root.snapshot(&snapshot, &timestamp, now).unwrap();
    let targets = shop.notary.file(&gun, "targets.json");
    assert!(root.targets(&targets, &snapshot, days(1000)).is_ok());
    assert!(matches!(root.targets(&targets, &snapshot, days(1200)), Err(SignatureError::NotValid(_))));
    assert!(root.check_current(days(3600)).is_ok() && root.check_current(days(3700)).is_err());
}

fn tampered_targets_are_refused() {
    let shop = Shop::open();
    let (gun, image) = (shop.gun("team/app"), shop.registry.push("team/app:1"));
    shop.publisher.init(&gun);
    shop.publisher.sign(&gun, "1", &"0".repeat(64), &[]);
    let proxy = Proxy::before(&shop.notary.url);
    let trust = json!({"notary": proxy.url, "notaryTrust": {"rootKeyIds": [shop.notary.root_id(&gun)]}});
    shop.refuses(&image.tagged(), &trust, "says that 1 is sha256:0000");
    // The digest of the image in place of the signed one, as long as the original.
    let (zero, hex) = (encoded(&"0".repeat(64)), encoded(image.hex()));
    proxy.bend(move |path, body| {
        if !path.contains("/targets.") {
            return body;
        }
        String::from_utf8(body).unwrap().replace(&zero, &hex).into_bytes()
    });
    shop.refuses(&image.tagged(), &trust, "targets.json is not the file that the rest of the trust data names");
    for file in ["/timestamp.", "/snapshot.", "/root."] {
        proxy.bend(move |path, body| {
            if !path.contains(file) {
                return body;
            }
            String::from_utf8(body).unwrap().replace("\"expires\":\"20", "\"expires\":\"21").into_bytes()
        });
        shop.refuses(&image.tagged(), &trust, "does not hold");
    }
    proxy.honest();
    shop.publisher.sign(&gun, "1", image.hex(), &[]);
    shop.accepts(&image.tagged(), &trust);
}

fn encoded(hex: &str) -> String {
    use base64::Engine as _;
    let bytes = (0..32).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap());
    base64::engine::general_purpose::STANDARD.encode(bytes.collect::<Vec<_>>())
}

fn h11_a_server_that_is_down_is_no_verdict() {
    let shop = Shop::open();
    let (gun, image) = (shop.gun("team/app"), shop.registry.push("team/app:1"));
    shop.publisher.init(&gun);
    shop.publisher.sign(&gun, "1", image.hex(), &[]);
    let trust = pinned(&shop.notary.root_id(&gun));
    shop.accepts(&image.tagged(), &trust);
    shop.notary.process().kill();
    shop.refuses(&image.tagged(), &trust, "could not be checked");
}

fn e20_check_trusts_what_it_sees_first_for_one_run_and_says_so() {
    let (registry, notary) = (Registry::start(), Notary::tls());
    let shop = Shop { registry, publisher: notary.publisher(), notary };
    let (gun, image) = (shop.gun("team/app"), shop.registry.push("team/app:1"));
    let trust = json!({"notaryTrust": {"firstUse": true}, "caRef": "k8s://keys/tls"});
    let authority = &shop.notary.authority.as_ref().unwrap().pem;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "keys"},
        "stringData": {"ca.crt": authority},
    });
    let say = |objects: &[Value]| Opinion::podseal(&image.tagged(), objects);
    for publisher in [&shop.publisher, &shop.notary.publisher()] {
        publisher.init(&gun);
        publisher.sign(&gun, "1", image.hex(), &[]);
        let opinion = say(&[shop.policy(&trust), secret.clone()]);
        assert_eq!(opinion.answer, Answer::Accepts, "{}", opinion.words);
        assert!(opinion.words.contains("is trusted for this run and not remembered"), "{}", opinion.words);
        publisher.delete(&gun);
    }
    // `insecure` is for the registry; the server is verified all the same.
    let opinion = say(&[shop.policy(&json!({"notaryTrust": {"firstUse": true}}))]);
    assert_eq!(opinion.answer, Answer::Refuses);
    assert!(opinion.words.contains("the TLS certificate is not trusted"), "{}", opinion.words);
}
