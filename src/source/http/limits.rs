//! Fair shares per upstream host: how many requests are in flight, and how long a host asked to be left alone.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Hosts remembered at a time. Forgetting one only resets its count.
const MAX_HOSTS: u64 = 4096;
const HOST_IDLE: Duration = Duration::from_secs(10 * 60);
/// The longest pause that a server can impose on the requests of others who ask with the same credential.
const MAX_PAUSE: Duration = Duration::from_secs(30);
const DEFAULT_PER_HOST: usize = 64;

/// Host and port, and the hash of the credential: servers count requests per account, and anonymous ones per address.
type PauseKey = (Box<str>, [u8; 32]);

#[derive(Debug)]
pub(super) struct HostLimits {
    in_flight: Cache<Box<str>, Arc<Semaphore>>,
    pauses: Cache<PauseKey, Instant>,
    per_host: usize,
}

impl HostLimits {
    pub(super) fn new(per_host: usize) -> Self {
        Self {
            in_flight: Cache::builder().max_capacity(MAX_HOSTS).time_to_idle(HOST_IDLE).build(),
            pauses: Cache::builder().max_capacity(MAX_HOSTS).time_to_live(MAX_PAUSE).build(),
            per_host: if per_host == 0 { DEFAULT_PER_HOST } else { per_host.min(Semaphore::MAX_PERMITS) },
        }
    }

    /// Waits for a free place among the host's requests; `None` when the deadline comes first.
    pub(super) async fn enter(&self, host: &str, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let permits = self.per_host;
        let semaphore = self.in_flight.get_with(host.into(), async move { Arc::new(Semaphore::new(permits)) }).await;
        timeout_at(deadline, semaphore.acquire_owned()).await.ok()?.ok()
    }

    /// Until when this host wants no requests from this credential.
    pub(super) async fn paused_until(&self, host: &str, credential: [u8; 32]) -> Option<Instant> {
        self.pauses.get(&(host.into(), credential)).await.filter(|until| *until > Instant::now())
    }

    /// The host asked for a pause (429, or `Retry-After`).
    pub(super) async fn pause(&self, host: &str, credential: [u8; 32], pause: Duration) {
        self.pauses.insert((host.into(), credential), Instant::now() + pause.min(MAX_PAUSE)).await;
    }
}
