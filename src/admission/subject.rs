//! What a review is about: which exemptions hold, which images are to be looked at.

use std::collections::HashSet;

use super::fold::Judged;
use super::images::{NamedImage, PodSpec, Shape, Workload};
use super::review::{self, Request};
use super::{AdmissionConfig, Templates};
use crate::verify::PodContext;

/// Images of one object, at most: many times what any real one holds.
const MAX_IMAGES: usize = 256;

/// A Pod, or what makes Pods, whose images are to be looked at.
pub(super) struct Subject<'a> {
    /// The request's namespace.
    pub(super) namespace: &'a str,
    /// How the object holds its Pod.
    pub(super) shape: Shape,
    /// The Pod.
    pub(super) pod: PodSpec<'a>,
    /// The images that are new or changed.
    pub(super) images: Vec<NamedImage>,
    /// The API server throws away what comes of it.
    dry_run: bool,
}

impl<'a> Subject<'a> {
    /// What is to be looked at, or the answer when nothing is: allowed because of an exemption, refused because the
    /// request cannot be read as what it claims to be.
    pub(super) fn of(config: &AdmissionConfig, request: &'a Request<Workload>) -> Result<Self, Box<Judged>> {
        let allowed = |why| Err(Box::new(Judged::allowed(why)));
        let refused = |why: String| Box::new(Judged::refused(why));
        match request.operation.as_str() {
            "CREATE" | "UPDATE" => {}
            "DELETE" | "CONNECT" => return allowed("operation is never judged"),
            other => return Err(refused(format!("podseal does not know the operation {:?}", review::short(other)))),
        }
        let namespace = request.namespace.as_deref().unwrap_or("");
        if namespace.is_empty() {
            return Err(refused("the review names no namespace".to_owned()));
        }
        if config.is_exempt(namespace) {
            return allowed("exempt namespace");
        }
        let kind = &request.kind;
        let unknown = || refused(format!("podseal does not know how to read {}/{}", kind.group, kind.kind));
        let shape = Shape::of(kind).ok_or_else(unknown)?;
        if shape != Shape::Pod && config.templates == Templates::Off {
            return allowed("templates are not judged");
        }
        let object = request.object.as_ref().ok_or_else(|| refused("the review holds no object".to_owned()))?;
        if shape == Shape::Pod && object.is_mirror() && from_node(request) {
            return allowed("mirror Pod of a static Pod");
        }
        let unreadable = |error| refused(format!("the {} cannot be read: {error}", kind.kind));
        let pod = object.pod_spec(shape).map_err(unreadable)?;
        let old = request.old_object.as_ref().filter(|_| request.operation == "UPDATE");
        let images = pod.images(old.and_then(|old| old.pod_spec(shape).ok()));
        if images.len() > MAX_IMAGES {
            return Err(refused(format!("the {} names more than {MAX_IMAGES} images", kind.kind)));
        }
        Ok(Self { namespace, shape, pod, images, dry_run: request.dry_run == Some(true) })
    }

    /// Each image once, in the order in which they first occur.
    pub(super) fn distinct(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.images.iter().map(|named| named.image.as_str()).filter(|image| seen.insert(*image)).collect()
    }

    /// On whose behalf registries are asked.
    pub(super) fn context<'b>(&'b self, pull_secrets: &'b [String]) -> PodContext<'b> {
        let service_account = self.pod.service_account();
        PodContext { namespace: self.namespace, pull_secrets, service_account, dry_run: self.dry_run }
    }
}

impl Request<Workload> {
    /// The object's name, or the prefix of the one that the server will make.
    pub(super) fn object_name(&self) -> Option<&str> {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        name.or_else(|| self.object.as_ref().map(|object| object.name()))
    }
}

/// Nodes authenticate as `system:node:<name>` in the group `system:nodes`; both are set by the API server.
fn from_node(request: &Request<Workload>) -> bool {
    request.user_info.as_ref().is_some_and(|user| {
        user.username.as_deref().is_some_and(|name| name.starts_with("system:node:"))
            && user.groups.iter().flatten().any(|group| group == "system:nodes")
    })
}
