//! One connection: which protocol, and the orders that end it.
//!
//! A connection has no timer of its own. It notes that a request began, and the listener, which looks at all
//! connections once in a while, orders those to close that were quiet for too long. A poll of a busy connection costs
//! two atomic operations for it.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use futures::task::AtomicWaker;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;

/// Requests at once on one HTTP/2 connection. Clients open further connections beyond it; API servers ask by HTTP/1.1.
const MAX_STREAMS: u32 = 250;
/// Size of all headers of one request; the API server sends some five hundred bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// Read buffer of an HTTP/1 connection, which bounds its headers, too.
const MAX_HTTP1_BUFFER: usize = 64 * 1024;
/// A peer that vanished without a word is found by pings.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// For the client's side of a connection that was closed in order.
const LINGER: Duration = Duration::from_secs(2);

const STAY: u8 = 0;
const CLOSE: u8 = 1;
const DROP: u8 = 2;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address; that of a proxy, if there is one in between.
    pub address: IpAddr,
    /// The certificate it showed, verified against the client CA, in DER.
    pub certificate: Option<CertificateDer<'static>>,
}

/// What the listener and a connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Control {
    order: AtomicU8,
    waker: AtomicWaker,
    active: AtomicBool,
    ended: AtomicBool,
}

impl Control {
    /// Finish what is in flight, take no more, then close (`GOAWAY`, `Connection: close`).
    pub(super) fn close(&self) {
        self.give(CLOSE);
    }

    /// End at once.
    pub(super) fn end(&self) {
        self.give(DROP);
    }

    fn give(&self, order: u8) {
        self.order.fetch_max(order, Ordering::Release);
        self.waker.wake();
    }

    /// Whether a request began since the last call.
    pub(super) fn was_active(&self) -> bool {
        self.active.swap(false, Ordering::Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Tells the listener that the connection is gone, however it went.
#[derive(Debug)]
pub(super) struct Ended(pub(super) Arc<Control>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// How connections are spoken with; made once per listener.
#[derive(Debug, Clone)]
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        // No timer per request here: the listener bounds the first request and idleness, which covers slow headers.
        http1.header_read_timeout(None).max_buf_size(MAX_HTTP1_BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .max_pending_accept_reset_streams(Some(20))
            .max_local_error_reset_streams(Some(256))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { http1, http2 }
    }

    /// Speaks HTTP/1.1, or HTTP/2 if that was agreed on in the handshake, until the connection ends.
    ///
    /// Requests carry `peer` as an extension, if there is one.
    pub(super) async fn speak<S>(
        &self,
        mut stream: S,
        is_http2: bool,
        router: Router,
        peer: Option<Arc<Peer>>,
        control: &Arc<Control>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let service = Noting { router: TowerToHyperService::new(router), peer, control: Arc::clone(control) };
        let io = TokioIo::new(&mut stream);
        if is_http2 {
            follow(self.http2.serve_connection(io, service), control).await;
        } else {
            follow(self.http1.serve_connection(io, service), control).await;
        }
        if control.order.load(Ordering::Acquire) == CLOSE {
            linger(stream).await;
        }
    }
}

/// Notes that a request began.
struct Noting {
    router: TowerToHyperService<Router>,
    peer: Option<Arc<Peer>>,
    control: Arc<Control>,
}

impl Service<Request<Incoming>> for Noting {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = TowerToHyperServiceFuture<Router, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        self.control.active.store(true, Ordering::Relaxed);
        self.router.call(request)
    }
}

/// A connection that can be asked to finish.
trait Finish: Future<Output = hyper::Result<()>> {
    fn finish(self: Pin<&mut Self>);
}

impl<S> Finish for http1::Connection<TokioIo<S>, Noting>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Finish for http2::Connection<TokioIo<S>, Noting, TokioExecutor>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn follow(connection: impl Finish, control: &Control) {
    let mut connection = pin!(connection);
    let mut closing = false;
    let result = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            // Registered before the order is read, so that an order in between wakes this task.
            control.waker.register(cx.waker());
            match control.order.load(Ordering::Acquire) {
                STAY => return Poll::Pending,
                CLOSE if closing => return Poll::Pending,
                CLOSE => {
                    closing = true;
                    connection.as_mut().finish();
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Reads on, and answers nothing, until the client has closed its side as well.
///
/// A client may send a request before it has read that the connection closes. Were the socket gone by then, the reset
/// that answers would throw away the very `GOAWAY` which tells the client that it may ask again elsewhere: the request,
/// a review, would have failed. The bytes themselves need no answer, for what was not accepted was not judged.
async fn linger(mut stream: impl AsyncRead + Unpin) {
    let mut rest = vec![0; 4096];
    let ended = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    if timeout(LINGER, ended).await.is_err() {
        tracing::debug!("a client did not close its side of a connection");
    }
}
