//! Who signed: issuers, subjects of every kind, regular expressions, workflow claims.

use serde_json::{Value, json};

use super::cases::{Cases, DEV, Rule, Shared};
use crate::support::opinions::file;
use crate::support::podseal::podseal;
use crate::support::registry::Image;
use crate::support::sigstore::materials::FORGE;
use crate::support::sigstore::{By, How, Identity, Leaf, Names, Sigstore, seconds_ago};

const MAIN: &str = "refs/heads/main";
/// What podseal says of a good signature by somebody else.
const NOBODY: &str = "none of the identities";

fn rule(identity: Value) -> Rule {
    Rule::identities(Sigstore::shared(), vec![identity].into())
}

fn issuer(name: &str) -> String {
    Sigstore::shared().issuer(name)
}

fn e16_a_subject_is_compared_in_full_and_exactly() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    cases.accepts("itself", &Rule::mail(DEV), &image);
    for other in
        ["DEV@example.test", "dev@example.test.evil.test", "ev@example.test", "dev@example", "*", ".*", "dev.*"]
    {
        cases.refuses(other, "dev@example.test", &Rule::mail(other), &image);
    }
    let other_issuers = [issuer("mail/"), issuer("mai"), issuer("post"), issuer("mail").replace("http:", "https:")];
    for other in other_issuers {
        cases.refuses(&other, "dev@example.test", &Rule::dev().identity("issuer", other.as_str()), &image);
    }
    cases.done();
}

fn e16_regular_expressions_are_anchored_at_both_ends() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.signed(How::BUNDLE);
    let subject = |expression: &str| rule(json!({"issuer": issuer("mail"), "subjectRegExp": expression}));
    for good in [r".*", r"[a-z]+@example\.test", r"^dev@example\.test$", r"dev@.*|never", r"never|dev@example\.test"] {
        cases.accepts(good, &subject(good), &image);
    }
    for bad in ["dev", r"@example\.test", r"dev@example\.tes", r"ev@example\.test", "never|dev", r"ev@.*|never", ""] {
        cases.refuses(bad, "", &subject(bad), &image);
    }
    let by_issuer = |expression: &str| rule(json!({"issuerRegExp": expression, "subject": DEV}));
    cases.accepts("issuer", &by_issuer(r"http://127\.0\.0\.1:[0-9]+/mail"), &image);
    cases.refuses("part of the issuer", "", &by_issuer("mail"), &image);
    cases.refuses("front of the issuer", "", &by_issuer(r"http://127\.0\.0\.1:[0-9]+/"), &image);
    cases.refuses("another issuer", "", &by_issuer(r"http://127\.0\.0\.1:[0-9]+/post"), &image);
    cases.done();
}

fn subjects_of_every_kind_are_recognised() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let workflow = format!("{FORGE}/org/app/.github/workflows/release.yaml@{MAIN}");
    for (identity, subject) in [
        (Identity::mail(DEV), DEV),
        (Identity::workflow("org/app", MAIN), &workflow),
        (Identity::page("builds/app"), "http://127.0.0.1/builds/app"),
        (Identity::account("builder"), "builder!127.0.0.1"),
    ] {
        for how in [How::BUNDLE, How::BUNDLE_V1, How::LEGACY] {
            let image = shared.sign(how, &By::Identity(identity.clone()), &[]);
            let is = |subject: &str| rule(json!({"issuer": issuer(identity.issuer), "subject": subject}));
            cases.accepts(&format!("{how:?} {subject}"), &is(subject), &image);
            cases.refuses(&format!("{how:?} not {subject}"), subject, &is(&format!("{subject}x")), &image);
        }
    }
    cases.done();
}

/// An image with a bundle by a certificate that no log has heard of.
fn minted(leaf: &Leaf) -> Image {
    let (world, shared) = (Sigstore::shared(), Shared::get());
    let image = shared.image();
    let bundle = world.mint(leaf).bundle(&image);
    shared.with_bundle(&image, &world.stamped(&bundle, seconds_ago(0)))
}

fn unlogged(identity: Value) -> Rule {
    rule(identity).with("transparencyLog", "NotRequired").with("sct", "NotRequired")
}

fn certificates_with_other_names_count_by_the_names_that_they_have() {
    let (world, mut cases) = (Sigstore::shared(), Cases::new());
    let is = |subject: &str| unlogged(json!({"issuer": issuer("mail"), "subject": subject}));
    let leaf = |names: Names| Leaf { names, ..world.leaf(DEV) };
    let host = minted(&leaf(Names::none().dns("build.example.test")));
    cases.accepts("host name", &is("build.example.test"), &host);
    cases.refuses("another host name", NOBODY, &is("example.test"), &host);
    let both = minted(&leaf(Names::none().uri("https://example.test/a").mail(DEV)));
    cases.accepts("the first of two", &is("https://example.test/a"), &both);
    cases.accepts("the second of two", &is(DEV), &both);
    cases.refuses("neither of two", NOBODY, &is("https://example.test/b"), &both);
    let none = minted(&leaf(Names::none()));
    cases.refuses("no name at all", "names nobody", &is(DEV), &none);
    cases.refuses(
        "no name at all, anybody",
        "",
        &{ unlogged(json!({"issuer": issuer("mail"), "subjectRegExp": ".*"})) },
        &none,
    );
    cases.done();
}

fn certificates_that_are_not_for_signing_or_name_no_issuer_are_refused() {
    let (world, mut cases) = (Sigstore::shared(), Cases::new());
    let dev = unlogged(json!({"issuer": issuer("mail"), "subject": DEV}));
    cases.accepts("as Fulcio makes them", &dev, &minted(&world.leaf(DEV)));
    let leaf = Leaf { code_signing: false, ..world.leaf(DEV) };
    cases.refuses("for servers", "certificate", &dev, &minted(&leaf));
    let leaf = Leaf { issuer: None, ..world.leaf(DEV) };
    cases.refuses("no issuer", "names no issuer", &dev, &minted(&leaf));
    let anybody = unlogged(json!({"issuerRegExp": ".*", "subject": DEV}));
    cases.refuses("no issuer, any issuer", "names no issuer", &anybody, &minted(&leaf));
    cases.done();
}

fn e16_workflow_claims_are_compared_one_by_one() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let image = shared.sign(How::BUNDLE, &By::Identity(Identity::workflow("org/app", MAIN)), &[]);
    let legacy = shared.sign(How::LEGACY, &By::Identity(Identity::workflow("org/app", MAIN)), &[]);
    let claims = json!({
        "name": "release", "ref": MAIN, "repository": "org/app", "trigger": "push",
        "sha": "1234567890abcdef1234567890abcdef12345678",
    });
    let with =
        |claims: &Value| rule(json!({"issuer": issuer("forge"), "subjectRegExp": ".*", "githubWorkflow": claims}));
    for image in [&image, &legacy] {
        cases.accepts("all of them", &with(&claims), image);
        for claim in claims.as_object().unwrap().keys() {
            cases.accepts(claim, &with(&json!({claim: claims[claim]})), image);
            let mut others = claims.clone();
            others[claim] = format!("{}x", claims[claim].as_str().unwrap()).into();
            cases.refuses(&format!("another {claim}"), NOBODY, &with(&others), image);
        }
    }
    let mail = Rule::dev().identity("githubWorkflow", json!({"repository": "org/app"}));
    cases.refuses("a certificate without such claims", NOBODY, &mail, &shared.signed(How::BUNDLE));
    let fork = shared.sign(How::BUNDLE, &By::Identity(Identity::workflow("fork/app", MAIN)), &[]);
    cases.refuses("a fork", NOBODY, &with(&claims), &fork);
    let exact = format!("{FORGE}/org/app/.github/workflows/release.yaml@{MAIN}");
    let exact = rule(json!({"issuer": issuer("forge"), "subject": exact}));
    let branch = shared.sign(How::BUNDLE, &By::Identity(Identity::workflow("org/app", "refs/heads/x")), &[]);
    cases.refuses("another branch", "refs/heads/x", &exact, &branch);
    cases.done();
}

fn any_of_several_identities_suffices() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let mail = |subject: &str| json!({"issuer": issuer("mail"), "subject": subject});
    let image = shared.signed(How::BUNDLE);
    let list = json!([mail("a@example.test"), mail("b@example.test"), mail(DEV)]);
    cases.accepts("the last of three", &Rule::identities(world, list), &image);
    let list = json!([mail("a@example.test"), mail("b@example.test")]);
    cases.refuses("none of two", "dev@example.test", &Rule::identities(world, list), &image);
    // Not one's issuer with another one's subject.
    let list = json!([
        {"issuer": issuer("post"), "subject": DEV}, {"issuer": issuer("mail"), "subject": "a@example.test"},
    ]);
    cases.refuses("half of each", "dev@example.test", &Rule::identities(world, list), &image);
    cases.done();
}

/// A policy that cannot be read as it is meant accepts nothing, and says where.
#[track_caller]
fn unusable(what: &str, rule: &Rule, field: &str) {
    let shared = Shared::get();
    let image = shared.signed(How::BUNDLE);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": rule.objects(&shared.registry.host)}).to_string();
    let policy = file("policy.json", list.as_bytes());
    let ran = podseal(&["check", "--policy", policy.to_str().unwrap(), "--image", &image.pinned()]);
    assert!(ran.code.is_some_and(|code| code != 0), "{what}: {ran}");
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains(field), "{what}: {ran}");
}

/// They are not taken for "anybody".
fn e17_identities_that_name_no_subject_or_no_issuer_apply_to_nobody() {
    for (what, identity) in [
        ("no subject", json!({"issuer": issuer("mail")})),
        ("no issuer", json!({"subject": DEV})),
        ("nothing", json!({})),
        ("empty subject", json!({"issuer": issuer("mail"), "subject": ""})),
        ("two subjects", json!({"issuer": issuer("mail"), "subject": DEV, "subjectRegExp": ".*"})),
        ("two issuers", json!({"issuer": issuer("mail"), "issuerRegExp": ".*", "subject": DEV})),
        ("no expression", json!({"issuer": issuer("mail"), "subjectRegExp": "("})),
        ("misspelt", json!({"issuer": issuer("mail"), "subjects": DEV})),
    ] {
        unusable(what, &rule(identity), "cosign.identities[0]");
    }
}

fn e12_a_threshold_of_nobody_or_of_more_than_are_listed_is_refused() {
    for threshold in [json!(0), json!(-1), json!(2), json!("1"), json!(1.5), json!(1_000_000)] {
        unusable(&threshold.to_string(), &Rule::dev().with("threshold", threshold.clone()), "cosign.threshold");
    }
}

fn requirements_in_other_words_are_refused() {
    for field in ["transparencyLog", "sct"] {
        for value in [json!("notrequired"), json!("Never"), json!(false), json!("")] {
            unusable(&value.to_string(), &Rule::dev().with(field, value.clone()), field);
        }
    }
    unusable("repository", &Rule::dev().with("repository", "signatures"), "cosign.repository");
    let broken = json!([{"predicateType": "https://slsa.dev/provenance/v1", "expression": "predicate."}]);
    unusable("expression", &Rule::dev().with("attestations", broken), "cosign.attestations[0]");
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    e16_a_subject_is_compared_in_full_and_exactly,
    e16_regular_expressions_are_anchored_at_both_ends,
    subjects_of_every_kind_are_recognised,
    certificates_with_other_names_count_by_the_names_that_they_have,
    certificates_that_are_not_for_signing_or_name_no_issuer_are_refused,
    e16_workflow_claims_are_compared_one_by_one,
    any_of_several_identities_suffices,
    e17_identities_that_name_no_subject_or_no_issuer_apply_to_nobody,
    e12_a_threshold_of_nobody_or_of_more_than_are_listed_is_refused,
    requirements_in_other_words_are_refused,
}
