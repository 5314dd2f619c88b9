//! Multi-architecture images: an unsigned index passes when every manifest that a node could run is signed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::entry::{Material, Signed, Subject};
use crate::domain::digest::Digest;
use crate::domain::platform::Platform;
use crate::domain::policy::SignedCheck;
use crate::domain::verdict::{Cause, Failure, Refusal, RefusalKind};
use crate::source::registry::{Manifest, fold};

/// Manifests of an index that are looked at, at most; an index with more counts only when it is signed itself.
const MAX_CHILDREN: usize = 32;
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Default)]
struct Entry {
    digest: String,
    platform: Option<Named>,
    annotations: Option<BTreeMap<String, String>>,
}

/// What an index says of a manifest's platform; texts that are missing are empty.
#[derive(Default)]
struct Named {
    os: String,
    architecture: String,
}

/// One of these names, or `None` for a member that decides nothing.
///
/// Runtimes are written in Go, whose JSON ignores the case of member names and lets the last of equal ones win. So that no
/// two readers see two platforms in one entry, a name in another case and a repeated name are refused.
fn decisive<E: Error>(
    key: &str,
    names: &[&'static str],
    seen: &mut Vec<&'static str>,
) -> Result<Option<&'static str>, E> {
    let folded = fold(key);
    let Some(name) = names.iter().find(|name| **name == folded) else { return Ok(None) };
    if key != *name || seen.contains(name) {
        return Err(E::custom("an entry has members that could be read in two ways"));
    }
    seen.push(name);
    Ok(Some(name))
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of an image index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut entry, mut seen) = (Entry::default(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            match decisive(&key, &["digest", "platform", "annotations"], &mut seen)? {
                Some("digest") => entry.digest = map.next_value()?,
                Some("platform") => entry.platform = map.next_value()?,
                Some(_) => entry.annotations = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor)
    }
}

struct NamedVisitor;

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a platform")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
        let (mut named, mut seen) = (Named::default(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            match decisive(&key, &["os", "architecture"], &mut seen)? {
                Some("os") => named.os = map.next_value()?,
                Some(_) => named.architecture = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(named)
    }
}

impl Entry {
    /// What build tools put beside images to describe them. Both marks must be there: a node picks by platform, and
    /// none has an unknown one.
    fn is_attestation(&self) -> bool {
        let marked = self.annotations.as_ref().and_then(|a| a.get("vnd.docker.reference.type"));
        marked.is_some_and(|kind| kind == "attestation-manifest")
            && self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    /// Whether a node of one of these platforms, of any when there are none, could run it.
    fn could_run(&self, platforms: &[Platform]) -> bool {
        let (os, architecture) = self.platform.as_ref().map_or(("", ""), |p| (&p.os, &p.architecture));
        platforms.is_empty() || platforms.iter().any(|platform| platform.could_run(os, architecture))
    }

    fn platform(&self) -> String {
        self.platform.as_ref().map_or("no platform".to_owned(), |p| format!("{}/{}", p.os, p.architecture))
    }
}

/// The manifests that a node of one of these platforms could run (of any, when there are none), each with its platform
/// for messages; `None` when this is no index.
///
/// The error says why an index cannot count by its manifests.
fn children(manifest: &Manifest, platforms: &[Platform]) -> Result<Option<Vec<(Digest, String)>>, String> {
    if !INDEX_TYPES.contains(&manifest.media_type.as_str()) {
        return Ok(None);
    }
    let index: Index = serde_json::from_slice(&manifest.bytes).map_err(|error| format!("it is malformed: {error}"))?;
    let mut found = Vec::new();
    let images = index.manifests.iter().filter(|entry| !entry.is_attestation());
    for entry in images.filter(|entry| entry.could_run(platforms)) {
        let digest = entry.digest.parse().map_err(|_| "it names a malformed digest".to_owned())?;
        found.push((digest, entry.platform()));
    }
    match found.len() {
        // "Every one of none" must not pass.
        0 if platforms.is_empty() => Err("it has no manifest to run".to_owned()),
        0 => {
            let listed: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            Err(format!("it has no manifest for the listed platforms ({})", listed.join(", ")))
        }
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
    let found = children(&manifest, &subject.verifier.config.platforms).map_err(|why| {
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
