//! Which GPG signatures an image has, looked for where an entry says.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::keys::Reader;
use crate::cli::verify::report::Row;
use crate::cluster::{Freshness, Objects};
use crate::domain::digest::Digest;
use crate::domain::image::ImageRef;
use crate::domain::policy::{Check, Entry};
use crate::domain::scope::HostPattern;
use crate::records::collect::{Collected, Place};
use crate::records::examine::{Examined, Question};
use crate::signature::openpgp::Keyring;
use crate::source::access::{Access, Transport};
use crate::source::credentials::{DockerConfig, Keychain};
use crate::source::lookaside::StoreUrl;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;

/// Pull secrets of the service account that are used, at most.
const MAX_PULL_SECRETS: usize = 32;

/// Whose credentials registries are asked with.
pub(super) struct Credentials {
    /// The Pod's alone, for entries of a namespace that say how a server is authenticated.
    pod: Arc<Keychain>,
    /// And then the caller's own.
    all: Arc<Keychain>,
}

/// How registries and stores are asked.
pub(super) struct Search<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) registries_d: &'a RegistriesD,
    pub(super) credentials: Credentials,
    pub(super) reader: &'a Reader<'a>,
    pub(super) image: &'a ImageRef,
    pub(super) deadline: Instant,
}

impl Search<'_> {
    /// The digest of the image, when the verdict did not come to one.
    pub(super) async fn digest(&self, entry: &Entry) -> Result<Digest, String> {
        if let Some(digest) = self.image.digest() {
            return Ok(digest.clone());
        }
        let (access, _) = self.access(entry).await?;
        let tag = self.image.tag().unwrap_or("latest");
        // By its bytes: what a registry merely says could be the digest of an image that it does not have.
        let found = self.upstream.tagged_manifest(self.image.repository(), tag, &access).await;
        let manifest = found.map_err(|fault| fault.to_string())?;
        Ok(manifest.ok_or_else(|| "the registry says that it does not exist".to_owned())?.digest)
    }

    /// The signatures, each with what it comes to under the entry; without a keyring only what they say of themselves.
    pub(super) async fn signatures(
        &self,
        entry: &Entry,
        digest: &Digest,
        keyring: Option<&Keyring>,
    ) -> Result<Vec<Row>, String> {
        let Some(check) = super::entries::gpg(entry) else { return Ok(Vec::new()) };
        let (access, store) = self.access(entry).await?;
        let place = Place { upstream: self.upstream, repository: self.image.repository(), access: &access };
        let Collected { found, .. } =
            place.everywhere(store.as_ref(), digest).await.map_err(|fault| fault.to_string())?;
        let none = Keyring::default();
        let question = Question::new(keyring.unwrap_or(&none), digest, self.image, &check.identity, SystemTime::now());
        let question = question.listed(super::entries::signers(entry));
        let row = |one: crate::records::collect::Found| {
            let examined = match &one.blob {
                Ok(blob) => question.examine(blob),
                Err(why) => Examined::unreadable(why.clone()),
            };
            let mut row = Row::new(&one.place, &examined);
            if keyring.is_none() {
                row.not_judged("the keys that would count may not be read: this is what the signature says of itself");
            }
            row
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// As the webhook reaches them: what a namespaced policy names is kept from addresses such as loopback.
    async fn access(&self, entry: &Entry) -> Result<(Access, Option<StoreUrl>), String> {
        let Check::Signed(check) = &entry.check else { return Err("the entry asks for no signature".to_owned()) };
        let ca = match &check.transport.ca_ref {
            Some(reference) => Some(self.reader.certificates(entry, reference).await?),
            None => None,
        };
        let lookaside = check.gpg.as_ref().and_then(|gpg| gpg.lookaside.as_deref());
        let store = match lookaside {
            Some(lookaside) => Some(StoreUrl::from_policy(lookaside)?),
            None => self.registries_d.lookaside(self.image).cloned(),
        };
        let guarded = !entry.is_cluster() || !matches!(entry.scope.host, HostPattern::Exact(_));
        let transport = Transport { insecure: check.transport.insecure, ca, guarded, certificate: None };
        let all = entry.takes_administrators_credentials(check);
        let keychain = if all { self.credentials.all.clone() } else { self.credentials.pod.clone() };
        Ok((Access { transport, keychain, deadline: self.deadline }, store))
    }
}

/// Credentials that the service account's pull secrets hold, as far as they may be read, and then the caller's own.
pub(super) async fn credentials(
    objects: &dyn Objects,
    namespace: &str,
    account: &str,
    own: Option<DockerConfig>,
    deadline: Instant,
) -> Credentials {
    let names = objects.pull_secrets_of(namespace, account, deadline).await.ok().flatten().unwrap_or_default();
    let mut configs = Vec::new();
    for name in names.iter().take(MAX_PULL_SECRETS) {
        let secret = objects.secret(namespace, name, Freshness::Pull, deadline).await.ok().flatten();
        configs.extend(secret.and_then(|secret| DockerConfig::from_secret(&secret.data).ok()).map(Arc::new));
    }
    let pod = Arc::new(Keychain::new(configs.iter().cloned()));
    Credentials { pod, all: Arc::new(Keychain::new(configs.into_iter().chain(own.map(Arc::new)))) }
}
