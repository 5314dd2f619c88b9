use proptest::prelude::*;

use super::*;
use crate::domain::policy::{CosignCheck, ObjectRef, Policy, PolicyId, SignedCheck, TransportSpec};
use crate::domain::scope::Scope;
use crate::domain::verdict::Method;

fn signed(cosign: bool) -> Check {
    let key_ref = ObjectRef { namespace: "registry-system".into(), name: "key".into() };
    let cosign = cosign.then(|| Box::new(CosignCheck { key_ref: Some(key_ref), ..CosignCheck::default() }));
    let (signers, transport) = (Vec::new(), TransportSpec::default());
    Check::Signed(Box::new(SignedCheck { notary: None, cosign, gpg: None, signers, transport }))
}

/// A policy `namespace/name` or `name` with an entry for each registry.
fn policy(id: &str, entries: &[(&str, Check)]) -> Policy {
    let id = id.split_once('/').map_or_else(|| PolicyId::cluster(id), |(ns, name)| PolicyId::namespaced(ns, name));
    let entry = |(index, (registry, check)): (usize, &(&str, Check))| {
        let scope = Scope::parse(registry).expect("registry").0;
        let (policy, check) = (id.clone(), check.clone());
        Arc::new(Entry {
            policy,
            index,
            scope,
            check,
            require_digest: false,
            action: Action::Enforce,
            fingerprint: [0; 32],
        })
    };
    let entries = entries.iter().enumerate().map(entry).collect();
    Policy { id, entries, problems: Vec::new() }
}

fn entry(name: &str, action: Action) -> Arc<Entry> {
    let policy = policy(name, &[("r.io", signed(true))]);
    Arc::new(Entry { action, ..(*policy.entries[0]).clone() })
}

fn whitelist(images: &str, namespaces: &str) -> Whitelist {
    let data = [("whitelist-images", images), ("whitelist-namespaces", namespaces)];
    Whitelist::parse(&data.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

const OPEN: Options = Options { deny_without_policy: false, restrict_namespaces: false };

fn go(policies: &[Policy], whitelist: &Whitelist, options: Options, namespace: &str, image: &str) -> Route {
    route(&PolicySet::new(policies), whitelist, options, namespace, &image.parse())
}

/// A route in few words: `allowed …`, `denied Reason` or the names of the governing entries.
fn short(route: &Route) -> String {
    match route {
        Route::Decided(outcome) => say(outcome),
        Route::Judge(entries) => entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn say(outcome: &Outcome) -> String {
    let list = |findings: &[Finding]| {
        findings.iter().flat_map(|f| &f.failures).map(|f| f.cause.reason()).collect::<Vec<_>>().join(" ")
    };
    match outcome {
        Outcome::Allowed(basis) => format!("allowed {basis:?}"),
        Outcome::Denied(findings) => format!("denied {}", list(findings)),
        Outcome::Undecided(findings) => format!("undecided {}", list(findings)),
    }
}

fn routed(policies: &[Policy], namespace: &str, image: &str) -> String {
    short(&go(policies, &Whitelist::default(), OPEN, namespace, image))
}

#[test]
fn step_1_a_whitelisted_namespace_is_allowed_before_anything_else() {
    let list = whitelist("", "free");
    let policies = [policy("p", &[("r.io", signed(true))])];
    for image in ["r.io/a", "evil.io/a", "Not An Image"] {
        assert_eq!(short(&go(&policies, &list, OPEN, "free", image)), "allowed WhitelistedNamespace", "{image}");
        assert_ne!(short(&go(&policies, &list, OPEN, "free-x", image)), "allowed WhitelistedNamespace", "{image}");
    }
}

#[test]
fn c9_a_malformed_image_is_denied_with_and_without_policies() {
    let policies = [policy("p", &[("*", Check::Unchecked)])];
    for image in ["", " ", "r.io/A", "r.io/a:1:1", "r.io/a@sha256:00", "r.io/a ", "https://r.io/a"] {
        for policies in [&policies[..], &[]] {
            let list = whitelist("*", "");
            assert_eq!(short(&go(policies, &list, OPEN, "n", image)), "denied MalformedImage", "{image:?}");
        }
    }
}

#[test]
fn step_2_a_whitelisted_image_is_allowed_and_its_line_named() {
    let list = whitelist("r.io/a:1", "");
    let policies = [policy("p", &[("r.io", signed(true))])];
    assert_eq!(short(&go(&policies, &list, OPEN, "n", "r.io/a:1")), r#"allowed WhitelistedImage("r.io/a:1")"#);
    assert_eq!(
        short(&go(&policies, &list, OPEN, "n", "r.io/a:2")),
        "ClusterRegistrySecurityPolicy/p spec.registries[0]"
    );
    let strict = Options { deny_without_policy: true, ..OPEN };
    assert_eq!(short(&go(&[], &list, strict, "n", "r.io/a:1")), r#"allowed WhitelistedImage("r.io/a:1")"#);
}

#[test]
fn step_3_no_policy_allows_or_denies_as_installed() {
    let strict = Options { deny_without_policy: true, ..OPEN };
    let other = [policy("other/p", &[("r.io", signed(true))])];
    for policies in [&[][..], &other] {
        assert_eq!(routed(policies, "n", "r.io/a"), "allowed NoPolicy", "policies of other namespaces do not count");
        assert_eq!(short(&go(policies, &Whitelist::default(), strict, "n", "r.io/a")), "denied NoPolicy");
    }
    assert_eq!(routed(&other, "other", "x.io/a"), "denied NoMatchingPolicy");
}

#[test]
fn i11_a_policy_without_registries_denies() {
    assert_eq!(routed(&[policy("p", &[])], "n", "r.io/a"), "denied NoMatchingPolicy");
    assert_eq!(routed(&[policy("n/p", &[])], "n", "r.io/a"), "denied NoMatchingPolicy");
    assert_eq!(routed(&[policy("n/p", &[])], "m", "r.io/a"), "allowed NoPolicy");
}

#[test]
fn step_4_the_most_specific_entries_of_each_kind_govern() {
    let policies = [
        policy("wide", &[("*", Check::Unchecked), ("r.io", signed(true))]),
        policy("narrow", &[("r.io/team", signed(true))]),
        policy("twin", &[("r.io/team/*", Check::Unchecked)]),
        policy("n/own", &[("r.io", signed(true)), ("r.io/x", signed(true))]),
        policy("m/own", &[("*", signed(true))]),
    ];
    let cluster = |name: &str, i: usize| format!("ClusterRegistrySecurityPolicy/{name} spec.registries[{i}]");
    let own = |i: usize| format!("RegistrySecurityPolicy/n/own spec.registries[{i}]");
    let team = format!("{}, {}, {}", cluster("narrow", 0), cluster("twin", 0), own(0));
    assert_eq!(routed(&policies, "n", "r.io/team/a"), team, "ties all govern, and so does the namespace's own");
    assert_eq!(routed(&policies, "n", "r.io/x"), format!("{}, {}", cluster("wide", 1), own(1)));
    assert_eq!(routed(&policies, "n", "other.io/x"), cluster("wide", 0));
    assert_eq!(routed(&policies, "q", "r.io/x"), cluster("wide", 1), "another namespace's policy does not govern");
}

#[test]
fn step_5_policies_and_no_match_deny() {
    let policies = [policy("p", &[("r.io/team", Check::Unchecked)])];
    for image in ["r.io/a", "r.io/team-evil/a", "x.r.io/team/a", "team/a", "evil.com/r.io/team/a"] {
        assert_eq!(routed(&policies, "n", image), "denied NoMatchingPolicy", "{image}");
    }
}

#[test]
fn i1_a_namespace_may_add_registries_unless_restricted() {
    let policies = [policy("p", &[("r.io", signed(true))]), policy("n/own", &[("evil.io", Check::Unchecked)])];
    assert_eq!(routed(&policies, "n", "evil.io/a"), "RegistrySecurityPolicy/n/own spec.registries[0]");
    let restricted = Options { restrict_namespaces: true, ..OPEN };
    let route = go(&policies, &Whitelist::default(), restricted, "n", "evil.io/a");
    assert_eq!(short(&route), "denied NoMatchingPolicy");
    assert!(format!("{route:?}").contains("cluster policies alone"));
    assert_eq!(routed(&policies, "m", "evil.io/a"), "denied NoMatchingPolicy");
}

#[test]
fn i1_restricted_namespaces_still_tighten() {
    let policies = [policy("p", &[("r.io", Check::Unchecked)]), policy("n/own", &[("r.io/a", signed(true))])];
    let restricted = Options { restrict_namespaces: true, ..OPEN };
    let both = "ClusterRegistrySecurityPolicy/p spec.registries[0], RegistrySecurityPolicy/n/own spec.registries[0]";
    assert_eq!(short(&go(&policies, &Whitelist::default(), restricted, "n", "r.io/a")), both);
}

/// The decision when every signature check that is reached says `signature`.
fn decide(route: &Route, image: &str, signature: &dyn Fn(&Entry) -> bool) -> Outcome {
    match route {
        Route::Decided(outcome) => outcome.clone(),
        Route::Judge(entries) => {
            let image: ImageRef = image.parse().expect("image");
            let judge = |entry: &Arc<Entry>| {
                without_signature(entry, &image).unwrap_or_else(|| EntryOutcome {
                    entry: entry.clone(),
                    result: if signature(entry) { Ok(passed()) } else { Err(vec![failure(RefusalKind::Unsigned)]) },
                })
            };
            combine(&entries.iter().map(judge).collect::<Vec<_>>()).outcome
        }
    }
}

fn passed() -> Pass {
    Pass { method: Some(Method::Cosign), signer: Some("alice".to_owned()) }
}

fn failure(kind: RefusalKind) -> Failure {
    Failure { method: Some(Method::Cosign), cause: Cause::Refused(Refusal::new(kind, "x")) }
}

fn obstacle() -> Failure {
    Failure { method: Some(Method::Gpg), cause: Cause::Undecided(Fault::new(FaultKind::Timeout, "x")) }
}

fn decided(policies: &[Policy], namespace: &str, image: &str, signature: bool) -> String {
    let route = go(policies, &Whitelist::default(), OPEN, namespace, image);
    say(&decide(&route, image, &|_| signature)).split('{').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn i2_a_namespace_tightens_an_unchecked_registry() {
    let policies = [policy("p", &[("r.io", Check::Unchecked)]), policy("n/own", &[("r.io", signed(true))])];
    assert_eq!(decided(&policies, "n", "r.io/a", false), "denied Unsigned");
    assert_eq!(decided(&policies, "n", "r.io/a", true), "allowed Policy");
    assert_eq!(decided(&policies, "m", "r.io/a", false), "allowed Policy");
}

#[test]
fn i1_a_namespace_never_loosens_a_registry() {
    let policies = [policy("p", &[("r.io", signed(true))]), policy("n/own", &[("r.io/a", Check::Unchecked)])];
    assert_eq!(decided(&policies, "n", "r.io/a", false), "denied Unsigned");
}

#[test]
fn i12_a_check_without_a_method_denies() {
    let policies = [policy("p", &[("r.io", signed(false))])];
    assert_eq!(decided(&policies, "n", "r.io/a", true), "denied NoVerifier");
}

#[test]
fn i14_conflicting_policies_give_one_verdict_in_every_order() {
    let mut policies = [
        policy("a", &[("r.io", Check::Unchecked), ("r.io", signed(true))]),
        policy("b", &[("r.io", signed(true))]),
        policy("n/c", &[("r.io", Check::Broken("gpgKeyRef is malformed".to_owned()))]),
    ];
    for _ in 0..policies.len() {
        policies.rotate_left(1);
        assert_eq!(decided(&policies, "m", "r.io/a", false), "denied Unsigned Unsigned");
        assert_eq!(decided(&policies, "m", "r.io/a", true), "allowed Policy");
        assert_eq!(decided(&policies, "n", "r.io/a", true), "denied InvalidEntry");
    }
}

#[test]
fn the_original_flow_holds() {
    let core = "core.harbor.domain.io";
    let policies = [policy("p", &[(core, signed(true)), ("quay.io", Check::Unchecked)])];
    assert_eq!(decided(&[], "n", "nginx", false), "allowed NoPolicy");
    assert_eq!(decided(&policies, "n", "nginx", false), "denied NoMatchingPolicy");
    assert_eq!(decided(&policies, "n", "quay.io/x/y:1", false), "allowed Policy");
    assert_eq!(decided(&policies, "n", "core.harbor.domain.io/x:1", true), "allowed Policy");
    assert_eq!(decided(&policies, "n", "core.harbor.domain.io/x:1", false), "denied Unsigned");
}

#[test]
fn an_entry_without_signature_check_is_settled_at_once() {
    let tagged: ImageRef = "r.io/a:1".parse().expect("image");
    let pinned = tagged.with_digest(crate::domain::digest::Digest::sha256(b""));
    let make = |check: Check, require_digest| {
        Arc::new(Entry { check, require_digest, ..(*entry("p", Action::Enforce)).clone() })
    };
    let result = |check: Check, digest, image: &ImageRef| {
        without_signature(&make(check, digest), image).map(|o| o.result.map_err(|f| f[0].cause.reason()))
    };
    let unchecked = Pass { method: None, signer: None };
    assert_eq!(result(Check::Unchecked, false, &tagged), Some(Ok(unchecked.clone())));
    assert_eq!(result(Check::Unchecked, true, &tagged), Some(Err("DigestRequired")));
    assert_eq!(result(Check::Unchecked, true, &pinned), Some(Ok(unchecked)));
    assert_eq!(result(signed(true), false, &tagged), None);
    assert_eq!(result(signed(true), true, &tagged), Some(Err("DigestRequired")));
    assert_eq!(result(signed(true), true, &pinned), None);
    assert_eq!(result(signed(false), false, &pinned), Some(Err("NoVerifier")));
    assert_eq!(result(Check::Broken("x".to_owned()), true, &tagged), Some(Err("InvalidEntry")));
}

fn outcome(entry: Arc<Entry>, result: Result<Pass, Vec<Failure>>) -> EntryOutcome {
    EntryOutcome { entry, result }
}

#[test]
fn every_enforced_entry_must_pass() {
    let [a, b] = ["a", "b"].map(|name| entry(name, Action::Enforce));
    let pass = || Ok(passed());
    let fail = || Err(vec![failure(RefusalKind::Unsigned)]);
    let fault = || Err(vec![failure(RefusalKind::Unsigned), obstacle()]);
    let table = [
        (vec![pass(), pass()], "allowed"),
        (vec![pass(), fail()], "denied Unsigned"),
        (vec![fail(), pass()], "denied Unsigned"),
        (vec![fault(), pass()], "undecided Unsigned CouldNotDecide"),
        (vec![fault(), fail()], "denied Unsigned Unsigned CouldNotDecide"),
        (vec![fail(), fault()], "denied Unsigned Unsigned CouldNotDecide"),
        (vec![Err(Vec::new()), pass()], "denied"),
        (vec![], "undecided CouldNotDecide"),
    ];
    for (results, expected) in table {
        let outcomes: Vec<_> = [&a, &b].into_iter().zip(results).map(|(e, r)| outcome(e.clone(), r)).collect();
        let said = say(&combine(&outcomes).outcome);
        assert!(
            said.starts_with(expected) && (expected == "allowed" || said.trim() == expected),
            "{said} / {expected}"
        );
    }
}

#[test]
fn warn_and_audit_count_as_passed_and_leave_their_findings() {
    for results in [vec![failure(RefusalKind::Unsigned)], vec![obstacle()]] {
        let outcomes = [
            outcome(entry("w", Action::Warn), Err(results.clone())),
            outcome(entry("a", Action::Audit), Err(results.clone())),
        ];
        let combined = combine(&outcomes);
        assert!(matches!(&combined.outcome, Outcome::Allowed(Basis::Policy { pass, .. }) if pass.method.is_none()));
        assert_eq!((combined.warned.len(), combined.audited.len()), (1, 1));
        assert_eq!(combined.warned[0].policy.as_deref(), Some("ClusterRegistrySecurityPolicy/w spec.registries[0]"));
        assert_eq!(combined.audited[0].failures, results);

        let enforced = outcome(entry("e", Action::Enforce), Err(vec![failure(RefusalKind::Signer)]));
        let combined = combine(&[outcomes[0].clone(), outcomes[1].clone(), enforced]);
        assert_eq!(say(&combined.outcome), "denied SignerMismatch");
        assert_eq!((combined.warned.len(), combined.audited.len()), (1, 1), "findings are kept beside a denial");
    }
    for action in [Action::Warn, Action::Audit] {
        let combined = combine(&[outcome(entry("p", action), Ok(passed()))]);
        assert!(combined.warned.is_empty() && combined.audited.is_empty(), "a pass leaves nothing");
    }
}

#[test]
fn a_broken_entry_denies_whatever_its_action_says() {
    for action in [Action::Warn, Action::Audit, Action::Enforce] {
        let broken = Entry { check: Check::Broken("x".to_owned()), ..(*entry("p", action)).clone() };
        let image = "r.io/a".parse().expect("image");
        let outcome = without_signature(&Arc::new(broken), &image).expect("settled");
        assert_eq!(say(&combine(&[outcome]).outcome), "denied InvalidEntry");
    }
}

#[test]
fn an_allowance_names_the_entry_that_checked_a_signature() {
    let unchecked = outcome(entry("a", Action::Enforce), Ok(Pass { method: None, signer: None }));
    let checked = outcome(entry("b", Action::Enforce), Ok(passed()));
    let failed = outcome(entry("c", Action::Warn), Err(vec![obstacle()]));
    for outcomes in [[&failed, &unchecked, &checked], [&checked, &unchecked, &failed]] {
        let outcomes: Vec<_> = outcomes.into_iter().cloned().collect();
        let policy = "ClusterRegistrySecurityPolicy/b spec.registries[0]".to_owned();
        assert_eq!(combine(&outcomes).outcome, Outcome::Allowed(Basis::Policy { policy, pass: passed() }));
    }
}

fn any_check() -> impl Strategy<Value = Check> {
    prop_oneof![Just(Check::Unchecked), Just(signed(true)), Just(signed(false)), Just(Check::Broken("x".to_owned())),]
}

fn any_policies(prefix: &'static str) -> impl Strategy<Value = Vec<Policy>> {
    let registry =
        prop::sample::select(vec!["*", "*.io", "r.io", "r.io/a", "r.io/a/b", "docker.io/a", "docker.io/library/a"]);
    let entries = prop::collection::vec((registry, any_check()), 0..4);
    prop::collection::vec(entries, 0..3).prop_map(move |all| {
        all.iter().enumerate().map(|(i, entries)| policy(&format!("{prefix}p{i}"), entries)).collect()
    })
}

fn any_image() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["r.io/a", "r.io/a/b/c", "r.io/c", "s.io/a", "a", "a/b", "x.com/a"])
}

proptest! {
    #[test]
    fn i1_adding_a_namespace_policy_never_admits_what_a_named_registry_denied(
        cluster in any_policies(""), own in any_policies("n/"), image in any_image(), good in any::<[bool; 4]>(), restrict in any::<bool>(),
    ) {
        let options = Options { restrict_namespaces: restrict, ..OPEN };
        let named = !PolicySet::new(&cluster).governing_cluster(image.parse::<ImageRef>().expect("image").repository()).is_empty();
        // Whether a signature is good may differ from entry to entry, and not with the policies around it.
        let signature = |entry: &Entry| good[(entry.index + entry.policy.name.len()) % good.len()];
        let before = decide(&go(&cluster, &Whitelist::default(), options, "n", image), image, &signature);
        let all: Vec<_> = cluster.iter().chain(&own).cloned().collect();
        let after = decide(&go(&all, &Whitelist::default(), options, "n", image), image, &signature);
        if (named || restrict) && !matches!(before, Outcome::Allowed(_)) {
            prop_assert!(!matches!(after, Outcome::Allowed(_)), "{:?} became {:?}", before, after);
        }
    }

    #[test]
    fn c20_the_order_of_policies_and_entries_decides_nothing(
        cluster in any_policies(""), own in any_policies("n/"), image in any_image(), turn in 0usize..6,
    ) {
        let mut all: Vec<_> = cluster.iter().chain(&own).cloned().collect();
        let answer = |policies: &[Policy]| go(policies, &Whitelist::default(), OPEN, "n", image);
        let before = answer(&all);
        all.reverse();
        let middle = turn.min(all.len());
        all.rotate_left(middle);
        for policy in &mut all {
            policy.entries.reverse();
        }
        prop_assert_eq!(short(&answer(&all)), short(&before));
        // Governing entries come cluster first, then by policy and position, so the folded answer is the same text, too.
        prop_assert_eq!(say(&decide(&answer(&all), image, &|_| false)), say(&decide(&before, image, &|_| false)));
    }
}

#[test]
fn h19_entries_piled_up_for_one_scope_deny_instead_of_costing_everybody() {
    let none = whitelist("", "");
    let pile = |count: usize| policy("ns/p", &vec![("r.example", Check::Unchecked); count]);
    let routed = |count| go(&[pile(count)], &none, Options::default(), "ns", "r.example/a:1");
    assert!(matches!(routed(MAX_GOVERNING), Route::Judge(entries) if entries.len() == MAX_GOVERNING));
    let Route::Decided(Outcome::Denied(findings)) = routed(MAX_GOVERNING + 1) else { panic!("not denied") };
    assert!(matches!(&findings[0].failures[0].cause, Cause::Refused(r) if r.detail.contains("merge them")));
}
