//! `podseal explain`: why an image may run in a namespace, or not, with the rights of whoever asks.

mod entries;
mod found;
mod keys;
mod report;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::time::Instant;

use self::entries::Governing;
use self::found::Search;
use self::report::Explanation;
use super::args::{ExplainCommand, Format, LogFormat};
use super::check::rows::{Worth, row};
use super::output::{complain, print};
use super::verify::report::Row;
use super::{USAGE, runtime, serve};
use crate::admission::images::NamedImage;
use crate::api::PolicyKind;
use crate::api::image_signature::ImageSignature;
use crate::cluster::read;
use crate::cluster::remote::RemoteObjects;
use crate::cluster::roots::ClusterRoots;
use crate::cluster::{Inputs, Snapshot};
use crate::domain::digest::Digest;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::policy::{Check, Entry, Policy, PolicySet};
use crate::domain::whitelist::Whitelist;
use crate::records::cluster::Records;
use crate::records::examine::shown;
use crate::records::hold;
use crate::records::object;
use crate::signature::openpgp::Keyring;
use crate::source::registries_d::RegistriesD;
use crate::telemetry::Metrics;
use crate::verify::{CacheLimits, PodContext};

pub(super) fn run(command: &ExplainCommand, verbose: u8) -> ExitCode {
    let _logs = serve::logs(LogFormat::Text, verbose, "error");
    let done = runtime().and_then(|runtime| runtime.block_on(explain(command)));
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(USAGE)
    })
}

/// What the cluster says, as far as the caller may read it.
struct Known {
    /// Cluster policies first.
    policies: Vec<(Policy, Value)>,
    /// Of what could be read.
    snapshot: Arc<Snapshot>,
    /// What could not be read; a verdict needs everything.
    missing: Vec<String>,
}

impl Known {
    async fn read(client: &Client, namespace: &str, own_namespace: &str) -> Self {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for kind in [PolicyKind::Cluster, PolicyKind::Namespaced] {
            match read::policies_of(client, kind, Some(namespace)).await {
                Ok(policies) => all.extend(policies),
                Err(why) => missing.push(why),
            }
        }
        // Whoever may not look at the namespace has typed its name correctly, or not: nobody can say.
        if let Ok(None) = Api::<Namespace>::all(client.clone()).get_opt(namespace).await {
            missing.push(format!("there is no namespace {namespace}"));
        }
        let whitelist = read::whitelist(client, own_namespace).await.unwrap_or_else(|why| {
            missing.push(why);
            Whitelist::default()
        });
        let snapshot = Inputs::complete(all.iter().map(|(policy, _)| policy.clone()), whitelist).current();
        Self { policies: all, snapshot, missing }
    }

    /// The object of a policy.
    fn object(&self, entry: &Entry) -> Option<&Value> {
        self.policies.iter().find(|(policy, _)| policy.id == entry.policy).map(|(_, object)| object)
    }
}

async fn explain(command: &ExplainCommand) -> Result<ExitCode, String> {
    let kubernetes = serve::kube_config_of(&command.cluster).await?;
    let namespace = command.namespace.clone().unwrap_or_else(|| kubernetes.default_namespace.clone());
    let url = kubernetes.cluster_url.clone();
    let client = Client::try_from(kubernetes).map_err(|e| format!("the Kubernetes client cannot be set up: {e}"))?;
    let known = Known::read(&client, &namespace, &command.decision.own_namespace).await;
    let addresses = match serve::find_api_servers(client.clone(), url.clone(), Vec::new()).await {
        Ok(addresses) => addresses,
        Err(_) => serve::api_server_addresses(&url, &[]),
    };
    let mut told = Explanation {
        image: shown(&command.image),
        digest: None,
        namespace: namespace.clone(),
        whitelist: None,
        governing: Vec::new(),
        overruled: Vec::new(),
        recorded: Vec::new(),
        notes: known.missing.clone(),
        verdict: None,
    };
    let asked = Asked { command, client: &client, namespace: &namespace, known: &known, addresses };
    let worth = asked.answer(&mut told).await?;
    match command.output {
        Format::Table => print(&told.text()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&told).map_err(|e| format!("cannot be written as JSON: {e}"))?;
            print(&(json + "\n"));
        }
    }
    Ok(ExitCode::from(worth.code()))
}

/// The question and what is known.
struct Asked<'a> {
    command: &'a ExplainCommand,
    client: &'a Client,
    namespace: &'a str,
    known: &'a Known,
    addresses: Vec<std::net::IpAddr>,
}

impl Asked<'_> {
    async fn answer(&self, told: &mut Explanation) -> Result<Worth, String> {
        let objects = Arc::new(RemoteObjects::new(self.client.clone(), "", Arc::new(ArcSwapOption::empty())));
        let image = self.command.image.parse::<ImageRef>();
        told.whitelist = self.whitelisted(image.as_ref().ok());
        let worth = self.judge(objects.clone(), told).await?;
        if let Ok(image) = &image {
            self.entries(image, &objects, told).await?;
        }
        Ok(worth)
    }

    fn whitelisted(&self, image: Option<&ImageRef>) -> Option<String> {
        let (namespace, whitelist, decision) = (self.namespace, &self.known.snapshot.whitelist, &self.command.decision);
        let exempt = ["kube-system", &decision.own_namespace].contains(&namespace)
            || decision.exempt_namespace.iter().any(|name| name == namespace);
        if exempt {
            return Some(format!("podseal is not asked about Pods of the namespace {namespace}, which is exempt"));
        }
        if whitelist.allows_namespace(namespace) {
            return Some(format!("the namespace {namespace} is whitelisted"));
        }
        let line = whitelist.allows_image(image?)?;
        Some(format!("the line {} of whitelist-images matches", shown(&line)))
    }

    /// The decision of the webhook, if all that it needs can be read.
    async fn judge(&self, objects: Arc<RemoteObjects>, told: &mut Explanation) -> Result<Worth, String> {
        let command = self.command;
        if !self.known.missing.is_empty() {
            return Ok(Worth::Error);
        }
        let serving = Some((CacheLimits::default(), self.addresses.clone()));
        let metrics = Arc::new(Metrics::new());
        let verifier = serve::verifier(&command.source, &command.decision, serving, objects, metrics)?;
        let roots = ClusterRoots::new(self.client.clone(), &command.decision.own_namespace).only_reading();
        let verifier = verifier.with_roots(Arc::new(roots));
        let pod = PodContext {
            namespace: self.namespace,
            pull_secrets: &[],
            service_account: &command.service_account,
            dry_run: true,
        };
        let verdict =
            verifier.judge(&self.known.snapshot, &command.image, &pod, Instant::now() + command.timeout).await;
        let named = NamedImage { field: "spec.containers[0].image".to_owned(), image: command.image.clone() };
        told.digest = verdict.digest.as_ref().map(ToString::to_string);
        let row = row(&format!("{}/Pod", self.namespace), &named, &verdict);
        let worth = row.worth();
        told.verdict = Some(row);
        Ok(worth)
    }

    /// Which entries govern, with their keys and the signatures they are about.
    async fn entries(&self, image: &ImageRef, objects: &RemoteObjects, told: &mut Explanation) -> Result<(), String> {
        let command = self.command;
        let deadline = Instant::now() + command.timeout;
        let set = PolicySet::new(self.known.policies.iter().map(|(policy, _)| policy));
        let sides =
            [set.governing_cluster(image.repository()), set.governing_namespaced(self.namespace, image.repository())];
        let own = command.source.docker_config.as_deref().map(serve::read_docker_config).transpose()?;
        let registries_d = match &command.source.registries_d {
            Some(directory) => RegistriesD::load(directory)?,
            None => RegistriesD::default(),
        };
        let upstream = serve::upstream(&command.source, self.addresses.clone(), Arc::new(Metrics::new()))?;
        let credentials = found::credentials(objects, self.namespace, &command.service_account, own, deadline).await;
        let decision = &command.decision;
        let (shared, own_namespace) = (&decision.shared_namespace[..], decision.own_namespace.as_str());
        let reader = keys::Reader { objects, shared, own_namespace, deadline };
        let (registries_d, reader) = (&registries_d, &reader);
        let search = Search { upstream: &upstream, registries_d, credentials, reader, image, deadline };
        let mut digest = image.digest().cloned();
        for (cluster, governing) in [(true, &sides[0]), (false, &sides[1])] {
            let all = self.known.policies.iter().flat_map(|(policy, _)| policy.entries.iter());
            let all = all.filter(|entry| entry.is_cluster() == cluster).map(AsRef::as_ref);
            let borrowed: Vec<&Entry> = governing.iter().map(AsRef::as_ref).collect();
            told.overruled.extend(entries::overruled(all, image.repository(), &borrowed));
            for entry in borrowed {
                let (lists, keyring) = reader.keys(entry, self.known.object(entry)).await;
                let mut shown = Governing::of(entry, governing.len(), lists);
                shown.signatures = self.signatures(&search, entry, keyring.as_ref(), &mut digest, told).await;
                told.governing.push(shown);
            }
        }
        if let Some(digest) = &digest {
            told.digest = Some(digest.to_string());
            self.recorded(image.repository(), digest, told).await;
        }
        Ok(())
    }

    /// The GPG signatures for an entry; what stands in the way is told.
    async fn signatures(
        &self,
        search: &Search<'_>,
        entry: &Entry,
        keyring: Option<&Keyring>,
        digest: &mut Option<Digest>,
        told: &mut Explanation,
    ) -> Vec<Row> {
        if !matches!(entry.check, Check::Signed(_)) {
            return Vec::new();
        }
        let known = match digest.clone() {
            Some(known) => Ok(known),
            None => search.digest(entry).await,
        };
        let found = match &known {
            Ok(known) => {
                search.signatures(entry, known, keyring).await.map_err(|why| format!("signatures for {entry}: {why}"))
            }
            Err(why) => Err(format!("the digest of {}: {why}", told.image)),
        };
        *digest = known.ok();
        found.unwrap_or_else(|note| {
            told.notes.push(note);
            Vec::new()
        })
    }

    /// What auditors wrote down. Most callers may not read it, and it decides nothing: that is not worth a word.
    async fn recorded(&self, repository: &Repository, digest: &Digest, told: &mut Explanation) {
        let all = Records::new(self.client.clone()).of(digest, &BTreeSet::new()).await.unwrap_or_default();
        let counts = |record: &&ImageSignature| object::is_of(record, repository) && !hold::is_going(record);
        let of_repository = all.records.iter().filter(counts);
        told.recorded.extend(of_repository.map(sentence));
    }
}

fn sentence(record: &ImageSignature) -> String {
    let name = record.name_any();
    let Some(status) = record.status.as_ref().filter(|_| record.is(object::VERIFIED)) else {
        return format!("{name}: not verified by anybody");
    };
    let by = status.signer.as_ref().map(|s| s.user_ids.first().unwrap_or(&s.fingerprint).clone()).unwrap_or_default();
    let auditor = status.verified_by.as_deref().map(|user| format!(" by {user}")).unwrap_or_default();
    let identity = status.identity.as_deref().unwrap_or("an unknown name");
    shown(&format!("{name}: signed by {by} as {identity}, verified{auditor}"))
}
