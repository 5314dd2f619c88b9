//! etcd, kube-apiserver and kubectl.

use crate::support::cluster::{Cluster, User};

fn api_server_stores_pods_and_denies_what_a_user_may_not() {
    let cluster = Cluster::shared();
    let namespace = cluster.bare_namespace("servers");
    cluster.kubectl(&["-n", &namespace, "run", "a", "--image=nginx"]).succeeded();
    let pods = cluster.kubectl_as(User::Alice, &["-n", &namespace, "get", "pods"], "").failed();
    assert!(pods.stderr.contains("Forbidden"), "{pods}");
}

fn crds_are_served_and_stored_objects_read_back() {
    let cluster = Cluster::shared();
    let namespace = cluster.bare_namespace("servers");
    let policy = format!(
        "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: a, namespace: {namespace}}}\n\
         spec: {{registries: [{{registry: registry.local, signCheck: false}}]}}\n"
    );
    cluster.apply(&policy).succeeded();
    let registry =
        cluster.kubectl(&["-n", &namespace, "get", "rsp", "a", "-o", "jsonpath={.spec.registries[0].registry}"]);
    assert_eq!(registry.succeeded().stdout, "registry.local");
    cluster.apply(&policy.replace("signCheck: false", "signCheck: 'no'")).failed();
}

crate::tests! {
    needs [Cluster];
    api_server_stores_pods_and_denies_what_a_user_may_not,
    crds_are_served_and_stored_objects_read_back,
}
