//! When a certificate is valid: the fields of X.509 (RFC 5280 section 4.1) that metrics and renewal need.
//!
//! The TLS library checks certificates but does not tell their dates. This reads just enough DER to find them and
//! decides nothing about trust.

use std::time::Duration;

/// The validity of a certificate, in seconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// `notBefore`.
    pub not_before: i64,
    /// `notAfter`.
    pub not_after: i64,
}

impl Period {
    /// Whether the certificate is valid at this time, in seconds since 1970.
    pub fn holds_at(self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// How long it is valid from first to last.
    pub fn length(self) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0))
    }

    /// How long it is still valid at this time; nothing once it has expired.
    pub fn left_at(self, now: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(now)).unwrap_or(0))
    }
}

/// A time in seconds since 1970 as people read it, such as `2031-03-01T00:00:00Z`.
pub fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

/// `notAfter` of a DER certificate in seconds since 1970; `None` if it is no certificate.
pub fn not_after(certificate: &[u8]) -> Option<i64> {
    Some(period(certificate)?.not_after)
}

/// The validity of a DER certificate; `None` if it is no certificate.
pub fn period(certificate: &[u8]) -> Option<Period> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (rest, _) = element(certificate, SEQUENCE)?;
    // A certificate of version 1 has no version field.
    let rest = element(rest, VERSION).map_or(rest, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (tag, not_before, rest) = any_element(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = any_element(rest)?;
    Some(Period { not_before, not_after: time(tag, not_after)? })
}

/// The content of an element with this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(input)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest. Tags above 30 and lengths of more than four bytes do not occur in the fields read here.
fn any_element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime` (`YYMMDDHHMMSSZ`, years from 1950) or `GeneralizedTime` (`YYYYMMDDHHMMSSZ`).
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = jiff::civil::Date::new(year, pair(0)?, pair(2)?).ok()?;
    let time = jiff::civil::Time::new(pair(4)?, pair(6)?, pair(8)?, 0).ok()?;
    Some(date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["webhook.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 3, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (year, expected) in [(2031, "2031-03-01T00:00:00Z"), (2071, "2071-03-01T00:00:00Z")] {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            assert_eq!(not_after(&certificate(year)), Some(expected.as_second()));
            let from: jiff::Timestamp = "1999-01-01T00:00:00Z".parse().unwrap();
            let period = period(&certificate(year)).unwrap();
            assert_eq!(period, Period { not_before: from.as_second(), not_after: expected.as_second() });
            for (now, holds) in [(period.not_before, true), (period.not_after, true), (period.not_after + 1, false)] {
                assert_eq!(period.holds_at(now), holds, "{now}");
            }
            assert!(!period.holds_at(period.not_before - 1));
            assert_eq!(period.left_at(period.not_after - 5), Duration::from_secs(5));
            assert_eq!(period.left_at(period.not_after + 5), Duration::ZERO);
        }
        assert_eq!(time(0x17, b"500101000000Z"), Some(-631_152_000));
    }

    #[test]
    fn what_is_no_certificate_gives_nothing() {
        let whole = certificate(2031);
        for length in 0..whole.len().min(200) {
            assert_eq!(not_after(whole.get(..length).unwrap()), None);
        }
        for (tag, text) in [
            (0x17, &b"310301000000"[..]),
            (0x17, b"311301000000Z"),
            (0x17, b"20310301000000Z"),
            (0x18, b"2031030100000\xffZ"),
            (0x18, b"20310301+00000Z"),
            (0x19, b"20310301000000Z"),
        ] {
            assert_eq!(time(tag, text), None, "{text:?}");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(&[0x30, 0x80]), None);
    }
}
