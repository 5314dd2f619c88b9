//! Tokens of a cluster: the API server says who they belong to, and whether those may create records of signatures.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::crowd::{Crowd, Failures};
use super::{Refusal, Writer, loggable};
use crate::telemetry::seldom;

/// How long an answer is used again. Roles that are taken away and tokens that are revoked count for so long.
const REMEMBERED: Duration = Duration::from_secs(10);
const MAX_REMEMBERED: u64 = 10_000;
/// How long it is remembered that a token was good once: its holder is asked about apart from strangers.
const ACQUAINTED: Duration = Duration::from_secs(60 * 60);
/// Questions to the API server at once, about tokens that were good before and about others: whoever invents tokens keeps
/// those out alone who are new as well.
const AT_ONCE: usize = 8;
const STRANGERS_AT_ONCE: usize = 12;
/// For both questions.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest token that is asked about, in bytes; the API server takes not much more.
const MAX_TOKEN: usize = 16 * 1024;

/// What may be created by those who may upload.
const GROUP: &str = "podseal.io";
const RESOURCE: &str = "imagesignatures";

/// Asks an API server.
pub struct Kubernetes {
    client: Client,
    /// What the API server said, by the token's hash. Refusals are kept apart, so that they displace nobody.
    known: Cache<[u8; 32], Writer>,
    refused: Cache<[u8; 32], Refusal>,
    acquainted: Cache<[u8; 32], ()>,
    slots: Semaphore,
    strangers: Semaphore,
    crowd: Crowd,
    failures: Failures,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// With a client that may create `tokenreviews` and `subjectaccessreviews`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build(),
            refused: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build(),
            acquainted: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(ACQUAINTED).build(),
            slots: Semaphore::new(AT_ONCE),
            strangers: Semaphore::new(STRANGERS_AT_ONCE),
            crowd: Crowd::default(),
            failures: Failures::default(),
        }
    }

    /// Whose token this is. Anybody may ask: of one client's address a few tokens that were not good before are asked
    /// about at once, and few that turn out not to be.
    pub(super) async fn admit(&self, token: String, client: Option<IpAddr>) -> Result<Writer, Refusal> {
        // What follows "Bearer" is printable in any case (RFC 6750, section 2.1); more is known of no token.
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::Unauthenticated("this is no token of the cluster"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(refusal) = self.refused.get(&key).await {
            return Err(refusal);
        }
        // Only what the API server said is kept, and callers with the same token wait for one answer.
        let asked = self.known.try_get_with(key, async {
            if self.acquainted.contains_key(&key) {
                self.ask(token, &self.slots).await
            } else {
                self.ask_about_stranger(token, client).await
            }
        });
        let said = asked.await.map_err(|why: Arc<Refusal>| why.as_ref().clone());
        match &said {
            Ok(_) => self.acquainted.insert(key, ()).await,
            Err(refusal @ (Refusal::Unauthenticated(_) | Refusal::Forbidden(_))) => {
                self.acquainted.invalidate(&key).await;
                self.refused.insert(key, refusal.clone()).await;
            }
            Err(_) => {}
        }
        said
    }

    async fn ask_about_stranger(&self, token: String, client: Option<IpAddr>) -> Result<Writer, Refusal> {
        let _place = self.crowd.enter(client).ok_or(Refusal::Crowded)?;
        if !self.failures.admit(client) {
            return Err(Refusal::Crowded);
        }
        let said = self.ask(token, &self.strangers).await;
        if said.is_ok() {
            self.failures.forgive(client);
        }
        said
    }

    async fn ask(&self, token: String, slots: &Semaphore) -> Result<Writer, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable(format!("who you are cannot be found out now: {why}"));
        let both = async {
            let _slot = slots.acquire().await.map_err(|_| unavailable("shutting down"))?;
            let user = self.whose(token).await?;
            self.may_create(user).await
        };
        timeout(PATIENCE, both).await.unwrap_or_else(|_| Err(unavailable("the API server did not answer in time")))
    }

    async fn whose(&self, token: String) -> Result<UserInfo, Refusal> {
        let review =
            TokenReview { spec: TokenReviewSpec { token, ..TokenReviewSpec::default() }, ..TokenReview::default() };
        let answer = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| failed("TokenReview", &error))?.status.unwrap_or_default();
        match status.user {
            Some(user) if status.authenticated == Some(true) => Ok(user),
            _ => Err(Refusal::Unauthenticated("the API server does not know this token")),
        }
    }

    async fn may_create(&self, user: UserInfo) -> Result<Writer, Refusal> {
        let name = loggable(user.username.as_deref().unwrap_or("unnamed"));
        let extra: Option<BTreeMap<_, _>> = user.extra;
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some(RESOURCE.to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra,
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| failed("SubjectAccessReview", &error))?.status.unwrap_or_default();
        // "denied" overrules, should an authorizer ever say both.
        if status.allowed && status.denied != Some(true) {
            Ok(Writer { name, by: "kubernetes" })
        } else {
            Err(Refusal::Forbidden(name))
        }
    }
}

/// The cause is for the log: it may say more about the cluster than a stranger should read.
fn failed(what: &str, error: &kube::Error) -> Refusal {
    if seldom::says(&format!("{what} {error}")) {
        tracing::warn!(%error, "cannot ask the API server for a {what}; nobody is let in by a token meanwhile");
    }
    Refusal::Unavailable("who you are cannot be found out now: the API server does not say".to_owned())
}

#[cfg(test)]
mod tests;
