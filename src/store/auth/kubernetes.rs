//! Tokens of a cluster: the API server says who they belong to, and whether those may create records of signatures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Refusal, Writer, loggable};
use crate::telemetry::seldom;

/// How long an answer is used again. Roles that are taken away and tokens that are revoked count for so long.
const REMEMBERED: Duration = Duration::from_secs(10);
const MAX_REMEMBERED: u64 = 10_000;
/// Questions to the API server at once.
const AT_ONCE: usize = 16;
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
    known: Cache<[u8; 32], Result<Writer, Refusal>>,
    slots: Semaphore,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// With a client that may create `tokenreviews` and `subjectaccessreviews`.
    pub fn new(client: Client) -> Self {
        let known = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build();
        Self { client, known, slots: Semaphore::new(AT_ONCE) }
    }

    pub(super) async fn admit(&self, token: String) -> Result<Writer, Refusal> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(Refusal::Unauthenticated("this is no token of the cluster"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        // Only what the API server said is kept, and callers with the same token wait for one answer.
        let asked = self.known.try_get_with(key, async {
            let said = self.ask(token).await;
            if let Err(Refusal::Unavailable(why)) = said { Err(why) } else { Ok(said) }
        });
        asked.await.unwrap_or_else(|why| Err(Refusal::Unavailable(why.as_ref().clone())))
    }

    async fn ask(&self, token: String) -> Result<Writer, Refusal> {
        let unavailable = |why: &str| Refusal::Unavailable(format!("who you are cannot be found out now: {why}"));
        let both = async {
            let _slot = self.slots.acquire().await.map_err(|_| unavailable("shutting down"))?;
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
