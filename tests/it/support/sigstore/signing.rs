//! cosign signs and verifies in a private world.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::services::Sigstore;
use super::trust::signing_configs::{NONE, STAMPED, V1, V1_STAMPED, V2, V2_BARE};
use crate::support::http::Http;
use crate::support::registry::Registry;
use crate::support::signer::CosignKey;
use crate::support::tools::{self, Ran};

pub use crate::support::signer::Format;

/// Where a signature is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Log {
    /// Nowhere.
    None,
    /// Rekor v1: a signed time, and in bundles a proof of inclusion.
    V1,
    /// Rekor v2: a proof of inclusion without a time.
    V2,
}

/// How cosign signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct How {
    /// How the signature is stored.
    pub format: Format,
    /// Where it is recorded.
    pub log: Log,
    /// Whether the timestamp authority stamps it.
    pub stamped: bool,
}

impl How {
    /// Bundle, Rekor v2 with a timestamp: what cosign 3 does.
    pub const BUNDLE: Self = Self::new(Format::Bundle, Log::V2, true);
    /// Bundle, Rekor v1.
    pub const BUNDLE_V1: Self = Self::new(Format::Bundle, Log::V1, false);
    /// Bundle, timestamp alone.
    pub const BUNDLE_STAMPED: Self = Self::new(Format::Bundle, Log::None, true);
    /// Bundle, nothing besides; for keys.
    pub const BUNDLE_BARE: Self = Self::new(Format::Bundle, Log::None, false);
    /// `.sig`, Rekor v1: what cosign 2 did.
    pub const LEGACY: Self = Self::new(Format::Legacy, Log::V1, false);
    /// `.sig`, timestamp alone.
    pub const LEGACY_STAMPED: Self = Self::new(Format::Legacy, Log::None, true);
    /// `.sig`, nothing besides; for keys.
    pub const LEGACY_BARE: Self = Self::new(Format::Legacy, Log::None, false);

    /// Any of them.
    pub const fn new(format: Format, log: Log, stamped: bool) -> Self {
        Self { format, log, stamped }
    }

    fn config(self) -> &'static str {
        match (self.log, self.stamped) {
            (Log::V2, true) => V2,
            (Log::V2, false) => V2_BARE,
            (Log::V1, true) => V1_STAMPED,
            (Log::V1, false) => V1,
            (Log::None, true) => STAMPED,
            (Log::None, false) => NONE,
        }
    }
}

/// Whom the identity provider says somebody is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The last segment of the issuer's URL.
    pub issuer: &'static str,
    claims: Vec<(&'static str, String)>,
}

impl Identity {
    /// Somebody with an e-mail address, known to the issuer `mail`.
    pub fn mail(address: &str) -> Self {
        Self::new("mail", &[("email", address), ("email_verified", "true")])
    }

    /// The same address, vouched for by the issuer `post`.
    pub fn post(address: &str) -> Self {
        Self { issuer: "post", ..Self::mail(address) }
    }

    /// A workflow of a repository such as `org/app`; the certificate names it by a URI.
    pub fn workflow(repository: &str, reference: &str) -> Self {
        let workflow = format!("{repository}/.github/workflows/release.yaml@{reference}");
        Self::new(
            "forge",
            &[
                ("sub", &format!("repo:{repository}:ref:{reference}")),
                ("workflow_ref", &workflow),
                ("repository", repository),
                ("ref", reference),
                ("workflow", "release"),
                ("event_name", "push"),
                ("sha", "1234567890abcdef1234567890abcdef12345678"),
            ],
        )
    }

    /// An account; the certificate names it in the form that Fulcio invented, `name!127.0.0.1`.
    pub fn account(name: &str) -> Self {
        Self::new("accounts", &[("sub", name)])
    }

    /// A page of `http://127.0.0.1/`.
    pub fn page(path: &str) -> Self {
        Self::new("pages", &[("sub", &format!("http://127.0.0.1/{path}"))])
    }

    fn new(issuer: &'static str, claims: &[(&'static str, &str)]) -> Self {
        Self { issuer, claims: claims.iter().map(|(name, value)| (*name, (*value).to_owned())).collect() }
    }
}

/// Who signs.
#[derive(Debug, Clone)]
pub enum By<'a> {
    /// A key.
    Key(&'a CosignKey),
    /// An identity, by a certificate for a throw-away key.
    Identity(Identity),
}

impl Sigstore {
    /// The URL of an issuer.
    pub fn issuer(&self, name: &str) -> String {
        format!("{}/{name}", self.places.issuers)
    }

    /// Signs an image, `host/repository@digest`. `more` are further arguments, such as `-a name=value`.
    #[must_use]
    pub fn sign(&self, registry: &Registry, image: &str, how: How, by: &By<'_>, more: &[&str]) -> Ran {
        let mut cosign = self.cosign(registry);
        cosign.arg("sign");
        self.add_signing(&mut cosign, how, by);
        tools::run(cosign.args(more).arg(image))
    }

    /// Attaches an attestation with this predicate.
    #[must_use]
    pub fn attest(
        &self,
        registry: &Registry,
        image: &str,
        how: How,
        by: &By<'_>,
        predicate: (&str, &serde_json::Value),
    ) -> Ran {
        let file = self.new_file("predicate");
        std::fs::write(&file, predicate.1.to_string()).unwrap();
        let mut cosign = self.cosign(registry);
        cosign.args(["attest", "--type", predicate.0, "--predicate"]).arg(file);
        self.add_signing(&mut cosign, how, by);
        tools::run(cosign.arg(image))
    }

    /// What cosign itself says of a signature. `who` is `--key FILE`, or the identity's arguments.
    #[must_use]
    pub fn verify(&self, registry: &Registry, image: &str, how: How, who: &[&str]) -> Ran {
        let mut cosign = self.cosign(registry);
        cosign.args(["verify", "--allow-http-registry", "--trusted-root"]).arg(self.materials.file("root.json"));
        cosign.args(who);
        if how.log == Log::None {
            cosign.arg("--insecure-ignore-tlog");
        }
        if how.stamped && how.log == Log::None {
            cosign.arg("--use-signed-timestamps");
        }
        tools::run(cosign.arg(image))
    }

    /// The arguments that name an e-mail identity for [`Self::verify`].
    pub fn who(&self, address: &str) -> Vec<String> {
        let issuer = self.issuer("mail");
        ["--certificate-identity", address, "--certificate-oidc-issuer", &issuer].map(str::to_owned).into()
    }

    fn cosign(&self, registry: &Registry) -> Command {
        let mut command = registry.client("cosign");
        command.env("COSIGN_PASSWORD", "").env("HOME", self.materials.folder());
        command
    }

    fn add_signing(&self, cosign: &mut Command, how: How, by: &By<'_>) {
        cosign.args(["--yes", "--allow-http-registry", "--trusted-root"]).arg(self.materials.file("root.json"));
        match by {
            By::Key(key) => drop(cosign.arg("--key").arg(key.file())),
            By::Identity(identity) => drop(cosign.arg("--identity-token").arg(self.token(identity))),
        }
        match how.format {
            Format::Bundle => drop(cosign.arg("--signing-config").arg(self.materials.file(how.config()))),
            Format::Legacy => self.add_legacy(cosign, how, by),
        }
    }

    fn add_legacy(&self, cosign: &mut Command, how: How, by: &By<'_>) {
        assert!(how.log != Log::V2, "cosign does not record such signatures in Rekor v2");
        cosign.args(["--use-signing-config=false", "--new-bundle-format=false"]);
        if let By::Identity(identity) = by {
            cosign.args(["--fulcio-url", &self.places.fulcio, "--oidc-issuer", &self.issuer(identity.issuer)]);
        }
        if how.log == Log::V1 {
            cosign.args(["--rekor-url", &self.places.rekor1]);
        } else {
            cosign.arg("--tlog-upload=false");
        }
        if how.stamped {
            cosign.args(["--timestamp-server-url", &self.places.tsa]);
        }
    }

    /// A file with a new token.
    #[track_caller]
    fn token(&self, identity: &Identity) -> PathBuf {
        let mut url = url::Url::parse(&format!("{}/token", self.issuer(identity.issuer))).unwrap();
        url.query_pairs_mut().extend_pairs(&identity.claims);
        let reply = Http::trusting("").get(url.as_str()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let file = self.new_file("token");
        std::fs::write(&file, &reply.body).unwrap();
        file
    }

    fn new_file(&self, name: &str) -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        self.materials.file(&format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}
