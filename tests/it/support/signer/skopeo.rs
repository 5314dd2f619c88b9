//! skopeo: signs as image makers do, and judges as the nodes of a cluster do.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::gpg::{Gpg, GpgKey};
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::tools::{self, Ran};

/// skopeo with the keys of a home and a registries.d folder.
#[derive(Debug)]
pub struct Skopeo<'a> {
    /// Whose keys it signs with.
    pub gpg: &'a Gpg,
    /// Where signatures go to and come from.
    pub registries_d: PathBuf,
}

/// What a simple signature says; everything in it can be changed.
#[derive(Debug, Clone)]
pub struct Payload(pub Value);

impl Payload {
    /// That this digest is this name.
    pub fn new(digest: &str, reference: &str) -> Self {
        Self(json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": "atomic container signature",
            },
            "optional": {"creator": "podseal tests", "timestamp": 1_700_000_000},
        }))
    }

    /// The bytes to sign.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }
}

impl Skopeo<'_> {
    /// Signs an image under its own name into the lookaside store that registries.d names.
    #[must_use]
    pub fn sign(&self, registry: &Registry, image: &Image, key: &GpgKey) -> Ran {
        self.sign_as(registry, image, key, &[])
    }

    /// The same under another name, such as `registry.local/k8s/a:1`.
    #[must_use]
    pub fn sign_under(&self, registry: &Registry, image: &Image, key: &GpgKey, name: &str) -> Ran {
        self.sign_as(registry, image, key, &["--sign-identity", name])
    }

    /// The same with any options of `skopeo copy`; `--all` signs an index itself.
    #[must_use]
    pub fn sign_as(&self, registry: &Registry, image: &Image, key: &GpgKey, options: &[&str]) -> Ran {
        let name = format!("docker://{}", image.tagged());
        let mut command = self.gpg.command("skopeo");
        command.arg("--registries.d").arg(&self.registries_d).args(["copy", "-q", "--authfile"]);
        command.arg(registry.docker_config().join("config.json"));
        match &registry.authority {
            Some(authority) => {
                command.arg("--src-cert-dir").arg(authority.folder()).arg("--dest-cert-dir").arg(authority.folder());
            }
            None => drop(command.args(["--src-tls-verify=false", "--dest-tls-verify=false"])),
        }
        tools::run(command.args(["--sign-by", &key.fingerprint]).args(options).args([&name, &name]))
    }

    /// Whether skopeo finds a good signature of an image, in the store that registries.d names, by a key of this file.
    /// `identity` is the `signedIdentity` of a policy.json.
    #[must_use]
    pub fn accepts(&self, registry: &Registry, image: &str, keys: &Path, identity: Option<Value>) -> Ran {
        self.accepts_with(registry, image, keys, identity, &[])
    }

    /// The same with any options of `skopeo copy`; `--all` asks for an index itself and all its children.
    #[must_use]
    pub fn accepts_with(
        &self,
        registry: &Registry,
        image: &str,
        keys: &Path,
        identity: Option<Value>,
        options: &[&str],
    ) -> Ran {
        let mut rule = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": keys});
        if let Some(identity) = identity {
            rule["signedIdentity"] = identity;
        }
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {(&registry.host): [rule]}}});
        let folder = scratch::folder("skopeo");
        let file = folder.join("policy.json");
        std::fs::write(&file, policy.to_string()).unwrap();
        let mut command = self.gpg.command("skopeo");
        command.arg("--policy").arg(file).arg("--registries.d").arg(&self.registries_d);
        command
            .args(["copy", "-q", "--remove-signatures"])
            .args(options)
            .arg("--authfile")
            .arg(registry.docker_config().join("config.json"));
        match &registry.authority {
            Some(authority) => drop(command.arg("--src-cert-dir").arg(authority.folder())),
            None => drop(command.arg("--src-tls-verify=false")),
        }
        tools::run(command.arg(format!("docker://{image}")).arg(format!("dir:{}", folder.join("out").display())))
    }

    /// `skopeo standalone-verify`: one signature against a manifest, a name and a key of the home.
    #[must_use]
    pub fn verifies(&self, manifest: &[u8], name: &str, key: &GpgKey, signature: &Path) -> Ran {
        let file = scratch::folder("manifest").join("manifest.json");
        std::fs::write(&file, manifest).unwrap();
        let mut command = self.gpg.command("skopeo");
        tools::run(command.arg("standalone-verify").arg(file).args([name, &key.fingerprint]).arg(signature))
    }
}
