//! Records in the cluster: read page by page, written only over what was looked at.

use std::collections::BTreeSet;

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};

use super::examine::Examined;
use super::hold;
use super::object;
use super::plan::Step;
use crate::api::image_signature::{ImageSignature, ImageSignatureStatus};
use crate::cluster::describe;
use crate::domain::digest::Digest;

/// Names asked for at a time.
const PAGE: u32 = 500;
/// Pages looked at, at most: more records than the controller ever makes.
const MAX_PAGES: usize = 200;
/// Records of one digest that are looked at, at most.
pub const MAX_RECORDS: usize = 256;

/// The records of one digest, of whatever repository.
#[derive(Debug, Default)]
pub struct Recorded {
    /// As they are.
    pub records: Vec<ImageSignature>,
    /// There are more than are looked at.
    pub more: bool,
}

/// The records of a cluster.
#[derive(Clone)]
pub struct Records {
    api: Api<ImageSignature>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records")
    }
}

impl Records {
    /// Those that this client may see.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }

    /// Shows the metadata of the records that have these labels, all for none, in the order of their names. `true` when
    /// there are more than are looked at; that stops nothing, because anybody with the right to make some could.
    pub async fn each(
        &self,
        labels: Option<&str>,
        mut look: impl FnMut(PartialObjectMeta<ImageSignature>),
    ) -> Result<bool, String> {
        let mut params = ListParams { label_selector: labels.map(str::to_owned), ..ListParams::default() }.limit(PAGE);
        for _ in 0..MAX_PAGES {
            let list = self.api.list_metadata(&params).await.map_err(|e| cannot("list", &e))?;
            list.items.into_iter().for_each(&mut look);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The records of a digest. The API server takes no record whose name does not begin with its digest. First those of the
    /// names in `expected`, which nobody can crowd out, then the oldest; behind them those that are being deleted.
    pub async fn of(&self, digest: &Digest, expected: &BTreeSet<String>) -> Result<Recorded, String> {
        let mut recorded = Recorded::default();
        let Some(prefix) = object::prefix(digest) else { return Ok(recorded) };
        let mut others = Vec::new();
        let more = self
            .each(None, |one| {
                let name = one.name_any();
                if name.starts_with(&prefix) && !expected.contains(&name) {
                    others.push((one.metadata.deletion_timestamp.is_some(), one.creation_timestamp(), name));
                }
            })
            .await?;
        others.sort();
        let room = MAX_RECORDS.saturating_sub(expected.len());
        recorded.more = more || others.len() > room;
        for name in expected.iter().chain(others.iter().map(|(.., name)| name).take(room)) {
            // One that went meanwhile is none.
            recorded.records.extend(self.get(name).await?);
        }
        Ok(recorded)
    }

    /// One record, if it exists.
    pub async fn get(&self, name: &str) -> Result<Option<ImageSignature>, String> {
        self.api.get_opt(name).await.map_err(|e| cannot("get", &e))
    }

    /// Makes a record; `false` when there is one of that name.
    pub async fn create(&self, record: &ImageSignature) -> Result<bool, String> {
        match self.api.create(&PostParams::default(), record).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(false),
            Err(error) => Err(cannot("create", &error)),
        }
    }

    /// Deletes a record as it was looked at; a changed one stays. `false` when it is still there afterwards, because a
    /// finalizer holds it. One that is gone is gone.
    pub async fn delete(&self, record: &ImageSignature) -> Result<bool, String> {
        let preconditions = Preconditions { resource_version: record.resource_version(), uid: record.uid() };
        // Nothing belongs to a record: the finalizers that wait for its dependents are taken off by this.
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api.delete(&record.name_any(), &params).await {
            Ok(answer) => Ok(answer.is_right()),
            Err(error) if is_absent(&error) => Ok(true),
            Err(error) => Err(refused(record, "delete", &error)),
        }
    }

    /// Removes a record as it was looked at, whatever was to keep it; a changed one stays. What is still there afterwards says
    /// nothing good any more, and is an error.
    pub async fn remove(&self, record: &ImageSignature, at: jiff::Timestamp) -> Result<(), String> {
        let mut last = record.clone();
        if hold::is_held(record) || hold::is_going(record) {
            let withdrawn = match hold::withdrawn(record, at) {
                Some(status) => self.put_status(record, status).await?,
                None => Some(last),
            };
            let Some(withdrawn) = withdrawn else { return Ok(()) };
            let Some(freed) = self.free(&withdrawn).await? else { return Ok(()) };
            last = freed;
        }
        self.delete(&last).await?;
        match self.get(&record.name_any()).await? {
            Some(left) if left.uid() == record.uid() => Err(hold::still_there(&left)),
            _ => Ok(()),
        }
    }

    /// Takes finalizers and owners from a record as it was looked at; `None` when it is gone.
    async fn free(&self, record: &ImageSignature) -> Result<Option<ImageSignature>, String> {
        if !hold::is_held(record) {
            return Ok(Some(record.clone()));
        }
        match self.api.replace(&record.name_any(), &PostParams::default(), &hold::freed(record)).await {
            Ok(freed) => Ok(Some(freed)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(refused(record, "take finalizers and owners from", &error)),
        }
    }

    /// Carries out one step of a plan; the error names the object.
    pub async fn take(&self, step: &Step, at: jiff::Timestamp, by: Option<&str>) -> Result<(), String> {
        match step {
            Step::Remove(record) => self.remove(record, at).await,
            Step::Update(record, examined) => self.set_status(record, object::status(record, examined, at, by)).await,
            Step::Create(record, examined) => self.make(record, examined, at, by).await,
            Step::Replace(there, record, examined) => {
                self.remove(there, at).await?;
                self.make(record, examined, at, by).await
            }
            Step::Leave(_) => Ok(()),
            Step::Skip(why) => Err(why.clone()),
        }
    }

    /// Makes a record and writes the verdict into it; one that somebody else made meanwhile must be the same.
    async fn make(
        &self,
        record: &ImageSignature,
        examined: &Examined,
        at: jiff::Timestamp,
        by: Option<&str>,
    ) -> Result<(), String> {
        self.create(record).await?;
        let name = record.name_any();
        let made = self.get(&name).await?.ok_or_else(|| format!("imagesignature {name} went at once"))?;
        if hold::is_going(&made) {
            return Err(hold::still_there(&made));
        }
        let (one, other) = (&made.spec, &record.spec);
        if (&one.image, &one.reference, &one.content) != (&other.image, &other.reference, &other.content) {
            return Err(format!("imagesignature {name} holds another signature; delete it and run this again"));
        }
        self.set_status(&made, object::status(&made, examined, at, by)).await
    }

    /// Writes a verdict into a record as it was looked at. From then on it is not one that was only imported, and nobody but
    /// auditors decides how long it stays: that first, so that none is verified without it.
    async fn set_status(&self, record: &ImageSignature, status: ImageSignatureStatus) -> Result<(), String> {
        let went = || format!("imagesignature {} went at once", record.name_any());
        let freed = self.free(record).await?.ok_or_else(went)?;
        let mut written = self.put_status(&freed, status).await?.ok_or_else(went)?;
        if written.labels_mut().remove(object::IMPORTED).is_some() {
            let failed = |e: kube::Error| refused(record, "take the label of imported ones from", &e);
            self.api.replace(&record.name_any(), &PostParams::default(), &written).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Replaces the status of a record as it was looked at; `None` when it is gone.
    async fn put_status(
        &self,
        record: &ImageSignature,
        status: ImageSignatureStatus,
    ) -> Result<Option<ImageSignature>, String> {
        let changed = ImageSignature { status: Some(status), ..record.clone() };
        match self.api.replace_status(&record.name_any(), &PostParams::default(), &changed).await {
            Ok(written) => Ok(Some(written)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(refused(record, "update the status of", &error)),
        }
    }
}

fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn cannot(verb: &str, error: &kube::Error) -> String {
    let hint = match error {
        kube::Error::Api(status) if status.code == 404 => {
            "; if their definition is not installed: podseal crds imagesignatures | kubectl apply --server-side -f -"
        }
        _ => "",
    };
    format!("cannot {verb} imagesignatures: {}{hint}", describe(error))
}

fn refused(record: &ImageSignature, verb: &str, error: &kube::Error) -> String {
    let name = record.name_any();
    match error {
        kube::Error::Api(status) if status.code == 409 => {
            format!("imagesignature {name} was changed by somebody else meanwhile and is left as it is; run this again")
        }
        error => format!("cannot {verb} imagesignature {name}: {}", describe(error)),
    }
}
