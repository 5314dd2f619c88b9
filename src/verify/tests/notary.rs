//! Docker Content Trust from end to end, against a server that may lie. What real servers say is tested elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::roots::ProcessRoots;
use crate::domain::digest::Digest;
use crate::signature::notary::testing::{
    Authority as Roots, Keys, Signer, delegate, file, parameters, publish, target, targets,
};
use crate::source::SourceConfig;
use crate::source::testing::{Authority, Reply, Seen, Server, basic, reply};
use crate::verify::testing::{CosignKey, GpgKey, IMAGE_TYPE, INDEX_TYPE, Lab, Shop, say, text};
use crate::verify::{Pin, PodContext, VerifyConfig};

/// Trust data of one repository, and where it is served.
struct Trust {
    gun: String,
    keys: Keys,
    root: Vec<u8>,
    targets: Value,
    version: u64,
}

impl Trust {
    fn new(shop: &Shop, repository: &str) -> Self {
        Self::by(shop, repository, Keys::new)
    }

    fn by(shop: &Shop, repository: &str, keys: impl Fn(&str) -> Keys) -> Self {
        let gun = format!("{}/{repository}", shop.host());
        let keys = keys(&gun);
        let root = file(&keys.root(1), &[&keys.root]);
        Self { gun, keys, root, targets: targets(1, &[]), version: 1 }
    }

    fn release(mut self, tag: &str, digest: &Digest) -> Self {
        self.targets["targets"][tag] = target(digest.hex());
        self
    }

    fn path(&self, file: &str) -> String {
        format!("/v2/{}/_trust/tuf/{file}", self.gun)
    }

    /// What is served under which path.
    fn files(&self, more: &[(&str, &Value, &[&Signer])]) -> BTreeMap<String, Vec<u8>> {
        let own: [&Signer; 1] = [&self.keys.targets];
        let mut roles: Vec<(&str, &Value, &[&Signer])> = vec![("targets", &self.targets, &own)];
        roles.extend(more);
        let files = publish(&self.keys, &self.root, self.version, &roles, |_, _| {});
        let hashed = |role: &str, bytes: &[u8]| match role {
            "root" | "timestamp" => self.path(&format!("{role}.json")),
            role => self.path(&format!("{role}.{}.json", Digest::sha256(bytes).hex())),
        };
        files.into_iter().map(|(role, bytes)| (hashed(&role, &bytes), bytes)).collect()
    }

    fn serve(&self, shop: &Shop, more: &[(&str, &Value, &[&Signer])]) {
        for (path, bytes) in self.files(more) {
            shop.put(&path, "application/json", bytes);
        }
    }

    /// An entry that pins the root.
    fn entry(&self, shop: &Shop, server: &str) -> Value {
        json!({
            "registry": shop.host(), "signCheck": true, "insecure": true, "notary": server,
            "notaryTrust": {"rootKeyIds": [self.keys.root.id]},
        })
    }
}

/// A registry with an image `app:1` and a Notary server that releases it, on two hosts.
fn scene() -> (Shop, Shop, Trust, Digest, Lab) {
    let (shop, server) = (Shop::open(1), Shop::open(2));
    let digest = shop.image("app", "x");
    let trust = Trust::new(&shop, "app").release("1", &digest);
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}", server.host()))]));
    (shop, server, trust, digest, lab)
}

#[tokio::test]
async fn released_tags_and_their_digests_pass_and_nothing_else() {
    let (shop, server, trust, digest, lab) = scene();
    trust.serve(&server, &[]);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Notary targets");
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Notary targets");
    // With a digest the tag is free text.
    assert_eq!(lab.say("team", &format!("{}/app:any@{digest}", shop.host())).await, "allowed Notary targets");
    let other = shop.manifest(
        "app",
        Some("2"),
        IMAGE_TYPE,
        &json!({"schemaVersion": 2, "mediaType": IMAGE_TYPE, "layers": [], "config": {}, "annotations": {"a": "b"}}),
    );
    assert_eq!(lab.say("team", &format!("{}/app:2", shop.host())).await, "denied Unsigned");
    assert_eq!(lab.say("team", &shop.pinned("app", &other)).await, "denied Unsigned");
    // No trust data at all.
    let image = shop.image("unknown", "y");
    let verdict = lab.judge("team", &shop.pinned("unknown", &image)).await;
    assert_eq!(say(&verdict), "denied Unsigned");
    assert!(text(&verdict).contains("has no trust data for"), "{}", text(&verdict));
}

#[tokio::test]
async fn orig_13_a_tag_that_moved_in_the_registry_is_another_digest() {
    let (shop, server, trust, ..) = scene();
    trust.serve(&server, &[]);
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}", server.host()))]));
    shop.image("app", "moved");
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert_eq!(say(&verdict), "denied DigestMismatch");
    assert!(text(&verdict).contains("Notary: Image") && text(&verdict).contains("says that 1 is sha256:"));
}

#[tokio::test]
async fn e18_e19_listed_signers_are_delegations_that_signed_the_same() {
    let (shop, server, mut trust, digest, lab) = scene();
    let (alice, bob) = (Signer::certified("alice"), Signer::ed25519());
    delegate(&mut trust.targets, "targets/alice", &[&alice], &[""]);
    delegate(&mut trust.targets, "targets/bob", &[&bob], &[""]);
    let mut by_alice = targets(1, &[]);
    by_alice["targets"]["1"] = target(digest.hex());
    trust.serve(&server, &[("targets/alice", &by_alice, &[&alice])]);
    let mut entry = trust.entry(&shop, &format!("http://{}", server.host()));
    for (signers, expected) in [
        (json!(["alice"]), "allowed Notary alice"),
        (json!(["x@example.org", "targets/alice"]), "allowed Notary targets/alice"),
        (json!(["bob"]), "denied SignerMismatch"),
        (json!(["Repo Admin"]), "allowed Notary Repo Admin"),
        (json!(["repo admin", ""]), "denied SignerMismatch"),
    ] {
        entry["signer"] = signers;
        lab.govern(Some("team"), &json!([entry]));
        assert_eq!(lab.say("team", &shop.tagged("app")).await, expected, "{}", entry["signer"]);
    }
}

#[tokio::test]
async fn h11_only_a_404_for_the_root_means_unsigned() {
    let (shop, server, trust, ..) = scene();
    let files = trust.files(&[]);
    for (path, bytes) in &files {
        server.put(path, "application/json", bytes.clone());
    }
    let entry = trust.entry(&shop, &format!("http://{}", server.host()));
    let say = async || {
        let lab = Lab::new();
        lab.govern(Some("team"), &json!([entry]));
        lab.say("team", &shop.tagged("app")).await
    };
    assert_eq!(say().await, "allowed Notary targets");
    let snapshot = files.keys().find(|path| path.contains("/snapshot.")).unwrap().clone();
    for path in [trust.path("timestamp.json"), snapshot] {
        let kept = files[&path].clone();
        server.take_away(&path);
        assert_eq!(say().await, "undecided bad_answer", "{path}");
        for (answer, expected) in
            [(500, "undecided bad_answer"), (403, "undecided unauthorized"), (204, "undecided bad_answer")]
        {
            server.on(&path, move |_| reply(answer, ""));
            assert_eq!(say().await, expected, "{path} {answer}");
        }
        server.on(&path, |_| Reply::HangUp);
        assert_eq!(say().await, "undecided unreachable", "{path}");
        server.on(&path, |_| Reply::Endless { status: 200, headers: Vec::new() });
        assert_eq!(say().await, "undecided too_large", "{path}");
        server.put(&path, "application/json", kept);
    }
    for answer in [500, 503, 400, 410] {
        server.on(&trust.path("root.json"), move |_| reply(answer, ""));
        assert_eq!(say().await, "undecided bad_answer", "{answer}");
    }
    server.take_away(&trust.path("root.json"));
    assert_eq!(say().await, "denied Unsigned");
}

#[tokio::test]
async fn e43_no_other_server_is_asked_than_the_one_the_policy_names() {
    let (shop, server, trust, ..) = scene();
    let elsewhere = Shop::open(3);
    trust.serve(&elsewhere, &[]);
    let there = elsewhere.host();
    server.only(move |seen| Some(reply(307, "").with("location", format!("http://{there}{}", seen.target))));
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}", server.host()))]));
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert_eq!(say(&verdict), "undecided bad_answer");
    assert!(text(&verdict).contains("a redirect to another host"), "{}", text(&verdict));
    assert_eq!(elsewhere.server.lines(), Vec::<String>::new());
    // On the same host it is followed.
    let base = server.host();
    server.only(move |seen| {
        let target = seen.target.strip_prefix("/old")?.to_owned();
        Some(reply(307, "").with("location", format!("http://{base}{target}")))
    });
    trust.serve(&server, &[]);
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}/old/", server.host()))]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Notary targets");
}

#[tokio::test]
async fn d11_older_trust_data_than_was_seen_is_refused() {
    let (shop, server, mut trust, digest, lab) = scene();
    let old = trust.files(&[]);
    trust.version = 2;
    trust.targets["version"] = 2.into();
    trust = trust.release("new", &digest);
    trust.serve(&server, &[]);
    let new = |tag: &str| format!("{}/app:{tag}@{digest}", shop.host());
    assert_eq!(lab.say("team", &new("new")).await, "allowed Notary targets");
    for (path, bytes) in old {
        server.put(&path, "application/json", bytes);
    }
    // Other references are not answered from the cache of verdicts.
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert_eq!(say(&verdict), "denied InvalidSignature");
    assert!(
        text(&verdict).contains("went back from version 2 of timestamp.json to version 1")
            || text(&verdict).contains("went back from version 2 of snapshot.json to version 1"),
        "{}",
        text(&verdict)
    );
    // A verifier that never saw the newer one cannot know.
    let fresh = Lab::new();
    fresh.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}", server.host()))]));
    assert_eq!(fresh.say("team", &shop.tagged("app")).await, "allowed Notary targets");
}

#[tokio::test]
async fn files_that_change_while_they_are_read_are_read_once_more() {
    let (shop, server, mut trust, digest, lab) = scene();
    // A new root key, published after the root was read and before the rest was.
    let old_root = trust.root.clone();
    let old_key = std::mem::replace(&mut trust.keys.root, Signer::certified(&trust.gun));
    trust.root = file(&trust.keys.root(2), &[&trust.keys.root, &old_key]);
    trust.version = 2;
    trust.serve(&server, &[]);
    server.put(&trust.path("1.root.json"), "application/json", old_root.clone());
    let stale = old_root.clone();
    let new_root = trust.root.clone();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    server.on(&trust.path("root.json"), move |_| {
        let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        reply(200, if first { old_root.clone() } else { new_root.clone() })
    });
    let mut entry = trust.entry(&shop, &format!("http://{}", server.host()));
    entry["notaryTrust"]["rootKeyIds"] = json!([old_key.id]);
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Notary targets");
    assert_eq!(server.count("/root.json"), 2, "{:?}", server.server.lines());
    // Once, and not again and again: an old root that stays does not belong to the rest.
    server.put(&trust.path("root.json"), "application/json", stale);
    server.server.forget();
    let verdict = lab.judge("team", &format!("{}/app:other@{digest}", shop.host())).await;
    assert_eq!(say(&verdict), "allowed Notary targets", "the same reference, from the cache");
    let fresh = Lab::new();
    fresh.govern(Some("team"), &json!([entry]));
    let verdict = fresh.judge("team", &shop.pinned("app", &digest)).await;
    assert_eq!(say(&verdict), "denied InvalidSignature");
    assert!(text(&verdict).contains("root.json is not the file"), "{}", text(&verdict));
    assert_eq!(server.count("/root.json"), 2, "{:?}", server.server.lines());
}

#[tokio::test]
async fn a_pinned_root_leads_to_the_newest_by_every_one_in_between() {
    let (shop, server, mut trust, digest, _) = scene();
    let pinned = trust.keys.root.id.clone();
    server.put(&trust.path("1.root.json"), "application/json", trust.root.clone());
    let mut roots = Vec::new();
    for version in 2..=4 {
        let next = Keys::new(&trust.gun);
        trust.root = file(&next.root(version), &[&next.root, &trust.keys.root]);
        trust.keys = next;
        roots.push((trust.path(&format!("{version}.root.json")), trust.root.clone()));
    }
    for (path, bytes) in &roots {
        server.put(path, "application/json", bytes.clone());
    }
    trust.serve(&server, &[]);
    let mut entry = trust.entry(&shop, &format!("http://{}", server.host()));
    let say = async |entry: &Value| {
        let lab = Lab::new();
        lab.govern(Some("team"), &json!([entry]));
        lab.judge("team", &shop.pinned("app", &digest)).await
    };
    assert_eq!(crate::verify::testing::say(&say(&entry).await), "allowed Notary targets");
    entry["notaryTrust"]["rootKeyIds"] = json!([pinned]);
    assert_eq!(crate::verify::testing::say(&say(&entry).await), "allowed Notary targets");
    // A key that was never a root's.
    entry["notaryTrust"]["rootKeyIds"] = json!([trust.keys.targets.id]);
    let verdict = say(&entry).await;
    assert_eq!(crate::verify::testing::say(&verdict), "denied InvalidSignature");
    assert!(text(&verdict).contains("notaryTrust names neither"), "{}", text(&verdict));
    // One in between that nobody before it signed.
    entry["notaryTrust"]["rootKeyIds"] = json!([pinned]);
    let stranger = Keys::new(&trust.gun);
    server.put(&roots[1].0, "application/json", file(&stranger.root(3), &[&stranger.root]));
    assert_eq!(crate::verify::testing::say(&say(&entry).await), "denied InvalidSignature");
    server.take_away(&roots[1].0);
    assert_eq!(crate::verify::testing::say(&say(&entry).await), "denied InvalidSignature");
}

#[tokio::test]
async fn roots_come_from_the_authority_of_the_policy() {
    let (shop, server) = (Shop::open(1), Shop::open(2));
    let digest = shop.image("app", "x");
    let (authority, other) = (Roots::new("roots"), Roots::new("others"));
    let trust = Trust::by(&shop, "app", |gun| Keys {
        root: Signer::with(&parameters(gun), Some(&authority)),
        ..Keys::new(gun)
    });
    trust.release("1", &digest).serve(&server, &[]);
    let lab = Lab::new();
    let entry = json!({
        "registry": shop.host(), "signCheck": true, "insecure": true, "notary": format!("http://{}", server.host()),
        "notaryTrust": {"caRef": "k8s://team/roots"},
    });
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided reference");
    lab.shelf.config_map("team/roots", &[("ca.crt", authority.pem().as_bytes())]);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Notary targets");
    // Another content, another verdict, at once.
    lab.shelf.config_map("team/roots", &[("ca.crt", other.pem().as_bytes())]);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "denied InvalidSignature");
    lab.shelf.config_map("team/roots", &[("ca.crt", b"nonsense")]);
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided configuration");
    // What a namespace may not name is as good as absent.
    lab.shelf.secret("else/roots", &[("ca.crt", authority.pem().as_bytes())]);
    let mut foreign = entry.clone();
    foreign["notaryTrust"]["caRef"] = "k8s://else/roots".into();
    lab.govern(Some("team"), &json!([foreign]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided reference");
}

/// A Notary server over TLS on 127.0.0.2, whose files can be replaced.
struct Secure {
    server: Server,
    files: Arc<std::sync::Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Secure {
    fn open(authority: &Authority, guard: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let files: Arc<std::sync::Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let answers = files.clone();
        let server = Server::tls(2, authority, move |seen| {
            guard(seen).unwrap_or_else(|| match answers.lock().unwrap().get(&seen.target) {
                Some(bytes) => reply(200, bytes.clone()),
                None => reply(404, ""),
            })
        });
        Self { server, files }
    }

    fn serve(&self, trust: &Trust) {
        let mut files = self.files.lock().unwrap();
        files.extend(trust.files(&[]));
        let version: u64 = serde_json::from_slice::<Value>(&trust.root).unwrap()["signed"]["version"].as_u64().unwrap();
        files.insert(trust.path(&format!("{version}.root.json")), trust.root.clone());
    }

    fn url(&self) -> String {
        format!("https://{}", self.server.host())
    }
}

#[tokio::test]
async fn e20_the_first_root_is_remembered_and_another_one_refused() {
    let (shop, authority) = (Shop::open(1), Authority::new());
    let server = Secure::open(&authority, |_| None);
    let digest = shop.image("app", "x");
    let mut trust = Trust::new(&shop, "app").release("1", &digest);
    server.serve(&trust);
    let entry = json!({
        "registry": shop.host(), "signCheck": true, "insecure": true, "caRef": "k8s://team/tls",
        "notary": server.url(), "notaryTrust": {"firstUse": true},
    });
    let memory = Arc::new(ProcessRoots::default());
    // Each judge is a process of its own; they share what is remembered.
    let say = async || {
        let lab = Lab::remembering(memory.clone());
        lab.shelf.secret("team/tls", &[("ca.crt", &authority.pem())]);
        lab.govern(Some("team"), &json!([entry]));
        lab.judge("team", &shop.tagged("app")).await
    };
    let short = crate::verify::testing::say;
    assert_eq!(short(&say().await), "allowed Notary targets");
    // A repository that somebody made anew.
    let mut stranger = Trust::new(&shop, "app").release("1", &digest);
    server.serve(&stranger);
    let verdict = say().await;
    assert_eq!(short(&verdict), "denied InvalidSignature");
    assert!(text(&verdict).contains("not the one that was seen first"), "{}", text(&verdict));
    // Even with a higher version, signed by itself alone.
    stranger.root = file(&stranger.keys.root(2), &[&stranger.keys.root]);
    server.serve(&stranger);
    assert_eq!(short(&say().await), "denied InvalidSignature");
    // A root that follows from the remembered one is remembered in its place.
    server.serve(&trust);
    let next = Keys::new(&trust.gun);
    let old = std::mem::replace(&mut trust.root, file(&next.root(2), &[&next.root, &trust.keys.root]));
    trust.keys = next;
    server.serve(&trust);
    assert_eq!(short(&say().await), "allowed Notary targets");
    // And the one before it does not come back.
    server.files.lock().unwrap().insert(trust.path("root.json"), old);
    assert_eq!(short(&say().await), "denied InvalidSignature");
}

/// A registry with `app:1`, a server over TLS that releases it, and a judge who trusts what he sees first.
struct FirstUse {
    shop: Shop,
    server: Secure,
    trust: Trust,
    digest: Digest,
    memory: Arc<ProcessRoots>,
    lab: Lab,
}

impl FirstUse {
    fn new() -> Self {
        let (shop, authority) = (Shop::open(1), Authority::new());
        let server = Secure::open(&authority, |_| None);
        let digest = shop.image("app", "x");
        let trust = Trust { version: 2, ..Trust::new(&shop, "app").release("1", &digest) };
        server.serve(&trust);
        let memory = Arc::new(ProcessRoots::default());
        let lab = Lab::remembering(memory.clone());
        lab.shelf.secret("team/tls", &[("ca.crt", &authority.pem())]);
        let entry = json!({
            "registry": shop.host(), "signCheck": true, "insecure": true, "caRef": "k8s://team/tls",
            "notary": server.url(), "notaryTrust": {"firstUse": true},
        });
        lab.govern(Some("team"), &json!([entry]));
        Self { shop, server, trust, digest, memory, lab }
    }
}

#[tokio::test]
async fn e20_a_dry_run_trusts_what_it_sees_first_and_remembers_nothing() {
    let FirstUse { shop, server, trust, digest, memory, lab } = FirstUse::new();
    let image = shop.tagged("app");
    assert_eq!(say(&lab.rehearse("team", &image).await), "allowed Notary targets");
    assert!(!lab.rehearse("team", &image).await.cached, "nothing rests on it");
    let pod = PodContext { namespace: "team", pull_secrets: &[], service_account: "default", dry_run: true };
    let deadline = Instant::now() + Duration::from_secs(10);
    let pin = lab.verifier.pin(&lab.inputs.current(), &image, &pod, deadline).await;
    assert_eq!(pin, Pin::Pinned(format!("{image}@{digest}")));
    assert_eq!(memory.count(), 0);
    // So another root, of lower versions even, is still the first one, and no verdict of a dry run stands in its way.
    let older = Trust::new(&shop, "app").release("1", &digest);
    server.serve(&older);
    let verdict = lab.judge("team", &image).await;
    assert_eq!((say(&verdict).as_str(), verdict.cached), ("allowed Notary targets", false));
    assert_eq!(memory.count(), 1);
    // What is remembered holds for dry runs, too: verdicts by it serve them, and no other root is trusted.
    let other = shop.pinned("app", &digest);
    server.serve(&trust);
    assert_eq!(say(&lab.rehearse("team", &other).await), "denied InvalidSignature");
    server.serve(&older);
    assert_eq!(say(&lab.judge("team", &format!("{}/app:2@{digest}", shop.host())).await), "allowed Notary targets");
}

#[tokio::test]
async fn f10_only_an_image_that_passes_has_a_root_remembered() {
    let FirstUse { shop, memory, lab, digest, .. } = FirstUse::new();
    // Neither a digest that nobody released nor a repository without trust data.
    let made_up = Digest::sha256(b"made up");
    assert_eq!(lab.say("team", &shop.pinned("app", &made_up)).await, "denied Unsigned");
    assert_eq!(lab.say("team", &shop.pinned("none", &made_up)).await, "denied Unsigned");
    assert_eq!(memory.count(), 0);
    assert_eq!(lab.say("team", &shop.pinned("app", &digest)).await, "allowed Notary targets");
    assert_eq!(memory.count(), 1);
}

#[tokio::test]
async fn e20_first_use_never_goes_over_unverified_tls() {
    let (shop, authority) = (Shop::open(2), Authority::new());
    let server = Secure::open(&authority, |_| None);
    let digest = shop.image("app", "x");
    let trust = Trust::new(&shop, "app").release("1", &digest);
    server.serve(&trust);
    // The registry is on the server's host, so `insecure` would be for both.
    let mut entry = trust.entry(&shop, &server.url());
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Notary targets");
    entry["notaryTrust"] = json!({"firstUse": true});
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided unreachable");
    // Nor is it for a server on another host.
    let other = Shop::open(1);
    let digest = other.image("app", "x");
    let trust = Trust::new(&other, "app").release("1", &digest);
    server.serve(&trust);
    lab.govern(Some("team"), &json!([trust.entry(&other, &server.url())]));
    assert_eq!(lab.say("team", &other.tagged("app")).await, "undecided unreachable");
}

#[tokio::test]
async fn g1_the_server_gets_its_own_credentials_and_never_the_registrys() {
    let (shop, authority) = (Shop::open(1), Authority::new());
    let server = Secure::open(&authority, |seen| {
        let scope = "scope=repository";
        match seen.target.split('?').next() {
            Some("/token") if seen.target.contains(scope) && seen.authorization() == basic("robot:right") => {
                Some(reply(200, r#"{"token":"given"}"#))
            }
            Some("/token") => Some(reply(401, "")),
            _ if seen.authorization() == "Bearer given" => None,
            _ => {
                let realm = format!("https://{}/token", seen.header("host").unwrap_or_default());
                Some(reply(401, "").with("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"notary\"")))
            }
        }
    });
    let digest = shop.image("app", "x");
    let trust = Trust::new(&shop, "app").release("1", &digest);
    server.serve(&trust);
    let lab = Lab::new();
    lab.shelf.secret("team/tls", &[("ca.crt", &authority.pem())]);
    let mut entry = trust.entry(&shop, &server.url());
    entry["caRef"] = "k8s://team/tls".into();
    lab.govern(Some("team"), &json!([entry]));
    let secret = |name: &str, host: &str, password: &str| {
        let config = json!({"auths": {host: {"username": "robot", "password": password}}}).to_string();
        lab.shelf.secret(&format!("team/{name}"), &[(".dockerconfigjson", config.as_bytes())]);
    };
    secret("registry", &shop.host(), "of-the-registry");
    secret("notary", &server.server.host(), "right");
    let image = shop.tagged("app");
    assert_eq!(say(&lab.judge_for("team", &image, &["registry"]).await), "undecided unauthorized");
    let sent: Vec<_> = server.server.seen().iter().map(|seen| seen.authorization().to_owned()).collect();
    assert!(sent.iter().all(|sent| *sent != basic("robot:of-the-registry")), "{sent:?}");
    assert_eq!(say(&lab.judge_for("team", &image, &["registry", "notary"]).await), "allowed Notary targets");
    let scope = server.server.lines().into_iter().find(|line| line.contains("/token?")).unwrap();
    let scope = scope.replace("%3A", ":").replace("%2F", "/");
    assert!(scope.ends_with(&format!("scope=repository:{}:pull", trust.gun)), "{scope}");
    // Its password never went to the registry, nor does a verdict reached with it serve those who have none.
    assert!(shop.server.seen().iter().all(|seen| seen.authorization() != basic("robot:right")));
    assert_eq!(say(&lab.judge_for("team", &image, &["registry"]).await), "undecided unauthorized");
}

#[tokio::test]
async fn g1_over_plain_http_no_credentials_are_sent() {
    let (shop, server, trust, ..) = scene();
    trust.serve(&server, &[]);
    server.only(|seen| {
        let asks = || reply(401, "").with("www-authenticate", "Basic realm=\"x\"");
        seen.authorization().is_empty().then(asks)
    });
    let lab = Lab::new();
    lab.govern(Some("team"), &json!([trust.entry(&shop, &format!("http://{}", server.host()))]));
    let config = json!({"auths": {server.host(): {"username": "robot", "password": "right"}}}).to_string();
    lab.shelf.secret("team/notary", &[(".dockerconfigjson", config.as_bytes())]);
    assert_eq!(say(&lab.judge_for("team", &shop.tagged("app"), &["notary"]).await), "undecided unauthorized");
    assert!(server.server.seen().iter().all(|seen| seen.authorization().is_empty()));
}

#[tokio::test]
async fn g1_insecure_sends_a_notary_server_no_credentials_over_plain_http() {
    let authority = Authority::new();
    // The registry is on the server's host, so `insecure` is for both.
    let shop = Shop::open(2);
    let digest = shop.image("app", "x");
    let trust = Trust::new(&shop, "app").release("1", &digest);
    let judge = async |url: &str, host: &str| {
        let lab = Lab::new();
        lab.govern(Some("team"), &json!([trust.entry(&shop, url)]));
        let config = json!({"auths": {host: {"username": "robot", "password": "right"}}}).to_string();
        lab.shelf.secret("team/notary", &[(".dockerconfigjson", config.as_bytes())]);
        say(&lab.judge_for("team", &shop.tagged("app"), &["notary"]).await)
    };
    let asks = |seen: &Seen| {
        let asked = reply(401, "").with("www-authenticate", "Basic realm=\"x\"");
        seen.authorization().is_empty().then_some(asked)
    };
    let server = Shop::open(2);
    trust.serve(&server, &[]);
    server.only(asks);
    let nothing_sent = |server: &Server| server.seen().iter().all(|seen| seen.authorization().is_empty());
    assert_eq!(judge(&format!("http://{}", server.host()), &server.host()).await, "undecided unauthorized");
    assert!(!server.server.seen().is_empty() && nothing_sent(&server.server));
    // What is said to speak TLS is never asked without.
    server.server.forget();
    assert_eq!(judge(&format!("https://{}", server.host()), &server.host()).await, "undecided unreachable");
    assert!(nothing_sent(&server.server));
    // Nor does a server with TLS lead there: not by a redirect, not by its token service.
    let plain = server.host();
    let leads = [
        Box::new(move |_: &Seen| Some(reply(307, "").with("location", format!("http://{plain}/x"))))
            as Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>,
        Box::new(|seen: &Seen| {
            let realm = format!("http://{}/token", seen.header("host").unwrap_or_default());
            Some(reply(401, "").with("www-authenticate", format!("Bearer realm=\"{realm}\"")))
        }),
    ];
    for lead in leads {
        let secure = Secure::open(&authority, lead);
        server.server.forget();
        assert_eq!(judge(&secure.url(), &secure.server.host()).await, "undecided bad_answer");
        assert!(nothing_sent(&server.server) && nothing_sent(&secure.server));
    }
    // Over TLS they go, unverified or not.
    let secure = Secure::open(&authority, asks);
    secure.serve(&trust);
    assert_eq!(judge(&secure.url(), &secure.server.host()).await, "allowed Notary targets");
}

#[tokio::test]
async fn g5_a_namespaced_policy_does_not_lead_to_refused_addresses() {
    let (shop, server, trust, ..) = scene();
    trust.serve(&server, &[]);
    // The registry's address is allowed, the server's is not.
    let allowed = vec!["127.0.0.1/32".parse().unwrap()];
    let source = || SourceConfig { allowed_addresses: allowed.clone(), ..SourceConfig::default() };
    let lab = Lab::over(VerifyConfig::default(), source());
    let entry = trust.entry(&shop, &format!("http://{}", server.host()));
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided address_refused");
    assert_eq!(server.server.lines(), Vec::<String>::new());
    // The administrator's own policy may.
    let lab = Lab::over(VerifyConfig::default(), source());
    lab.govern(None, &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "allowed Notary targets");
}

#[tokio::test]
async fn a10_e50_notary_then_cosign_then_gpg_for_each_image_by_itself() {
    let (shop, server) = (Shop::open(1), Shop::open(2));
    let (cosign, gpg) = (CosignKey::new(), GpgKey::new("maker"));
    let digests = ["one", "two", "three", "four"].map(|name| shop.image(name, name));
    let trust = Trust::by(&shop, "one", |_| Keys::new("*")).release("1", &digests[0]);
    trust.serve(&server, &[]);
    shop.legacy("two", &digests[1], &[cosign.legacy(&digests[1], "a")]);
    shop.store("three", &digests[2], 1, &gpg.sign(&digests[2], &shop.tagged("three")));
    let lab = Lab::new();
    lab.shelf.secret("team/cosign", &[("cosign.pub", cosign.pem.as_bytes())]);
    lab.shelf.secret("team/gpg", &[("maker.pgp", &gpg.public())]);
    let mut entry = shop.gpg_entry();
    entry["cosignKeyRef"] = "k8s://team/cosign".into();
    entry["notary"] = format!("http://{}", server.host()).into();
    entry["notaryTrust"] = json!({"rootKeyIds": [trust.keys.root.id]});
    lab.govern(Some("team"), &json!([entry]));
    let all = async || {
        let mut said = Vec::new();
        for name in ["one", "two", "three", "four"] {
            said.push(lab.say("team", &shop.tagged(name)).await);
        }
        said
    };
    let expected = ["allowed Notary targets", "allowed Cosign a", "allowed GPG maker@example.org", "denied Unsigned"];
    assert_eq!(all().await, expected);
    // A server that is down leaves the other methods their say, and no verdict to those that they do not pass.
    server.only(|_| Some(Reply::HangUp));
    entry["requireDigest"] = false.into();
    lab.govern(Some("team"), &json!([entry]));
    let expected =
        ["undecided unreachable", "allowed Cosign a", "allowed GPG maker@example.org", "undecided unreachable"];
    assert_eq!(all().await, expected);
}

#[tokio::test]
async fn e35_the_trust_data_is_read_once_for_all_manifests_of_an_index() {
    let (shop, server) = (Shop::open(1), Shop::open(2));
    let children = ["a", "b", "c"].map(|name| shop.image("app", name));
    let listed: Vec<_> = children
        .iter()
        .map(|d| json!({"mediaType": IMAGE_TYPE, "digest": d.as_str(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": listed});
    let index = shop.manifest("app", Some("1"), INDEX_TYPE, &index);
    let mut trust = Trust::new(&shop, "app");
    for (tag, digest) in ["1-a", "1-b"].into_iter().zip(&children) {
        trust = trust.release(tag, digest);
    }
    trust.serve(&server, &[]);
    let entry = trust.entry(&shop, &format!("http://{}", server.host()));
    let judge = async || {
        let lab = Lab::new();
        lab.govern(Some("team"), &json!([entry]));
        lab.say("team", &shop.tagged("app")).await
    };
    assert_eq!(judge().await, "denied Unsigned");
    assert_eq!(server.count("root.json"), 1, "{:?}", server.server.lines());
    assert_eq!(server.count("targets."), 1);
    let trust = trust.release("1-c", &children[2]);
    trust.serve(&server, &[]);
    assert_eq!(judge().await, "allowed Notary targets");
    // The index itself is enough, and its tag then is that of the index alone.
    let trust = Trust { targets: targets(2, &[]), ..trust }.release("1", &index);
    trust.serve(&server, &[]);
    assert_eq!(judge().await, "allowed Notary targets");
}

#[tokio::test]
async fn an_entry_without_trust_or_with_no_server_leaves_it_open() {
    let (shop, server, trust, ..) = scene();
    trust.serve(&server, &[]);
    let lab = Lab::new();
    let mut entry = trust.entry(&shop, &format!("http://{}", server.host()));
    entry["notary"] = "notary.example".into();
    lab.govern(Some("team"), &json!([entry]));
    assert_eq!(lab.say("team", &shop.tagged("app")).await, "undecided configuration");
    entry["notary"] = format!("http://{}", server.host()).into();
    entry["notaryTrust"] = Value::Null;
    lab.govern(Some("team"), &json!([entry]));
    let verdict = lab.judge("team", &shop.tagged("app")).await;
    assert_eq!(say(&verdict), "undecided configuration");
    assert!(text(&verdict).contains("notary is not used without notaryTrust"), "{}", text(&verdict));
    assert_eq!(server.server.lines(), Vec::<String>::new());
}
