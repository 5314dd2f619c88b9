//! Against the shared API server: who may do what, whose Secrets and credentials count, and how soon a change acts.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Namespace, OWN_NAMESPACE, User};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::within;
use crate::support::registry::{self, Auth, Image, Registry, docker_config_json};
use crate::support::review::Review;
use crate::support::signer::{CosignKey, Format};

fn namespace(hint: &str) -> Namespace<'static> {
    Cluster::shared().namespace(Podseal::shared(), hint)
}

/// An entry that asks for a cosign signature by the key of a Secret, `namespace/name`.
fn entry(registry: &Registry, secret: &str) -> String {
    format!("- {{registry: '{}', signCheck: true, insecure: true, cosignKeyRef: 'k8s://{secret}'}}", registry.host)
}

/// A registry with a signed image, and the key.
fn signed(options: &registry::Options) -> (Registry, Image, CosignKey) {
    let (registry, key) = (Registry::with(options), CosignKey::new());
    let image = registry.push("alt/a:1");
    key.sign(&registry, &image, Format::Legacy, &[]).succeeded();
    (registry, image, key)
}

fn b1_mirror_pods_are_made_by_nodes_alone() {
    let namespace = namespace("mirror");
    namespace.policy("none", "[]");
    // No controller fills the roles that come with the API server.
    namespace.kubectl(&["create", "role", "pods", "--verb=create", "--resource=pods"]).succeeded();
    for (name, user) in [("node", User::Node), ("alice", User::Alice)] {
        let user = format!("--user={}", user.name());
        namespace.kubectl(&["create", "rolebinding", name, "--role=pods", &user]).succeeded();
    }
    let pod = |name: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n\
             spec: {{nodeName: node-1, containers: [{{name: c, image: 'unnamed.invalid/x:1'}}]}}\n"
        )
    };
    let mirror = "kubernetes.io/config.mirror: abc, kubernetes.io/config.source: file";
    let create = |user, text: &str| namespace.kubectl_as(user, &["create", "-f", "-"], text);
    create(User::Node, &pod("static", mirror)).succeeded();
    for (user, text) in
        [(User::Node, pod("plain", "")), (User::Alice, pod("forged", mirror)), (User::Admin, pod("admin", mirror))]
    {
        let ran = create(user, &text).failed();
        assert!(ran.stderr.contains("denied the request"), "{ran}");
    }
}

fn b12_what_is_not_compliant_any_more_can_be_deleted() {
    let namespace = namespace("deletion");
    let old = "old.invalid/x:1";
    namespace.policy("p", "- {registry: old.invalid, signCheck: false}");
    namespace.run("old", old).succeeded();
    namespace.policy("p", "[]");
    namespace.run("new", old).failed();
    namespace.kubectl(&["annotate", "pod", "old", "a=b"]).succeeded();
    namespace.kubectl(&["delete", "pod", "old", "--grace-period=0", "--force"]).succeeded();
    assert!(!namespace.has_pod("old"));
}

fn f2_a_replaced_key_acts_at_once_in_the_own_namespace_and_soon_elsewhere() {
    let (registry, image, key) = signed(&registry::Options::default());
    let (cluster, other) = (Cluster::shared(), CosignKey::new());
    let synced = "sigstore-key-negatives";
    let put_own = |key: &CosignKey| {
        cluster.secret(OWN_NAMESPACE, synced, &[("cosign.pub", key.public.as_bytes())]);
        cluster
            .kubectl(&["-n", OWN_NAMESPACE, "label", "secret", synced, "podseal.io/key-file=a", "--overwrite"])
            .succeeded();
    };
    put_own(&key);
    let elsewhere = namespace("key-elsewhere");
    let own = namespace("key-own");
    elsewhere.secret("key", &[("cosign.pub", key.public.as_bytes())]);
    elsewhere.policy("p", &entry(&registry, &format!("{}/key", elsewhere.name)));
    own.policy("p", &entry(&registry, &format!("{OWN_NAMESPACE}/{synced}")));
    let allowed = |namespace: &Namespace<'_>| {
        Podseal::shared().review(&Review::pod(&namespace.name).container("c", &image.tagged())).allowed
    };
    let delay = |what: &str, namespace: &Namespace<'_>, wanted: bool, limit: u64| {
        let started = Instant::now();
        let seen = within(Duration::from_secs(60), || (allowed(namespace) == wanted).then(|| started.elapsed()));
        let seen = seen.unwrap_or_else(|| panic!("{what}: never"));
        eprintln!("{what}: {seen:?}");
        assert!(seen < Duration::from_secs(limit), "{what}: {seen:?}");
    };
    for namespace in [&elsewhere, &own] {
        assert!(within(Duration::from_secs(30), || allowed(namespace).then_some(())).is_some());
    }
    for (new, wanted) in [(&other, false), (&key, true)] {
        put_own(new);
        // The machine may be busy; without other work it is some milliseconds.
        delay("a key in podseal's namespace", &own, wanted, 10);
        elsewhere.secret("key", &[("cosign.pub", new.public.as_bytes())]);
        delay("a key in another namespace", &elsewhere, wanted, 17);
    }
    elsewhere.kubectl(&["delete", "secret", "key"]).succeeded();
    delay("a deleted key", &elsewhere, false, 17);
    cluster.kubectl(&["-n", OWN_NAMESPACE, "delete", "secret", synced]).succeeded();
    delay("a deleted key in podseal's namespace", &own, false, 10);
}

fn i6_i7_a_secret_elsewhere_is_not_hinted_at() {
    let registry = Registry::start();
    let image = registry.push("alt/a:1");
    let (namespace, foreign) = (namespace("curious"), namespace("foreign"));
    foreign.secret("exists", &[("cosign.pub", CosignKey::new().public.as_bytes())]);
    Cluster::shared().secret(OWN_NAMESPACE, "plain", &[("cosign.pub", b"x")]);
    let said = |secret: &str| {
        namespace.policy("p", &entry(&registry, secret));
        let ran = namespace.run("a", &image.pinned()).failed();
        namespace.said(&ran).replace(secret, "SECRET").replace(&foreign.name, "FOREIGN")
    };
    let first = said(&format!("{}/exists", foreign.name));
    assert!(first.contains("cannot be used"), "{first}");
    let rest = [
        format!("{}/missing", foreign.name),
        "no-such-namespace/missing".to_owned(),
        "kube-system/missing".to_owned(),
        format!("{OWN_NAMESPACE}/plain"),
        format!("{OWN_NAMESPACE}/missing"),
    ];
    for secret in rest {
        assert_eq!(said(&secret), first, "{secret}");
    }
}

fn i4_a_whitelist_in_another_namespace_exempts_nothing() {
    let namespace = namespace("whitelist");
    namespace.policy("none", "[]");
    namespace
        .apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: image-validation-webhook-whitelist}}\n\
             data: {{whitelist-images: '*', whitelist-namespaces: '{}'}}\n",
            namespace.name
        ))
        .succeeded();
    // As long as the right one takes to act, and longer.
    std::thread::sleep(Duration::from_secs(2));
    let ran = namespace.run("a", "unnamed.invalid/x:1").failed();
    assert!(ran.stderr.contains("no policy names the registry"), "{ran}");
}

fn f9_g4_g16_one_tenants_credentials_serve_no_other() {
    for auth in [Auth::Token, Auth::Basic] {
        let users = vec!["tenant:tenants-word:alt".to_owned()];
        let (registry, image, key) = signed(&registry::Options { auth, users, ..registry::Options::default() });
        let (rich, poor) = (namespace("rich"), namespace("poor"));
        for namespace in [&rich, &poor] {
            namespace.secret("key", &[("cosign.pub", key.public.as_bytes())]);
            namespace.policy("p", &entry(&registry, &format!("{}/key", namespace.name)));
        }
        let config = docker_config_json(&[(&registry.host, "tenant", "tenants-word")]);
        rich.secret("pull", &[(".dockerconfigjson", config.as_bytes())]);
        let wrong = docker_config_json(&[(&registry.host, "tenant", "wrong-word")]);
        poor.secret("wrong", &[(".dockerconfigjson", wrong.as_bytes())]);
        let review = |namespace: &Namespace<'_>, image: &str, pull: &str| {
            Podseal::shared().review(&Review::pod(&namespace.name).container("c", image).pull_secret(pull))
        };
        for name in [image.pinned(), image.tagged()] {
            let answer = review(&rich, &name, "pull");
            assert!(answer.allowed, "{auth:?} {answer:?}");
            for pull in ["pull", "wrong"] {
                let answer = review(&poor, &name, pull);
                assert!(!answer.allowed && answer.code == 503, "{auth:?} {answer:?}");
                assert!(!answer.json.to_string().contains("-word"), "{answer:?}");
            }
        }
        // Without credentials of its own, nothing is sent at all: neither the other tenant's nor podseal's own token.
        registry.forget();
        let answer = review(&poor, &format!("{}/alt/b:1", registry.host), "pull");
        assert!(!answer.allowed, "{answer:?}");
        let seen = registry.requests();
        let succeeded = seen.iter().any(|r| r.status == 200 && r.path.starts_with("/v2/alt"));
        assert!(!seen.is_empty() && !succeeded, "{auth:?} {seen:?}");
        if auth == Auth::Basic {
            assert!(seen.iter().all(|r| r.authorized == Some(false)), "{seen:?}");
        }
    }
}

fn i15_lists_that_are_forbidden_decide_nothing() {
    let alice = Options { user: User::Alice, ..Options::new("powerless") };
    let podseal = Podseal::launch(Cluster::shared(), &alice);
    let ready = podseal.url("/readyz");
    let reply = podseal.process().wait_ready(|_| podseal.http().get(&ready).ok());
    assert_eq!(reply.status, 503, "{}", reply.text());
    for namespace in ["default", "anything"] {
        let answer = podseal.review(&Review::pod(namespace).container("c", "nginx"));
        assert!(!answer.allowed && answer.code == 503, "{answer:?}");
        assert!(answer.message.contains("does not know these objects of the cluster yet"), "{answer:?}");
    }
    let watched = within(Duration::from_secs(30), || podseal.log().contains("Forbidden").then_some(()));
    assert!(watched.is_some(), "{}", podseal.log());
    let reply = podseal.http().get(&ready).unwrap();
    assert!(reply.status == 503 && reply.text().contains("clusterregistrysecuritypolicies"), "{}", reply.text());
}

fn j7_j8_the_log_names_image_digest_pod_policy_and_method() {
    let (registry, image, key) = signed(&registry::Options::default());
    let namespace = namespace("logged");
    namespace.secret("key", &[("cosign.pub", key.public.as_bytes())]);
    namespace.policy("p", &entry(&registry, &format!("{}/key", namespace.name)));
    let review =
        Review::pod(&namespace.name).container("c", &image.tagged()).container("d", "forged\nlevel=error.invalid/x");
    assert!(!Podseal::shared().review(&review).allowed);
    let line = within(Duration::from_secs(10), || {
        let log = Podseal::shared().log();
        log.lines().find(|line| line.contains(&image.tagged())).map(str::to_owned)
    });
    let line = line.unwrap();
    for part in [
        &image.tagged(),
        &image.digest,
        &namespace.name,
        "\"reviewed\"",
        &format!("RegistrySecurityPolicy/{}/p", namespace.name),
        "cosign",
        "spec.containers[1].image=forged",
    ] {
        assert!(line.to_lowercase().contains(&part.to_lowercase()), "{part} in {line}");
    }
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(json.is_object());
}

crate::tests! {
    needs [Cluster, Registry, Cosign];
    b1_mirror_pods_are_made_by_nodes_alone,
    b12_what_is_not_compliant_any_more_can_be_deleted,
    f2_a_replaced_key_acts_at_once_in_the_own_namespace_and_soon_elsewhere,
    i6_i7_a_secret_elsewhere_is_not_hinted_at,
    i4_a_whitelist_in_another_namespace_exempts_nothing,
    f9_g4_g16_one_tenants_credentials_serve_no_other,
    i15_lists_that_are_forbidden_decide_nothing,
    j7_j8_the_log_names_image_digest_pod_policy_and_method,
}
