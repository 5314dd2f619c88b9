//! Every kind of signature that cosign makes, with the twins that differ in one thing.

use serde_json::json;

use super::cases::{Cases, DEV, Rule, Shared};
use super::world::{BY_IDENTITY, BY_KEY, new_image, registries};
use crate::support::opinions::file;
use crate::support::podseal::podseal;
use crate::support::registry::Image;
use crate::support::signer::CosignKey;
use crate::support::sigstore::{By, How, Identity, Log, Sigstore};

/// What podseal says of a log that the root does not know.
const LOG_KEY: &str = "key";
/// And of what comes with a signature when it does not fit the root.
const EVIDENCE: &str = "the evidence does not hold";

/// What an entry has to say so that a signature that is in no log counts.
pub fn lenient(rule: Rule, how: How) -> Rule {
    if how.log == Log::None { rule.with("transparencyLog", "NotRequired") } else { rule }
}

fn signatures_by_an_identity_are_accepted_and_their_twins_are_not() {
    let (world, shared, mut cases) = (Sigstore::shared(), Shared::get(), Cases::new());
    let stranger = json!([{"issuer": world.issuer("post"), "subject": DEV}]);
    for how in BY_IDENTITY {
        let image = shared.signed(how);
        let name = |what: &str| format!("{how:?}: {what}");
        cases.accepts(&name("dev"), &lenient(Rule::dev(), how), &image);
        let other = lenient(Rule::mail("other@example.test"), how);
        cases.refuses(&name("another subject"), "dev@example.test", &other, &image);
        let other = lenient(Rule::identities(world, stranger.clone()), how);
        cases.refuses(&name("another issuer"), "dev@example.test", &other, &image);
        let unsigned = shared.bare(&image);
        cases.refuses(&name("unsigned"), "no cosign signature", &lenient(Rule::dev(), how), &unsigned);
        if how.log == Log::None {
            cases.refuses(&name("in no log"), "log", &Rule::dev(), &image);
        }
    }
    cases.done();
}

fn e4_another_root_trusts_none_of_them() {
    let (shared, mut cases, other) = (Shared::get(), Cases::new(), Sigstore::start());
    other.stop();
    for how in BY_IDENTITY {
        let rule = lenient(Rule::dev(), how).root(&other.root);
        cases.refuses(&format!("{how:?}"), EVIDENCE, &rule, &shared.signed(how));
    }
    // The authority of the certificates is the same, the keys of one log are another's.
    let world = &shared.world.root;
    let own = |list: &str| Rule::dev().root(&world.with_list_of(list, &other.root));
    for how in [How::BUNDLE, How::BUNDLE_V1, How::LEGACY] {
        cases.refuses(&format!("{how:?}: log keys"), LOG_KEY, &own("tlogs"), &shared.signed(how));
        cases.refuses(&format!("{how:?}: certificate log keys"), "timestamp", &own("ctlogs"), &shared.signed(how));
        let authorities = own("certificateAuthorities");
        cases.refuses(&format!("{how:?}: certificate authority"), "certificate", &authorities, &shared.signed(how));
    }
    cases.refuses("timestamps", "timestamp", &own("timestampAuthorities"), &shared.signed(How::BUNDLE));
    cases.done();
}

fn signatures_by_a_key_are_accepted_with_and_without_a_log() {
    let (shared, mut cases, other) = (Shared::get(), Cases::new(), CosignKey::new());
    for how in BY_KEY {
        let image = shared.keyed(how);
        let name = |what: &str| format!("{how:?}: {what}");
        cases.accepts(&name("log ignored"), &Rule::key(&shared.key), &image);
        cases.refuses(&name("another key"), "untrusted key", &Rule::key(&other), &image);
        let strict = |key: &CosignKey| Rule::key(key).with("transparencyLog", "Required");
        if how.log == Log::None {
            cases.refuses(&name("in no log"), "log", &strict(&shared.key), &image);
        } else {
            cases.accepts(&name("log required"), &strict(&shared.key), &image);
            cases.refuses(&name("another key in the log"), "untrusted key", &strict(&other), &image);
            let bare = strict(&shared.key).root(&shared.world.root.without("tlogs"));
            cases.refuses(&name("a log that nobody trusts"), "log", &bare, &image);
        }
    }
    cases.done();
}

fn registries_without_referrers_are_read_by_the_fallback_tag() {
    let (world, mut cases, key) = (Sigstore::shared(), Cases::new(), CosignKey::new());
    let [_, registry] = registries();
    for (number, how) in BY_IDENTITY.into_iter().enumerate() {
        let image = new_image(&registry, number);
        world.sign(&registry, &image.pinned(), how, &By::Identity(Identity::mail(DEV)), &[]).succeeded();
        cases.accepts(&format!("{how:?}: dev"), &lenient(Rule::dev(), how), &image);
        let other = lenient(Rule::mail("other@example.test"), how);
        cases.refuses(&format!("{how:?}: another subject"), "dev@example.test", &other, &image);
    }
    for (number, how) in [How::BUNDLE, How::LEGACY].into_iter().enumerate() {
        let image = new_image(&registry, 100 + number);
        world.sign(&registry, &image.pinned(), how, &By::Key(&key), &[]).succeeded();
        let rule = Rule::key(&key).with("transparencyLog", "Required");
        cases.accepts(&format!("{how:?}: key"), &rule, &image);
    }
    cases.done();
}

/// No service is asked: all but the registry are gone.
fn everything_is_verified_with_all_services_stopped() {
    let (world, mut cases, key) = (Sigstore::start(), Cases::new(), CosignKey::new());
    let [registry, _] = registries();
    let dev = Rule::identities(&world, json!([{"issuer": world.issuer("mail"), "subject": DEV}]));
    let mut signed = Vec::new();
    for (number, how) in BY_IDENTITY.into_iter().enumerate() {
        let image = new_image(&registry, number);
        world.sign(&registry, &image.pinned(), how, &By::Identity(Identity::mail(DEV)), &[]).succeeded();
        signed.push((how, lenient(dev.clone(), how), image, true));
    }
    for (number, how) in BY_KEY.into_iter().enumerate() {
        let image = new_image(&registry, 100 + number);
        world.sign(&registry, &image.pinned(), how, &By::Key(&key), &[]).succeeded();
        let logged = how.log != Log::None;
        let log = if logged { "Required" } else { "NotRequired" };
        signed.push((how, Rule::key(&key).root(&world.root).with("transparencyLog", log), image, logged));
    }
    world.stop();
    let other = &Sigstore::shared().root;
    for (how, rule, image, needs_root) in &signed {
        cases.accepts(&format!("{how:?}"), rule, image);
        if *needs_root {
            cases.refuses(&format!("{how:?}: the shared root"), "", &rule.clone().root(other), image);
        }
    }
    cases.done();
}

fn an_index_counts_by_its_own_signature_or_by_those_of_all_its_images() {
    let (shared, mut cases) = (Shared::get(), Cases::new());
    let by = By::Identity(Identity::mail(DEV));
    for how in [How::BUNDLE, How::LEGACY] {
        let name = |what: &str| format!("{how:?}: {what}");
        let index = || {
            let (one, two) = (shared.image(), shared.image());
            let whole = shared.registry.push_index(&format!("{}:index", one.repository), &[&one, &two]);
            let inside = |image: &Image| Image { digest: image.digest.clone(), ..whole.clone() };
            let children = [inside(&one), inside(&two)];
            // The second one lies in another repository so far.
            shared
                .registry
                .crane(&["copy", &two.pinned(), &format!("{}/{}:two", two.host, one.repository)])
                .succeeded();
            (whole, children)
        };
        let (whole, [one, two]) = index();
        cases.refuses(&name("unsigned"), "no cosign signature", &Rule::dev(), &whole);
        shared.sign_too(&whole, how, &by, &[]);
        cases.accepts(&name("signed itself"), &Rule::dev(), &whole);
        cases.refuses(&name("one of its images"), "no cosign signature", &Rule::dev(), &one);
        cases.refuses(&name("the other one"), "no cosign signature", &Rule::dev(), &two);

        let (whole, [one, two]) = index();
        shared.sign_too(&one, how, &by, &[]);
        cases.refuses(&name("one of two images signed"), "", &Rule::dev(), &whole);
        shared.sign_too(&two, how, &by, &[]);
        cases.accepts(&name("both images signed"), &Rule::dev(), &whole);
        cases.refuses(&name("both images signed by another"), "", &Rule::mail("other@example.test"), &whole);

        let (whole, [one, _]) = index();
        shared.sign_too(&whole, how, &by, &["-r"]);
        cases.accepts(&name("signed with all its images"), &Rule::dev(), &whole);
        cases.refuses(&name("another subject"), "", &Rule::mail("other@example.test"), &whole);
        cases.accepts(&name("one of them"), &Rule::dev(), &one);
    }
    cases.done();
}

fn the_installations_root_counts_where_a_policy_names_none() {
    let shared = Shared::get();
    let image = shared.signed(How::BUNDLE);
    let mut objects = Rule::dev().objects(&image.host);
    objects[0]["spec"]["registries"][0]["cosign"].as_object_mut().unwrap().remove("trustRootRef").unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let (policy, root) = (file("policy.json", list.as_bytes()), shared.world.materials.file("root.json"));
    let check = |more: &[&str]| {
        let common = ["check", "--policy", policy.to_str().unwrap(), "--image", &image.pinned()];
        podseal(&[&common, more].concat())
    };
    let flag = ["--sigstore-trusted-root", root.to_str().unwrap()];
    assert_eq!(check(&flag).code, Some(0), "{}", check(&flag));
    // The public one, which does not know this world; nobody is asked for a newer one.
    let ran = check(&[]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let missing = check(&["--sigstore-trusted-root", "/nowhere/root.json"]);
    assert!(missing.code != Some(0) && missing.stderr.contains("/nowhere/root.json"), "{missing}");
}

crate::tests! {
    needs [Sigstore, Registry, DebianRegistry];
    signatures_by_an_identity_are_accepted_and_their_twins_are_not,
    e4_another_root_trusts_none_of_them,
    signatures_by_a_key_are_accepted_with_and_without_a_log,
    registries_without_referrers_are_read_by_the_fallback_tag,
    everything_is_verified_with_all_services_stopped,
    an_index_counts_by_its_own_signature_or_by_those_of_all_its_images,
    the_installations_root_counts_where_a_policy_names_none,
}
