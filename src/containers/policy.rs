//! containers-policy.json: what it holds, and its reading.
//!
//! As in containers/image one member that is unknown, repeated or of the wrong form refuses the whole file, whichever
//! transport it belongs to. Scopes are texts that are compared as they are; those of other transports than `docker` are
//! read for their form alone, because no kubelet pulls through them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::json::Object;
use crate::domain::identity::SignedIdentity;
use crate::domain::image::ImageRef;
use crate::domain::json::Json;
use crate::source::registries_d::Names;

/// The largest file.
const MAX_FILE: u64 = 16 << 20;

/// What is wrong with a policy.json, with the member to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

impl PolicyError {
    pub(super) fn at(place: &str, what: &str) -> Self {
        if place.is_empty() { Self(format!("the file {what}")) } else { Self(format!("{place}: {what}")) }
    }
}

/// A policy.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainersPolicy {
    /// `default`.
    pub default: Vec<Requirement>,
    /// `transports.docker` by scope; `""` is the default of the transport.
    pub docker: BTreeMap<String, Vec<Requirement>>,
    /// Other transports that have scopes.
    pub others: Vec<String>,
}

/// One requirement; all of a list must be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `insecureAcceptAnything`.
    AcceptAnything,
    /// `reject`.
    Reject,
    /// `signedBaseLayer`, which containers/image never implemented: it rejects.
    SignedBaseLayer,
    /// `signedBy`.
    SignedBy(SignedBy),
    /// `sigstoreSigned`.
    Sigstore(Box<Sigstore>),
}

/// `signedBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// `keyType` other than `GPGKeys`, which rejects when it is asked.
    pub other_key_type: Option<String>,
    /// The key rings, together.
    pub keys: Vec<Key>,
    /// `signedIdentity`.
    pub identity: SignedIdentity,
}

/// `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sigstore {
    /// Whose signatures count.
    pub signer: SigstoreSigner,
    /// Keys of Rekor logs, one of which must have promised to hold the signature; none asks for nothing.
    pub rekor: Vec<Key>,
    /// `signedIdentity`.
    pub identity: SignedIdentity,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigstoreSigner {
    /// One public key each.
    Keys(Vec<Key>),
    /// A certificate of this authority for this address, as this issuer knows it.
    Fulcio {
        /// `caPath`, `caData`.
        ca: Key,
        /// `oidcIssuer`.
        issuer: String,
        /// `subjectEmail`.
        email: String,
    },
    /// A certificate of these authorities, valid now.
    Pki,
}

/// A file, or its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// By path, as a node has it.
    File(PathBuf),
    /// Written into the policy.
    Data(Vec<u8>),
}

impl ContainersPolicy {
    /// Reads a file. The error names it, and the member that is to blame.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        let named = |what: &dyn std::fmt::Display| PolicyError(format!("{}: {what}", file.display()));
        let mut text = Vec::new();
        let open = File::open(file).map_err(|e| named(&e))?;
        open.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|e| named(&e))?;
        if text.len() as u64 > MAX_FILE {
            return Err(named(&format_args!("larger than {} MiB", MAX_FILE >> 20)));
        }
        Self::parse(&text).map_err(|e| named(&e))
    }

    /// Reads the text of a policy.json. The error names the member that is to blame.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let json = Json::read(text).map_err(|error| PolicyError(format!("not strict JSON: {error}")))?;
        let mut top = Object::new(json, "")?;
        let default = top.take("default").ok_or_else(|| PolicyError::at("default", "is required"))?;
        let default = requirements(default, "default")?;
        let (mut docker, mut others) = (BTreeMap::new(), Vec::new());
        if let Some(transports) = top.take("transports") {
            for (transport, scopes) in Object::new(transports, "transports")?.into_members() {
                let at = format!("transports.{transport}");
                let mut read = BTreeMap::new();
                for (scope, list) in Object::new(scopes, &at)?.into_members() {
                    let list = requirements(list, &format!("{at}[{scope:?}]"))?;
                    read.insert(scope, list);
                }
                if transport == "docker" {
                    docker = read;
                } else if !read.is_empty() {
                    others.push(transport);
                }
            }
        }
        top.end()?;
        Ok(Self { default, docker, others })
    }

    /// The requirements for an image, with the place where they stand: `name:tag` or `name@digest`, the name, the paths
    /// above, the host, `*.` domains, the transport's default, the default. The first one that exists decides alone.
    #[cfg(test)]
    pub(super) fn requirements(&self, image: &ImageRef) -> (String, &[Requirement]) {
        self.requirements_for(&Names::of(image))
    }

    /// The requirements for everything in a scope that no narrower scope speaks for.
    pub fn requirements_of(&self, scope: &str) -> (String, &[Requirement]) {
        self.requirements_for(&Names::of_scope(scope))
    }

    pub(super) fn requirements_for(&self, names: &Names) -> (String, &[Requirement]) {
        let domains = names.domains().map(|domain| format!("*.{domain}"));
        let scopes = names.scopes().map(str::to_owned).chain(domains).chain([String::new()]);
        for scope in scopes {
            if let Some(list) = self.docker.get(&scope) {
                return (place(&scope), list);
            }
        }
        ("default".to_owned(), &self.default)
    }
}

/// How messages name a scope.
pub(super) fn place(scope: &str) -> String {
    format!("transports.docker[{scope:?}]")
}

fn requirements(json: Json, at: &str) -> Result<Vec<Requirement>, PolicyError> {
    match json {
        Json::Array(list) if !list.is_empty() => {
            list.into_iter().enumerate().map(|(i, json)| requirement(json, &format!("{at}[{i}]"))).collect()
        }
        _ => Err(PolicyError::at(at, "must be a list of at least one requirement")),
    }
}

fn requirement(json: Json, at: &str) -> Result<Requirement, PolicyError> {
    let mut object = Object::new(json, at)?;
    let read = match object.required("type")?.as_str() {
        "insecureAcceptAnything" => Requirement::AcceptAnything,
        "reject" => Requirement::Reject,
        "signedBaseLayer" => {
            let identity = object.path("baseLayerIdentity");
            let given = object.take("baseLayerIdentity").ok_or_else(|| PolicyError::at(&identity, "is required"))?;
            read_identity(given, &identity)?;
            Requirement::SignedBaseLayer
        }
        "signedBy" => Requirement::SignedBy(signed_by(&mut object)?),
        "sigstoreSigned" => Requirement::Sigstore(Box::new(sigstore(&mut object)?)),
        other => {
            let what = format!(
                "{other:?} is no requirement; there are insecureAcceptAnything, reject, signedBy, sigstoreSigned and \
                 signedBaseLayer"
            );
            return Err(PolicyError::at(&object.path("type"), &what));
        }
    };
    object.end()?;
    Ok(read)
}

fn signed_by(object: &mut Object<'_>) -> Result<SignedBy, PolicyError> {
    let key_type = object.required("keyType")?;
    let known = ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"];
    if !known.contains(&key_type.as_str()) {
        return Err(PolicyError::at(&object.path("keyType"), &format!("{key_type:?} is none of {}", known.join(", "))));
    }
    let keys = keys(object, ["keyPath", "keyPaths", "keyData", ""])?.ok_or_else(|| {
        PolicyError::at(object.at, "exactly one of keyPath, keyPaths and keyData must be there, and none is")
    })?;
    let identity = signed_identity(object)?;
    Ok(SignedBy { other_key_type: (key_type != "GPGKeys").then_some(key_type), keys, identity })
}

fn sigstore(object: &mut Object<'_>) -> Result<Sigstore, PolicyError> {
    let by_keys = keys(object, ["keyPath", "keyPaths", "keyData", "keyDatas"])?;
    let rekor_names = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];
    let rekor = keys(object, rekor_names)?;
    if [&by_keys, &rekor].into_iter().flatten().any(Vec::is_empty) {
        return Err(PolicyError::at(object.at, "a list of keys must hold one at least"));
    }
    let (has_fulcio, has_pki) = (object.has("fulcio"), object.has("pki"));
    let signer = match (by_keys, has_fulcio, has_pki) {
        (Some(keys), false, false) => SigstoreSigner::Keys(keys),
        (None, true, false) => fulcio(object)?,
        (None, false, true) => pki(object)?,
        _ => {
            let what = "exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be there";
            return Err(PolicyError::at(object.at, what));
        }
    };
    match (&signer, &rekor) {
        (SigstoreSigner::Fulcio { .. }, None) => {
            Err(PolicyError::at(object.at, "fulcio needs a rekorPublicKey: without a log nothing says when it signed"))
        }
        (SigstoreSigner::Pki, Some(_)) => Err(PolicyError::at(object.at, "a rekorPublicKey cannot be used with pki")),
        _ => Ok(Sigstore { signer, rekor: rekor.unwrap_or_default(), identity: signed_identity(object)? }),
    }
}

fn fulcio(object: &mut Object<'_>) -> Result<SigstoreSigner, PolicyError> {
    let at = object.path("fulcio");
    let mut fulcio = Object::new(object.take("fulcio").unwrap_or(Json::Null), &at)?;
    let ca = one_of(&mut fulcio, "caPath", "caData")?
        .ok_or_else(|| PolicyError::at(&at, "one of caPath and caData must be there"))?;
    let (issuer, email) = (fulcio.required("oidcIssuer")?, fulcio.required("subjectEmail")?);
    fulcio.end()?;
    Ok(SigstoreSigner::Fulcio { ca, issuer, email })
}

fn pki(object: &mut Object<'_>) -> Result<SigstoreSigner, PolicyError> {
    let at = object.path("pki");
    let mut pki = Object::new(object.take("pki").unwrap_or(Json::Null), &at)?;
    one_of(&mut pki, "caRootsPath", "caRootsData")?
        .ok_or_else(|| PolicyError::at(&at, "one of caRootsPath and caRootsData must be there"))?;
    one_of(&mut pki, "caIntermediatesPath", "caIntermediatesData")?;
    let (email, host) = (pki.text("subjectEmail")?, pki.text("subjectHostname")?);
    if email.is_none() && host.is_none() {
        return Err(PolicyError::at(&at, "one of subjectEmail and subjectHostname must be there"));
    }
    pki.end()?;
    Ok(SigstoreSigner::Pki)
}

fn one_of(object: &mut Object<'_>, path: &str, data: &str) -> Result<Option<Key>, PolicyError> {
    let found = keys(object, [path, "", data, ""])?;
    Ok(found.and_then(|mut keys| keys.pop()))
}

/// The keys under at most one of four members: a path, paths, a content, contents. Names may be empty.
fn keys(object: &mut Object<'_>, names: [&str; 4]) -> Result<Option<Vec<Key>>, PolicyError> {
    let there: Vec<_> = names.iter().enumerate().filter(|(_, name)| object.has(name)).collect();
    let (kind, name) = match there[..] {
        [] => return Ok(None),
        [(kind, name)] => (kind, *name),
        _ => {
            let names: Vec<_> = there.iter().map(|(_, name)| **name).collect();
            return Err(PolicyError::at(object.at, &format!("only one of {} can be used", names.join(", "))));
        }
    };
    let at = object.path(name);
    let list = match (object.take(name), kind) {
        (Some(Json::Array(list)), 1 | 3) => list,
        (Some(text @ Json::Text(_)), 0 | 2) => vec![text],
        (_, 1 | 3) => return Err(PolicyError::at(&at, "must be a list of texts")),
        _ => return Err(PolicyError::at(&at, "must be a text")),
    };
    list.into_iter().map(|json| key(json, kind < 2, &at)).collect::<Result<_, _>>().map(Some)
}

fn key(json: Json, path: bool, at: &str) -> Result<Key, PolicyError> {
    match json {
        Json::Text(text) if path && !text.is_empty() => Ok(Key::File(text.into())),
        Json::Text(text) if !path => {
            let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
            BASE64_STANDARD.decode(packed).map(Key::Data).map_err(|_| PolicyError::at(at, "is not base64"))
        }
        _ => Err(PolicyError::at(at, "must hold texts that are not empty")),
    }
}

fn signed_identity(object: &mut Object<'_>) -> Result<SignedIdentity, PolicyError> {
    let at = object.path("signedIdentity");
    object.take("signedIdentity").map_or(Ok(SignedIdentity::default()), |json| read_identity(json, &at))
}

fn read_identity(json: Json, at: &str) -> Result<SignedIdentity, PolicyError> {
    let mut object = Object::new(json, at)?;
    let wrong = |name: &str, error: String| PolicyError::at(&format!("{at}.{name}"), &error);
    let identity = match object.required("type")?.as_str() {
        "matchExact" => SignedIdentity::MatchExact,
        "matchRepoDigestOrExact" => SignedIdentity::MatchRepoDigestOrExact,
        "matchRepository" => SignedIdentity::MatchRepository,
        "exactReference" => SignedIdentity::exact_reference(&object.required("dockerReference")?)
            .map_err(|error| wrong("dockerReference", error))?,
        "exactRepository" => {
            let text = object.required("dockerRepository")?;
            // A tag or digest is let pass there, and compared with nothing.
            SignedIdentity::exact_repository(&text)
                .or_else(|error| {
                    let reference: ImageRef = text.parse().map_err(|_| error)?;
                    Ok(SignedIdentity::ExactRepository(reference.repository().clone()))
                })
                .map_err(|error| wrong("dockerRepository", error))?
        }
        "remapIdentity" => SignedIdentity::remap(&object.required("prefix")?, &object.required("signedPrefix")?)
            .map_err(|error| PolicyError::at(at, &error))?,
        other => {
            let what = format!(
                "{other:?} is none of matchExact, matchRepoDigestOrExact, matchRepository, exactReference, exactRepository \
                 and remapIdentity"
            );
            return Err(wrong("type", what));
        }
    };
    object.end()?;
    Ok(identity)
}
