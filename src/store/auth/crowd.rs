//! How many requests of one client wait for a password or token to be checked, and how many may fail.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Passwords or tokens of one client's address that wait or are checked at once.
const OF_ONE: usize = 4;
/// Of an IPv6 address the network counts: whoever has one address has all of that.
const NETWORK: u128 = !0 << 64;

/// So many tries of one client's address may fail in a row; then one every so often.
const FAILURES: u32 = 20;
const PACE: Duration = Duration::from_secs(1);
/// Of so many addresses is it known that something failed.
const MAX_CLIENTS: u64 = 100_000;

/// Who waits, by address.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<HashMap<Option<IpAddr>, usize>>);

/// A place among those who wait, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    crowd: &'a Crowd,
    client: Option<IpAddr>,
}

impl Crowd {
    /// One more of this client; `None` if there are too many of them already.
    pub(super) fn enter(&self, client: Option<IpAddr>) -> Option<Entered<'_>> {
        let client = client.map(network);
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = crowd.entry(client).or_default();
        if *waiting >= OF_ONE {
            return None;
        }
        *waiting += 1;
        Some(Entered { crowd: self, client })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is remembered of those who are gone, so that addresses cannot fill the memory.
        if let Some(waiting) = crowd.get_mut(&self.client) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                crowd.remove(&self.client);
            }
        }
    }
}

/// What failed of late, by address.
///
/// Of every address the time is kept at which all its failures will be forgotten: each moves that by [`PACE`].
#[derive(Debug)]
pub(super) struct Failures(Cache<Option<IpAddr>, Instant>);

impl Default for Failures {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_CLIENTS).time_to_live(PACE * (FAILURES + 1)).build())
    }
}

impl Failures {
    /// Whether this client may try once more now. The try counts as failed until [`Self::forgive`].
    pub(super) fn admit(&self, client: Option<IpAddr>) -> bool {
        self.admit_at(client, Instant::now())
    }

    fn admit_at(&self, client: Option<IpAddr>, now: Instant) -> bool {
        let mut admitted = false;
        let client = client.map(network);
        let keep = |known: Option<moka::Entry<_, Instant>>| {
            let until = known.map_or(now, moka::Entry::into_value).max(now) + PACE;
            admitted = until.saturating_duration_since(now) <= PACE * FAILURES;
            if admitted { moka::ops::compute::Op::Put(until) } else { moka::ops::compute::Op::Nop }
        };
        self.0.entry(client).and_compute_with(keep);
        admitted
    }

    /// The last try of this client was none that failed.
    pub(super) fn forgive(&self, client: Option<IpAddr>) {
        let back = |known: Option<moka::Entry<_, Instant>>| {
            let earlier = known.and_then(|known| known.into_value().checked_sub(PACE));
            earlier.map_or(moka::ops::compute::Op::Nop, moka::ops::compute::Op::Put)
        };
        self.0.entry(client.map(network)).and_compute_with(back);
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_few_places_and_leaves_nothing_behind() {
        let crowd = Crowd::default();
        let at = |text: &str| Some(text.parse().unwrap());
        let held: Vec<_> = (0..OF_ONE).map(|_| crowd.enter(at("2001:db8::1")).unwrap()).collect();
        assert!(crowd.enter(at("2001:db8::2")).is_none(), "the same network");
        let others: Vec<_> =
            [at("2001:db8:0:1::1"), at("192.0.2.1"), at("192.0.2.2"), None].map(|c| crowd.enter(c)).into();
        assert!(others.iter().all(Option::is_some));
        drop(held);
        assert!(crowd.enter(at("2001:db8::2")).is_some());
        drop(others);
        assert!(crowd.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_client_may_fail_now_and_then() {
        let failures = Failures::default();
        let (begin, one) = (Instant::now(), Some("192.0.2.1".parse().unwrap()));
        assert!((0..FAILURES).all(|_| failures.admit_at(one, begin)));
        assert!(!failures.admit_at(one, begin));
        assert!(failures.admit_at(None, begin) && failures.admit_at(Some("192.0.2.2".parse().unwrap()), begin));
        assert!(failures.admit_at(one, begin + PACE) && !failures.admit_at(one, begin + PACE));
        failures.forgive(one);
        assert!(failures.admit_at(one, begin + PACE) && !failures.admit_at(one, begin + PACE));
        let later = begin + PACE * 3600;
        assert!((0..FAILURES).all(|_| failures.admit_at(one, later)) && !failures.admit_at(one, later));
    }
}
