//! Registry credentials from pull secrets, matched to repositories as the kubelet matches them.
//!
//! ```text
//!   Secret ──from_secret──► DockerConfig   key ► credential, most specific key first
//!   Pod's secrets, ServiceAccount's, administrator's ──► Keychain ──for_repository──► what to try, in order
//! ```
//! Reading and matching follow Kubernetes' `pkg/credentialprovider` (`config.go`, `keyring.go`), see `key.rs` for the
//! matching. Three differences, each of which only changes what is tried, never which host receives it:
//! - The kubelet sorts the keys of all pull secrets together; here every source is exhausted before the next, so that
//!   the order of `imagePullSecrets` decides. All of them are tried before the request counts as refused.
//! - The kubelet offers Docker Hub's credentials to every host without a dot or colon (`localhost`), too. Here they are
//!   for Docker Hub only.
//! - One bad entry is skipped and reported; the kubelet gives up on all secrets of the Pod.

mod key;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;

use crate::domain::image::Repository;
use key::Key;

/// Credentials tried for one repository. Enough for every rotation; a bound on the requests one image can cause.
pub const MAX_CREDENTIALS: usize = 32;
/// Sources looked at for one Pod; further ones are left out.
pub const MAX_SOURCES: usize = 64;
/// The key under which the kubelet keeps what Docker writes as `https://index.docker.io/v1/`.
const DEFAULT_REGISTRY: &str = "index.docker.io";
const DOCKER_HUB: &str = "docker.io";

/// A user name and password, or an identity token, or both. Never printed; copies share one allocation.
#[derive(Clone)]
pub struct Credential(Arc<Inner>);

struct Inner {
    user: Secret,
    password: Secret,
    token: Secret,
    id: [u8; 32],
}

/// Text that is overwritten when it is dropped.
#[derive(Default)]
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0));
    }
}

/// Overwrites the text before its memory is freed: best effort, copies made while parsing are not reached.
fn wipe(text: String) {
    let mut bytes = text.into_bytes();
    bytes.fill(0);
    // Keeps the compiler from removing stores to memory that is about to be freed.
    std::hint::black_box(&bytes);
}

impl Credential {
    /// Takes a user name, a password and an identity token (an OAuth 2 refresh token as `docker login` stores it);
    /// what there is not is empty. `None` when all are.
    pub fn new(user: String, password: String, identity_token: String) -> Option<Self> {
        let (user, password, token) = (Secret(user), Secret(password), Secret(identity_token));
        if user.0.is_empty() && password.0.is_empty() && token.0.is_empty() {
            return None;
        }
        let mut hash = Context::new(&SHA256);
        for Secret(field) in [&user, &password, &token] {
            // The length first, or moving a character from one field to the next would give the same hash.
            hash.update(&(field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        let id = array(hash.finish().as_ref());
        Some(Self(Arc::new(Inner { user, password, token, id })))
    }

    /// User name and password. `None` when there is only an identity token: a user name without a password beside a
    /// token is the placeholder some registries store there.
    pub fn basic(&self) -> Option<(&str, &str)> {
        let Inner { user: Secret(user), password: Secret(password), token: Secret(token), .. } = &*self.0;
        let present = if token.is_empty() { !(user.is_empty() && password.is_empty()) } else { !password.is_empty() };
        present.then_some((user, password))
    }

    /// The identity token, to be exchanged at the token service (`grant_type=refresh_token`).
    pub fn identity_token(&self) -> Option<&str> {
        Some(self.0.token.0.as_str()).filter(|t| !t.is_empty())
    }

    /// SHA-256 over the fields, each after its length. Equal exactly for equal credentials; for cache keys, not for logs,
    /// because weak passwords can be found from it.
    pub fn id(&self) -> [u8; 32] {
        self.0.id
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Credentials of one pull secret, or of the administrator's file.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {
    /// Most specific first: in reverse order of the keys' text, as the kubelet sorts them.
    entries: Vec<(Key, Credential)>,
    /// Docker Hub's, for its images when no entry matches.
    hub: Vec<Credential>,
    problems: Vec<String>,
}

impl DockerConfig {
    /// Reads a Secret's data: `.dockerconfigjson`, or when it is missing or empty, `.dockercfg`. The error names the
    /// key, never the content, and means that nothing could be read; entries that could not are [`Self::problems`].
    pub fn from_secret(data: &BTreeMap<String, Bytes>) -> Result<Self, String> {
        let get = |name: &str| data.get(name).filter(|value| !value.is_empty());
        if let Some(value) = get(parse::CONFIG_JSON) {
            parse::config_json(parse::CONFIG_JSON, value)
        } else if let Some(value) = get(parse::DOCKERCFG) {
            parse::dockercfg(parse::DOCKERCFG, value)
        } else {
            Err(format!(
                "the secret has neither `{}` nor `{}`; create it with `kubectl create secret docker-registry`",
                parse::CONFIG_JSON,
                parse::DOCKERCFG
            ))
        }
        .map(Self::from)
    }

    /// Reads the administrator's `config.json`. Credential helpers are not run.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, String> {
        parse::config_json("the Docker configuration file", bytes).map(Self::from)
    }

    /// What was skipped, one line for each entry that cannot be used. Holds registry names, no secrets.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn matching<'a>(&'a self, repository: &'a Repository) -> impl Iterator<Item = &'a Credential> {
        let mut direct = self.entries.iter().filter(|(key, _)| key.matches(repository)).map(|(_, c)| c).peekable();
        let hub: &[Credential] = match direct.peek() {
            None if repository.host() == DOCKER_HUB => &self.hub,
            _ => &[],
        };
        direct.chain(hub)
    }
}

impl From<parse::Parsed> for DockerConfig {
    fn from(parse::Parsed { mut entries, problems }: parse::Parsed) -> Self {
        entries.sort_by(|(a, _), (b, _)| b.text().cmp(a.text()));
        let hub = entries.iter().filter(|(key, _)| key.text() == DEFAULT_REGISTRY).map(|(_, c)| c.clone()).collect();
        Self { entries, hub, problems }
    }
}

/// Credentials of one Pod in the order they are tried, each source most specific first.
#[derive(Debug, Clone, Default)]
pub struct Keychain {
    sources: Vec<Arc<DockerConfig>>,
}

impl Keychain {
    /// Puts sources in the order given: the Pod's, its service account's, the administrator's. At most
    /// [`MAX_SOURCES`]; only what is given here can ever be sent, so the caller decides whose secrets those are.
    pub fn new(sources: impl IntoIterator<Item = Arc<DockerConfig>>) -> Self {
        let usable = |source: &Arc<DockerConfig>| !source.entries.is_empty();
        Self { sources: sources.into_iter().filter(usable).take(MAX_SOURCES).collect() }
    }

    /// Credentials to try for the repository, best first, without duplicates, at most [`MAX_CREDENTIALS`]; anonymous is
    /// tried last and not in the list.
    pub fn for_repository(&self, repository: &Repository) -> Vec<Credential> {
        self.select(repository).into_iter().cloned().collect()
    }

    /// A hash of what [`Self::for_repository`] gives: equal scopes may share verdicts, others never. All zero when anonymous.
    pub fn scope(&self, repository: &Repository) -> [u8; 32] {
        let selected = self.select(repository);
        if selected.is_empty() {
            return [0; 32];
        }
        // One call over one buffer: this runs for every image of every review.
        let mut ids = [0_u8; MAX_CREDENTIALS * 32];
        for (slot, credential) in ids.chunks_exact_mut(32).zip(&selected) {
            slot.copy_from_slice(&credential.0.id);
        }
        let used = ids.get(..selected.len() * 32).unwrap_or(&ids);
        array(digest(&SHA256, used).as_ref())
    }

    fn select<'a>(&'a self, repository: &'a Repository) -> Vec<&'a Credential> {
        let mut selected: Vec<&Credential> = Vec::new();
        for credential in self.sources.iter().flat_map(|source| source.matching(repository)) {
            if selected.len() == MAX_CREDENTIALS {
                break;
            }
            if !selected.contains(&credential) {
                selected.push(credential);
            }
        }
        selected
    }
}

/// A SHA-256 value as an array.
fn array(hash: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}
