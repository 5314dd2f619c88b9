//! Several signatures of one image, and images of several platforms.

use super::{Case, World};
use crate::support::registry::Image;
use crate::support::signer::Payload;

pub(super) fn cases(world: &World) -> Vec<Case> {
    [numbers(world), indexes(world)].into_iter().flatten().collect()
}

fn numbers(world: &World) -> Vec<Case> {
    let (good, foreign) = (world.signed(), world.signed_by(&world.stranger));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let other = world.registry.push("alt/b:1");
    let for_other = world.gpg.sign(&world.key, &Payload::new(&other.digest, &world.image.tagged()).bytes());
    let none = "no signature for sha256:";
    let image = &world.image;
    vec![
        world.refused("unsigned", none),
        world.accepted("one good signature").signature(world, &good),
        world.accepted("good after one by a stranger").signatures(world, &[&foreign, &good]),
        world.accepted("good before one by a stranger").signatures(world, &[&good, &foreign]),
        world.accepted("good after a damaged one").signatures(world, &[&damaged, &good]),
        world.accepted("good after one for another digest").signatures(world, &[&for_other, &good]),
        world.accepted("good after a web page").signatures(world, &[b"<html></html>", &good]),
        world.accepted("good after an empty one").signatures(world, &[b"", &good]),
        world.accepted("good as the fifth").signatures(world, &[&foreign, &damaged, &for_other, &foreign, &good]),
        world.refused("two bad ones", "the most telling of 2").signatures(world, &[&foreign, &damaged]),
        world.refused("signature copied from another image", "signed for").signature(world, &for_other),
        world.refused("first number missing", none).also(image, 2, good.clone()),
        world.refused("gap in the numbers", "").also(image, 1, foreign).also(image, 3, good.clone()),
        world.refused("signature of another image only", none).also(&other, 1, good),
    ]
}

fn indexes(world: &World) -> Vec<Case> {
    let child = world.registry.push("alt/i:child");
    let index = world.registry.push_index("alt/i:1", &[&child]);
    let sign = |image: &Image| world.gpg.sign(&world.key, &Payload::new(&image.digest, &index.tagged()).bytes());
    let case = |mut case: Case, signed: &[&Image]| {
        case.image = index.tagged();
        case.options = &["--all"];
        signed.iter().fold(case, |case, image| case.also(image, 1, sign(image)))
    };
    vec![
        case(world.accepted("index and child signed"), &[&index, &child]),
        case(world.accepted("index alone signed"), &[&index]),
        case(world.refused("index and child unsigned", "no signature for sha256:"), &[]),
    ]
}
