//! Waiting for something to change, or for time to pass.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::watcher::{self, watch_object, watcher};
use kube::runtime::{WatchStreamExt as _, watcher::DefaultBackoff};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

/// After a change, others that belong to it are waited for this long.
const GATHER: Duration = Duration::from_millis(50);

/// Watches that say that something changed, and not what: the next pass looks for itself. A watch that breaks or is
/// forbidden is taken up again with growing pauses and disturbs nobody; passes then come by time alone.
#[derive(Default)]
pub struct Wakes(SelectAll<BoxStream<'static, ()>>);

impl Debug for Wakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Wakes").field(&self.0.len()).finish()
    }
}

impl Wakes {
    /// Wakes also when this object changes.
    #[must_use]
    pub fn object<K>(mut self, api: Api<K>, name: &str) -> Self
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let changes = watch_object(api, name).backoff(DefaultBackoff::default());
        self.0.push(changes.filter_map(async |change| change.ok().map(|_| ())).boxed());
        self
    }

    /// Wakes also when one of these objects changes.
    #[must_use]
    pub fn objects<K>(mut self, api: Api<K>, which: watcher::Config) -> Self
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let changes = watcher(api, which).default_backoff();
        self.0.push(changes.filter_map(async |change| change.ok().map(|_| ())).boxed());
        self
    }

    /// Until something changes, for this long at most.
    pub async fn wait(&mut self, at_most: Duration) {
        if self.0.is_empty() {
            return sleep(at_most).await;
        }
        if timeout(at_most, self.0.next()).await.is_ok() {
            sleep(GATHER).await;
            while self.0.next().now_or_never().flatten().is_some() {}
        }
    }
}
