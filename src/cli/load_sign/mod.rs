//! `podseal load-sign`: images out of an archive into a registry, each signed when it is whole there.
//!
//! ```text
//!  archive ── images of one architecture ── per image:  blobs that the registry lacks ── manifest ── signature ── tag
//! ```
//! The tag comes last, so that it never leads to an image that is not signed: what it led to before stays in use until then.
//! There is no state of its own: registry and store say what is done already, so that the same command goes on after an
//! interruption, on another machine, too.

mod progress;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::progress::{Progress, size};
use self::target::Target;
use super::args::LogFormat;
use super::args::load_sign::LoadSignCommand;
use super::output::{complain, print};
use super::sign::context::{self, Destinations, SigningKeys};
use super::sign::{Failed, NOT_SIGNED, sign_digest, tell, until_interrupted, worse};
use super::{USAGE, runtime};
use crate::domain::image::ImageRef;
use crate::domain::printable::printable;
use crate::fault::Fault;
use crate::signing::archive::{self, Archive, ArchiveError, Descriptor, ImageInArchive};
use crate::signing::image::Wanted;
use crate::source::access::Access;
use crate::source::registry::{Manifest, Pushed};

/// All parts of one blob may take so long.
const BLOB: Duration = Duration::from_secs(6 * 3600);

pub(super) fn run(command: &LoadSignCommand, verbose: u8) -> ExitCode {
    let _logs = super::serve::logs(LogFormat::Text, verbose, "error,podseal::signing=warn");
    let done = Target::parse(&command.target).and_then(|target| {
        let runtime = runtime()?;
        runtime.block_on(until_interrupted(all(command, &target)))
    });
    done.unwrap_or_else(|error| {
        complain(&printable(&error));
        ExitCode::from(USAGE)
    })
}

/// What is done with every image.
struct Job {
    archive: Arc<Archive>,
    destinations: Destinations,
    keys: SigningKeys,
    progress: Progress,
}

async fn all(command: &LoadSignCommand, target: &Target) -> Result<ExitCode, String> {
    let line = context::line(&command.registry)?;
    let destinations = Destinations::new(&command.destination, line)?;
    let keys = tokio::task::block_in_place(|| SigningKeys::open(&command.key))?;
    let progress = Progress::new();
    // Without a file of that name it is the command that is wrong, else the archive.
    std::fs::metadata(&command.archive).map_err(|error| format!("{}: {error}", command.archive.display()))?;
    let (archive, images) = match tokio::task::block_in_place(|| read(command, &progress)) {
        Ok(found) => found,
        Err(error @ ArchiveError::Architecture(_)) => return Err(error.to_string()),
        Err(ArchiveError::Unusable(why)) => {
            complain(&printable(&why));
            return Ok(ExitCode::from(NOT_SIGNED));
        }
    };
    let (named, refused) = named(target, &images);
    let job = Job { archive: Arc::new(archive), destinations, keys, progress };
    let mut code = 0;
    for why in refused {
        complain(&printable(&why));
        code = NOT_SIGNED;
    }
    for (i, (name, image)) in named.iter().enumerate() {
        let done = job.load(name, image, &format!("{} of {}", i + 1, named.len())).await;
        job.progress.clear();
        code = worse(code, done.unwrap_or_else(|failed| tell(&name.to_string(), &failed)));
    }
    Ok(ExitCode::from(code))
}

/// The images with the names that they get, and why others get none.
fn named<'a>(target: &Target, images: &'a [ImageInArchive]) -> (Vec<(ImageRef, &'a ImageInArchive)>, Vec<String>) {
    let (mut named, mut refused) = (BTreeMap::<String, Vec<_>>::new(), Vec::new());
    for image in images {
        match target.name(&image.name) {
            Ok(name) => named.entry(name.to_string()).or_default().push((name, image)),
            Err(why) => refused.push(format!("{why}: it is left out")),
        }
    }
    let mut good = Vec::new();
    for (name, mut those) in named {
        those.dedup_by(|(_, a), (_, b)| a.digest == b.digest);
        if let [_] = those.as_slice() {
            good.append(&mut those);
            continue;
        }
        // One would take the name from the other.
        let called: Vec<_> = those.iter().map(|(_, image)| image.name.as_str()).collect();
        refused.push(format!(
            "{name}: the archive has several images that would get this name ({}), and none of them is pushed: give them \
             names that differ without the registry, or load them from archives of their own into different paths",
            called.join(", ")
        ));
    }
    (good, refused)
}

fn read(command: &LoadSignCommand, progress: &Progress) -> Result<(Archive, Vec<ImageInArchive>), ArchiveError> {
    let usual = || std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let scratch = command.scratch.clone().unwrap_or_else(usual);
    let shown = |done, all| progress.show("unpacking", done, all);
    let archive = Archive::open(&command.archive, &scratch, &shown);
    progress.clear();
    let archive = archive?;
    let at = command.archive.display();
    let (images, notes) = archive::images(&archive, &command.arch).map_err(|error| match error {
        ArchiveError::Unusable(why) => ArchiveError::Unusable(format!("{at}: {why}")),
        ArchiveError::Architecture(why) => ArchiveError::Architecture(format!("{at}: {why}")),
    })?;
    for note in notes {
        complain(&printable(&note));
    }
    if images.is_empty() {
        return Err(ArchiveError::Architecture(format!("{at}: there are no images for {} in it", command.arch)));
    }
    Ok((archive, images))
}

impl Job {
    async fn load(&self, name: &ImageRef, image: &ImageInArchive, which: &str) -> Result<u8, Failed> {
        // Where the signature goes is known before anything is pushed.
        let depot = match &self.keys.simple {
            Some(_) => Some(self.destinations.of(name, name.repository()).await?),
            None => None,
        };
        let all: u64 = image.blobs.iter().map(|blob| blob.size).sum();
        let (mut done, mut sent) = (0, 0);
        for blob in &image.blobs {
            if self.push(name, image, blob, (done, all)).await? == Pushed::Uploaded {
                sent += blob.size;
            }
            done += blob.size;
        }
        let manifest = self.push_manifest(name, image).await?;
        let told = format!(
            "pushed {name} ({which}, {}): {} sent, {} there before\n",
            image.digest,
            size(sent),
            size(all - sent)
        );
        self.progress.clear();
        print(&told);
        let identity = name.to_string();
        let wanted = Wanted { repository: name.repository(), digest: &image.digest, identity: &identity, again: false };
        let line = self.destinations.line(name.repository());
        let code = sign_digest(&self.keys, &line, depot.as_ref(), &manifest, wanted).await;
        if code == 0 {
            self.tag(name, image).await?;
        } else {
            complain(&format!("{identity}: not tagged, because it is not signed; the same command goes on"));
        }
        Ok(code)
    }

    async fn push(
        &self,
        name: &ImageRef,
        image: &ImageInArchive,
        blob: &Descriptor,
        (done, all): (u64, u64),
    ) -> Result<Pushed, Failed> {
        let line = self.destinations.line(name.repository());
        let (upstream, repository) = (&line.upstream, name.repository());
        if upstream.has_blob(repository, &blob.digest, blob.size, &line.access()).await? {
            return Ok(Pushed::WasThere);
        }
        let member = image.blob(&self.archive, blob).map_err(|error| error.to_string())?;
        let lacking = || format!("neither the archive nor the registry has its blob {}", blob.digest);
        let member = member.ok_or_else(lacking)?;
        let (content, digest) = (member.clone(), blob.digest.clone());
        let checked = tokio::task::spawn_blocking(move || content.has_digest(&digest)).await;
        match checked {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(format!("the archive's blob {} has another digest", blob.digest).into()),
            Ok(Err(error)) => return Err(format!("the blob {} cannot be read: {error}", blob.digest).into()),
            Err(_) => return Err(format!("the blob {} could not be looked at", blob.digest).into()),
        }
        let what = name.to_string();
        let shown = |taken: u64| self.progress.show(&what, done + taken, all);
        shown(0);
        let access = line.access_for(BLOB);
        Ok(upstream.push_blob(repository, &blob.digest, Arc::new(member), &access, &shown).await?)
    }

    /// The manifest without a tag, unless it is there, as the registry then gives it. All its blobs are there.
    async fn push_manifest(&self, name: &ImageRef, image: &ImageInArchive) -> Result<Manifest, Failed> {
        let line = self.destinations.line(name.repository());
        let (upstream, repository, access) = (&line.upstream, name.repository(), line.access());
        if let Some(there) = upstream.manifest(repository, &image.digest, &access).await? {
            return Ok(there);
        }
        upstream.push_manifest(repository, None, &image.media_type, &image.manifest, &access).await?;
        let there = upstream.manifest(repository, &image.digest, &access).await?;
        there.ok_or_else(|| "the registry took the manifest, and does not have it".to_owned().into())
    }

    /// Lets the tag lead to the image, which is signed.
    async fn tag(&self, name: &ImageRef, image: &ImageInArchive) -> Result<(), Failed> {
        let line = self.destinations.line(name.repository());
        let access = line.access();
        if name.tag().is_some() && !self.has_manifest(name, image, &access).await? {
            let (kind, bytes) = (&image.media_type, &image.manifest);
            line.upstream.push_manifest(name.repository(), name.tag(), kind, bytes, &access).await?;
        }
        Ok(())
    }

    /// Whether the tag leads to this very manifest.
    async fn has_manifest(&self, name: &ImageRef, image: &ImageInArchive, access: &Access) -> Result<bool, Fault> {
        let upstream = self.destinations.line(name.repository()).upstream;
        let Some(tag) = name.tag() else { return Ok(false) };
        let there = upstream.tagged_manifest(name.repository(), tag, access).await?;
        if let Some(other) = there.as_ref().filter(|there| there.bytes != image.manifest) {
            self.progress.say(&format!("{name} was {} before", other.digest));
        }
        Ok(there.is_some_and(|there| there.bytes == image.manifest))
    }
}
