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
                let name = container.get("name");
                let status = statuses.iter().find(|status| status.get("name") == name && name.is_some());
                let said = |member| status.and_then(|status| text(status, member)).filter(|text| !text.is_empty());
                // Without an ID nothing was pulled yet, and the status repeats what the Pod names.
                let Some(id) = said("imageID") else { continue };
                let said = [Some(id), said("image")];
                let pulled: Vec<_> = said.iter().flatten().filter_map(|text| reference(text)).collect();
                // The name can be changed in a Pod that runs; what was pulled remains what the node says. The same name must be
                // in both: a registry that has the image is behind it.
                let wanted = text(container, "image").and_then(reference).map(|image| image.repository().clone());
                let wanted = wanted.filter(|name| pulled.iter().any(|image| image.repository() == name));
                for digest in said.iter().flatten().filter_map(|text| digest_of(text)) {
                    self.insert(digest, wanted.as_ref());
                }
            }
        }
    }

    /// A digest that is in use, and the name that it is known to be used under.
    fn insert(&mut self, digest: Digest, repository: Option<&Repository>) {
        if digest.algorithm() != Algorithm::Sha256 {
            return;
        }
        if self.images.len() >= MAX_IMAGES && !self.images.contains_key(&digest) {
            self.more = true;
            return;
        }
        let repositories = self.images.entry(digest).or_default();
        if repositories.len() < MAX_REPOSITORIES {
            repositories.extend(repository.cloned());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.images.contains_key(digest)
    }

    /// All that have a name, in their order, beginning behind the one that was last, so that every image has its turn.
    pub(super) fn after<'a>(
        &'a self,
        last: Option<&'a Digest>,
    ) -> impl Iterator<Item = (&'a Digest, &'a BTreeSet<Repository>)> {
        let named = |(_, names): &(&Digest, &BTreeSet<Repository>)| !names.is_empty();
        let behind = move |digest: &Digest| last.is_none_or(|last| digest > last);
        let later = self.images.iter().filter(move |(digest, _)| behind(digest));
        later.chain(self.images.iter().filter(move |(digest, _)| !behind(digest))).filter(named)
    }
}

fn list<'a>(pod: &'a Value, pointer: &str) -> &'a [Value] {
    pod.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

/// An image as a Pod, a kubelet or a runtime names it; `None` for what is no name, such as the runtime's own ID.
fn reference(text: &str) -> Option<ImageRef> {
    let text = text.strip_prefix("docker-pullable://").unwrap_or(text);
    // An ID would otherwise be a repository `sha256` with the rest as its tag.
    if text.parse::<Digest>().is_ok() { None } else { text.parse().ok() }
}

/// `NAME@sha256:HEX`; without a name in front it is the runtime's own ID and no digest of a manifest.
fn digest_of(image: &str) -> Option<Digest> {
    image.rsplit_once('@')?.1.parse().ok()
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

    fn seen(usage: &Usage) -> Vec<(String, Vec<String>)> {
        usage.after(None).map(|(d, names)| (d.to_string(), names.iter().map(ToString::to_string).collect())).collect()
    }

    /// The names of a running container's image: as its Pod has it now, and as its node has it.
    fn names(spec: &str, image: &str, id: &str) -> Vec<(String, Vec<String>)> {
        let mut usage = Usage::default();
        let spec = json!({"containers": [{"name": "c", "image": spec}]});
        usage.add(&pod(&spec, &json!({"containerStatuses": [{"name": "c", "image": image, "imageID": id}]})));
        seen(&usage)
    }

    #[test]
    fn images_count_by_the_digests_that_nodes_name() {
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
                {"name": "a", "image": "r.io/a:1", "imageID": format!("docker-pullable://mirror.io/a@{}", hex(1))},
                {"name": "b", "image": format!("r.io/b@{}", hex(2)), "imageID": hex(5)},
                {"name": "never", "image": format!("0evil.example.com/b@{}", hex(4)), "imageID": ""},
            ],
            "initContainerStatuses": [{"name": "a", "image": "r.io/c:1", "imageID": hex(3)}],
        });
        usage.add(&pod(&spec, &status));
        // The name is the one that the Pod gives: signatures are for that.
        assert_eq!(seen(&usage), [(hex(1), vec!["r.io/a".to_owned()]), (hex(2), vec!["r.io/b".to_owned()])]);
        usage.add(&pod(&json!({}), &json!({"containerStatuses": 1})));
        assert_eq!(usage.len(), 2);
    }

    #[test]
    fn a_name_that_a_running_pod_was_given_later_is_not_one_that_was_pulled() {
        let (pinned, id) = (format!("r.io/a@{}", hex(1)), format!("r.io/a@{}", hex(1)));
        assert_eq!(names(&pinned, &pinned, &id), [(hex(1), vec!["r.io/a".to_owned()])]);
        for other in [format!("other.io/a@{}", hex(1)), "other.io/a:1".to_owned(), "sha256:1".to_owned()] {
            assert_eq!(names(&other, &pinned, &id), [], "{other}");
        }
        // Nor is a digest.
        let other = format!("r.io/a@{}", hex(2));
        assert_eq!(names(&other, &pinned, &id), [(hex(1), vec!["r.io/a".to_owned()])]);
        // The image is in use all the same, and names that were never pulled take no room from one that was.
        let mut usage = Usage::default();
        let status = json!({"containerStatuses": [{"name": "c", "image": pinned, "imageID": id}]});
        let add = |usage: &mut Usage, name: &str| {
            usage.add(&pod(&json!({"containers": [{"name": "c", "image": name}]}), &status));
        };
        for n in 0..MAX_REPOSITORIES {
            add(&mut usage, &format!("0evil.io/{n}@{}", hex(1)));
        }
        assert!(usage.contains(&hex(1).parse().unwrap()) && seen(&usage).is_empty());
        add(&mut usage, &pinned);
        assert_eq!(seen(&usage), [(hex(1), vec!["r.io/a".to_owned()])]);
    }

    #[test]
    fn runtimes_write_names_in_their_own_ways() {
        let at = |name: &str| format!("{name}@{}", hex(1));
        let hub = vec![(hex(1), vec!["docker.io/library/nginx".to_owned()])];
        // containerd: a tag of the image, or its own ID where it was pulled by digest.
        assert_eq!(names("nginx:1", "docker.io/library/nginx:1", &at("docker.io/library/nginx")), hub);
        assert_eq!(names(&at("nginx"), &hex(9), &at("docker.io/library/nginx")), hub);
        assert_eq!(names("nginx", "docker.io/library/nginx:stable", &at("index.docker.io/library/nginx")), hub);
        // CRI-O: as the Pod wrote it, tag and digest included.
        assert_eq!(names(&at("nginx:1"), &at("nginx:1"), &at("mirror.io/nginx")), hub);
        // Docker.
        assert_eq!(names("nginx", "nginx:latest", &format!("docker-pullable://{}", at("nginx"))), hub);
        // Neither says the name: what is not certain makes no record.
        assert_eq!(names("nginx", &hex(9), &at("mirror.io/nginx")), []);
        assert_eq!(names("nginx", "nginx:latest", &hex(9)), []);
    }

    #[test]
    fn every_image_has_its_turn() {
        let mut usage = Usage::default();
        for n in 1..=3 {
            usage.insert(hex(n).parse().unwrap(), Some(&Repository::parse("r.io/a").unwrap()));
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
            usage.insert(hex(n).parse().unwrap(), Some(&repository));
        }
        assert!(!usage.more);
        usage.insert(hex(MAX_IMAGES).parse().unwrap(), Some(&repository));
        assert!(usage.more && usage.len() == MAX_IMAGES);
        for n in 0..10 {
            usage.insert(hex(0).parse().unwrap(), Some(&Repository::parse(&format!("r.io/{n}")).unwrap()));
        }
        assert_eq!(usage.after(None).next().unwrap().1.len(), MAX_REPOSITORIES);
    }
}
