//! Which images an object names, each with its field path, and which of them an update leaves as they were.

use std::collections::HashSet;

use serde::Deserialize;

use super::review::{Kind, Object};
use crate::cluster::denials::Owner;

type Objects<T> = Option<Vec<Object<T>>>;

/// What is read of an object: enough for Pods and for everything that holds a Pod template.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Workload {
    #[serde(default)]
    metadata: Option<Object<Metadata>>,
    #[serde(default)]
    spec: Option<Object<Spec>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    generate_name: Option<String>,
    #[serde(default)]
    owner_references: Objects<OwnerReference>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    controller: Option<bool>,
}

/// The union of a Pod's spec and the specs that lead to one.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    containers: Objects<Container>,
    #[serde(default)]
    init_containers: Objects<Container>,
    #[serde(default)]
    ephemeral_containers: Objects<Container>,
    #[serde(default)]
    volumes: Objects<Volume>,
    #[serde(default)]
    image_pull_secrets: Objects<Reference>,
    #[serde(default)]
    service_account_name: Option<String>,
    #[serde(default)]
    template: Option<Box<Object<Workload>>>,
    #[serde(default)]
    job_template: Option<Box<Object<Workload>>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Container {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    image: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Volume {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    image: Option<Object<ImageVolume>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct ImageVolume {
    #[serde(default)]
    reference: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Reference {
    #[serde(default)]
    name: Option<String>,
}

/// How an object of some kind holds a Pod's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A Pod.
    Pod,
    /// `spec.template.spec`.
    Template,
    /// `spec.jobTemplate.spec.template.spec`.
    CronJob,
}

impl Shape {
    /// The shape of a kind; `None` when podseal does not know it.
    pub fn of(kind: &Kind) -> Option<Self> {
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "Pod") => Some(Self::Pod),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("", "ReplicationController")
            | ("batch", "Job") => Some(Self::Template),
            ("batch", "CronJob") => Some(Self::CronJob),
            _ => None,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Pod => "spec",
            Self::Template => "spec.template.spec",
            Self::CronJob => "spec.jobTemplate.spec.template.spec",
        }
    }
}

/// An image where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// Field path, such as `spec.containers[0].image`.
    pub field: String,
    /// As written; empty when the field is missing.
    pub image: String,
}

impl NamedImage {
    /// The field as a JSON pointer (RFC 6901), for a patch of this very field. Field paths are made of names and indices
    /// alone, none of which needs escaping.
    pub fn pointer(&self) -> String {
        let mut pointer = String::with_capacity(self.field.len() + 1);
        pointer.push('/');
        pointer.extend(self.field.chars().filter(|c| *c != ']').map(|c| if matches!(c, '.' | '[') { '/' } else { c }));
        pointer
    }
}

/// A Pod's spec inside some object.
#[derive(Debug, Clone, Copy)]
pub struct PodSpec<'a> {
    spec: &'a Spec,
    prefix: &'static str,
}

impl Workload {
    /// The object's name, or the prefix the server will complete.
    pub fn name(&self) -> &str {
        let metadata = self.metadata.as_ref();
        metadata.and_then(|m| m.name.as_deref().or(m.generate_name.as_deref())).unwrap_or("")
    }

    /// What the object says it is controlled by, which decides nothing: anybody can write it.
    pub fn controller(&self) -> Option<Owner<'_>> {
        let owners = self.metadata.as_ref().and_then(|m| m.owner_references.as_ref());
        let owner = owners.into_iter().flatten().find(|owner| owner.controller == Some(true))?;
        Some(Owner {
            api_version: owner.api_version.as_deref().unwrap_or_default(),
            kind: owner.kind.as_deref().unwrap_or_default(),
            name: owner.name.as_deref().unwrap_or_default(),
            uid: owner.uid.as_deref().unwrap_or_default(),
        })
    }

    /// Whether the kubelet says that it made this Pod from a file of its node.
    pub fn is_mirror(&self) -> bool {
        let annotations = self.metadata.as_ref().and_then(|m| m.annotations.as_ref());
        annotations.is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
    }

    /// The Pod's spec; the error names the missing field.
    pub fn pod_spec(&self, shape: Shape) -> Result<PodSpec<'_>, String> {
        let missing = |field: &str| format!("{field} is missing");
        let own = self.spec.as_ref().ok_or_else(|| missing("spec"))?;
        let found = match shape {
            Shape::Pod => own,
            Shape::Template => template(own).ok_or_else(|| missing("spec.template.spec"))?,
            Shape::CronJob => {
                let job = own.job_template.as_ref().and_then(|job| job.0.spec.as_ref());
                job.and_then(|job| template(job)).ok_or_else(|| missing("spec.jobTemplate.spec.template.spec"))?
            }
        };
        let containers = found.containers.as_ref().is_some_and(|c| !c.is_empty());
        if !containers {
            return Err(format!("{}.containers is missing or empty", shape.prefix()));
        }
        Ok(PodSpec { spec: found, prefix: shape.prefix() })
    }
}

fn template(spec: &Spec) -> Option<&Object<Spec>> {
    spec.template.as_ref().and_then(|template| template.0.spec.as_ref())
}

/// The lists of a Pod's spec that name images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Containers,
    InitContainers,
    EphemeralContainers,
    Volumes,
}

const LISTS: [List; 4] = [List::Containers, List::InitContainers, List::EphemeralContainers, List::Volumes];

impl List {
    fn field(self) -> (&'static str, &'static str) {
        match self {
            Self::Containers => ("containers", "image"),
            Self::InitContainers => ("initContainers", "image"),
            Self::EphemeralContainers => ("ephemeralContainers", "image"),
            Self::Volumes => ("volumes", "image.reference"),
        }
    }
}

impl<'a> PodSpec<'a> {
    /// `spec.imagePullSecrets`.
    pub fn pull_secrets(&self) -> Vec<String> {
        let secrets = self.spec.image_pull_secrets.iter().flatten();
        secrets.filter_map(|s| s.name.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// `spec.serviceAccountName`, `default` when absent.
    pub fn service_account(&self) -> &'a str {
        self.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Every image, except those that the old spec holds in the same list under the same name with the same text.
    pub fn images(&self, old: Option<PodSpec<'_>>) -> Vec<NamedImage> {
        let mut found = Vec::new();
        for list in LISTS {
            let (field, leaf) = list.field();
            let before = old.iter().flat_map(|old| old.list(list));
            let before: HashSet<(&str, &str)> = before.filter_map(|(_, name, image)| Some((name?, image))).collect();
            for (i, name, image) in self.list(list) {
                if name.is_none_or(|name| !before.contains(&(name, image))) {
                    let field = format!("{}.{field}[{i}].{leaf}", self.prefix);
                    found.push(NamedImage { field, image: image.to_owned() });
                }
            }
        }
        found
    }

    /// Index, name and image of a list's elements; a volume that is no image volume is left out.
    fn list(&self, list: List) -> impl Iterator<Item = (usize, Option<&'a str>, &'a str)> + use<'a> {
        let spec = self.spec;
        let containers = match list {
            List::Containers => &spec.containers,
            List::InitContainers => &spec.init_containers,
            List::EphemeralContainers => &spec.ephemeral_containers,
            List::Volumes => &None,
        };
        let volumes = if list == List::Volumes { &spec.volumes } else { &None };
        let containers = containers.iter().flatten().enumerate();
        let containers = containers.map(|(i, c)| (i, c.name.as_deref(), c.image.as_deref().unwrap_or("")));
        let volumes = volumes.iter().flatten().enumerate();
        let volumes = volumes.filter_map(|(i, v)| {
            let image = v.image.as_ref()?;
            Some((i, v.name.as_deref(), image.reference.as_deref().unwrap_or("")))
        });
        containers.chain(volumes)
    }
}
