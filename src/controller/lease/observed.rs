//! How long the Lease of another still counts.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::holder;

/// Whatever a Lease says of its own duration, it is not waited for longer than this without a change.
const LONGEST: Duration = Duration::from_secs(60);

/// What a candidate saw of the Lease, and when it changed before its eyes.
#[derive(Debug, Default)]
pub(super) struct Observed {
    last: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    version: Option<String>,
    until: Instant,
}

impl Observed {
    /// Takes note of the Lease as it was found at `now`. `None`: it may be taken. Otherwise how long it may not.
    ///
    /// A change begins a new term, of `duration` or of what the Lease itself says, if that is longer. A Lease that is
    /// deleted while somebody has it counts until its term is over: who had it may not know yet.
    pub(super) fn look(
        &mut self,
        found: Option<&Lease>,
        own_identity: &str,
        duration: Duration,
        now: Instant,
    ) -> Option<Duration> {
        if let Some(lease) = found {
            let other = holder(lease).filter(|holder| *holder != own_identity);
            if other.is_none() {
                self.last = None;
                return None;
            }
            let version = lease.metadata.resource_version.clone();
            if self.last.as_ref().is_none_or(|last| last.version != version) {
                self.last = Some(Seen { version, until: now + duration.max(stated(lease).min(LONGEST)) });
            }
        }
        let left = self.last.as_ref()?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

fn stated(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0))
}
