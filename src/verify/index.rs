//! Multi-architecture images: an unsigned index passes when every manifest that a node could run is signed.

use serde::Deserialize;

use super::entry::{Material, Signed, Subject};
use crate::domain::digest::Digest;
use crate::domain::policy::SignedCheck;
use crate::domain::verdict::{Cause, Failure, Refusal, RefusalKind};
use crate::source::registry::Manifest;

/// Manifests of an index that are looked at, at most; an index with more counts only when it is signed itself.
const MAX_CHILDREN: usize = 32;
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Entry {
    /// What build tools put beside images to describe them. Both marks must be there: a node picks by platform, and
    /// none has an unknown one.
    fn is_attestation(&self) -> bool {
        let marked = self.annotations.as_ref().and_then(|a| a.get("vnd.docker.reference.type"));
        marked.is_some_and(|kind| kind == "attestation-manifest")
            && self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    fn platform(&self) -> String {
        self.platform.as_ref().map_or("no platform".to_owned(), |p| format!("{}/{}", p.os, p.architecture))
    }
}

/// The manifests that a node could run, each with its platform for messages; `None` when this is no index.
///
/// The error says why an index cannot count by its manifests.
fn children(manifest: &Manifest) -> Result<Option<Vec<(Digest, String)>>, String> {
    if !INDEX_TYPES.contains(&manifest.media_type.as_str()) {
        return Ok(None);
    }
    let index: Index = serde_json::from_slice(&manifest.bytes).map_err(|error| format!("it is malformed: {error}"))?;
    let mut found = Vec::new();
    for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
        let digest = entry.digest.parse().map_err(|_| "it names a malformed digest".to_owned())?;
        found.push((digest, entry.platform()));
    }
    match found.len() {
        // "Every one of none" must not pass.
        0 => Err("it has no manifest to run".to_owned()),
        1..=MAX_CHILDREN => Ok(Some(found)),
        _ => Err(format!("it has more than {MAX_CHILDREN} manifests")),
    }
}

/// The verdict on an image by the manifests of its index, when the index itself is not signed.
///
/// `Ok(None)`: this is no index, or not one of its manifests is signed, so that there is nothing to add to what was said
/// about the image. The error is what stands in the way of the rest.
pub(super) async fn every_child(
    subject: &Subject<'_>,
    check: &SignedCheck,
    material: &Material,
    manifest: Option<Manifest>,
) -> Result<Option<Signed>, Failure> {
    let manifest = match manifest {
        Some(manifest) => manifest,
        None => match subject.bytes(material).await {
            Ok(manifest) => manifest,
            Err(Cause::Refused(_)) => return Ok(None),
            Err(cause) => return Err(Failure { method: None, cause }),
        },
    };
    let found = children(&manifest).map_err(|why| {
        refused(
            RefusalKind::Unsigned,
            format!("the image index is not signed, and it cannot count by its manifests: {why}"),
        )
    })?;
    let mut signed: Option<Signed> = None;
    for (digest, platform) in found.into_iter().flatten() {
        let child = Material { digest: digest.clone(), child: true, ..material.clone() };
        match subject.methods(check, &child).await {
            Ok((pass, valid_until)) => {
                let earlier = signed.take().and_then(|(_, earlier)| earlier);
                signed = Some((pass, earlier.into_iter().chain(valid_until).min()));
            }
            Err(failures) => match failures.into_iter().find(|f| matches!(f.cause, Cause::Undecided(_))) {
                Some(fault) => return Err(fault),
                None if signed.is_none() => return Ok(None),
                None => {
                    let detail =
                        format!("the image index is not signed, and neither is its manifest {digest} ({platform})");
                    return Err(refused(RefusalKind::Unsigned, detail));
                }
            },
        }
    }
    Ok(signed)
}

fn refused(kind: RefusalKind, detail: String) -> Failure {
    Failure { method: None, cause: Cause::Refused(Refusal::new(kind, detail)) }
}
