//! Who may have cluster policies in the shared cluster, and who needs it without any.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Holders of cluster policies share; a holder of none is alone. A test may have several cluster policies: who has one
/// never waits, because nobody can hold the other side meanwhile.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    with: usize,
    without: bool,
}

/// Cluster policies may exist while it is held.
#[derive(Debug)]
pub(super) struct With<'a>(&'a Turn);

/// No cluster policies exist while it is held.
#[derive(Debug)]
pub(super) struct Without<'a>(&'a Turn);

impl Turn {
    pub(super) fn with(&self) -> With<'_> {
        let state = self.changed.wait_while(self.lock(), |state| state.without);
        state.unwrap_or_else(PoisonError::into_inner).with += 1;
        With(self)
    }

    pub(super) fn without(&self) -> Without<'_> {
        let state = self.changed.wait_while(self.lock(), |state| state.without || state.with > 0);
        state.unwrap_or_else(PoisonError::into_inner).without = true;
        Without(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for With<'_> {
    fn drop(&mut self) {
        self.0.lock().with -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Without<'_> {
    fn drop(&mut self) {
        self.0.lock().without = false;
        self.0.changed.notify_all();
    }
}
