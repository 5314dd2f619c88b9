//! First verdicts: how many requests they cause, by the logs of those who are asked, and how long they take.

use std::time::Instant;

use crate::scene::{Scene, review};
use crate::support::registry::Image;
use crate::table::{Table, Target, median};

/// One row for the requests and one for the time of each kind.
pub fn measure(scene: &Scene, table: &mut Table) {
    // The first requests of all open connections and read keys.
    for image in [&scene.signed.legacy[0], &scene.signed.fallback[0], &scene.signed.gpg[0]] {
        scene.small.allows(&review(&image.tagged()));
    }
    let signed = &scene.signed;
    let kinds: [(&str, &[Image], Name, f64); 11] = [
        ("GPG by digest", &signed.gpg, Image::pinned, 1.0),
        ("GPG by tag", &signed.gpg_by_tag, Image::tagged, 3.0),
        ("cosign .sig by digest", &signed.legacy, Image::pinned, 3.0),
        ("cosign bundle by digest, registry with referrers", &signed.bundle, Image::pinned, 4.0),
        ("cosign bundle by digest, registry without", &signed.fallback, Image::pinned, 5.0),
        ("cosign .sig by tag", &signed.legacy, Image::tagged, f64::INFINITY),
        ("keyless bundle, Rekor v2 and timestamp", &signed.keyless, Image::pinned, 4.0),
        ("keyless .sig, Rekor v1", &signed.keyless_legacy, Image::pinned, 3.0),
        ("index of two platforms, signed", &signed.index, Image::pinned, 4.0),
        ("index of two platforms, its manifests signed", &signed.children, Image::pinned, f64::INFINITY),
        ("Notary (what its own server is asked is not counted)", &signed.notary, Image::pinned, 0.0),
    ];
    for (kind, images, name, most) in kinds {
        // The first image has lent its tag to the warm-up.
        let images = if kind.ends_with(".sig by tag") { &images[1..] } else { images };
        let (mut requests, mut times) = (0, Vec::new());
        for image in images {
            let review = review(&name(image));
            forget(scene);
            let started = Instant::now();
            scene.small.allows(&review);
            times.push(started.elapsed().as_secs_f64() * 1e3);
            requests = requests.max(asked(scene));
        }
        let target = if most.is_finite() { Target::Most(most) } else { Target::None };
        #[allow(clippy::cast_precision_loss)]
        table.row(format!("cold: {kind}: requests (most of {})", images.len()), requests as f64, "", target);
        table.row(format!("cold: {kind}: median time"), median(times), "ms", Target::None);
    }
}

type Name = fn(&Image) -> String;

fn forget(scene: &Scene) {
    scene.registry.forget();
    scene.old_registry.forget();
    scene.store.forget();
}

/// Requests since then, without those for tokens and pings.
fn asked(scene: &Scene) -> usize {
    let all = [scene.registry.requests(), scene.old_registry.requests(), scene.store.requests()].concat();
    let counted: Vec<_> = all.iter().filter(|r| r.path != "/v2/" && !r.path.starts_with("/token")).collect();
    if std::env::var_os("PODSEAL_BENCH_REQUESTS").is_some() {
        for request in &counted {
            eprintln!("  {} {} {}", request.method, request.path, request.status);
        }
        eprintln!();
    }
    counted.len()
}
