//! The support layer by itself: the servers run, the signers sign, and the field's own tools accept what they made.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::{Cluster, User};
use crate::support::process::Process;
use crate::support::registry::{Auth, Options, Registry};
use crate::support::signer::{CosignKey, Format, Gpg, KeyKind, KeySpec, Payload, SignSpec, Skopeo};
use crate::support::store::{Store, registries_d};
use crate::support::text::{assert_text, normal};
use crate::support::tools;

mod cluster {
    use super::*;

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
}

mod images {
    use super::*;

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
                let config = crate::support::registry::docker_config(&[(&registry.host, "reader", "secret")]);
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
}

mod gpg {
    use super::*;

    fn skopeo_accepts_what_was_signed_into_the_store_and_nothing_else() {
        let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
        let key = gpg.generate(&KeySpec::new("Image Maker <immkk8s@registry.local>"));
        let other = gpg.generate(&KeySpec { algorithm: "rsa3072", ..KeySpec::new("Other <other@registry.local>") });
        let (signed, unsigned) = (registry.push("alt/a:1"), registry.push("alt/b:1"));
        let staging = format!("file://{}", store.folder().display());
        let writer = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
        writer.sign(&registry, &signed, &key).succeeded();
        assert!(store.file(&signed, 1).is_file());

        let reader = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &store.url)]) };
        let keys = gpg.export_file(&[&key]);
        reader.accepts(&registry, &signed.tagged(), &keys, None).succeeded();
        reader.accepts(&registry, &unsigned.tagged(), &keys, None).failed();
        reader.accepts(&registry, &signed.tagged(), &gpg.export_file(&[&other]), None).failed();
        let found = format!("/{}@sha256={}/signature-1", signed.repository, signed.hex());
        assert!(store.requests().iter().any(|r| r.path.ends_with(&found) && r.status == 200), "{:?}", store.requests());
    }

    fn names_other_than_the_image_are_accepted_only_where_the_identity_rule_says_so() {
        let (registry, store, gpg) = (Registry::start(), Store::start(), Gpg::new());
        let key = gpg.generate(&KeySpec::new("a@registry.local"));
        let image = registry.push("alt/a:1");
        let staging = format!("file://{}", store.folder().display());
        let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[(&registry.host, &staging)]) };
        skopeo.sign_under(&registry, &image, &key, "registry.local/alt/a:1").succeeded();
        let keys = gpg.export_file(&[&key]);
        skopeo.accepts(&registry, &image.tagged(), &keys, None).failed();
        let remap = json!({"type": "remapIdentity", "prefix": registry.host, "signedPrefix": "registry.local"});
        skopeo.accepts(&registry, &image.tagged(), &keys, Some(remap)).succeeded();
    }

    fn raw_signatures_by_subkeys_and_at_other_times_verify() {
        let (registry, gpg) = (Registry::start(), Gpg::new());
        let at = Some("20240101T000000");
        let spec = KeySpec { usage: "cert", at, ..KeySpec::new("a@registry.local") };
        let primary = gpg.generate(&spec);
        let subkey = gpg.add_subkey(&primary, "ed25519", "sign", "never", at);
        assert_ne!(primary, subkey);
        let image = registry.push("alt/a:1");
        let payload = Payload::new(&image.digest, &image.tagged()).bytes();
        let sign = SignSpec { at: Some("20240201T000000"), ..SignSpec::default() };
        let file = crate::support::scratch::folder("sig").join("signature-1");
        std::fs::write(&file, gpg.sign_with(&subkey, &payload, &sign)).unwrap();
        let skopeo = Skopeo { gpg: &gpg, registries_d: registries_d(&[]) };
        let manifest = registry.manifest(&image);
        skopeo.verifies(&manifest, &image.tagged(), &subkey, &file).succeeded();
        skopeo.verifies(&manifest, "registry.local/alt/a:1", &subkey, &file).failed();
    }

    fn revoked_and_expired_keys_are_what_they_say() {
        let gpg = Gpg::new();
        let state = |key: &crate::support::signer::GpgKey| {
            let listed = gpg.gpg(None, &["--with-colons", "--list-keys", &key.fingerprint], b"").succeeded().stdout;
            listed.lines().find_map(|line| line.strip_prefix("pub:")).unwrap().chars().next().unwrap()
        };
        let key = gpg.generate(&KeySpec::new("good@registry.local"));
        assert_eq!(state(&key), 'u');
        gpg.revoke(&key);
        assert_eq!(state(&key), 'r');
        let retired = gpg.generate(&KeySpec::new("retired@registry.local"));
        gpg.retire(&retired);
        assert_eq!(state(&retired), 'r');
        let at = Some("20240101T000000");
        let expired = gpg.generate(&KeySpec { expires: "30d", at, ..KeySpec::new("old@registry.local") });
        assert_eq!(state(&expired), 'e');
        gpg.set_expiry(&expired, "0", None);
        assert_eq!(state(&expired), 'u');
        gpg.add_user_id(&expired, "second@registry.local");
        gpg.revoke_user_id(&expired, "second@registry.local");
        assert!(gpg.export_armored(&[&key, &expired]).starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    }

    crate::tests! {
        needs [Registry, Gpg, Store];
        skopeo_accepts_what_was_signed_into_the_store_and_nothing_else,
        names_other_than_the_image_are_accepted_only_where_the_identity_rule_says_so,
        raw_signatures_by_subkeys_and_at_other_times_verify,
        revoked_and_expired_keys_are_what_they_say,
    }
}

mod cosign {
    use super::*;

    fn cosign_accepts_both_formats_and_their_annotations() {
        for registry in [Registry::tls(), Registry::debian()] {
            let (key, other) = (CosignKey::new(), CosignKey::new());
            for format in Format::ALL {
                let image = registry.push("alt/a:1");
                key.verify(&registry, &image, format, &[]).failed();
                key.sign(&registry, &image, format, &["signer=im@registry.local"]).succeeded();
                key.verify(&registry, &image, format, &["signer=im@registry.local"]).succeeded();
                key.verify(&registry, &image, format, &["signer=other"]).failed();
                other.verify(&registry, &image, format, &[]).failed();
            }
        }
    }

    fn keys_of_every_kind_sign() {
        let registry = Registry::start();
        for kind in [KeyKind::P384, KeyKind::P521, KeyKind::Rsa(3072), KeyKind::Ed25519] {
            let key = CosignKey::of(kind);
            assert!(key.public.starts_with("-----BEGIN PUBLIC KEY-----"));
            let image = registry.push("alt/a:1");
            key.sign(&registry, &image, Format::Legacy, &[]).succeeded();
            if kind != KeyKind::Ed25519 {
                key.verify(&registry, &image, Format::Legacy, &[]).succeeded();
            }
        }
    }

    crate::tests! {
        needs [Registry, DebianRegistry, Cosign];
        cosign_accepts_both_formats_and_their_annotations,
        keys_of_every_kind_sign,
    }
}

/// What needs no server.
mod support {
    use super::*;

    fn texts_are_comparable() {
        let digest = "a".repeat(64);
        let text = format!("at 127.0.0.1:4711/alt/a@sha256:{digest} in ns-7\n  sha256:abc \n\n");
        assert_text(&normal(&text, &[("ns-7", "NS")]), "at 127.0.0.1:PORT/alt/a@sha256:DIGEST in NS\n  sha256:abc");
    }

    fn processes_end_when_told() {
        let process = Process::spawn("sleep", std::process::Command::new("sleep").arg("1000"));
        assert!(process.ended().is_none());
        process.signal("TERM");
        assert!(process.ended_within(Duration::from_secs(10)).is_some_and(|status| !status.success()));
    }

    crate::tests! { needs []; texts_are_comparable, processes_end_when_told }
}

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [support::trials(), images::trials(), gpg::trials(), cosign::trials(), cluster::trials()]
        .into_iter()
        .flatten()
        .collect()
}
