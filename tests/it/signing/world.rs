//! A registry, a signature store served by nginx, and those who look at what was signed.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::podseal::podseal_with;
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::signer::{Gpg, GpgKey, Skopeo};
use crate::support::store::Store;
use crate::support::tools::{self, Ran};

/// Everything that is needed to sign and to look.
pub struct World {
    pub registry: Registry,
    pub store: Store,
    pub gpg: Gpg,
    pub registries_d: PathBuf,
    home: PathBuf,
}

impl World {
    /// Debian's registry, and registries.d as the imagemaker has it: read over HTTP, written into the folder.
    pub fn new() -> Self {
        Self::of(Registry::debian())
    }

    /// With this registry.
    pub fn of(registry: Registry) -> Self {
        let store = Store::start();
        let registries_d = scratch::folder("registries.d");
        let text = format!(
            "docker:\n  '{}':\n    lookaside: {}\n    lookaside-staging: file://{}\n",
            registry.host,
            store.url,
            store.folder().display()
        );
        std::fs::write(registries_d.join("default.yaml"), text).unwrap();
        Self { registry, store, gpg: Gpg::new(), registries_d, home: scratch::folder("home") }
    }

    /// podseal with this home of keys, and no configuration of the machine's.
    pub fn podseal(&self, args: &[&str]) -> Ran {
        self.podseal_with(args, &[])
    }

    /// The same with environment variables.
    pub fn podseal_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let own = [
            ("GNUPGHOME", self.gpg.home().to_str().unwrap()),
            ("HOME", self.home.to_str().unwrap()),
            ("XDG_RUNTIME_DIR", ""),
        ];
        podseal_with(args, &[&own[..], env].concat(), b"")
    }

    /// `podseal sign IMAGE --sign-by KEY`, into the staging folder that registries.d names.
    pub fn sign(&self, image: &str, key: &str, more: &[&str]) -> Ran {
        let registries_d = self.registries_d.to_str().unwrap();
        let args = ["sign", image, "--sign-by", key, "--registries-d", registries_d, "--insecure"];
        self.podseal(&[&args[..], more].concat())
    }

    /// skopeo with the registries.d of this world.
    pub fn skopeo(&self) -> Skopeo<'_> {
        Skopeo { gpg: &self.gpg, registries_d: self.registries_d.clone() }
    }

    /// What `podseal check` says of an image by a policy.json that trusts this key.
    pub fn check(&self, image: &str, keys: &Path) -> Ran {
        self.check_by(image, &json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys}]))
    }

    /// The same by these requirements.
    pub fn check_by(&self, image: &str, requirements: &serde_json::Value) -> Ran {
        let policy = scratch::folder("policy").join("policy.json");
        let text =
            json!({"default": [{"type": "reject"}], "transports": {"docker": {(&self.registry.host): requirements}}});
        std::fs::write(&policy, text.to_string()).unwrap();
        let (policy, registries_d) = (policy.to_str().unwrap(), self.registries_d.to_str().unwrap());
        let args = ["check", "--image", image, "--containers-policy", policy, "--registries-d", registries_d];
        self.podseal(&[&args[..], &["--insecure-registry", &self.registry.host]].concat())
    }

    /// The signatures of an image in the store, in order.
    pub fn signatures(&self, image: &Image) -> Vec<Vec<u8>> {
        (1..).map_while(|n| std::fs::read(self.store.file(image, n)).ok()).collect()
    }

    /// Whether everybody takes the image: skopeo, podseal, and for the last signature gpg and sq.
    #[track_caller]
    pub fn assert_accepted(&self, image: &Image, name: &str, key: &GpgKey) {
        let public = self.gpg.export_file(&[key]);
        self.skopeo().accepts(&self.registry, name, &public, None).succeeded();
        self.check(name, &public).succeeded();
        let number = self.signatures(image).len();
        let blob = self.store.file(image, number);
        let decrypted = self.gpg.gpg(None, &["--status-fd", "2", "--decrypt", blob.to_str().unwrap()], b"").succeeded();
        assert!(decrypted.stderr.contains("[GNUPG:] GOODSIG"), "{decrypted}");
        assert!(decrypted.stdout.contains(&image.digest), "{decrypted}");
        let sq = Self::sq(&blob, &public).succeeded();
        assert_eq!(sq.stdout, decrypted.stdout);
        self.skopeo().verifies(&self.registry.manifest(image), name, key, &blob).succeeded();
    }

    /// `sq verify` of a signed message.
    pub fn sq(blob: &Path, public: &Path) -> Ran {
        let mut command = tools::command("sq");
        tools::run(command.args(["--force", "verify", "--signer-cert"]).arg(public).arg(blob))
    }
}
