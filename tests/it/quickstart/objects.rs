//! Every image of a Pod counts, wherever it stands, and nothing else about a Pod does.

use super::world::World;
use crate::support::cluster::Namespace;
use crate::support::text::assert_text;

/// A namespace in which images of the shared registry need a cosign signature.
fn checked(hint: &str) -> Namespace<'static> {
    let world = World::shared();
    let namespace = world.namespace(hint);
    namespace.policy("cosign", &world.cosign_entry(&namespace, ""));
    namespace
}

fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn a6_ten_containers_of_which_only_the_last_is_unsigned() {
    let world = World::shared();
    let namespace = checked("ten");
    let (good, bad) = (world.cosigned[0].tagged(), world.unsigned.tagged());
    let containers = |last: &str| {
        let images = (0..10).map(|i| if i == 9 { last } else { good.as_str() }).enumerate();
        let list: Vec<_> = images.map(|(i, image)| format!("{{name: c{i}, image: '{image}'}}")).collect();
        format!("{{containers: [{}]}}", list.join(", "))
    };
    namespace.apply(&pod("all-good", &containers(&good))).succeeded();
    let ran = namespace.apply(&pod("last-bad", &containers(&bad))).failed();
    assert_text(&namespace.said(&ran), "\
Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"pods.podseal.tmax.io\" denied the request: Pod is not valid:
Cosign: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' signature is empty: no cosign signature for sha256:DIGEST in 127.0.0.1:PORT/k8s-c10f1/unsigned (spec.containers[9].image; RegistrySecurityPolicy/NAMESPACE/cosign spec.registries[0])");
}

fn a1_a9_init_container_and_sidecar_count() {
    let world = World::shared();
    let namespace = checked("init");
    let (good, bad) = (world.cosigned[0].tagged(), world.unsigned.tagged());
    let spec = |init: &str, more: &str| {
        format!(
            "{{initContainers: [{{name: i, image: '{good}'}}, {{name: j, image: '{init}'{more}}}], containers: [{{name: c, image: '{good}'}}]}}"
        )
    };
    for (i, more) in ["", ", restartPolicy: Always"].into_iter().enumerate() {
        namespace.apply(&pod(&format!("good-{i}"), &spec(&good, more))).succeeded();
        let ran = namespace.apply(&pod(&format!("bad-{i}"), &spec(&bad, more))).failed();
        assert!(ran.stderr.contains("spec.initContainers[1].image"), "{ran}");
    }
}

fn a5_image_volume_counts() {
    let world = World::shared();
    let namespace = checked("volume");
    let good = world.cosigned[0].tagged();
    let spec = |reference: &str| {
        format!(
            "{{containers: [{{name: c, image: '{good}'}}], volumes: [{{name: v, image: {{reference: '{reference}'}}}}]}}"
        )
    };
    namespace.apply(&pod("good", &spec(&good))).succeeded();
    let ran = namespace.apply(&pod("bad", &spec(&world.unsigned.tagged()))).failed();
    assert!(ran.stderr.contains("spec.volumes[0].image.reference"), "{ran}");
}

fn a2_a4_ephemeral_container_counts_and_the_others_are_not_judged_again() {
    let world = World::shared();
    let namespace = world.namespace("ephemeral");
    namespace.policy("cosign", &format!("- {{registry: '{}', signCheck: false}}", world.registry.host));
    namespace.run("old", &world.unsigned.tagged()).succeeded();
    namespace.policy("cosign", &world.cosign_entry(&namespace, ""));
    let debug = |image: &str| {
        namespace.kubectl(&["debug", "old", "--profile=general", &format!("--image={image}"), "--", "true"])
    };
    debug(&world.cosigned[0].tagged()).succeeded();
    let ran = debug(&world.unsigned.tagged()).failed();
    assert!(ran.stderr.contains("spec.ephemeralContainers[1].image"), "{ran}");
    let patch =
        format!(r#"{{"spec":{{"ephemeralContainers":[{{"name":"raw","image":"{}"}}]}}}}"#, world.unsigned.tagged());
    let ran = namespace.kubectl(&["patch", "pod", "old", "--subresource=ephemeralcontainers", "-p", &patch]).failed();
    assert!(ran.stderr.contains("denied the request"), "{ran}");
    let names = namespace.kubectl(&["get", "pod", "old", "-o", "jsonpath={.spec.ephemeralContainers[*].image}"]);
    assert_eq!(names.succeeded().line(), world.cosigned[0].tagged());
}

fn b7_b9_old_pods_may_be_changed_in_all_but_their_images() {
    let world = World::shared();
    let namespace = world.namespace("old-pods");
    namespace.policy("cosign", &format!("- {{registry: '{}', signCheck: false}}", world.registry.host));
    let text = pod("old", &format!("{{containers: [{{name: c, image: '{}'}}]}}", world.unsigned.tagged()));
    namespace.apply(&text.replace("{name: old}", "{name: old, finalizers: [example.com/hold]}")).succeeded();
    namespace.policy("cosign", &world.cosign_entry(&namespace, ""));
    namespace.run("new", &world.unsigned.tagged()).failed();

    namespace.kubectl(&["label", "pod", "old", "a=b"]).succeeded();
    namespace.kubectl(&["set", "image", "pod/old", &format!("c={}", world.cosigned[1].tagged())]).succeeded();
    let ran = namespace.kubectl(&["set", "image", "pod/old", &format!("c={}", world.other_key.tagged())]).failed();
    assert!(ran.stderr.contains("denied the request"), "{ran}");

    namespace.kubectl(&["delete", "pod", "old", "--wait=false", "--grace-period=0", "--force"]).succeeded();
    assert!(namespace.has_pod("old"), "the finalizer holds it");
    namespace.kubectl(&["patch", "pod", "old", "-p", r#"{"metadata":{"finalizers":null}}"#]).succeeded();
    assert!(!namespace.has_pod("old"));
}

fn template_of_a_deployment_is_warned_about_and_not_denied() {
    let world = World::shared();
    let namespace = checked("template");
    let create =
        |name: &str, image: &str| namespace.kubectl(&["create", "deployment", name, &format!("--image={image}")]);
    let ran = create("good", &world.cosigned[0].tagged()).succeeded();
    assert_text(&namespace.said(&ran), "");
    let ran = create("bad", &world.unsigned.tagged()).succeeded();
    let said = namespace.said(&ran);
    // A long cause is cut short at its end; the place in front of it is always whole.
    let start = "Warning: Pods would be denied: spec.template.spec.containers[0].image; \
                 RegistrySecurityPolicy/NAMESPACE/cosign spec.registries[0]: \
                 Cosign: Image '127.0.0.1:PORT/k8s-c10f1/unsigned:1' signature is empty: ";
    assert!(said.starts_with(start), "{said}");
}

fn b1_b2_b3_nothing_that_the_author_writes_skips_the_check() {
    let world = World::shared();
    let namespace = checked("author");
    // The API server takes the annotation of a mirror Pod only together with a node.
    let spec = format!("{{nodeName: node-1, containers: [{{name: c, image: '{}'}}]}}", world.unsigned.tagged());
    let metadata = [
        "labels: {app: image-validation-admission}",
        "annotations: {kubernetes.io/config.mirror: abc, kubernetes.io/config.source: file}",
        "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: 705ab4f5-6393-11e8-b7cc-42010a800002}]",
    ];
    for (i, metadata) in metadata.into_iter().enumerate() {
        let name = format!("bad-{i}");
        let text = pod(&name, &spec).replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, {metadata}}}"));
        let ran = namespace.apply(&text).failed();
        assert!(ran.stderr.contains("denied the request"), "{ran}");
    }
}

crate::tests! {
    needs [Cluster, Registry, Gpg, Cosign, Store];
    a6_ten_containers_of_which_only_the_last_is_unsigned,
    a1_a9_init_container_and_sidecar_count,
    a5_image_volume_counts,
    a2_a4_ephemeral_container_counts_and_the_others_are_not_judged_again,
    b7_b9_old_pods_may_be_changed_in_all_but_their_images,
    template_of_a_deployment_is_warned_about_and_not_denied,
    b1_b2_b3_nothing_that_the_author_writes_skips_the_check,
}
