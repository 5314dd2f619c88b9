//! Decisions by a policy.json: the requirements of the one scope that speaks for an image, each through podseal's verifier.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::policy::{ContainersPolicy, Requirement, place};
use super::rule::{Kind, Rule, SignedRule, rule};
use crate::api::read_policy;
use crate::cluster::SecretData;
use crate::cluster::files::FileObjects;
use crate::domain::image::ImageRef;
use crate::domain::policy::{Entry, PolicyId};
use crate::domain::verdict::{Basis, Cause, Failure, Finding, ImageVerdict, Outcome, Pass, Refusal, RefusalKind};
use crate::fault::{Fault, FaultKind};
use crate::source::registries_d::{Names, RegistriesD};
use crate::verify::{PodContext, Verifier};

/// The namespace in references to what the policy names; it is in no cluster.
const NAMESPACE: &str = "policy-json";
const FILE: &str = "policy.json";

/// A policy.json, ready to decide by.
#[derive(Debug)]
pub struct Judge {
    policy: ContainersPolicy,
    /// By the place of their list, in its order; an error says why something cannot be used.
    rules: HashMap<String, Vec<Result<Prepared, String>>>,
    registries_d: RegistriesD,
    /// Registries without TLS, or with TLS that is not verified.
    insecure: Vec<String>,
}

#[derive(Debug)]
enum Prepared {
    Accept,
    Never(String),
    /// An entry without its registry.
    Entry(Kind, Value),
}

impl Judge {
    /// Reads all key files that the policy names for images of registries. The objects are what a verifier needs to
    /// judge by it. A file that cannot be read leaves open what depends on it, and nothing else.
    pub fn new(policy: ContainersPolicy, registries_d: RegistriesD, insecure: Vec<String>) -> (Self, FileObjects) {
        let mut objects = FileObjects::default();
        let mut rules = HashMap::new();
        let lists = policy.docker.iter().map(|(scope, list)| (place(scope), list));
        for (number, (at, list)) in lists.chain([("default".to_owned(), &policy.default)]).enumerate() {
            let prepare = |(i, requirement)| prepare(requirement, &format!("rule-{number}-{i}"), &mut objects);
            rules.insert(at, list.iter().enumerate().map(prepare).collect());
        }
        (Self { policy, rules, registries_d, insecure }, objects)
    }

    /// Decides about one image. Never fails and never takes longer than the deadline.
    ///
    /// The verifier must have the objects and the registries.d that this was made with, and ask registries before stores.
    pub async fn judge(
        &self,
        verifier: &Verifier,
        image: &str,
        pod: &PodContext<'_>,
        deadline: Instant,
    ) -> ImageVerdict {
        let parsed: ImageRef = match image.parse() {
            Ok(parsed) => parsed,
            Err(error) => return decided(image, refused(None, RefusalKind::MalformedImage, error)),
        };
        let odd = Names::as_written(image, &parsed);
        let spelled = odd.is_some();
        let names = odd.unwrap_or_else(|| Names::of(&parsed));
        let (at, _) = self.policy.requirements_for(&names);
        let prepared = self.rules.get(&at).map(Vec::as_slice).unwrap_or_default();
        let entries = match self.entries(&at, prepared, &parsed, &names) {
            Ok(entries) => entries,
            Err(outcome) => return decided(image, outcome),
        };
        if entries.is_empty() {
            let pass = Pass { method: None, signer: None };
            return decided(image, Outcome::Allowed(Basis::Policy { policy: format!("{FILE} {at}"), pass }));
        }
        if spelled {
            // Nodes look for signatures, and compare the names in them, by the host as it is written.
            let why = format!(
                "write the host as {}: signatures are not looked for by another form",
                parsed.repository().host()
            );
            return decided(image, undecided(format!("{FILE} {at}"), &why));
        }
        let (entries, places): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let names: BTreeMap<_, _> = entries.iter().map(ToString::to_string).zip(places).collect();
        let mut verdict = verifier.judge_by(entries, &parsed, pod, deadline).await;
        image.clone_into(&mut verdict.image);
        rename(&mut verdict.outcome, &names);
        verdict
    }

    /// What an image has to pass, each with its place; an outcome when nothing has to be asked for it.
    fn entries(
        &self,
        at: &str,
        prepared: &[Result<Prepared, String>],
        image: &ImageRef,
        names: &Names,
    ) -> Result<Vec<(Arc<Entry>, String)>, Outcome> {
        let (mut entries, mut open) = (Vec::new(), None);
        // A list is never empty; without any requirement nothing would have been asked.
        if prepared.is_empty() {
            let why = "there is no requirement for it";
            return Err(refused(Some(format!("{FILE} {at}")), RefusalKind::Rejected, why));
        }
        for (i, rule) in prepared.iter().enumerate() {
            let place = format!("{FILE} {at}[{i}]");
            let attachments = self.registries_d.sigstore_attachments(names);
            match rule {
                Ok(Prepared::Accept) => {}
                Ok(Prepared::Never(why)) => return Err(refused(Some(place), RefusalKind::Rejected, why)),
                Ok(Prepared::Entry(Kind::Sigstore, _)) if !attachments => {
                    let why = "no section of registries.d for it has use-sigstore-attachments: true, so that nodes look \
                               for no sigstore signature";
                    return Err(refused(Some(place), RefusalKind::Rejected, why));
                }
                Ok(Prepared::Entry(_, entry)) => match self.entry(entry, i, image) {
                    Some(entry) => entries.push((entry, place)),
                    None => open = Some(undecided(place, "the requirement cannot be used as an entry")),
                },
                Err(why) => open = Some(undecided(place, why)),
            }
        }
        open.map_or(Ok(entries), Err)
    }

    fn entry(&self, entry: &Value, index: usize, image: &ImageRef) -> Option<Arc<Entry>> {
        let mut entry = entry.clone();
        let host = image.repository().host();
        entry["registry"] = host.into();
        entry["insecure"] = self.insecure.iter().any(|insecure| insecure == host).into();
        // One policy for each, so that each has a name of its own.
        let id = PolicyId::cluster(&format!("{FILE}-{index}"));
        read_policy(id, &json!({"spec": {"registries": [entry]}})).entries.first().cloned()
    }
}

fn prepare(requirement: &Requirement, name: &str, objects: &mut FileObjects) -> Result<Prepared, String> {
    let signed = match rule(requirement)? {
        Rule::Accept => return Ok(Prepared::Accept),
        Rule::Never(why) => return Ok(Prepared::Never(why)),
        Rule::Signed(signed) => signed,
    };
    let SignedRule { kind, keys, trust_root, .. } = *signed.clone();
    let key = (NAMESPACE.to_owned(), name.to_owned());
    if !keys.is_empty() {
        let data = keys.into_iter().map(|(name, content)| (name, Bytes::from(content))).collect();
        objects.secrets.insert(key.clone(), Arc::new(SecretData::new(data, false)));
    }
    if let Some(root) = trust_root {
        let data = BTreeMap::from([("trusted_root.json".to_owned(), Bytes::from(root))]);
        objects.config_maps.insert(key, Arc::new(SecretData::new(data, false)));
    }
    let reference = format!("k8s://{NAMESPACE}/{name}");
    Ok(Prepared::Entry(kind, Value::Object(signed.entry(&reference, &reference))))
}

fn decided(image: &str, outcome: Outcome) -> ImageVerdict {
    let digest = image.parse::<ImageRef>().ok().and_then(|image| image.digest().cloned());
    ImageVerdict {
        image: image.to_owned(),
        digest,
        outcome,
        warned: Vec::new(),
        audited: Vec::new(),
        remarks: Vec::new(),
        cached: false,
    }
}

fn refused(policy: Option<String>, kind: RefusalKind, why: impl std::fmt::Display) -> Outcome {
    let cause = Cause::Refused(Refusal::new(kind, why.to_string()));
    Outcome::Denied(vec![Finding { policy, failures: vec![Failure { method: None, cause }] }])
}

fn undecided(place: String, why: &str) -> Outcome {
    let cause = Cause::Undecided(Fault::new(FaultKind::Configuration, why));
    Outcome::Undecided(vec![Finding { policy: Some(place), failures: vec![Failure { method: None, cause }] }])
}

/// Puts the places in the file where the names of entries are.
fn rename(outcome: &mut Outcome, names: &BTreeMap<String, String>) {
    let place = |name: &mut String| {
        if let Some(place) = names.get(name) {
            place.clone_into(name);
        }
    };
    match outcome {
        Outcome::Allowed(Basis::Policy { policy, .. }) => place(policy),
        Outcome::Allowed(_) => {}
        Outcome::Denied(findings) | Outcome::Undecided(findings) => {
            findings.iter_mut().filter_map(|finding| finding.policy.as_mut()).for_each(place);
        }
    }
}
