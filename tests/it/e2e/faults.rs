//! What happens to reviews when a replica dies, and that nothing happens to them when one is told to go.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::{Figures, Load};
use super::world::{World, denied};
use crate::support::cluster::OWN_NAMESPACE;
use crate::support::http::Http;
use crate::support::process::within;
use crate::support::tools::Ran;

/// How long all may be well before and after a fault.
const CALM: Duration = Duration::from_secs(3);
/// From the change of an endpoint until API servers know of it, on a machine whose cores are all taken.
const NEWS: Duration = Duration::from_secs(2);
/// For a replica to be back. Other builds may keep every core busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Below this, nothing can be said of load.
const LEAST: usize = 300;

fn replicas_are_killed_and_replaced_under_load_and_nothing_unsigned_is_admitted() {
    let world = World::new();
    world.bind_owner();
    world.helm("install", &[]).succeeded();
    world.policy("maker");
    world.until("a policy acts", &world.unsigned, denied);
    world.until("signed images run", &world.signed, Ran::ok);
    kills_a_replica(&world);
    deletes_a_replica(&world);
    restarts_all(&world);
}

/// A killed replica is replaced by its kubelet. Until its endpoint is gone, reviews that are sent there fail, and fail
/// closed.
fn kills_a_replica(world: &World) {
    let mut killed = Instant::now();
    let load = Load::during(world, |load| {
        let victim = warm_up(world, load);
        killed = Instant::now();
        world.node.signal(OWN_NAMESPACE, &victim.name, "SIGKILL");
        until_two_are_ready(load, killed);
        std::thread::sleep(CALM);
    });
    let gone = load.ready_since(killed, |ready| ready.len() < 2);
    let figures = told("kill -9 of one of two replicas", &load, killed);
    let gone = gone.expect("the endpoint of a killed replica goes away");
    if let Some((first, last)) = figures.first_failure.zip(figures.last_failure) {
        assert!(first >= killed, "a review failed before anything happened");
        assert!(last <= gone + NEWS, "reviews fail although the endpoint is gone");
    }
}

/// As a drain does it: the replica is told to go, and goes once nobody asks it any more.
fn deletes_a_replica(world: &World) {
    let mut deleted = Instant::now();
    let load = Load::during(world, |load| {
        let victim = warm_up(world, load);
        deleted = Instant::now();
        world.cluster().kubectl(&["-n", OWN_NAMESPACE, "delete", "pod", &victim.name]).succeeded();
        eprintln!("the replica was gone {} ms after it was told to go", deleted.elapsed().as_millis());
        until_two_are_ready(load, deleted);
        std::thread::sleep(CALM);
    });
    assert_eq!(told("kubectl delete of one of two replicas", &load, deleted).failed(), 0);
}

fn restarts_all(world: &World) {
    let mut begun = Instant::now();
    let load = Load::during(world, |load| {
        warm_up(world, load);
        begun = Instant::now();
        world.cluster().kubectl(&["-n", OWN_NAMESPACE, "rollout", "restart", "deployment/podseal"]).succeeded();
        world.node.wait_rollout(OWN_NAMESPACE, "podseal");
        // The last of the old replicas drains still.
        let old = || (pods(world).len() == 2).then_some(());
        assert!(within(PATIENCE, old).is_some(), "old replicas stay");
        std::thread::sleep(CALM);
    });
    assert_eq!(told("kubectl rollout restart", &load, begun).failed(), 0);
}

/// Waits until all is as it should be, and finds the replica that the API server asks most: it keeps its connections.
fn warm_up(world: &World, load: &Load) -> Replica {
    assert!(within(PATIENCE, || (load.ready().len() == 2).then_some(())).is_some(), "two replicas were never ready");
    let before = replicas(world);
    std::thread::sleep(CALM);
    let asked = |replica: &Replica| {
        let earlier = before.iter().find(|other| other.name == replica.name).map_or(0, |other| other.reviews);
        replica.reviews.saturating_sub(earlier)
    };
    let victim = replicas(world).into_iter().max_by_key(asked).unwrap();
    assert!(asked(&victim) > 0, "no replica is asked");
    victim
}

fn until_two_are_ready(load: &Load, fault: Instant) {
    let found = within(PATIENCE, || {
        let gone = load.ready_since(fault, |ready| ready.len() < 2)?;
        load.ready_since(gone, |ready| ready.len() == 2)
    });
    assert!(found.is_some(), "two replicas are not ready again: {:?}", load.ready());
}

/// Prints the figures, and sees to it that nothing was admitted that should not have been.
#[track_caller]
fn told(what: &str, load: &Load, fault: Instant) -> Figures {
    let figures = load.figures(fault);
    eprintln!("{what}: {figures}");
    if let Some(gone) = load.ready_since(fault, |ready| ready.len() < 2) {
        let back = load.ready_since(gone, |ready| ready.len() == 2);
        let (gone, back) = (gone - fault, back.map(|back| (back - fault).as_millis()));
        eprintln!("  one endpoint fewer after {} ms, two again after {back:?} ms", gone.as_millis());
    }
    assert_eq!(figures.wrong, 0, "admitted without a signature");
    assert!(figures.asked >= LEAST, "too little was asked");
    figures
}

struct Replica {
    name: String,
    /// Answered since it started.
    reviews: u64,
}

/// The webhook's Pods, which all run.
fn replicas(world: &World) -> Vec<Replica> {
    let http = Http::trusting("");
    let replica = |(name, address): (String, String)| {
        let metrics = http.get(&format!("http://{address}:8080/metrics")).unwrap().text();
        let answered = metrics.lines().filter(|line| line.starts_with("podseal_reviews_total{"));
        let reviews = answered.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
        Replica { name, reviews }
    };
    pods(world).into_iter().map(replica).collect()
}

/// Names and addresses of the webhook's Pods, those that end included.
fn pods(world: &World) -> Vec<(String, String)> {
    let get = ["-n", OWN_NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=webhook", "-o", "json"];
    let list: Value = serde_json::from_slice(&world.cluster().kubectl(&get).succeeded().bytes).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list["items"].as_array().unwrap().iter();
    pods.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect()
}

crate::tests! {
    needs [Cluster, Registry, Cosign, Node, Image, Helm];
    replicas_are_killed_and_replaced_under_load_and_nothing_unsigned_is_admitted,
}
