//! Who may write, by the roles of a real API server.

use super::world::{Maker, Store, document, extension_path, image};
use crate::support::cluster::{Cluster, User};
use crate::support::http::Http;
use crate::support::{scratch, tools};

const RIGHTS: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: store-test-maker, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: store-test-stranger, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: store-test-signer}
rules:
- {apiGroups: [podseal.io], resources: [imagesignatures], verbs: [get, list, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: store-test-reader}
rules:
- {apiGroups: [podseal.io], resources: [imagesignatures], verbs: [get, list, update, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: store-test-signer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: store-test-signer}
subjects: [{kind: ServiceAccount, name: store-test-maker, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: store-test-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: store-test-reader}
subjects: [{kind: ServiceAccount, name: store-test-stranger, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: store-test-store}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator}
subjects: [{kind: ServiceAccount, name: store-test-store, namespace: default}]
";

fn tokens_write_by_the_role_and_by_nothing_else() {
    let cluster = Cluster::shared();
    cluster.apply(RIGHTS).succeeded();
    let token = |name: &str| {
        cluster.kubectl(&["create", "token", name, "--namespace", "default"]).succeeded().line().to_owned()
    };
    let (maker, stranger) = (token("store-test-maker"), token("store-test-stranger"));
    let kubeconfig = cluster.kubeconfig(User::Admin);
    let dir = scratch::folder("roles").join("sigstore");
    let args = ["--kubernetes-auth", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let store = Store::with(&dir, &args, "http", Http::trusting(""));
    let (digest, signer) = (image("roles"), Maker::new("maker@example.org"));
    let mut count = 0;
    let mut put = |credential: &[&str]| {
        count += 1;
        let name = format!("{count:032}");
        let body = document(&digest, &name, &signer.sign(&digest, &format!("registry.local/team/app:{count}")));
        let url = format!("{}{}", store.url, extension_path("team/app", &digest));
        let mut command = tools::command("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--data", &body]);
        tools::run(command.args(credential).arg(&url)).line().to_owned()
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(put(&["-H", &bearer(&maker)]), "201");
    // As in the seed: http://<user>:<token>@<registry>.
    assert_eq!(put(&["-u", &format!("anybody:{maker}")]), "201");
    assert_eq!(put(&["-H", &bearer(&stranger)]), "403");
    assert_eq!(put(&["-u", &format!("store-test-maker:{stranger}")]), "403");
    assert_eq!(put(&["-H", &bearer("no.such.token")]), "401");
    assert_eq!(put(&["-H", &bearer(&format!("{maker}x"))]), "401");
    assert_eq!(put(&[]), "401");
    // The role is taken away: answers are remembered for ten seconds.
    cluster.kubectl(&["delete", "clusterrolebinding", "store-test-signer"]).succeeded();
    std::thread::sleep(std::time::Duration::from_secs(11));
    assert_eq!(put(&["-H", &bearer(&maker)]), "403");
    let log = store.log();
    assert!(log.contains("system:serviceaccount:default:store-test-maker") && log.contains("by=kubernetes"), "{log}");
    for token in [&maker, &stranger] {
        assert!(!log.contains(token.as_str()), "a token is logged");
    }
    assert_eq!(std::fs::read_dir(store.folder("team/app", &digest)).unwrap().count(), 4, "two signatures, two names");
}

crate::tests! {
    needs [Cluster];
    tokens_write_by_the_role_and_by_nothing_else,
}
