//! What is to be done when: each key once, at the earliest time that was asked for, and never twice at the same time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

/// Keys with their times.
#[derive(Debug)]
pub(super) struct Queue<K> {
    order: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
    /// Under way, and when they are due again if that was asked for meanwhile.
    busy: HashMap<K, Option<Instant>>,
}

impl<K: Ord + Hash + Clone> Queue<K> {
    pub(super) fn new() -> Self {
        Self { order: BTreeSet::new(), at: HashMap::new(), busy: HashMap::new() }
    }

    /// Asks for a key at that time; an earlier time that was asked for before stays.
    pub(super) fn schedule(&mut self, key: &K, at: Instant) {
        if let Some(again) = self.busy.get_mut(key) {
            *again = Some(again.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        match self.at.get(key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => _ = self.order.remove(&(*later, key.clone())),
            None => {}
        }
        self.at.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    /// The key that has waited longest, if its time has come. It is busy until [`Self::done`].
    pub(super) fn take(&mut self, now: Instant) -> Option<K> {
        let (at, key) = self.order.first()?.clone();
        if at > now {
            return None;
        }
        self.order.remove(&(at, key.clone()));
        self.at.remove(&key);
        self.busy.insert(key.clone(), None);
        Some(key)
    }

    /// A key that was taken is done with.
    pub(super) fn done(&mut self, key: &K) {
        if let Some(Some(again)) = self.busy.remove(key) {
            self.schedule(key, again);
        }
    }

    /// Asks no more for a key.
    pub(super) fn forget(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
        if let Some(again) = self.busy.get_mut(key) {
            *again = None;
        }
    }

    /// When the next key is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_time_counts_and_nothing_is_done_twice_at_once() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        let in_seconds = |seconds| now + Duration::from_secs(seconds);
        queue.schedule(&"a", in_seconds(9));
        queue.schedule(&"a", in_seconds(5));
        queue.schedule(&"a", in_seconds(7));
        queue.schedule(&"b", in_seconds(6));
        assert_eq!((queue.next(), queue.take(in_seconds(4))), (Some(in_seconds(5)), None));
        assert_eq!(queue.take(in_seconds(6)), Some("a"));
        queue.schedule(&"a", in_seconds(6));
        assert_eq!(queue.take(in_seconds(6)), Some("b"));
        assert_eq!(queue.take(in_seconds(6)), None, "a is under way");
        queue.done(&"a");
        assert_eq!(queue.take(in_seconds(6)), Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_is_forgotten_does_not_come_back() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.schedule(&"a", now);
        queue.forget(&"a");
        assert_eq!(queue.take(now), None);
        queue.schedule(&"a", now);
        assert_eq!(queue.take(now), Some("a"));
        queue.schedule(&"a", now);
        queue.forget(&"a");
        queue.done(&"a");
        assert_eq!(queue.next(), None);
    }
}
