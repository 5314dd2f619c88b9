//! Signatures of images in use become `ImageSignature` objects that nobody has verified.
//!
//! ```text
//!  Pods ── usage ──► digests ── stores ──► signatures ── form, digest, size ──► objects without a status
//!                                          objects that were imported, unverified, unused for a day ──► deleted
//! ```
//! Whoever fills a store decides what is found in it. Therefore: sixteen signatures of a digest, 64 KiB each, ten thousand
//! objects in all, a bounded number of requests per round; and what an auditor wrote a status to is never touched again.

mod stores;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use tokio::time::Instant;
use tracing::{info, warn};

use self::stores::{Stores, access};
use self::usage::Usage;
use super::{Context, Quiet};
use crate::api::image_signature::ImageSignature;
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::domain::payload::SimplePayload;
use crate::fault::Fault;
use crate::records::cluster::Records;
use crate::records::collect::{Found, Place};
use crate::records::{hold, object};
use crate::signature::openpgp::inspect;
use crate::source::registry::Upstream;
use crate::telemetry::metrics::Unimported;
use crate::telemetry::seldom;

/// After a start, other work comes first.
const FIRST: Duration = Duration::from_secs(10);
/// Imported objects in all, those that auditors judged not counted; with these, nothing more is imported.
const MAX_OBJECTS: usize = 10_000;
/// Imported objects of one digest.
const MAX_OF_DIGEST: usize = 16;
/// Images whose stores are asked in one round; the others have their turn in the next.
const MAX_ASKED: usize = 1_000;
/// Images asked about at the same time.
const CONCURRENT: usize = 4;
/// Time for all signatures of one image.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so many faults of one store in a round it is left alone until the next.
const MAX_FAULTS: usize = 3;
/// After so many objects in a row that the API server did not take, the round ends: it takes none at all.
const MAX_REFUSED: usize = 50;

/// What is imported, and how often.
#[derive(Debug, Clone)]
pub struct Config {
    /// Between two rounds.
    pub interval: Duration,
    /// How long an imported object stays after its image was last seen in use.
    pub keep: Duration,
    /// The administrator's registries.d.
    pub registries_d: Option<PathBuf>,
    /// The administrator's certificates, read anew for every round.
    pub ca: Option<PathBuf>,
    /// How stores are asked.
    pub upstream: Arc<Upstream>,
}

/// Imports for ever.
pub async fn run(context: Context, config: Config) {
    let mut importer = Importer {
        records: Records::new(context.client.clone()),
        context,
        config,
        last: None,
        unused: HashMap::new(),
        quiet: Quiet::default(),
    };
    tokio::time::sleep(FIRST.min(importer.config.interval)).await;
    loop {
        match importer.round().await {
            Ok(()) => {
                importer.quiet.reset();
            }
            Err(why) => {
                importer.context.metrics.controller.import.failed();
                if importer.quiet.says(&why) {
                    warn!("signatures were not imported: {why}");
                }
            }
        }
        tokio::time::sleep(importer.config.interval).await;
    }
}

struct Importer {
    context: Context,
    config: Config,
    records: Records,
    /// The image that was asked about last.
    last: Option<Digest>,
    /// Digests of imported objects that are not in use, and since when as far as this replica has seen.
    unused: HashMap<Digest, Instant>,
    quiet: Quiet,
}

/// The objects that there are.
#[derive(Debug, Default)]
struct Inventory {
    /// Of all, whoever made them, as far as they were looked at.
    names: BTreeSet<String>,
    /// Of imported ones that nobody judged, by digest; those that are being deleted are none.
    imported: BTreeMap<Digest, Vec<String>>,
}

impl Inventory {
    /// Whether another one of the digest may be imported. What others make takes no room.
    fn has_room(&self, digest: &Digest) -> bool {
        let of_digest = self.imported.get(digest).map_or(0, Vec::len);
        of_digest < MAX_OF_DIGEST && self.imported.values().map(Vec::len).sum::<usize>() < MAX_OBJECTS
    }
}

/// What was found for one image.
struct Looked {
    digest: Digest,
    repository: Repository,
    store: String,
    found: Result<Vec<Found>, Fault>,
}

impl Importer {
    async fn round(&mut self) -> Result<(), String> {
        self.renew_certificates().await;
        let usage = Usage::of_cluster(&self.context.client).await?;
        let stores = Stores::read(&self.context.client, self.config.registries_d.as_deref()).await?;
        let mut inventory = self.inventory().await?;
        let made = self.import(&usage, &stores, &mut inventory).await?;
        // Before anything is deleted it must be certain that it is not in use.
        let removed = if usage.more { 0 } else { self.collect_garbage(&usage, &inventory).await? };
        let metrics = &self.context.metrics.controller.import;
        metrics.stand(usage.len(), inventory.names.len().saturating_sub(removed));
        if made + removed > 0 {
            info!(made, removed, images = usage.len(), "signatures of images in use were imported, unverified");
        }
        Ok(())
    }

    async fn renew_certificates(&mut self) {
        let Some(path) = &self.config.ca else { return };
        let read = tokio::fs::read(path).await.map_err(|error| error.to_string());
        if let Err(problem) = read.and_then(|pem| self.config.upstream.set_extra_ca(&pem))
            && self.quiet.says(&problem)
        {
            warn!(file = %path.display(), "what was read before stays in force: {problem}");
        }
    }

    async fn inventory(&mut self) -> Result<Inventory, String> {
        let mut inventory = Inventory::default();
        let own = format!("{}=podseal,{}=true", object::MANAGED_BY, object::IMPORTED);
        let imported = &mut inventory.imported;
        let look = |one: PartialObjectMeta<ImageSignature>| {
            let name = one.name_any();
            // One that is being deleted is only waited for, however long somebody holds it.
            if one.metadata.deletion_timestamp.is_some() {
                return;
            }
            if let Some(digest) = digest_of(&name) {
                imported.entry(digest).or_default().push(name);
            }
        };
        let mut more = self.records.each(Some(&own), look).await?;
        // Only saves requests: the API server makes no second object of a name.
        let names = &mut inventory.names;
        let look = |one: PartialObjectMeta<ImageSignature>| {
            names.insert(one.name_any());
        };
        more |= self.records.each(None, look).await?;
        if more && self.quiet.says("more records than are looked at") {
            warn!("there are more imagesignatures than are looked at: delete some");
        }
        Ok(inventory)
    }

    /// How many objects were made.
    async fn import(&mut self, usage: &Usage, stores: &Stores, inventory: &mut Inventory) -> Result<usize, String> {
        let before = self.last.take();
        let mut faults: HashMap<String, usize> = HashMap::new();
        let mut wanted = Vec::new();
        for (digest, repositories) in usage.after(before.as_ref()).take(MAX_ASKED) {
            self.last = Some(digest.clone());
            let asked =
                repositories.iter().filter_map(|name| Some((digest.clone(), name.clone(), stores.of(name, digest)?)));
            wanted.extend(asked);
        }
        let (mut made, mut refused) = (0, 0);
        for some in wanted.chunks(CONCURRENT) {
            let asked = some
                .iter()
                .filter(|(_, _, (store, _))| faults.get(&store.to_string()).is_none_or(|count| *count < MAX_FAULTS));
            let looking = asked.map(|(digest, name, (store, insecure))| self.look(digest, name, store, *insecure));
            let looked: Vec<_> = futures::stream::iter(looking).buffered(CONCURRENT).collect().await;
            for one in looked {
                match one.found {
                    Ok(found) => {
                        made += self.make(&one.digest, &one.repository, found, inventory, &mut refused).await?;
                    }
                    Err(fault) => {
                        *faults.entry(one.store).or_default() += 1;
                        self.context.metrics.controller.import.failed();
                        if self.quiet.says(fault.message()) {
                            warn!(detail = fault.detail().unwrap_or(""), "signatures were not imported: {fault}");
                        }
                    }
                }
            }
        }
        Ok(made)
    }

    async fn look(
        &self,
        digest: &Digest,
        repository: &Repository,
        store: &crate::source::lookaside::StoreUrl,
        insecure: bool,
    ) -> Looked {
        let access = access(insecure, Instant::now() + PATIENCE);
        let place = Place { upstream: &self.config.upstream, repository, access: &access };
        let found = place.in_store(store, digest, MAX_OF_DIGEST).await.map(|collected| collected.found);
        Looked { digest: digest.clone(), repository: repository.clone(), store: store.to_string(), found }
    }

    /// Makes the objects that are missing, as far as there is room. `refused` counts those in a row that could not be made:
    /// one that a webhook or a quota refuses keeps nobody else's from being made.
    async fn make(
        &self,
        digest: &Digest,
        repository: &Repository,
        found: Vec<Found>,
        inventory: &mut Inventory,
        refused: &mut usize,
    ) -> Result<usize, String> {
        let metrics = &self.context.metrics.controller.import;
        let (mut made, mut cores) = (0, BTreeSet::new());
        for one in found {
            let Ok(blob) = one.blob else { continue };
            // Other forms of one signature, which anybody can make, take no room.
            if !cores.insert(object::core(&blob)) {
                continue;
            }
            let Some(name) = object::name(digest, repository, &blob).filter(|name| !inventory.names.contains(name))
            else {
                continue;
            };
            if let Err(why) = worth_importing(digest, &blob) {
                metrics.refused(why);
                continue;
            }
            if !inventory.has_room(digest) {
                metrics.refused(Unimported::Limit);
                continue;
            }
            let Ok(mut record) = object::record(digest, repository, &one.store, &blob) else {
                metrics.refused(Unimported::TooLarge);
                continue;
            };
            record.labels_mut().insert(object::IMPORTED.to_owned(), "true".to_owned());
            let created = match self.records.create(&record).await {
                Err(why) if *refused + 1 >= MAX_REFUSED => return Err(why),
                Err(why) => {
                    *refused += 1;
                    metrics.failed();
                    if seldom::says(&why) {
                        warn!("a signature was not imported: {why}");
                    }
                    continue;
                }
                Ok(created) => created,
            };
            *refused = 0;
            if created {
                made += 1;
                metrics.imported();
                inventory.imported.entry(digest.clone()).or_default().push(name.clone());
            }
            inventory.names.insert(name);
        }
        Ok(made)
    }

    /// Deletes what was imported, was verified by nobody, and is of an image that is not in use any more.
    async fn collect_garbage(&mut self, usage: &Usage, inventory: &Inventory) -> Result<usize, String> {
        let (now, mut removed, mut held) = (Instant::now(), 0, 0);
        self.unused.retain(|digest, _| inventory.imported.contains_key(digest) && !usage.contains(digest));
        for (digest, names) in inventory.imported.iter().filter(|(digest, _)| !usage.contains(digest)) {
            let since = *self.unused.entry(digest.clone()).or_insert(now);
            if now.saturating_duration_since(since) < self.config.keep {
                continue;
            }
            for name in names {
                let Some(record) = self.records.get(name).await? else { continue };
                // Any verdict is an auditor's work, a negative one, too.
                if record.status.is_some() || hold::is_going(&record) || record.labels().get(object::IMPORTED).is_none()
                {
                    continue;
                }
                match self.records.delete(&record).await {
                    Ok(true) => {
                        removed += 1;
                        self.context.metrics.controller.import.removed();
                    }
                    Ok(false) => held += 1,
                    // Changed meanwhile: somebody cares about it.
                    Err(why) => tracing::debug!("{why}"),
                }
            }
        }
        if held > 0 {
            warn!(held, "imagesignatures are being deleted and still there: finalizers hold them");
        }
        Ok(removed)
    }
}

/// What can never verify for this image is not worth an object.
fn worth_importing(digest: &Digest, blob: &[u8]) -> Result<(), Unimported> {
    if blob.len() > crate::api::image_signature::MAX_CONTENT {
        return Err(Unimported::TooLarge);
    }
    let said = inspect(blob).map_err(|_| Unimported::Malformed)?;
    let payload = SimplePayload::parse(&said.content).map_err(|_| Unimported::Malformed)?;
    if payload.digest == *digest { Ok(()) } else { Err(Unimported::OtherImage) }
}

/// The digest in the name of an object.
fn digest_of(name: &str) -> Option<Digest> {
    let (hex, _) = name.strip_prefix("sha256-")?.split_once('-')?;
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_say_of_which_image_they_are() {
        let digest = Digest::sha256(b"manifest");
        assert_eq!(
            digest_of(&object::name(&digest, &Repository::parse("r.io/a").unwrap(), b"x").unwrap()),
            Some(digest)
        );
        for name in ["", "sha256-", "sha256-00-x", "sha512-00-x"] {
            assert_eq!(digest_of(name), None, "{name}");
        }
    }

    #[test]
    fn what_others_make_takes_no_room() {
        let digest = Digest::sha256(b"manifest");
        let mut inventory = Inventory { names: (0..20_000).map(|n| n.to_string()).collect(), ..Inventory::default() };
        assert!(inventory.has_room(&digest));
        inventory.imported.insert(digest.clone(), vec![String::new(); MAX_OF_DIGEST]);
        assert!(!inventory.has_room(&digest) && inventory.has_room(&Digest::sha256(b"other")));
        inventory.imported.insert(Digest::sha256(b"many"), vec![String::new(); MAX_OBJECTS - MAX_OF_DIGEST]);
        assert!(!inventory.has_room(&Digest::sha256(b"other")));
    }

    #[test]
    fn what_can_never_verify_is_not_imported() {
        let digest = Digest::sha256(b"manifest");
        let large = vec![0x90; crate::api::image_signature::MAX_CONTENT + 1];
        assert_eq!(worth_importing(&digest, &large), Err(Unimported::TooLarge));
        assert_eq!(worth_importing(&digest, b"<html>"), Err(Unimported::Malformed));
    }
}
