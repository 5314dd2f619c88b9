//! Images that are pulled from somewhere else than where they were signed: pull-through caches and air-gapped copies, with
//! the signatures made for the original. docs/mirrors.md says to do what is done here.

use serde_json::{Value, json};

use crate::support::opinions::{Answer, Expected, Opinion, policy, secret};
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::signer::{CosignKey, Format, Gpg, KeySpec, Payload};
use crate::support::store::Store;

/// The name under which everybody knew the images.
const ORIGINAL: &str = "registry.example.com";

#[track_caller]
fn judged(image: &str, objects: &[Value], expected: Expected) {
    let opinion = Opinion::podseal(image, objects);
    match expected {
        Expected::Accepted => assert_eq!(opinion.answer, Answer::Accepts, "{}", opinion.words),
        Expected::Refused(words) => {
            assert_eq!(opinion.answer, Answer::Refuses, "{}", opinion.words);
            assert!(opinion.words.contains(words), "{words}\n{}", opinion.words);
        }
    }
}

/// A registry and its pull-through cache, and the image as each names it.
fn cached(name: &str) -> (Registry, Registry, Image, Image) {
    let origin = Registry::start();
    let cache = Registry::cache_of(&origin);
    let image = origin.push(name);
    let through = Image { host: cache.host.clone(), ..image.clone() };
    (origin, cache, image, through)
}

fn d9_signatures_for_the_original_count_through_a_pull_through_cache_by_remap_identity() {
    let (_origin, cache, image, through) = cached("team/web:1");
    let (gpg, store) = (Gpg::new(), Store::start());
    let key = gpg.generate(&KeySpec::new("maker@registry.example.com"));
    let name = format!("{ORIGINAL}/{}:{}", image.repository, image.tag);
    // The store has no host in its paths, so that the same signature is found for both names.
    store.put(&image, 1, &gpg.sign(&key, &Payload::new(&image.digest, &name).bytes()));
    let objects = |identity: Value| {
        let mut entry = json!({"gpgKeyRef": "k8s://registry-system/keys", "lookaside": store.url});
        if !identity.is_null() {
            entry["signedIdentity"] = identity;
        }
        [policy(&cache.host, &entry), secret("keys", &[("maker.gpg".to_owned(), gpg.export(&[&key]))])]
    };
    let remap = |prefix: &str, signed: &str| json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed});
    let host = &cache.host;
    let wrong = Expected::Refused("signedIdentity does not accept");
    for (identity, expected) in [
        (remap(host, ORIGINAL), Expected::Accepted),
        (remap(&format!("{host}/team"), &format!("{ORIGINAL}/team")), Expected::Accepted),
        (remap(&format!("{host}/team"), &format!("{ORIGINAL}/other")), wrong),
        (remap(host, "registry.example.org"), wrong),
        (Value::Null, wrong),
    ] {
        judged(&through.tagged(), &objects(identity.clone()), expected);
        judged(&through.pinned(), &objects(identity), expected);
    }
    // Another tag of the original is another image, unless a digest says which is meant.
    let other = format!("{}:2", through.tagged().trim_end_matches(":1"));
    judged(&format!("{other}@{}", through.digest), &objects(remap(host, ORIGINAL)), Expected::Accepted);
}

fn cosign_signatures_are_found_through_a_pull_through_cache() {
    let (origin, cache, image, through) = cached("team/web:1");
    let key = CosignKey::new();
    let objects = [
        policy(&cache.host, &json!({"cosignKeyRef": "k8s://registry-system/cosign"})),
        secret("cosign", &[("cosign.pub".to_owned(), key.public.clone().into_bytes())]),
    ];
    key.sign(&origin, &image, Format::Legacy, &[]).succeeded();
    judged(&through.tagged(), &objects, Expected::Accepted);
    let unsigned = origin.push("team/other:1");
    let through = Image { host: cache.host.clone(), ..unsigned };
    judged(&through.tagged(), &objects, Expected::Refused("no cosign signature"));
}

fn cosign_signatures_are_copied_or_looked_for_where_they_stayed() {
    let (origin, island) = (Registry::start(), Registry::start());
    let key = CosignKey::new();
    let entry = |cosign: Value| {
        let mut entry = json!({"cosignKeyRef": "k8s://registry-system/cosign"});
        if !cosign.is_null() {
            entry["cosign"] = cosign;
        }
        let keys = secret("cosign", &[("cosign.pub".to_owned(), key.public.clone().into_bytes())]);
        [policy(&island.host, &entry), keys]
    };
    for format in Format::ALL {
        let image = origin.push("team/web:1");
        key.sign(&origin, &image, format, &[]).succeeded();
        let name = format!("{}/mirror/web:1", island.host);
        // The image alone.
        origin.crane(&["copy", &image.tagged(), &name]).succeeded();
        judged(&name, &entry(Value::Null), Expected::Refused("no cosign signature"));
    }
    // With its signatures.
    let image = origin.push("team/copied:1");
    key.sign(&origin, &image, Format::Legacy, &[]).succeeded();
    let name = format!("{}/mirror/copied:1", island.host);
    key.run(&origin, &["copy", "--allow-insecure-registry", "--allow-http-registry", &image.tagged(), &name])
        .succeeded();
    judged(&name, &entry(Value::Null), Expected::Accepted);
}

fn gpg_signatures_cross_the_gap_as_files() {
    let (origin, island, gpg) = (Registry::start(), Registry::start(), Gpg::new());
    let key = gpg.generate(&KeySpec::new("maker@registry.example.com"));
    let image = origin.push("team/web:1");
    let copied = format!("{}/team/web:1", island.host);
    origin.crane(&["copy", &image.tagged(), &copied]).succeeded();
    // The tree of the original store, on a disk.
    let tree = scratch::folder("island");
    let folder = tree.join(format!("team/web@sha256={}", image.hex()));
    std::fs::create_dir_all(&folder).unwrap();
    let signature = gpg.sign(&key, &Payload::new(&image.digest, &format!("{ORIGINAL}/team/web:1")).bytes());
    std::fs::write(folder.join("signature-1"), signature).unwrap();
    let store = Store::start();
    let tree = tree.join("team");
    crate::support::tools::run(std::process::Command::new("cp").arg("-r").arg(&tree).arg(store.folder())).succeeded();
    let remap = json!({"type": "remapIdentity", "prefix": island.host, "signedPrefix": ORIGINAL});
    let keys = secret("keys", &[("maker.gpg".to_owned(), gpg.export(&[&key]))]);
    let entry = json!({
        "gpgKeyRef": "k8s://registry-system/keys", "lookaside": store.url, "signedIdentity": remap,
    });
    judged(&copied, &[policy(&island.host, &entry), keys], Expected::Accepted);
}

crate::tests! {
    needs [Registry, DebianRegistry, Gpg, Store, Cosign];
    d9_signatures_for_the_original_count_through_a_pull_through_cache_by_remap_identity,
    cosign_signatures_are_found_through_a_pull_through_cache,
    cosign_signatures_are_copied_or_looked_for_where_they_stayed,
    gpg_signatures_cross_the_gap_as_files,
}
