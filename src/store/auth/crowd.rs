//! How many requests of one client wait for a password to be checked.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Passwords of one client's address that wait or are checked at once.
const OF_ONE: usize = 4;
/// Of an IPv6 address the network counts: whoever has one address has all of that.
const NETWORK: u128 = !0 << 64;

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
}
