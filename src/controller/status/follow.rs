//! Watches that begin anew with a list whenever the API server refused them.

use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::warn;

/// Before a watch that was refused is begun anew.
const PAUSE: Duration = Duration::from_secs(5);

/// What happened to the objects of one kind.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// These are all.
    All(Vec<T>),
    /// This one is new or different.
    Put(T),
    /// This one is gone.
    Gone(T),
}

/// Follows one kind of objects for ever. Objects are read as they come, so that of a large list only what was made of it is
/// kept.
pub(super) async fn follow<K, T, N>(
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(K) -> T,
    wrap: impl Fn(Change<T>) -> N,
    news: mpsc::Sender<N>,
) where
    K: kube::Resource<DynamicType: Default> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    follow_as(api, config, &K::plural(&K::DynamicType::default()), read, wrap, news).await;
}

/// The same for kinds that are only known at run time; `what` is the resource for the log.
pub(super) async fn follow_as<K, T, N>(
    api: Api<K>,
    config: watcher::Config,
    what: &str,
    read: impl Fn(K) -> T,
    wrap: impl Fn(Change<T>) -> N,
    news: mpsc::Sender<N>,
) where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    loop {
        let mut stream = Box::pin(watch_objects(api.clone(), config.clone()).default_backoff());
        let mut listing = Vec::new();
        while let Some(event) = stream.next().await {
            let change = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listing.push(read(object));
                    continue;
                }
                Ok(Event::InitDone) => Change::All(std::mem::take(&mut listing)),
                Ok(Event::Apply(object)) => Change::Put(read(object)),
                Ok(Event::Delete(object)) => Change::Gone(read(object)),
                Err(error) => {
                    warn!(resource = what, "watch of the controller: {error}");
                    if refused(&error) {
                        break;
                    }
                    continue;
                }
            };
            if news.send(wrap(change)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// No such resource, or forbidden: once that is over, only a list says what is there.
fn refused(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    matches!(status.code, 403 | 404)
}
