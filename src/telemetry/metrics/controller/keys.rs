//! Key files and their Secrets.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::{family, single};

const CHANGES: [&str; 4] = ["added", "changed", "emptied", "removed"];
const STATES: [&str; 9] =
    ["in-sync", "missing", "differs", "orphan", "foreign", "unreadable", "no-key", "secret-key", "refused"];

/// Counted by the key sync.
#[derive(Debug)]
pub struct KeyMetrics {
    changes: [Counter; CHANGES.len()],
    failures: Counter,
    files: [Gauge; STATES.len()],
    readable: Gauge,
    expiring: [Gauge; 2],
}

impl KeyMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let readable: Gauge =
            single(registry, "podseal_key_directory_readable", "0 when there is a key directory that cannot be read.");
        readable.set(1);
        let files = "Key files and Secrets of key files, by how they stand to each other.";
        Self {
            changes: family(registry, "podseal_key_changes", "Changes of key files that were carried out.", |i| {
                vec![("change", CHANGES[i])]
            }),
            failures: single(registry, "podseal_key_sync_failures", "Writes of key Secrets that failed."),
            files: family(registry, "podseal_key_files", files, |i| vec![("state", STATES[i])]),
            readable,
            expiring: family(registry, "podseal_key_files_expiring", "Keys in key files near or past expiry.", |i| {
                vec![("when", ["within-30-days", "past"][i])]
            }),
        }
    }

    /// A change was carried out: `added`, `changed`, `emptied` or `removed`.
    pub fn changed(&self, change: &str) {
        if let Some(slot) = CHANGES.iter().position(|known| *known == change) {
            self.changes[slot].inc();
        }
    }

    /// A write failed.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// How many stand in this way to each other; a state that is not known here is not counted.
    pub fn files(&self, state: &str, count: usize) {
        for (_, gauge) in STATES.iter().zip(&self.files).filter(|(known, _)| **known == state) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Whether the directory, if there is one, can be read.
    pub fn directory(&self, readable: bool) {
        self.readable.set(i64::from(readable));
    }

    /// How many keys expire within 30 days, and how many have.
    pub fn expiring(&self, soon: usize, past: usize) {
        for (gauge, count) in self.expiring.iter().zip([soon, past]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Another replica counts from now on; what was done stays counted.
    pub fn reset(&self) {
        for gauge in &self.files {
            gauge.set(0);
        }
        self.directory(true);
        self.expiring(0, 0);
    }
}
