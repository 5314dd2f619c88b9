//! Records in the cluster: read page by page, written only over what was looked at.

use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};

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

    /// Metadata of all records, in the order of their names. The error is for people.
    pub async fn all(&self) -> Result<Vec<PartialObjectMeta<ImageSignature>>, String> {
        let mut params = ListParams::default().limit(PAGE);
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let list = self.api.list_metadata(&params).await.map_err(|e| cannot("list", &e))?;
            all.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
        Err(format!("there are more than {} imagesignatures: delete some", MAX_PAGES * PAGE as usize))
    }

    /// The records of a digest. The API server takes no record whose name does not begin with its digest.
    pub async fn of(&self, digest: &Digest) -> Result<Vec<ImageSignature>, String> {
        let Some(prefix) = object::prefix(digest) else { return Ok(Vec::new()) };
        let all = self.all().await?;
        let names: Vec<_> =
            all.iter().map(kube::ResourceExt::name_any).filter(|name| name.starts_with(&prefix)).collect();
        if names.len() > MAX_RECORDS {
            return Err(format!("there are more than {MAX_RECORDS} imagesignatures of {digest}: delete some"));
        }
        let mut records = Vec::new();
        for name in names {
            // One that went meanwhile is none.
            records.extend(self.get(&name).await?);
        }
        Ok(records)
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
            Step::Create(record, examined) => {
                self.create(record).await?;
                let name = record.name_any();
                let made = self.get(&name).await?.ok_or_else(|| format!("imagesignature {name} went at once"))?;
                if made.spec.image != record.spec.image || made.spec.content != record.spec.content {
                    return Err(format!("imagesignature {name} holds another signature; delete it and run this again"));
                }
                self.set_status(&made, object::status(&made, examined, at, by)).await
            }
            Step::Skip(why) => Err(why.clone()),
        }
    }

    /// Replaces the status of a record as it was looked at.
    async fn set_status(&self, record: &ImageSignature, status: ImageSignatureStatus) -> Result<(), String> {
        let changed = ImageSignature { status: Some(status), ..record.clone() };
        let replaced = self.api.replace_status(&record.name_any(), &PostParams::default(), &changed).await;
        replaced.map(drop).map_err(|e| refused(record, "update the status of", &e))
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
