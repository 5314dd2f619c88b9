//! Under which names the images of an archive are pushed.

use crate::domain::image::{ImageRef, normal_host, split_host, split_tag, valid_tag};

/// `REGISTRY[/PATH]`.
pub(super) struct Target(String);

impl Target {
    /// The registry must look like a host, so that a path alone is not taken for one of Docker Hub.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        let host = text.split('/').next().unwrap_or_default();
        if !(host.contains(['.', ':']) || host == "localhost") {
            return Err(format!("{text}: begin with the registry's host, such as registry.local/{text}"));
        }
        let target = Self(text.to_owned());
        target.name("name:tag").map(|_| target).map_err(|_| format!("{text}: not a registry with a path"))
    }

    /// The full name of an image that the archive calls so.
    pub(super) fn name(&self, called: &str) -> Result<ImageRef, String> {
        // A name with a digest is none to push under.
        let bad = |why: &str| format!("the archive names an image {called:?}, {why}");
        if called.contains('@') {
            return Err(bad("which has a digest"));
        }
        let (host, path) = split_host(called);
        if host.is_some_and(|host| normal_host(host).is_err()) {
            return Err(bad("whose registry is none"));
        }
        let (_, tag) = split_tag(path);
        let full = match tag {
            Some(_) => format!("{}/{path}", self.0),
            None if valid_tag(path) => format!("{}:{path}", self.0),
            None => return Err(bad("which has no tag")),
        };
        let image: ImageRef = full.parse().map_err(|error| bad(&format!("and {full:?} is no image: {error}")))?;
        if image.repository().host() == "docker.io" && !self.0.starts_with("docker.io") {
            return Err(bad("and without a path that is no image"));
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(target: &str, called: &str) -> Result<String, String> {
        Target::parse(target)?.name(called).map(|image| image.to_string())
    }

    #[test]
    fn names_go_below_the_target() {
        for (target, called, expected) in [
            ("registry.local/k8s", "pause:3.9", "registry.local/k8s/pause:3.9"),
            ("registry.local", "k8s-p10/pause:3.9", "registry.local/k8s-p10/pause:3.9"),
            ("registry.local/x/", "registry.k8s.io/a/pause:3.9", "registry.local/x/a/pause:3.9"),
            ("r.local:5000/x", "localhost:80/pause:3.9", "r.local:5000/x/pause:3.9"),
            ("registry.local/app", "3.9", "registry.local/app:3.9"),
        ] {
            assert_eq!(name(target, called).as_deref(), Ok(expected), "{target} {called}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (target, called) in [
            ("registry", "pause:3.9"),
            ("registry.local/UPPER", "pause:3.9"),
            ("registry.local/x", "../pause:3.9"),
            ("registry.local/x", "Pause:3.9"),
            ("registry.local/x", "a/b"),
            ("registry.local", "3.9"),
            ("registry.local/x", &format!("pause@sha256:{}", "a".repeat(64))),
            ("registry.local/x", ""),
            ("", "pause:3.9"),
        ] {
            assert!(name(target, called).is_err(), "{target} {called}");
        }
    }
}
