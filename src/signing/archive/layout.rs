//! The images of an archive: OCI image layout specification, and docker's manifests in it.
//!
//! podsec's archives hold one layout per architecture in a folder of that name. Others hold one layout with an index of
//! architectures per image.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Deserialize;

use super::{Archive, ArchiveError, Member};
use crate::domain::digest::{Algorithm, Digest};
use crate::source::registry::BlobContent as _;

/// Layouts looked for.
pub(super) const MAX_LAYOUTS: usize = 256;
/// Bytes of an index, a manifest or a configuration.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Bytes of all of them that are read, over all layouts: manifests are kept, and one may be named again and again.
const MAX_DOCUMENTS: u64 = 256 << 20;
const MAX_IMAGES: usize = 4096;
/// Entries followed, over all indexes of all layouts.
const MAX_ENTRIES: usize = 4 * MAX_IMAGES;
const MAX_LAYERS: usize = 1024;
/// Indexes in indexes.
const MAX_DEPTH: usize = 3;
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `amd64`, or with a variant `arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    name: String,
    variant: Option<String>,
}

/// Not an architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an architecture such as amd64, arm64, arm/v7, ppc64le or 386")]
pub struct ArchitectureError;

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, ArchitectureError> {
        let (name, variant) = text.split_once('/').map_or((text, None), |(name, variant)| (name, Some(variant)));
        let word = |word: &str| {
            !word.is_empty() && word.len() < 32 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !word(name) || variant.is_some_and(|variant| !word(variant)) {
            return Err(ArchitectureError);
        }
        Ok(Self { name: normal(name), variant: variant.map(str::to_ascii_lowercase) })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

fn normal(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "i386" => "386".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

/// Something that is named by digest and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// One image for one architecture.
#[derive(Debug)]
pub struct ImageInArchive {
    /// As the archive names it: `pause:3.9`, `registry.example/a/b:1` or `latest`.
    pub name: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes, which have the digest.
    pub manifest: Bytes,
    /// All that it needs: layers, then the configuration.
    pub blobs: Vec<Descriptor>,
    layout: String,
}

impl ImageInArchive {
    /// A blob of the image; `None` if the archive does not have it. Its size is the stated one; its digest is for the
    /// caller to check.
    pub fn blob(&self, archive: &Archive, blob: &Descriptor) -> Result<Option<Member>, ArchiveError> {
        let found = archive.member(&blob_path(&self.layout, &blob.digest))?;
        match found {
            Some(member) if member.size() != blob.size => Err(ArchiveError::Unusable(format!(
                "the blob {} has {} bytes and should have {}",
                blob.digest,
                member.size(),
                blob.size
            ))),
            found => Ok(found),
        }
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Part,
    layers: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
}

impl Platform {
    fn fits(&self, wanted: &Architecture) -> bool {
        let variant = wanted.variant.as_ref().is_none_or(|variant| self.variant.eq_ignore_ascii_case(variant));
        self.os.eq_ignore_ascii_case("linux") && normal(&self.architecture) == wanted.name && variant
    }
}

/// What is being looked for, and where.
struct Search<'a> {
    archive: &'a Archive,
    layout: &'a str,
    wanted: &'a Architecture,
    effort: &'a Effort,
}

/// What was spent on an archive so far. A few bytes of indexes can lead to the same documents millions of times.
#[derive(Default)]
struct Effort {
    bytes: Cell<u64>,
    entries: Cell<usize>,
}

impl Effort {
    fn read(&self, bytes: u64) -> Result<(), ArchiveError> {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if self.bytes.get() > MAX_DOCUMENTS {
            return Err(ArchiveError::Unusable(format!(
                "its indexes, manifests and configurations have more than {} MiB together",
                MAX_DOCUMENTS >> 20
            )));
        }
        Ok(())
    }

    fn entry(&self) -> Result<(), ArchiveError> {
        self.entries.set(self.entries.get().saturating_add(1));
        if self.entries.get() > MAX_ENTRIES {
            return Err(ArchiveError::Unusable(format!("its indexes have more than {MAX_ENTRIES} entries together")));
        }
        Ok(())
    }
}

/// The images for one architecture, by name. The second value tells what was left out, a line each.
pub fn images(archive: &Archive, wanted: &Architecture) -> Result<(Vec<ImageInArchive>, Vec<String>), ArchiveError> {
    let (mut found, mut notes) = (BTreeMap::new(), Vec::new());
    let effort = Effort::default();
    for layout in chosen_layouts(archive, wanted)? {
        let search = Search { archive, layout: &layout, wanted, effort: &effort };
        let index: Index = search.document(&format!("{layout}index.json"))?;
        if index.manifests.len() > MAX_IMAGES {
            return Err(ArchiveError::Unusable(format!("{layout}index.json names more than {MAX_IMAGES} images")));
        }
        for entry in &index.manifests {
            let name = entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REF_NAME));
            let Some(name) = name else {
                notes.push(format!("{layout}index.json: {} has no name, and is left out", entry.digest));
                continue;
            };
            match search.image(name, entry, 0)? {
                None => notes.push(format!("{name}: nothing of it is for {wanted}, and it is left out")),
                Some(image) => match found.insert(name.clone(), image) {
                    Some(other)
                        if found.get(name).is_some_and(|image: &ImageInArchive| image.digest != other.digest) =>
                    {
                        return Err(ArchiveError::Unusable(format!("{name} stands for two images for {wanted}")));
                    }
                    _ => {}
                },
            }
        }
    }
    Ok((found.into_values().collect(), notes))
}

/// The layouts to take images from: those in a folder named as the architecture, else all.
fn chosen_layouts(archive: &Archive, wanted: &Architecture) -> Result<Vec<String>, ArchiveError> {
    let all = archive.layouts()?;
    if all.is_empty() {
        return Err(ArchiveError::Unusable(
            "there is no OCI image layout in it (index.json and oci-layout); make one with skopeo copy … oci-archive:FILE:NAME"
                .to_owned(),
        ));
    }
    if all.len() > MAX_LAYOUTS {
        return Err(ArchiveError::Unusable(format!("it has more than {MAX_LAYOUTS} image layouts")));
    }
    let folder = |layout: &str| layout.trim_end_matches('/').rsplit('/').next().map(normal).unwrap_or_default();
    let named: Vec<_> = all.iter().filter(|layout| folder(layout) == wanted.name).cloned().collect();
    let known = ["amd64", "arm64", "arm", "ppc64le", "386", "riscv64", "s390x", "loong64", "mips64le"];
    let others: BTreeSet<_> =
        all.iter().map(|layout| folder(layout)).filter(|name| known.contains(&name.as_str())).collect();
    match (named.is_empty(), others.len() == all.len()) {
        (false, _) => Ok(named),
        (true, false) => Ok(all),
        (true, true) => {
            let others: Vec<_> = others.into_iter().collect();
            Err(ArchiveError::Architecture(format!(
                "there are no images for {wanted} in it, only for {}",
                others.join(", ")
            )))
        }
    }
}

impl Search<'_> {
    fn document<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, ArchiveError> {
        let bytes = self.bytes(path)?;
        serde_json::from_slice(&bytes).map_err(|error| ArchiveError::Unusable(format!("{path} is malformed: {error}")))
    }

    fn bytes(&self, path: &str) -> Result<Bytes, ArchiveError> {
        let bytes = self.archive.small(path, MAX_DOCUMENT)?;
        let bytes = bytes.ok_or_else(|| ArchiveError::Unusable(format!("{path} is not in it")))?;
        self.effort.read(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Content that has the stated digest and size.
    fn content(&self, digest: &str, size: u64) -> Result<(Digest, Bytes), ArchiveError> {
        let digest = sha256(digest)?;
        let path = blob_path(self.layout, &digest);
        let bytes = self.bytes(&path)?;
        if bytes.len() as u64 != size || !digest.matches(&bytes) {
            return Err(ArchiveError::Unusable(format!("{path} is not what it should be: another digest or size")));
        }
        Ok((digest, bytes))
    }

    /// What an entry leads to for the architecture; `None` if it is for others.
    fn image(&self, name: &str, entry: &Entry, depth: usize) -> Result<Option<ImageInArchive>, ArchiveError> {
        self.effort.entry()?;
        if depth > MAX_DEPTH {
            return Err(ArchiveError::Unusable(format!("{name}: too many indexes in indexes")));
        }
        if INDEXES.contains(&entry.media_type.as_str()) {
            return self.of_index(name, entry, depth);
        }
        if !MANIFESTS.contains(&entry.media_type.as_str()) {
            return Err(ArchiveError::Unusable(format!(
                "{name}: its media type {:?} is not supported",
                entry.media_type
            )));
        }
        let (digest, bytes) = self.content(&entry.digest, entry.size)?;
        let malformed = |error| ArchiveError::Unusable(format!("{name}: its manifest is malformed: {error}"));
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(ArchiveError::Unusable(format!("{name}: more than {MAX_LAYERS} layers")));
        }
        let (_, config) = self.content(&manifest.config.digest, manifest.config.size)?;
        // An artifact's configuration says nothing of a platform; the entry may.
        let platform: Option<Platform> = serde_json::from_slice(&config).ok();
        let platform = platform.filter(|platform| !platform.architecture.is_empty());
        let fits = |platform: &Platform| platform.fits(self.wanted);
        if platform.as_ref().is_some_and(|p| !fits(p)) || entry.platform.as_ref().is_some_and(|p| !fits(p)) {
            return Ok(None);
        }
        let mut blobs = Vec::new();
        for part in manifest.layers.iter().chain([&manifest.config]) {
            // Layers that are fetched from elsewhere are nobody's to push.
            if part.urls.is_empty() {
                blobs.push(Descriptor { digest: sha256(&part.digest)?, size: part.size });
            }
        }
        Ok(Some(ImageInArchive {
            name: name.to_owned(),
            digest,
            media_type: entry.media_type.clone(),
            manifest: bytes,
            blobs,
            layout: self.layout.to_owned(),
        }))
    }

    fn of_index(&self, name: &str, entry: &Entry, depth: usize) -> Result<Option<ImageInArchive>, ArchiveError> {
        let (_, bytes) = self.content(&entry.digest, entry.size)?;
        let malformed = |error| ArchiveError::Unusable(format!("{name}: its index is malformed: {error}"));
        let index: Index = serde_json::from_slice(&bytes).map_err(malformed)?;
        let fits = |entry: &&Entry| entry.platform.as_ref().is_none_or(|platform| platform.fits(self.wanted));
        let mut found = None;
        for entry in index.manifests.iter().filter(fits) {
            let Some(image) = self.image(name, entry, depth + 1)? else { continue };
            if found.replace(image).is_some() {
                return Err(ArchiveError::Unusable(format!(
                    "{name}: several manifests are for {}; name the variant, such as --arch arm/v7",
                    self.wanted
                )));
            }
        }
        Ok(found)
    }
}

fn sha256(text: &str) -> Result<Digest, ArchiveError> {
    let digest: Result<Digest, _> = text.parse();
    let digest = digest.ok().filter(|digest| digest.algorithm() == Algorithm::Sha256);
    digest.ok_or_else(|| ArchiveError::Unusable("it names something by another digest than sha256".to_owned()))
}

fn blob_path(layout: &str, digest: &Digest) -> String {
    format!("{layout}blobs/{}/{}", digest.algorithm_name(), digest.hex())
}
