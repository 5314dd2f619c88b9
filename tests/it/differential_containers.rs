//! policy.json and registries.d: `podseal check --containers-policy` beside those who wrote the format.
//!
//! Two of them: Debian's `skopeo copy` (1.9.3, containers/image 5.22 with gpgme), and `image-copy` on a current
//! containers/image, for what the first does not know. Policies are made by a generator from a seed.

mod generator;
pub mod sigstore;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::generator::{Case, Generator};
use crate::support::opinions::{Answer, Opinion, file};
use crate::support::podseal::podseal;
use crate::support::registry::{Image, Registry};
use crate::support::scratch;
use crate::support::signer::{CosignKey, Format, Gpg, GpgKey, KeySpec, Payload};
use crate::support::store::Store;
use crate::support::tools::{self, Ran};

/// A name that signatures were made for before the images were mirrored.
const ORIGINAL: &str = "registry.example.com/original";

/// What all cases share.
struct World {
    registry: Registry,
    store: Store,
    gpg: Gpg,
    images: Vec<Image>,
    /// Key rings: of the first key, the second, and both.
    rings: Vec<PathBuf>,
    cosign: CosignKey,
    cosign_file: PathBuf,
    stranger_file: PathBuf,
}

impl World {
    fn start() -> Self {
        let (registry, gpg) = (Registry::start(), Gpg::new());
        let keys = ["first", "second"].map(|name| gpg.generate(&KeySpec::new(&format!("{name}@registry.local"))));
        let images: Vec<_> =
            ["team/app/web:1", "team/app/db:1", "team/tool:1", "other/web:1"].map(|name| registry.push(name)).into();
        let folder = scratch::folder("keys");
        let rings = [vec![&keys[0]], vec![&keys[1]], vec![&keys[0], &keys[1]]];
        let ring = |(number, ring): (usize, &Vec<&GpgKey>)| {
            let file = folder.join(format!("ring-{number}.gpg"));
            std::fs::write(&file, gpg.export(ring)).unwrap();
            file
        };
        let rings = rings.iter().enumerate().map(ring).collect();
        let (cosign, stranger) = (CosignKey::new(), CosignKey::new());
        let (cosign_file, stranger_file) = (folder.join("cosign.pub"), folder.join("stranger.pub"));
        std::fs::write(&cosign_file, &cosign.public).unwrap();
        std::fs::write(&stranger_file, &stranger.public).unwrap();
        let world = Self { registry, store: Store::start(), gpg, images, rings, cosign, cosign_file, stranger_file };
        world.sign(&keys);
        world
    }

    /// Three stores that differ in who signed, and under which name; and cosign signatures of some images.
    fn sign(&self, [first, second]: &[GpgKey; 2]) {
        for image in &self.images {
            let mirrored = format!("{ORIGINAL}/{}:1", image.repository);
            let sign = |key: &GpgKey, name: &str| self.gpg.sign(key, &Payload::new(&image.digest, name).bytes());
            self.put("one", image, &[sign(first, &image.tagged())]);
            self.put("two", image, &[sign(second, &mirrored), sign(second, &image.pinned())]);
            self.put("both", image, &[sign(first, &mirrored), sign(second, &image.tagged())]);
        }
        for image in &self.images[..2] {
            self.cosign.sign(&self.registry, image, Format::Legacy, &[]).succeeded();
        }
    }

    fn put(&self, tree: &str, image: &Image, signatures: &[Vec<u8>]) {
        let folder = self.store.folder().join(tree).join(format!("{}@sha256={}", image.repository, image.hex()));
        std::fs::create_dir_all(&folder).unwrap();
        for (number, signature) in (1..).zip(signatures) {
            std::fs::write(folder.join(format!("signature-{number}")), signature).unwrap();
        }
    }

    /// Where the signatures of a tree are.
    fn lookaside(&self, tree: &str) -> String {
        format!("{}{tree}", self.store.url)
    }
}

/// A case on disk.
struct Files {
    policy: PathBuf,
    registries_d: PathBuf,
}

impl Files {
    fn of(policy: &Value, registries_d: &str) -> Self {
        let folder = scratch::folder("containers");
        let files = Self { policy: folder.join("policy.json"), registries_d: folder.join("registries.d") };
        std::fs::create_dir(&files.registries_d).unwrap();
        std::fs::write(&files.policy, policy.to_string()).unwrap();
        std::fs::write(files.registries_d.join("default.yaml"), registries_d).unwrap();
        files
    }

    fn podseal(&self, registry: &Registry, image: &str) -> Opinion {
        let policy = self.policy.to_str().unwrap();
        let registries_d = self.registries_d.to_str().unwrap();
        let arguments = ["check", "--containers-policy", policy, "--registries-d", registries_d, "-o", "json"];
        let local = registry.host.replace("127.0.0.1", "localhost");
        let insecure = ["--insecure-registry", &registry.host, "--insecure-registry", &local];
        let ran = podseal(&[&arguments[..], &insecure, &["--image", image]].concat());
        assert!(matches!(ran.code, Some(0..=2)), "{ran}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
        assert_eq!(report["allowed"], ran.ok(), "{ran}");
        Opinion::new(ran.ok(), &format!("{} {}", report["images"][0], ran.stderr))
    }

    /// `None` where Debian's skopeo says nothing: it has sigstore signatures taken out of it.
    fn skopeo(&self, gpg: &Gpg, image: &str) -> Option<Opinion> {
        let mut command = gpg.command("skopeo");
        command.arg("--policy").arg(&self.policy).arg("--registries.d").arg(&self.registries_d);
        command.args(["copy", "-q", "--remove-signatures", "--src-tls-verify=false"]);
        let ran = tools::run(command.arg(format!("docker://{image}")).arg(format!("dir:{}", out())));
        (!ran.stderr.contains("sigstore disabled")).then(|| opinion(&ran))
    }

    /// Everybody else's.
    fn others(&self, gpg: &Gpg, image: &str) -> Vec<(&'static str, Opinion)> {
        let skopeo = self.skopeo(gpg, image).map(|opinion| ("skopeo", opinion));
        skopeo.into_iter().chain([("image-copy", self.current(image))]).collect()
    }

    fn current(&self, image: &str) -> Opinion {
        let mut command = tools::command("image-copy");
        command.arg("--policy").arg(&self.policy).arg("--registries.d").arg(&self.registries_d);
        opinion(&tools::run(command.arg(image).arg(out())))
    }
}

fn out() -> String {
    scratch::folder("copied").join("image").display().to_string()
}

/// A refusal that is none of the policy's would agree with anything.
#[track_caller]
fn opinion(ran: &Ran) -> Opinion {
    let judged = ran.stderr.contains("Source image rejected");
    assert!(ran.ok() || judged, "it failed for a reason of its own\n{ran}");
    Opinion::new(ran.ok(), &ran.stderr)
}

/// Answers that differ, with what everybody said.
fn differences(case: &str, podseal: &Opinion, others: &[(&str, Opinion)]) -> Vec<String> {
    let differs = others.iter().filter(|(_, other)| other.answer != podseal.answer);
    differs
        .map(|(name, other)| {
            format!(
                "{case}\n  podseal {:?}: {}\n  {name} {:?}: {}",
                podseal.answer, podseal.words, other.answer, other.words
            )
        })
        .collect()
}

fn podseal_decides_by_a_policy_json_as_containers_image_does() {
    const CASES: usize = 120;
    let world = World::start();
    let mut generator = Generator::new(&world, 20_240_917);
    let (mut accepted, mut both, mut open, mut found) = (0, 0, 0, Vec::new());
    for number in 0..CASES {
        let Case { policy, registries_d, image } = generator.case();
        let files = Files::of(&policy, &registries_d);
        let podseal = files.podseal(&world.registry, &image);
        if image.starts_with("LOCALHOST") && podseal.words.contains("signatures are not looked for by another form") {
            // Not decided, which is no answer.
            open += 1;
            continue;
        }
        let others = files.others(&world.gpg, &image);
        accepted += usize::from(podseal.answer == Answer::Accepts);
        both += usize::from(others.len() == 2);
        let case = format!("case {number}: {image}\n  {policy}\n{registries_d}");
        found.extend(differences(&case, &podseal, &others));
    }
    drop(world);
    eprintln!("{CASES} policies, {accepted} of which accept; skopeo had an opinion of {both}, {open} were left open");
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n\n"));
    // Half of them saying the same for a dull reason would show little.
    assert!(
        (CASES / 5..CASES * 4 / 5).contains(&accepted) && both >= 60 && open < CASES / 5,
        "{accepted} of {CASES} accept"
    );
}

/// What `podseal convert` makes of a policy.json: one file of objects, of which the registry may speak plain HTTP.
fn converted(files: &Files) -> (PathBuf, String) {
    let (policy, registries_d) = (files.policy.to_str().unwrap(), files.registries_d.to_str().unwrap());
    let ran = podseal(&["convert", "--policy", policy, "--registries-d", registries_d]).succeeded();
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(&ran.stdout).unwrap_or_else(|error| panic!("{error}\n{ran}"));
    for object in &mut objects {
        for entry in object.pointer_mut("/spec/registries").and_then(Value::as_array_mut).into_iter().flatten() {
            entry["insecure"] = true.into();
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    (file("policies.json", list.to_string().as_bytes()), ran.stderr)
}

fn by_policies(policies: &std::path::Path, image: &str) -> Opinion {
    let ran = podseal(&["check", "--policy", policies.to_str().unwrap(), "--image", image, "-o", "json"]);
    assert!(matches!(ran.code, Some(0..=2)), "{ran}");
    Opinion::new(ran.ok(), &format!("{} {}", ran.stdout, ran.stderr))
}

/// policy.json → policies → policy.json: no step accepts more than the one before. Less it may: the registry has a port,
/// so that policies for domains do not cover it, and many of the scopes name a tag.
///
/// The two exceptions are said in notes: on nodes a domain covers hosts with a port, too; and policies look for signatures
/// of one tag where those of the repository are.
fn conversions_accept_no_more_than_what_they_are_made_of() {
    const CASES: usize = 120;
    let world = World::start();
    let mut generator = Generator::new(&world, 7);
    let (mut found, mut accepted) = (Vec::new(), [0; 3]);
    for number in 0..CASES {
        let Case { policy, registries_d, image } = generator.case();
        let files = Files::of(&policy, &registries_d);
        let (policies, notes) = converted(&files);
        let out = scratch::folder("nodes").join("out");
        let keys = out.join("keys");
        let convert =
            ["convert", "--to", "containers", "-f", policies.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let ran = podseal(&[&convert[..], &["--node-keys", keys.to_str().unwrap()]].concat()).succeeded();
        let ports = ran.stderr.contains("on nodes it covers hosts with a port, too");
        let back = Files { policy: out.join("policy.json"), registries_d: out.join("registries.d") };
        let answers = [files.current(&image), by_policies(&policies, &image), back.current(&image)];
        for (count, answer) in accepted.iter_mut().zip(&answers) {
            *count += usize::from(answer.answer == Answer::Accepts);
        }
        for (step, two) in ["into policies", "and back"].iter().zip(answers.windows(2)) {
            let spelled = |notes: &str| {
                image.starts_with("LOCALHOST") && notes.contains("nodes compare hosts as they are written")
            };
            let told = if *step == "and back" {
                // Only an entry that names the host lets podseal connect to this machine; nodes have no such guard.
                let guarded = answers[1].words.contains("leads to an address that is refused");
                ports || guarded || spelled(&ran.stderr)
            } else {
                notes.contains("know no store for a single tag or digest") || spelled(&notes)
            };
            if !told && two[0].answer == Answer::Refuses && two[1].answer == Answer::Accepts {
                let made = std::fs::read_to_string(&policies).unwrap();
                let again = std::fs::read_to_string(&back.policy).unwrap();
                found
                    .push(format!("case {number} {step}: {image}\n{policy}\n{registries_d}\n{made}\n{again}\n{two:?}"));
            }
        }
    }
    drop(world);
    eprintln!("of {CASES} policies accept: {accepted:?} (policy.json, policies, policy.json again)");
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    assert!(accepted[1] >= 5 && accepted[2] >= accepted[1], "{accepted:?}");
}

/// What is too odd for a generator, a line each: what podseal says of it, and both others must agree.
fn podseal_agrees_about_what_a_generator_does_not_make() {
    let world = World::start();
    let image = &world.images[0];
    let ring = json!(world.rings[0]);
    let signed = |extra: Value| {
        let mut requirement = json!({"type": "signedBy", "keyType": "GPGKeys"});
        requirement.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        requirement
    };
    let good = signed(json!({"keyPath": ring}));
    let by = |list: Value| json!({"default": [{"type": "reject"}], "transports": {"docker": {(&world.registry.host): list}}});
    let accept = json!({"type": "insecureAcceptAnything"});
    let one = format!("default-docker: {{lookaside: '{}'}}\n", world.lookaside("one"));
    let mut missing = good.clone();
    missing["keyPath"] = "/nowhere.gpg".into();
    let data = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(&world.rings[0]).unwrap())
    };
    let mut found = Vec::new();
    for (name, policy, registries_d, accepts) in [
        ("key data", by(json!([signed(json!({"keyData": data}))])), &*one, true),
        ("accept besides a signature", by(json!([accept, good])), &one, true),
        ("the same signature twice", by(json!([good, good])), &one, true),
        ("reject besides a signature", by(json!([good, {"type": "reject"}])), &one, false),
        (
            "base layer",
            by(json!([{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchRepository"}}])),
            &one,
            false,
        ),
        (
            "other key type",
            by(json!([{"type": "signedBy", "keyType": "X509Certificates", "keyPath": ring}])),
            &one,
            false,
        ),
        ("key file missing", by(json!([missing])), &one, false),
        ("key data of nothing", by(json!([signed(json!({"keyData": ""}))])), &one, false),
        ("no store", by(json!([good])), "", false),
        ("store that fails", by(json!([good])), "default-docker: {lookaside: 'http://127.0.0.1:1/'}\n", false),
        (
            "other transport",
            json!({"default": [accept], "transports": {"dir": {"": [{"type": "reject"}]}, "x": {"y": [good]}}}),
            "",
            true,
        ),
        (
            "transport default",
            json!({"default": [{"type": "reject"}], "transports": {"docker": {"": [accept]}}}),
            "",
            true,
        ),
    ] {
        let files = Files::of(&policy, registries_d);
        let podseal = files.podseal(&world.registry, &image.tagged());
        let others = files.others(&world.gpg, &image.tagged());
        found.extend(differences(name, &podseal, &others));
        let expected = Opinion::new(accepts, "as written here");
        found.extend(differences(name, &podseal, &[("the test", expected)]));
    }
    drop(world);
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// Files that are no policy: podseal refuses each with exit status 64, and both others refuse to load it.
fn what_containers_image_does_not_load_podseal_does_not_load_either() {
    let world = World::start();
    let image = world.images[0].tagged();
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    let requirement = |text: &str| format!(r#"{{"default":[{text}]}}"#);
    let identity = |text: &str| {
        requirement(&format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyData":"","signedIdentity":{text}}}"#))
    };
    let bad = [
        String::new(),
        "[]".into(),
        "{}".into(),
        format!(r#"{{"default":{accept}}} x"#),
        format!(r#"{{"default":{accept},"default":{accept}}}"#),
        format!(r#"{{"default":{accept},"more":1}}"#),
        r#"{"default":[]}"#.into(),
        r#"{"default":{}}"#.into(),
        format!(r#"{{"default":{accept},"transports":[]}}"#),
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"a.b":[]}}}}}}"#),
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"a.b":{accept},"a.b":{accept}}}}}}}"#),
        format!(r#"{{"default":{accept},"transports":{{"unknown":{{"a":[{{"type":"x"}}]}}}}}}"#),
        requirement(r#"{"type":"x"}"#),
        requirement("{}"),
        requirement(r#"{"type":"reject","more":1}"#),
        requirement(r#"{"type":"reject","type":"reject"}"#),
        requirement(r#"{"Type":"reject"}"#),
        requirement(r#"{"type":"signedBy","keyType":"GPGKeys"}"#),
        requirement(r#"{"type":"signedBy","keyPath":"/x"}"#),
        requirement(r#"{"type":"signedBy","keyType":"x","keyPath":"/x"}"#),
        requirement(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyData":""}"#),
        requirement(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":["/x"]}"#),
        requirement(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":""}"#),
        requirement(r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"*"}"#),
        requirement(r#"{"type":"signedBaseLayer"}"#),
        requirement(r#"{"type":"sigstoreSigned"}"#),
        requirement(r#"{"type":"sigstoreSigned","keyPath":"/x","keyData":""}"#),
        requirement(
            r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/x","oidcIssuer":"https://i","subjectEmail":"a@b"}}"#,
        ),
        requirement(r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x"}}"#),
        identity(r#"{"type":"x"}"#),
        identity("{}"),
        identity(r#"{"type":"matchExact","prefix":"a.b"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"a.b/c"}"#),
        identity(r#"{"type":"exactReference"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"A"}"#),
        identity(r#"{"type":"remapIdentity","prefix":"a.b"}"#),
        identity(r#"{"type":"remapIdentity","prefix":"a.b/","signedPrefix":"c.d"}"#),
    ];
    let folder = scratch::folder("bad");
    for (number, text) in bad.iter().enumerate() {
        let file = folder.join(format!("{number}.json"));
        std::fs::write(&file, text).unwrap();
        let ran = podseal(&["check", "--containers-policy", file.to_str().unwrap(), "--image", &image]);
        assert_eq!(ran.code, Some(64), "{text}\n{ran}");
        assert!(ran.stderr.contains("--containers-policy"), "{ran}");
        let mut skopeo = world.gpg.command("skopeo");
        skopeo.arg("--policy").arg(&file).args(["copy", "-q", "--src-tls-verify=false"]);
        let skopeo = tools::run(skopeo.arg(format!("docker://{image}")).arg(format!("dir:{}", out())));
        let mut current = tools::command("image-copy");
        let current = tools::run(current.arg("--policy").arg(&file).arg(&image).arg(out()));
        for other in [skopeo, current] {
            assert!(!other.ok() && !other.stderr.contains("Source image rejected"), "{text}\n{other}");
        }
    }
}

crate::tests! {
    needs [Registry, Gpg, Store, Cosign, Containers];
    podseal_decides_by_a_policy_json_as_containers_image_does,
    conversions_accept_no_more_than_what_they_are_made_of,
    podseal_agrees_about_what_a_generator_does_not_make,
    what_containers_image_does_not_load_podseal_does_not_load_either,
}
