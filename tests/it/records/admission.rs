//! A record decides nothing.

use serde_json::json;

use super::world::{World, records};
use crate::support::cluster::{Cluster, User};
use crate::support::podseal::Podseal;

crate::tests! {
    needs [Cluster, Registry, Store, Gpg];
    b2_a_record_that_says_verified_admits_nothing,
}

fn b2_a_record_that_says_verified_admits_nothing() {
    let world = World::shared();
    let (unsigned, signed) = (world.image("forged"), world.signed("admitted"));
    let cluster = Cluster::shared();
    let namespace = cluster.namespace(Podseal::shared(), "records");
    namespace.secret("gpg-key", &[("maker.pgp", &world.gpg.export(&[&world.maker]))]);
    namespace.policy(
        "p",
        &format!(
            "- {{registry: '{}', signCheck: true, insecure: true, gpgKeyRef: k8s://{}/gpg-key, lookaside: '{}'}}",
            unsigned.host, namespace.name, world.store.url
        ),
    );
    // By hand, and with the very signature of another image.
    world.save(User::Admin, &signed, &[]).succeeded();
    let mut forged = records(&signed).remove(0);
    let name = format!("sha256-{}-{}", unsigned.hex(), "0".repeat(32));
    forged["metadata"] = json!({"name": name});
    forged["spec"]["image"] = unsigned.digest.as_str().into();
    cluster.kubectl_as(User::Admin, &["create", "-f", "-"], &forged.to_string()).succeeded();
    forged["status"]["identity"] = unsigned.tagged().into();
    cluster.kubectl_as(User::Admin, &["replace", "--subresource=status", "-f", "-"], &forged.to_string()).succeeded();
    let shown = cluster.kubectl(&["get", "imgsig", &name]).succeeded().stdout;
    assert!(shown.contains("True"), "{shown}");

    let denied = namespace.run("forged", &unsigned.tagged()).failed();
    assert!(denied.stderr.contains("no signature for"), "{denied}");
    assert!(!namespace.has_pod("forged"));
    // Nor does one keep out what is signed.
    let saved = world.save_by(User::Admin, &world.other_file, &signed.tagged(), &signed, &[]);
    assert_eq!((saved.code, records(&signed).len()), (Some(1), 0));
    namespace.run("signed", &signed.tagged()).succeeded();
}
