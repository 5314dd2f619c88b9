//! When to ask again: RFC 9110 `Retry-After`, or growing pauses with jitter.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;

/// Tries of one request, the first included.
pub(super) const MAX_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whether the server says "not now".
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// What the server asked for: seconds, or a date relative to `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The pause after the try with this number (from 1): doubled each time, and up to half as much again at random, so
/// that replicas do not come back together.
pub(super) fn backoff(tried: u32) -> Duration {
    let base = FIRST_PAUSE * 2u32.saturating_pow(tried.saturating_sub(1).min(8));
    let random = std::hash::RandomState::new().build_hasher().finish() % 512;
    base + base / 1024 * u32::try_from(random).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().expect("header"));
        retry_after(&headers, "2026-01-01T00:00:00Z".parse().expect("time"))
    }

    #[test]
    fn h9_retry_after_is_seconds_or_a_date() {
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Thu, 01 Jan 2026 00:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(after("Wed, 31 Dec 2025 23:59:00 GMT"), Some(Duration::ZERO));
        assert!(after("99999999999999999999999").is_some_and(|d| d > Duration::from_secs(60 * 60)));
        for bad in ["", "soon", "-1", "1.5"] {
            assert_eq!(after(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses_grow_and_stay_short() {
        for tried in 1..=40 {
            let base = FIRST_PAUSE * 2u32.pow((tried - 1).min(8));
            let pause = backoff(tried);
            assert!(pause >= base && pause <= base + base / 2, "{tried}: {pause:?}");
        }
    }
}
