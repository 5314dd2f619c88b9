//! How long a review may take.
//!
//! The API server says in the query (`?timeout=10s`, a Go duration) when it will give up. What is left for the review
//! is that time less a margin for the way back of the answer: 500 ms or a tenth, the larger. An answer that comes
//! too late is none: the user would read "context deadline exceeded" instead of the reason.

use std::time::Duration;

/// What the API server uses when the webhook configuration says nothing.
const DEFAULT: Duration = Duration::from_secs(10);
/// The API server accepts timeouts from one to thirty seconds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const LEAST_MARGIN: Duration = Duration::from_millis(500);

/// The time of one review, counted from the arrival of its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For body and review together.
    pub work: Duration,
    /// Kept back for the answer.
    pub margin: Duration,
}

impl Budget {
    /// The budget from the query of the request; a timeout that is absent or cannot be read counts as ten seconds.
    /// If the API server gave up earlier, it would not admit the object either.
    pub fn of_query(query: Option<&str>) -> Self {
        let given = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| pair.strip_prefix("timeout="))
            .and_then(parse_go_duration)
            .unwrap_or(DEFAULT)
            .clamp(SHORTEST, LONGEST);
        let margin = LEAST_MARGIN.max(given / 10);
        Self { work: given.saturating_sub(margin), margin }
    }
}

/// Parses a duration as Go's `time.ParseDuration` writes and reads it: `10s`, `1m30s`, `500ms`, `1.5h`, `0`.
///
/// `None` for what Go refuses, for negative durations and for anything longer than Go's 292 years.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_part(rest)?;
        total = total.checked_add(nanoseconds).filter(|sum| i64::try_from(*sum).is_ok())?;
        rest = after;
    }
    Some(Duration::from_nanos(total))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn parse_part(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(unit)?;
    let mut place = unit;
    // Digits beyond a nanosecond add nothing.
    for digit in fraction.bytes().take(20) {
        place /= 10;
        nanoseconds = nanoseconds.checked_add(place.checked_mul(u64::from(digit - b'0'))?)?;
    }
    Some((nanoseconds, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            (".5s", 500),
            ("2h45m", 9_900_000),
            ("+3s", 3_000),
            ("0", 0),
            ("0s", 0),
            ("1000000µs", 1_000),
            ("1.0000000000000000000000000000000001s", 1_000),
        ] {
            assert_eq!(parse_go_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in
            ["", "+", "10", "s", ".s", "-1s", "10 s", "1d", "10s5", "9999999999999h", "99999999999999999999s", "1e3s"]
        {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn h4_the_margin_is_half_a_second_or_a_tenth() {
        let work = |query| Budget::of_query(query).work.as_millis();
        assert_eq!(work(None), 9_000);
        assert_eq!(work(Some("timeout=10s")), 9_000);
        assert_eq!(work(Some("a=b&timeout=3s&c")), 2_500);
        assert_eq!(work(Some("timeout=1s")), 500);
        assert_eq!(work(Some("timeout=5s")), 4_500);
    }

    #[test]
    fn a_timeout_out_of_range_or_unreadable_is_bounded() {
        let work = |query| Budget::of_query(Some(query)).work.as_millis();
        assert_eq!(work("timeout=0s"), 500);
        assert_eq!(work("timeout=10h"), 27_000);
        assert_eq!(work("timeout=soon"), 9_000);
        assert_eq!(work("xtimeout=1s"), 9_000);
    }
}
