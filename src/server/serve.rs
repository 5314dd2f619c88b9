//! Listening, and the end of it.
//!
//! An accept loop of its own and not `axum-server`, because
//! - ALPN says which protocol comes, so nothing has to be sniffed and buffered from the stream, and a client that
//!   agrees on HTTP/2 and then says nothing is found by the same rule as every other quiet one;
//! - the number of connections is bounded, and idle ones are closed;
//! - a drain has three steps: not ready, and every answer ends its connection; then no new connections; then no new
//!   requests;
//! - with a client CA, who shows no certificate is a guest: the webhook answers probes alone to them.
//!
//! Memory and time per connection are bounded in [`super::connection`].

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::Gate;
use super::connection::{Control, Ended, Peer, Protocols};
use super::respond::{bare_probes, with_farewell};
use super::tls::Tls;
use crate::telemetry::Metrics;

/// The times and the number of connections of a listener.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// From accepting a connection to the end of its first request's headers.
    pub first_request: Duration,
    /// Without a new request, until a connection is closed. Longer than any review, and than the ninety seconds after
    /// which the API server's own client closes an idle connection, so that it does not meet a closing one.
    pub idle: Duration,
    /// For what is in flight on a connection that is closed for being idle.
    pub close: Duration,
    /// From "not ready" to the end of accepting: the time endpoints take to go away.
    pub drain_delay: Duration,
    /// For what is in flight at the end.
    pub drain: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub connections: u32,
    /// Connections of one client address at once; further ones are closed. An API server has one for each
    /// review under way; no other client can keep it out by holding all there are.
    pub per_client: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            close: Duration::from_secs(30),
            drain_delay: Duration::from_secs(5),
            drain: Duration::from_secs(25),
            connections: 2048,
            per_client: 1024,
        }
    }
}

/// What a listener answers.
#[derive(Debug, Clone)]
pub struct Routes {
    known: Router,
    guests: Router,
    /// Whether requests are told who sends them, as an extension of type [`Peer`].
    tells_peer: bool,
    draining: Arc<AtomicBool>,
}

impl Routes {
    /// `known` is for clients over TLS, with a certificate if those are demanded; `guests` for others. `draining` turns
    /// true when the listener is about to end.
    pub fn new(known: Router, guests: Router, draining: Arc<AtomicBool>) -> Self {
        let (known, guests) = (with_farewell(known, &draining), with_farewell(guests, &draining));
        Self { known, guests, tells_peer: false, draining }
    }

    /// The same for everybody, over TLS or not; the routes find out from [`Peer`] who asks.
    pub fn open(routes: Router, draining: Arc<AtomicBool>) -> Self {
        let known = with_farewell(routes, &draining);
        Self { guests: known.clone(), known, tells_peer: true, draining }
    }

    /// The probes alone, of a process that answers no reviews.
    pub fn of_probes(gate: Gate, metrics: Arc<Metrics>) -> Self {
        let draining = Arc::new(AtomicBool::new(false));
        let probes = with_farewell(bare_probes(gate, metrics, Arc::clone(&draining)), &draining);
        Self { known: probes.clone(), guests: probes, tells_peer: false, draining }
    }
}

/// Serves until `shutdown` and through the drain that follows: readiness turns to 503 and answers end their connections,
/// after a delay no connection is accepted, then what is in flight is finished, up to a limit of time.
///
/// Without `tls` the listener speaks plain HTTP, and everybody is a guest.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: Routes,
    timing: Timing,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(timing.connections as usize));
    let mut server = Server {
        shared: Arc::new(Shared { tls, routes, protocols: Protocols::new(), handshake: timing.handshake }),
        open: Vec::new(),
        timing,
    };
    server.accept_until(listener, &slots, shutdown).await;
    server.drain(&slots).await;
}

/// What every connection needs.
struct Shared {
    tls: Option<Tls>,
    routes: Routes,
    protocols: Protocols,
    handshake: Duration,
}

struct Server {
    shared: Arc<Shared>,
    open: Vec<Open>,
    timing: Timing,
}

/// A connection as the listener sees it.
struct Open {
    control: Arc<Control>,
    deadline: Instant,
    state: State,
    client: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has not asked anything yet.
    New,
    /// Has asked something.
    Known,
    /// Was told to close.
    Closing,
}

impl Server {
    async fn accept_until(
        &mut self,
        listener: TcpListener,
        slots: &Arc<Semaphore>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        let mut stop_at: Option<Instant> = None;
        let mut look = interval((self.timing.first_request.min(self.timing.idle) / 4).max(Duration::from_millis(10)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                (stream, client, slot) = accept(&listener, slots) => self.begin(stream, client, slot),
                _ = look.tick() => self.look(Instant::now()),
                () = &mut shutdown, if stop_at.is_none() => {
                    self.shared.routes.draining.store(true, Ordering::Release);
                    tracing::info!(delay = ?self.timing.drain_delay, "shutting down: not ready from now on");
                    stop_at = Some(Instant::now() + self.timing.drain_delay);
                }
                () = sleep_until(stop_at.unwrap_or_else(Instant::now)), if stop_at.is_some() => return,
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, client: IpAddr, slot: OwnedSemaphorePermit) {
        let its = self.open.iter().filter(|open| open.client == client && !open.control.has_ended());
        if its.count() >= self.timing.per_client {
            tracing::debug!(%client, "too many connections of one client");
            return;
        }
        let control = Arc::new(Control::default());
        let deadline = Instant::now() + self.timing.first_request;
        self.open.push(Open { control: Arc::clone(&control), deadline, state: State::New, client });
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _ended = Ended(Arc::clone(&control));
            run(&shared, stream, client, &control).await;
            drop(slot);
        });
    }

    /// Forgets ended connections and closes quiet ones: first in order, then by force.
    fn look(&mut self, now: Instant) {
        let Timing { idle, close, .. } = self.timing;
        self.open.retain_mut(|open| {
            if open.control.has_ended() {
                return false;
            }
            match (open.control.was_active(), open.state) {
                (true, State::Closing) => open.deadline = now + close,
                (true, State::New | State::Known) => {
                    open.state = State::Known;
                    open.deadline = now + idle;
                }
                (false, _) if now < open.deadline => {}
                (false, State::Known) => {
                    open.control.close();
                    open.state = State::Closing;
                    open.deadline = now + close;
                }
                // Nothing is in flight on a connection that never asked, and nothing in time on one that closes.
                (false, State::New | State::Closing) => open.control.end(),
            }
            true
        });
    }

    async fn drain(self, slots: &Semaphore) {
        self.open.iter().for_each(|open| open.control.close());
        // All slots are free when all connections are gone.
        let all = slots.acquire_many(self.timing.connections);
        if timeout(self.timing.drain, all).await.is_err() {
            let left = self.open.iter().filter(|open| !open.control.has_ended()).count();
            tracing::warn!(connections = left, "ended connections that did not finish in time");
            self.open.iter().for_each(|open| open.control.end());
        }
    }
}

/// The next connection, once there is room for one. Nothing is lost when this is dropped in between.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, IpAddr, OwnedSemaphorePermit) {
    loop {
        if let Ok(slot) = Arc::clone(slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, client)) => return (stream, client.ip().to_canonical(), slot),
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => tracing::error!(%error, "cannot accept connections"),
            }
        }
        // Out of file descriptors, as a rule: soon some will be free.
        sleep(Duration::from_millis(100)).await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn run(shared: &Shared, stream: TcpStream, address: IpAddr, control: &Arc<Control>) {
    // Answers are written in one piece; waiting for more would only add the delay.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = &shared.tls else {
        let peer = shared.routes.tells_peer.then(|| Arc::new(Peer { address, certificate: None }));
        return shared.protocols.speak(stream, false, shared.routes.guests.clone(), peer, control).await;
    };
    let Some(config) = tls.config() else {
        // No certificate yet: readiness says so.
        return tls.metrics().handshake_failed();
    };
    let stream = match timeout(shared.handshake, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tls.metrics().handshake_failed();
            return tracing::debug!(%error, "a TLS handshake failed");
        }
        Err(_elapsed) => return tls.metrics().handshake_failed(),
    };
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let is_known = !tls.demands_client() || certificate.is_some();
    let peer = shared.routes.tells_peer.then(|| {
        Arc::new(Peer { address, certificate: certificate.map(|certificate| certificate.clone().into_owned()) })
    });
    let router = if is_known { &shared.routes.known } else { &shared.routes.guests };
    shared.protocols.speak(stream, is_http2, router.clone(), peer, control).await;
}
