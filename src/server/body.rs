//! Reading a body: bounded in size, in time, and in what all bodies hold together.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::Body as _;

use super::load::{Held, Load};

/// Why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request body is larger than is taken here")]
    TooLarge,
    #[error("the request body did not arrive in time")]
    TooSlow,
    #[error("the request body broke off")]
    Broken,
    #[error("too many large requests at once, try again")]
    Crowded,
}

impl BodyError {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Reads a body of at most `limit` bytes within `time`. What it holds in memory is counted until `Held` is dropped.
pub(crate) async fn read(
    body: Body,
    load: &Arc<Load>,
    limit: usize,
    time: Duration,
) -> Result<(Bytes, Held), BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(time, collect(body, load, limit)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut body: Body, load: &Arc<Load>, limit: usize) -> Result<(Bytes, Held), BodyError> {
    let mut held = Held::none(load);
    let Some(first) = next(&mut body, &mut held, limit).await? else { return Ok((Bytes::new(), held)) };
    if body.is_end_stream() {
        // The ordinary case: one piece, no copy.
        return Ok((first, held));
    }
    // Only what has arrived counts as held: a client that announces much and sends little reserves nothing.
    let mut whole = BytesMut::from(first);
    while let Some(more) = next(&mut body, &mut held, limit.saturating_sub(whole.len())).await? {
        if whole.capacity() - whole.len() < more.len() {
            let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit).min(limit);
            whole.reserve(more.len() + announced);
        }
        whole.extend_from_slice(&more);
    }
    Ok((whole.freeze(), held))
}

/// The next piece that is not empty; `None` at the end.
async fn next(body: &mut Body, held: &mut Held, room: usize) -> Result<Option<Bytes>, BodyError> {
    loop {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else { return Ok(None) };
        // Trailers say nothing about a review.
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if data.len() > room {
            return Err(BodyError::TooLarge);
        }
        if !held.grow(data.len()) {
            return Err(BodyError::Crowded);
        }
        if !data.is_empty() {
            return Ok(Some(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<Result<&'static str, std::io::Error>> = pieces.iter().copied().map(Ok).collect();
        Body::from_stream(stream::iter(pieces))
    }

    async fn read_with(body: Body, limit: usize, memory: usize) -> Result<Bytes, BodyError> {
        read(body, &Arc::new(Load::new(0, memory)), limit, SOON).await.map(|(bytes, _)| bytes)
    }

    #[tokio::test]
    async fn a_body_in_one_piece_or_many_is_read_whole() {
        assert_eq!(read_with(Body::from("abc"), 3, 3).await.unwrap(), "abc");
        assert_eq!(read_with(pieces(&["a", "", "b", "c"]), 3, 3).await.unwrap(), "abc");
        assert_eq!(read_with(Body::empty(), 3, 3).await.unwrap(), "");
    }

    #[tokio::test]
    async fn h16_one_byte_too_many_is_refused_announced_or_not() {
        assert_eq!(read_with(Body::from("abcd"), 3, 100).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(read_with(pieces(&["abcd"]), 3, 100).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(read_with(pieces(&["ab", "cd"]), 3, 100).await.unwrap_err(), BodyError::TooLarge);
    }

    #[tokio::test]
    async fn h16_bodies_together_are_bounded() {
        assert_eq!(read_with(pieces(&["ab", "cd"]), 100, 3).await.unwrap_err(), BodyError::Crowded);
    }

    #[tokio::test]
    async fn h16_a_body_that_does_not_come_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<&'static str, std::io::Error>>());
        assert_eq!(read_with(never, 100, 100).await.unwrap_err(), BodyError::TooSlow);
    }

    #[tokio::test]
    async fn a17_a_body_that_breaks_off_is_an_error_not_a_short_body() {
        let broken = stream::iter([Ok("{"), Err(std::io::Error::other("gone"))]);
        assert_eq!(read_with(Body::from_stream(broken), 100, 100).await.unwrap_err(), BodyError::Broken);
    }
}
