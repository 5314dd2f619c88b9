//! How much there is, counted by looking through the folder now and then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{DiskError, SignatureDir, Walk};

/// How long a count is used again: by the page, which is to show what was just uploaded, and for the bound.
const FRESH: Duration = Duration::from_secs(2);
/// Entries of folders that are looked at, for every signature that may be kept.
const ENTRIES: usize = 4;

/// Counts, and bounds what is counted.
#[derive(Debug)]
pub(super) struct Census {
    dir: SignatureDir,
    max: usize,
    /// As of the last look, and what was added since.
    signatures: AtomicUsize,
    seen: Mutex<Option<(Instant, Arc<Walk>)>>,
}

impl Census {
    /// Nothing is counted yet.
    pub(super) fn new(dir: SignatureDir, max: usize) -> Self {
        Self { dir, max, signatures: AtomicUsize::new(0), seen: Mutex::new(None) }
    }

    /// Looks for the first time and removes what a process that was killed left behind; may block.
    pub(super) fn begin(&self) -> Result<(), DiskError> {
        let (walk, swept) = self.dir.walk_and_sweep(self.entries())?;
        if swept > 0 {
            tracing::info!(entries = swept, "removed what was being written when a process was killed");
        }
        self.keep(walk);
        Ok(())
    }

    /// What there is, as of a moment ago; may block. Who comes while it is counted waits for that.
    pub(super) fn look(&self) -> Result<Arc<Walk>, DiskError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, walk)) = seen.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(walk));
        }
        let walk = Arc::new(self.dir.walk(self.entries())?);
        self.count(&walk);
        *seen = Some((Instant::now(), Arc::clone(&walk)));
        Ok(walk)
    }

    /// Whether one more signature may be kept. Others may write at the same time, so the bound is not exact.
    pub(super) fn has_room(&self) -> bool {
        self.signatures.load(Ordering::Relaxed) < self.max
    }

    /// The most that are kept.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// One was added.
    pub(super) fn added(&self) -> usize {
        self.signatures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many there are.
    pub(super) fn signatures(&self) -> usize {
        self.signatures.load(Ordering::Relaxed)
    }

    fn entries(&self) -> usize {
        self.max.saturating_mul(ENTRIES).max(100_000)
    }

    fn keep(&self, walk: Walk) {
        self.count(&walk);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::new(walk)));
    }

    fn count(&self, walk: &Walk) {
        self.signatures.store(walk.seen.iter().map(|seen| seen.signatures).sum(), Ordering::Relaxed);
    }
}
