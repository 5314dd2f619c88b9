//! The decision core alone: whitelist and scopes of one image, in memory.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use podseal::api::read_policy;
use podseal::domain::evaluate::{Options, Route, route};
use podseal::domain::image::{ImageRef, ImageRefError};
use podseal::domain::policy::{PolicyId, PolicySet};
use podseal::domain::whitelist::Whitelist;
use serde_json::json;

use crate::scene::{NAMESPACE, further_entries, whitelist};
use crate::table::{Table, Target, median};

const HOST: &str = "127.0.0.1:5000";
const CALLS: u32 = 20_000;
const ROUNDS: usize = 15;

/// Times of one call with 10 and with 10,000, taking turns.
pub fn measure(table: &mut Table) {
    let sets = [10, 10_000].map(core);
    let digest = "0".repeat(64);
    let image: Result<ImageRef, _> = format!("{HOST}/cosign/bundle/app-1@sha256:{digest}").parse();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (set, times) in sets.iter().zip(&mut times) {
            times.push(time(set, &image));
        }
    }
    let ratio = median(times[0].iter().zip(&times[1]).map(|(small, large)| large / small).collect());
    let [small, large] = times.map(median);
    table.row("routing alone, 10 entries and lines", small, "ns", Target::None);
    table.row("routing alone, 10,000 entries and lines", large, "ns", Target::None);
    table.row("routing alone, 10,000 against 10", ratio, "×", Target::None);
}

fn core(size: usize) -> (PolicySet, Whitelist) {
    let mut entries = further_entries(size - 1, HOST);
    entries.insert(
        size / 2,
        json!({"registry": format!("{HOST}/cosign"), "signCheck": true, "cosignKeyRef": "k8s://a/b"}),
    );
    let policies: Vec<_> = entries
        .chunks(500)
        .enumerate()
        .map(|(i, entries)| read_policy(PolicyId::cluster(&format!("p{i}")), &json!({"spec": {"registries": entries}})))
        .collect();
    let lines = BTreeMap::from([("whitelist-images".to_owned(), whitelist(size, HOST))]);
    (PolicySet::new(&policies), Whitelist::parse(&lines))
}

/// Nanoseconds of one call.
fn time((policies, whitelist): &(PolicySet, Whitelist), image: &Result<ImageRef, ImageRefError>) -> f64 {
    let started = Instant::now();
    for _ in 0..CALLS {
        let routed = route(policies, whitelist, Options::default(), NAMESPACE, black_box(image));
        assert!(matches!(black_box(&routed), Route::Judge(entries) if entries.len() == 1));
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}
