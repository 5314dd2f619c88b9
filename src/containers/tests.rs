//! Reading, scopes and both conversions. What decisions come to is compared with containers/image in the integration tests.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::api::read_policy;
use crate::cluster::files::FileObjects;
use crate::domain::image::ImageRef;
use crate::domain::policy::{Check, Policy, PolicyId};
use crate::source::registries_d::RegistriesD;
use crate::verify::testing::{CosignKey, GpgKey};

mod generated;

fn parse(policy: &Value) -> ContainersPolicy {
    ContainersPolicy::parse(policy.to_string().as_bytes()).expect("a policy")
}

fn error(text: &str) -> String {
    ContainersPolicy::parse(text.as_bytes()).expect_err(text).to_string()
}

fn accept() -> Value {
    json!([{"type": "insecureAcceptAnything"}])
}

fn reject() -> Value {
    json!([{"type": "reject"}])
}

fn signed(key: &GpgKey) -> Value {
    let data = base64::prelude::BASE64_STANDARD.encode(key.public());
    json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": data})
}

#[test]
fn errors_name_the_member_to_blame() {
    let docker =
        |list: &str| format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"a.b/c":{list}}}}}}}"#);
    let at = r#"transports.docker["a.b/c"]"#;
    for (text, wanted) in [
        ("{}".to_owned(), "default: is required".to_owned()),
        (r#"{"default":[{"type":"reject"}],"defualt":1}"#.into(), "defualt: is not known here".into()),
        (r#"{"default":1,"default":1}"#.into(), "the member \"default\" is repeated".into()),
        (docker("[]"), format!("{at}: must be a list of at least one requirement")),
        (docker("[{}]"), format!("{at}[0].type: is required")),
        (docker(r#"[{"type":"reject"},{"type":"sigend"}]"#), format!("{at}[1].type: \"sigend\" is no requirement")),
        (docker(r#"[{"type":"signedBy","keyPath":"/x"}]"#), format!("{at}[0].keyType: is required")),
        (
            docker(r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyData":""}]"#),
            format!("{at}[0]: only one of keyPath, keyData can be used"),
        ),
        (
            docker(r#"[{"type":"signedBy","keyType":"GPGKeys","keyData":"*"}]"#),
            format!("{at}[0].keyData: is not base64"),
        ),
        (
            docker(
                r#"[{"type":"signedBy","keyType":"GPGKeys","keyData":"","signedIdentity":{"type":"exactReference","dockerReference":"a.b/c"}}]"#,
            ),
            format!("{at}[0].signedIdentity.dockerReference: the reference has neither tag nor digest"),
        ),
        (
            docker(r#"[{"type":"sigstoreSigned","fulcio":{"caData":"","oidcIssuer":"i","subjectEmail":"e"}}]"#),
            format!("{at}[0]: fulcio needs a rekorPublicKey"),
        ),
        (
            docker(r#"[{"type":"sigstoreSigned","pki":{"caRootsData":""}}]"#),
            format!("{at}[0].pki: one of subjectEmail and subjectHostname must be there"),
        ),
    ] {
        let found = error(&text);
        assert!(found.contains(&wanted), "{text}\n{found}\n{wanted}");
    }
}

#[test]
fn every_kind_of_requirement_is_read() {
    let policy = parse(&json!({"default": [
        {"type": "insecureAcceptAnything"},
        {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "exactRepository", "dockerRepository": "a.b/c:1"}},
        {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"]},
        {"type": "sigstoreSigned", "keyDatas": ["", ""], "rekorPublicKeyPaths": ["/r"]},
        {"type": "sigstoreSigned", "fulcio": {"caPath": "/c", "oidcIssuer": "i", "subjectEmail": "e@x"},
            "rekorPublicKeyDatas": [""], "signedIdentity": {"type": "matchRepository"}},
        {"type": "sigstoreSigned", "pki": {"caRootsPath": "/c", "caIntermediatesData": "", "subjectHostname": "h"}},
    ], "transports": {"dir": {"/x": reject()}, "docker-daemon": {}}}));
    assert_eq!(policy.default.len(), 6);
    assert_eq!(policy.others, ["dir"]);
    let Requirement::Sigstore(fulcio) = &policy.default[4] else { panic!("{policy:?}") };
    assert!(matches!(&fulcio.signer, SigstoreSigner::Fulcio { email, .. } if email == "e@x"));
    assert_eq!(fulcio.rekor, [Key::Data(Vec::new())]);
}

#[test]
fn c3_c6_the_narrowest_scope_decides_alone() {
    let scopes = [
        "a.example.com:5000/team/app:1",
        "a.example.com:5000/team/app",
        "a.example.com:5000/team",
        "a.example.com:5000",
        "*.example.com",
        "*.com",
        "docker.io/library/nginx",
        "docker.io",
        "localhost",
        "*.example.com:5000",
        "nginx",
    ];
    let docker: serde_json::Map<_, _> = scopes.iter().map(|scope| ((*scope).to_owned(), accept())).collect();
    let policy = parse(&json!({"default": reject(), "transports": {"docker": docker}}));
    let digest = format!("sha256:{}", "0".repeat(64));
    for (image, scope) in [
        ("a.example.com:5000/team/app:1", Some("a.example.com:5000/team/app:1")),
        ("a.example.com:5000/team/app:2", Some("a.example.com:5000/team/app")),
        // By tag and digest the digest counts.
        (&format!("a.example.com:5000/team/app:1@{digest}"), Some("a.example.com:5000/team/app")),
        ("a.example.com:5000/team/app/below:1", Some("a.example.com:5000/team/app")),
        ("a.example.com:5000/team/apple:1", Some("a.example.com:5000/team")),
        ("a.example.com:5000/teams:1", Some("a.example.com:5000")),
        ("a.example.com:5001/team/app:1", Some("*.example.com")),
        ("a.example.com/team/app:1", Some("*.example.com")),
        ("example.com/x", Some("*.com")),
        ("nginx", Some("docker.io/library/nginx")),
        ("index.docker.io/x/y", Some("docker.io")),
        ("localhost/x", Some("localhost")),
        ("localhost:5000/x", None),
        ("other.org/x", None),
    ] {
        let image: ImageRef = image.parse().expect("an image");
        let wanted = scope.map_or("default".to_owned(), |scope| format!("transports.docker[{scope:?}]"));
        assert_eq!(policy.requirements(&image).0, wanted, "{image}");
    }
}

fn naming() -> Naming {
    Naming { policy: "nodes".to_owned(), namespace: "registry-system".to_owned() }
}

/// The policies among the documents, and the objects.
fn taken(converted: &Converted) -> (Vec<Policy>, FileObjects) {
    let (mut policies, mut objects) = (Vec::new(), FileObjects::default());
    for text in &converted.documents {
        let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let name = document["metadata"]["name"].as_str().expect("a name").to_owned();
        let decode =
            |value: &Value| base64::prelude::BASE64_STANDARD.decode(value.as_str().expect("text")).expect("base64");
        match document["kind"].as_str() {
            Some("ClusterRegistrySecurityPolicy") => {
                policies.push(read_policy(PolicyId::cluster(&name), &document));
            }
            Some("Secret") => {
                let data = document["data"].as_object().expect("data").iter();
                let data = data.map(|(key, value)| (key.clone(), decode(value).into())).collect();
                let secret = crate::cluster::SecretData::new(data, false);
                objects.secrets.insert(("registry-system".to_owned(), name), secret.into());
            }
            Some("ConfigMap") => {
                let data = document["data"].as_object().expect("data").iter();
                let text = |value: &Value| value.as_str().expect("text").to_owned().into();
                let data = data.map(|(key, value)| (key.clone(), text(value))).collect();
                let map = crate::cluster::SecretData::new(data, false);
                objects.config_maps.insert(("registry-system".to_owned(), name), map.into());
            }
            other => panic!("{other:?}"),
        }
    }
    (policies, objects)
}

fn converted(policy: &Value, registries_d: Option<&str>) -> Converted {
    let folder = tempfile::tempdir().expect("folder");
    let loaded = registries_d.map(|text| {
        std::fs::write(folder.path().join("a.yaml"), text).expect("written");
        RegistriesD::load_as_written(folder.path()).expect("registries.d")
    });
    convert(&parse(policy), loaded.as_ref(), &naming()).expect("converted")
}

/// `registry check lookaside` of each entry; the check is `open`, `gpg`, `cosign` or `nothing`.
fn entries(converted: &Converted) -> Vec<String> {
    let (policies, _) = taken(converted);
    let mut lines = Vec::new();
    for policy in &policies {
        let errors: Vec<_> = policy.problems.iter().filter(|problem| problem.error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        for entry in &policy.entries {
            let what = match &entry.check {
                Check::Unchecked => "open".to_owned(),
                Check::Broken(why) => panic!("{why}"),
                Check::Signed(check) => match (&check.gpg, &check.cosign) {
                    (Some(gpg), None) => format!("gpg {}", gpg.lookaside.as_deref().unwrap_or("-")),
                    (None, Some(_)) => "cosign".to_owned(),
                    (None, None) => "nothing".to_owned(),
                    _ => panic!("two methods"),
                },
            };
            lines.push(format!("{} {what}", entry.scope));
        }
    }
    lines
}

const STORES: &str = "default-docker: {lookaside: 'http://one.local/'}\n\
                      docker: {a.example.com/team/deep: {lookaside: 'http://two.local/'}, \
                      b.example.com: {lookaside: 'file:///var/sigstore'}}\n";

#[test]
fn scopes_become_entries_with_their_stores() {
    let key = GpgKey::new("maker");
    let policy = json!({"default": reject(), "transports": {"docker": {
        "a.example.com": [signed(&key)],
        "a.example.com/open": accept(),
        "a.example.com/open/closed": reject(),
        "b.example.com": [signed(&key)],
        "c.example.com/closed": reject(),
        "a.example.com/two": [signed(&key), signed(&GpgKey::new("other"))],
    }}});
    let converted = converted(&policy, Some(STORES));
    assert_eq!(
        entries(&converted),
        [
            "a.example.com gpg http://one.local/",
            "a.example.com/open open",
            "a.example.com/team/deep gpg http://two.local/",
            "a.example.com/two gpg http://one.local/",
            "a.example.com/two gpg http://one.local/",
            "b.example.com gpg -",
            "a.example.com/open/closed nothing",
        ]
    );
    let notes = converted.notes.join("\n");
    for wanted in [
        "b.example.com: a policy cannot name the store file:///var/sigstore",
        "a.example.com/open/closed: every image is rejected",
        "c.example.com/closed: every image is rejected",
        "the default rejects",
        "nodes-rejected",
    ] {
        assert!(notes.contains(wanted), "{wanted}\n{notes}");
    }
    // One Secret for one key.
    assert_eq!(converted.documents.iter().filter(|text| text.contains("kind: Secret")).count(), 2);
}

#[test]
fn what_policies_cannot_say_becomes_stricter_and_is_noted() {
    let key = GpgKey::new("maker");
    let key = || signed(&key);
    // A tag that needs more: asked for in the whole repository, besides what is asked for there.
    let tagged = |default: Value, list: Value| {
        converted(&json!({"default": default, "transports": {"docker": {"a.b.example/app:1": list}}}), Some("{}"))
    };
    assert_eq!(entries(&tagged(accept(), json!([key()]))), ["* open", "a.b.example/app gpg -"]);
    assert_eq!(entries(&tagged(accept(), reject())), ["* open", "a.b.example/app nothing"]);
    assert_eq!(entries(&tagged(json!([key()]), accept())), ["* gpg -"]);
    let notes = tagged(json!([key()]), accept()).notes.join("\n");
    assert!(notes.contains("policies know no single tag or digest: left out"), "{notes}");
    // A domain has no ports here: the weaker default must not take their place.
    let domain = |default: Value| {
        converted(&json!({"default": default, "transports": {"docker": {"*.b.example": [key()]}}}), None)
    };
    assert_eq!(entries(&domain(accept())), ["*.b.example gpg -"]);
    assert!(domain(accept()).notes.join("\n").contains("default: left out"));
    assert_eq!(entries(&domain(json!([key()]))), ["* gpg -", "*.b.example gpg -"]);
    // The official image is covered by the short name here, and not there.
    let hub = json!({"docker.io/library": [key()], "docker.io/nginx": accept()});
    let hub = converted(&json!({"default": reject(), "transports": {"docker": hub}}), None);
    assert_eq!(entries(&hub), ["docker.io/library gpg -", "docker.io/library/nginx gpg -", "docker.io/nginx open"]);
    // Names that no image has, and transports.
    let odd = json!({"*": accept(), "nginx": accept(), "*.b.example:5000": accept(), "a.b.example/": accept(), "A.b.example": accept()});
    let odd = converted(&json!({"default": reject(), "transports": {"docker": odd, "dir": {"": accept()}}}), None);
    assert!(entries(&odd).is_empty());
    // Other ways to write a host: what asks for more counts, what asks for less does not.
    let capitals = |list: Value| {
        converted(&json!({"default": accept(), "transports": {"docker": {"Registry.Local": list}}}), Some("{}"))
    };
    assert_eq!(entries(&capitals(reject())), ["* open", "registry.local nothing"]);
    assert_eq!(entries(&capitals(json!([key()]))), ["* open", "registry.local gpg -"]);
    assert_eq!(entries(&capitals(accept())), ["* open"]);
    assert!(capitals(accept()).notes.join("\n").contains("whose host is written like that alone"));
    // The short name of a repository must not open the official image.
    let short = json!({"docker.io/foo": accept()});
    let short = converted(&json!({"default": reject(), "transports": {"docker": short}}), None);
    assert_eq!(entries(&short), ["docker.io/foo open", "docker.io/library/foo nothing"]);
    assert!(short.notes.join("\n").contains("docker.io/foo: its entry covers the official image"));
    // A store for the short name, neither.
    let nginx = json!({"docker.io": [key()], "docker.io/library": reject()});
    let nginx = converted(
        &json!({"default": reject(), "transports": {"docker": nginx}}),
        Some("docker: {docker.io/nginx: {lookaside: 'http://one.local/'}}"),
    );
    assert_eq!(
        entries(&nginx),
        [
            "docker.io gpg -",
            "docker.io/nginx gpg http://one.local/",
            "docker.io/library nothing",
            "docker.io/library/nginx nothing"
        ]
    );
    assert_eq!(odd.notes.iter().filter(|note| note.contains("left out")).count(), 6, "{:?}", odd.notes);
    // Nodes that look for no sigstore signature find none.
    let pem = base64::prelude::BASE64_STANDARD.encode(CosignKey::new().pem);
    let sigstore = json!([{"type": "sigstoreSigned", "keyData": pem}]);
    let at = |registries_d| {
        converted(
            &json!({"default": accept(), "transports": {"docker": {"a.b.example": sigstore}}}),
            Some(registries_d),
        )
    };
    assert_eq!(entries(&at("{}")), ["* open", "a.b.example nothing"]);
    let unknown = converted(&json!({"default": accept(), "transports": {"docker": {"a.b.example": sigstore}}}), None);
    assert_eq!(entries(&unknown), ["* open", "a.b.example nothing"]);
    assert!(unknown.notes.join("\n").contains("no --registries-d was given, and nodes find sigstore"));
    assert_eq!(entries(&at("default-docker: {use-sigstore-attachments: true}")), ["* open", "a.b.example cosign"]);
}

async fn nodes(policies: &[Policy], objects: &FileObjects) -> NodeFiles {
    let node = Node { keys: "/etc/containers/podseal".to_owned() };
    let deadline = Instant::now() + Duration::from_secs(10);
    node_files(policies, objects, &node, SystemTime::now(), deadline).await.expect("converted")
}

fn cluster_policy(entries: &Value) -> Vec<Policy> {
    vec![read_policy(PolicyId::cluster("p"), &json!({"spec": {"registries": entries}}))]
}

fn objects(secrets: &[(&str, &str, &[u8])]) -> FileObjects {
    let mut objects = FileObjects::default();
    for (name, key, value) in secrets {
        let data = [((*key).to_owned(), bytes::Bytes::copy_from_slice(value))].into();
        let secret = crate::cluster::SecretData::new(data, false);
        objects.secrets.insert(("team".to_owned(), (*name).to_owned()), secret.into());
    }
    objects
}

#[tokio::test]
async fn a_policy_json_made_of_policies_made_of_a_policy_json_asks_for_the_same() {
    let (first, second) = (GpgKey::new("first"), GpgKey::new("second"));
    let policy = json!({"default": reject(), "transports": {"docker": {
        "": [signed(&second)],
        "a.example.com": [signed(&first)],
        "a.example.com/open": accept(),
        "a.example.com/open/closed": reject(),
        "a.example.com/both": [signed(&first), signed(&second)],
        "docker.io/library": [signed(&first)],
        "docker.io/nginx": accept(),
    }}});
    let there = converted(&policy, Some(STORES));
    let (policies, objects) = taken(&there);
    let back = nodes(&policies, &objects).await;
    let read = ContainersPolicy::parse(back.policy.as_bytes()).expect("a policy");
    let key_of = |requirement: &Requirement| match requirement {
        Requirement::SignedBy(by) => match &by.keys[..] {
            [Key::File(path)] => {
                let name = Path::new(path).file_name().expect("name").to_string_lossy().into_owned();
                back.keys[&name].clone()
            }
            [Key::Data(data)] => data.clone(),
            _ => panic!("one key"),
        },
        _ => Vec::new(),
    };
    let original = parse(&policy);
    for image in [
        "a.example.com/x",
        "a.example.com/open/x",
        "a.example.com/open/closed/x",
        "a.example.com/both",
        "b.org/x",
        "b.org:5000/x",
        "busybox",
        "docker.io/nginx/x",
        "a.example.com/team/deep/x",
    ] {
        let image: ImageRef = image.parse().expect("an image");
        let said = |policy: &ContainersPolicy| {
            let list = policy.requirements(&image).1;
            let kinds: Vec<_> = list.iter().map(|r| (std::mem::discriminant(r), key_of(r))).collect();
            kinds
        };
        assert_eq!(said(&read), said(&original), "{image}\n{}", back.policy);
    }
    // The one that differs is stricter: an entry for docker.io/nginx covers the official image as well.
    let nginx: ImageRef = "nginx".parse().expect("an image");
    assert_eq!(read.requirements(&nginx).1.len(), 1);
    assert_ne!(read.requirements(&nginx).1, [Requirement::AcceptAnything]);
    assert!(
        back.registries_d.contains("  \"a.example.com/team/deep\":\n    lookaside: \"http://two.local/\"\n"),
        "{}",
        back.registries_d
    );
    assert!(
        back.registries_d.contains("default-docker:\n  lookaside: \"http://one.local/\"\n"),
        "{}",
        back.registries_d
    );
}

#[tokio::test]
async fn signers_narrow_the_key_file() {
    let (alice, bob) = (GpgKey::new("alice"), GpgKey::new("bob"));
    let both = [alice.public(), bob.public()].concat();
    let objects = objects(&[("gpg", "group1.pgp", &both)]);
    let entry = |signer: Value| {
        cluster_policy(
            &json!([{"registry": "r.io", "signCheck": true, "gpgKeyRef": "k8s://team/gpg", "signer": signer}]),
        )
    };
    let files = nodes(&entry(json!(["alice@example.org"])), &objects).await;
    assert_eq!(files.keys.into_values().collect::<Vec<_>>(), [alice.public()]);
    let files = nodes(&entry(json!([])), &objects).await;
    assert_eq!(files.keys.values().map(Vec::len).collect::<Vec<_>>(), [both.len()]);
    let files = nodes(&entry(json!(["carol@example.org"])), &objects).await;
    assert!(
        files.keys.is_empty() && files.policy.contains("\"r.io\": [\n        {\n          \"type\": \"reject\""),
        "{}",
        files.policy
    );
}

#[tokio::test]
async fn what_nodes_cannot_ask_for_is_rejected_and_noted() {
    let (gpg, cosign) = (GpgKey::new("maker").public(), CosignKey::new().pem);
    let objects = objects(&[("gpg", "maker.pgp", &gpg), ("cosign", "cosign.pub", cosign.as_bytes())]);
    let policies = |extra: Value| {
        let mut entry = json!({"registry": "r.io", "signCheck": true});
        entry.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
        cluster_policy(&json!([entry]))
    };
    let (gpg_ref, cosign_ref) = ("k8s://team/gpg", "k8s://team/cosign");
    for (extra, kinds, note) in [
        (json!({"gpgKeyRef": gpg_ref}), &["signedBy"][..], "names no lookaside"),
        (
            json!({"gpgKeyRef": gpg_ref, "cosignKeyRef": cosign_ref}),
            &["signedBy"],
            "images with cosign signatures alone",
        ),
        (json!({"gpgKeyRef": gpg_ref, "requireDigest": true}), &["signedBy"], "nodes cannot ask for a digest"),
        (json!({"gpgKeyRef": gpg_ref, "action": "Warn"}), &["insecureAcceptAnything"], "it does not enforce"),
        (json!({"gpgKeyRef": "k8s://team/none"}), &["reject"], "does not exist"),
        (json!({"cosignKeyRef": cosign_ref}), &["sigstoreSigned"], ".sig tags alone"),
        (json!({"cosignKeyRef": cosign_ref, "signer": ["x"]}), &["reject"], "nodes know no signer"),
        (
            json!({"cosignKeyRef": cosign_ref, "cosign": {"annotations": {"a": "b"}}}),
            &["reject"],
            "nodes know no annotations",
        ),
        (json!({"notary": "https://n.io"}), &["reject"], "nodes know no Notary"),
        (json!({}), &["reject"], "names nothing to check"),
        (json!({"gpgKeyRef": "x"}), &["reject"], "cannot be read"),
    ] {
        let files = nodes(&policies(extra.clone()), &objects).await;
        let policy: Value = serde_json::from_str(&files.policy).expect("JSON");
        let list = policy["transports"]["docker"]["r.io"].as_array().expect("a list").clone();
        let found: Vec<_> = list.iter().map(|r| r["type"].as_str().expect("a type")).collect();
        assert_eq!(found, kinds, "{extra}");
        assert!(files.notes.iter().any(|text| text.contains(note)), "{extra}\n{:?}", files.notes);
    }
}

#[tokio::test]
async fn entries_of_one_scope_must_all_be_met_and_wildcards_never_accept_more() {
    let gpg = [GpgKey::new("one").public(), GpgKey::new("two").public()];
    let objects = objects(&[("one", "a.pgp", &gpg[0]), ("two", "b.pgp", &gpg[1])]);
    let entry = |registry: &str, key: &str, lookaside: &str| json!({"registry": registry, "signCheck": true, "gpgKeyRef": format!("k8s://team/{key}"), "lookaside": lookaside});
    let open = |registry: &str| json!({"registry": registry, "signCheck": false});
    let kinds = async |entries: Value, scope: &str| {
        let files = nodes(&cluster_policy(&entries), &objects).await;
        let policy: Value = serde_json::from_str(&files.policy).expect("JSON");
        let list = policy["transports"]["docker"][scope].as_array().expect("a list").clone();
        list.iter().map(|r| r["type"].as_str().expect("a type").to_owned()).collect::<Vec<_>>().join(" ")
    };
    let store = "http://s.io/";
    assert_eq!(
        kinds(json!([entry("r.io", "one", store), entry("r.io", "two", store)]), "r.io").await,
        "signedBy signedBy"
    );
    assert_eq!(kinds(json!([entry("r.io", "one", store), open("r.io")]), "r.io").await, "signedBy");
    assert_eq!(
        kinds(json!([entry("r.io", "one", store), entry("r.io", "two", "http://t.io/")]), "r.io").await,
        "reject"
    );
    assert_eq!(kinds(json!([open("*.r.io")]), "*.r.io").await, "reject");
    assert_eq!(kinds(json!([open("*.r.io"), open("*")]), "*.r.io").await, "insecureAcceptAnything");
    assert_eq!(kinds(json!([entry("*.r.io/team", "one", store)]), "*.r.io").await, "reject");
    assert_eq!(kinds(json!([entry("*.r.io", "one", store)]), "*.r.io").await, "signedBy");
    // What governs the rest of the domain is asked for as well: by path, by port, by the wider domain and by `*`.
    let two = entry("*.io", "two", store);
    for part in [open("*.r.io/p"), open("*.r.io:5000"), open("*.r.io:5000/p")] {
        assert_eq!(kinds(json!([part, two]), "*.r.io").await, "signedBy");
        assert_eq!(kinds(json!([part, open("*")]), "*.r.io").await, "insecureAcceptAnything");
        assert_eq!(kinds(json!([part, two, open("*")]), "*.r.io").await, "signedBy");
    }
    assert_eq!(
        kinds(json!([entry("*.r.io/p", "one", store), entry("*", "two", store)]), "*.r.io").await,
        "signedBy signedBy"
    );
    assert_eq!(
        kinds(json!([entry("*.r.io", "one", store), entry("*", "two", store)]), "*.r.io").await,
        "signedBy signedBy"
    );
    assert_eq!(
        kinds(json!([entry("*.r.io/team", "one", store), entry("*.r.io", "two", store)]), "*.r.io").await,
        "signedBy signedBy"
    );
    assert_eq!(kinds(json!([open("docker.io/x")]), "docker.io/library/x").await, "insecureAcceptAnything");
    let none = node_files(&[], &objects, &Node { keys: "/k".to_owned() }, SystemTime::now(), Instant::now()).await;
    assert!(none.expect_err("nothing to convert").contains("there is no ClusterRegistrySecurityPolicy"));
}
