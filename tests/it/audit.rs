//! `--enforcement audit` on a real API server: Pods run, and everybody can see which would not.

use std::time::Duration;

use crate::support::cluster::{Cluster, WebhookScope};
use crate::support::podseal::{Options, Podseal};
use crate::support::process::{eventually, within};
use crate::support::registry::Registry;
use crate::support::review::Review;
use crate::support::signer::{CosignKey, Format};

fn an_unsigned_image_is_admitted_with_a_warning_and_counted() {
    let cluster = Cluster::shared();
    let enforcing = Podseal::start(cluster, &Options::new("audit-twin"));
    let auditing = Podseal::start(cluster, &Options::new("audit").args(&["--enforcement", "audit"]));
    cluster.register(&enforcing, WebhookScope::Namespaces);
    let webhooks = cluster.kubectl(&["get", "validatingwebhookconfiguration", "podseal-audit-twin", "-o", "yaml"]);
    let (registry, key) = (Registry::start(), CosignKey::new());
    let (signed, unsigned) = (registry.push("alt/signed:1"), registry.push("alt/unsigned:1"));
    key.sign(&registry, &signed, Format::Legacy, &[]).succeeded();
    let namespace = cluster.namespace(&enforcing, "audited");
    namespace.secret("key", &[("cosign.pub", key.public.as_bytes())]);
    let (host, name) = (&registry.host, &namespace.name);
    namespace.policy(
        "p",
        &format!("- {{registry: '{host}', signCheck: true, insecure: true, cosignKeyRef: k8s://{name}/key}}"),
    );
    let denied = namespace.run("bad", &unsigned.tagged()).failed();
    assert!(denied.stderr.contains("denied the request"), "{denied}");
    // The same API server, the same policies; the webhooks lead to the one that audits.
    let webhooks = webhooks.succeeded().stdout.replace(&enforcing.url(""), &auditing.url(""));
    let (old, new) = (enforcing.authority().bundle(), auditing.authority().bundle());
    cluster.apply(&webhooks.replace(&old, &new)).succeeded();
    eventually("the API server asks the other one", || {
        namespace.kubectl(&["run", "bad", &format!("--image={}", unsigned.tagged()), "--dry-run=server"]).ok()
    });
    let before = auditing.metric("podseal_would_deny_total", &["outcome=\"denied\""]);
    let ran = namespace.run("bad", &unsigned.tagged()).succeeded();
    let warning = "Warning: podseal would deny this: spec.containers[0].image; RegistrySecurityPolicy/";
    assert!(ran.stderr.contains(warning) && ran.stderr.contains("signature is empty"), "{ran}");
    assert!(namespace.has_pod("bad"));
    let counted = auditing.metric("podseal_would_deny_total", &["outcome=\"denied\""]);
    assert!((counted - before - 1.0).abs() < 0.1, "{before} {counted}");
    assert!(auditing.metric("podseal_reviews_total", &["outcome=\"denied\""]) < 0.1);
    let logged = within(Duration::from_secs(10), || {
        let log = auditing.log();
        log.lines().find(|line| line.contains("\"would\":\"denied\"") && line.contains(name)).map(str::to_owned)
    });
    let logged = logged.unwrap();
    assert!(logged.contains("\"outcome\":\"allowed\"") && logged.contains(&unsigned.tagged()), "{logged}");
    // What is signed is admitted without a word by either.
    let ran = namespace.run("good", &signed.tagged()).succeeded();
    assert!(!ran.stderr.contains("Warning"), "{ran}");
    let review = Review::pod(name).container("c", &unsigned.tagged());
    let (would, does) = (auditing.review(&review), enforcing.review(&review));
    assert!(would.allowed && !does.allowed);
    let annotations = &would.json["response"]["auditAnnotations"];
    assert_eq!(annotations["decision"], "would-deny");
    assert_eq!(annotations["would-deny"].as_str(), does.message.lines().nth(1));
    // A policy that cannot be used is refused all the same.
    let ran = namespace.apply(
        "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {name: bad}\n\
         spec: {registries: [{registry: 'r.io/*/x', signCheck: false}]}\n",
    );
    assert!(ran.failed().stderr.contains("spec.registries[0].registry"));
}

crate::tests! {
    needs [Cluster, Registry, Cosign];
    an_unsigned_image_is_admitted_with_a_warning_and_counted,
}
