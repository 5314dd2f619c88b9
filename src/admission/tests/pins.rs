//! `/mutate`: what is pinned, what is left as it is, and that nothing else of an object changes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{BAD, Desk, GOOD, Question, Said, away, but, pod, pod_of, review, update};
use crate::admission::{Enforcement, Templates};
use crate::cluster::Inputs;
use crate::domain::digest::Digest;
use crate::source::testing::reply;
use crate::verify::testing::{CosignKey, GpgKey, IMAGE_TYPE, INDEX_TYPE, Lab, Shop};

/// A desk whose shop has the signed image `app:1`.
struct Bench {
    desk: Desk,
    shop: Shop,
    key: CosignKey,
    digest: Digest,
}

impl Bench {
    fn new() -> Self {
        Self::enforcing(Enforcement::Enforce)
    }

    fn enforcing(enforcement: Enforcement) -> Self {
        let (shop, key) = (Shop::open(1), CosignKey::new());
        let desk = Desk::enforcing(Lab::new(), Templates::Warn, enforcement);
        desk.lab.shelf.secret("team/cosign", &[("cosign.pub", key.pem.as_bytes())]);
        let digest = shop.image("app", "first");
        shop.legacy("app", &digest, &[key.legacy(&digest, "alice")]);
        let bench = Self { desk, shop, key, digest };
        bench.govern(&[bench.shop.cosign_entry()]);
        bench
    }

    fn govern(&self, entries: &[Value]) {
        let free = json!({"registry": "free.invalid", "signCheck": false});
        self.desk.lab.govern(None, &json!([&[free], entries].concat()));
    }

    fn image(&self) -> String {
        self.shop.tagged("app")
    }

    fn pinned(&self) -> String {
        format!("{}@{}", self.image(), self.digest)
    }
}

impl Desk {
    async fn pins(&self, review: &Value) -> (Said, Vec<Value>) {
        self.pins_of_text(&review.to_string()).await
    }

    /// The answer and the operations of its patch. Whatever is asked is allowed.
    async fn pins_of_text(&self, review: &str) -> (Said, Vec<Value>) {
        let answer = self.admission.mutate(review.to_owned().into(), Duration::from_secs(5)).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let said = Said::read(&answer.body);
        assert!(said.allowed && said.code == 0, "{said:?}");
        let response = &said.json["response"];
        let Some(patch) = response["patch"].as_str() else {
            assert!(response.get("patchType").is_none(), "{said:?}");
            return (said, Vec::new());
        };
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        (said, patch)
    }

    /// Asserts that nothing changes; gives the warnings.
    async fn leaves(&self, review: &Value) -> Vec<String> {
        let (said, patch) = self.pins(review).await;
        assert!(patch.is_empty(), "{review}\n{patch:?}");
        said.warnings
    }
}

fn applied(review: &Value, patch: &[Value]) -> Value {
    let mut changed = review.clone();
    let object = &mut changed["request"]["object"];
    for operation in patch {
        assert_eq!(operation["op"], "replace");
        assert_eq!(operation.as_object().unwrap().len(), 3, "{operation}");
        let field = object.pointer_mut(operation["path"].as_str().unwrap()).expect("the field is there");
        *field = operation["value"].clone();
    }
    changed
}

#[tokio::test]
async fn d1_a_tag_gets_the_digest_that_was_checked_and_keeps_its_spelling() {
    let bench = Bench::new();
    let review = pod_of(&[&bench.image()]);
    let (said, patch) = bench.desk.pins(&review).await;
    assert!(said.warnings.is_empty(), "{said:?}");
    assert_eq!(patch, [json!({"op": "replace", "path": "/spec/containers/0/image", "value": bench.pinned()})]);
    let audit = said.json["response"]["auditAnnotations"]["pins"].as_str().unwrap();
    assert!(audit.contains(&bench.pinned()), "{audit}");
    // The tag moves to something unsigned in between: what was pinned is what is judged, and the tag is not asked again.
    let moved = bench.shop.image("app", "second");
    bench.shop.server.forget();
    bench.desk.allows(&applied(&review, &patch)).await;
    assert_eq!(bench.shop.count("/manifests/1"), 0, "{:?}", bench.shop.server.lines());
    bench.desk.denies(&review, "signature is empty").await;
    assert_ne!(moved, bench.digest);
    // A name without a tag is pinned as it is written, too.
    let (shop, config) = (&bench.shop, json!({"mediaType": "", "digest": moved.as_str(), "size": 2}));
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE, "config": config, "layers": []});
    let digest = shop.manifest("app", Some("latest"), IMAGE_TYPE, &manifest);
    shop.legacy("app", &digest, &[bench.key.legacy(&digest, "alice")]);
    let bare = format!("{}/app", shop.host());
    let (_, patch) = bench.desk.pins(&pod_of(&[&bare])).await;
    assert_eq!(patch[0]["value"], format!("{bare}@{digest}"));
}

#[tokio::test]
async fn a16_h24_image_fields_alone_are_changed_wherever_images_stand() {
    let bench = Bench::new();
    let (image, signed) = (bench.image(), bench.pinned());
    let spec = json!({
        "futureField": {"image": image, "list": [image]},
        "containers": [
            {"name": "a/b~c", "image": image, "env": [{"name": "IMAGE", "value": image}], "alsoNew": 1},
            {"name": "free", "image": GOOD},
            {"name": "pinned", "image": signed},
            {"name": "again", "image": image},
        ],
        "initContainers": [{"name": "i", "image": GOOD}, {"name": "j", "image": image, "restartPolicy": "Always"}],
        "ephemeralContainers": [{"name": "e", "image": image}],
        "volumes": [
            {"name": "none", "emptyDir": {}},
            {"name": "v", "image": {"reference": image, "pullPolicy": "Always"}},
        ],
        "imagePullSecrets": [{"name": image}],
    });
    let metadata = json!({"name": "x", "annotations": {"image": image}});
    let review = but(&pod(&spec), "/request/object/metadata", metadata);
    bench.shop.server.forget();
    let (said, patch) = bench.desk.pins(&review).await;
    assert_eq!(bench.shop.count("HEAD /v2/app/manifests/1"), 1, "one image is resolved once");
    let paths: Vec<_> = patch.iter().map(|operation| operation["path"].as_str().unwrap()).collect();
    let expected = [
        "/spec/containers/0/image",
        "/spec/containers/3/image",
        "/spec/initContainers/1/image",
        "/spec/ephemeralContainers/0/image",
        "/spec/volumes/1/image/reference",
    ];
    assert_eq!((paths, said.warnings.len()), (expected.to_vec(), 0));
    let changed = applied(&review, &patch);
    let back = patch.iter().map(|operation| {
        let mut operation = operation.clone();
        operation["value"] = image.as_str().into();
        operation
    });
    assert_eq!(applied(&changed, &back.collect::<Vec<_>>()), review, "nothing else differs");
    // Asked again, as the API server does when another webhook changed something: only what is new is pinned.
    assert!(bench.desk.leaves(&changed).await.is_empty());
    let mut sidecar = changed.clone();
    sidecar["request"]["object"]["spec"]["containers"][1] = json!({"name": "mesh", "image": image});
    let (_, patch) = bench.desk.pins(&sidecar).await;
    assert_eq!(patch, [json!({"op": "replace", "path": "/spec/containers/1/image", "value": signed})]);
}

#[tokio::test]
async fn images_that_an_update_leaves_alone_are_left_alone() {
    let bench = Bench::new();
    let old = pod_of(&[&bench.image(), GOOD]);
    assert!(bench.desk.leaves(&update(&old, &old)).await.is_empty());
    let (_, patch) = bench.desk.pins(&update(&old, &pod_of(&[&bench.image(), &bench.image()]))).await;
    assert_eq!(patch, [json!({"op": "replace", "path": "/spec/containers/1/image", "value": bench.pinned()})]);
    let spec = |ephemeral: &[&str]| {
        let list: Vec<_> = ephemeral.iter().map(|name| json!({"name": name, "image": bench.image()})).collect();
        let containers = json!([{"name": "c", "image": bench.image()}]);
        pod(&json!({"containers": containers, "ephemeralContainers": list}))
    };
    let debug = but(&update(&spec(&["d"]), &spec(&["d", "e"])), "/request/subResource", "ephemeralcontainers".into());
    let (_, patch) = bench.desk.pins(&debug).await;
    let expected = json!({"op": "replace", "path": "/spec/ephemeralContainers/1/image", "value": bench.pinned()});
    assert_eq!(patch, [expected]);
}

#[tokio::test]
async fn what_is_under_no_enforced_check_is_left_alone_and_asked_of_nobody() {
    let bench = Bench::new();
    let (desk, shop, image) = (&bench.desk, &bench.shop, bench.image());
    shop.server.forget();
    let entry =
        |field: &str, value: Value| but(&json!({"e": shop.cosign_entry()}), &format!("/e/{field}"), value)["e"].clone();
    for entries in [
        vec![entry("signCheck", false.into())],
        vec![entry("action", "Warn".into())],
        vec![entry("action", "Audit".into())],
        vec![entry("cosignKeyRef", json!(7))],
        vec![],
    ] {
        bench.govern(&entries);
        assert!(desk.leaves(&pod_of(&[&image])).await.is_empty(), "{entries:?}");
    }
    bench.govern(&[shop.cosign_entry()]);
    let review = pod_of(&[&image]);
    let node = json!({"username": "system:node:a", "groups": ["system:nodes"]});
    let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    for exempt in [
        but(&review, "/request/namespace", "kube-system".into()),
        but(&but(&review, "/request/userInfo", node), "/request/object/metadata", mirror),
        but(&review, "/request/operation", "DELETE".into()),
        self::review("apps", "Deployment", &template),
        pod_of(&["not a reference", "unnamed.invalid/x"]),
    ] {
        assert!(desk.leaves(&exempt).await.is_empty(), "{exempt}");
    }
    desk.lab.whitelist(&image, "listed");
    assert!(desk.leaves(&review).await.is_empty());
    assert!(desk.leaves(&but(&review, "/request/namespace", "listed".into())).await.is_empty());
    desk.lab.whitelist("", "");
    assert_eq!(shop.server.lines(), Vec::<String>::new());
    // The twin: with the entry and nothing exempt, it is pinned.
    assert_eq!(desk.pins(&review).await.1.len(), 1);
    assert!(desk.lab.metrics.encode().contains("podseal_pins_total{result=\"pinned\"} 1\n"));
}

#[tokio::test]
async fn what_cannot_be_pinned_is_left_with_a_warning_for_the_judge() {
    let bench = Bench::new();
    let unsigned = bench.shop.tagged("unsigned");
    bench.shop.image("unsigned", "x");
    let missing = bench.shop.tagged("missing");
    let desk = &bench.desk;
    for (image, why) in [(&unsigned, "Unsigned"), (&missing, "ImageNotFound")] {
        let (said, patch) = desk.pins(&pod_of(&[image, &bench.image()])).await;
        assert_eq!(patch.len(), 1, "the other one is pinned all the same");
        assert_eq!(
            said.warnings,
            [format!("spec.containers[0].image: image '{image}' was not pinned to its digest: {why}")]
        );
        desk.denies(&pod_of(&[image]), image).await;
    }
    bench.shop.only(|seen| seen.target.contains("/down/").then(|| reply(403, "")));
    let warnings = desk.leaves(&pod_of(&[&bench.shop.tagged("down")])).await;
    assert!(warnings[0].contains("was not pinned") && warnings[0].contains("registry"), "{warnings:?}");
    // Policies that are not known yet.
    let unsynced = Desk::over(Lab { inputs: Inputs::new().into(), ..Lab::new() }, Templates::Warn);
    let warnings = unsynced.leaves(&pod_of(&[GOOD])).await;
    assert!(warnings[0].contains("does not know these objects of the cluster yet"), "{warnings:?}");
}

#[tokio::test]
async fn pinning_never_changes_a_verdict() {
    let bench = Bench::new();
    let (desk, shop, maker) = (&bench.desk, &bench.shop, GpgKey::new("maker"));
    desk.lab.shelf.secret("team/gpg", &[("maker.pgp", &maker.public())]);
    let gpg = |identity: &str| {
        let mut entry = shop.gpg_entry();
        entry["signedIdentity"] = json!({"type": identity});
        entry
    };
    let image = shop.tagged("app");
    // Signed as another tag: by its tag it is denied, by its digest it would pass.
    shop.store("app", &bench.digest, 1, &maker.sign(&bench.digest, &format!("{}/app:2", shop.host())));
    bench.govern(&[gpg("matchRepoDigestOrExact")]);
    assert!(desk.leaves(&pod_of(&[&image])).await[0].ends_with("IdentityMismatch"));
    desk.denies(&pod_of(&[&image]), "is signed under another name").await;
    desk.allows(&pod_of(&[&bench.pinned()])).await;
    // Signed as this very tag, which alone counts: by its digest it would be denied.
    shop.store("app", &bench.digest, 2, &maker.sign(&bench.digest, &image));
    bench.govern(&[gpg("matchExact")]);
    let warnings = desk.leaves(&pod_of(&[&image])).await;
    assert!(warnings[0].contains("it passes by its tag and not by its digest: IdentityMismatch"), "{warnings:?}");
    desk.allows(&pod_of(&[&image])).await;
    desk.denies(&pod_of(&[&bench.pinned()]), "is signed under another name").await;
    bench.govern(&[gpg("matchRepository")]);
    assert_eq!(desk.pins(&pod_of(&[&image])).await.1.len(), 1);
    // Who asks for a digest asks the author of the Pod for it.
    let mut strict = shop.cosign_entry();
    strict["requireDigest"] = true.into();
    bench.govern(&[strict]);
    assert!(desk.leaves(&pod_of(&[&image])).await[0].ends_with("DigestRequired"));
    desk.denies(&pod_of(&[&image]), "has no digest").await;
    // Every governing entry counts.
    bench.govern(&[shop.cosign_entry(), json!({"registry": shop.host(), "signCheck": true})]);
    assert!(desk.leaves(&pod_of(&[&image])).await[0].ends_with("NoVerifier"));
}

#[tokio::test]
async fn d6_an_index_is_pinned_by_its_own_digest() {
    let bench = Bench::new();
    let (desk, shop) = (&bench.desk, &bench.shop);
    let children = ["amd64", "arm64"].map(|arch| {
        let digest = shop.image("multi", arch);
        let size = json!({"schemaVersion": 2}).to_string().len();
        (
            digest.clone(),
            json!({"mediaType": IMAGE_TYPE, "digest": digest.as_str(), "size": size,
            "platform": {"architecture": arch, "os": "linux"}}),
        )
    });
    let listed: Vec<_> = children.iter().map(|(_, listed)| listed.clone()).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": listed});
    let digest = shop.manifest("multi", Some("1"), INDEX_TYPE, &index);
    shop.legacy("multi", &digest, &[bench.key.legacy(&digest, "alice")]);
    let (_, patch) = desk.pins(&pod_of(&[&shop.tagged("multi")])).await;
    assert_eq!(patch[0]["value"], format!("{}@{digest}", shop.tagged("multi")));
}

#[tokio::test]
async fn a15_a17_what_cannot_be_read_is_left_as_it_is_and_denied_by_the_judge() {
    let bench = Bench::new();
    let desk = &bench.desk;
    let good = pod_of(&[&bench.image()]);
    for broken in [
        but(&good, "/request/object/spec", json!(null)),
        but(&good, "/request/object", json!(null)),
        but(&good, "/request/object/spec/containers", json!({})),
        but(&good, "/request/kind/kind", "Anything".into()),
        but(&good, "/request/namespace", json!(null)),
        but(&good, "/request/operation", "PATCH".into()),
        but(&good, "/apiVersion", "admission.k8s.io/v1beta1".into()),
    ] {
        let warnings = desk.leaves(&broken).await;
        assert!(warnings[0].starts_with("podseal: no image was pinned to its digest: "), "{warnings:?}");
        assert!(!desk.ask(&broken).await.allowed);
    }
    for torn in ["", "null", "{}", "not json"] {
        assert_eq!(desk.admission.mutate(torn.to_owned().into(), Duration::from_secs(5)).await.status, 400);
    }
}

#[tokio::test]
async fn a17_h12_what_podseal_cannot_do_leaves_the_object_and_not_the_verdict() {
    let bench = Bench::new();
    let (admission, body) = (&bench.desk.admission, pod_of(&[&bench.image()]).to_string());
    let apologies = |question| {
        [admission.overloaded(question, body.as_bytes()), admission.internal_error(question, body.as_bytes())]
            .map(|answer| Said::read(&answer.body))
    };
    for said in apologies(Question::Pins) {
        assert!(said.allowed && said.warnings[0].starts_with("podseal: no image was pinned"), "{said:?}");
        assert!(said.json["response"].get("patch").is_none());
    }
    for question in [Question::Verdict, Question::Policy] {
        assert!(apologies(question).iter().all(|said| !said.allowed));
    }
    // Time that runs out is an obstacle like any other.
    let answer = admission.mutate(body.into(), Duration::ZERO).await;
    let said = Said::read(&answer.body);
    assert!(said.allowed && said.json["response"].get("patch").is_none(), "{said:?}");
    assert!(said.warnings[0].contains("was not pinned"), "{said:?}");
}

#[tokio::test]
async fn a_dry_run_of_the_installation_changes_nothing() {
    let bench = Bench::enforcing(Enforcement::Audit);
    assert!(bench.desk.leaves(&pod_of(&[&bench.image(), BAD, &away()])).await.is_empty());
}
