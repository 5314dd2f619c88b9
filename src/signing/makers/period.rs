//! How long a key is valid, as gpg's users write it.

use std::str::FromStr;
use std::time::Duration;

/// Most years: an OpenPGP time ends in 2106.
const MAX_DAYS: u32 = 50 * 365;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `0` for ever; `30d`, `4w`, `6m`, `2y` for days of 24 hours, weeks of 7 days, months of 30 days and years of 365 days, as
/// gpg counts them; a number alone is days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Option<Duration>);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected 0 (never), or days, weeks, months or years such as 30d, 4w, 6m, 2y".to_owned();
        if text == "0" {
            return Ok(Self(None));
        }
        let (number, days) = match text.char_indices().next_back() {
            Some((at, 'd')) => (text.get(..at), 1),
            Some((at, 'w')) => (text.get(..at), 7),
            Some((at, 'm')) => (text.get(..at), 30),
            Some((at, 'y')) => (text.get(..at), 365),
            _ => (Some(text), 1),
        };
        let number = number.filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u32 = number.and_then(|number| number.parse().ok()).filter(|&n| n > 0).ok_or_else(wrong)?;
        let days = number.checked_mul(days).filter(|&days| days <= MAX_DAYS);
        days.map(|days| Self(Some(DAY * days))).ok_or_else(|| "more than 50 years; 0 is for ever".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_counted_in_days() {
        for (text, days) in
            [("1", 1), ("30", 30), ("30d", 30), ("4w", 28), ("6m", 180), ("2y", 730), ("50y", 18250), ("18250d", 18250)]
        {
            assert_eq!(text.parse(), Ok(Period(Some(DAY * days))), "{text}");
        }
        assert_eq!("0".parse(), Ok(Period(None)));
    }

    #[test]
    fn a_period_of_another_form_or_of_nothing_or_of_centuries_is_refused() {
        for text in [
            "",
            "d",
            "0d",
            "0y",
            "-1d",
            "+1d",
            "1.5y",
            "1h",
            "30 d",
            "1D",
            "d1",
            "٣d",
            "51y",
            "18251",
            "4294967295y",
            "99999999999",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
    }
}
