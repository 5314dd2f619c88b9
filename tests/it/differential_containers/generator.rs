//! Policies and registries.d from a seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{ORIGINAL, World};
use crate::support::registry::Image;

/// One question.
pub(super) struct Case {
    pub(super) policy: Value,
    pub(super) registries_d: String,
    /// As a Pod names it.
    pub(super) image: String,
}

/// Makes the same cases of the same seed.
pub(super) struct Generator<'a> {
    world: &'a World,
    state: u64,
}

impl<'a> Generator<'a> {
    pub(super) fn new(world: &'a World, seed: u64) -> Self {
        Self { world, state: seed }
    }

    /// A number below `end`: splitmix64.
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        let at = self.below(list.len());
        list[at].clone()
    }

    pub(super) fn case(&mut self) -> Case {
        let world = self.world;
        let image = self.pick(&world.images);
        let named = if self.chance(60) { image.tagged() } else { image.pinned() };
        let port = image.host.rsplit(':').next().unwrap();
        let [lower, capitals] = ["localhost", "LOCALHOST"].map(|name| format!("{name}:{port}"));
        // How the host is written: in scopes, and by the Pod.
        let (written, asked) = match self.below(8) {
            0 => (&capitals, &lower),
            1 => (&lower, &capitals),
            2 => (&capitals, &capitals),
            3 => (&lower, &lower),
            _ => (&image.host, &image.host),
        };
        let named = named.replace(&image.host, asked);
        let scopes: Vec<_> = scopes(&image).iter().map(|scope| scope.replace(&image.host, written)).collect();
        let mut docker = Map::new();
        for scope in &scopes {
            if self.chance(25) {
                docker.insert(scope.clone(), self.requirements(&image));
            }
        }
        if self.chance(20) {
            docker.insert(String::new(), self.requirements(&image));
        }
        let policy = json!({"default": self.requirements(&image), "transports": {"docker": docker}});
        Case { policy, registries_d: self.registries_d(&scopes), image: named }
    }

    fn requirements(&mut self, image: &Image) -> Value {
        let number = 1 + usize::from(self.chance(20));
        (0..number).map(|_| self.requirement(image)).collect()
    }

    fn requirement(&mut self, image: &Image) -> Value {
        match self.below(20) {
            0 | 1 => json!({"type": "insecureAcceptAnything"}),
            2 => json!({"type": "reject"}),
            3..=6 => self.sigstore(image),
            _ => self.signed_by(image),
        }
    }

    fn signed_by(&mut self, image: &Image) -> Value {
        let ring = self.pick(&[0, 1, 2, 2]);
        let mut requirement = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": self.world.rings[ring]});
        if let Some(identity) = self.identity(image) {
            requirement["signedIdentity"] = identity;
        }
        requirement
    }

    fn sigstore(&mut self, image: &Image) -> Value {
        let key = if self.chance(80) { &self.world.cosign_file } else { &self.world.stranger_file };
        let mut requirement = json!({"type": "sigstoreSigned", "keyPath": key});
        // cosign signs a name without tag, which nothing but this takes.
        if self.chance(70) {
            requirement["signedIdentity"] = json!({"type": "matchRepository"});
        } else if let Some(identity) = self.identity(image) {
            requirement["signedIdentity"] = identity;
        }
        requirement
    }

    fn identity(&mut self, image: &Image) -> Option<Value> {
        let Image { host, repository, tag, .. } = image;
        let (team, _) = repository.split_once('/').unwrap();
        Some(match self.below(12) {
            0..=2 => return None,
            3 => json!({"type": "matchExact"}),
            4 => json!({"type": "matchRepoDigestOrExact"}),
            5 => json!({"type": "matchRepository"}),
            6 => json!({"type": "exactReference", "dockerReference": image.tagged()}),
            7 => json!({"type": "exactReference", "dockerReference": format!("{ORIGINAL}/{repository}:{tag}")}),
            8 => json!({"type": "exactRepository", "dockerRepository": format!("{ORIGINAL}/{repository}")}),
            9 => json!({"type": "remapIdentity", "prefix": host, "signedPrefix": ORIGINAL}),
            10 => json!({
                "type": "remapIdentity",
                "prefix": format!("{host}/{team}"),
                "signedPrefix": format!("{ORIGINAL}/{team}"),
            }),
            _ => json!({"type": "remapIdentity", "prefix": format!("{host}/elsewhere"), "signedPrefix": ORIGINAL}),
        })
    }

    fn registries_d(&mut self, scopes: &[String]) -> String {
        let mut sections = BTreeMap::new();
        for scope in scopes {
            if self.chance(20) {
                sections.insert(scope, self.section());
            }
        }
        let mut text = String::new();
        if self.chance(85) {
            writeln!(text, "default-docker: {{{}}}", self.section()).unwrap();
        }
        if !sections.is_empty() {
            text.push_str("docker:\n");
        }
        for (scope, section) in sections {
            writeln!(text, "  '{scope}': {{{section}}}").unwrap();
        }
        text
    }

    /// With empty values, and both names of a store.
    fn section(&mut self) -> String {
        let mut members = Vec::new();
        let trees = ["one", "two", "both", "both", "none"];
        for (name, percent) in [("lookaside", 70), ("sigstore", 30), ("lookaside-staging", 10)] {
            if self.chance(percent) {
                let tree = self.pick(&trees);
                let url = if self.chance(12) { String::new() } else { self.world.lookaside(tree) };
                members.push(format!("{name}: '{url}'"));
            }
        }
        if self.chance(60) {
            members.push(format!("use-sigstore-attachments: {}", self.chance(75)));
        }
        members.join(", ")
    }
}

/// Everything that covers the image by either of its names, from the narrowest to the widest, and much that does not.
fn scopes(image: &Image) -> Vec<String> {
    let Image { host, repository, .. } = image;
    let mut scopes = vec![image.tagged(), image.pinned(), format!("{host}/{repository}:2")];
    let mut name = format!("{host}/{repository}");
    while let Some((above, _)) = name.clone().rsplit_once('/') {
        scopes.extend([name.clone(), format!("{name}x"), format!("{name}/below")]);
        above.clone_into(&mut name);
    }
    let address = host.split(':').next().unwrap();
    scopes.extend(
        [host.as_str(), address, "*.0.0.1", "*.0.1", "*.1", "*.127.0.0.1", "*", "localhost"].map(str::to_owned),
    );
    scopes.push(format!("*.0.0.1:{}", host.rsplit(':').next().unwrap()));
    scopes
}
