//! Trusted roots and signing configurations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::materials::Materials;
use super::services::Places;
use crate::support::tools;

/// Before everything that the run makes.
const START: &str = "2026-01-01T00:00:00Z";

/// The text of a `trusted_root.json`, to be bent at will.
#[derive(Debug, Clone)]
pub struct Root(pub Value);

/// The names of the signing configurations' files, by what they have signatures recorded with.
pub mod signing_configs {
    /// Rekor v2 and a timestamp.
    pub const V2: &str = "v2.json";
    /// Rekor v2 alone, for keys.
    pub const V2_BARE: &str = "v2-bare.json";
    /// Rekor v1 alone.
    pub const V1: &str = "v1.json";
    /// Rekor v1 and a timestamp.
    pub const V1_STAMPED: &str = "v1-stamped.json";
    /// A timestamp alone.
    pub const STAMPED: &str = "stamped.json";
    /// Nothing.
    pub const NONE: &str = "none.json";
}

/// The root of a world, made by cosign.
pub(super) fn create(materials: &Materials, places: &Places) -> Root {
    let path = |name: &str| materials.file(name).display().to_string();
    let mut cosign = tools::command("cosign");
    cosign.args(["trusted-root", "create", "--fulcio"]);
    cosign.arg(format!("url={},certificate-chain={}", places.fulcio, path("fulcio-chain.pem")));
    cosign.arg("--ctfe");
    cosign.arg(format!("url={},public-key={},start-time={START}", places.ct, path("ct.pub")));
    cosign.arg("--rekor");
    cosign.arg(format!("url={},public-key={},start-time={START}", places.rekor1, path("rekor1.pub")));
    cosign.arg("--rekor").arg(format!(
        "url=http://rekor2.local,public-key={},start-time={START},origin=rekor2.local",
        path("rekor2.pub")
    ));
    cosign.arg("--tsa").arg(format!("url={},certificate-chain={}", places.tsa, path("tsa-chain.pem")));
    let file = materials.file("root.json");
    tools::run(cosign.arg("--out").arg(&file).env("HOME", materials.folder())).succeeded();
    Root(serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap())
}

pub(super) fn write_signing_configs(materials: &Materials, places: &Places) {
    use signing_configs::{NONE, STAMPED, V1, V1_STAMPED, V2, V2_BARE};
    let rekor = |url: &str, version| Some((url.to_owned(), version));
    for (name, log, stamped) in [
        (V2, rekor(&places.rekor2, 2), true),
        (V2_BARE, rekor(&places.rekor2, 2), false),
        (V1, rekor(&places.rekor1, 1), false),
        (V1_STAMPED, rekor(&places.rekor1, 1), true),
        (STAMPED, None, true),
        (NONE, None, false),
    ] {
        let service = |url: &str, version| format!("url={url},api-version={version},start-time={START},operator=tests");
        let mut cosign = tools::command("cosign");
        cosign.args(["signing-config", "create", "--fulcio", &service(&places.fulcio, 1)]);
        cosign.args(["--oidc-provider", &service(&places.issuers, 1)]);
        if let Some((url, version)) = log {
            cosign.args(["--rekor", &service(&url, version), "--rekor-config", "ANY"]);
        }
        if stamped {
            cosign.args(["--tsa", &service(&places.tsa, 1), "--tsa-config", "ANY"]);
        }
        cosign.arg("--out").arg(materials.file(name)).env("HOME", materials.folder());
        tools::run(&mut cosign).succeeded();
    }
}

impl Root {
    /// The text.
    pub fn text(&self) -> String {
        self.0.to_string()
    }

    /// A changed copy.
    pub fn bent(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut root = self.0.clone();
        change(&mut root);
        Self(root)
    }

    /// Without a list such as `tlogs`, `ctlogs`, `timestampAuthorities`.
    pub fn without(&self, list: &str) -> Self {
        self.bent(|root| drop(root.as_object_mut().unwrap().remove(list).unwrap()))
    }

    /// With a list of another root.
    pub fn with_list_of(&self, list: &str, other: &Self) -> Self {
        self.bent(|root| root[list] = other.0[list].clone())
    }

    /// With the timestamp authority's or certificate authority's chain replaced by these PEM certificates, leaf first.
    pub fn with_chain(&self, list: &str, pems: &[&str]) -> Self {
        let certificates: Vec<_> = pems.iter().map(|pem| json!({"rawBytes": der(pem)})).collect();
        self.bent(|root| root[list][0]["certChain"]["certificates"] = certificates.into())
    }
}

/// The base64 of a PEM block, which is its DER's.
pub fn der(pem: &str) -> String {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.encode(STANDARD.decode(text).unwrap())
}
