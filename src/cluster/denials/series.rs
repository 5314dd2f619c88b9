//! Which denials get an Event of their own, which only count up one that is there, and which are too many.
//!
//! Pure but for the time that is handed in. Everything is bounded: series in number and age, new ones by a bucket for each
//! namespace and one for all, repetitions by the time between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{About, Saying};

/// Series that are known at the same time, at most: of all, and of one namespace, whose oldest makes room for its next.
const MAX_SERIES: usize = 2048;
const MAX_OF_NAMESPACE: usize = 128;
/// A series that was not repeated for so long has ended. Events themselves are kept for an hour.
const IDLE: Duration = Duration::from_secs(600);
/// Between two updates of one Event.
const PAUSE: Duration = Duration::from_secs(30);
/// Updates of one look-through, at most; the others are due the next time.
const UPDATES: usize = 50;
/// New Events at once, and seconds until one more: of a namespace, and of all.
const OF_NAMESPACE: (f64, f64) = (20.0, 6.0);
const OF_ALL: (f64, f64) = (100.0, 0.1);

/// Same object, same words.
pub(super) type Key = Arc<(About, Saying)>;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Create(Key),
    Repeat { key: Key, name: String, count: i32 },
}

impl Step {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Create(key) | Self::Repeat { key, .. } => key,
        }
    }
}

/// What became of a denial.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing like it was told lately.
    New(Step),
    /// It is told by the count of an Event.
    Counted,
    /// Too many.
    Limited,
}

/// One Event.
#[derive(Debug)]
struct One {
    /// The Event's name, once it was written.
    name: String,
    count: i32,
    told: i32,
    last: Instant,
    sent: Instant,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full((size, _): (f64, f64), now: Instant) -> Self {
        Self { left: size, at: now }
    }

    fn refill(&mut self, (size, seconds): (f64, f64), now: Instant) {
        self.left = (self.left + now.saturating_duration_since(self.at).as_secs_f64() / seconds).min(size);
        self.at = now;
    }
}

/// All series.
#[derive(Debug)]
pub(super) struct Series {
    known: HashMap<Key, One>,
    all: Option<Bucket>,
    namespaces: HashMap<String, Bucket>,
}

impl Series {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), all: None, namespaces: HashMap::new() }
    }

    /// One more denial.
    pub(super) fn take(&mut self, about: About, saying: Saying, now: Instant) -> Taken {
        let key = Arc::new((about, saying));
        if let Some(one) = self.known.get_mut(&key) {
            one.count = one.count.saturating_add(1);
            one.last = now;
            return Taken::Counted;
        }
        if !self.allow(&key.0.namespace, now) {
            return Taken::Limited;
        }
        self.make_room(&key.0.namespace);
        self.known.insert(key.clone(), One { name: String::new(), count: 1, told: 1, last: now, sent: now });
        Taken::New(Step::Create(key))
    }

    /// A step was sent; `name` is that of a new Event.
    pub(super) fn sent(&mut self, key: &Key, name: Option<String>, now: Instant) {
        if let Some(one) = self.known.get_mut(key) {
            one.sent = now;
            if let Some(name) = name {
                one.name = name;
            }
        }
    }

    /// A step could not be sent.
    pub(super) fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// Updates whose time has come; forgets what has ended.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Step> {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.known.retain(|_, one| one.count > one.told || since(one.last) < IDLE);
        self.namespaces.retain(|_, bucket| {
            bucket.refill(OF_NAMESPACE, now);
            bucket.left < OF_NAMESPACE.0
        });
        let mut steps = Vec::new();
        for (key, one) in &mut self.known {
            if one.count > one.told && !one.name.is_empty() && since(one.sent) >= PAUSE && steps.len() < UPDATES {
                one.told = one.count;
                steps.push(Step::Repeat { key: key.clone(), name: one.name.clone(), count: one.count });
            }
        }
        steps
    }

    /// Forgets the series that has been silent for longest, of a namespace that has its share, else of all. One that is
    /// forgotten is told anew when it comes again; a full table that took nobody new would keep everybody else silent.
    fn make_room(&mut self, namespace: &str) {
        let own = self.known.keys().filter(|key| key.0.namespace == namespace).count();
        let from = if own >= MAX_OF_NAMESPACE { Some(namespace) } else { None };
        if from.is_none() && self.known.len() < MAX_SERIES {
            return;
        }
        let theirs = self.known.iter().filter(|(key, _)| from.is_none_or(|namespace| key.0.namespace == namespace));
        if let Some(oldest) = theirs.min_by_key(|(_, one)| one.last).map(|(key, _)| key.clone()) {
            self.known.remove(&oldest);
        }
    }

    /// Takes one from the namespace's bucket and one from that of all, if both have one. The number of buckets is bounded
    /// by that of all: a namespace without a bucket has a full one.
    fn allow(&mut self, namespace: &str, now: Instant) -> bool {
        let all = self.all.get_or_insert_with(|| Bucket::full(OF_ALL, now));
        all.refill(OF_ALL, now);
        if all.left < 1.0 {
            return false;
        }
        let own = self.namespaces.entry(namespace.to_owned()).or_insert_with(|| Bucket::full(OF_NAMESPACE, now));
        own.refill(OF_NAMESPACE, now);
        if own.left < 1.0 {
            return false;
        }
        own.left -= 1.0;
        all.left -= 1.0;
        true
    }
}
