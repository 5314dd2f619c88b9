//! Three makers of one cluster: each signs for its path, and a signature serves every registry that policy says it serves.

use serde_json::json;

use super::world::{Served, Server, Signer, containers, pull, sign};
use crate::imagemaker::cluster::World;
use crate::imagemaker::nodes::nodes_files;
use crate::imagemaker::world::Host;
use crate::support::registry::Registry;

crate::tests! {
    needs [Cluster, Gpg, Registry, Store];
    each_path_takes_the_signatures_of_its_own_maker_alone,
    one_signature_serves_two_registries_where_policy_says_so,
}

/// `immkk8s@registry.local/k8s-c10f1 imklocal@registry.local immkalt@registry.altlinux.org`, with other hosts.
fn three(host: &Host, local: &Registry, other: &Registry, store: &Served) {
    let names = [
        format!("immkk8s@{}/k8s-c10f1", local.host),
        format!("imklocal@{}", local.host),
        format!("immkalt@{}", other.host),
    ];
    // The addresses tell apart whose key it is.
    for (name, mail) in names.iter().zip(["immkk8s", "imklocal", "immkalt"]) {
        let mail = format!("{mail}@registry.local");
        host.create_for(&[name, "--email", &mail], &format!("{}/sigstore/", store.url));
    }
}

fn each_path_takes_the_signatures_of_its_own_maker_alone() {
    for (signer, server) in [(Signer::Skopeo, Server::Nginx), (Signer::Podseal, Server::Podseal)] {
        let (host, local, other) = (Host::new(), Registry::start(), Registry::start());
        for folder in ["keys", "sigstore"] {
            std::fs::create_dir_all(host.dir.join(folder)).unwrap();
        }
        let served = Served::start(server, &host.dir);
        three(&host, &local, &other, &served);
        let clients = nodes_files(&host);
        let world = World::new(&host.dir.join("keys"));
        host.run(&["policy", "--apply", "--kubeconfig", &world.kubeconfig()]).succeeded();
        let registries_d = clients.join("registries.d");

        let pause = local.push("k8s-c10f1/pause:3.9");
        sign(signer, &host, "imklocal@registry.local", &pause, &registries_d);
        pull(&clients, &pause.tagged()).failed();
        let untrusted = host.key("imklocal").fingerprint;
        let answer = |text: &str| text.contains("untrusted key") && text.contains(&untrusted);
        world.wait("signed by imklocal it is refused", &pause.tagged(), |found| {
            !found.allowed && answer(&found.message)
        });
        world.run("by-imklocal", &pause.tagged()).failed();
        sign(signer, &host, "immkk8s@registry.local", &pause, &registries_d);
        pull(&clients, &pause.tagged()).succeeded();
        world.wait("signed by immkk8s it is accepted", &pause.tagged(), |found| found.allowed);
        world.run("by-immkk8s", &pause.tagged()).succeeded();

        // The other way round, and the third one.
        for (registry, name, by, accepted) in [
            (&local, "alt/a:1", "imklocal", true),
            (&local, "alt/b:1", "immkk8s", false),
            (&other, "alt/c:1", "immkalt", true),
            (&other, "k8s-c10f1/d:1", "immkk8s", false),
        ] {
            let image = registry.push(name);
            sign(signer, &host, &format!("{by}@registry.local"), &image, &registries_d);
            assert_eq!(pull(&clients, &image.tagged()).ok(), accepted, "{name} by {by}");
            let pod = format!("{}-by-{by}", name.split(['/', ':']).nth(1).unwrap());
            assert_eq!(world.run(&pod, &image.tagged()).ok(), accepted, "{name} by {by}");
        }
    }
}

fn one_signature_serves_two_registries_where_policy_says_so() {
    let (host, local, other) = (Host::new(), Registry::start(), Registry::start());
    for folder in ["keys", "sigstore"] {
        std::fs::create_dir_all(host.dir.join(folder)).unwrap();
    }
    let served = Served::start(Server::Podseal, &host.dir);
    three(&host, &local, &other, &served);
    let clients = nodes_files(&host);
    let world = World::new(&host.dir.join("keys"));
    host.run(&["policy", "--apply", "--kubeconfig", &world.kubeconfig()]).succeeded();
    let here = local.push("k8s-c10f1/pause:3.9");
    let there = other.copy(&here, "k8s-c10f1/pause:3.9");
    sign(Signer::Podseal, &host, "immkk8s@registry.local", &here, &clients.join("registries.d"));
    world.wait("it is accepted where it was signed", &here.tagged(), |found| found.allowed);
    // The store knows no hosts, so the signature is found there, too; the other registry is immkalt's, though.
    pull(&clients, &there.tagged()).failed();
    assert!(!world.run("there", &there.tagged()).ok());

    // By immkk8s's key, as what it is called where it was signed.
    let key = host.key_file("immkk8s");
    let remap = json!({"type": "remapIdentity", "prefix": other.host, "signedPrefix": local.host});
    let mut policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(clients.join("policy.json")).unwrap()).unwrap();
    let scope = format!("{}/k8s-c10f1", other.host);
    let mut rule = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": key});
    let registries_d = std::fs::read_to_string(clients.join("registries.d/default.yaml")).unwrap();
    let mut entry = json!({
        "registry": scope,
        "signCheck": true,
        "insecure": true,
        "gpgKeyRef": "k8s://registry-system/sigstore-key-immkk8s",
        "lookaside": format!("{}/sigstore/", served.url),
    });
    for (remapped, accepted) in [(false, false), (true, true)] {
        if remapped {
            rule["signedIdentity"] = remap.clone();
            entry["signedIdentity"] = remap.clone();
        }
        policy["transports"]["docker"][&scope] = json!([rule]);
        assert_eq!(pull(&containers(&policy, &registries_d), &there.tagged()).ok(), accepted, "remapped: {remapped}");
        let object = json!({
            "apiVersion": "tmax.io/v1",
            "kind": "ClusterRegistrySecurityPolicy",
            "metadata": {"name": "mirror"},
            "spec": {"registries": [entry]},
        });
        world.cluster.apply(&object.to_string()).succeeded();
        world.wait("the entry decides", &there.tagged(), |found| {
            found.allowed == accepted && (accepted || found.message.contains("is signed under another name"))
        });
        assert_eq!(world.run(&format!("there-{remapped}"), &there.tagged()).ok(), accepted);
    }
}
