//! What else may hang on an image: several formats, attestations, garbage, indexes.

use serde_json::{Value, json};

use super::{FORMATS, World};
use crate::support::http::Http;
use crate::support::opinions::Table;
use crate::support::registry::Image;
use crate::support::signer::Format;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

pub(super) fn judge(world: &World, table: &mut Table) {
    beside(world, table);
    attestations(world, table);
    indexes(world, table);
}

/// Attaches a bundle of any content.
pub(super) fn attach(world: &World, image: &Image, bundle: &[u8]) {
    let manifest = world.modern.manifest(image);
    let (layer, config) =
        (world.modern.put_blob(&image.repository, bundle), world.modern.put_blob(&image.repository, b"{}"));
    let text = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": BUNDLE, "digest": layer, "size": bundle.len()}],
        "subject": {"mediaType": MANIFEST, "digest": image.digest, "size": manifest.len()},
    });
    world.modern.put_manifest(&image.repository, None, MANIFEST, text.to_string().as_bytes());
}

/// The bundle that refers to an image, the only one.
pub(super) fn bundle_of(world: &World, image: &Image) -> Vec<u8> {
    let referrers = format!("http://{}/v2/{}/referrers/{}", image.host, image.repository, image.digest);
    let list = Http::trusting("").get(&referrers).unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    let digest = list["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = world.modern.manifest(&Image { digest, ..image.clone() });
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = format!("{}/{}@{}", image.host, image.repository, manifest["layers"][0]["digest"].as_str().unwrap());
    world.modern.crane(&["blob", &layer]).succeeded().bytes
}

/// A second artifact beside a good signature.
fn beside(world: &World, table: &mut Table) {
    let both = world.signed(Format::Legacy);
    world.sign(&world.key, &both, Format::Bundle, &[]);
    world.accepted("both formats", &both).judge(world, table);

    let image = world.signed(Format::Legacy);
    attach(world, &image, b"garbage");
    world.accepted("E49 garbage bundle beside a legacy signature", &image).judge(world, table);
    let image = world.signed(Format::Bundle);
    attach(world, &image, b"garbage");
    world.accepted("E49 garbage bundle beside a good one", &image).judge(world, table);

    let image = world.signed(Format::Legacy);
    world.sign(&world.stranger, &image, Format::Bundle, &[]);
    world.accepted("E49 foreign bundle beside a legacy signature", &image).judge(world, table);
    let image = world.signed(Format::Bundle);
    world.sign(&world.stranger, &image, Format::Legacy, &[]);
    world.accepted("E49 foreign legacy signature beside a bundle", &image).judge(world, table);

    let image = world.image();
    attach(world, &image, b"garbage");
    world.refused("garbage bundle alone", "invalid", &image).judge(world, table);
    let image = world.image();
    attach(world, &image, &bundle_of(world, &world.signed(Format::Bundle)));
    world.refused("bundle copied from another image", "signed for", &image).judge(world, table);
    let image = world.signed(Format::Bundle);
    let bundle = String::from_utf8(bundle_of(world, &image)).unwrap();
    let (changed, again) = (bundle.replace("\"payload\":\"e", "\"payload\":\"f"), world.image());
    assert_ne!(bundle, changed);
    attach(world, &again, changed.as_bytes());
    world.refused("bundle with changed payload", "does not fit its content", &again).judge(world, table);
}

fn attestations(world: &World, table: &mut Table) {
    let image = world.image();
    world.key.attest(&world.modern, &image);
    world.refused("E1 attestation alone", "not a signature", &image).judge(world, table);
    let image = world.signed(Format::Legacy);
    world.key.attest(&world.modern, &image);
    world.accepted("attestation beside a legacy signature", &image).judge(world, table);
    let image = world.signed(Format::Bundle);
    world.key.attest(&world.modern, &image);
    world.accepted("attestation beside a bundle", &image).judge(world, table);
    let image = world.signed(Format::Legacy);
    world.stranger.attest(&world.modern, &image);
    world.accepted("E49 foreign attestation beside a legacy signature", &image).judge(world, table);
    let image = world.signed_with(&world.stranger, Format::Legacy, &[]);
    world.key.attest(&world.modern, &image);
    world
        .refused("E1 attestation beside a foreign legacy signature", "the most telling of 2", &image)
        .judge(world, table);
}

fn indexes(world: &World, table: &mut Table) {
    for (format, word) in FORMATS {
        let one = world.image();
        let whole = world.modern.push_index(&format!("{}:index", one.repository), &[&one]);
        world.sign(&world.key, &whole, format, &[]);
        world.accepted(format!("index, {word}"), &whole).judge(world, table);
        world.accepted(format!("index by tag, {word}"), &whole).named(whole.tagged()).judge(world, table);
        let child = format!("child of a signed index, {word}");
        world.refused(child, "no cosign signature", &one).judge(world, table);
    }
}
