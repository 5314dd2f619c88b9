//! Registries and what is pushed to them.

use crate::support::registry::{Auth, Options, Registry, docker_config};
use crate::support::tools;

fn pushed_images_differ_and_an_index_names_its_children() {
    for registry in [Registry::start(), Registry::debian()] {
        let (a, b) = (registry.push("alt/a:1"), registry.push("alt/b:1"));
        assert_ne!(a.digest, b.digest);
        let index = registry.push_index("alt/i:1", &[&a]);
        let json: serde_json::Value = serde_json::from_slice(&registry.manifest(&index)).unwrap();
        assert_eq!(json["manifests"][0]["digest"], a.digest);
        let copy = registry.copy(&a, "other/c:2");
        assert_eq!(registry.crane(&["digest", &copy.tagged()]).succeeded().line(), a.digest);
        registry.forget();
        registry.manifest(&a);
        assert_eq!(registry.count("GET", &format!("alt/a/manifests/{}", a.digest)), 1, "{:?}", registry.requests());
    }
}

fn registry_with_tls_and_tokens_knows_its_users() {
    for auth in [Auth::Token, Auth::Basic] {
        let users = vec!["reader:secret:alt".to_owned()];
        let registry = Registry::with(&Options { tls: true, auth, users, ..Options::default() });
        let image = registry.push("alt/a:1");
        registry.push("private/a:1");
        registry.crane(&["digest", &image.tagged()]).succeeded();
        let as_reader = |name: &str| {
            let config = docker_config(&[(&registry.host, "reader", "secret")]);
            tools::run(registry.client("crane").env("DOCKER_CONFIG", config).args(["digest", name]))
        };
        as_reader(&image.tagged()).succeeded();
        as_reader(&format!("{}/private/a:1", registry.host)).failed();
        assert!(registry.requests().iter().any(|r| r.authorized == Some(true) && r.status == 200));
    }
}

crate::tests! {
    needs [Registry, DebianRegistry];
    pushed_images_differ_and_an_index_names_its_children,
    registry_with_tls_and_tokens_knows_its_users,
}
