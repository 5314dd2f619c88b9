//! Verdicts that may be used again.
//!
//! A key holds everything a verdict depends on, in full: the entry's content, the reference, the digest, the bytes of keys
//! and certificates, and whose credentials reached the registry. A positive verdict lives for the configured time and never
//! beyond the earliest expiry in it; a definite negative lives shortly, so that an unsigned image does not hammer the
//! registry and a fresh signature is found soon; a fault is never kept. One computation runs per key.

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant, SystemTime};

use moka::future::Cache;

use crate::domain::digest::Digest;
use crate::domain::verdict::{Failure, Pass};

/// How long and how many verdicts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Positive verdicts.
    pub positive: Duration,
    /// Definite negative verdicts.
    pub negative: Duration,
    /// Both together, at most.
    pub entries: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { positive: Duration::from_secs(600), negative: Duration::from_secs(10), entries: 20_000 }
    }
}

/// Everything a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct VerdictKey {
    /// The entry's content and policy.
    pub entry: [u8; 32],
    /// The reference in the form that identity rules compare.
    pub reference: String,
    /// What the signatures are for.
    pub digest: Digest,
    /// Hashes of the Secrets and `ConfigMaps` that the entry names: cosign keys, GPG keys, CA, authority of Notary roots; and
    /// of the trust root's bytes, wherever it is from. Zero when not named or not needed.
    pub keys: [[u8; 32]; 5],
    /// Where signatures are looked for outside the entry: the store that registries.d names.
    pub store: Option<String>,
    /// Whose credentials, for the image and for signatures kept elsewhere: zero for anonymous.
    pub credentials: [[u8; 32]; 2],
    /// The namespace, when its own credentials are among them.
    pub namespace: Option<Arc<str>>,
    /// It is of a dry run that leaves no root of trust behind, so only other dry runs may use it.
    pub dry_run: bool,
}

/// A verdict without faults.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// The pass, or every method's refusal.
    pub result: Result<Pass, Vec<Failure>>,
    /// The earliest expiry of signature, key and certificate.
    pub valid_until: Option<SystemTime>,
}

#[derive(Debug)]
struct Lifetime(CacheLimits);

impl moka::Expiry<VerdictKey, Arc<Verdict>> for Lifetime {
    fn expire_after_create(&self, _: &VerdictKey, verdict: &Arc<Verdict>, _: StdInstant) -> Option<Duration> {
        Some(self.of(verdict, SystemTime::now()))
    }
}

impl Lifetime {
    fn of(&self, verdict: &Verdict, now: SystemTime) -> Duration {
        let configured = if verdict.result.is_ok() { self.0.positive } else { self.0.negative };
        let left = verdict.valid_until.map_or(configured, |end| end.duration_since(now).unwrap_or_default());
        configured.min(left)
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Verdicts {
    cache: Cache<VerdictKey, Arc<Verdict>>,
}

impl Verdicts {
    pub(super) fn new(limits: CacheLimits) -> Self {
        Self { cache: Cache::builder().max_capacity(limits.entries).expire_after(Lifetime(limits)).build() }
    }

    /// A verdict that still holds. The expiry is checked against the wall clock once more: the cache's own clock does not
    /// follow a machine's sleep or a corrected time.
    pub(super) async fn get(&self, key: &VerdictKey) -> Option<Arc<Verdict>> {
        let verdict = self.cache.get(key).await?;
        if verdict.valid_until.is_some_and(|end| end <= SystemTime::now()) {
            self.cache.invalidate(key).await;
            return None;
        }
        Some(verdict)
    }

    /// Computes the verdict unless somebody is already doing so, and keeps it. Faults go to everybody who waited.
    ///
    /// If the one who computes goes away, one of those who wait takes over.
    pub(super) async fn compute<E, F>(&self, key: VerdictKey, computation: F) -> Result<Arc<Verdict>, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Arc<Verdict>, E>>,
    {
        self.cache.try_get_with(key, computation).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> VerdictKey {
        VerdictKey {
            entry: [1; 32],
            reference: "r.io/a:1".into(),
            digest: Digest::sha256(b"a"),
            keys: [[2; 32]; 5],
            store: None,
            credentials: [[0; 32]; 2],
            namespace: None,
            dry_run: false,
        }
    }

    fn verdict(good: bool, valid_for: Option<Duration>) -> Arc<Verdict> {
        let result = if good { Ok(Pass { method: None, signer: None }) } else { Err(Vec::new()) };
        Arc::new(Verdict { result, valid_until: valid_for.map(|d| SystemTime::now() + d) })
    }

    #[test]
    fn f14_lifetime_ends_with_the_earliest_expiry() {
        let lifetime = Lifetime(CacheLimits::default());
        let ends_in_five = verdict(true, Some(Duration::from_secs(5)));
        let now = SystemTime::now();
        let of = |v: &Verdict| lifetime.of(v, now);
        assert_eq!(of(&verdict(true, None)), Duration::from_secs(600));
        assert_eq!(of(&verdict(false, None)), Duration::from_secs(10));
        assert!(of(&ends_in_five) <= Duration::from_secs(5));
        let expired = Verdict { valid_until: Some(now - Duration::from_secs(1)), ..(*verdict(true, None)).clone() };
        assert_eq!(of(&expired), Duration::ZERO);
    }

    #[tokio::test]
    async fn f1_f2_f3_f9_f12_every_part_of_the_key_counts() {
        let cache = Verdicts::new(CacheLimits::default());
        cache.compute::<(), _>(key(), async { Ok(verdict(true, None)) }).await.expect("computed");
        assert!(cache.get(&key()).await.is_some());
        let others = [
            VerdictKey { entry: [9; 32], ..key() },
            VerdictKey { reference: "r.io/a:2".into(), ..key() },
            VerdictKey { digest: Digest::sha256(b"b"), ..key() },
            VerdictKey { keys: [[2; 32], [9; 32], [2; 32], [2; 32], [2; 32]], ..key() },
            VerdictKey { keys: [[2; 32], [2; 32], [2; 32], [9; 32], [2; 32]], ..key() },
            VerdictKey { store: Some("http://s/".into()), ..key() },
            VerdictKey { keys: [[2; 32], [2; 32], [2; 32], [2; 32], [9; 32]], ..key() },
            VerdictKey { credentials: [[9; 32], [0; 32]], ..key() },
            VerdictKey { credentials: [[0; 32], [9; 32]], ..key() },
            VerdictKey { namespace: Some("ns".into()), ..key() },
            VerdictKey { dry_run: true, ..key() },
        ];
        for other in others {
            assert!(cache.get(&other).await.is_none(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn f7_faults_are_not_kept() {
        let cache = Verdicts::new(CacheLimits::default());
        assert!(cache.compute(key(), async { Err("down") }).await.is_err());
        assert!(cache.get(&key()).await.is_none());
        assert!(cache.compute::<&str, _>(key(), async { Ok(verdict(true, None)) }).await.is_ok());
    }

    #[tokio::test]
    async fn f10_the_number_of_entries_is_bounded() {
        let cache = Verdicts::new(CacheLimits { entries: 50, ..CacheLimits::default() });
        for i in 0..500_u32 {
            let key = VerdictKey { digest: Digest::sha256(&i.to_be_bytes()), ..key() };
            cache.compute::<(), _>(key, async { Ok(verdict(true, None)) }).await.expect("computed");
        }
        cache.cache.run_pending_tasks().await;
        assert!(cache.cache.entry_count() <= 50, "{}", cache.cache.entry_count());
    }

    #[tokio::test]
    async fn f11_f13_one_computation_per_key_and_a_vanished_leader_is_replaced() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let cache = Arc::new(Verdicts::new(CacheLimits::default()));
        let runs = Arc::new(AtomicUsize::new(0));
        let run = |pause: u64| {
            let (cache, runs) = (cache.clone(), runs.clone());
            async move {
                cache
                    .compute::<(), _>(key(), async {
                        runs.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        Ok(verdict(true, None))
                    })
                    .await
            }
        };
        let leader = tokio::spawn(run(60_000));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let followers: Vec<_> = (0..100).map(|_| tokio::spawn(run(50))).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        leader.abort();
        for follower in followers {
            assert!(follower.await.expect("joined").is_ok());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2, "the leader and the one who took over");
    }
}
