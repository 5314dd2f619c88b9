//! Files of Kubernetes objects: YAML with several documents, JSON, Lists, directories, standard input.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use crate::api::{GROUP, read_policy};
use crate::cluster::files::FileObjects;
use crate::cluster::objects::{SYNCED_KEY_LABEL, SYNCED_KEY_PREFIX};
use crate::cluster::watch::WHITELIST_NAME;
use crate::cluster::{Inputs, SecretData};
use crate::domain::policy::{Check, Entry, NotaryTrust, Policy, PolicyId};
use crate::domain::whitelist::Whitelist;

/// The largest file that is read.
const MAX_FILE: u64 = 64 << 20;
const MAX_DEPTH: usize = 8;

/// An object with the place it was read from, for messages.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) origin: String,
    pub(super) object: Value,
}

impl Document {
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }

    pub(super) fn kind(&self) -> &str {
        self.text("/kind").unwrap_or("")
    }

    /// The place and the object, such as `file.yaml document 1: Secret team/key`.
    fn named(&self) -> String {
        let name = self.text("/metadata/name").unwrap_or("");
        let namespace = self.text("/metadata/namespace").map(|namespace| format!("{namespace}/")).unwrap_or_default();
        format!("{}: {} {namespace}{name}", self.origin, self.kind())
    }

    fn group(&self) -> &str {
        self.text("/apiVersion").and_then(|v| v.split_once('/')).map_or("", |(group, _)| group)
    }
}

/// All objects of a file, of every file of a directory, or of standard input (`-`).
pub(super) fn read(path: &Path) -> Result<Vec<Document>, String> {
    if path.as_os_str() == "-" {
        return parse("standard input", &bounded("standard input", std::io::stdin())?);
    }
    let mut documents = Vec::new();
    for file in files(path)? {
        let name = file.display().to_string();
        let open = std::fs::File::open(&file).map_err(|e| format!("{name}: {e}"))?;
        documents.extend(parse(&name, &bounded(&name, open)?)?);
    }
    Ok(documents)
}

/// The whole text or none: what stands behind a cut would go unjudged. The length that a device or a pipe states is no
/// bound, so it is not asked for.
fn bounded(name: &str, source: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("{name}: larger than {} MiB: divide it", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| format!("{name}: neither YAML nor JSON: not text in UTF-8"))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no *.yaml, *.yml or *.json file", path.display()));
    }
    Ok(files)
}

fn parse(name: &str, text: &str) -> Result<Vec<Document>, String> {
    // All Pods of a cluster are many nodes in one file, and no more than the text has room for: what aliases multiply
    // stays within that. No snippet: the line before a mistake may hold a password.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: (text.len() / 4).max(250_000),
            max_events: (text.len() / 2).max(1_000_000),
            max_documents: (text.len() / 16).max(1024),
        },
        with_snippet: false,
    };
    let values: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|e| format!("{name}: {e}"))?;
    let mut documents = Vec::new();
    for (i, object) in values.into_iter().enumerate() {
        flatten(format!("{name} document {}", i + 1), object, 0, &mut documents)?;
    }
    Ok(documents)
}

/// Takes Lists apart; empty documents are left out.
fn flatten(origin: String, object: Value, depth: usize, documents: &mut Vec<Document>) -> Result<(), String> {
    if object.is_null() {
        return Ok(());
    }
    let Some(kind) = object.get("kind").and_then(Value::as_str) else {
        return Err(format!("{origin}: not a Kubernetes object: it has no kind"));
    };
    if !kind.ends_with("List") || depth >= MAX_DEPTH {
        documents.push(Document { origin, object });
        return Ok(());
    }
    let Some(items) = object.get("items").and_then(Value::as_array) else {
        return Err(format!("{origin}: the {kind} has no items"));
    };
    for (i, item) in items.iter().enumerate() {
        flatten(format!("{origin} items[{i}]"), item.clone(), depth + 1, documents)?;
    }
    Ok(())
}

fn trusts_first_use(entry: &Entry) -> bool {
    let Check::Signed(check) = &entry.check else { return false };
    check.notary.as_ref().is_some_and(|notary| notary.trust == Some(NotaryTrust::FirstUse))
}

/// Policies, whitelist, Secrets, `ConfigMaps` and service accounts among documents.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    policies: Vec<Policy>,
    whitelist: Option<Whitelist>,
    pub(super) objects: FileObjects,
    /// Namespace of objects that name none; `default` when not set.
    namespace: Option<String>,
    /// Whether it was said that first use is not remembered.
    first_use: bool,
    /// What the user should know, such as problems of policies.
    pub(super) remarks: Vec<String>,
}

impl Configuration {
    /// Nothing yet; objects that name no namespace will be of this one.
    pub(super) fn in_namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::default() }
    }

    /// Takes a document; `Ok(false)` when it is of a kind that configures nothing.
    pub(super) fn take(&mut self, document: &Document, own_namespace: &str) -> Result<bool, String> {
        let name = document.text("/metadata/name").unwrap_or("").to_owned();
        let namespace =
            document.text("/metadata/namespace").or(self.namespace.as_deref()).unwrap_or("default").to_owned();
        let key = (namespace.clone(), name.clone());
        match (document.group(), document.kind()) {
            (GROUP, "ClusterRegistrySecurityPolicy") => self.policy(PolicyId::cluster(&name), document),
            (GROUP, "RegistrySecurityPolicy") => self.policy(PolicyId::namespaced(&namespace, &name), document),
            ("", "Secret") => {
                let synced = name.starts_with(SYNCED_KEY_PREFIX)
                    && document
                        .object
                        .pointer("/metadata/labels")
                        .is_some_and(|labels| labels.get(SYNCED_KEY_LABEL).is_some());
                let data = data(document, "data", "stringData")?;
                self.objects.secrets.insert(key, Arc::new(SecretData::new(data, synced)));
            }
            ("", "ConfigMap") => {
                let data = data(document, "binaryData", "data")?;
                if name == WHITELIST_NAME && namespace == own_namespace {
                    self.whitelist(&data);
                } else if name == WHITELIST_NAME {
                    self.remarks.push(format!(
                        "warning: {}: not the whitelist: the ConfigMap {name} counts in the namespace {own_namespace}, \
                         and this one is of {namespace}",
                        document.origin
                    ));
                }
                self.objects.config_maps.insert(key, Arc::new(SecretData::new(data, false)));
            }
            ("", "ServiceAccount") => {
                let secrets = document.object.get("imagePullSecrets").and_then(Value::as_array).into_iter().flatten();
                let names = secrets.filter_map(|s| s.get("name").and_then(Value::as_str)).map(str::to_owned).collect();
                self.objects.service_accounts.insert(key, Arc::new(names));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Everything known: policies and whitelist.
    pub(super) fn inputs(&mut self) -> Inputs {
        Inputs::complete(std::mem::take(&mut self.policies), self.whitelist.take().unwrap_or_default())
    }

    /// The policies, for those who do not judge by them.
    pub(super) fn take_policies(&mut self) -> Vec<Policy> {
        std::mem::take(&mut self.policies)
    }

    /// Whether no policy was found.
    pub(super) fn has_no_policy(&self) -> bool {
        self.policies.is_empty()
    }

    /// Whether a whitelist was found.
    pub(super) fn has_whitelist(&self) -> bool {
        self.whitelist.is_some()
    }

    /// Takes a policy; `origin` says where it is from.
    pub(super) fn add_policy(&mut self, policy: Policy, origin: &str) {
        for problem in &policy.problems {
            let severity = if problem.error { "error" } else { "warning" };
            self.remarks.push(format!("{severity}: {} ({origin}): {problem}", policy.id));
        }
        if policy.entries.iter().any(|entry| trusts_first_use(entry)) && !self.first_use {
            self.first_use = true;
            self.remarks.push(format!(
                "{} ({origin}): notaryTrust.firstUse: what is seen first here is trusted for this run and not remembered",
                policy.id
            ));
        }
        self.policies.push(policy);
    }

    /// Takes the whitelist in place of what was known.
    pub(super) fn set_whitelist(&mut self, whitelist: Whitelist) {
        for problem in &whitelist.problems {
            self.remarks.push(format!(
                "warning: ConfigMap {WHITELIST_NAME} {} line {}: {}",
                problem.key, problem.line, problem.message
            ));
        }
        self.whitelist = Some(whitelist);
    }

    fn policy(&mut self, id: PolicyId, document: &Document) {
        self.add_policy(read_policy(id, &document.object), &document.origin);
    }

    fn whitelist(&mut self, data: &BTreeMap<String, Bytes>) {
        let text = data.iter().map(|(k, v)| (k.clone(), String::from_utf8_lossy(v).into_owned())).collect();
        self.set_whitelist(Whitelist::parse(&text));
    }
}

/// Base64 values of one member, plain text values of another, which wins as in the API server.
fn data(document: &Document, encoded: &str, plain: &str) -> Result<BTreeMap<String, Bytes>, String> {
    let mut data = BTreeMap::new();
    for (key, text) in texts(document, encoded)? {
        let packed: String = text.split_whitespace().collect();
        let decoded = STANDARD.decode(packed);
        let bytes = decoded.map_err(|_| format!("{}: {encoded}.{key} is not base64", document.named()))?;
        data.insert(key.to_owned(), Bytes::from(bytes));
    }
    for (key, text) in texts(document, plain)? {
        data.insert(key.to_owned(), Bytes::from(text.to_owned()));
    }
    Ok(data)
}

/// A member whose values are texts, as the API server takes it: absent, null, or an object of strings. A null value is an
/// empty text there, too.
fn texts<'a>(document: &'a Document, member: &str) -> Result<Vec<(&'a str, &'a str)>, String> {
    let map = match document.object.get(member) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("{}: {member} is not an object with texts as values", document.named())),
    };
    let text = |(key, value): (&'a String, &'a Value)| match value {
        Value::String(text) => Ok((key.as_str(), text.as_str())),
        Value::Null => Ok((key.as_str(), "")),
        _ => Err(format!("{}: {member}.{key} is not a text; put quotes around it", document.named())),
    };
    map.iter().map(text).collect()
}
