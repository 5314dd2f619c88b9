//! Something that refers to a manifest: an artifact with `subject`, and where the registry has no referrers API, its entry
//! in the list under the fallback tag. OCI distribution specification 1.1, "Pushing Manifests with Subject".
//!
//! The fallback tag is read, extended and written, and the specification has nothing that keeps two writers of the same
//! moment apart. Whoever writes looks again and repeats until its own entry is there; that another one's got lost in
//! between can only be seen by that other one.

use bytes::Bytes;
use serde_json::{Value, json};

use super::referrers::fallback_tag;
use super::{Access, MAX_MANIFEST, Remote, Upstream, document};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

/// So often is the list under the fallback tag written.
const MAX_WRITTEN: usize = 5;

/// An image manifest with a subject, as JSON: `artifactType` and `annotations` go into lists, too.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The manifest.
    pub manifest: Value,
    /// What it refers to.
    pub subject: Digest,
}

impl Upstream {
    /// Pushes an artifact whose blobs are there, so that those find it who look for what refers to its subject.
    pub async fn attach(&self, repository: &Repository, artifact: &Artifact, access: &Access) -> Result<Digest, Fault> {
        let bytes = Bytes::from(artifact.manifest.to_string());
        let kind = document::OCI_MANIFEST;
        let (digest, listed) = self.put_manifest(repository, None, kind, &bytes, access).await?;
        let remote = Remote::new(self, repository, access)?;
        // A registry may list it without saying so.
        if listed || remote.api_list(&artifact.subject).await?.is_some() {
            return Ok(digest);
        }
        let mut entry = json!({"mediaType": kind, "digest": digest.as_str(), "size": bytes.len()});
        for name in ["artifactType", "annotations"] {
            if let (Some(value), Some(entry)) = (artifact.manifest.get(name), entry.as_object_mut()) {
                entry.insert(name.to_owned(), value.clone());
            }
        }
        self.list_by_tag(repository, &artifact.subject, &entry, access).await?;
        Ok(digest)
    }

    async fn list_by_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
        entry: &Value,
        access: &Access,
    ) -> Result<(), Fault> {
        let remote = Remote::new(self, repository, access)?;
        let tag = fallback_tag(subject);
        for _ in 0..MAX_WRITTEN {
            let there = self.tagged_manifest(repository, &tag, access).await?;
            let mut index = match there {
                None => json!({"schemaVersion": 2, "mediaType": document::OCI_INDEX, "manifests": []}),
                Some(index) if index.media_type == document::OCI_INDEX => {
                    serde_json::from_slice(&index.bytes).map_err(|_| bad(&remote, &tag))?
                }
                Some(_) => return Err(bad(&remote, &tag)),
            };
            let list = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(|| bad(&remote, &tag))?;
            if list.iter().any(|known| known.get("digest") == entry.get("digest")) {
                return Ok(());
            }
            list.push(entry.clone());
            let bytes = Bytes::from(index.to_string());
            if bytes.len() > MAX_MANIFEST {
                return Err(remote.home.fault(FaultKind::TooLarge, format_args!("the list {tag} is full")));
            }
            self.push_manifest(repository, Some(&tag), document::OCI_INDEX, &bytes, access).await?;
        }
        // Written as often, and never there afterwards: others write, too.
        Err(remote.home.fault(FaultKind::Overloaded, format_args!("others keep writing the list {tag}; try again")))
    }
}

fn bad(remote: &Remote<'_>, tag: &str) -> Fault {
    let what = format!("the tag {tag}, which lists what refers to the image, leads to something else");
    remote.home.fault(FaultKind::BadAnswer, what)
}
