//! A policy.json as policies that ask for the same, or for more where the same cannot be said.
//!
//! ```text
//!   scope without a version     an entry for each requirement: all governing entries must pass, as all requirements must
//!   scope with tag or digest    its requirements besides those of the repository, for the whole repository
//!   registries.d section        an entry of its own, when the store differs there
//!   default                     the entry `*`; none when it rejects, for what no policy names is denied
//! ```
//! Whatever is not the same is said in a note.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value};

use super::policy::{ContainersPolicy, Requirement, place};
use super::rule::{Kind, Rule, SignedRule, rule};
use crate::api::{ClusterRegistrySecurityPolicy, ClusterRegistrySecurityPolicySpec, RegistryEntry};
use crate::domain::image::Repository;
use crate::domain::scope::{HostPattern, Scope};
use crate::source::lookaside::StoreUrl;
use crate::source::registries_d::RegistriesD;

/// What is made, and how it is called.
#[derive(Debug, Clone)]
pub struct Naming {
    /// The policy, and the beginning of the names of its Secrets.
    pub policy: String,
    /// The namespace of Secrets and `ConfigMaps`.
    pub namespace: String,
}

/// What came of a policy.json.
#[derive(Debug, Clone, Default)]
pub struct Converted {
    /// YAML documents to apply: policies, Secrets, `ConfigMaps`.
    pub documents: Vec<String>,
    /// What is not the same, a line each.
    pub notes: Vec<String>,
}

/// Requirements that all must be met, with what came of each.
type Rules = Vec<Rule>;

/// Converts a policy.json with the registries.d beside it. The error names a key file that cannot be read.
pub fn convert(
    policy: &ContainersPolicy,
    registries_d: Option<&RegistriesD>,
    naming: &Naming,
) -> Result<Converted, String> {
    let mut builder =
        Builder { policy, registries_d, naming, notes: Vec::new(), objects: Vec::new(), wanted: BTreeMap::new() };
    builder.scopes();
    builder.versions();
    builder.stores();
    // After the stores, which add entries that cover official images as well.
    builder.official_images();
    builder.spellings();
    builder.build()
}

struct Builder<'a> {
    policy: &'a ContainersPolicy,
    registries_d: Option<&'a RegistriesD>,
    naming: &'a Naming,
    notes: Vec<String>,
    /// Secrets and `ConfigMaps` by what they hold.
    objects: Vec<(Object, String)>,
    /// The entries to write, by scope.
    wanted: BTreeMap<String, Vec<&'a Requirement>>,
}

#[derive(PartialEq)]
enum Object {
    Keys(BTreeMap<String, Vec<u8>>),
    TrustRoot(String),
}

impl<'a> Builder<'a> {
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Scopes that name repositories, hosts and domains.
    fn scopes(&mut self) {
        let policy = self.policy;
        for (scope, list) in policy.docker.iter().filter(|(scope, _)| !scope.is_empty() && repository(scope).is_none())
        {
            match Spelling::of(scope) {
                Spelling::Normal => self.wanted.entry(scope.clone()).or_default().extend(list),
                Spelling::Other(normal) => self.spelled(scope, &normal, list),
                Spelling::NoImage => {
                    self.note(format!("{}: no image of a registry has such a name: left out", place(scope)));
                }
            }
        }
        for transport in &policy.others {
            self.note(format!("transports.{transport}: nothing is pulled through it in a cluster: left out"));
        }
    }

    /// Scopes of one tag or digest: policies know none, so what they ask for is asked for in the whole repository.
    fn versions(&mut self) {
        let policy = self.policy;
        for (scope, list) in &policy.docker {
            let Some(name) = repository(scope) else { continue };
            let at = place(scope);
            let normal = match Spelling::of(name) {
                Spelling::Normal => name.to_owned(),
                Spelling::Other(normal) => {
                    self.spelled(scope, &normal, list);
                    continue;
                }
                Spelling::NoImage => {
                    self.note(format!("{at}: no image of a registry has such a name: left out"));
                    continue;
                }
            };
            if list.iter().all(|requirement| *requirement == Requirement::AcceptAnything) {
                self.note(format!(
                    "{at}: policies know no single tag or digest: left out, so that this image needs what {name} needs; the \
                     whitelist can name it"
                ));
                continue;
            }
            let inherited = policy.requirements_of(name).1;
            self.wanted.entry(normal).or_insert_with(|| inherited.iter().collect()).extend(list);
            self.note(format!(
                "{at}: policies know no single tag or digest: asked for in all of {name}, besides what is asked for there"
            ));
        }
    }

    /// Nodes compare hosts as they are written, and policies in normal form: what such a scope asks for is asked for besides
    /// what images in normal form need.
    fn spelled(&mut self, scope: &str, normal: &str, list: &'a [Requirement]) {
        let at = place(scope);
        if list.iter().all(|requirement| *requirement == Requirement::AcceptAnything) {
            self.note(format!(
                "{at}: on nodes it is for images whose host is written like that alone, and policies know one way to write a \
                 host: left out, so that they need what {normal} needs"
            ));
            return;
        }
        let inherited = self.policy.requirements_of(normal).1;
        self.wanted.entry(normal.to_owned()).or_insert_with(|| inherited.iter().collect()).extend(list);
        self.note(format!(
            "{at}: on nodes it is for images whose host is written like that alone, and policies know one way to write a host: \
             asked for in {normal}, besides what is asked for there"
        ));
    }

    /// An image whose host is written in another way than in a scope falls to something wider on nodes.
    fn spellings(&mut self) {
        let default: Vec<_> = self.policy.requirements_of("").1.iter().collect();
        if self.wanted.iter().any(|(scope, list)| *list != default || self.places(scope) != self.places("")) {
            self.note(
                "nodes compare hosts as they are written, so that there REG.EXAMPLE/app falls to what is wider than the scope \
                 reg.example; policies hold it to the entry for reg.example, as they hold registry-1.docker.io to docker.io"
                    .to_owned(),
            );
        }
    }

    /// An entry for docker.io/NAME covers the official image docker.io/library/NAME, too, which a scope does not.
    fn official_images(&mut self) {
        let single =
            |scope: &str| scope.strip_prefix("docker.io/").filter(|name| !name.contains('/')).map(str::to_owned);
        let singles: Vec<_> =
            self.wanted.iter().filter_map(|(scope, list)| Some((single(scope)?, list.clone()))).collect();
        for (name, list) in singles {
            let (short, official) = (format!("docker.io/{name}"), format!("docker.io/library/{name}"));
            let inherited: Vec<_> = self.policy.requirements_of(&official).1.iter().collect();
            if inherited != list || self.places(&short) != self.places(&official) {
                self.wanted.entry(official.clone()).or_insert(inherited);
                self.note(format!(
                    "{short}: its entry covers the official image {official}, too, which the scope does not: what either asks \
                     for is asked for there"
                ));
            }
        }
    }

    /// Where nodes look for signatures of a scope: the store, and whether sigstore signatures beside the image count.
    fn places(&self, scope: &str) -> Option<(Option<&StoreUrl>, bool)> {
        self.registries_d.map(|files| (files.lookaside_of(scope), files.sigstore_attachments_of(scope)))
    }

    /// Where registries.d says another store, there must be an entry that names it.
    fn stores(&mut self) {
        let Some(registries_d) = self.registries_d else { return };
        for scope in registries_d.scopes() {
            if repository(&scope).is_some() {
                self.note(format!(
                    "registries.d, {scope}: policies know no store for a single tag or digest: left out"
                ));
                continue;
            }
            match Spelling::of(&scope) {
                Spelling::Normal => {}
                Spelling::Other(_) => {
                    self.note(format!(
                        "registries.d, {scope}: on nodes it is for images whose host is written like that alone: left out"
                    ));
                    continue;
                }
                Spelling::NoImage => continue,
            }
            let list = self.policy.requirements_of(&scope).1;
            if list.iter().any(|r| matches!(r, Requirement::SignedBy(_) | Requirement::Sigstore(_))) {
                self.wanted.entry(scope).or_insert_with(|| list.iter().collect());
            }
        }
    }

    fn build(mut self) -> Result<Converted, String> {
        let (mut entries, mut rejected) = (Vec::new(), Vec::new());
        let default = self.default()?;
        if let Some(rules) = &default {
            entries.extend(self.entries("*", rules)?);
        }
        let mut written = Vec::new();
        for (scope, list) in std::mem::take(&mut self.wanted) {
            let rules = self.rules(&scope, &list)?;
            if let Some(why) = rules.iter().find_map(Rule::never) {
                rejected.push((scope, why.to_owned()));
            } else {
                entries.extend(self.entries(&scope, &rules)?);
                written.push(scope);
            }
        }
        let everything = default.is_some();
        for (scope, why) in &rejected {
            self.note(format!("{scope}: every image is rejected ({why})"));
        }
        // What nothing else covers is denied without an entry.
        let denied: Vec<_> = rejected
            .iter()
            .filter(|(scope, _)| everything || written.iter().any(|other| covers(other, scope)))
            .map(|(scope, _)| RegistryEntry { registry: scope.clone(), sign_check: true, ..RegistryEntry::default() })
            .collect();
        self.documents(entries, denied)
    }

    /// What `*` is to ask for; `None` when it is denied.
    fn default(&mut self) -> Result<Option<Rules>, String> {
        let list: Vec<_> = self.policy.requirements_of("").1.iter().collect();
        let rules = self.rules("", &list)?;
        if let Some(why) = rules.iter().find_map(Rule::never) {
            self.note(format!(
                "the default rejects ({why}): what no entry names is denied. Policies of namespaces can name further \
                 registries, unless podseal runs with --restrict-namespaces"
            ));
            return Ok(None);
        }
        // *.domain covers hosts with any port there, and without a port here; the others fall to `*`.
        let weaker = self.wanted.iter().find(|(scope, wanted)| {
            let differs = **wanted != list || self.places(scope) != self.places("");
            scope.starts_with("*.") && differs && wanted.iter().any(|r| **r != Requirement::AcceptAnything)
        });
        if let Some((scope, _)) = weaker {
            let note = format!(
                "default: left out, so that other images are denied. {scope} covers no host with a port here, and the default \
                 would ask for something else there: name those hosts, then add an entry for `*`"
            );
            self.note(note);
            return Ok(None);
        }
        if rules.iter().all(|rule| *rule == Rule::Accept) {
            self.note(
                "the default accepts every image of every other registry, and so does the entry `*`: take it out to deny \
                 them"
                    .to_owned(),
            );
        }
        Ok(Some(rules))
    }

    fn rules(&self, scope: &str, list: &[&Requirement]) -> Result<Rules, String> {
        let unseen = match self.registries_d {
            None => Some(
                "no --registries-d was given, and nodes find sigstore signatures only where registries.d says \
                 use-sigstore-attachments: true: give it",
            ),
            Some(files) if !files.sigstore_attachments_of(scope) => {
                Some("registries.d does not say use-sigstore-attachments: true for it, so that nodes find no signature")
            }
            Some(_) => None,
        };
        list.iter()
            .map(|requirement| match (rule(requirement)?, unseen) {
                (Rule::Signed(signed), Some(why)) if signed.kind == Kind::Sigstore => Ok(Rule::Never(why.to_owned())),
                (other, _) => Ok(other),
            })
            .collect()
    }

    /// An entry for each requirement that is not met by everything.
    fn entries(&mut self, scope: &str, rules: &Rules) -> Result<Vec<RegistryEntry>, String> {
        let mut entries = Vec::new();
        for rule in rules {
            let Rule::Signed(signed) = rule else { continue };
            let mut entry = self.signed(scope, signed);
            entry.insert("registry".to_owned(), scope.into());
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        if entries.is_empty() {
            entries
                .push(Map::from_iter([("registry".to_owned(), scope.into()), ("signCheck".to_owned(), false.into())]));
        }
        let read = |entry| serde_json::from_value(Value::Object(entry)).map_err(|e| format!("{scope}: {e}"));
        entries.into_iter().map(read).collect()
    }

    fn signed(&mut self, scope: &str, signed: &SignedRule) -> Map<String, Value> {
        let keys = (!signed.keys.is_empty()).then(|| self.object(Object::Keys(signed.keys.clone())));
        let root = signed.trust_root.clone().map(|root| self.object(Object::TrustRoot(root)));
        let mut entry = signed.entry(&keys.unwrap_or_default(), &root.unwrap_or_default());
        if signed.kind == Kind::Gpg {
            let store = self.store(if scope == "*" { "" } else { scope });
            if let Some(store) = store {
                entry.insert("lookaside".to_owned(), store.into());
            }
        }
        entry
    }

    /// The store for a scope, if a policy can name it.
    fn store(&mut self, scope: &str) -> Option<String> {
        let Some(registries_d) = self.registries_d else {
            let note = "no --registries-d was given: entries without lookaside have podseal look where its own registries.d \
                        says, or in the registry";
            self.note(note.to_owned());
            return None;
        };
        let shown = if scope.is_empty() { "*" } else { scope };
        let Some(store) = registries_d.lookaside_of(scope).map(ToString::to_string) else {
            self.note(format!(
                "{shown}: registries.d names no store, so that nodes look in /var/lib/containers/sigstore: give podseal a \
                 store, or the registry's own"
            ));
            return None;
        };
        if StoreUrl::from_policy(&store).is_err() {
            self.note(format!(
                "{shown}: a policy cannot name the store {store}: give podseal the same registries.d (--registries-d)"
            ));
            return None;
        }
        Some(store)
    }

    /// A reference to an object that holds this; equal ones are one.
    fn object(&mut self, object: Object) -> String {
        let known = self.objects.iter().find(|(other, _)| *other == object).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            let kind = if matches!(object, Object::Keys(_)) { "keys" } else { "trust-root" };
            let name = format!("{}-{kind}-{}", self.naming.policy, self.objects.len() + 1);
            self.objects.push((object, name.clone()));
            name
        });
        format!("k8s://{}/{name}", self.naming.namespace)
    }

    fn documents(self, entries: Vec<RegistryEntry>, denied: Vec<RegistryEntry>) -> Result<Converted, String> {
        let mut documents = Vec::new();
        let policy = |name: &str, registries| {
            ClusterRegistrySecurityPolicy::new(name, ClusterRegistrySecurityPolicySpec { registries })
        };
        documents.push(yaml(&policy(&self.naming.policy, entries))?);
        let mut notes = self.notes;
        if !denied.is_empty() {
            let name = format!("{}-rejected", self.naming.policy);
            notes.push(format!(
                "the policy {name} holds what is rejected: its entries ask for a signature and name no key, so it is never Ready"
            ));
            documents.push(yaml(&policy(&name, denied))?);
        }
        for (object, name) in self.objects {
            let metadata = ObjectMeta {
                name: Some(name),
                namespace: Some(self.naming.namespace.clone()),
                ..ObjectMeta::default()
            };
            documents.push(match object {
                Object::Keys(keys) => {
                    let data = keys.into_iter().map(|(name, content)| (name, ByteString(content))).collect();
                    yaml(&Secret { metadata, data: Some(data), ..Secret::default() })?
                }
                Object::TrustRoot(root) => {
                    let data = BTreeMap::from([("trusted_root.json".to_owned(), root)]);
                    yaml(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() })?
                }
            });
        }
        Ok(Converted { documents, notes })
    }
}

fn yaml(object: &impl Serialize) -> Result<String, String> {
    // By way of JSON, so that what has no value is left out.
    let value = serde_json::to_value(object).map_err(|e| e.to_string())?;
    serde_saphyr::to_string(&value).map_err(|e| e.to_string())
}

/// The name in a scope with tag or digest.
fn repository(scope: &str) -> Option<&str> {
    if let Some((name, _)) = scope.split_once('@') {
        return Some(name);
    }
    let last = scope.rfind('/')?;
    scope.get(last..)?.find(':').and_then(|colon| scope.get(..last + colon))
}

/// How a scope is written.
enum Spelling {
    /// As in an entry, and as in the normal form of images.
    Normal,
    /// It covers images whose normal form is another one, which is this.
    Other(String),
    /// No image of a registry is in it.
    NoImage,
}

impl Spelling {
    fn of(scope: &str) -> Self {
        let Ok((parsed, _)) = Scope::parse(scope) else { return Self::NoImage };
        let named = match &parsed.host {
            HostPattern::Exact(host) => host.contains(['.', ':']) || &**host == "localhost",
            // Domains there have neither path nor port.
            HostPattern::Suffix(domain) => parsed.path.is_empty() && !domain.contains(':'),
            HostPattern::Any => false,
        };
        let normal = parsed.to_string();
        match named {
            true if normal == scope => Self::Normal,
            true => Self::Other(normal),
            false => Self::NoImage,
        }
    }
}

/// Whether an entry for the first scope covers images of the second one, by the matching of entries.
fn covers(scope: &str, other: &str) -> bool {
    let (Ok((scope, _)), Ok((other, _))) = (Scope::parse(scope), Scope::parse(other)) else { return true };
    let host = match &other.host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Suffix(domain) => format!("x.{domain}"),
        HostPattern::Any => return true,
    };
    let own = (other.path.contains('/') || host != "docker.io").then(|| other.path.to_string());
    let below = if other.path.is_empty() { "x/x".to_owned() } else { format!("{}/x", other.path) };
    let paths = own.into_iter().filter(|path| !path.is_empty()).chain([below]);
    paths.filter_map(|path| Repository::new(&host, &path).ok()).any(|repository| scope.matches(&repository))
}
