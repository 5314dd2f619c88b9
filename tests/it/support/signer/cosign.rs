//! cosign: keys of each kind, signatures in both formats, and its own opinion of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::tools::{self, Ran};

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// What `cosign generate-key-pair` makes.
    P256,
    /// Signs with SHA-384.
    P384,
    /// Signs with SHA-512.
    P521,
    /// RSA of so many bits.
    Rsa(u32),
    /// cosign signs with Ed25519ph and cannot verify that itself.
    Ed25519,
}

/// How a signature is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// An image under the tag `sha256-HEX.sig`.
    Legacy,
    /// A sigstore bundle as a referrer.
    Bundle,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Bundle];

    fn argument(self) -> &'static str {
        match self {
            Self::Legacy => "--new-bundle-format=false",
            Self::Bundle => "--new-bundle-format=true",
        }
    }
}

/// A key pair.
#[derive(Debug)]
pub struct CosignKey {
    folder: PathBuf,
    kind: KeyKind,
    /// The public key, PEM.
    pub public: String,
}

impl CosignKey {
    /// A P-256 key.
    pub fn new() -> Self {
        Self::of(KeyKind::P256)
    }

    /// A key of any kind.
    #[track_caller]
    pub fn of(kind: KeyKind) -> Self {
        let folder = scratch::folder("cosign");
        if kind == KeyKind::P256 {
            tools::run(prepared(tools::command("cosign"), &folder).args(["generate-key-pair"])).succeeded();
        } else {
            make(kind, &folder.join("plain.pem"));
            let import = ["import-key-pair", "-y", "--key", "plain.pem", "--output-key-prefix", "cosign"];
            tools::run(prepared(tools::command("cosign"), &folder).args(import)).succeeded();
        }
        let public = std::fs::read_to_string(folder.join("cosign.pub")).unwrap();
        Self { folder, kind, public }
    }

    /// The file of the private key, which has an empty password.
    pub fn file(&self) -> PathBuf {
        self.folder.join("cosign.key")
    }

    /// The file of the public key.
    pub fn public_file(&self) -> PathBuf {
        self.folder.join("cosign.pub")
    }

    /// Signs an image without a transparency log. Annotations are `name=value`.
    #[must_use]
    pub fn sign(&self, registry: &Registry, image: &Image, format: Format, annotations: &[&str]) -> Ran {
        let options = ["--use-signing-config=false", "--tlog-upload=false", "-y"];
        self.cosign(registry, image, "sign", "cosign.key", format, annotations, &options)
    }

    /// Whether cosign itself finds a good signature of this format.
    #[must_use]
    pub fn verify(&self, registry: &Registry, image: &Image, format: Format, annotations: &[&str]) -> Ran {
        let options = ["--insecure-ignore-tlog", self.digest_algorithm()];
        self.cosign(registry, image, "verify", "cosign.pub", format, annotations, &options)
    }

    /// Whether cosign itself finds a good signature, in the format it looks for by default: bundles, and the legacy
    /// format where there is no bundle. `image` is any reference.
    #[must_use]
    pub fn accepts(&self, registry: &Registry, image: &str, annotations: &[&str]) -> Ran {
        let mut args = vec!["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry"];
        args.push(self.digest_algorithm());
        args.extend(annotations.iter().flat_map(|annotation| ["-a", annotation]));
        args.push(image);
        self.run(registry, &args)
    }

    /// A signature of any bytes, in base64, as legacy signatures carry it.
    #[track_caller]
    pub fn sign_bytes(&self, registry: &Registry, bytes: &[u8]) -> String {
        std::fs::write(self.folder.join("bytes"), bytes).unwrap();
        let options = ["--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false"];
        let args = [&["sign-blob", "-y", "--key", "cosign.key"], &options[..], &["bytes"]].concat();
        self.run(registry, &args).succeeded().line().to_owned()
    }

    /// Attaches an attestation, which is no signature, as a bundle.
    #[track_caller]
    pub fn attest(&self, registry: &Registry, image: &Image) {
        std::fs::write(self.folder.join("predicate"), r#"{"tested": true}"#).unwrap();
        let options = ["--allow-http-registry", "--use-signing-config=false", "--tlog-upload=false"];
        let what = ["--type", "custom", "--predicate", "predicate", &image.pinned()];
        self.run(registry, &[&["attest", "-y", "--key", "cosign.key"], &options[..], &what].concat()).succeeded();
    }

    /// cosign's own default is SHA-256 for every key, which it does not sign with.
    fn digest_algorithm(&self) -> &'static str {
        match self.kind {
            KeyKind::P384 => "--signature-digest-algorithm=sha384",
            KeyKind::P521 => "--signature-digest-algorithm=sha512",
            _ => "--signature-digest-algorithm=sha256",
        }
    }

    /// `cosign ARGS` in the folder of the keys, for what the others do not cover.
    #[must_use]
    pub fn run(&self, registry: &Registry, args: &[&str]) -> Ran {
        tools::run(prepared(registry.client("cosign"), &self.folder).args(args))
    }

    #[allow(clippy::too_many_arguments)]
    fn cosign(
        &self,
        registry: &Registry,
        image: &Image,
        what: &str,
        key: &str,
        format: Format,
        annotations: &[&str],
        options: &[&str],
    ) -> Ran {
        let pinned = image.pinned();
        let mut args = vec![what, "--key", key, "--allow-http-registry", format.argument()];
        args.extend(options);
        args.extend(annotations.iter().flat_map(|annotation| ["-a", annotation]));
        args.push(&pinned);
        self.run(registry, &args)
    }
}

fn prepared(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).env("COSIGN_PASSWORD", "").env("HOME", folder);
    command
}

fn make(kind: KeyKind, file: &Path) {
    let bits;
    let options: &[&str] = match kind {
        KeyKind::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        KeyKind::P384 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        KeyKind::P521 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
        KeyKind::Rsa(count) => {
            bits = format!("rsa_keygen_bits:{count}");
            &["RSA", "-pkeyopt", &bits]
        }
        KeyKind::Ed25519 => &["ED25519"],
    };
    tools::run(tools::command("openssl").args(["genpkey", "-out"]).arg(file).arg("-algorithm").args(options))
        .succeeded();
}
