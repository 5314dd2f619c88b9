//! When keys expire: the one metric with label values from outside, and therefore a bounded one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// How many keys are known by name; those that expire first are kept.
pub const MAX_KEYS: usize = 1000;
/// Longest label value that comes from outside, in characters.
const MAX_LABEL_CHARS: usize = 128;

/// Fingerprint and source of a key → when it expires. A scrape sees the set before or after a change, never half.
#[derive(Debug, Default)]
pub(super) struct KeyExpiry(Mutex<BTreeMap<(String, String), Option<f64>>>);

impl KeyExpiry {
    /// A panic while the lock is held cannot leave the map inconsistent.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Option<f64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or updates a key and gives how many are known.
    pub(super) fn add(&self, fingerprint: &str, source: &str, expires: Option<f64>) -> usize {
        let mut keys = self.lock();
        keys.insert((label(fingerprint), label(source)), expires);
        if keys.len() > MAX_KEYS {
            let late = |expires: &Option<f64>| expires.unwrap_or(f64::INFINITY);
            let last = keys.iter().max_by(|a, b| late(a.1).total_cmp(&late(b.1))).map(|(key, _)| key.clone());
            last.and_then(|last| keys.remove(&last));
        }
        keys.len()
    }

    /// Removes the keys of this source and of what is below it, and gives how many are left.
    pub(super) fn forget(&self, source: &str) -> usize {
        let source = label(source);
        let mut keys = self.lock();
        keys.retain(|(_, of), _| {
            of.strip_prefix(&source).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
        });
        keys.len()
    }
}

impl Collector for KeyExpiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "podseal_key_expiry_timestamp_seconds",
            "When a trusted key expires, in seconds since 1970 (keys without an expiry have no series).",
            None,
            MetricType::Gauge,
        )?;
        let keys = self.lock().clone();
        for ((key, source), expiry) in keys {
            let Some(expiry) = expiry else { continue };
            let labels = [("key", key.as_str()), ("source", source.as_str())];
            metric.encode_family(&labels)?.encode_gauge(&expiry)?;
        }
        Ok(())
    }
}

/// A label value from outside: bounded, and without control characters.
fn label(value: &str) -> String {
    value.chars().take(MAX_LABEL_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect()
}
