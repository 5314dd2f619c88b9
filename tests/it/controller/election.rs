//! Two controllers and one Lease.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{Part, World, soon};
use crate::support::cluster::{Cluster, User};
use crate::support::scratch;

crate::tests! {
    needs [Cluster];
    a_killed_leader_is_replaced_within_twenty_seconds,
    a_leader_that_ends_in_order_gives_the_lease_back,
    a_leader_that_loses_the_api_server_stops_before_another_begins,
    a_leader_that_was_stopped_writes_nothing_when_it_goes_on,
}

const TAKEOVER: Duration = Duration::from_secs(20);

/// A leader and one that waits.
fn two(world: &World<'_>) -> (Part, Part) {
    let first = world.bare_controller("first", &[]);
    soon("the first leads", || first.leads().then_some(()));
    let second = world.bare_controller("second", &[]);
    soon("the second is there", || second.readiness());
    assert!(!second.leads());
    (first, second)
}

fn a_killed_leader_is_replaced_within_twenty_seconds() {
    let world = World::new(Cluster::shared(), "killed");
    let (first, second) = two(&world);
    let holder = world.holder();
    assert!(holder.starts_with("first_"), "{holder}");
    // Long enough for the second to have seen a renewal.
    std::thread::sleep(Duration::from_secs(3));
    first.process.signal("KILL");
    let killed = Instant::now();
    soon("the second leads", || second.leads().then_some(()));
    let delay = killed.elapsed();
    eprintln!("a new leader {delay:.1?} after the old one was killed");
    assert!(delay < TAKEOVER, "{delay:?}");
    assert!(delay > Duration::from_secs(5), "the term of the first was waited for: {delay:?}");
    assert!(world.holder().starts_with("second_"));
}

fn a_leader_that_ends_in_order_gives_the_lease_back() {
    let world = World::new(Cluster::shared(), "released");
    let (first, second) = two(&world);
    first.process.signal("TERM");
    let told = Instant::now();
    soon("the second leads", || second.leads().then_some(()));
    let delay = told.elapsed();
    assert!(delay < Duration::from_secs(8), "{delay:?}");
    let ended = first.process.ended_within(Duration::from_secs(10));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

/// Hands on connections until it is cut.
struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Wire {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let wire = Self { port: listener.local_addr().unwrap().port(), cut: Arc::default() };
        let cut = wire.cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                if cut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, cut) = (from.try_clone().unwrap(), to.try_clone().unwrap(), cut.clone());
                    std::thread::spawn(move || copy(from, to, &cut));
                }
            }
        });
        wire
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = vec![0; 65_536];
    while !cut.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// The controller's kubeconfig by way of the wire.
fn kubeconfig(cluster: &Cluster, wire: &Wire) -> PathBuf {
    let direct = std::fs::read_to_string(cluster.kubeconfig(User::Controller)).unwrap();
    let file = scratch::folder("wire").join("kubeconfig");
    std::fs::write(&file, direct.replace(cluster.url(), &format!("https://127.0.0.1:{}", wire.port))).unwrap();
    file
}

fn a_leader_that_loses_the_api_server_stops_before_another_begins() {
    let cluster = Cluster::shared();
    let world = World::new(cluster, "cut");
    let wire = Wire::to(cluster.url().rsplit(':').next().unwrap().parse().unwrap());
    let first = Part::start_with(&world, "first", &kubeconfig(cluster, &wire), "controller", &[]);
    soon("the first leads", || first.leads().then_some(()));
    let second = world.bare_controller("second", &[]);
    soon("the second is there", || second.readiness());
    wire.cut.store(true, Ordering::Relaxed);
    let cut = Instant::now();
    let mut stopped = None;
    soon("the second leads", || {
        // The first is asked last: it may only have stopped before.
        let (second, first) = (second.leads(), first.leads());
        assert!(!(first && second), "both lead");
        if !first {
            stopped.get_or_insert_with(|| cut.elapsed());
        }
        second.then_some(())
    });
    let (stopped, taken) = (stopped.expect("the first stopped"), cut.elapsed());
    eprintln!("the leader stopped {stopped:.1?} after it lost the API server, another began after {taken:.1?}");
    assert!(stopped < taken);
}

fn a_leader_that_was_stopped_writes_nothing_when_it_goes_on() {
    let world = World::new(Cluster::shared(), "stopped");
    world.install_shells();
    world.endpoint(true);
    // Each wants something else, so that whose writes they are can be seen.
    let file = |timeout: u8| {
        let file = scratch::folder("wanted").join("webhooks.yaml");
        std::fs::write(&file, world.wanted(timeout)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (fives, sixes) = (file(5), file(6));
    let first = world.bare_controller("first", &["--webhooks-file", &fives]);
    let timeout = || world.entries().first().and_then(|entry| entry["timeoutSeconds"].as_u64());
    soon("the first arms", || (timeout() == Some(5)).then_some(()));
    let second = world.bare_controller("second", &["--webhooks-file", &sixes]);
    soon("the second is there", || second.readiness());
    first.process.signal("STOP");
    soon("the second arms", || (timeout() == Some(6)).then_some(()));
    let version = world.configuration()["metadata"]["resourceVersion"].clone();
    first.process.signal("CONT");
    soon("the first no longer leads", || (first.metric("podseal_leader") == Some(0.0)).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(
        world.configuration()["metadata"]["resourceVersion"],
        version,
        "somebody wrote\n{}",
        first.process.log()
    );
    assert!(second.leads());
}
