//! What a Pod brings along: its namespace, its pull secrets, its service account.

use std::sync::Arc;

use tokio::time::Instant;

use super::Verifier;
use crate::cluster::{Freshness, SecretData};
use crate::source::credentials::{DockerConfig, Keychain};

/// The Pod on whose behalf registries are asked.
#[derive(Debug, Clone, Copy)]
pub struct PodContext<'a> {
    /// The request's namespace.
    pub namespace: &'a str,
    /// `spec.imagePullSecrets`, in order.
    pub pull_secrets: &'a [String],
    /// `spec.serviceAccountName`, `default` when absent.
    pub service_account: &'a str,
    /// Nothing may be remembered beyond the answer, as for a dry run: a root of trust that is seen first counts for such
    /// reviews and is not written down.
    pub dry_run: bool,
}

/// At most so many pull secrets of one Pod are looked at.
const MAX_PULL_SECRETS: usize = 32;

/// Bytes of pull secrets whose parsed content is kept.
const CAPACITY: u64 = 8 << 20;
const OVERHEAD: usize = 512;

/// What a pull secret was parsed into, and what it weighs.
type ParsedSecret = (Arc<Result<Arc<DockerConfig>, String>>, u32);

/// Parsed pull secrets by the hash of their content, bounded by their bytes.
#[derive(Debug)]
pub(super) struct PullSecrets(moka::sync::Cache<[u8; 32], ParsedSecret>);

impl PullSecrets {
    pub(super) fn new() -> Self {
        let weigh = |_: &[u8; 32], (_, bytes): &ParsedSecret| *bytes;
        let idle = std::time::Duration::from_secs(600);
        Self(moka::sync::Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_idle(idle).build())
    }

    /// Parsing is cheap: the size of what is read is bounded.
    fn get(&self, secret: &SecretData) -> Result<Arc<DockerConfig>, String> {
        let parse = || {
            let bytes = secret.data.values().map(bytes::Bytes::len).sum::<usize>() + OVERHEAD;
            let config = DockerConfig::from_secret(&secret.data).map(Arc::new);
            (Arc::new(config), u32::try_from(bytes).unwrap_or(u32::MAX))
        };
        Result::clone(&self.0.get_with(secret.hash, parse).0)
    }
}

/// The credentials of one Pod, read when the first signature check needs them and not before.
pub(super) struct Credentials<'a> {
    verifier: &'a Verifier,
    pod: &'a PodContext<'a>,
    deadline: Instant,
    own: Option<Vec<Arc<DockerConfig>>>,
    remarks: Vec<String>,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(verifier: &'a Verifier, pod: &'a PodContext<'a>, deadline: Instant) -> Self {
        Self { verifier, pod, deadline, own: None, remarks: Vec::new() }
    }

    /// The Pod's credentials, its service account's and, if asked for, the administrator's, in this order. The second value
    /// says whether the namespace contributed any.
    pub(super) async fn keychain(&mut self, with_administrator: bool) -> (Arc<Keychain>, bool) {
        let own = match self.own.take() {
            Some(own) => own,
            None => self.read().await,
        };
        let tenant = !own.is_empty();
        let administrator = with_administrator.then(|| self.verifier.credentials.load_full());
        let keychain = Arc::new(Keychain::new(own.iter().cloned().chain(administrator)));
        self.own = Some(own);
        (keychain, tenant)
    }

    /// What was wrong with pull secrets. It denies nothing by itself: a check may pass without them.
    pub(super) fn into_remarks(self) -> Vec<String> {
        self.remarks
    }

    async fn read(&mut self) -> Vec<Arc<DockerConfig>> {
        let mut names = self.pod.pull_secrets.to_vec();
        match self.verifier.objects.pull_secrets_of(self.pod.namespace, self.pod.service_account, self.deadline).await {
            Ok(Some(more)) => names.extend(more.iter().cloned()),
            Ok(None) => {}
            Err(fault) => self.remarks.push(fault.message().to_owned()),
        }
        let mut configs = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if i >= MAX_PULL_SECRETS {
                self.remarks.push(format!("only the first {MAX_PULL_SECRETS} pull secrets were used"));
                break;
            }
            if names[..i].contains(name) {
                continue;
            }
            match self.read_one(name).await {
                Ok(config) => configs.push(config),
                Err(remark) => self.remarks.push(format!("pull secret {name} was not used: {remark}")),
            }
        }
        configs
    }

    async fn read_one(&self, name: &str) -> Result<Arc<DockerConfig>, String> {
        let found = self.verifier.objects.secret(self.pod.namespace, name, Freshness::Pull, self.deadline).await;
        let Some(secret) = found.map_err(|fault| fault.message().to_owned())? else {
            return Err("it does not exist".to_owned());
        };
        self.verifier.pull_secrets.get(&secret)
    }
}
