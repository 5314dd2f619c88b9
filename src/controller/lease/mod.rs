//! One of several replicas leads, by a `Lease` of `coordination.k8s.io`.
//!
//! ```text
//!  leader     │ renews every 2 s │ stops 8 s after it began the last renewal that succeeded │
//!  the others │ take over 12 s after they saw the last change                                       │
//! ```
//!
//! Both judge by their own clocks and only by time that passes, so that clocks need not agree; the times written into the
//! Lease are for people. What the leader began can never last into the reign of the next: its work is a future that is not
//! polled again once the time is over, even where the process was stopped meanwhile, and its client refuses to write then
//! ([`Fence`]). When the process ends in order, the work is dropped first and the Lease given back afterwards, so that the
//! next leader need not wait.

mod fence;
mod observed;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

pub use self::fence::{Fence, FenceLayer, Fenced, LeaseLost, Moment};
use self::observed::Observed;
use super::{Context, FIELD_MANAGER, describe};

/// The times of an election.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long the others wait after the last change that they saw.
    pub duration: Duration,
    /// How long the leader works after it began its last successful renewal. Less than `duration` by more than any
    /// request may take that is under way when the work ends.
    pub deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { duration: Duration::from_secs(12), deadline: Duration::from_secs(8), retry: Duration::from_secs(2) }
    }
}

/// Stands for election.
#[derive(Debug)]
pub struct Candidate {
    /// With a client that is not fenced: a candidate writes the Lease before it leads.
    pub context: Context,
    /// The Lease's name in podseal's namespace.
    pub lease: String,
    /// What no other process is called, nor this one after a restart.
    pub identity: String,
    /// See [`Times`].
    pub times: Times,
    /// Opened while this candidate leads.
    pub fence: Fence,
}

/// A renewal that did not succeed.
enum Failed {
    /// Somebody else has the Lease.
    Taken(String),
    /// It may succeed the next time.
    Try(kube::Error),
}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Self {
        Self::Try(error)
    }
}

impl Candidate {
    /// Leads whenever it can, and has `work` done while it does, until `shutdown`. `work` is made anew for each reign and
    /// dropped at its end; it should not end by itself.
    pub async fn run<W: Future<Output = ()>>(self, work: impl Fn() -> W, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut held = tokio::select! {
                biased;
                () = &mut shutdown => return,
                held = self.acquire() => held,
            };
            info!(lease = %self.lease, identity = %self.identity, "this replica leads");
            self.context.metrics.controller.leader(true);
            let stop = tokio::select! {
                biased;
                () = &mut shutdown => true,
                () = self.hold(&mut held) => false,
                // Ends only with the lease, which the branch before reports.
                () = self.fence.guard(work()) => false,
            };
            // The work is dropped by now.
            self.fence.close();
            self.context.metrics.leads_no_more();
            if stop {
                self.release(held).await;
                return;
            }
            warn!(lease = %self.lease, "this replica leads no more");
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.context.client.clone(), &self.context.namespace)
    }

    /// Waits until the Lease is this candidate's.
    async fn acquire(&self) -> Lease {
        let mut seen = Observed::default();
        let mut trouble = super::Quiet::default();
        loop {
            let pause = match timeout(self.times.deadline / 2, self.try_acquire(&mut seen)).await {
                Ok(Ok(Ok(lease))) => return lease,
                Ok(Ok(Err(left))) => left.min(self.times.retry),
                Ok(Err(error)) => {
                    if trouble.says(&error.to_string()) {
                        let error = describe(&error);
                        warn!(lease = %self.lease, "no election: {error}");
                    }
                    self.times.retry
                }
                Err(_elapsed) => Duration::ZERO,
            };
            sleep(pause).await;
        }
    }

    /// One try: the Lease, or how long it surely belongs to somebody else.
    async fn try_acquire(&self, seen: &mut Observed) -> kube::Result<Result<Lease, Duration>> {
        let found = self.api().get_opt(&self.lease).await?;
        if let Some(left) = seen.look(found.as_ref(), &self.identity, self.times.duration, Instant::now()) {
            return Ok(Err(left));
        }
        let began = Moment::now();
        let written = self.write(self.taken(found)).await;
        match written {
            Ok(lease) => {
                self.fence.open(began, self.times.deadline);
                Ok(Ok(lease))
            }
            // Another candidate was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Err(self.times.retry)),
            Err(error) => Err(error),
        }
    }

    /// The Lease as it is when this candidate takes it.
    fn taken(&self, found: Option<Lease>) -> Lease {
        let is_new = found.is_none();
        let mut lease = found.unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        lease.metadata.name = Some(self.lease.clone());
        // Their own record would only be refused.
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let before = spec.lease_transitions.unwrap_or(0);
        spec.lease_transitions = Some(if is_new { 0 } else { before.saturating_add(1) });
        spec.acquire_time = Some(now.clone());
        spec.renew_time = Some(now);
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(seconds(self.times.duration));
        lease
    }

    /// Creates the Lease, or replaces exactly the one that was read: its resource version is the precondition.
    async fn write(&self, lease: Lease) -> kube::Result<Lease> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if lease.metadata.resource_version.is_some() {
            self.api().replace(&lease.name_any(), &params, &lease).await
        } else {
            self.api().create(&params, &lease).await
        }
    }

    /// Renews until the Lease is lost or the time is over.
    async fn hold(&self, held: &mut Lease) {
        loop {
            sleep(self.times.retry.min(self.fence.left())).await;
            let left = self.fence.left();
            if left.is_zero() {
                return warn!(lease = %self.lease, "the lease could not be renewed in time");
            }
            let began = Moment::now();
            // One request that hangs must leave time for another.
            match timeout(left.min(self.times.deadline / 2), self.renew(held)).await {
                Ok(Ok(())) => self.fence.open(began, self.times.deadline),
                Ok(Err(Failed::Taken(holder))) => return warn!(lease = %self.lease, %holder, "the lease was taken"),
                Ok(Err(Failed::Try(error))) => {
                    let error = describe(&error);
                    warn!(lease = %self.lease, "the lease was not renewed: {error}");
                }
                Err(_elapsed) => {
                    warn!(lease = %self.lease, "the lease was not renewed: the API server does not answer");
                }
            }
        }
    }

    async fn renew(&self, held: &mut Lease) -> Result<(), Failed> {
        if let Some(spec) = &mut held.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        held.metadata.managed_fields = None;
        match self.write(held.clone()).await {
            Ok(lease) => {
                *held = lease;
                Ok(())
            }
            // Somebody wrote or deleted it. If it is still ours, what was read now is what the next try replaces.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => self.look_again(held).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn look_again(&self, held: &mut Lease) -> Result<(), Failed> {
        let found = self.api().get_opt(&self.lease).await?;
        let is_ours = found.as_ref().is_none_or(|lease| holder(lease) == Some(self.identity.as_str()));
        if !is_ours {
            return Err(Failed::Taken(found.as_ref().and_then(holder).unwrap_or("nobody").to_owned()));
        }
        *held = self.write(self.taken(found)).await?;
        Ok(())
    }

    /// Gives the Lease back. When it cannot, the others wait for its end.
    async fn release(&self, mut held: Lease) {
        let spec = held.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        held.metadata.managed_fields = None;
        match timeout(Duration::from_secs(3), self.write(held)).await {
            Ok(Ok(_)) => info!(lease = %self.lease, "the lease was given back"),
            Ok(Err(error)) => warn!(lease = %self.lease, "the lease was not given back: {}", describe(&error)),
            Err(_elapsed) => warn!(lease = %self.lease, "the lease was not given back in time"),
        }
    }
}

/// Who has it; `None` for nobody.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn seconds(duration: Duration) -> i32 {
    // The API server refuses zero.
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}
