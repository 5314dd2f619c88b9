//! Since when API servers trust what.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::pki::{Bundle, made, whole_seconds};
use super::plan::Trust;
use crate::server::validity;

/// Remembers since when each authority has been in all armed configurations.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// `None`: since before this process looked.
    since: HashMap<Vec<u8>, Option<Instant>>,
    looked: bool,
}

impl Settling {
    /// What all armed configurations have had for the time that a change takes to spread; `live` is what they have.
    ///
    /// What is there at the first look counts at once, except authorities so young that their spreading may not be over.
    pub(super) fn settle(&mut self, live: &[Bundle], propagation: Duration, wall: i64, now: Instant) -> Trust {
        let first = !std::mem::replace(&mut self.looked, true);
        let everywhere: Vec<_> = live.first().map_or_else(Vec::new, |one| one.0.clone());
        let everywhere: Vec<_> =
            everywhere.into_iter().filter(|certificate| live.iter().all(|bundle| bundle.has(certificate))).collect();
        self.since.retain(|known, _| everywhere.iter().any(|certificate| certificate.as_ref() == known.as_slice()));
        for certificate in &everywhere {
            let spread = whole_seconds(propagation);
            let is_old = validity::period(certificate).is_some_and(|p| made(p).saturating_add(spread) <= wall);
            self.since.entry(certificate.to_vec()).or_insert((!first || !is_old).then_some(now));
        }
        let settled = Bundle(
            everywhere
                .into_iter()
                .filter(|certificate| match self.since.get(certificate.as_ref()) {
                    Some(Some(since)) => now.saturating_duration_since(*since) >= propagation,
                    Some(None) => true,
                    None => false,
                })
                .collect(),
        );
        Trust::Carried(if live.is_empty() { Vec::new() } else { vec![settled] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pki::Authority;
    use super::*;

    const SPREAD: Duration = Duration::from_secs(30);
    const WALL: i64 = 1_800_000_000;

    fn has(trust: &Trust, authority: &Authority) -> bool {
        let Trust::Carried(bundles) = trust else { panic!("known") };
        bundles.iter().all(|bundle| bundle.has(&authority.certificate))
    }

    #[test]
    fn an_authority_counts_once_all_configurations_have_had_it_for_a_while() {
        let make = |at| Authority::make(at, SPREAD * 1000).unwrap();
        let (old, new) = (make(WALL - 1000), make(WALL));
        let bundle = |all: &[&Authority]| Bundle(all.iter().map(|one| one.certificate.clone()).collect());
        let (both, one) = (bundle(&[&old, &new]), bundle(&[&old]));
        let (mut settling, start) = (Settling::default(), Instant::now());
        let mut look = |live: &[&Bundle], seconds: u64| {
            let live: Vec<_> = live.iter().map(|&bundle| bundle.clone()).collect();
            let wall = WALL + i64::try_from(seconds).unwrap();
            settling.settle(&live, SPREAD, wall, start + Duration::from_secs(seconds))
        };
        let trust = look(&[&both, &both], 0);
        assert!(has(&trust, &old) && !has(&trust, &new), "an old one at once, a young one not");
        assert!(!has(&look(&[&both, &both], 29), &new));
        assert!(has(&look(&[&both, &both], 30), &new));
        assert!(!has(&look(&[&both, &one], 31), &new), "one configuration lost it");
        assert!(!has(&look(&[&both, &both], 32), &new));
        assert!(has(&look(&[&both, &both], 62), &new));
        let later = make(WALL - 500);
        assert!(!has(&look(&[&bundle(&[&later, &old])], 63), &later), "not the first look any more");
        assert!(has(&look(&[], 64), &later), "nothing is armed");
    }
}
