//! Signatures that a registry keeps itself: the `extensions` API of `OpenShift`'s registry, for reading.
//!
//! ```text
//!   GET /v2/                                           200 or 401 with X-Registry-Supports-Signatures: 1
//!   GET /extensions/v2/<repository>/signatures/<digest>
//!       {"signatures": [{"schemaVersion": 2, "type": "atomic", "name": "sha256:…@…", "content": "<base64>"}]}
//! ```
//! What is there is untrusted like everything else a registry says. A registry either offers the API or does not, for
//! everybody, so that the first question is asked without credentials and its answer kept for some minutes. The second
//! is asked as every other question to the registry. Format: containers/image `docs/signature-protocols.md`.
//!
//! Deviation: there, one entry whose content is no base64 spoils the whole answer. Here it spoils itself alone, because
//! whoever may add a signature could otherwise take away all others.

mod put;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use moka::future::Cache;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::access::Access;
use super::lookaside::MAX_SIGNATURES;
use super::registry::{Remote, Upstream};
use crate::domain::digest::Digest;
use crate::domain::image::Repository;
use crate::fault::{Fault, FaultKind};

const ANNOUNCEMENT: HeaderName = HeaderName::from_static("x-registry-supports-signatures");
/// Bytes of one answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How long it is remembered whether a registry has the API, and of how many.
const REMEMBERED: Duration = Duration::from_secs(300);
const MAX_REGISTRIES: u64 = 10_000;

/// Which registries have the API, by host and by how they were reached: what came over an unverified connection says
/// nothing about others.
pub(super) struct Announced(Cache<(Box<str>, [u8; 32]), bool>);

impl Default for Announced {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_REGISTRIES).time_to_live(REMEMBERED).build())
    }
}

/// What a registry keeps for one digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSignatures {
    /// Simple signatures in the registry's order; an error says why one cannot be read.
    pub signatures: Vec<Result<Bytes, &'static str>>,
    /// Whether there were more than are looked at.
    pub more: bool,
}

impl Upstream {
    /// Whether the registry says that it keeps signatures itself.
    pub async fn offers_signatures(&self, repository: &Repository, access: &Access) -> Result<bool, Fault> {
        let key = (repository.host().into(), access.transport.id());
        if let Some(known) = self.announced.0.get(&key).await {
            return Ok(known);
        }
        let remote = Remote::new(self, repository, access)?;
        let url = remote.absolute("/v2/")?;
        let answer = self.exchange(remote.home(), &Remote::request(Method::GET, url, None, MAX_ANSWER)).await?;
        // A registry without this page, or without access to it, has announced nothing; one that fails says nothing.
        if !answer.status.is_success() && !answer.status.is_client_error() {
            remote.expect_ok(&answer)?;
        }
        let announced = answer.headers.get(ANNOUNCEMENT).is_some_and(|value| value == "1");
        let offers = announced && matches!(answer.status, StatusCode::OK | StatusCode::UNAUTHORIZED);
        self.announced.0.insert(key, offers).await;
        Ok(offers)
    }

    /// The simple signatures that the registry keeps for a digest; of other kinds nothing is said. At most
    /// [`MAX_SIGNATURES`] are given. Every status but 200 is a fault, and so is a list that cannot be read.
    pub async fn own_signatures(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<OwnSignatures, Fault> {
        // It announced what it has not.
        self.listed(repository, digest, access, FaultKind::BadAnswer).await
    }

    /// The same for whoever wants to add one, on his word that the registry keeps signatures: where it does not, there is
    /// nothing to try again ([`FaultKind::Configuration`]).
    pub async fn own_signatures_to_add_to(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
    ) -> Result<OwnSignatures, Fault> {
        self.listed(repository, digest, access, FaultKind::Configuration).await
    }

    async fn listed(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: &Access,
        without_api: FaultKind,
    ) -> Result<OwnSignatures, Fault> {
        let remote = Remote::new(self, repository, access)?;
        let url = remote.absolute(&format!("/extensions/v2/{}/signatures/{digest}", repository.path()))?;
        let answer = remote.ask(Method::GET, url, None, MAX_ANSWER).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(no_api(&remote, without_api));
        }
        remote.expect_ok(&answer)?;
        let malformed = |_| remote.home().fault(FaultKind::BadAnswer, "the list of signatures is malformed");
        let list: List = serde_json::from_slice(&answer.body).map_err(malformed)?;
        Ok(list.signatures.unwrap_or_default().0)
    }
}

/// Not "no signatures", which is an empty list.
fn no_api(remote: &Remote<'_>, kind: FaultKind) -> Fault {
    let what = "the registry has no API for signatures (404); to sign, --upload or --staging put them into a store";
    remote.home().fault(kind, what)
}

#[derive(Deserialize)]
struct List {
    /// Null where there are none.
    signatures: Option<Entries>,
}

/// The array of signatures, of which only so many are kept, whatever else is in it.
#[derive(Default)]
struct Entries(OwnSignatures);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of signatures")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Entries, A::Error> {
        let mut found = OwnSignatures::default();
        while let Some(entry) = elements.next_element::<Lenient>()? {
            let Lenient::Object(entry) = entry else { continue };
            let Some(content) = entry.simple_signing() else { continue };
            found.more |= found.signatures.len() >= MAX_SIGNATURES;
            if found.more {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            found.signatures.push(content);
        }
        Ok(Entries(found))
    }
}

/// As much of a JSON value as is of interest; everything else is passed over and takes no memory.
enum Lenient {
    Number(u64),
    Text(String),
    Object(Box<Entry>),
    Other,
}

/// One element.
#[derive(Default)]
struct Entry {
    version: Option<u64>,
    kind: Option<String>,
    content: Option<String>,
}

impl Entry {
    /// The signature; `None` for entries of another version or kind, which are none of ours.
    fn simple_signing(&self) -> Option<Result<Bytes, &'static str>> {
        if self.version != Some(2) || self.kind.as_deref() != Some("atomic") {
            return None;
        }
        let content = self.content.as_deref().unwrap_or_default();
        let packed: Vec<u8> = content.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        Some(BASE64_STANDARD.decode(packed).map(Bytes::from).map_err(|_| "its content is not base64"))
    }
}

impl Lenient {
    fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor)
    }
}

struct LenientVisitor;

impl<'de> Visitor<'de> for LenientVisitor {
    type Value = Lenient;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lenient, A::Error> {
        let mut entry = Entry::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "schemaVersion" => entry.version = map.next_value::<Lenient>()?.number(),
                "type" => entry.kind = map.next_value::<Lenient>()?.text(),
                "content" => entry.content = map.next_value::<Lenient>()?.text(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Lenient::Object(Box::new(entry)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Lenient, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Lenient, E> {
        Ok(Lenient::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Lenient, E> {
        Ok(Lenient::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }
}

#[cfg(test)]
mod tests;
