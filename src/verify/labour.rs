//! Work that takes time on a processor, kept off the threads that answer reviews.
//!
//! Keys and signatures come from whoever writes a policy or pushes to a registry, and some cost a thousand times what
//! ordinary ones cost. They are worked on by threads of their own, so many at once, and one per namespace: a namespace that
//! offers expensive ones waits for itself. The work is not interrupted when its review runs out of time: it keeps its
//! namespace's place until it is done, and moves from the common place to one of a few that nobody waits for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::fault::{Fault, FaultKind};

/// Namespaces that are remembered at most.
const MAX_NAMESPACES: u64 = 50_000;
/// Work that is out of time, at once, for every common place. With more, places stay taken: threads are not without end.
const OVERTIME: usize = 4;
const IDLE: Duration = Duration::from_secs(600);

/// The places for such work.
#[derive(Debug)]
pub(super) struct Labour {
    all: Arc<Semaphore>,
    overtime: Arc<Semaphore>,
    namespaces: moka::sync::Cache<String, Arc<Semaphore>>,
}

impl Labour {
    pub(super) fn new() -> Self {
        // More than one, so that one namespace never takes all places.
        let places = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let namespaces = moka::sync::Cache::builder().max_capacity(MAX_NAMESPACES).time_to_idle(IDLE).build();
        Self {
            all: Arc::new(Semaphore::new(places)),
            overtime: Arc::new(Semaphore::new(places * OVERTIME)),
            namespaces,
        }
    }

    /// Does the work on behalf of the namespace; a fault when there is no result before the deadline, or it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        namespace: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let own = self.namespaces.get_with_by_ref(namespace, || Arc::new(Semaphore::new(1)));
        let all = self.all.clone();
        // The common place, which is given back in exchange when the time is over.
        let held: Arc<Mutex<Option<OwnedSemaphorePermit>>> = Arc::default();
        let place = held.clone();
        let done = async {
            // Semaphores that nobody closes; the place in front of the namespace's own comes second.
            let own = own.acquire_owned().await;
            let common = all.acquire_owned().await.ok();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = common;
            let work = move || {
                let _places = (own, place);
                work()
            };
            tokio::task::spawn_blocking(work).await
        };
        match timeout_at(deadline, done).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                let message = "podseal met an internal error while it checked a signature";
                Err(Fault::new(FaultKind::Internal, message).with_detail(error))
            }
            Err(_) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                if held.is_some()
                    && let Ok(spare) = self.overtime.clone().try_acquire_owned()
                {
                    *held = Some(spare);
                }
                Err(Fault::new(FaultKind::Timeout, "keys or signatures could not be checked in time"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_moment() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn h12_expensive_keys_hold_up_their_own_namespace_and_no_thread_that_answers() {
        let labour = Arc::new(Labour::new());
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let slow = labour.run("slow", Instant::now() + Duration::from_millis(100), move || wait.recv().is_ok());
        assert_eq!(slow.await.expect_err("not in time").kind(), FaultKind::Timeout);
        // It is still at work: its namespace waits, others do not, and this single thread goes on.
        let next = labour.run("slow", Instant::now() + Duration::from_millis(100), || 1).await;
        assert_eq!(next.expect_err("no place").kind(), FaultKind::Timeout);
        assert_eq!(labour.run("other", in_a_moment(), || 2).await, Ok(2));
        release.send(()).expect("still waiting");
        assert_eq!(labour.run("slow", in_a_moment(), || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn h12_work_that_is_out_of_time_leaves_its_place_to_others_up_to_a_bound() {
        let mut labour = Labour::new();
        let places = labour.all.available_permits();
        labour.overtime = Arc::new(Semaphore::new(places));
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let mut stuck = 0;
        // As many as there are places go into overtime, then as many keep their places.
        while labour.all.available_permits() > 0 {
            let wait = wait.clone();
            let name = format!("slow-{stuck}");
            let slow = labour.run(&name, Instant::now() + Duration::from_millis(50), move || {
                wait.lock().is_ok_and(|wait| wait.recv().is_ok())
            });
            assert_eq!(slow.await.expect_err("not in time").kind(), FaultKind::Timeout);
            stuck += 1;
            assert!(stuck <= 2 * places, "more threads than are allowed");
        }
        assert_eq!(stuck, 2 * places);
        for _ in 0..stuck {
            release.send(()).expect("still waiting");
        }
        assert_eq!(labour.run("other", in_a_moment(), || 2).await, Ok(2));
        // All places come back once the work is done.
        while labour.all.available_permits() < places || labour.overtime.available_permits() < places {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn e8_work_that_panics_is_a_fault_and_gives_its_place_back() {
        let labour = Labour::new();
        for _ in 0..3 {
            let result: Result<(), Fault> = labour.run("team", in_a_moment(), || panic!("hostile input")).await;
            assert_eq!(result.expect_err("a panic").kind(), FaultKind::Internal);
        }
        assert_eq!(labour.run("team", in_a_moment(), || 1).await, Ok(1));
    }
}
