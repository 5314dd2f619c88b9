//! Which images are in use, by what Pods and nodes say.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::cluster::read;
use crate::domain::digest::{Algorithm, Digest};
use crate::domain::image::{ImageRef, Repository};

/// Images that are kept in mind, at most. Whoever may make Pods decides how many there are.
pub(super) const MAX_IMAGES: usize = 20_000;
/// Repositories of one digest that signatures are looked for in, at most.
const MAX_REPOSITORIES: usize = 4;

/// Containers and the statuses of them.
const LISTS: [(&str, &str); 3] = [
    ("/spec/containers", "/status/containerStatuses"),
    ("/spec/initContainers", "/status/initContainerStatuses"),
    ("/spec/ephemeralContainers", "/status/ephemeralContainerStatuses"),
];

/// Digests in use, each with the repositories it is used from.
#[derive(Debug, Default)]
pub(super) struct Usage {
    images: BTreeMap<Digest, BTreeSet<Repository>>,
    /// There are more than are kept in mind, so that nothing is known to be unused.
    pub(super) more: bool,
}

impl Usage {
    /// Of all Pods that have not ended; the error says why they cannot be listed.
    pub(super) async fn of_cluster(client: &Client) -> Result<Self, String> {
        let mut usage = Self::default();
        let mut pages = read::pods(client, None);
        while let Some(page) = pages.next().await? {
            for pod in &page {
                usage.add(pod);
            }
        }
        Ok(usage)
    }

    pub(super) fn add(&mut self, pod: &DynamicObject) {
        for (containers, statuses) in LISTS {
            let statuses = list(&pod.data, statuses);
            for container in list(&pod.data, containers) {
                let Some(image) = text(container, "image").and_then(|image| image.parse::<ImageRef>().ok()) else {
                    continue;
                };
                let name = container.get("name");
                let status = statuses.iter().find(|status| status.get("name") == name && name.is_some());
                // What was pulled, and nothing that a Pod merely names: a registry that has it is behind the name.
                let Some(pulled) = status.and_then(|status| text(status, "imageID")).filter(|id| !id.is_empty()) else {
                    continue;
                };
                for digest in image.digest().cloned().into_iter().chain(digest_of(pulled)) {
                    self.insert(digest, image.repository());
                }
            }
        }
    }

    fn insert(&mut self, digest: Digest, repository: &Repository) {
        if digest.algorithm() != Algorithm::Sha256 {
            return;
        }
        if self.images.len() >= MAX_IMAGES && !self.images.contains_key(&digest) {
            self.more = true;
            return;
        }
        let repositories = self.images.entry(digest).or_default();
        if repositories.len() < MAX_REPOSITORIES {
            repositories.insert(repository.clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.images.contains_key(digest)
    }

    /// All in their order, beginning behind the one that was last, so that every image has its turn.
    pub(super) fn after<'a>(
        &'a self,
        last: Option<&'a Digest>,
    ) -> impl Iterator<Item = (&'a Digest, &'a BTreeSet<Repository>)> {
        let behind = move |digest: &Digest| last.is_none_or(|last| digest > last);
        let later = self.images.iter().filter(move |(digest, _)| behind(digest));
        later.chain(self.images.iter().filter(move |(digest, _)| !behind(digest)))
    }
}

fn list<'a>(pod: &'a Value, pointer: &str) -> &'a [Value] {
    pod.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

/// `NAME@sha256:HEX`; without a name in front it is the runtime's own ID and no digest of a manifest.
fn digest_of(image_id: &str) -> Option<Digest> {
    image_id.rsplit_once('@')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).unwrap()
    }

    fn hex(n: usize) -> String {
        format!("sha256:{n:064x}")
    }

    #[test]
    fn images_count_by_the_digest_they_name_and_by_the_one_that_runs() {
        let mut usage = Usage::default();
        let spec = json!({
            "containers": [
                {"name": "a", "image": "r.io/a:1"}, {"name": "b", "image": format!("r.io/b@{}", hex(2))},
                {"name": "never", "image": format!("0evil.example.com/b@{}", hex(4))},
            ],
            "initContainers": [{"name": "a", "image": "r.io/c:1"}, {"name": "x", "image": "not an image"}],
        });
        let status = json!({
            "containerStatuses": [
                {"name": "a", "imageID": format!("docker-pullable://mirror.io/a@{}", hex(1))},
                {"name": "b", "imageID": hex(5)},
                {"name": "never", "imageID": ""},
            ],
            "initContainerStatuses": [{"name": "a", "imageID": hex(3)}],
        });
        usage.add(&pod(&spec, &status));
        let seen: Vec<_> =
            usage.after(None).map(|(d, r)| (d.to_string(), r.iter().next().unwrap().to_string())).collect();
        // The name is the one that the Pod gives: signatures are for that.
        assert_eq!(seen, [(hex(1), "r.io/a".to_owned()), (hex(2), "r.io/b".to_owned())]);
        usage.add(&pod(&json!({}), &json!({"containerStatuses": 1})));
        assert_eq!(usage.len(), 2);
    }

    #[test]
    fn every_image_has_its_turn() {
        let mut usage = Usage::default();
        for n in 1..=3 {
            usage.insert(hex(n).parse().unwrap(), &Repository::parse("r.io/a").unwrap());
        }
        let second = hex(2).parse().unwrap();
        let order: Vec<_> = usage.after(Some(&second)).map(|(digest, _)| digest.to_string()).collect();
        assert_eq!(order, [hex(3), hex(1), hex(2)]);
    }

    #[test]
    fn what_pods_name_is_bounded() {
        let mut usage = Usage::default();
        let repository = Repository::parse("r.io/a").unwrap();
        for n in 0..MAX_IMAGES {
            usage.insert(hex(n).parse().unwrap(), &repository);
        }
        assert!(!usage.more);
        usage.insert(hex(MAX_IMAGES).parse().unwrap(), &repository);
        assert!(usage.more && usage.len() == MAX_IMAGES);
        for n in 0..10 {
            usage.insert(hex(0).parse().unwrap(), &Repository::parse(&format!("r.io/{n}")).unwrap());
        }
        assert_eq!(usage.after(None).next().unwrap().1.len(), MAX_REPOSITORIES);
    }
}
