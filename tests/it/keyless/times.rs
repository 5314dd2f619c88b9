//! When something was signed, and whether certificates and keys were good then.

use serde_json::{Value, json};

use super::cases::{Cases, DEV, Rule, Shared};
use crate::support::sigstore::materials::{Ca, intermediate, stamping};
use crate::support::sigstore::{Bundle, How, Legacy, Root, Sigstore, seconds_ago};

const HOUR: i64 = 3600;

/// For certificates that no log has heard of.
fn unlogged() -> Rule {
    Rule::dev().with("transparencyLog", "NotRequired").with("sct", "NotRequired")
}

/// The certificate was good for ten minutes two hours ago. What counts is the stamp.
fn a_lapsed_certificate_counts_if_the_stamp_is_of_its_time() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let mut leaf = world.leaf(DEV);
    leaf.valid = (seconds_ago(2 * HOUR), seconds_ago(2 * HOUR - 600));
    let image = shared.image();
    let bundle = world.mint(&leaf).bundle(&image);
    let mut judge = |case: &str, words: Option<&str>, bundle: &Bundle| {
        let image = shared.with_bundle(&image, bundle);
        match words {
            None => cases.accepts(case, &unlogged(), &image),
            Some(words) => cases.refuses(case, words, &unlogged(), &image),
        }
    };
    let at = |seconds: i64| world.stamped(&bundle, seconds_ago(seconds));
    judge("in its time", None, &at(2 * HOUR - 300));
    judge("before its time", Some("valid"), &at(2 * HOUR + 60));
    judge("after its time", Some("valid"), &at(2 * HOUR - 660));
    judge("now", Some("valid"), &at(0));
    judge("without a stamp", Some("time"), &bundle);
    let elsewhere = world.stamp(b"something else", seconds_ago(2 * HOUR - 300));
    let with = |stamps: Vec<&str>| {
        let stamps: Vec<_> = stamps.into_iter().map(|stamp| json!({"signedTimestamp": stamp})).collect();
        bundle.bent(|bundle| {
            bundle["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
        })
    };
    judge("stamp of something else", Some("time"), &with(vec![&elsewhere]));
    let (good, late) = (
        world.stamp(&bundle.signature(), seconds_ago(2 * HOUR - 300)),
        world.stamp(&bundle.signature(), seconds_ago(0)),
    );
    judge("a good stamp and a late one", Some("valid"), &with(vec![&good, &late]));
    judge("no stamp in the list", Some("time"), &with(vec![]));
    cases.done();
}

fn the_time_in_the_log_is_within_the_certificates_validity() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE_V1);
    let bundle = Bundle::of(&shared.registry, &image);
    let at = |seconds: i64| shared.with_bundle(&image, &world.recorded(&bundle, seconds));
    let recorded = Bundle::entry(&mut bundle.0.clone())["integratedTime"].as_str().unwrap().parse::<i64>().unwrap();
    cases.accepts("bundle, a second later", &Rule::dev(), &at(recorded + 1));
    cases.refuses("bundle, an hour before", "valid", &Rule::dev(), &at(recorded - HOUR));
    cases.refuses("bundle, an hour later", "valid", &Rule::dev(), &at(recorded + HOUR));

    let image = shared.signed(How::LEGACY);
    let signature = Legacy::of(&shared.registry, &image);
    let at = |seconds: i64| shared.with_legacy(&image, &world.recorded_legacy(&signature, seconds));
    cases.accepts("legacy, a second later", &Rule::dev(), &at(recorded_at(&signature) + 1));
    cases.refuses("legacy, an hour before", "valid", &Rule::dev(), &at(recorded_at(&signature) - HOUR));
    cases.refuses("legacy, an hour later", "valid", &Rule::dev(), &at(recorded_at(&signature) + HOUR));
    cases.done();
}

fn recorded_at(signature: &Legacy) -> i64 {
    let bundle: Value =
        serde_json::from_str(signature.annotations["dev.sigstore.cosign/bundle"].as_str().unwrap()).unwrap();
    bundle["Payload"]["integratedTime"].as_i64().unwrap()
}

fn keyless_signatures_without_any_proven_time_are_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    let no_stamp = |bundle: &mut Value| *Bundle::stamps(bundle) = json!([]);
    cases.refuses("Rekor v2 without a stamp", "time", &Rule::dev(), &shared.bent(&image, no_stamp));
    let image = shared.signed(How::BUNDLE_STAMPED);
    let rule = Rule::dev().with("transparencyLog", "NotRequired");
    cases.accepts("a stamp alone", &rule, &image);
    cases.refuses("not even a stamp", "time", &rule, &shared.bent(&image, no_stamp));
    let image = shared.signed(How::LEGACY_STAMPED);
    let signature = Legacy::of(&shared.registry, &image).without("dev.sigstore.cosign/rfc3161timestamp");
    cases.refuses("legacy without a stamp", "time", &rule, &shared.with_legacy(&image, &signature));
    cases.done();
}

/// The same key is certified again, for another time.
fn e9_every_certificate_of_the_chain_is_valid_at_the_proven_time() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let materials = &world.materials;
    let again = |years: (i32, i32)| {
        let mut params = intermediate();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let pem = materials.fulcio_root.certificate(&params, &materials.fulcio.key).pem();
        world.root.with_chain("certificateAuthorities", &[&pem, &materials.fulcio_root.pem])
    };
    for how in [How::BUNDLE, How::BUNDLE_STAMPED, How::LEGACY, How::LEGACY_STAMPED] {
        let image = shared.signed(how);
        let rule = Rule::dev().with("transparencyLog", "NotRequired");
        cases.accepts(&format!("{how:?}: valid"), &rule.clone().root(&again((2001, 2100))), &image);
        let words = "certificate";
        cases.refuses(&format!("{how:?}: expired"), words, &rule.clone().root(&again((2001, 2002))), &image);
        cases.refuses(&format!("{how:?}: not yet valid"), words, &rule.root(&again((2099, 2100))), &image);
    }
    cases.done();
}

fn valid_for(root: &Root, list: &str, start: &str, end: Option<&str>) -> Root {
    root.bent(|root| {
        for item in root[list].as_array_mut().unwrap() {
            let item = if item.get("publicKey").is_some() { &mut item["publicKey"] } else { item };
            item["validFor"] = json!({"start": start});
            if let Some(end) = end {
                item["validFor"]["end"] = end.into();
            }
        }
    })
}

fn e10_keys_and_authorities_count_only_within_the_time_that_the_root_gives_them() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    for (list, hows) in [
        ("tlogs", &[How::BUNDLE, How::BUNDLE_V1, How::LEGACY][..]),
        ("certificateAuthorities", &[How::BUNDLE, How::BUNDLE_V1, How::LEGACY]),
        ("timestampAuthorities", &[How::BUNDLE]),
        ("ctlogs", &[How::BUNDLE, How::LEGACY]),
    ] {
        for how in hows {
            let mut judge = |what: &str, good: bool, start: &str, end: Option<&str>| {
                let rule = Rule::dev().root(&valid_for(&world.root, list, start, end));
                let (name, image) = (format!("{list} {how:?}: {what}"), shared.signed(*how));
                if good {
                    cases.accepts(&name, &rule, &image)
                } else {
                    cases.refuses(&name, "is invalid", &rule, &image)
                }
            };
            judge("until further notice", true, "2026-01-01T00:00:00Z", None);
            judge("for a long time", true, "2026-01-01T00:00:00Z", Some("2100-01-01T00:00:00Z"));
            let now = jiff::Timestamp::now().to_string();
            judge("until after it was used", true, "2026-01-01T00:00:00Z", Some(&now));
            judge("no longer", false, "2025-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z"));
            judge("not yet", false, "2099-01-01T00:00:00Z", None);
        }
    }
    cases.done();
}

/// The authority's key is certified again: for other years, for another purpose, by somebody else. The root names the
/// certificate that the stamp was made with, so that it is found.
fn e14_a_timestamp_authoritys_certificate_is_checked_in_full() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let materials = &world.materials;
    let image = shared.signed(How::BUNDLE);
    let bundle = Bundle::of(&shared.registry, &image);
    let again = |by: &Ca, purpose, years: (i32, i32)| {
        let mut params = stamping(purpose);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        by.certificate(&params, &materials.tsa.key).pem()
    };
    let mut judge = |case: &str, good: bool, pem: &str| {
        let root = world.root.with_chain("timestampAuthorities", &[pem, &materials.tsa_root.pem]);
        let rule = Rule::dev().root(&root);
        for (stamp, image) in [
            ("its own stamp", shared.with_bundle(&image, &world.stamped_as(&bundle, seconds_ago(0), pem))),
            ("the usual stamp", image.clone()),
        ] {
            let case = format!("{case}, {stamp}");
            if good {
                cases.accepts(&case, &rule, &image)
            } else {
                cases.refuses(&case, "RFC 3161 timestamp", &rule, &image)
            }
        }
    };
    judge("as it is", true, &materials.tsa.pem);
    judge("without its purpose", false, &again(&materials.tsa_root, false, (2001, 2100)));
    judge("expired", false, &again(&materials.tsa_root, true, (2001, 2002)));
    judge("not yet valid", false, &again(&materials.tsa_root, true, (2099, 2100)));
    judge("by a stranger", false, &again(&Ca::root("stranger"), true, (2001, 2100)));
    cases.done();
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    a_lapsed_certificate_counts_if_the_stamp_is_of_its_time,
    the_time_in_the_log_is_within_the_certificates_validity,
    keyless_signatures_without_any_proven_time_are_refused,
    e9_every_certificate_of_the_chain_is_valid_at_the_proven_time,
    e10_keys_and_authorities_count_only_within_the_time_that_the_root_gives_them,
    e14_a_timestamp_authoritys_certificate_is_checked_in_full,
}
