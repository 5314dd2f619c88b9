//! Which image it is, and where its signatures are looked for.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::Trouble;
use crate::cli::args::VerifyCommand;
use crate::cli::logins;
use crate::domain::digest::Digest;
use crate::domain::identity::SignedIdentity;
use crate::domain::image::{ImageRef, Repository};
use crate::fault::Fault;
use crate::records::collect::{Collected, Place};
use crate::source::SourceConfig;
use crate::source::access::{Access, Transport};
use crate::source::lookaside::StoreUrl;
use crate::source::registries_d::RegistriesD;
use crate::source::registry::Upstream;

/// Where containers' own tools have it.
const REGISTRIES_D: &str = "/etc/containers/registries.d";

/// The question as it was typed, checked.
pub(super) struct Question {
    /// The image; with its digest, if that was given.
    pub(super) image: ImageRef,
    /// The name that is expected.
    pub(super) identity: SignedIdentity,
    expected: ImageRef,
}

impl Question {
    pub(super) fn of(command: &VerifyCommand) -> Result<Self, Trouble> {
        let wrong = |what: String| Trouble::Usage(format!("--expected-identity {}: {what}", command.expected_identity));
        let identity = SignedIdentity::exact_reference(&command.expected_identity).map_err(wrong)?;
        let expected: ImageRef = command.expected_identity.parse().map_err(|e| wrong(format!("{e}")))?;
        // `sha256:HEX` could also be read as a repository called sha256.
        let image = match command.image.parse::<Digest>() {
            Ok(digest) => expected.with_digest(digest),
            Err(_) => command.image.parse::<ImageRef>().map_err(|e| {
                Trouble::Usage(format!("{}: {e}; write NAME:TAG, NAME@sha256:HEX or sha256:HEX", command.image))
            })?,
        };
        Ok(Self { image, identity, expected })
    }

    /// A name with a digest can only have been signed for that digest: anything else is a slip that would look like a
    /// signature that does not count, and with --save take records away.
    pub(super) fn agrees(&self, digest: &Digest) -> Result<(), Trouble> {
        match self.expected.digest() {
            Some(named) if named != digest => Err(Trouble::Usage(format!(
                "the expected identity names {named}, and the image is {digest}: no signature can be for both"
            ))),
            _ => Ok(()),
        }
    }
}

/// How servers are reached, and which.
pub(super) struct Sources {
    upstream: Upstream,
    access: Access,
    /// The repository where it is asked for.
    asked: Repository,
    store: Option<StoreUrl>,
}

impl Sources {
    pub(super) fn of(command: &VerifyCommand, image: &ImageRef) -> Result<Self, Trouble> {
        let extra_ca = match &command.ca_file {
            Some(path) => {
                Some(std::fs::read(path).map_err(|e| Trouble::Usage(format!("--ca-file {}: {e}", path.display())))?)
            }
            None => None,
        };
        let config = SourceConfig { extra_ca, ..SourceConfig::default() };
        let upstream = Upstream::new(config).map_err(Trouble::Usage)?;
        let keychain = logins::keychain("--docker-config", command.docker_config.as_deref()).map_err(Trouble::Usage)?;
        let keychain = Arc::new(keychain);
        let transport = Transport { insecure: command.insecure, ..Transport::default() };
        let access = Access { transport, keychain, deadline: Instant::now() + command.timeout };
        let asked = match &command.registry_url {
            Some(url) => elsewhere(url, command.insecure, image.repository())?,
            None => image.repository().clone(),
        };
        Ok(Self { upstream, access, asked, store: store(command, image)? })
    }

    /// The digest of the image; a tag is resolved at the registry, once, and by its manifest: what a registry merely says
    /// would let it name an image that it does not have, and with --save take away the records of that one.
    pub(super) async fn digest(&self, image: &ImageRef) -> Result<Digest, Trouble> {
        if let Some(digest) = image.digest() {
            return Ok(digest.clone());
        }
        let found = self.upstream.tagged_manifest(&self.asked, image.tag().unwrap_or("latest"), &self.access).await;
        found.map_err(|fault| unknown(&fault))?.map(|manifest| manifest.digest).ok_or_else(|| {
            Trouble::Unknown(format!("the registry {} says that {image} does not exist", self.asked.host()))
        })
    }

    /// All that store or registry have.
    pub(super) async fn signatures(&self, digest: &Digest) -> Result<Collected, Fault> {
        let place = Place { upstream: &self.upstream, repository: &self.asked, access: &self.access };
        place.everywhere(self.store.as_ref(), digest).await
    }
}

/// What stood in the way.
pub(super) fn unknown(fault: &Fault) -> Trouble {
    let detail = fault.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    Trouble::Unknown(format!("{}{detail}", fault.message()))
}

/// The same repository at another registry.
fn elsewhere(url: &str, insecure: bool, repository: &Repository) -> Result<Repository, Trouble> {
    let wrong = |what: &str| Trouble::Usage(format!("--registry-url {url}: {what}"));
    let host = match url.split_once("://") {
        Some(("https", rest)) => rest,
        Some(("http", rest)) if insecure => rest,
        Some(("http", _)) => return Err(wrong("plain HTTP needs --insecure")),
        Some(_) => return Err(wrong("write HOST[:PORT] or https://HOST[:PORT]")),
        None => url,
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    Repository::new(host, repository.path()).map_err(|e| wrong(&format!("{e}: write HOST[:PORT]")))
}

/// The store of the command line, or of registries.d.
fn store(command: &VerifyCommand, image: &ImageRef) -> Result<Option<StoreUrl>, Trouble> {
    if let Some(url) = &command.lookaside {
        let store = StoreUrl::from_administrator(url).map_err(|e| Trouble::Usage(format!("--lookaside {url}: {e}")))?;
        // A slip of the pen, or a volume that is not mounted, would look like a store without signatures.
        if let Some(folder) = store.folder().filter(|folder| !folder.is_dir()) {
            return Err(Trouble::Unknown(format!("--lookaside {url}: there is no folder {}", folder.display())));
        }
        return Ok(Some(store));
    }
    let directory = match &command.registries_d {
        Some(directory) => directory.as_path(),
        None if Path::new(REGISTRIES_D).is_dir() => Path::new(REGISTRIES_D),
        None => return Ok(None),
    };
    let stores = RegistriesD::load(directory).map_err(Trouble::Usage)?;
    Ok(stores.lookaside(image).cloned())
}
