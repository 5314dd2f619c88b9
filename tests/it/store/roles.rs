//! Who may write, by the roles of a real API server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(put(&["-H", &bearer(&maker)]), "403");
    let log = store.log();
    assert!(log.contains("system:serviceaccount:default:store-test-maker") && log.contains("by=kubernetes"), "{log}");
    for token in [&maker, &stranger] {
        assert!(!log.contains(token.as_str()), "a token is logged");
    }
    assert_eq!(std::fs::read_dir(store.folder("team/app", &digest)).unwrap().count(), 4, "two signatures, two names");
}

/// How often the API server was asked whose a token is.
fn reviews(cluster: &Cluster) -> u64 {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).succeeded().stdout.clone();
    let of_reviews = |line: &&str| line.starts_with("apiserver_request_total{") && line.contains("\"tokenreviews\"");
    let count = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
    metrics.lines().filter(of_reviews).filter_map(count).sum::<u64>()
}

fn invented_tokens_of_one_client_keep_no_signer_out_and_the_api_server_at_rest() {
    let cluster = Cluster::shared();
    cluster.apply(FLOODED).succeeded();
    let made = cluster.kubectl(&["create", "token", "flooded-maker", "--namespace", "default"]);
    let token = made.succeeded().line().to_owned();
    let kubeconfig = cluster.kubeconfig(User::Admin);
    let dir = scratch::folder("flooded").join("sigstore");
    let args = ["--kubernetes-auth", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let store = Store::with(&dir, &args, "http", Http::trusting(""));
    let (digest, signer) = (image("flooded"), Maker::new("maker@example.org"));
    let url = format!("{}{}", store.url, extension_path("team/app", &digest));
    let before = reviews(cluster);
    let (asked, end) = (AtomicUsize::new(0), Instant::now() + Duration::from_secs(6));
    let uploads = std::thread::scope(|scope| {
        for client in 0..8 {
            let (asked, url, store) = (&asked, &url, &store);
            scope.spawn(move || {
                while Instant::now() < end {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    let bearer = format!("Bearer eyJhbGciOiJub25lIn0.{client}x{number}.c2ln");
                    let headers = [("authorization", &*bearer)];
                    let status = store.http.send(reqwest::Method::PUT, url, &headers, Vec::new()).unwrap().status;
                    assert!(matches!(status, 401 | 429), "{status}");
                }
            });
        }
        let mut uploads = Vec::new();
        while Instant::now() < end {
            let number = uploads.len();
            let name = format!("{number:032}");
            let body = document(&digest, &name, &signer.sign(&digest, &format!("registry.local/team/app:{number}")));
            let mut command = tools::command("curl");
            command.args(["-s", "--interface", "127.0.0.2", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT"]);
            command.args(["-m", "3", "-H", &format!("Authorization: Bearer {token}"), "--data", &body, &url]);
            uploads.push(tools::run(&mut command).line().to_owned());
            std::thread::sleep(Duration::from_millis(500));
        }
        uploads
    });
    let (asked, reviews) = (asked.into_inner(), reviews(cluster) - before);
    assert!(uploads.len() > 3 && uploads.iter().all(|status| status == "201"), "{uploads:?}");
    // Twenty at once and one a second, and the signer's own.
    assert!(asked > 200 && reviews <= 40, "{reviews} reviews of {asked} tokens");
    assert!(reviews >= 20, "{reviews}: nothing was counted");
}

const FLOODED: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: flooded-maker, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flooded-signer}
rules:
- {apiGroups: [podseal.io], resources: [imagesignatures], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flooded-signer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flooded-signer}
subjects: [{kind: ServiceAccount, name: flooded-maker, namespace: default}]
";

crate::tests! {
    needs [Cluster];
    invented_tokens_of_one_client_keep_no_signer_out_and_the_api_server_at_rest,
    tokens_write_by_the_role_and_by_nothing_else,
}
