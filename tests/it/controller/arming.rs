//! When API servers begin to ask podseal, and that they go on.

use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{World, soon};
use crate::support::cluster::Cluster;

crate::tests! {
    needs [Cluster];
    h7_nothing_is_armed_before_the_webhook_answers_in_whatever_order_things_come,
    h26_everything_gone_behind_a_stale_configuration_comes_back_by_itself,
    edits_are_healed_while_somebody_answers_and_left_alone_while_nobody_does,
    a_configuration_that_does_not_exist_is_not_made,
    the_whitelist_is_made_where_there_is_none_and_never_changed,
}

fn h7_nothing_is_armed_before_the_webhook_answers_in_whatever_order_things_come() {
    let world = World::new(Cluster::shared(), "order");
    // The webhook first: it has no certificate, says so, and waits.
    let webhook = world.webhook();
    webhook.until_not_ready("the Secret podseal-tls does not exist");
    let controller = world.controller("controller", &[]);
    let made = Instant::now();
    webhook.until_ready();
    eprintln!("the webhook had its certificate {:.1?} after the controller started", made.elapsed());
    controller.until_not_ready("does not exist");
    world.install_shells();
    controller.until_not_ready("has no entries yet");
    world.endpoint(false);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(world.entries().len(), 0, "nobody is ready");
    world.run(&world.judged, "other.invalid/x").succeeded();
    world.endpoint(true);
    let ready = Instant::now();
    controller.until_ready();
    eprintln!("armed {:.1?} after the first endpoint was ready", ready.elapsed());
    assert_eq!(world.entries().len(), 1);
    soon("the API server asks", || {
        world.run(&world.judged, "other.invalid/x").stderr.contains("denied the request").then_some(())
    });
    world.run(&world.judged, "ok.invalid/x").succeeded();
    assert_eq!(controller.metric("podseal_webhooks_armed"), Some(1.0));
    assert!(world.events(&world.name).contains(&"Armed".to_owned()));
}

fn h26_everything_gone_behind_a_stale_configuration_comes_back_by_itself() {
    let world = World::new(Cluster::shared(), "cold");
    let (controller, webhook) = world.installed(&["--propagation", "1s"]);
    soon("the API server asks", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    // All replicas die, and the certificates with them; the configuration stays and fails closed.
    drop((controller, webhook));
    world.endpoint(false);
    world.cluster.kubectl(&["-n", &world.own, "delete", "secret", "podseal-tls", "podseal-tls-ca"]).succeeded();
    assert!(world.run(&world.judged, "ok.invalid/x").stderr.contains("failed calling webhook"));
    // What podseal itself and the cluster need to come up is not asked about.
    world.run(&world.own, "podseal.invalid/x").succeeded();
    world.run("kube-system", "dns.invalid/x").succeeded();
    let webhook = world.webhook();
    webhook.until_not_ready("podseal-tls");
    let controller = world.controller("controller", &["--propagation", "1s"]);
    let begun = Instant::now();
    webhook.until_ready();
    world.endpoint(true);
    soon("Pods run again", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    eprintln!("Pods ran again {:.1?} after the controller came back without any Secret", begun.elapsed());
    controller.until_ready();
}

fn edits_are_healed_while_somebody_answers_and_left_alone_while_nobody_does() {
    let world = World::new(Cluster::shared(), "edited");
    let (controller, _webhook) = world.installed(&[]);
    let entries = world.entries();
    let patch = |patch: serde_json::Value| {
        let args = ["patch", "validatingwebhookconfiguration", &world.name, "--type=json", "-p", &patch.to_string()];
        world.cluster.kubectl(&args).succeeded();
    };
    let edits = [
        json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        json!([{"op": "add", "path": "/webhooks/0/matchConditions", "value": [{"name": "never", "expression": "false"}]}]),
        json!([{"op": "replace", "path": "/webhooks/0/objectSelector", "value": {"matchLabels": {"judge": "me"}}}]),
        json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]),
        json!([{"op": "remove", "path": "/webhooks"}]),
    ];
    for edit in &edits {
        patch(edit.clone());
        let edited = Instant::now();
        soon(&format!("healed after {edit}"), || (world.entries() == entries).then_some(()));
        eprintln!("healed in {:.1?}", edited.elapsed());
    }
    assert!(world.events(&world.name).contains(&"Healed".to_owned()));
    // Nobody answers: whoever edits now has a reason.
    world.endpoint(false);
    patch(edits[0].clone());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(world.entries()[0]["failurePolicy"], "Ignore");
    controller.until_not_ready("is not as installed");
    world.endpoint(true);
    soon("healed", || (world.entries() == entries).then_some(()));
    // Another trust heals at any time, or nobody would ever answer again.
    world.endpoint(false);
    patch(edits[3].clone());
    soon("trust is healed", || (world.entries() == entries).then_some(()));
}

fn a_configuration_that_does_not_exist_is_not_made() {
    let world = World::new(Cluster::shared(), "uninstalled");
    let (controller, _webhook) = world.installed(&[]);
    for kind in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        world.cluster.kubectl(&["delete", kind, &world.name]).succeeded();
    }
    controller.until_not_ready("does not exist");
    std::thread::sleep(Duration::from_secs(5));
    assert!(world.configuration().is_null());
    assert!(controller.process.log().contains("does not exist and is not made"), "{}", controller.process.log());
    // Installed again, it is armed again.
    world.install_shells();
    controller.until_ready();
}

fn the_whitelist_is_made_where_there_is_none_and_never_changed() {
    const NAME: &str = "image-validation-webhook-whitelist";
    let world = World::new(Cluster::shared(), "whitelist");
    let _controller = world.bare_controller("controller", &[]);
    let made = soon("it is made", || Some(world.json(&["get", "configmap", NAME])).filter(|map| !map.is_null()));
    assert!(made["metadata"]["labels"].is_null() && made["metadata"]["ownerReferences"].is_null(), "{made}");
    for key in ["whitelist-images", "whitelist-namespaces"] {
        let text = made["data"][key].as_str().unwrap();
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }
    let theirs = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {NAME}, namespace: {}}}\ndata: {{whitelist-images: theirs}}\n",
        world.own
    );
    world.cluster.apply(&theirs).succeeded();
    world.cluster.kubectl(&["-n", &world.own, "label", "configmap", NAME, "a=b"]).succeeded();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.json(&["get", "configmap", NAME])["data"]["whitelist-images"], "theirs");
    world.cluster.kubectl(&["-n", &world.own, "delete", "configmap", NAME]).succeeded();
    soon("it is made again", || {
        let map = world.json(&["get", "configmap", NAME]);
        map["data"]["whitelist-images"].as_str().filter(|text| text.starts_with('#')).map(drop)
    });
}
