//! Digest pinning on a real API server: what is stored is what was verified.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Namespace, WebhookScope};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::eventually;
use crate::support::registry::{Image, Registry};
use crate::support::signer::{CosignKey, Format};

/// A podseal that also pins, a registry, a key.
struct World {
    podseal: Podseal,
    registry: Registry,
    key: CosignKey,
}

impl World {
    fn new(name: &str) -> Self {
        let podseal = Podseal::start(Cluster::shared(), &Options::new(name));
        Cluster::shared().register(&podseal, WebhookScope::Namespaces);
        let webhook = webhook(&podseal, "pins.podseal.tmax.io", &podseal.url("/mutate"), "Namespaced");
        Cluster::shared().apply(&webhook).succeeded();
        let world = Self { podseal, registry: Registry::start(), key: CosignKey::new() };
        let image = world.signed("ready/a:1");
        let namespace = world.namespace("ready");
        eventually("the API server asks for pins", || {
            let ran = namespace.kubectl(&[
                "run",
                "a",
                &format!("--image={}", image.tagged()),
                "--dry-run=server",
                "-o",
                "json",
            ]);
            ran.ok() && images(&serde_json::from_str(&ran.stdout).unwrap()) == [pinned(&image)]
        });
        world
    }

    fn signed(&self, name: &str) -> Image {
        let image = self.registry.push(name);
        self.key.sign(&self.registry, &image, Format::Legacy, &[]).succeeded();
        image
    }

    /// A namespace in which images of the registry need a signature.
    fn namespace(&self, hint: &str) -> Namespace<'_> {
        let namespace = Cluster::shared().namespace(&self.podseal, hint);
        namespace.secret("key", &[("cosign.pub", self.key.public.as_bytes())]);
        let (host, name) = (&self.registry.host, &namespace.name);
        namespace.policy(
            "p",
            &format!("- {{registry: '{host}', signCheck: true, insecure: true, cosignKeyRef: k8s://{name}/key}}\n- {{registry: free.invalid, signCheck: false}}"),
        );
        namespace
    }
}

/// A mutating webhook at this URL for the namespaces of that podseal.
fn webhook(podseal: &Podseal, name: &str, url: &str, scope: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\n\
         metadata: {{name: '{name}.{label}'}}\nwebhooks:\n- name: {name}\n  admissionReviewVersions: [v1]\n  \
         sideEffects: NoneOnDryRun\n  failurePolicy: Ignore\n  reinvocationPolicy: IfNeeded\n  timeoutSeconds: 10\n  \
         namespaceSelector: {{matchLabels: {{podseal-under-test: {label}}}}}\n  \
         clientConfig: {{url: '{url}', caBundle: {bundle}}}\n  rules:\n  \
         - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], \
         resources: [pods, pods/ephemeralcontainers], scope: {scope}}}\n",
        label = podseal.name(),
        bundle = podseal.authority().bundle(),
    )
}

fn pinned(image: &Image) -> String {
    format!("{}@{}", image.tagged(), image.digest)
}

fn pod(namespace: &Namespace<'_>, name: &str) -> Value {
    serde_json::from_str(&namespace.kubectl(&["get", "pod", name, "-o", "json"]).succeeded().stdout).unwrap()
}

/// Every image of a Pod, in the order of the lists.
fn images(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec[list].as_array());
    let containers = lists.into_iter().flatten().flatten().map(|container| &container["image"]);
    let volumes = spec["volumes"].as_array().into_iter().flatten().map(|volume| &volume["image"]["reference"]);
    containers.chain(volumes).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn d1_what_is_stored_is_what_was_verified_although_the_tag_moves() {
    let world = World::new("pins-stored");
    let (namespace, image) = (world.namespace("stored"), world.signed("alt/a:1"));
    world.registry.forget();
    let ran = namespace.run("first", &image.tagged()).succeeded();
    assert!(!ran.stderr.contains("Warning"), "{ran}");
    assert_eq!(images(&pod(&namespace, "first")), [pinned(&image)]);
    let asked =
        |tag: &str| world.registry.requests().iter().filter(|r| r.path.ends_with(&format!("/manifests/{tag}"))).count();
    assert_eq!(asked("1"), 1, "the tag is resolved once: {:?}", world.registry.requests());
    // The tag moves to what nobody signed. What was pinned stays good, and can be created again elsewhere.
    let moved = world.registry.push("alt/a:1");
    assert_ne!(moved.digest, image.digest);
    namespace.run("again", &pinned(&image)).succeeded();
    namespace.kubectl(&["annotate", "pod", "first", "a=b"]).succeeded();
    let ran = namespace.run("moved", &image.tagged()).failed();
    assert!(ran.stderr.contains("was not pinned to its digest: Unsigned"), "{ran}");
    assert!(ran.stderr.contains("signature is empty") && ran.stderr.contains(&moved.digest), "{ran}");
    assert!(!namespace.has_pod("moved"));
}

fn a16_h24_only_image_fields_change_and_templates_stay_as_they_are() {
    let world = World::new("pins-fields");
    let (namespace, image) = (world.namespace("fields"), world.signed("alt/a:1"));
    let plain = Cluster::shared().bare_namespace("fields-plain");
    let tagged = image.tagged();
    let spec = json!({
        "initContainers": [{"name": "i", "image": tagged, "restartPolicy": "Always"}],
        "containers": [
            {"name": "a", "image": tagged, "env": [{"name": "IMAGE", "value": tagged}], "resources": {"limits": {"cpu": "1"}}},
            {"name": "free", "image": "free.invalid/x:1"},
            {"name": "b", "image": format!("{tagged}@{}", image.digest)},
        ],
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "v", "image": {"reference": tagged}}],
    });
    let text =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"image": "a"}}, "spec": spec})
            .to_string();
    namespace.apply(&text).succeeded();
    Cluster::shared()
        .kubectl_as(crate::support::cluster::User::Admin, &["-n", &plain, "apply", "-f", "-"], &text)
        .succeeded();
    let mut mine = pod(&namespace, "p");
    let text = Cluster::shared().kubectl(&["-n", &plain, "get", "pod", "p", "-o", "json"]).succeeded().stdout;
    let mut other: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        images(&mine),
        [pinned(&image), pinned(&image), "free.invalid/x:1".to_owned(), pinned(&image), pinned(&image)]
    );
    // With the images put back, it is the Pod of a namespace without podseal.
    for pointer in ["/spec/initContainers/0/image", "/spec/containers/0/image", "/spec/volumes/1/image/reference"] {
        *mine.pointer_mut(pointer).unwrap() = tagged.as_str().into();
    }
    for found in [&mut mine, &mut other] {
        found["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("kubectl.kubernetes.io/last-applied-configuration");
        for field in ["namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            found["metadata"].as_object_mut().unwrap().remove(field);
        }
        // The name of the volume with the token is made up by the server.
        *found = serde_json::from_str(&without_token(&found.to_string())).unwrap();
    }
    assert_eq!(mine, other);
    // Applied again from the same file, nothing changes while the tag does not move.
    let ran = namespace.apply(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"image": "a"}}, "spec": spec})
            .to_string(),
    );
    ran.succeeded();
    assert_eq!(images(&pod(&namespace, "p"))[1], pinned(&image));
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": tagged}]}},
    }});
    namespace.apply(&deployment.to_string()).succeeded();
    let shown =
        namespace.kubectl(&["get", "deployment", "d", "-o", "jsonpath={.spec.template.spec.containers[0].image}"]);
    assert_eq!(shown.succeeded().line(), tagged);
}

/// `kube-api-access-xxxxx` without what differs.
fn without_token(text: &str) -> String {
    let mut pieces = text.split("kube-api-access-");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + "kube-api-access-" + piece.get(5..).unwrap_or_default())
}

fn ephemeral_containers_are_pinned_and_those_before_them_left_alone() {
    let world = World::new("pins-debug");
    let (namespace, image) = (world.namespace("debug"), world.signed("alt/a:1"));
    let debugger = world.signed("alt/debug:1");
    namespace.run("a", &image.tagged()).succeeded();
    for (i, wanted) in [&debugger, &image].into_iter().enumerate() {
        let add =
            ["debug", "a", &format!("--image={}", wanted.tagged()), "--container", &format!("d{i}"), "--attach=false"];
        namespace.kubectl(&add).succeeded();
    }
    assert_eq!(images(&pod(&namespace, "a")), [pinned(&image), pinned(&debugger), pinned(&image)]);
    let change = format!("c={}", debugger.tagged()).replacen('c', "a", 1);
    namespace.kubectl(&["set", "image", "pod/a", &change]).succeeded();
    assert_eq!(images(&pod(&namespace, "a"))[0], pinned(&debugger));
}

/// A second webhook that adds a container after podseal was asked; a stand-in for a service mesh, which nothing here
/// has: podseal itself, answered for by a tiny server.
fn what_another_webhook_adds_is_pinned_when_podseal_is_asked_again() {
    let world = World::new("pins-again");
    let (namespace, image) = (world.namespace("again"), world.signed("alt/a:1"));
    let sidecar = world.signed("alt/sidecar:1");
    let mesh = mesh::start(&world.podseal, &sidecar.tagged());
    // Webhooks are called in the order of their names; this one comes after pins.podseal.tmax.io.
    let text = webhook(&world.podseal, "zz-mesh.example.com", &mesh, "Namespaced");
    Cluster::shared().apply(&text.replace("IfNeeded", "Never")).succeeded();
    let run = |name: &str| namespace.run(name, &image.tagged());
    let mut count = 0;
    eventually("the API server asks the other webhook", || {
        count += 1;
        let name = format!("p{count}");
        run(&name).succeeded();
        images(&pod(&namespace, &name)) == [pinned(&image), pinned(&sidecar)]
    });
}

fn what_cannot_be_resolved_is_left_and_then_denied() {
    let world = World::new("pins-not");
    let namespace = world.namespace("not");
    let missing = format!("{}/alt/missing:1", world.registry.host);
    let ran = namespace.run("a", &missing).failed();
    assert!(ran.stderr.contains("was not pinned to its digest: ImageNotFound"), "{ran}");
    assert!(ran.stderr.contains("was not found") && ran.stderr.contains(&missing), "{ran}");
    let (name, host) = (&namespace.name, "127.0.0.1:1");
    namespace.policy("down", &format!("- {{registry: '{host}', signCheck: true, cosignKeyRef: k8s://{name}/key}}"));
    let ran = namespace.run("a", &format!("{host}/a:1")).failed();
    assert!(ran.stderr.contains("was not pinned") && ran.stderr.contains("cannot be reached"), "{ran}");
    assert!(ran.stderr.contains("(ServiceUnavailable)"), "{ran}");
    assert!(world.podseal.metric("podseal_pins_total", &["result=\"failed\""]) >= 2.0);
    // Not under a check: admitted as it is, without a word.
    let ran = namespace.run("free", "free.invalid/x:1").succeeded();
    assert!(!ran.stderr.contains("Warning"), "{ran}");
    assert_eq!(images(&pod(&namespace, "free")), ["free.invalid/x:1"]);
}

mod mesh {
    //! A mutating webhook that adds a container to every Pod, over TLS by podseal's own authority.

    use std::net::TcpListener;
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use serde_json::{Value, json};

    use crate::support::podseal::Podseal;

    /// Its URL.
    pub fn start(podseal: &Podseal, image: &str) -> String {
        let tls = podseal.authority().server(&crate::support::pki::LOCAL);
        let chain = CertificateDer::pem_file_iter(&tls.cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let image = image.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, image) = (config.clone(), image.clone());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(config).unwrap();
                    let _ = answer(&mut rustls::StreamOwned::new(connection, stream), &image);
                });
            }
        });
        url
    }

    fn answer(stream: &mut (impl std::io::Read + std::io::Write), image: &str) -> std::io::Result<()> {
        let mut request = Vec::new();
        let body = loop {
            let mut part = [0; 4096];
            let read = stream.read(&mut part)?;
            request.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if read == 0 || length.is_some_and(|length: usize| body.len() >= length) {
                break body.to_owned();
            }
        };
        let review: Value = serde_json::from_str(&body).unwrap_or_default();
        let patch = json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "mesh", "image": image}}]);
        let response = json!({"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
            "patch": STANDARD.encode(patch.to_string())});
        let text =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes())?;
        stream.flush()
    }
}

crate::tests! {
    needs [Cluster, Registry, Cosign];
    d1_what_is_stored_is_what_was_verified_although_the_tag_moves,
    a16_h24_only_image_fields_change_and_templates_stay_as_they_are,
    ephemeral_containers_are_pinned_and_those_before_them_left_alone,
    what_another_webhook_adds_is_pinned_when_podseal_is_asked_again,
    what_cannot_be_resolved_is_left_and_then_denied,
}
