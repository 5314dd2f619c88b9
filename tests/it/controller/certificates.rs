//! Certificates that are made, rotated and healed while Pods are created.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{Part, World, soon};
use crate::support::cluster::{Cluster, User};
use crate::support::http::Http;

crate::tests! {
    needs [Cluster];
    h2_h3_certificates_and_authorities_rotate_under_load_without_a_failed_review,
    h2_near_their_end_certificates_are_rotated_in_time_and_after_it_they_are_replaced,
    secrets_that_are_deleted_or_damaged_heal_under_load_without_a_failed_review,
    somebody_elses_secret_is_left_alone_and_reported,
}

/// Creates Pods (dry runs) through the API server all the time, and makes new connections that trust what is trusted.
struct Load {
    reviews: AtomicUsize,
    handshakes: AtomicUsize,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Load {
    fn during(world: &World<'_>, act: impl FnOnce()) -> Self {
        let load = Self {
            reviews: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            failures: Mutex::default(),
            stop: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| load.create_pods(world));
            }
            scope.spawn(|| load.connect(world));
            // Whatever `act` does, the load ends: a panic goes on after that.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            load.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        });
        load
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn fails(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    fn create_pods(&self, world: &World<'_>) {
        let http = Http::trusting(&world.cluster.authority().pem);
        let url = format!("{}/api/v1/namespaces/{}/pods?dryRun=All", world.cluster.url(), world.judged);
        let token = format!("Bearer {}", User::Admin.token());
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"},
            "spec": {"containers": [{"name": "c", "image": "ok.invalid/x"}]}});
        while self.goes_on() {
            match http.send(reqwest::Method::POST, &url, &headers, pod.to_string().into_bytes()) {
                Ok(reply) if reply.status == 201 => {}
                Ok(reply) => self.fails(reply.text()),
                Err(error) => self.fails(error.to_string()),
            }
            self.reviews.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The API server keeps its connections; here every one is new.
    fn connect(&self, world: &World<'_>) {
        while self.goes_on() {
            let trusted = world.trusted();
            let http = Http::trusting(&trusted);
            if let Err(error) = http.get(&format!("https://127.0.0.1:{}/healthz", world.port)) {
                self.fails(format!("{error:?} with {} authorities", trusted.matches("BEGIN").count()));
            }
            self.handshakes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn assert_none_failed(&self, what: &str) {
        let failures = self.failures.lock().unwrap();
        let (reviews, handshakes) = (self.reviews.load(Ordering::Relaxed), self.handshakes.load(Ordering::Relaxed));
        eprintln!("{what}: {reviews} reviews, {handshakes} new connections, {} failed", failures.len());
        assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
        assert!(reviews > 50 && handshakes > 10);
    }
}

fn h2_h3_certificates_and_authorities_rotate_under_load_without_a_failed_review() {
    let world = World::new(Cluster::shared(), "rotated");
    let times = ["--ca-lifetime", "45s", "--certificate-lifetime", "24s", "--propagation", "1s"];
    let (controller, webhook) = world.installed(&times);
    soon("the API server asks", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    let (mut authorities, mut leaves, mut most) = (BTreeSet::new(), BTreeSet::new(), 0);
    let load = Load::during(&world, || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(80) {
            authorities.insert(world.secret("podseal-tls-ca", "tls.crt"));
            leaves.insert(world.secret("podseal-tls", "tls.crt"));
            most = most.max(world.secret("podseal-tls", "ca.crt").matches("BEGIN").count());
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    eprintln!("{} authorities, {} serving certificates", authorities.len(), leaves.len());
    load.assert_none_failed("rotation");
    assert!(authorities.len() >= 3 && leaves.len() >= 4, "{} {}", authorities.len(), leaves.len());
    assert!(most >= 2, "old and new authority were trusted together");
    let now = now();
    for (part, which) in [(&controller, "ca"), (&controller, "leaf"), (&webhook, "webhook")] {
        let left = end(part, which) - now;
        assert!((0.0..60.0).contains(&left), "{which}: {left}");
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

fn sleep_until(time: f64) {
    std::thread::sleep(Duration::from_secs_f64((time - now()).max(0.0)));
}

/// When a certificate ends, as a part of podseal says it.
fn end(part: &Part, which: &str) -> f64 {
    part.metric(&format!("podseal_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}}")).unwrap()
}

fn stop(controller: &Part) {
    controller.process.signal("TERM");
    assert!(controller.process.ended_within(Duration::from_secs(30)).is_some(), "it does not end");
}

/// The controller was away for most of the life of both certificates, which end at about the same time.
fn h2_near_their_end_certificates_are_rotated_in_time_and_after_it_they_are_replaced() {
    // Less than the third of its life in which a certificate is renewed, and enough for a machine with other things to do.
    const LEFT: f64 = 14.0;
    let world = World::new(Cluster::shared(), "ending");
    let times = |life| ["--ca-lifetime", life, "--certificate-lifetime", life, "--propagation", "1s"];
    let (controller, webhook) = world.installed(&times("45s"));
    soon("the API server asks", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    stop(&controller);
    let (first, mut last) = (end(&webhook, "webhook"), 0.0);
    let load = Load::during(&world, || {
        sleep_until(first - LEFT);
        assert!(end(&webhook, "webhook") <= first, "nobody was there to rotate");
        let controller = world.controller("late", &times("24s"));
        soon("another certificate is served", || (end(&webhook, "webhook") > first).then_some(()));
        eprintln!("another certificate was served {:.1} s before the end", first - now());
        sleep_until(first + 3.0);
        last = end(&controller, "ca").max(end(&controller, "leaf"));
        stop(&controller);
    });
    load.assert_none_failed("near the end");
    // Everything has ended. What API servers have open goes on; with a new connection, nothing is admitted any more.
    sleep_until(last.max(end(&webhook, "webhook")) + 1.0);
    drop(webhook);
    let _webhook = world.webhook();
    let refused = soon("the webhook answers again", || {
        let ran = world.run(&world.judged, "ok.invalid/x");
        assert!(!ran.ok(), "trusted after its end");
        ran.stderr.contains("x509").then_some(ran.stderr)
    });
    assert!(refused.contains("failed calling webhook") && refused.contains("expired"), "{refused}");
    let begun = Instant::now();
    let _controller = world.controller("again", &times("24s"));
    soon("Pods run again", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    eprintln!("Pods ran again {:.1?} after the controller came back to certificates that had ended", begun.elapsed());
}

fn secrets_that_are_deleted_or_damaged_heal_under_load_without_a_failed_review() {
    let world = World::new(Cluster::shared(), "healed");
    let (_controller, _webhook) = world.installed(&["--propagation", "1s"]);
    soon("the API server asks", || world.run(&world.judged, "ok.invalid/x").ok().then_some(()));
    let first = world.secret("podseal-tls-ca", "tls.crt");
    let delete = |names: &[&str]| {
        world.cluster.kubectl(&[&["-n", &world.own, "delete", "secret"], names].concat()).succeeded();
    };
    let damage = |name: &str, key: &str| {
        let patch = json!({"data": {key: "cnViYmlzaA=="}}).to_string();
        world.cluster.kubectl(&["-n", &world.own, "patch", "secret", name, "-p", &patch]).succeeded();
    };
    // Until a certificate of the authority that is kept is served, and trusted.
    let healed = |what: &str, before: &str| {
        let begun = Instant::now();
        soon(what, || {
            let authority = world.secret("podseal-tls-ca", "tls.crt");
            let leaf = world.secret("podseal-tls", "tls.crt");
            let good = !authority.is_empty()
                && !leaf.is_empty()
                && leaf != before
                && world.trusted().contains(authority.trim());
            (good && Http::trusting(&authority).get(&format!("https://127.0.0.1:{}/healthz", world.port)).is_ok())
                .then_some(())
        });
        eprintln!("{what}: healed in {:.1?}", begun.elapsed());
    };
    let load = Load::during(&world, || {
        let leaf = || world.secret("podseal-tls", "tls.crt");
        let before = leaf();
        delete(&["podseal-tls-ca"]);
        healed("the authority's Secret deleted", &before);
        let before = leaf();
        delete(&["podseal-tls"]);
        healed("the serving Secret deleted", &before);
        let before = leaf();
        damage("podseal-tls", "tls.crt");
        healed("the serving certificate damaged", &before);
        let before = leaf();
        damage("podseal-tls-ca", "tls.key");
        healed("the authority's key damaged", &before);
        let before = leaf();
        delete(&["podseal-tls", "podseal-tls-ca"]);
        healed("both Secrets deleted", &before);
    });
    load.assert_none_failed("healing");
    assert_ne!(world.secret("podseal-tls-ca", "tls.crt"), first);
    soon("authorities that were lost are no longer trusted", || {
        (world.trusted().matches("BEGIN").count() == 1).then_some(())
    });
}

fn somebody_elses_secret_is_left_alone_and_reported() {
    for theirs in ["podseal-tls", "podseal-tls-ca"] {
        let world = World::new(Cluster::shared(), "foreign");
        world.cluster.secret(&world.own, theirs, &[("tls.crt", b"theirs")]);
        let before = world.json(&["get", "secret", theirs]);
        let controller = world.controller("controller", &[]);
        soon("it is reported", || world.events(theirs).contains(&"ForeignSecret".to_owned()).then_some(()));
        assert!(controller.process.log().contains("is left alone"), "{}", controller.process.log());
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(world.json(&["get", "secret", theirs]), before);
    }
}
