//! Records in the cluster: read page by page, written only over what was looked at.

use std::collections::BTreeSet;

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};

use super::examine::Examined;
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
    /// names in `expected`, which nobody can crowd out, then the oldest.
    pub async fn of(&self, digest: &Digest, expected: &BTreeSet<String>) -> Result<Recorded, String> {
        let mut recorded = Recorded::default();
        let Some(prefix) = object::prefix(digest) else { return Ok(recorded) };
        let mut others = Vec::new();
        let more = self
            .each(None, |one| {
                let name = one.name_any();
                if name.starts_with(&prefix) && !expected.contains(&name) {
                    others.push((one.creation_timestamp(), name));
                }
            })
            .await?;
        others.sort();
        let room = MAX_RECORDS.saturating_sub(expected.len());
        recorded.more = more || others.len() > room;
        for name in expected.iter().chain(others.iter().map(|(_, name)| name).take(room)) {
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

    /// Deletes a record as it was looked at; a changed one stays. One that is gone is gone.
    pub async fn remove(&self, record: &ImageSignature) -> Result<(), String> {
        let preconditions = Preconditions { resource_version: record.resource_version(), uid: record.uid() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api.delete(&record.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(refused(record, "delete", &error)),
        }
    }

    /// Carries out one step of a plan; the error names the object.
    pub async fn take(&self, step: &Step, at: jiff::Timestamp, by: Option<&str>) -> Result<(), String> {
        match step {
            Step::Remove(record) => self.remove(record).await,
            Step::Update(record, examined) => self.set_status(record, object::status(record, examined, at, by)).await,
            Step::Create(record, examined) => self.make(record, examined, at, by).await,
            Step::Replace(there, record, examined) => {
                self.remove(there).await?;
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
        let (one, other) = (&made.spec, &record.spec);
        if (&one.image, &one.reference, &one.content) != (&other.image, &other.reference, &other.content) {
            return Err(format!("imagesignature {name} holds another signature; delete it and run this again"));
        }
        self.set_status(&made, object::status(&made, examined, at, by)).await
    }

    /// Replaces the status of a record as it was looked at; from then on it is not one that was only imported.
    async fn set_status(&self, record: &ImageSignature, status: ImageSignatureStatus) -> Result<(), String> {
        let (name, params) = (record.name_any(), PostParams::default());
        let failed = |e: kube::Error| refused(record, "update the status of", &e);
        let changed = ImageSignature { status: Some(status), ..record.clone() };
        let mut written = self.api.replace_status(&name, &params, &changed).await.map_err(failed)?;
        if written.labels_mut().remove(object::IMPORTED).is_some() {
            let failed = |e: kube::Error| refused(record, "take the label of imported ones from", &e);
            self.api.replace(&name, &params, &written).await.map_err(failed)?;
        }
        Ok(())
    }
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
