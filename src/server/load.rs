//! What is in flight, counted: reviews and the bytes of their bodies. Nobody waits here; who does not fit is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The counters and their limits.
#[derive(Debug)]
pub(crate) struct Load {
    reviews: AtomicUsize,
    max_reviews: usize,
    bytes: AtomicUsize,
    max_bytes: usize,
}

impl Load {
    pub(crate) fn new(max_reviews: usize, max_bytes: usize) -> Self {
        Self { reviews: AtomicUsize::new(0), max_reviews, bytes: AtomicUsize::new(0), max_bytes }
    }
}

/// The right to one review; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Load>);

impl Slot {
    /// `None` when as many reviews as allowed are in flight.
    pub(crate) fn take(load: &Arc<Load>) -> Option<Self> {
        let before = load.reviews.fetch_add(1, Ordering::Relaxed);
        let slot = Self(Arc::clone(load));
        (before < load.max_reviews).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.reviews.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to hold bytes of a body in memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    load: Arc<Load>,
    bytes: usize,
}

impl Held {
    pub(crate) fn none(load: &Arc<Load>) -> Self {
        Self { load: Arc::clone(load), bytes: 0 }
    }

    /// Adds bytes that have arrived; `false` when all bodies together would be too large.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before.saturating_add(bytes) <= self.load.max_bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_a_slot_beyond_the_limit_is_refused_and_a_given_back_one_is_free() {
        let load = Arc::new(Load::new(2, 0));
        let first = Slot::take(&load).unwrap();
        let _second = Slot::take(&load).unwrap();
        assert!(Slot::take(&load).is_none());
        assert!(Slot::take(&load).is_none());
        drop(first);
        assert!(Slot::take(&load).is_some());
    }

    #[test]
    fn h16_bytes_beyond_the_limit_are_refused_and_given_back() {
        let load = Arc::new(Load::new(0, 10));
        let mut first = Held::none(&load);
        assert!(first.grow(6));
        let mut second = Held::none(&load);
        assert!(!second.grow(5));
        drop(second);
        assert!(first.grow(4));
        assert!(!first.grow(1));
        drop(first);
        assert_eq!(load.bytes.load(Ordering::Relaxed), 0);
    }
}
