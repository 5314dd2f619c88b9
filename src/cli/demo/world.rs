//! The demo's small world: what is in the registry, who signed what, and what somebody tampered with.

use serde_json::json;

use super::registry::Registry;
use super::sign::{BUNDLE_TYPE, CosignKey, ImageMaker};
use super::store::Store;

/// The address by which the policy knows the image maker.
pub(super) const SIGNER: &str = "imagemaker@registry.local";

/// Keys made for this run.
pub(super) struct Keys {
    /// Whose public key the policy names.
    pub(super) maker: ImageMaker,
    /// Whose key nobody trusts.
    stranger: ImageMaker,
    /// Whose public key the policy names.
    pub(super) cosign: CosignKey,
}

impl Keys {
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self {
            maker: ImageMaker::new(&format!("Image maker <{SIGNER}>"))?,
            stranger: ImageMaker::new("Somebody else <somebody@example.com>")?,
            cosign: CosignKey::new()?,
        })
    }
}

/// Builds the images and signs some of them; `host` is the registry's, as image names have it.
pub(super) fn furnish(host: &str, keys: &Keys) -> Result<(Registry, Store), String> {
    let (mut registry, mut store) = (Registry::default(), Store::default());
    with_openpgp(host, keys, &mut registry, &mut store)?;
    with_cosign(host, keys, &mut registry)?;
    for path in ["tools/debug", "sandbox/anything", "vault/ledger"] {
        registry.push_image(path, "1", path);
    }
    Ok((registry, store))
}

fn with_openpgp(host: &str, keys: &Keys, registry: &mut Registry, store: &mut Store) -> Result<(), String> {
    let web = registry.push_image("shop/web", "1", "web");
    let signature = keys.maker.sign(&format!("{host}/shop/web:1"), &web)?;
    store.add("shop/web", &web, signature.clone());

    registry.push_image("shop/unsigned", "1", "unsigned");

    let stranger = registry.push_image("shop/stranger", "1", "stranger");
    store.add("shop/stranger", &stranger, keys.stranger.sign(&format!("{host}/shop/stranger:1"), &stranger)?);

    // The very image of shop/web, with its genuine signature, under a name it was not signed for.
    let copy = registry.push_image("shop/payment", "1", "web");
    store.add("shop/payment", &copy, signature.clone());

    // Another image in the place of a signed one; the signature beside it is genuine and for what was there before.
    let tampered = registry.push_image("shop/tampered", "1", "tampered");
    store.add("shop/tampered", &tampered, signature);
    Ok(())
}

fn with_cosign(host: &str, keys: &Keys, registry: &mut Registry) -> Result<(), String> {
    let api = registry.push_image("platform/api", "1", "api");
    registry.attach("platform/api", &api, BUNDLE_TYPE, keys.cosign.bundle(&api)?);

    let batch = registry.push_image("platform/batch", "1", "batch");
    let (payload, signature) = keys.cosign.legacy(&format!("{host}/platform/batch"), &batch)?;
    registry.push_annotated(
        "platform/batch",
        &format!("{}-{}.sig", batch.algorithm_name(), batch.hex()),
        "application/vnd.dev.cosign.simplesigning.v1+json",
        payload,
        &json!({"dev.cosignproject.cosign/signature": signature}),
    );

    registry.push_image("platform/unsigned", "1", "unsigned");
    Ok(())
}
