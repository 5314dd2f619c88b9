//! Places for verifications that need the network, so many per namespace.
//!
//! Who finds no place waits, and only so many may wait: the reviews in flight are bounded for the whole process, and one
//! namespace with a slow store must not fill them with its waiting ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::fault::{Fault, FaultKind};

/// Namespaces that are remembered at most.
const MAX_NAMESPACES: u64 = 50_000;
const IDLE: Duration = Duration::from_secs(600);
/// Waiting verifications per place: room for a Deployment of hundreds of Pods, and a fraction of the reviews in flight.
const WAITING_PER_PLACE: usize = 16;

/// The places of all namespaces.
#[derive(Debug)]
pub(super) struct Slots {
    per_namespace: usize,
    namespaces: moka::sync::Cache<String, Arc<Places>>,
}

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One who waits; counted until he stops, however he stops.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Slots {
    pub(super) fn new(per_namespace: usize) -> Self {
        let namespaces = moka::sync::Cache::builder().max_capacity(MAX_NAMESPACES).time_to_idle(IDLE).build();
        Self { per_namespace: per_namespace.max(1), namespaces }
    }

    /// A place for the namespace, kept until it is dropped; a fault when too many wait already or time runs out.
    pub(super) async fn enter(&self, namespace: &str, deadline: Instant) -> Result<OwnedSemaphorePermit, Fault> {
        let places = self.namespaces.get_with_by_ref(namespace, || {
            Arc::new(Places { free: Arc::new(Semaphore::new(self.per_namespace)), waiting: AtomicUsize::new(0) })
        });
        if let Ok(place) = places.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let before = places.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&places.waiting);
        if before < self.per_namespace * WAITING_PER_PLACE
            && let Ok(Ok(place)) = timeout_at(deadline, places.free.clone().acquire_owned()).await
        {
            return Ok(place);
        }
        let message = format!("too many verifications are under way for namespace {namespace}; try again");
        Err(Fault::new(FaultKind::Overloaded, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[tokio::test]
    async fn h12_a_namespace_that_used_up_its_places_waits_and_others_do_not() {
        let slots = Slots::new(1);
        let place = slots.enter("busy", soon()).await.expect("a free place");
        let fault = slots.enter("busy", soon()).await.expect_err("no place before the deadline");
        assert_eq!(fault.kind(), FaultKind::Overloaded);
        let _other = slots.enter("other", soon()).await.expect("another namespace has its own places");
        drop(place);
        let _again = slots.enter("busy", soon()).await.expect("the place is free again");
    }

    #[tokio::test]
    async fn h12_only_so_many_wait_and_the_next_is_told_at_once() {
        let slots = Arc::new(Slots::new(1));
        let place = slots.enter("busy", soon()).await.expect("a free place");
        let later = Instant::now() + Duration::from_secs(600);
        let enter = || {
            let slots = slots.clone();
            tokio::spawn(async move { slots.enter("busy", later).await.map(drop) })
        };
        let waiting: Vec<_> = (0..WAITING_PER_PLACE).map(|_| enter()).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let told = enter().await.expect("joined").expect_err("one too many");
        assert_eq!(told.kind(), FaultKind::Overloaded);
        drop(place);
        for one in waiting {
            one.await.expect("joined").expect("a place in turn");
        }
        let _last = slots.enter("busy", soon()).await.expect("nobody is counted as waiting any more");
    }
}
