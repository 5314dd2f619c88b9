//! The way of an administrator: install, protect, change, upgrade, uninstall.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, denied};
use crate::support::cluster::OWN_NAMESPACE;
use crate::support::process::within;
use crate::support::tools::Ran;

/// What the project aims at between an administrator's change and its effect.
const PROMPT: Duration = Duration::from_secs(2);
/// What a machine whose cores are all taken by other tests may make of it.
const LATE: Duration = Duration::from_secs(15);

fn helm_installs_what_protects_changes_live_upgrades_and_goes_without_a_trace_that_blocks() {
    let world = World::new();
    world.bind_owner();
    installs(&world);
    judges(&world);
    follows_the_whitelist(&world);
    follows_the_key_directory(&world);
    world.node.helm(&["test", "podseal", "-n", OWN_NAMESPACE, "--timeout=110s"]).succeeded();
    measures_idle_replicas(&world);
    upgrades(&world);
    uninstalls(&world);
}

fn installs(world: &World) {
    let cluster = world.cluster();
    world.helm("install", &[]).succeeded();
    world.node.wait_rollout(OWN_NAMESPACE, "podseal");
    let running = ["-n", OWN_NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=webhook"];
    let phases = [&running[..], &["-o", "jsonpath={.items[*].status.phase}"]].concat();
    assert_eq!(cluster.kubectl(&phases).succeeded().stdout, "Running Running");
    let put_together = ["get", "clusterrole", "podseal-image-user", "-o", "jsonpath={.rules[*].resources[*]}"];
    cluster.wait_for(&put_together, |resources| resources.contains("registrysecuritypolicies"));
}

fn judges(world: &World) {
    world.policy("maker");
    world.until("a policy acts", &world.unsigned, denied);
    world.run("signed", &world.signed, &[]).succeeded();
    world.node.wait_phase(&world.namespace, "signed", "Running");
    let refused = world.run("unsigned", &world.unsigned, &[]).failed();
    assert!(denied(&refused), "{refused}");
    assert!(refused.stderr.contains(&format!("Image '{}'", world.unsigned.pinned())), "{refused}");
    // A Deployment's Pods are refused as well, and who looks at it learns why.
    let cluster = world.cluster();
    let image = format!("--image={}", world.unsigned.pinned());
    cluster.kubectl(&["-n", &world.namespace, "create", "deployment", "unsigned", &image]).succeeded();
    let events = [
        "-n",
        &world.namespace,
        "get",
        "events",
        "--field-selector=reason=FailedCreate",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    cluster.wait_for(&events, |events| events.contains("denied the request"));
}

fn follows_the_whitelist(world: &World) {
    let cluster = world.cluster();
    let whitelist = |line: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: image-validation-webhook-whitelist, namespace: {OWN_NAMESPACE}}}\n\
             data: {{whitelist-images: '{line}', whitelist-namespaces: ''}}\n"
        )
    };
    cluster.apply(&whitelist(&world.unsigned.pinned())).succeeded();
    prompt(world.until("a line of the whitelist acts", &world.unsigned, Ran::ok));
    cluster.apply(&whitelist("")).succeeded();
    prompt(world.until("its absence acts", &world.unsigned, denied));
}

fn follows_the_key_directory(world: &World) {
    world.policy("late");
    world.until("a policy whose key is not there acts", &world.signed, denied);
    let file = world.keys.join("late.pub");
    std::fs::write(&file, &world.key.public).unwrap();
    prompt(world.until("a key file acts", &world.signed, Ran::ok));
    std::fs::remove_file(&file).unwrap();
    prompt(world.until("its absence acts", &world.signed, denied));
    world.policy("maker");
    world.until("the policy acts again", &world.signed, Ran::ok);
}

/// The quiet period of half-written files, 500 ms, is part of it.
fn prompt(took: Duration) {
    if took > PROMPT {
        eprintln!("  slower than the {PROMPT:?} aimed at");
    }
    assert!(took < LATE, "{took:?}");
}

/// Over the time in which nothing is asked of them; the kubelet looks every ten seconds or so.
fn measures_idle_replicas(world: &World) {
    const IDLE: Duration = Duration::from_secs(20);
    let before = usage(world);
    std::thread::sleep(IDLE);
    for (pod, after) in usage(world) {
        let Some(before) = before.get(&pod) else { continue };
        let spent = after.cpu.saturating_sub(before.cpu) / IDLE.as_secs() / 1000;
        let (memory, held) = (after.memory / 1000, after.held / 1000);
        eprintln!("idle {pod}: {memory} kB working set, {held} kB of it its own, {spent} µs of CPU a second");
    }
}

struct Usage {
    /// As `kubectl top` shows it: with the pages of the binary that are in use.
    memory: u64,
    /// Anonymous memory.
    held: u64,
    /// Nanoseconds since its start.
    cpu: u64,
}

fn usage(world: &World) -> BTreeMap<String, Usage> {
    let stats = world.cluster().kubectl(&["get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"]).succeeded();
    let stats: serde_json::Value = serde_json::from_slice(&stats.bytes).unwrap();
    let pods = stats["pods"].as_array().unwrap().iter();
    let own = pods.filter(|pod| pod["podRef"]["namespace"] == OWN_NAMESPACE);
    own.map(|pod| {
        let container = &pod["containers"][0];
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
        let usage = Usage {
            memory: number(&container["memory"]["workingSetBytes"]),
            held: number(&container["memory"]["rssBytes"]),
            cpu: number(&container["cpu"]["usageCoreNanoSeconds"]),
        };
        (pod["podRef"]["name"].as_str().unwrap().to_owned(), usage)
    })
    .collect()
}

fn upgrades(world: &World) {
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| world.helm("upgrade", &["--set=verbosity=1"]));
        let (mut asked, mut faults) = (0, 0);
        while !upgrade.is_finished() {
            let ran = world.run("probe", &world.unsigned, &["--dry-run=server"]);
            assert!(!ran.ok(), "admitted while podseal was upgraded: {ran}");
            asked += 1;
            faults += u32::from(!denied(&ran));
        }
        eprintln!("helm upgrade: {asked} reviews of an unsigned image, {faults} of them failed, none admitted");
        upgrade.join().unwrap().succeeded();
    });
    world.until("an unsigned image is refused after the upgrade", &world.unsigned, denied);
}

fn uninstalls(world: &World) {
    let cluster = world.cluster();
    let uninstalled =
        world.node.helm(&["uninstall", "podseal", "-n", OWN_NAMESPACE, "--wait", "--timeout=60s", "--debug"]);
    assert!(uninstalled.ok(), "{uninstalled}\n{}", left(world));
    for kind in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        assert_eq!(cluster.kubectl(&["get", kind, "-o", "name"]).succeeded().line(), "");
    }
    let roles = ["get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/instance=podseal", "-o", "name"];
    assert_eq!(cluster.kubectl(&roles).succeeded().line(), "");
    world.run("free", &world.unsigned, &[]).succeeded();
    world.node.wait_phase(&world.namespace, "free", "Running");
    // The administrator's own objects stay; nothing holds the namespaces back.
    cluster.kubectl(&["-n", OWN_NAMESPACE, "get", "configmap", "image-validation-webhook-whitelist"]).succeeded();
    cluster.kubectl(&["get", "crsp", "e2e"]).succeeded();
    cluster.kubectl(&["delete", "namespace", &world.namespace, OWN_NAMESPACE, "--timeout=100s"]).succeeded();
    let gone = || cluster.kubectl(&["get", "namespace", OWN_NAMESPACE]).stderr.contains("NotFound").then_some(());
    assert!(within(Duration::from_secs(10), gone).is_some());
}

/// What is in the cluster under podseal's name.
fn left(world: &World) -> String {
    let cluster = world.cluster();
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]).stdout;
    let kinds = kinds.lines().filter(|kind| *kind != "events").collect::<Vec<_>>().join(",");
    let all = cluster.kubectl(&["get", &kinds, "-A", "--no-headers", "-o", "wide"]).stdout;
    all.lines().filter(|line| line.contains("podseal")).collect::<Vec<_>>().join("\n")
}

crate::tests! {
    needs [Cluster, Registry, Cosign, Node, Image, Helm];
    helm_installs_what_protects_changes_live_upgrades_and_goes_without_a_trace_that_blocks,
}
