//! The custom resource definitions over older and newer ones.

use super::world::{World, soon};
use crate::support::cluster::Cluster;

crate::tests! {
    needs [Cluster];
    h8_definitions_of_the_original_are_upgraded_and_its_objects_stay,
}

/// A definition with the fields that the original has, and nothing else.
fn original(plural: &str, kind: &str, short: &str, scope: &str) -> String {
    let text = "{type: string}";
    format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.tmax.io}}\nspec:\n  \
         group: tmax.io\n  scope: {scope}\n  \
         names: {{plural: {plural}, singular: {singular}, kind: {kind}, listKind: {kind}List, shortNames: [{short}]}}\n  \
         versions:\n  - name: v1\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema:\n        \
         type: object\n        required: [spec]\n        properties:\n          apiVersion: {text}\n          kind: {text}\n          \
         metadata: {{type: object}}\n          spec:\n            type: object\n            required: [registries]\n            \
         properties:\n              registries:\n                type: array\n                items:\n                  \
         type: object\n                  required: [registry, signCheck]\n                  properties:\n                    \
         registry: {text}\n                    signCheck: {{type: boolean}}\n                    notary: {text}\n                    \
         cosignKeyRef: {text}\n                    signer: {{type: array, items: {text}}}\n",
        singular = kind.to_lowercase(),
    )
}

const CLUSTER: &str = "clusterregistrysecuritypolicies.tmax.io";
const NAMESPACED: &str = "registrysecuritypolicies.tmax.io";

const OBJECT: &str = "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {name: old}\nspec:\n  \
    registries:\n  - {registry: core.harbor.domain.io, signCheck: true, notary: 'https://notary.harbor.domain.io', \
    cosignKeyRef: 'k8s://a/b', signer: [one, two]}\n";
const NEWER: &str = "apiVersion: tmax.io/v1\nkind: ClusterRegistrySecurityPolicy\nmetadata: {name: new}\nspec:\n  \
    registries:\n  - {registry: core.harbor.domain.io, signCheck: true, gpgKeyRef: 'k8s://a/b', action: Warn}\n";

fn h8_definitions_of_the_original_are_upgraded_and_its_objects_stay() {
    // Definitions are the whole cluster's: one of its own.
    let newest = podseal::api::SCHEMA_VERSION.to_string();
    let cluster = Cluster::start();
    let world = World::new(&cluster, "definitions");
    let get = |name: &str, path: &str| {
        let path = format!("jsonpath={{{path}}}");
        cluster.kubectl(&["get", "crd", name, "-o", &path]).succeeded().stdout
    };
    let version = |name: &str| get(name, ".metadata.annotations.podseal\\.io/schema-version");
    let outdated = |part: &super::world::Part| {
        ["clusterregistrysecuritypolicies", "registrysecuritypolicies"]
            .map(|crd| part.metric(&format!("podseal_crd_outdated{{crd=\"{crd}\"}}")))
    };
    cluster.kubectl(&["delete", "crd", CLUSTER, NAMESPACED]).succeeded();
    let originals = [
        original("clusterregistrysecuritypolicies", "ClusterRegistrySecurityPolicy", "crsp", "Cluster"),
        original("registrysecuritypolicies", "RegistrySecurityPolicy", "rsp", "Namespaced"),
    ];
    cluster.apply(&originals.join("---\n")).succeeded();
    soon("an object of the original is stored", || cluster.apply(OBJECT).ok().then_some(()));
    let spec = || cluster.kubectl(&["get", "crsp", "old", "-o", "jsonpath={.spec}"]).succeeded().stdout;
    let before = spec();
    assert!(!cluster.apply(NEWER).ok(), "the original does not know the new fields");

    let reporting = world.bare_controller("reporting", &[]);
    soon("it is reported", || (outdated(&reporting) == [Some(1.0); 2]).then_some(()));
    soon("there is an Event", || world.events(CLUSTER).contains(&"SchemaOutdated".to_owned()).then_some(()));
    assert_eq!(version(CLUSTER), "", "without the flag nothing is changed");
    reporting.process.signal("TERM");

    let managing = world.bare_controller("managing", &["--manage-crds"]);
    soon("both are replaced", || [CLUSTER, NAMESPACED].iter().all(|name| version(name) == newest).then_some(()));
    soon("nothing is outdated", || (outdated(&managing) == [Some(0.0); 2]).then_some(()));
    soon("the new fields are known", || cluster.apply(NEWER).ok().then_some(()));
    assert_eq!(spec(), before, "the object is as it was");
    cluster.apply(OBJECT).succeeded();
    assert_eq!(get(NAMESPACED, ".spec.versions[*].name"), "v1");
    managing.process.signal("TERM");
    assert!(managing.process.ended_within(std::time::Duration::from_secs(10)).is_some());

    // Definitions of a later version, whose fields this one does not know, stay.
    let annotation = "podseal.io/schema-version=999";
    cluster.kubectl(&["annotate", "--overwrite", "crd", CLUSTER, annotation]).succeeded();
    let generation = get(CLUSTER, ".metadata.resourceVersion");
    let later = world.bare_controller("later", &["--manage-crds"]);
    soon("it leads", || later.leads().then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((version(CLUSTER).as_str(), get(CLUSTER, ".metadata.resourceVersion")), ("999", generation));
    // One that is absent is not made, and is reported.
    cluster.kubectl(&["delete", "crd", NAMESPACED]).succeeded();
    let other = world.bare_controller("other", &["--manage-crds"]);
    later.process.signal("TERM");
    soon("it is reported", || (outdated(&other) == [Some(0.0), Some(1.0)]).then_some(()));
    assert!(
        other.process.log().contains("is not installed: podseal crds | kubectl apply -f -"),
        "{}",
        other.process.log()
    );
}
