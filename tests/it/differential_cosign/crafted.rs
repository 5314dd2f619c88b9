//! Legacy signatures that cosign would not make.

use serde_json::{Value, json};

use super::World;
use crate::support::opinions::Table;
use crate::support::registry::Image;
use crate::support::signer::{CosignKey, Format};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

pub(super) fn judge(world: &World, table: &mut Table) {
    payloads(world, table);
    texts(world, table);
    layers(world, table);
    copies(world, table);
}

fn payload(image: &Image) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": format!("{}/{}", image.host, image.repository)},
            "image": {"docker-manifest-digest": image.digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

/// A layer with this payload and its signature by the key.
fn signed(world: &World, key: &CosignKey, payload: &[u8]) -> (Vec<u8>, Option<String>) {
    (payload.to_vec(), Some(key.sign_bytes(&world.modern, payload)))
}

/// Puts layers, each a payload and perhaps a signature, where the legacy signatures of an image are.
fn put(world: &World, image: &Image, media_type: &str, layers: &[(Vec<u8>, Option<String>)]) {
    let repository = &image.repository;
    let layers: Vec<_> = layers
        .iter()
        .map(|(payload, signature)| {
            let digest = world.modern.put_blob(repository, payload);
            let annotations = signature.as_ref().map_or_else(|| json!({}), |signature| json!({SIGNATURE: signature}));
            json!({"mediaType": media_type, "digest": digest, "size": payload.len(), "annotations": annotations})
        })
        .collect();
    let config = world.modern.put_blob(repository, b"{}");
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let tag = format!("sha256-{}.sig", image.hex());
    world.modern.put_manifest(repository, Some(&tag), MANIFEST, manifest.to_string().as_bytes());
}

fn payloads(world: &World, table: &mut Table) {
    let with = |change: &dyn Fn(&mut Value)| {
        let image = world.image();
        let mut payload = payload(&image);
        change(&mut payload);
        put(world, &image, LAYER, &[signed(world, &world.key, payload.to_string().as_bytes())]);
        image
    };
    let image = with(&|_| ());
    world.accepted("payload put together by hand", &image).judge(world, table);
    let image = with(&|payload| payload["critical"]["identity"]["docker-reference"] = json!("registry.local/other"));
    world.accepted("payload names another repository", &image).judge(world, table);
    let image = with(&|payload| payload["critical"]["identity"]["docker-reference"] = json!(""));
    world.accepted("payload names no repository", &image).judge(world, table);
    let other = format!("sha256:{}", "ab".repeat(32));
    let image = with(&|payload| payload["critical"]["image"]["docker-manifest-digest"] = json!(other));
    world.refused("payload for another digest", "signed for", &image).judge(world, table);
    let image = with(&|payload| payload["critical"]["type"] = json!("atomic container signature"));
    world.refused("payload of another type", "signed as", &image).judge(world, table);
    let image = with(&|payload| payload["critical"]["more"] = json!(1));
    world.refused("payload with an unknown critical member", "unknown member", &image).judge(world, table);
    let image = with(&|payload| payload["more"] = json!(1));
    world.refused("payload with an unknown member", "unknown member", &image).judge(world, table);
    let image = with(&|payload| payload["optional"] = json!({"count": 1}));
    world.accepted("payload with a number among the annotations", &image).judge(world, table);
    let image = with(&|payload| drop(payload["critical"].as_object_mut().unwrap().remove("image")));
    world.refused("payload without a digest", "missing or not an object", &image).judge(world, table);
}

fn texts(world: &World, table: &mut Table) {
    let with = |change: &dyn Fn(&str) -> String| {
        let image = world.image();
        let text = change(&payload(&image).to_string());
        put(world, &image, LAYER, &[signed(world, &world.key, text.as_bytes())]);
        image
    };
    let other = format!("\"docker-manifest-digest\":\"sha256:{}\",", "ab".repeat(32));
    let image = with(&|text| text.replace("\"docker-manifest-digest\"", &format!("{other}\"docker-manifest-digest\"")));
    world.refused("digest twice, the good one last", "appears twice", &image).judge(world, table);
    let image = with(&|text| format!("{text}{{}}"));
    world.refused("data behind the payload", "not valid JSON", &image).judge(world, table);
    let image = with(&|_| "no JSON".to_owned());
    world.refused("payload is no JSON", "not valid JSON", &image).judge(world, table);
    let image = with(&|text| format!("\n {text} \n"));
    world.accepted("blanks around the payload", &image).judge(world, table);
}

fn layers(world: &World, table: &mut Table) {
    let image = world.image();
    let good = signed(world, &world.key, payload(&image).to_string().as_bytes());
    let foreign = signed(world, &world.stranger, payload(&image).to_string().as_bytes());
    let image_with = |layers: &[(Vec<u8>, Option<String>)]| {
        put(world, &image, LAYER, layers);
        image.clone()
    };
    let unsigned = (good.0.clone(), None);
    let damaged = (good.0.clone(), Some(good.1.clone().unwrap().replacen('M', "N", 1)));
    let no_base64 = (good.0.clone(), Some("%".to_owned()));
    let mut changed = good.clone();
    changed.0.push(b' ');
    world.accepted("good layer first", &image_with(&[good.clone(), foreign.clone()])).judge(world, table);
    world.accepted("good layer last", &image_with(&[foreign.clone(), good.clone()])).judge(world, table);
    world
        .accepted("good layer behind a damaged one", &image_with(&[damaged.clone(), good.clone()]))
        .judge(world, table);
    let image = image_with(&[unsigned.clone(), good.clone()]);
    world.accepted("good layer behind one without signature", &image).judge(world, table);
    let image = image_with(&[no_base64, good.clone()]);
    world.accepted("good layer behind one without base64", &image).judge(world, table);
    world.refused("signature damaged", "untrusted key", &image_with(&[damaged])).judge(world, table);
    world.refused("payload changed after signing", "untrusted key", &image_with(&[changed])).judge(world, table);
    world.refused("layer without signature", "has no signature", &image_with(&[unsigned])).judge(world, table);
    world.refused("no layer", "no cosign signature", &image_with(&[])).judge(world, table);
    put(world, &image, "application/vnd.oci.image.layer.v1.tar", &[good]);
    world.refused("layer of another media type", "no cosign signature", &image).judge(world, table);
}

/// Signatures moved to where they do not belong, and a moved image with its signature.
fn copies(world: &World, table: &mut Table) {
    let signed = world.signed(Format::Legacy);
    let other = world.image();
    let copy = |from: &Image, to: &Image| {
        let name = |image: &Image, hex: &str| format!("{}/{}:sha256-{hex}.sig", image.host, image.repository);
        world.modern.crane(&["copy", &name(from, from.hex()), &name(to, to.hex())]).succeeded();
    };
    copy(&signed, &other);
    world.refused("signature copied to another image", "signed for", &other).judge(world, table);
    let moved = world.modern.copy(&signed, "moved/a:1");
    world.refused("image moved without its signature", "no cosign signature", &moved).judge(world, table);
    copy(&signed, &moved);
    world.accepted("image moved with its signature", &moved).judge(world, table);
}
