use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tower::{Layer as _, Service as _};

use super::*;

const TERM: Duration = Duration::from_secs(12);

fn lease(holder: &str, version: &str, seconds: i32) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.resource_version = Some(version.to_owned());
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(seconds),
        ..LeaseSpec::default()
    });
    lease
}

#[test]
fn a_lease_of_another_is_free_a_term_after_its_last_change_was_seen() {
    let (mut seen, start) = (Observed::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let first = lease("a", "1", 12);
    assert_eq!(seen.look(Some(&first), "b", TERM, at(0)), Some(TERM), "however old its times are");
    assert_eq!(seen.look(Some(&first), "b", TERM, at(11)), Some(Duration::from_secs(1)));
    let renewed = lease("a", "2", 12);
    assert_eq!(seen.look(Some(&renewed), "b", TERM, at(11)), Some(TERM));
    assert_eq!(seen.look(Some(&renewed), "b", TERM, at(22)), Some(Duration::from_secs(1)));
    assert_eq!(seen.look(Some(&renewed), "b", TERM, at(23)), None);
}

#[test]
fn a_lease_of_nobody_or_of_oneself_is_free_at_once() {
    let now = Instant::now();
    assert_eq!(Observed::default().look(None, "b", TERM, now), None);
    assert_eq!(Observed::default().look(Some(&lease("", "1", 1)), "b", TERM, now), None);
    assert_eq!(Observed::default().look(Some(&lease("b", "1", 12)), "b", TERM, now), None);
    assert_eq!(Observed::default().look(Some(&Lease::default()), "b", TERM, now), None);
    let mut seen = Observed::default();
    assert!(seen.look(Some(&lease("a", "1", 12)), "b", TERM, now).is_some());
    assert_eq!(seen.look(Some(&lease("", "2", 1)), "b", TERM, now), None, "given back");
}

#[test]
fn a_lease_that_is_deleted_while_held_is_waited_for() {
    let (mut seen, now) = (Observed::default(), Instant::now());
    assert!(seen.look(Some(&lease("a", "1", 12)), "b", TERM, now).is_some());
    assert_eq!(seen.look(None, "b", TERM, now + TERM / 2), Some(TERM / 2));
    assert_eq!(seen.look(None, "b", TERM, now + TERM), None);
}

#[test]
fn the_longer_of_both_terms_counts_and_never_more_than_a_minute() {
    let now = Instant::now();
    for (stated, expected) in [(1, 12), (30, 30), (1_000_000, 60), (-5, 12)] {
        let left = Observed::default().look(Some(&lease("a", "1", stated)), "b", TERM, now);
        assert_eq!(left, Some(Duration::from_secs(expected)), "{stated}");
    }
}

#[test]
fn the_leader_always_stops_before_another_can_begin() {
    let times = Times::default();
    assert!(times.deadline + 2 * times.retry <= times.duration);
    // Killed right after a renewal that the others see one retry later.
    assert!(times.retry + times.duration + times.retry < Duration::from_secs(20));
}

#[test]
fn the_fence_closes_by_the_clock_that_has_less() {
    let (fence, began, open) = (Fence::new(), Moment::now(), Duration::from_secs(8));
    assert!(fence.left_at(began).is_zero(), "closed at first");
    fence.open(began, open);
    let at = |monotonic: u64, wall: i64| {
        let shift = Duration::from_secs(wall.unsigned_abs());
        let wall: SystemTime = if wall < 0 { began.wall - shift } else { began.wall + shift };
        fence.left_at(Moment { monotonic: began.monotonic + Duration::from_secs(monotonic), wall })
    };
    assert_eq!(at(3, 3), Duration::from_secs(5));
    assert_eq!(at(8, 8), Duration::ZERO);
    assert_eq!(at(9, 0), Duration::ZERO, "a clock that stands still or is set back prolongs nothing");
    assert_eq!(at(1, -3600), Duration::from_secs(7));
    assert_eq!(at(0, 3600), Duration::ZERO, "a machine that was suspended");
    fence.close();
    assert_eq!(at(0, 0), Duration::ZERO);
}

#[tokio::test]
async fn work_is_not_polled_once_the_fence_is_closed() {
    let fence = Fence::new();
    let polls = AtomicUsize::new(0);
    let count = || async {
        loop {
            polls.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    fence.guard(count()).await;
    assert_eq!(polls.load(Ordering::Relaxed), 0);
    fence.open(Moment::now(), Duration::from_secs(60));
    let closer = async {
        while polls.load(Ordering::Relaxed) < 10 {
            tokio::task::yield_now().await;
        }
        fence.close();
        polls.load(Ordering::Relaxed)
    };
    let ((), at_close) = tokio::join!(fence.guard(count()), closer);
    assert_eq!(polls.load(Ordering::Relaxed), at_close);
}

#[tokio::test]
async fn a_fenced_client_reads_always_and_writes_only_while_it_leads() {
    let fence = Fence::new();
    let sent = AtomicUsize::new(0);
    let mut client = FenceLayer(fence.clone()).layer(Counter(&sent));
    let request = |method: &str| http::Request::builder().method(method).body(()).unwrap();
    for (open, writes) in [(false, false), (true, true), (false, false)] {
        if open {
            fence.open(Moment::now(), TERM);
        } else {
            fence.close();
        }
        assert!(client.call(request("GET")).await.is_ok());
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let before = sent.load(Ordering::Relaxed);
            let answer = client.call(request(method)).await;
            assert_eq!((answer.is_ok(), sent.load(Ordering::Relaxed) > before), (writes, writes), "{method}");
            if let Err(error) = answer {
                assert!(error.is::<LeaseLost>());
            }
        }
    }
}

/// A service that counts.
struct Counter<'a>(&'a AtomicUsize);

impl tower::Service<http::Request<()>> for Counter<'_> {
    type Response = ();
    type Error = Infallible;
    type Future = futures::future::Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<()>) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        futures::future::ready(Ok(()))
    }
}
