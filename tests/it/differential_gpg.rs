//! GPG simple signing: podseal's answers beside those of skopeo with the equivalent policy.json.
//!
//! skopeo is Debian's (1.9.3, containers/image 5.22 with gpgme). One image stands for all cases; each case has keys, a
//! signature store and an identity rule of its own.

mod deviations;
mod identities;
mod keyrings;
mod keys;
mod messages;
mod payloads;
mod stores;

use serde_json::{Value, json};

use crate::support::opinions::{Expected, Opinion, Table, file, policy, secret};
use crate::support::registry::{Image, Registry};
use crate::support::signer::{Gpg, GpgKey, KeySpec, Payload, Skopeo};
use crate::support::store::{Store, registries_d};

/// When old keys were made, when their signatures were, and a time before which both lie.
const MADE: &str = "20240101T000000";
const SIGNED: &str = "20240601T000000";
const LATER: &str = "20250101T000000";

/// What all cases share.
struct World {
    registry: Registry,
    store: Store,
    gpg: Gpg,
    /// A good key, which made most signatures.
    key: GpgKey,
    /// A good key that is not trusted unless a case says so.
    stranger: GpgKey,
    image: Image,
}

/// One comparison. It starts as the image by tag under a policy that trusts the good key, without any signature.
struct Case {
    name: &'static str,
    image: String,
    keys: Vec<Vec<u8>>,
    signatures: Vec<(Image, usize, Vec<u8>)>,
    identity: Option<Value>,
    /// Of `skopeo copy`.
    options: &'static [&'static str],
    expected: Expected,
}

impl World {
    fn start() -> Self {
        let (registry, gpg) = (Registry::start(), Gpg::new());
        let key = gpg.generate(&KeySpec::new("Image Maker <immkk8s@registry.local>"));
        let stranger = gpg.generate(&KeySpec::new("Stranger <stranger@registry.local>"));
        let image = registry.push("alt/a:1");
        Self { registry, store: Store::start(), gpg, key, stranger, image }
    }

    /// The payload of a signature for the image under its own name.
    fn payload(&self) -> Payload {
        Payload::new(&self.image.digest, &self.image.tagged())
    }

    /// A good signature by this key.
    fn signed_by(&self, key: &GpgKey) -> Vec<u8> {
        self.gpg.sign(key, &self.payload().bytes())
    }

    /// A good signature by the good key.
    fn signed(&self) -> Vec<u8> {
        self.signed_by(&self.key)
    }

    /// What gpg makes of the payload with these arguments in place of `--sign`; the good key signs.
    fn made(&self, args: &[&str]) -> Vec<u8> {
        let user = format!("{}!", self.key.fingerprint);
        let args = [&["--local-user", &user], args].concat();
        self.gpg.gpg(None, &args, &self.payload().bytes()).succeeded().bytes
    }

    /// A case in which podseal accepts.
    fn accepted(&self, name: &'static str) -> Case {
        self.case(name, Expected::Accepted)
    }

    /// A case in which podseal refuses with these words.
    fn refused(&self, name: &'static str, words: &'static str) -> Case {
        self.case(name, Expected::Refused(words))
    }

    fn case(&self, name: &'static str, expected: Expected) -> Case {
        let (image, keys) = (self.image.tagged(), vec![self.gpg.export(&[&self.key])]);
        Case { name, image, keys, signatures: Vec::new(), identity: None, options: &[], expected }
    }

    /// Both answers.
    fn judge(&self, number: usize, case: &Case) -> (Opinion, Opinion) {
        let tree = format!("case-{number}");
        for (image, number, bytes) in &case.signatures {
            let folder = format!("{tree}/{}@sha256={}", image.repository, image.hex());
            let folder = self.store.folder().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("signature-{number}")), bytes).unwrap();
        }
        let lookaside = format!("{}{tree}", self.store.url);
        (self.podseal(case, &lookaside), self.skopeo(case, &lookaside))
    }

    fn podseal(&self, case: &Case, lookaside: &str) -> Opinion {
        let mut entry = json!({"gpgKeyRef": "k8s://registry-system/keys", "lookaside": lookaside});
        if let Some(identity) = &case.identity {
            entry["signedIdentity"] = identity.clone();
        }
        let files: Vec<_> = (1..).zip(&case.keys).map(|(n, key)| (format!("group{n}.gpg"), key.clone())).collect();
        Opinion::podseal(&case.image, &[policy(&self.registry.host, &entry), secret("keys", &files)])
    }

    /// containers-policy.json has one key file per rule here, so all key files become one.
    fn skopeo(&self, case: &Case, lookaside: &str) -> Opinion {
        let keys = file("key.gpg", &case.keys.concat());
        let skopeo = Skopeo { gpg: &self.gpg, registries_d: registries_d(&[(&self.registry.host, lookaside)]) };
        let ran = skopeo.accepts_with(&self.registry, &case.image, &keys, case.identity.clone(), case.options);
        let judged = ran.stderr.contains("Source image rejected") || ran.stderr.contains("both a tag and digest");
        assert!(ran.ok() || judged, "{}: skopeo failed for a reason of its own\n{ran}", case.name);
        Opinion::new(ran.ok(), &ran.stderr)
    }
}

impl Case {
    /// Signatures 1, 2, … of the image.
    fn signatures(mut self, world: &World, signatures: &[&[u8]]) -> Self {
        self.signatures = (1..).zip(signatures).map(|(n, bytes)| (world.image.clone(), n, bytes.to_vec())).collect();
        self
    }

    /// The same for one.
    fn signature(self, world: &World, signature: impl AsRef<[u8]>) -> Self {
        self.signatures(world, &[signature.as_ref()])
    }

    /// A signature of any image with any number.
    fn also(mut self, image: &Image, number: usize, signature: Vec<u8>) -> Self {
        self.signatures.push((image.clone(), number, signature));
        self
    }

    /// The key files, in this order.
    fn keys(mut self, keys: Vec<Vec<u8>>) -> Self {
        self.keys = keys;
        self
    }

    /// The image as a Pod names it.
    fn image(mut self, image: String) -> Self {
        self.image = image;
        self
    }

    fn identity(mut self, rule: Value) -> Self {
        self.identity = Some(rule);
        self
    }
}

fn podseal_and_skopeo_agree_but_for_the_listed_deviations() {
    let world = World::start();
    let cases = [keys::cases, messages::cases, payloads::cases, identities::cases, keyrings::cases, stores::cases];
    let mut table = Table::new("skopeo", deviations::LIST);
    for (number, case) in cases.into_iter().flat_map(|cases| cases(&world)).enumerate() {
        let (podseal, skopeo) = world.judge(number, &case);
        table.add(case.name, case.expected, podseal, skopeo);
    }
    // Without a word of the servers when answers differ.
    drop(world);
    table.check(40);
}

crate::tests! {
    needs [Registry, Gpg, Store];
    podseal_and_skopeo_agree_but_for_the_listed_deviations,
}
