//! Key files and their Secrets.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::{Labels, family, register, single};

const CHANGES: [&str; 4] = ["added", "changed", "emptied", "removed"];

/// Counted by the key sync.
#[derive(Debug)]
pub struct KeyMetrics {
    changes: [Counter; CHANGES.len()],
    failures: Counter,
    files: Family<Labels, Gauge>,
    readable: Family<Labels, Gauge>,
    expiring: [Gauge; 2],
}

impl KeyMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let files = "Key files and Secrets of key files, by how they stand to each other.";
        Self {
            changes: family(registry, "podseal_key_changes", "Changes of key files that were carried out.", |i| {
                vec![("change", CHANGES[i])]
            }),
            failures: single(registry, "podseal_key_sync_failures", "Writes of key Secrets that failed."),
            files: register(registry, "podseal_key_files", files, Family::default()),
            readable: register(
                registry,
                "podseal_key_directory_readable",
                "1 when the key directory can be read, else 0.",
                Family::default(),
            ),
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

    /// How many stand in this way to each other; `state` comes from a closed set.
    pub fn files(&self, state: &'static str, count: usize) {
        self.files.get_or_create(&vec![("state", state)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the directory can be read; `None` when there is none to read.
    pub fn directory(&self, readable: Option<bool>) {
        match readable {
            Some(readable) => drop(self.readable.get_or_create(&Vec::new()).set(i64::from(readable))),
            None => self.readable.clear(),
        }
    }

    /// How many keys expire within 30 days, and how many have.
    pub fn expiring(&self, soon: usize, past: usize) {
        for (gauge, count) in self.expiring.iter().zip([soon, past]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Another replica counts from now on; what was done stays counted.
    pub fn reset(&self) {
        self.files.clear();
        self.readable.clear();
        self.expiring(0, 0);
    }
}
