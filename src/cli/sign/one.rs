//! One image: what is behind its name, and the signatures of it.

use std::time::SystemTime;

use serde::Deserialize;

use super::context::{Destinations, SigningKeys};
use super::{NOT_FOUND_OUT, NOT_SIGNED, worse};
use crate::cli::output::{complain, print};
use crate::domain::digest::{Algorithm, Digest};
use crate::domain::image::ImageRef;
use crate::domain::printable::printable;
use crate::fault::Fault;
use crate::signing::cosign;
use crate::signing::deposit::{Depot, Line};
use crate::signing::image::{self, Outcome, SignError, Wanted};
use crate::signing::makers::date;
use crate::source::registry::Manifest;

/// Manifests of one index that are signed.
const MAX_CHILDREN: usize = 128;
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// An image to sign, and the name that its signature says.
pub(super) struct Subject {
    /// As typed, for messages.
    typed: String,
    image: ImageRef,
    identity: ImageRef,
}

impl Subject {
    /// In the normal form of image names. With a digest the tag is free text, which a signature must not vouch for.
    pub(super) fn read(typed: &str, identity: Option<&str>) -> Result<Self, String> {
        let image: ImageRef = typed.parse().map_err(|error| format!("{typed}: {error}"))?;
        let identity = match identity {
            None => image.clone(),
            Some(text) => read_identity(text)?,
        };
        Ok(Self { typed: typed.to_owned(), identity: identity.identity_form(), image })
    }
}

/// A whole name, as with `skopeo copy --sign-identity`: nothing is added that nobody wrote.
fn read_identity(text: &str) -> Result<ImageRef, String> {
    let identity: ImageRef = text.parse().map_err(|error| format!("--identity {text}: {error}"))?;
    if identity.to_string() == text {
        return Ok(identity);
    }
    Err(format!("--identity {text}: not a whole name; {identity} may be meant"))
}

/// What is done with every image.
pub(super) struct Job {
    pub(super) destinations: Destinations,
    pub(super) keys: SigningKeys,
    pub(super) again: bool,
    pub(super) all_platforms: bool,
}

/// Why an image is not signed, and whether that may pass.
pub(in crate::cli) struct Failed {
    pub(in crate::cli) why: String,
    pub(in crate::cli) retryable: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { why: fault.message().to_owned(), retryable: fault.kind().retryable() }
    }
}

impl From<SignError> for Failed {
    fn from(error: SignError) -> Self {
        Self { retryable: error.retryable(), why: error.to_string() }
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, retryable: false }
    }
}

impl Failed {
    pub(in crate::cli) fn code(&self) -> u8 {
        if self.retryable { NOT_FOUND_OUT } else { NOT_SIGNED }
    }
}

impl Job {
    /// Signs what is behind a name, tells about it, and gives the exit code.
    pub(super) async fn sign(&self, subject: &Subject) -> u8 {
        let found = match self.found(subject).await {
            Ok(found) => found,
            Err(failed) => return tell(&subject.typed, &failed),
        };
        let identity = subject.identity.to_string();
        let mut code = 0;
        for manifest in &found.manifests {
            // Nodes compare manifests by this digest, whatever the name says.
            let digest = Digest::sha256(&manifest.bytes);
            let repository = subject.image.repository();
            let wanted = Wanted { repository, digest: &digest, identity: &identity, again: self.again };
            let line = self.destinations.line(repository);
            code = worse(code, sign_digest(&self.keys, &line, found.depot.as_ref(), manifest, wanted).await);
        }
        code
    }

    /// Everything that has to be found before the first signature is made.
    async fn found(&self, subject: &Subject) -> Result<Found, Failed> {
        let line = &self.destinations.line(subject.image.repository());
        let mut manifests = vec![fetch(line, &subject.image).await?];
        let children = manifests.first().filter(|m| INDEX_TYPES.contains(&m.media_type.as_str())).map(children);
        match children {
            Some(children) if self.all_platforms => {
                for digest in children? {
                    manifests.push(fetch(line, &subject.image.with_digest(digest)).await?);
                }
            }
            Some(_) => complain(&format!(
                "{}: an index of several platforms, of which the index alone is signed; --all-platforms signs every \
                 manifest in it, too",
                subject.typed
            )),
            None => {}
        }
        let depot = match self.keys.simple {
            Some(_) => Some(self.destinations.of(&subject.identity, subject.image.repository()).await?),
            None => None,
        };
        Ok(Found { manifests, depot })
    }
}

/// What an image consists of, as far as it is signed, and where its signatures go.
struct Found {
    manifests: Vec<Manifest>,
    depot: Option<Depot>,
}

async fn fetch(line: &Line, image: &ImageRef) -> Result<Manifest, Failed> {
    let (upstream, repository, access) = (&line.upstream, image.repository(), line.access());
    let found = match (image.digest(), image.tag()) {
        (Some(digest), _) => upstream.manifest(repository, digest, &access).await?,
        (None, Some(tag)) => upstream.tagged_manifest(repository, tag, &access).await?,
        (None, None) => None,
    };
    found.ok_or_else(|| format!("there is no such image in the registry {}", repository.host()).into())
}

fn children(manifest: &Manifest) -> Result<Vec<Digest>, Failed> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        digest: String,
    }
    let index: Index =
        serde_json::from_slice(&manifest.bytes).map_err(|error| format!("the index is malformed: {error}"))?;
    if index.manifests.len() > MAX_CHILDREN {
        return Err(format!("the index has more than {MAX_CHILDREN} manifests").into());
    }
    let digests = index.manifests.iter().map(|entry| entry.digest.parse::<Digest>());
    let digests: Vec<_> =
        digests.filter_map(Result::ok).filter(|digest| digest.algorithm() == Algorithm::Sha256).collect();
    if digests.len() == index.manifests.len() {
        Ok(digests)
    } else {
        Err("the index names a manifest by something else than a sha256 digest".to_owned().into())
    }
}

/// Signs one digest with every key there is, tells about it, and gives the exit code.
pub(in crate::cli) async fn sign_digest(
    keys: &SigningKeys,
    line: &Line,
    depot: Option<&Depot>,
    manifest: &Manifest,
    wanted: Wanted<'_>,
) -> u8 {
    let name = format!("{} ({})", wanted.identity, wanted.digest);
    let mut code = 0;
    if let (Some(signer), Some(depot)) = (&keys.simple, depot) {
        let done = image::sign(signer, depot, wanted).await;
        let ends = match &done {
            Ok(Outcome::Signed(_, ends) | Outcome::WasSigned(ends)) => *ends,
            _ => None,
        };
        code = report(&name, signer.fingerprint(), done);
        if let Some(ends) = ends {
            complain(&printable(&ending(&name, ends, &signer.why_it_ends())));
        }
    }
    if let Some((key, form)) = &keys.cosign {
        let done = cosign::sign(key, line, manifest, wanted, *form).await;
        code = worse(code, report(&name, &format!("cosign key {}", key.fingerprint()), done));
    }
    code
}

/// Nobody asked for an end here, and nobody would notice before the image is refused.
fn ending(name: &str, ends: SystemTime, why: &str) -> String {
    format!("{name}: this signature ends on {}, and verifies until then only: {why}", date(ends))
}

fn report(name: &str, key: &str, done: Result<Outcome, SignError>) -> u8 {
    match done {
        Ok(Outcome::Signed(place, _)) => {
            print(&format!("signed {name} by {key} in {place}\n"));
            0
        }
        Ok(Outcome::WasSigned(_)) => {
            complain(&format!(
                "{name} was signed by {key} before, and nothing is added; podseal sign --again adds another"
            ));
            0
        }
        Ok(Outcome::SameBytes) => {
            complain(&format!(
                "{name}: the very same signature by {key} is there already, made in this second; nothing is added"
            ));
            0
        }
        Err(error) => tell(name, &error.into()),
    }
}

pub(in crate::cli) fn tell(name: &str, failed: &Failed) -> u8 {
    complain(&printable(&format!("not signed: {name}: {}", failed.why)));
    failed.code()
}
