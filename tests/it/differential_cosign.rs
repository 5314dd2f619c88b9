//! cosign with keys: podseal's answers beside those of `cosign verify` (3.1).
//!
//! cosign is asked without a transparency log, which these tests do not have: signatures with log entries are not
//! compared. It takes one key and one set of annotations; for several it is asked several times, and one yes suffices.

mod artifacts;
mod crafted;
mod deviations;
mod plain;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::opinions::{Expected, Opinion, Table, policy, secret};
use crate::support::registry::{Image, Registry};
use crate::support::signer::{CosignKey, Format};

/// What all cases share.
struct World {
    /// With the referrers API.
    modern: Registry,
    /// Without it.
    plain: Registry,
    /// The key that policies trust unless a case says something else.
    key: CosignKey,
    stranger: CosignKey,
}

/// The formats with the words that name their cases.
const FORMATS: [(Format, &str); 2] = [(Format::Legacy, "legacy"), (Format::Bundle, "bundle")];

/// One comparison. It starts as an image by digest under a policy that trusts the key.
struct Case<'a> {
    name: String,
    image: String,
    /// The text of `cosign.pub`.
    pem: String,
    annotations: &'a [(&'a str, &'a str)],
    signers: &'a [&'a str],
    /// The keys of which cosign is asked one after the other.
    keys: Vec<&'a CosignKey>,
    expected: Expected,
}

impl World {
    fn start() -> Self {
        let (modern, plain) = (Registry::start(), Registry::debian());
        Self { modern, plain, key: CosignKey::new(), stranger: CosignKey::new() }
    }

    /// A new image in a repository of its own.
    fn image(&self) -> Image {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        self.modern.push(&format!("alt/a{}:1", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new image that the good key signed.
    fn signed(&self, format: Format) -> Image {
        self.signed_with(&self.key, format, &[])
    }

    fn signed_with(&self, key: &CosignKey, format: Format, annotations: &[&str]) -> Image {
        let image = self.image();
        self.sign(key, &image, format, annotations);
        image
    }

    fn sign(&self, key: &CosignKey, image: &Image, format: Format, annotations: &[&str]) {
        let registry = if image.host == self.plain.host { &self.plain } else { &self.modern };
        key.sign(registry, image, format, annotations).succeeded();
    }

    /// A case in which podseal accepts.
    fn accepted(&self, name: impl Into<String>, image: &Image) -> Case<'_> {
        self.case(name.into(), image.pinned(), Expected::Accepted)
    }

    /// A case in which podseal refuses with these words.
    fn refused(&self, name: impl Into<String>, words: &'static str, image: &Image) -> Case<'_> {
        self.case(name.into(), image.pinned(), Expected::Refused(words))
    }

    fn case(&self, name: String, image: String, expected: Expected) -> Case<'_> {
        let (pem, keys) = (self.key.public.clone(), vec![&self.key]);
        Case { name, image, pem, annotations: &[], signers: &[], keys, expected }
    }

    fn cosign(&self, case: &Case<'_>) -> Opinion {
        let registry = if case.image.starts_with(&self.plain.host) { &self.plain } else { &self.modern };
        let required: Vec<_> = case.annotations.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let signers: Vec<_> = case.signers.iter().map(|signer| Some(format!("signer={signer}"))).collect();
        let signers = if signers.is_empty() { vec![None] } else { signers };
        let mut words = String::new();
        for key in &case.keys {
            for signer in &signers {
                let annotations: Vec<_> = required.iter().chain(signer).map(String::as_str).collect();
                let ran = key.accepts(registry, &case.image, &annotations);
                if ran.ok() {
                    return Opinion::new(true, "");
                }
                let judged = ran.stderr.contains("no matching") || ran.stderr.contains("no signatures found");
                assert!(judged, "{}: cosign failed for a reason of its own\n{ran}", case.name);
                words.push_str(&ran.stderr);
            }
        }
        Opinion::new(false, &words)
    }
}

impl<'a> Case<'a> {
    /// Any reference instead of the digest.
    fn named(mut self, image: String) -> Self {
        self.image = image;
        self
    }

    /// A `cosign.pub` with these keys.
    fn keys(mut self, keys: &[&'a CosignKey]) -> Self {
        self.pem = keys.iter().map(|key| key.public.as_str()).collect();
        self.keys = keys.to_vec();
        self
    }

    fn annotations(mut self, annotations: &'a [(&'a str, &'a str)]) -> Self {
        self.annotations = annotations;
        self
    }

    fn signers(mut self, signers: &'a [&'a str]) -> Self {
        self.signers = signers;
        self
    }

    fn podseal(&self) -> Opinion {
        let annotations: serde_json::Map<_, _> =
            self.annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let entry = json!({
            "cosignKeyRef": "k8s://registry-system/keys",
            "cosign": {"annotations": annotations},
            "signer": self.signers,
        });
        let keys = secret("keys", &[("cosign.pub".to_owned(), self.pem.clone().into_bytes())]);
        let host = self.image.split('/').next().unwrap();
        Opinion::podseal(&self.image, &[policy(host, &entry), keys])
    }

    /// Adds the row to the table.
    fn judge(self, world: &World, table: &mut Table) {
        table.add(&self.name, self.expected, self.podseal(), world.cosign(&self));
    }
}

fn podseal_and_cosign_agree_but_for_the_listed_deviations() {
    let world = World::start();
    let mut table = Table::new("cosign", deviations::LIST);
    plain::judge(&world, &mut table);
    artifacts::judge(&world, &mut table);
    crafted::judge(&world, &mut table);
    // Without a word of the servers when answers differ.
    drop(world);
    table.check(20);
}

crate::tests! {
    needs [Registry, DebianRegistry, Cosign];
    podseal_and_cosign_agree_but_for_the_listed_deviations,
}
