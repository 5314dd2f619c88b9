//! Saying what goes wrong: in words that help, and not again and again.

use std::time::Duration;

use tokio::time::Instant;

pub use crate::cluster::describe;

/// How long the same trouble is not told again.
const REST: Duration = Duration::from_secs(60);

/// Lets the same text pass once a minute.
#[derive(Debug, Default)]
pub struct Quiet {
    last: Option<(String, Instant)>,
}

impl Quiet {
    /// Whether to say it now.
    pub fn says(&mut self, text: &str) -> bool {
        self.says_at(text, Instant::now())
    }

    /// The same at a time.
    pub fn says_at(&mut self, text: &str, now: Instant) -> bool {
        if self.last.as_ref().is_some_and(|(last, at)| last == text && now.saturating_duration_since(*at) < REST) {
            return false;
        }
        self.last = Some((text.to_owned(), now));
        true
    }

    /// All is well again: the next trouble is told at once. Whether there was any.
    pub fn reset(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use kube::Error;

    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_something_else_at_once() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        let mut says = |text, seconds| quiet.says_at(text, start + Duration::from_secs(seconds));
        assert_eq!(
            [says("a", 0), says("a", 59), says("a", 60), says("b", 61), says("a", 62)],
            [true, false, true, true, true]
        );
        assert!(quiet.reset() && !quiet.reset());
        assert!(quiet.says_at("a", start + Duration::from_secs(63)));
    }

    #[test]
    fn the_api_servers_own_words_are_told() {
        let refused =
            Error::Api(Box::new(kube::core::Status::failure("leases is forbidden", "Forbidden").with_code(403)));
        assert_eq!(describe(&refused), "leases is forbidden");
        let silent = Error::Api(Box::new(kube::core::Status::failure("", "Gone").with_code(410)));
        assert_eq!(describe(&silent), "the API server answered 410 Gone");
    }
}
