//! What certificates there should be, from those there are: pure, and the same whenever it is asked.
//!
//! A new authority comes into use in four steps, each of which waits for the one before:
//!
//! ```text
//!  made       kept beside the one that signs (`next`), and trusted: in ca.crt
//!  carried    every webhook configuration that is armed has it in its caBundle, long enough for all API servers to know
//!  signs      the serving certificate is issued anew from it; the old authority stays trusted
//!  alone      once every replica has long had the new serving certificate, the old authority is dropped
//! ```
//!
//! So at every moment each serving certificate in use is issued by an authority that every API server trusts. When the
//! signing authority is lost, the new one takes the same way, as long as the serving certificate of the lost one is good.

use std::time::Duration;

use super::pki::{Authority, Bundle, Leaf, Pair, PkiError, due, made, whole_seconds};

/// After this many times the time a change takes to spread, all replicas serve a new certificate for certain.
const RETIREMENT: u32 = 20;

/// What is wanted of certificates.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Names of the webhook, first the one that API servers use.
    pub names: Vec<String>,
    /// Lifetime of an authority.
    pub authority: Duration,
    /// Lifetime of a serving certificate.
    pub leaf: Duration,
    /// How long a change of trust takes to reach every API server, at most.
    pub propagation: Duration,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The authority that signs; `None` when there is none, or none that can be used.
    pub signer: Option<Authority>,
    /// The one that will.
    pub next: Option<Authority>,
    /// What is published as trusted.
    pub bundle: Bundle,
    /// The serving certificate; empty when there is none.
    pub leaf: Pair,
}

/// What API servers trust.
#[derive(Debug)]
pub enum Trust {
    /// Podseal keeps no webhook configurations: somebody copies `ca.crt` by hand, and is given time for it.
    Unknown,
    /// The bundles of all armed configurations, which have been so for the time a change takes to spread.
    Carried(Vec<Bundle>),
}

impl Trust {
    fn has(&self, authority: &Authority) -> bool {
        match self {
            Self::Unknown => false,
            Self::Carried(bundles) => bundles.iter().all(|bundle| bundle.has(&authority.certificate)),
        }
    }
}

/// What there should be.
#[derive(Debug)]
pub struct Wanted {
    /// The authority that signs.
    pub signer: Authority,
    /// The one that will.
    pub next: Option<Authority>,
    /// What is to be published as trusted.
    pub bundle: Bundle,
    /// The serving certificate; empty while none can be issued that API servers would trust.
    pub leaf: Pair,
    /// What was done, for the log.
    pub steps: Vec<&'static str>,
    /// Something is under way: look again soon.
    pub pending: bool,
}

/// The next state. `urgent`: there is no serving certificate that can be used, and trust was waited for long enough.
pub fn advance(found: Found, trust: &Trust, rules: &Rules, urgent: bool, now: i64) -> Result<Wanted, PkiError> {
    let Found { signer, next, bundle, leaf } = found;
    let mut steps = Vec::new();
    let (signer, next) = authorities(signer, next, trust, rules, now, &mut steps)?;
    let mut trusted = Bundle::default();
    for authority in [Some(&signer), next.as_ref()].into_iter().flatten() {
        trusted.add(authority.certificate.clone());
    }
    let old = bundle.without_expired(now);

    let read = Leaf::read(&leaf);
    let is_usable = read.as_ref().is_some_and(|leaf| {
        let known = [trusted.0.as_slice(), &old.0].concat();
        leaf.is_good_for(&rules.names, &known, now)
    });
    let by_signer = read
        .as_ref()
        .is_some_and(|leaf| leaf.is_good_for(&rules.names, std::slice::from_ref(&signer.certificate), now));
    let is_due = read.as_ref().is_none_or(|leaf| now >= due(leaf.period));
    let is_trusted = match trust {
        Trust::Carried(_) => trust.has(&signer),
        // A new authority is used as late as possible: when the certificate that the old one issued is due.
        Trust::Unknown => !is_usable || is_due,
    };
    let mut leaf = leaf;
    let wants_leaf = !by_signer || is_due;
    let issues = wants_leaf && (is_trusted || (!is_usable && urgent));
    if issues {
        leaf = signer.issue(&rules.names, now, rules.leaf)?;
        steps.push("a serving certificate was issued");
    } else if !read.as_ref().is_some_and(|leaf| leaf.period.holds_at(now)) {
        leaf = Pair::default();
    }

    // Others stay trusted until the last certificate that they issued is surely out of use.
    let grace = whole_seconds(rules.propagation.saturating_mul(RETIREMENT));
    let settled = !issues && by_signer && read.is_some_and(|leaf| now >= made(leaf.period).saturating_add(grace));
    let mut retires = false;
    for certificate in old.0 {
        if !trusted.has(&certificate) && settled {
            retires = true;
        } else {
            trusted.add(certificate);
        }
    }
    if retires {
        steps.push("authorities that are no longer needed were dropped");
    }
    let pending = next.is_some() || (wants_leaf && !issues) || trusted.0.len() > 1;
    Ok(Wanted { signer, next, bundle: trusted, leaf, steps, pending })
}

const PROMOTED: &str = "the new authority signs from now on";

/// The authority that signs from now on, and the one that will.
fn authorities(
    signer: Option<Authority>,
    next: Option<Authority>,
    trust: &Trust,
    rules: &Rules,
    now: i64,
    steps: &mut Vec<&'static str>,
) -> Result<(Authority, Option<Authority>), PkiError> {
    let valid = |authority: &Authority| authority.period.holds_at(now);
    let next = next.filter(valid);
    let Some(signer) = signer.filter(valid) else {
        if let Some(next) = next {
            steps.push(PROMOTED);
            return Ok((next, None));
        }
        steps.push("an authority was made");
        return Ok((Authority::make(now, rules.authority)?, None));
    };
    if let Some(next) = next {
        let ready = match trust {
            Trust::Carried(_) => {
                trust.has(&next) && now >= made(next.period).saturating_add(whole_seconds(rules.propagation))
            }
            Trust::Unknown => {
                let begun = made(next.period);
                now >= begun.saturating_add(signer.period.not_after.saturating_sub(begun) / 2)
            }
        };
        if !ready {
            return Ok((signer, Some(next)));
        }
        steps.push(PROMOTED);
        return Ok((next, None));
    }
    if now >= due(signer.period) {
        steps.push("the next authority was made");
        return Ok((signer, Some(Authority::make(now, rules.authority)?)));
    }
    Ok((signer, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn rules() -> Rules {
        let days = |days: i64| Duration::from_secs(u64::try_from(days * DAY).unwrap());
        Rules {
            names: vec!["podseal.ns.svc".to_owned()],
            authority: days(365),
            leaf: days(90),
            propagation: Duration::from_secs(6 * 3600),
        }
    }

    /// A cluster: what is kept, what API servers trust and what replicas serve, both of which lag behind.
    struct World {
        now: i64,
        rules: Rules,
        authorities: (Option<Pair>, Option<Pair>),
        bundle: Bundle,
        leaf: Pair,
        /// Published bundles with the time since when; API servers go by the last or, for a while, the one before.
        published: Vec<(i64, Bundle)>,
        served: Vec<(i64, Pair)>,
        signers: usize,
        leaves: usize,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                now: START,
                rules: rules(),
                authorities: (None, None),
                bundle: Bundle::default(),
                leaf: Pair::default(),
                published: Vec::new(),
                served: Vec::new(),
                signers: 0,
                leaves: 0,
            };
            world.pass(&Trust::Carried(Vec::new()));
            world
        }

        fn pass(&mut self, trust: &Trust) -> Wanted {
            let open = |pair: &Option<Pair>| pair.as_ref().and_then(Authority::open);
            let found = Found {
                signer: open(&self.authorities.0),
                next: open(&self.authorities.1),
                bundle: self.bundle.clone(),
                leaf: self.leaf.clone(),
            };
            let wanted = advance(found, trust, &self.rules, false, self.now).unwrap();
            if self.authorities.0.as_ref() != Some(&wanted.signer.pair) {
                self.signers += 1;
            }
            self.authorities = (Some(wanted.signer.pair.clone()), wanted.next.as_ref().map(|next| next.pair.clone()));
            self.bundle = wanted.bundle.clone();
            if self.published.last().is_none_or(|(_, bundle)| *bundle != wanted.bundle) {
                self.published.push((self.now, wanted.bundle.clone()));
            }
            self.leaf = wanted.leaf.clone();
            if self.leaf != Pair::default() && self.served.last().is_none_or(|(_, leaf)| *leaf != wanted.leaf) {
                self.leaves += 1;
                self.served.push((self.now, wanted.leaf.clone()));
            }
            wanted
        }

        /// What may be in use: the last, and those before it that were replaced less than `lag` ago.
        fn in_use<T>(history: &[(i64, T)], now: i64, lag: i64) -> impl Iterator<Item = &T> {
            let replaced = history.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
            let with_end = history.iter().zip(replaced);
            with_end.filter(move |(_, end)| end.is_none_or(|end| now - end <= lag)).map(|((_, one), _)| one)
        }

        /// All configurations carry what was published at least the time of spreading ago, and whatever came since.
        fn trust(&self) -> Trust {
            let lag = whole_seconds(self.rules.propagation);
            Trust::Carried(Self::in_use(&self.published, self.now, lag).cloned().collect())
        }

        fn check(&self) {
            let lag = whole_seconds(self.rules.propagation);
            for leaf in Self::in_use(&self.served, self.now, 3 * lag) {
                for bundle in Self::in_use(&self.published, self.now, lag) {
                    let good = Leaf::read(leaf).unwrap().is_good_for(&self.rules.names, &bundle.0, self.now);
                    assert!(good, "a review fails at day {}", (self.now - START) / DAY);
                }
            }
        }

        fn step(&mut self, time: i64) {
            self.now += time;
            let trust = self.trust();
            self.pass(&trust);
            self.check();
        }
    }

    #[test]
    fn h2_over_years_of_rotations_every_certificate_in_use_is_trusted_by_every_api_server() {
        let mut world = World::new();
        while world.now < START + 3 * 365 * DAY {
            world.step(6 * HOUR);
        }
        // Every eight months an authority, every two months a certificate.
        assert!((4..=6).contains(&world.signers), "{}", world.signers);
        assert!((18..=24).contains(&world.leaves), "{}", world.leaves);
        assert!(world.published.iter().all(|(_, bundle)| bundle.0.len() <= 2));
        assert_eq!(
            world.published.iter().filter(|(_, bundle)| bundle.0.len() == 1).count(),
            world.signers,
            "the old ones go"
        );
    }

    #[test]
    fn a_lost_authority_is_replaced_without_a_failed_review_at_any_time_of_its_life() {
        for day in [1, 60, 100, 244] {
            let mut world = World::new();
            while world.now < START + day * DAY {
                world.step(6 * HOUR);
            }
            let before = world.signers;
            world.authorities = (None, None);
            for _ in 0..120 {
                world.step(6 * HOUR);
            }
            assert_eq!(world.signers, before + 1);
            assert_eq!(world.bundle.0.len(), 1, "the lost one is no longer trusted in the end");
        }
    }

    #[test]
    fn a_serving_certificate_that_is_lost_is_issued_at_once_from_the_same_authority() {
        let mut world = World::new();
        for _ in 0..20 {
            world.step(6 * HOUR);
        }
        let before = world.bundle.clone();
        world.leaf = Pair { certificate: "rubbish".to_owned(), key: String::new() };
        world.step(HOUR);
        assert_eq!((world.leaves, &world.bundle), (2, &before));
    }

    #[test]
    fn nothing_is_issued_from_an_authority_that_is_not_trusted_yet_while_the_old_certificate_is_good() {
        let mut world = World::new();
        for _ in 0..20 {
            world.step(6 * HOUR);
        }
        let stuck = Trust::Carried(vec![world.bundle.clone()]);
        world.authorities = (None, None);
        for _ in 0..20 {
            world.now += DAY;
            let wanted = world.pass(&stuck);
            assert!(wanted.pending && wanted.bundle.0.len() == 2);
            world.check();
        }
        assert_eq!((world.leaves, world.signers), (1, 2));
    }

    #[test]
    fn without_any_good_certificate_one_is_issued_when_it_is_urgent() {
        let found = || Found::default();
        let other = Authority::make(START, rules().authority).unwrap();
        let stuck = Trust::Carried(vec![Bundle(vec![other.certificate.clone()])]);
        let waits = advance(found(), &stuck, &rules(), false, START).unwrap();
        assert!(waits.leaf == Pair::default() && waits.pending && waits.bundle.has(&waits.signer.certificate));
        let urgent = advance(found(), &stuck, &rules(), true, START).unwrap();
        assert!(Leaf::read(&urgent.leaf).is_some());
    }

    #[test]
    fn where_trust_is_copied_by_hand_a_new_authority_is_shown_long_before_it_is_used() {
        let mut world = World::new();
        let mut shown = None;
        let mut used = None;
        while used.is_none() {
            world.now += DAY;
            let wanted = world.pass(&Trust::Unknown);
            if wanted.next.is_some() {
                shown.get_or_insert(world.now);
            }
            if world.signers == 2 {
                used = Some(world.now);
            }
            let known = [wanted.bundle.0.as_slice(), &world.published[0].1.0].concat();
            assert!(Leaf::read(&world.leaf).unwrap().is_good_for(&world.rules.names, &known, world.now));
        }
        assert!(used.unwrap() - shown.unwrap() > 50 * DAY);
    }

    #[test]
    fn a_certificate_for_other_names_is_replaced() {
        let mut world = World::new();
        world.rules.names.push("127.0.0.1".to_owned());
        world.now += HOUR;
        let trust = world.trust();
        world.pass(&trust);
        assert!(Leaf::read(&world.leaf).unwrap().is_good_for(&world.rules.names, &world.bundle.0, world.now));
    }
}
