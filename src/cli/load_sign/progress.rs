//! How far it is: one line that is drawn anew on a terminal, a line per image where there is none.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::domain::printable::printable;

/// Not drawn more often, however small the steps are.
const PAUSE: Duration = Duration::from_millis(100);
const WIDTH: u64 = 24;

/// Shows one thing at a time.
pub(super) struct Progress {
    terminal: bool,
    drawn: Mutex<Option<Instant>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: Mutex::new(None) }
    }

    /// `done` of `all` bytes of something.
    pub(super) fn show(&self, what: &str, done: u64, all: u64) {
        let mut drawn = self.drawn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.terminal || drawn.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *drawn = Some(Instant::now());
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{}", bar(what, done, all)).and_then(|()| err.flush());
    }

    /// Says something in a line of its own, without the bar.
    pub(super) fn say(&self, text: &str) {
        self.clear();
        crate::cli::output::complain(&printable(text));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        let mut drawn = self.drawn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.terminal && drawn.take().is_some() {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(what: &str, done: u64, all: u64) -> String {
    let done = done.min(all);
    let full = if all == 0 {
        WIDTH
    } else {
        (u128::from(done) * u128::from(WIDTH) / u128::from(all)).try_into().unwrap_or(WIDTH)
    };
    let cell = |i| if i < full { '#' } else { '.' };
    let bar: String = (0..WIDTH).map(cell).collect();
    // The bar first: a long name is cut off at the edge of the terminal without harm.
    format!("[{bar}] {} of {}  {}", size(done), size(all), printable(what))
}

/// For people: `17 KiB`, `3.4 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, unit) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bars_are_for_people() {
        assert_eq!(
            [size(17), size(1 << 10), size(3_565_158), size(5 << 30)],
            ["17 B", "1.0 KiB", "3.3 MiB", "5.0 GiB"]
        );
        assert_eq!(bar("x", 1 << 20, 2 << 20), "[############............] 1.0 MiB of 2.0 MiB  x");
        assert_eq!(bar("x", 0, 0), "[########################] 0 B of 0 B  x");
        assert!(bar("a\u{1b}[2K\r\u{202e}b", 0, 1).ends_with(r"  a\u001b[2K\u000d\u202eb"), "a name steers nothing");
        assert_eq!(bar("x", 9, 3), "[########################] 3 B of 3 B  x");
    }
}
