//! A case: an image in a registry, a policy, podseal's answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::support::harness;
use crate::support::opinions::{Answer, Opinion, policy, secret};
use crate::support::registry::{Image, Registry};
use crate::support::signer::CosignKey;
use crate::support::sigstore::{Bundle, By, How, Identity, Legacy, Root, Sigstore};

/// Who signs what is to be accepted.
pub const DEV: &str = "dev@example.test";

/// An image that is made when it is first wanted.
type Once = Arc<OnceLock<Image>>;

/// What the cases share: a world, a registry, an image signed in every way that somebody asked for.
pub struct Shared {
    pub world: &'static Sigstore,
    /// With the referrers API.
    pub registry: Registry,
    /// A key that policies may trust.
    pub key: CosignKey,
    signed: Mutex<HashMap<(How, bool), Once>>,
}

impl Shared {
    pub fn get() -> &'static Self {
        static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            harness::attempt("what keyless cases share", || Self {
                world: Sigstore::shared(),
                registry: Registry::start(),
                key: CosignKey::new(),
                signed: Mutex::default(),
            })
        });
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A new unsigned image in a repository of its own.
    pub fn image(&self) -> Image {
        self.registry.push(&format!("{}:1", repository()))
    }

    /// A new image that [`DEV`] signed, or anybody else.
    pub fn sign(&self, how: How, by: &By<'_>, more: &[&str]) -> Image {
        let image = self.image();
        self.sign_too(&image, how, by, more);
        image
    }

    /// One signature more.
    pub fn sign_too(&self, image: &Image, how: How, by: &By<'_>, more: &[&str]) {
        self.world.sign(&self.registry, &image.pinned(), how, by, more).succeeded();
    }

    /// An image that [`DEV`] signed, always the same.
    pub fn signed(&self, how: How) -> Image {
        self.made_once(how, &By::Identity(Identity::mail(DEV)))
    }

    /// An image that the key signed, always the same.
    pub fn keyed(&self, how: How) -> Image {
        self.made_once(how, &By::Key(&self.key))
    }

    fn made_once(&self, how: How, by: &By<'_>) -> Image {
        let at = (how, matches!(by, By::Key(_)));
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(signed.entry(at).or_default());
        drop(signed);
        cell.get_or_init(|| self.sign(how, by, &[])).clone()
    }

    /// The same image without its signatures, in a repository of its own.
    pub fn bare(&self, image: &Image) -> Image {
        self.registry.copy(image, &format!("{}:1", repository()))
    }

    /// The image elsewhere, with this bundle as its only signature.
    pub fn with_bundle(&self, image: &Image, bundle: &Bundle) -> Image {
        let copy = self.bare(image);
        bundle.attach(&self.registry, &copy);
        copy
    }

    /// The image elsewhere, with its own bundle changed.
    pub fn bent(&self, image: &Image, change: impl FnOnce(&mut Value)) -> Image {
        self.with_bundle(image, &Bundle::of(&self.registry, image).bent(change))
    }

    /// The image elsewhere, with this as its only `.sig` signature.
    pub fn with_legacy(&self, image: &Image, signature: &Legacy) -> Image {
        let copy = self.bare(image);
        Legacy::put(&self.registry, &copy, "sig", std::slice::from_ref(signature));
        copy
    }
}

fn repository() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("keyless/a{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An entry of a policy, with the trusted root that it names.
#[derive(Clone)]
pub struct Rule {
    entry: Value,
    root: Root,
    key: Option<String>,
}

impl Rule {
    /// [`DEV`], as the issuer `mail` knows him, in the shared world.
    pub fn dev() -> Self {
        Self::mail(DEV)
    }

    /// Anybody whom the issuer `mail` knows.
    pub fn mail(address: &str) -> Self {
        let world = Sigstore::shared();
        Self::identities(world, json!([{"issuer": world.issuer("mail"), "subject": address}]))
    }

    /// Identities as the policy writes them.
    pub fn identities(world: &Sigstore, identities: Value) -> Self {
        let mut cosign = json!({"trustRootRef": "k8s://registry-system/root"});
        cosign["identities"] = identities;
        Self { entry: json!({"cosign": cosign}), root: world.root.clone(), key: None }
    }

    /// A key, with the shared world's root at hand.
    pub fn key(key: &CosignKey) -> Self {
        let cosign = json!({"trustRootRef": "k8s://registry-system/root"});
        let entry = json!({"cosignKeyRef": "k8s://registry-system/keys", "cosign": cosign});
        Self { entry, root: Sigstore::shared().root.clone(), key: Some(key.public.clone()) }
    }

    /// These keys in place of the one.
    pub fn keys(mut self, keys: &[&CosignKey]) -> Self {
        self.key = Some(keys.iter().map(|key| key.public.as_str()).collect());
        self
    }

    /// And this key, besides the identities.
    pub fn or_key(mut self, key: &CosignKey) -> Self {
        self.entry["cosignKeyRef"] = "k8s://registry-system/keys".into();
        self.key = Some(key.public.clone());
        self
    }

    /// With a field of `cosign`.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.entry["cosign"][field] = value.into();
        self
    }

    /// With a field of the entry.
    pub fn and(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.entry[field] = value.into();
        self
    }

    /// With a field of the first identity.
    pub fn identity(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.entry["cosign"]["identities"][0][field] = value.into();
        self
    }

    /// By another trusted root.
    pub fn root(mut self, root: &Root) -> Self {
        self.root = root.clone();
        self
    }

    /// The objects of a policy for a registry.
    pub fn objects(&self, registry: &str) -> Vec<Value> {
        let root = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "root", "namespace": "registry-system"},
            "data": {"trusted_root.json": self.root.text()},
        });
        let key = self.key.as_ref().map(|pem| secret("keys", &[("cosign.pub".to_owned(), pem.clone().into_bytes())]));
        [policy(registry, &self.entry), root].into_iter().chain(key).collect()
    }

    /// The entry for a namespace that has the root as the ConfigMap `root` and the key as the Secret `keys`.
    pub fn entry_in(&self, namespace: &str, registry: &str) -> Value {
        let mut entry = policy(registry, &self.entry)["spec"]["registries"][0].take();
        for reference in ["/cosignKeyRef", "/cosign/trustRootRef"] {
            if let Some(reference) = entry.pointer_mut(reference) {
                *reference = reference.as_str().unwrap().replace("registry-system", namespace).into();
            }
        }
        entry
    }

    /// What `podseal check` says.
    #[track_caller]
    pub fn judge(&self, image: &str) -> Opinion {
        Opinion::podseal(image, &self.objects(image.split('/').next().unwrap()))
    }
}

/// Cases with their outcomes; what is wrong is told at the end, all at once.
#[derive(Default)]
pub struct Cases {
    count: usize,
    wrong: Vec<String>,
}

impl Cases {
    pub fn new() -> Self {
        Self::default()
    }

    /// podseal accepts the image under the rule.
    #[track_caller]
    pub fn accepts(&mut self, case: &str, rule: &Rule, image: &Image) {
        let opinion = rule.judge(&image.pinned());
        self.count += 1;
        if opinion.answer != Answer::Accepts {
            self.wrong.push(format!("{case}: refused: {}", opinion.words));
        }
    }

    /// podseal refuses it, and its words have this in them.
    #[track_caller]
    pub fn refuses(&mut self, case: &str, words: &str, rule: &Rule, image: &Image) {
        let opinion = rule.judge(&image.pinned());
        self.count += 1;
        if opinion.answer == Answer::Accepts {
            self.wrong.push(format!("{case}: accepted"));
        } else if !opinion.words.contains(words) {
            self.wrong.push(format!("{case}: refused without {words:?}: {}", opinion.words));
        }
    }

    /// Fails when anything was wrong.
    #[track_caller]
    pub fn done(self) {
        assert!(self.wrong.is_empty(), "{} of {} cases\n{}", self.wrong.len(), self.count, self.wrong.join("\n"));
    }
}
