//! References of the image, references in signatures, and the rules between them.

use serde_json::{Value, json};

use super::{Case, World};
use crate::support::signer::Payload;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let groups = [defaults(world), exact(world), repository(world), fixed(world), remapped(world), docker_hub(world)];
    groups.into_iter().flatten().collect()
}

/// A good signature under this name.
fn signed_as(world: &World, case: Case, name: &str) -> Case {
    case.signature(world, world.gpg.sign(&world.key, &Payload::new(&world.image.digest, name).bytes()))
}

fn rule(kind: &str) -> Value {
    json!({"type": kind})
}

/// The image by tag, by digest, and by both.
fn defaults(world: &World) -> Vec<Case> {
    let (tagged, pinned) = (world.image.tagged(), world.image.pinned());
    let name = format!("{}/alt/a", world.registry.host);
    let both = |tag: &str| format!("{name}:{tag}@{}", world.image.digest);
    let wrong = "signedIdentity does not accept";
    let other = format!("{}/alt/b:1", world.registry.host);
    let by_digest = |case: Case| case.image(pinned.clone());
    vec![
        signed_as(world, world.accepted("by tag, signed with the tag"), &tagged),
        signed_as(world, world.refused("by tag, signed with another tag", wrong), &format!("{name}:2")),
        signed_as(world, world.refused("by tag, signed with the digest", wrong), &pinned),
        signed_as(world, world.refused("by tag, signed without either", wrong), &name),
        signed_as(world, world.refused("by tag, signed as another repository", wrong), &other),
        signed_as(world, world.refused("by tag, signed as another registry", wrong), "registry.local/alt/a:1"),
        signed_as(world, by_digest(world.accepted("by digest, signed with the digest")), &pinned),
        signed_as(world, by_digest(world.accepted("by digest, signed with a tag")), &format!("{name}:2")),
        signed_as(world, by_digest(world.refused("by digest, signed without either", wrong)), &name),
        signed_as(world, by_digest(world.refused("by digest, signed as another repository", wrong)), &other),
        signed_as(world, world.accepted("by tag and digest, signed with the tag"), &tagged).image(both("1")),
        signed_as(world, world.accepted("by another tag and digest, signed with a tag"), &tagged).image(both("9")),
        signed_as(world, world.refused("by tag and digest, signed as another", wrong), &other).image(both("1")),
    ]
}

fn exact(world: &World) -> Vec<Case> {
    let (tagged, pinned) = (world.image.tagged(), world.image.pinned());
    let wrong = "signedIdentity does not accept";
    let case = |case: Case| case.identity(rule("matchExact"));
    vec![
        signed_as(world, case(world.accepted("matchExact, the tag")), &tagged),
        signed_as(world, case(world.refused("matchExact, another tag", wrong)), &tagged.replace(":1", ":2")),
        signed_as(world, case(world.accepted("matchExact, the digest")).image(pinned.clone()), &pinned),
        signed_as(world, case(world.refused("matchExact, digest signed with the tag", wrong)).image(pinned), &tagged),
        signed_as(world, case(world.refused("matchExact, signed without tag", wrong)), tagged.trim_end_matches(":1")),
    ]
}

fn repository(world: &World) -> Vec<Case> {
    let name = format!("{}/alt/a", world.registry.host);
    let wrong = "signedIdentity does not accept";
    let case = |case: Case| case.identity(rule("matchRepository"));
    vec![
        signed_as(world, case(world.accepted("matchRepository, another tag")), &format!("{name}:2")),
        signed_as(world, case(world.accepted("matchRepository, signed without tag")), &name),
        signed_as(world, case(world.accepted("matchRepository, the digest")), &world.image.pinned()),
        signed_as(world, case(world.refused("matchRepository, another one", wrong)), &format!("{name}b:1")),
        signed_as(world, case(world.refused("matchRepository, one below", wrong)), &format!("{name}/b:1")),
        signed_as(world, case(world.refused("matchRepository, another registry", wrong)), "registry.local/alt/a:1"),
    ]
}

fn fixed(world: &World) -> Vec<Case> {
    let wrong = "signedIdentity does not accept";
    let reference = |case: Case, name: &str| {
        case.identity(json!({"type": "exactReference", "dockerReference": name})).image(world.image.pinned())
    };
    let repository =
        |case: Case, name: &str| case.identity(json!({"type": "exactRepository", "dockerRepository": name}));
    let signed = "registry.local/k8s/a:1";
    vec![
        signed_as(world, reference(world.accepted("exactReference"), signed), signed),
        signed_as(
            world,
            reference(world.refused("exactReference, another tag", wrong), "registry.local/k8s/a:2"),
            signed,
        ),
        signed_as(world, reference(world.refused("exactReference, another", wrong), "registry.local/k8s/b:1"), signed),
        signed_as(world, reference(world.refused("exactReference, own name", wrong), signed), &world.image.tagged()),
        signed_as(world, repository(world.accepted("exactRepository"), "registry.local/k8s/a"), signed),
        signed_as(
            world,
            repository(world.accepted("exactRepository, signed without tag"), "registry.local/k8s/a"),
            "registry.local/k8s/a",
        ),
        signed_as(world, repository(world.refused("exactRepository, another", wrong), "registry.local/k8s/b"), signed),
        signed_as(world, repository(world.refused("exactRepository, one above", wrong), "registry.local/k8s"), signed),
    ]
}

fn remapped(world: &World) -> Vec<Case> {
    let host = &world.registry.host;
    let wrong = "signedIdentity does not accept";
    let remap = |case: Case, prefix: &str, signed: &str| {
        case.identity(json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed}))
    };
    let (team, part) = (format!("{host}/alt"), format!("{host}/al"));
    let local = "registry.local";
    let case = |case: Case, prefix: &str, signed: &str, name: &str| signed_as(world, remap(case, prefix, signed), name);
    let own = world.image.tagged();
    let pinned = world.image.pinned();
    vec![
        case(world.accepted("remapIdentity, the host"), host, local, "registry.local/alt/a:1"),
        case(world.accepted("remapIdentity, a path"), &team, "registry.local/k8s/deep", "registry.local/k8s/deep/a:1"),
        case(
            world.accepted("remapIdentity, the whole name"),
            &format!("{team}/a"),
            "registry.local/b",
            "registry.local/b:1",
        ),
        case(world.refused("remapIdentity, another tag", wrong), host, local, "registry.local/alt/a:2"),
        case(world.accepted("remapIdentity, digest, another tag"), host, local, "registry.local/alt/a:2").image(pinned),
        case(world.refused("remapIdentity, own name", wrong), host, local, &own),
        case(world.accepted("remapIdentity, another prefix, own name"), "quay.io", local, &own),
        case(world.refused("remapIdentity, another prefix", wrong), "quay.io", local, "registry.local/alt/a:1"),
        case(
            world.refused("remapIdentity, part of a component", wrong),
            &part,
            "registry.local/x",
            "registry.local/xt/a:1",
        ),
        case(world.accepted("remapIdentity, part of a component, own name"), &part, "registry.local/x", &own),
    ]
}

/// Names of Docker Hub in their short, long and old forms.
fn docker_hub(world: &World) -> Vec<Case> {
    let host = &world.registry.host;
    let reference = |case: Case, name: &str| case.identity(json!({"type": "exactReference", "dockerReference": name}));
    let remap = json!({"type": "remapIdentity", "prefix": format!("{host}/alt"), "signedPrefix": "docker.io/library"});
    let remap = |case: Case| case.identity(remap.clone());
    let wrong = "signedIdentity does not accept";
    let long = "docker.io/library/a:1";
    vec![
        signed_as(world, reference(world.accepted("short rule, long signature"), "a:1"), long),
        signed_as(world, reference(world.accepted("long rule, short signature"), long), "a:1"),
        signed_as(world, reference(world.accepted("rule without library"), "docker.io/a:1"), long),
        signed_as(
            world,
            reference(world.accepted("signature by index.docker.io"), long),
            "index.docker.io/library/a:1",
        ),
        signed_as(
            world,
            reference(world.accepted("signature by registry-1.docker.io"), long),
            "registry-1.docker.io/library/a:1",
        ),
        signed_as(world, reference(world.refused("short rule, another repository", wrong), "a:1"), "docker.io/x/a:1"),
        signed_as(world, reference(world.refused("short rule, another registry", wrong), "a:1"), "quay.io/library/a:1"),
        signed_as(world, remap(world.accepted("remapIdentity to Docker Hub, short signature")), "a:1"),
        signed_as(world, remap(world.accepted("remapIdentity to Docker Hub, long signature")), long),
        signed_as(world, remap(world.refused("remapIdentity to Docker Hub, no version", wrong)), "a"),
    ]
}
