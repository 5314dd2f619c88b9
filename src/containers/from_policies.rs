//! Policies as the configuration of nodes, which then hold what they pull to what admission asks of it: a tag that moved
//! after admission does not run either.
//!
//! ```text
//!   entries of one registry    the requirements of one scope: all of both must be met
//!   GPG keys                   signedBy, a key file, a section of registries.d
//!   cosign keys, identities    sigstoreSigned, key files, use-sigstore-attachments
//!   what cannot be said        reject, and a note
//! ```
//! A node knows neither namespaces nor the whitelist.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::node_rules::{Made, Material, Sources};
use crate::cluster::Objects;
use crate::domain::policy::{Action, Check, Entry, Policy};
use crate::domain::scope::{HostPattern, Scope};

/// Where the files will be on a node.
#[derive(Debug, Clone)]
pub struct Node {
    /// The directory of the key files.
    pub keys: String,
}

/// The files of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFiles {
    /// `policy.json`.
    pub policy: String,
    /// A file for `registries.d`.
    pub registries_d: String,
    /// Key files by name.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// What is not the same, a line each.
    pub notes: Vec<String>,
}

/// What one scope is to ask for.
#[derive(Debug, Default)]
struct Cell {
    requirements: Vec<Value>,
    store: Option<String>,
    attachments: bool,
}

/// Converts the policies of a cluster. `now` decides which signers keys belong to; the error says what could not be read.
pub async fn node_files(
    policies: &[Policy],
    objects: &dyn Objects,
    node: &Node,
    now: SystemTime,
    deadline: Instant,
) -> Result<NodeFiles, String> {
    let mut files =
        Making { material: Material::new(node, now), cells: BTreeMap::new(), wide: Vec::new(), notes: Vec::new() };
    let mut entries: Vec<_> = Vec::new();
    for policy in policies {
        if policy.id.namespace.is_none() {
            entries.extend(&policy.entries);
        } else {
            let why = "nodes know no namespaces: left out, so that it is asked for at admission alone, and registries that \
                        no cluster policy names are rejected";
            files.notes.push(format!("{}: {why}", policy.id));
        }
        for problem in policy.problems.iter().filter(|problem| problem.error) {
            files.notes.push(format!("{}: {problem}", policy.id));
        }
    }
    if !policies.iter().any(|policy| policy.id.namespace.is_none()) {
        return Err(
            "there is no ClusterRegistrySecurityPolicy, and without one nothing says what nodes are to ask for"
                .to_owned(),
        );
    }
    // In one order, so that the same policies give the same files.
    entries.sort_by(|a, b| (&a.scope, &a.policy, a.index).cmp(&(&b.scope, &b.policy, b.index)));
    for entry in entries {
        let sources = Sources::read(entry, objects, deadline).await?;
        files.entry(entry, &sources);
    }
    files.domains();
    files.spellings();
    Ok(files.finish())
}

struct Making<'a> {
    material: Material<'a>,
    /// By scope as policy.json has it; `""` is the transport's default.
    cells: BTreeMap<String, Cell>,
    /// The entries for domains and for `*`, with what became of each.
    wide: Vec<(&'a Entry, Made)>,
    notes: Vec<String>,
}

impl<'a> Making<'a> {
    fn entry(&mut self, entry: &'a Entry, sources: &Sources) {
        let made = match (&entry.check, entry.action) {
            (Check::Broken(why), _) => Made::never(format!("the entry cannot be read ({why})")),
            (_, Action::Warn | Action::Audit) => {
                Made { notes: vec!["it does not enforce, so nodes accept every image".to_owned()], ..Made::accept() }
            }
            (Check::Unchecked, _) => Made::accept(),
            (Check::Signed(check), _) => self.material.requirement(check, sources),
        };
        let mut notes = made.notes.clone();
        if entry.require_digest {
            notes.push("nodes cannot ask for a digest: requireDigest is for admission alone".to_owned());
        }
        if let Some(why) = &made.never {
            notes.push(format!("rejected on nodes: {why}"));
        }
        self.notes.extend(notes.into_iter().map(|note| format!("{entry} ({}): {note}", entry.scope)));
        for scope in Self::scopes(entry) {
            self.add(&scope, &made, entry);
        }
        if !matches!(entry.scope.host, HostPattern::Exact(_)) {
            self.wide.push((entry, made));
        }
    }

    /// The scopes that cover what the entry does.
    fn scopes(entry: &Entry) -> Vec<String> {
        let Scope { host, path } = &entry.scope;
        match host {
            HostPattern::Any => vec![String::new()],
            HostPattern::Exact(host) if path.is_empty() => vec![host.to_string()],
            // The official image of that name is meant as well.
            HostPattern::Exact(host) if &**host == "docker.io" && !path.contains('/') => {
                vec![format!("{host}/{path}"), format!("{host}/library/{path}")]
            }
            HostPattern::Exact(host) => vec![format!("{host}/{path}")],
            HostPattern::Suffix(domain) => {
                // Nodes know domains without port and path alone.
                vec![format!("*.{}", without_port(domain))]
            }
        }
    }

    fn add(&mut self, scope: &str, made: &Made, entry: &Entry) {
        let cell = self.cells.entry(scope.to_owned()).or_default();
        for requirement in &made.requirements {
            if !cell.requirements.contains(requirement) {
                cell.requirements.push(requirement.clone());
            }
        }
        cell.attachments |= made.attachments;
        match (&cell.store, &made.store) {
            (Some(one), Some(other)) if one != other => {
                cell.requirements.push(json!({"type": "reject"}));
                self.notes.push(format!(
                    "{entry} ({}): another entry names another lookaside for it, and nodes have one: rejected",
                    entry.scope
                ));
            }
            (None, Some(store)) => cell.store = Some(store.clone()),
            _ => {}
        }
    }

    /// A domain covers all of its hosts on nodes, with any port and path. So it gets what the entries for wider domains and
    /// for `*` ask for besides, as far as policies hold some of these hosts to them.
    fn domains(&mut self) {
        let wide = std::mem::take(&mut self.wide);
        let domains: Vec<_> =
            self.cells.keys().filter_map(|scope| scope.strip_prefix("*.").map(str::to_owned)).collect();
        for domain in domains {
            self.domain(&domain, &wide);
        }
    }

    fn domain(&mut self, domain: &str, wide: &[(&Entry, Made)]) {
        let scope = format!("*.{domain}");
        let before = self.cells.get(&scope).map_or(0, |cell| cell.requirements.len());
        // Whether some hosts without port, and some with one, fall to something wider.
        let mut rest = !wide.iter().any(|(entry, _)| is_whole(entry, domain));
        let mut level = domain;
        while let Some((_, above)) = level.split_once('.') {
            level = above;
            for (entry, made) in wide.iter().filter(|(entry, _)| domain_of(entry) == Some(level)) {
                if rest || has_port(entry) {
                    self.add(&scope, made, entry);
                }
            }
            rest = rest && !wide.iter().any(|(entry, _)| is_whole(entry, level));
        }
        let everything: Vec<_> = wide.iter().filter(|(entry, _)| entry.scope.host == HostPattern::Any).collect();
        // Nothing covers them, or what does lets nothing pass.
        let denied = everything.is_empty() || everything.iter().any(|(_, made)| made.never.is_some());
        if rest || !denied {
            for (entry, made) in &everything {
                self.add(&scope, made, entry);
            }
        }
        let Some(cell) = self.cells.get_mut(&scope) else { return };
        let accepts = cell.requirements.iter().all(|r| r["type"] == "insecureAcceptAnything");
        if denied && (rest || accepts) {
            cell.requirements.push(json!({"type": "reject"}));
            let hosts = if rest { "ports and paths" } else { "hosts with a port" };
            self.notes.push(format!(
                "{scope}: on nodes it covers {hosts}, too, that no entry accepts: rejected; name the hosts, or add an entry for \
                 all of {scope}"
            ));
        } else if denied {
            self.notes.push(format!(
                "{scope}: weaker on nodes: on nodes it covers hosts with a port, too, which policies deny: name the hosts"
            ));
        } else if cell.requirements.len() > before {
            self.notes.push(format!(
                "{scope}: on nodes it covers hosts with every port and path: asked for besides is what wider entries ask for \
                 there; name the hosts to have them apart"
            ));
        }
    }

    /// Nodes choose scopes by the host as it is written, so that another way to write it is a way round a scope.
    fn spellings(&mut self) {
        let wide = |scope: &str| scope.is_empty() || scope.starts_with("*.");
        let Some((_, one)) = self.cells.iter().find(|(scope, _)| wide(scope)) else { return };
        let same = |cell: &Cell| cell.requirements == one.requirements && cell.store == one.store;
        if !self.cells.values().all(same) {
            self.notes.push(
                "weaker on nodes: nodes compare hosts as they are written, so that REG.EXAMPLE/app falls to a wider scope than \
                 reg.example, and registry-1.docker.io to a wider one than docker.io; admission holds both to the same"
                    .to_owned(),
            );
        }
    }

    fn finish(self) -> NodeFiles {
        let mut docker = serde_json::Map::new();
        let (mut default, mut sections) = (String::new(), String::new());
        for (scope, cell) in self.cells {
            if scope.is_empty() {
                default = cell.section("  ");
            } else if let section = cell.section("    ")
                && !section.is_empty()
            {
                let _ = write!(sections, "  {}:\n{section}", Value::from(scope.as_str()));
            }
            docker.insert(scope, cell.list().into());
        }
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": docker}});
        let mut notes = self.notes;
        notes.push(
            "nodes hold every image to this, those of exempt and whitelisted namespaces, of the whitelist and of the node \
             itself (sandbox, network) included: add scopes for them"
                .to_owned(),
        );
        let mut registries_d = "# Made by podseal convert.\n".to_owned();
        for (name, text) in [("default-docker", default), ("docker", sections)] {
            if !text.is_empty() {
                let _ = write!(registries_d, "{name}:\n{text}");
            }
        }
        NodeFiles { policy: format!("{policy:#}\n"), registries_d, keys: self.material.into_files(), notes }
    }
}

/// `domain[:port]` without the port.
fn without_port(domain: &str) -> &str {
    domain.split(':').next().unwrap_or(domain)
}

/// The domain that an entry is for, without port.
fn domain_of(entry: &Entry) -> Option<&str> {
    if let HostPattern::Suffix(domain) = &entry.scope.host { Some(without_port(domain)) } else { None }
}

fn has_port(entry: &Entry) -> bool {
    matches!(&entry.scope.host, HostPattern::Suffix(domain) if domain.contains(':'))
}

/// Whether the entry covers all hosts of the domain that have no port.
fn is_whole(entry: &Entry, domain: &str) -> bool {
    entry.scope.path.is_empty() && !has_port(entry) && domain_of(entry) == Some(domain)
}

impl Cell {
    /// The section of registries.d, with this in front of each line; empty when there is nothing to say.
    fn section(&self, indent: &str) -> String {
        let store = self.store.as_ref().map(|store| format!("{indent}lookaside: {}\n", Value::from(store.as_str())));
        let attachments = self.attachments.then(|| format!("{indent}use-sigstore-attachments: true\n"));
        [store, attachments].into_iter().flatten().collect()
    }

    /// The requirements without those that change nothing.
    fn list(self) -> Vec<Value> {
        let is = |requirement: &Value, kind: &str| requirement["type"] == kind;
        let mut list = self.requirements;
        if list.iter().any(|requirement| is(requirement, "reject")) {
            return vec![json!({"type": "reject"})];
        }
        if list.iter().any(|requirement| !is(requirement, "insecureAcceptAnything")) {
            list.retain(|requirement| !is(requirement, "insecureAcceptAnything"));
        }
        list
    }
}
