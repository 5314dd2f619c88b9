//! Several signatures: junk and strangers beside a good one, thresholds, other repositories; hostile shapes.

use serde_json::{Value, json};

use super::cases::{Cases, DEV, Rule, Shared};
use crate::support::opinions::Answer::{Accepts, Refuses};
use crate::support::registry::Image;
use crate::support::signer::CosignKey;
use crate::support::sigstore::materials::{Ca, intermediate};
use crate::support::sigstore::{Bundle, By, How, Identity, Legacy, Sigstore, attach, der, mint_by, seconds_ago};

fn by(address: &str) -> By<'static> {
    By::Identity(Identity::mail(address))
}

/// cosign itself refuses where a bundle by somebody else is among the referrers.
fn e49_what_others_attach_does_not_hide_a_good_signature() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let stranger = "stranger@example.test";
    for good in [How::LEGACY, How::BUNDLE, How::BUNDLE_V1] {
        let name = |what: &str| format!("{good:?}: {what}");
        let image = shared.sign(good, &by(DEV), &[]);
        for foreign in [How::BUNDLE, How::LEGACY] {
            shared.sign_too(&image, foreign, &by(stranger), &[]);
        }
        cases.accepts(&name("a stranger's in both formats"), &Rule::dev(), &image);
        cases.refuses(&name("nobody's"), "", &Rule::mail("nobody@example.test"), &image);
        attach(&shared.registry, &image, b"garbage");
        attach(&shared.registry, &image, br#"{"mediaType": null}"#);
        cases.accepts(&name("garbage"), &Rule::dev(), &image);
        shared
            .world
            .attest(&shared.registry, &image.pinned(), How::BUNDLE, &by(stranger), ("custom", &json!({})))
            .succeeded();
        cases.accepts(&name("a stranger's attestation"), &Rule::dev(), &image);
    }
    let (image, other) = (shared.signed(How::LEGACY), shared.sign(How::LEGACY, &by(DEV), &[]));
    let both = [Legacy::of(&shared.registry, &other), Legacy::of(&shared.registry, &image)];
    let copy = shared.bare(&image);
    Legacy::put(&shared.registry, &copy, "sig", &both);
    cases.accepts("another image's `.sig` before the good one", &Rule::dev(), &copy);
    cases.done();
}

fn e11_a_threshold_counts_distinct_identities_and_keys() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let mail = |subject: &str| json!({"issuer": world.issuer("mail"), "subject": subject});
    let (a, b) = ("a@example.test", "b@example.test");
    let of = |threshold: u32, list: Value| Rule::identities(world, list).with("threshold", threshold);
    let three = || json!([mail(a), mail(b), mail("c@example.test")]);

    let image = shared.sign(How::BUNDLE, &by(a), &[]);
    cases.accepts("1 of 3 by one", &of(1, three()), &image);
    cases.refuses("2 of 3 by one", "2", &of(2, three()), &image);
    shared.sign_too(&image, How::BUNDLE, &by(a), &[]);
    shared.sign_too(&image, How::LEGACY, &by(a), &[]);
    cases.refuses("2 of 3 by one, three times", "2", &of(2, three()), &image);
    cases.refuses("2 by one who is listed twice", "2", &of(2, json!([mail(a), mail(a)])), &image);
    shared.sign_too(&image, How::BUNDLE, &by(b), &[]);
    cases.accepts("2 of 3 by two", &of(2, three()), &image);
    cases.refuses("3 of 3 by two", "3", &of(3, three()), &image);

    let image = shared.sign(How::LEGACY, &by(a), &[]);
    shared.sign_too(&image, How::BUNDLE, &by(b), &[]);
    cases.accepts("2 of 3 by two in two formats", &of(2, three()), &image);

    let (one, two) = (CosignKey::new(), CosignKey::new());
    let image = shared.sign(How::BUNDLE_BARE, &By::Key(&one), &[]);
    shared.sign_too(&image, How::LEGACY_BARE, &By::Key(&one), &[]);
    let keys = |list: &[&CosignKey]| Rule::key(list[0]).keys(list).with("threshold", 2);
    cases.refuses("2 of 2 keys by one, twice", "2", &keys(&[&one, &two]), &image);
    cases.refuses("2 keys, twice the same", "2", &keys(&[&one, &one]), &image);
    shared.sign_too(&image, How::BUNDLE_BARE, &By::Key(&two), &[]);
    cases.accepts("2 of 2 keys by both", &keys(&[&one, &two]), &image);

    let image = shared.sign(How::BUNDLE, &by(a), &[]);
    let rule = of(2, json!([mail(a)])).or_key(&one);
    cases.refuses("an identity without the key", "2", &rule, &image);
    shared.sign_too(&image, How::BUNDLE_BARE, &By::Key(&one), &[]);
    cases.accepts("an identity and a key", &rule, &image);
    cases.done();
}

fn a_key_or_an_identity_suffices_where_both_are_given() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let either = Rule::dev().or_key(&shared.key);
    cases.accepts("by the identity", &either, &shared.signed(How::BUNDLE));
    cases.accepts("by the key", &either, &shared.keyed(How::BUNDLE_BARE));
    cases.accepts("by the identity, legacy", &either, &shared.signed(How::LEGACY));
    cases.accepts("by the key, legacy", &either, &shared.keyed(How::LEGACY_BARE));
    let neither = shared.sign(How::BUNDLE, &by("stranger@example.test"), &[]);
    shared.sign_too(&neither, How::BUNDLE_BARE, &By::Key(&CosignKey::new()), &[]);
    cases.refuses("by neither", "", &either, &neither);
    cases.done();
}

fn signatures_in_another_repository_count_where_the_policy_names_it() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let host = &shared.registry.host;
    for how in [How::LEGACY, How::BUNDLE] {
        let signed = shared.signed(how);
        let elsewhere = shared.bare(&signed);
        let there = format!("{host}/{}", signed.repository);
        let rule = Rule::dev().with("repository", there.as_str());
        cases.refuses(&format!("{how:?}: not named"), "no cosign signature", &Rule::dev(), &elsewhere);
        cases.accepts(&format!("{how:?}: named"), &rule, &elsewhere);
        let nowhere = Rule::dev().with("repository", format!("{host}/keyless/nowhere"));
        // What lies beside the image does not count then.
        cases.refuses(&format!("{how:?}: another one is named"), "no cosign signature", &nowhere, &signed);
        let other = Rule::mail("other@example.test").with("repository", there.as_str());
        cases.refuses(&format!("{how:?}: another subject"), "", &other, &elsewhere);
    }
    cases.done();
}

fn e34_bundles_with_too_many_parts_are_refused() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    let many = |path: &str| {
        shared.bent(&image, |bundle| {
            let list = bundle.pointer_mut(path).unwrap();
            *list = vec![list[0].clone(); 2000].into();
        })
    };
    for path in [
        "/verificationMaterial/tlogEntries",
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps",
        "/verificationMaterial/tlogEntries/0/inclusionProof/hashes",
        "/dsseEnvelope/signatures",
    ] {
        cases.refuses(path, "", &Rule::dev(), &many(path));
    }
    let chain = shared.bent(&image, |bundle| {
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        let leaf = material.remove("certificate").unwrap();
        material.insert("x509CertificateChain".to_owned(), json!({"certificates": vec![leaf; 2000]}));
    });
    cases.refuses("certificates", "", &Rule::dev(), &chain);
    cases.done();
}

fn e8_e41_bundles_of_wrong_shape_are_refused_without_a_crash() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE_V1);
    let bundle = Bundle::of(&shared.registry, &image).0;
    for path in [
        "/mediaType",
        "/verificationMaterial",
        "/verificationMaterial/certificate",
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/tlogEntries",
        "/verificationMaterial/tlogEntries/0",
        "/verificationMaterial/tlogEntries/0/logId",
        "/verificationMaterial/tlogEntries/0/kindVersion",
        "/verificationMaterial/tlogEntries/0/integratedTime",
        "/verificationMaterial/tlogEntries/0/inclusionPromise",
        "/verificationMaterial/tlogEntries/0/inclusionProof",
        "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/dsseEnvelope",
        "/dsseEnvelope/payload",
        "/dsseEnvelope/payloadType",
        "/dsseEnvelope/signatures",
    ] {
        assert!(bundle.pointer(path).is_some(), "{path}");
        for value in [json!(null), json!(-1), json!("!"), json!([[]]), json!({"a": {}})] {
            let bent = shared.bent(&image, |bundle| *bundle.pointer_mut(path).unwrap() = value.clone());
            cases.refuses(&format!("{path}: {value}"), "", &Rule::dev(), &bent);
        }
    }
    cases.done();
}

/// The signer's own authority, certified again with limits that the signer is outside of.
fn e45_limits_of_an_authority_hold_for_those_it_certifies() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let materials = &world.materials;
    let within = |domain: &str| {
        let mut params = intermediate();
        let permitted = vec![rcgen::GeneralSubtree::Rfc822Name(domain.to_owned())];
        params.name_constraints =
            Some(rcgen::NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
        let pem = materials.fulcio_root.certificate(&params, &materials.fulcio.key).pem();
        world.root.with_chain("certificateAuthorities", &[&pem, &materials.fulcio_root.pem])
    };
    let image = shared.signed(How::BUNDLE);
    cases.refuses("another domain", "certificate", &Rule::dev().root(&within("other.test")), &image);
    cases.done();
}

/// Nobody but an authority certifies: neither a signer, nor one that the root does not name.
fn e44_certificates_by_those_who_are_no_authority_are_refused() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let materials = &world.materials;
    let rule = Rule::dev().with("transparencyLog", "NotRequired").with("sct", "NotRequired");
    let mut judge = |case: &str, good: bool, authority: &Ca| {
        let image = shared.image();
        let bundle = mint_by(authority, &world.leaf(DEV)).bundle(&image);
        let chained = bundle.bent(|bundle| {
            let material = bundle["verificationMaterial"].as_object_mut().unwrap();
            let leaf = material.remove("certificate").unwrap();
            let chain = json!({"certificates": [leaf, {"rawBytes": der(&authority.pem)}]});
            material.insert("x509CertificateChain".to_owned(), chain);
            // The next version has one certificate alone.
            bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
        });
        for (what, bundle) in [("alone", bundle), ("with who certified it", chained)] {
            let (case, image) = (format!("{case}, {what}"), shared.with_bundle(&image, &bundle_now(&bundle)));
            if good { cases.accepts(&case, &rule, &image) } else { cases.refuses(&case, "certificate", &rule, &image) }
        }
    };
    judge("the authority", true, &materials.fulcio);
    judge("a stranger of the same name", false, &Ca::root("stranger").issue(intermediate()));
    judge("the timestamp authority", false, &materials.tsa_root);
    let mut signer = rcgen::CertificateParams::default();
    signer.is_ca = rcgen::IsCa::ExplicitNoCa;
    signer.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::CodeSigning);
    judge("a signer", false, &materials.fulcio.issue(signer));
    cases.done();
}

/// Stamped at this moment.
fn bundle_now(bundle: &Bundle) -> Bundle {
    Sigstore::shared().stamped(bundle, seconds_ago(0))
}

/// What the root names no longer is revoked; nothing else is asked.
fn e15_e46_an_authority_that_left_the_root_is_trusted_no_more() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    for how in [How::BUNDLE, How::LEGACY] {
        for list in ["certificateAuthorities", "tlogs", "ctlogs"] {
            let emptied = Rule::dev().root(&world.root.bent(|root| root[list] = json!([])));
            cases.refuses(&format!("{how:?}: {list}"), "", &emptied, &shared.signed(how));
        }
        cases.accepts(&format!("{how:?}"), &Rule::dev(), &shared.signed(how));
    }
    let emptied = Rule::dev().root(&world.root.bent(|root| root["timestampAuthorities"] = json!([])));
    cases.refuses("timestamps", "", &emptied, &shared.signed(How::BUNDLE));
    cases.done();
}

fn images_by_tag_are_judged_like_their_digests() {
    let shared = Shared::get();
    let by_tag = |image: &Image, rule: &Rule| rule.judge(&image.tagged()).answer;
    for how in [How::BUNDLE, How::LEGACY] {
        let image = shared.signed(how);
        assert_eq!(by_tag(&image, &Rule::dev()), Accepts, "{how:?}");
        assert_eq!(by_tag(&image, &Rule::mail("other@example.test")), Refuses, "{how:?}");
    }
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    e49_what_others_attach_does_not_hide_a_good_signature,
    e11_a_threshold_counts_distinct_identities_and_keys,
    a_key_or_an_identity_suffices_where_both_are_given,
    signatures_in_another_repository_count_where_the_policy_names_it,
    e34_bundles_with_too_many_parts_are_refused,
    e8_e41_bundles_of_wrong_shape_are_refused_without_a_crash,
    e45_limits_of_an_authority_hold_for_those_it_certifies,
    e44_certificates_by_those_who_are_no_authority_are_refused,
    e15_e46_an_authority_that_left_the_root_is_trusted_no_more,
    images_by_tag_are_judged_like_their_digests,
}
