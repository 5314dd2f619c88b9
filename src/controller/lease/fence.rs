//! Keeps a leader whose time is over from doing anything.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures::future::{Either, MapErr, Ready, TryFutureExt as _, err};
use http::{Method, Request};
use tower::{Layer, Service};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A point in time by both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Never goes back, and stands still while the machine is suspended.
    pub monotonic: Instant,
    /// May be set, and goes on meanwhile.
    pub wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// How much of `time` is left at `now`, by the clock that has less. Setting the clock forward ends a reign too
    /// early, which does no harm; setting it back prolongs none.
    fn left_of(self, time: Duration, now: Self) -> Duration {
        let by_monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        let by_wall = now.wall.duration_since(self.wall).unwrap_or(Duration::ZERO);
        time.saturating_sub(by_monotonic.max(by_wall))
    }
}

/// Open from the beginning of a successful renewal for a stated time. Cheap to clone; clones are one fence.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<Mutex<Option<(Moment, Duration)>>>);

impl Fence {
    /// A closed one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it for `time` from `began`.
    pub fn open(&self, began: Moment, time: Duration) {
        self.set(Some((began, time)));
    }

    /// Closes it.
    pub fn close(&self) {
        self.set(None);
    }

    /// How long it is still open.
    pub fn left(&self) -> Duration {
        self.left_at(Moment::now())
    }

    /// How long it is still open at `now`.
    pub fn left_at(&self, now: Moment) -> Duration {
        let open = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.map_or(Duration::ZERO, |(began, time)| began.left_of(time, now))
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        !self.left().is_zero()
    }

    /// Polls `work` only while the fence is open, and ends when it finds it closed.
    pub async fn guard(&self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        std::future::poll_fn(|context| self.poll(work.as_mut(), context)).await;
    }

    fn poll(&self, work: Pin<&mut impl Future<Output = ()>>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() { work.poll(context) } else { Poll::Ready(()) }
    }

    fn set(&self, open: Option<(Moment, Duration)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

/// A request was not sent because this replica does not lead.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not hold the lease and must not write")]
pub struct LeaseLost;

/// Makes a client that writes only while a fence is open.
///
/// The check is where a request leaves for the network: what was queued or prepared before the lease was lost stays here.
#[derive(Debug, Clone)]
pub struct FenceLayer(pub Fence);

impl<S> Layer<S> for FenceLayer {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { fence: self.0.clone(), inner }
    }
}

/// See [`FenceLayer`].
#[derive(Debug, Clone)]
pub struct Fenced<S> {
    fence: Fence,
    inner: S,
}

impl<S, B> Service<Request<B>> for Fenced<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<Ready<Result<S::Response, BoxError>>, MapErr<S::Future, fn(S::Error) -> BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads || self.fence.is_open() {
            Either::Right(self.inner.call(request).map_err(Into::into))
        } else {
            Either::Left(err(LeaseLost.into()))
        }
    }
}
