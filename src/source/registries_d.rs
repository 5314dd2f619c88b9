//! The administrator's registries.d directory: containers-registries.d(5).
//!
//! ```yaml
//! default-docker:                              # for every image that no scope below has a store for
//!   lookaside: file:///var/lib/containers/sigstore
//! docker:
//!   registry.example.com:5000/team:            # an image, a repository, a path above it, a host, *.domain
//!     lookaside: https://sigstore.example.com  # `sigstore` is the older name; lookaside wins
//! ```
//! Where signatures are written to (`lookaside-staging`, `sigstore-staging`) is for those who sign alone, and keys nobody
//! knows are ignored.
//! `use-sigstore-attachments` is read for those who judge by containers-policy.json, and means nothing to policies. A scope may be configured once in the whole directory. Search order, as in the `docker` transport of
//! containers/image: `name:tag` or `name@digest`, the name, each path above it, the host with port, `*.` domains from the
//! longest to the shortest without port, `default-docker`; a section is passed over for what it does not say. Other than there,
//! nothing found means no store, not a directory of the machine, and an unusable store is refused when loading.

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::lookaside::StoreUrl;
use crate::domain::image::ImageRef;

const MAX_FILES: usize = 1024;
/// Directory entries looked at for `*.yaml` among them.
const MAX_DIRECTORY_ENTRIES: usize = 16 * MAX_FILES;
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// Where containers/image looks when nothing is configured, as root.
const BUILT_IN: &str = "file:///var/lib/containers/sigstore";

/// All files of the directory.
#[derive(Debug, Clone, Default)]
pub struct RegistriesD {
    /// By scope; those of the form `*.domain` are in `domains`.
    scopes: HashMap<Box<str>, Said>,
    /// By domain, without the `*.`.
    domains: HashMap<Box<str>, Said>,
    default: Said,
}

/// What a section says.
#[derive(Debug, Clone, Default)]
struct Said {
    store: Option<StoreUrl>,
    attachments: Option<bool>,
    /// Where signatures are written to, as written: only who signs is to be told that it is unusable.
    staging: Option<Box<str>>,
}

/// One file.
#[derive(Debug, Default)]
struct Document {
    default_docker: Option<Section>,
    docker: Option<BTreeMap<String, Option<Section>>>,
}

#[derive(Debug, Default, Deserialize)]
struct Section {
    #[serde(alias = "Lookaside", alias = "LOOKASIDE")]
    lookaside: Option<String>,
    #[serde(alias = "Sigstore", alias = "SIGSTORE")]
    sigstore: Option<String>,
    #[serde(rename = "lookaside-staging", alias = "Lookaside-Staging", alias = "LOOKASIDE-STAGING")]
    lookaside_staging: Option<String>,
    #[serde(rename = "sigstore-staging", alias = "Sigstore-Staging", alias = "SIGSTORE-STAGING")]
    sigstore_staging: Option<String>,
    #[serde(
        rename = "use-sigstore-attachments",
        alias = "Use-Sigstore-Attachments",
        alias = "USE-SIGSTORE-ATTACHMENTS",
        default,
        deserialize_with = "unquoted"
    )]
    attachments: Option<bool>,
}

/// Skopeo refuses a text where truth is asked for, such as `"yes"` in quotes.
fn unquoted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    struct Truth;
    impl Visitor<'_> for Truth {
        type Value = Option<bool>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("true or false")
        }
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Some(value))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Truth)
}

/// Skopeo reads `Docker:` as it reads `docker:`.
impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Document;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("default-docker and docker")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                let (mut seen, mut sections) = (false, false);
                while let Some(name) = map.next_key::<String>()? {
                    match name.to_ascii_lowercase().as_str() {
                        "default-docker" if !seen => (seen, document.default_docker) = (true, map.next_value()?),
                        "docker" if !sections => (sections, document.docker) = (true, map.next_value()?),
                        "default-docker" | "docker" => return Err(A::Error::custom("stands twice")),
                        _ => {
                            tracing::warn!("registries.d: an unknown member {name:?} is ignored");
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(document)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Section {
    /// The store to read from; empty values count as missing.
    fn store(&self) -> Option<&str> {
        [&self.lookaside, &self.sigstore].into_iter().flatten().map(String::as_str).find(|text| !text.is_empty())
    }

    /// The store to write to: that of its own, else the one to read from, as containers/image has it.
    fn staging(&self) -> Option<&str> {
        let own = [&self.lookaside_staging, &self.sigstore_staging].into_iter().flatten().map(String::as_str);
        own.into_iter().find(|text| !text.is_empty()).or_else(|| self.store())
    }
}

impl RegistriesD {
    /// Reads every `*.yaml` of the directory. The error names file and scope; a directory that cannot be read is one.
    ///
    /// Hosts have no case here, as everywhere in podseal.
    pub fn load(directory: &Path) -> Result<Self, String> {
        Self::load_with(directory, normal_scope)
    }

    /// The same with hosts that are compared as they are written, as containers/image does.
    pub fn load_as_written(directory: &Path) -> Result<Self, String> {
        Self::load_with(directory, str::to_owned)
    }

    fn load_with(directory: &Path, scope: fn(&str) -> String) -> Result<Self, String> {
        let mut loaded = Loader::default();
        let mut total = 0;
        for file in yaml_files(directory)? {
            let bytes = read(&file).map_err(|why| format!("{}: {why}", file.display()))?;
            total += bytes.len();
            if total > MAX_TOTAL_BYTES {
                return Err(format!("{}: more than {MAX_TOTAL_BYTES} bytes of *.yaml files", directory.display()));
            }
            let document = parse(&bytes).map_err(|why| format!("{}: {why}", file.display()))?;
            loaded.add(&file, document, scope)?;
        }
        Ok(loaded.merged)
    }

    /// With the store that containers/image uses where none is configured.
    #[must_use]
    pub fn or_built_in(mut self) -> Self {
        if self.default.store.is_none() {
            self.default.store = StoreUrl::from_administrator(BUILT_IN).ok();
        }
        self
    }

    /// The store configured for the image, if one is. An image with tag and digest is looked up by its digest.
    pub fn lookaside(&self, image: &ImageRef) -> Option<&StoreUrl> {
        self.find(&Names::of(image), |said| said.store.as_ref())
    }

    /// The folder into which signatures of the image are written, if one is configured. The error says why what is
    /// configured cannot be written to.
    pub fn staging(&self, image: &ImageRef) -> Result<Option<PathBuf>, String> {
        let Some(text) = self.find(&Names::of(image), |said| said.staging.as_ref()) else { return Ok(None) };
        let url = StoreUrl::from_administrator(text).map_err(|why| format!("registries.d, for {image}: {why}"))?;
        match url.folder() {
            Some(folder) => Ok(Some(folder)),
            None => Err(format!(
                "registries.d, for {image}: nothing can be written to {url}: configure lookaside-staging: file:///FOLDER \
                 beside it, or give --staging FOLDER or --upload URL"
            )),
        }
    }

    /// Whether sigstore signatures beside the image are looked at by those who judge by containers-policy.json.
    pub(crate) fn sigstore_attachments(&self, names: &Names) -> bool {
        self.find(names, |said| said.attachments.as_ref()).copied().unwrap_or(false)
    }

    /// The store for a scope that is no image: a repository, a path above it, a host, `*.domain`, or `""` for all others.
    pub fn lookaside_of(&self, scope: &str) -> Option<&StoreUrl> {
        self.find(&Names::of_scope(scope), |said| said.store.as_ref())
    }

    /// The same about sigstore signatures beside the image.
    pub fn sigstore_attachments_of(&self, scope: &str) -> bool {
        self.find(&Names::of_scope(scope), |said| said.attachments.as_ref()).copied().unwrap_or(false)
    }

    /// The scopes that have sections of their own, sorted.
    pub fn scopes(&self) -> Vec<String> {
        let domains = self.domains.keys().map(|domain| format!("*.{domain}"));
        let mut scopes: Vec<_> = self.scopes.keys().map(ToString::to_string).chain(domains).collect();
        scopes.sort();
        scopes
    }

    fn find<'a, T>(&'a self, names: &Names, what: impl Fn(&'a Said) -> Option<&'a T>) -> Option<&'a T> {
        let by_scope = || {
            let mut names = names.scopes().filter(|_| !self.scopes.is_empty());
            names.find_map(|name| self.scopes.get(name).and_then(&what))
        };
        let by_domain = || {
            let mut names = names.domains().filter(|_| !self.domains.is_empty());
            names.find_map(|name| self.domains.get(name).and_then(&what))
        };
        by_scope().or_else(by_domain).or_else(|| what(&self.default))
    }
}

/// The scopes that cover an image, in the order in which containers/image asks for them: `name:tag` or `name@digest`, the
/// name, each path above it, the host with port, and without port the domains above the host, which go by `*.domain`.
#[derive(Debug)]
pub(crate) struct Names {
    identity: String,
    /// Where the name ends in it.
    name: usize,
}

impl Names {
    /// Of an image; with tag and digest, of its digest.
    pub(crate) fn of(image: &ImageRef) -> Self {
        let identity = image.identity_form().to_string();
        // The repository's name is the start of the identity, and every scope above it a start of the name.
        let repository = image.repository();
        let name = repository.host().len() + 1 + repository.path().len();
        Self { identity, name }
    }

    /// Of an image as containers/image names it, with the host as it is written: alone `index.docker.io` is the same as
    /// `docker.io` there. `None` when that is the name in normal form.
    pub(crate) fn as_written(text: &str, image: &ImageRef) -> Option<Self> {
        let (host, path) = text.split_once('/')?;
        let normal = image.repository();
        // Where a host is written, the path behind it is the whole path, but for official images, whose host is normal.
        let is_host = host.contains(['.', ':']) || host == "localhost" || host.bytes().any(|b| b.is_ascii_uppercase());
        if !is_host || host == normal.host() || host == "index.docker.io" {
            return None;
        }
        let of_path = path.split_once('@').map_or(path, |(path, _)| path);
        let name = format!("{host}/{}", of_path.rsplit_once(':').map_or(of_path, |(path, _)| path));
        let identity = image.identity_form().to_string();
        let version = identity.get(normal.host().len() + 1 + normal.path().len()..).unwrap_or_default();
        Some(Self { identity: format!("{name}{version}"), name: name.len() })
    }

    /// Of a scope itself: what covers everything in it.
    pub(crate) fn of_scope(scope: &str) -> Self {
        Self { identity: scope.to_owned(), name: scope.len() }
    }

    /// All but the domains.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        fn above<'a>(name: &&'a str) -> Option<&'a str> {
            name.rsplit_once('/').map(|(above, _)| above)
        }
        let name = self.identity.get(..self.name).unwrap_or_default();
        let whole = (self.identity.len() > self.name).then_some(self.identity.as_str());
        whole.into_iter().chain(std::iter::successors(Some(name), above)).filter(|name| !name.is_empty())
    }

    /// The domains, without `*.`.
    pub(crate) fn domains(&self) -> impl Iterator<Item = &str> {
        fn above<'a>(name: &&'a str) -> Option<&'a str> {
            name.split_once('.').map(|(_, domain)| domain)
        }
        let host = self.identity.split('/').next().unwrap_or_default();
        // The first colon ends the name; what is left of an address in brackets has no dot.
        let name = host.split(':').next().unwrap_or(host);
        // A scope that is a domain covers that domain.
        let (own, rest) = match name.strip_prefix("*.") {
            Some(domain) => (Some(domain), domain),
            None => (None, name),
        };
        own.into_iter().chain(std::iter::successors(above(&rest), above))
    }
}

/// Merges files, and remembers where each section came from.
#[derive(Default)]
struct Loader {
    merged: RegistriesD,
    default_from: Option<PathBuf>,
    scope_from: HashMap<String, PathBuf>,
}

impl Loader {
    fn add(&mut self, file: &Path, document: Document, written: fn(&str) -> String) -> Result<(), String> {
        if let Some(section) = document.default_docker {
            if let Some(first) = &self.default_from {
                return Err(twice("`default-docker`", first, file));
            }
            self.default_from = Some(file.to_owned());
            self.merged.default = said("`default-docker`", &section, file)?;
        }
        for (scope, section) in document.docker.unwrap_or_default() {
            let name = format!("`docker` scope {scope:?}");
            let scope = written(&scope);
            match self.scope_from.entry(scope.clone()) {
                Entry::Occupied(first) => return Err(twice(&name, first.get(), file)),
                Entry::Vacant(vacant) => vacant.insert(file.to_owned()),
            };
            let said = said(&name, &section.unwrap_or_default(), file)?;
            if said.store.is_none() && said.attachments.is_none() && said.staging.is_none() {
                continue;
            }
            match scope.strip_prefix("*.") {
                Some(domain) => self.merged.domains.insert(domain.into(), said),
                None => self.merged.scopes.insert(scope.into(), said),
            };
        }
        Ok(())
    }
}

fn twice(name: &str, first: &Path, second: &Path) -> String {
    format!("{name} is configured in both {} and {}; remove one of them", first.display(), second.display())
}

fn said(name: &str, section: &Section, file: &Path) -> Result<Said, String> {
    let store = section.store().map(StoreUrl::from_administrator).transpose();
    let store = store.map_err(|why| format!("{}: {name}: {why}", file.display()))?;
    Ok(Said { store, attachments: section.attachments, staging: section.staging().map(Into::into) })
}

/// Hosts have no case, and images' are in lower case when they are looked up.
fn normal_scope(scope: &str) -> String {
    match scope.split_once('/') {
        Some((host, rest)) => format!("{}/{rest}", host.to_ascii_lowercase()),
        None => scope.to_ascii_lowercase(),
    }
}

/// In the order of their names, so that the same directory always gives the same message.
fn yaml_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |e: std::io::Error| format!("registries.d directory {}: {e}", directory.display());
    let mut files = Vec::new();
    for (count, entry) in std::fs::read_dir(directory).map_err(unreadable)?.enumerate() {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().ends_with(b".yaml") {
            files.push(entry.path());
        }
        if files.len() > MAX_FILES || count >= MAX_DIRECTORY_ENTRIES {
            let directory = directory.display();
            return Err(format!(
                "registries.d directory {directory}: more than {MAX_FILES} *.yaml files or {MAX_DIRECTORY_ENTRIES} entries"
            ));
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    // Anything else, such as a named pipe, could block for ever.
    if !std::fs::metadata(file).map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let mut limited = File::open(file).map_err(|e| e.to_string())?.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MAX_FILE_BYTES => Ok(bytes),
        _ => Err(format!("larger than {MAX_FILE_BYTES} bytes")),
    }
}

fn parse(bytes: &[u8]) -> Result<Document, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_documents: 1,
            max_nodes: 65_536,
            max_events: 262_144,
            max_aliases: 1024,
            max_anchors: 1024,
            max_merge_keys: 1024,
            max_recorded_anchor_events: 65_536,
            max_recorded_anchor_bytes: 1 << 20,
            max_total_scalar_bytes: 4 << 20,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    // A file with nothing but comments configures nothing, as for containers/image.
    serde_saphyr::from_slice_with_options::<Option<Document>>(bytes, options)
        .map(Option::unwrap_or_default)
        .map_err(|e| describe(&e))
}

/// Where and of what kind, without the text there: a URL may hold a password.
fn describe(error: &serde_saphyr::Error) -> String {
    let what = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "a key stands twice in one section; remove one of them",
        serde_saphyr::Error::Budget { .. } => "too large or too deeply nested",
        serde_saphyr::Error::InvalidUtf8Input => "not UTF-8",
        _ => "not YAML, or not of the form `default-docker: {lookaside: URL}`, `docker: {SCOPE: {lookaside: URL}}`",
    };
    match error.location() {
        Some(at) => format!("line {}, column {}: {what}", at.line(), at.column()),
        None => what.to_owned(),
    }
}
