//! Answers with the bytes of a file: conditions and ranges (RFC 9110, sections 13 and 14).

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::domain::digest::Digest;

/// What is sent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte.
    Range(usize, usize),
    /// The range has none of the file's bytes.
    None,
}

/// The answer to a `GET` of a file with this content, changed at this time (seconds since 1970).
pub(super) fn answer(asked: &HeaderMap, content: Bytes, modified: i64, media_type: &'static str) -> Response {
    let tag = format!("\"{}\"", Digest::sha256(&content).hex().get(..32).unwrap_or_default());
    let date = http_date(modified);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    put(headers, ETAG, &tag);
    put(headers, LAST_MODIFIED, &date);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_known(asked, &tag, &date) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let length = content.len();
    let (status, body) = match part(asked, &tag, &date, length) {
        Part::Whole => (StatusCode::OK, content),
        Part::Range(first, last) => {
            put(headers, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
            (StatusCode::PARTIAL_CONTENT, content.slice(first..=last))
        }
        Part::None => {
            put(headers, CONTENT_RANGE, &format!("bytes */{length}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.status_mut() = status;
    *response.body_mut() = Body::from(body);
    response
}

fn put(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text(asked: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    asked.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the client says that it has this very content. Tags decide; dates only where no tag is sent, and like nginx
/// only if they are the file's exactly.
fn is_known(asked: &HeaderMap, tag: &str, date: &str) -> bool {
    if asked.contains_key(IF_NONE_MATCH) {
        let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        return tags
            .flat_map(|tags| tags.split(','))
            .map(str::trim)
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    }
    text(asked, IF_MODIFIED_SINCE) == Some(date)
}

/// One range of bytes is honoured; of several, of other units and of what cannot be read the whole file is the answer.
fn part(asked: &HeaderMap, tag: &str, date: &str, length: usize) -> Part {
    let Some(range) = text(asked, RANGE) else { return Part::Whole };
    if asked.contains_key(IF_RANGE) && !text(asked, IF_RANGE).is_some_and(|known| known == tag || known == date) {
        return Part::Whole;
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let number = |digits: &str| {
        let digits = digits.trim();
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // What is too large for the type is beyond every file.
        plain.then(|| digits.parse().unwrap_or(usize::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), None) if last.trim().is_empty() => satisfiable(first, usize::MAX, length),
        (Some(first), Some(last)) if first <= last => satisfiable(first, last, length),
        (None, Some(0)) if first.trim().is_empty() => Part::None,
        (None, Some(tail)) if first.trim().is_empty() => satisfiable(length.saturating_sub(tail), usize::MAX, length),
        _ => Part::Whole,
    }
}

fn satisfiable(first: usize, last: usize, length: usize) -> Part {
    match length.checked_sub(1) {
        Some(end) if first <= end => Part::Range(first, last.min(end)),
        _ => Part::None,
    }
}

/// A time in seconds since 1970 as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http_date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A time as people read it: `2031-03-01 12:30 UTC`.
pub(super) fn readable_time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"0123456789";

    fn asked(headers: &[(http::HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        answer(&headers, Bytes::from_static(CONTENT), 784_111_777, "application/octet-stream")
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn one_range_is_sent_and_others_are_the_whole() {
        for (range, wanted) in [
            ("bytes=0-3", "0123"),
            ("bytes=8-", "89"),
            ("bytes=-3", "789"),
            ("bytes=-99", "0123456789"),
            ("bytes=9-99999999999999999999999", "9"),
        ] {
            let response = asked(&[(RANGE, range)]);
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(body(response).await, wanted.as_bytes(), "{range}");
        }
        for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
            let response = asked(&[(RANGE, range)]);
            assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
            assert_eq!(response.headers()[CONTENT_RANGE], "bytes */10");
        }
        for range in ["bytes=0-1,3-4", "bytes=3-1", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=+1-2"] {
            let response = asked(&[(RANGE, range)]);
            assert_eq!(response.status(), StatusCode::OK, "{range}");
            assert_eq!(body(response).await, CONTENT);
        }
    }

    #[test]
    fn who_has_the_content_is_not_sent_it_again() {
        let tag = asked(&[]).headers()[ETAG].to_str().unwrap().to_owned();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(asked(&[]).headers()[LAST_MODIFIED], date);
        let weak = format!("\"x\", W/{tag}");
        for known in [&*tag, "*", &weak] {
            assert_eq!(asked(&[(IF_NONE_MATCH, known)]).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, date)]).status(), StatusCode::NOT_MODIFIED);
        for (name, value) in [(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:38 GMT")] {
            assert_eq!(asked(&[(name, value)]).status(), StatusCode::OK);
        }
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, date)]).status(), StatusCode::OK);
    }

    #[test]
    fn a_range_of_other_content_is_the_whole() {
        let tag = asked(&[]).headers()[ETAG].to_str().unwrap().to_owned();
        let range = |known: &str| asked(&[(RANGE, "bytes=0-1"), (IF_RANGE, known)]).status();
        assert_eq!(range(&tag), StatusCode::PARTIAL_CONTENT);
        assert_eq!(range("\"x\""), StatusCode::OK);
    }
}
