//! What strangers can bring about as often as they ask is logged seldom: it would fill the log.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same text is not told again.
const REST: Duration = Duration::from_secs(10 * 60);
/// How many texts are remembered; above that all are forgotten, and told once more.
const MAX_TEXTS: usize = 1024;

static TOLD: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);

/// Whether to log this text now: the first time, and not again within ten minutes.
pub fn says(text: &str) -> bool {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    says_at(&mut told, text, Instant::now())
}

fn says_at(told: &mut HashMap<String, Instant>, text: &str, now: Instant) -> bool {
    if told.get(text).is_some_and(|at| now.saturating_duration_since(*at) < REST) {
        return false;
    }
    if told.len() >= MAX_TEXTS {
        told.clear();
    }
    told.insert(text.to_owned(), now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_again_after_ten_minutes_and_another_at_once() {
        let (mut told, start) = (HashMap::new(), Instant::now());
        let mut says = |text, seconds| says_at(&mut told, text, start + Duration::from_secs(seconds));
        assert_eq!([says("a", 0), says("a", 599), says("b", 599), says("a", 600)], [true, false, true, true]);
    }

    #[test]
    fn no_number_of_texts_fills_the_memory() {
        let (mut told, now) = (HashMap::new(), Instant::now());
        assert!((0..=MAX_TEXTS * 2).all(|number| says_at(&mut told, &number.to_string(), now)));
        assert_eq!(told.len(), 1);
    }
}
