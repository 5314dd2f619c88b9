//! Against a scripted API server, which can be made to break, forbid and forget. The real one is asked in `tests/it`.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::domain::policy::Check;
use crate::source::testing::{Reply, Seen, Server, reply};

/// What the API server has, by resource; a number is the status of every answer about it.
type World = Arc<Mutex<HashMap<&'static str, Result<Vec<Value>, u16>>>>;

const CLUSTER: &str = "clusterregistrysecuritypolicies";
const NAMESPACED: &str = "registrysecuritypolicies";
const MAPS: &str = "configmaps";
const SECRETS: &str = "secrets";
/// What watches answer instead of being too old at once: an end without news, or a status before they begin.
const WATCHES: &str = "watches";

struct Desk {
    world: World,
    server: Server,
    inputs: Arc<Inputs>,
    own: OwnSecrets,
}

/// Lists answer with the world. A watch says after a moment that it is too old, so that the next list sees every change.
fn answer(world: &World, seen: &Seen) -> Reply {
    let path = seen.target.split('?').next().unwrap_or_default();
    let resource = path.rsplit('/').next().unwrap_or_default();
    let found = world.lock().unwrap().get(resource).cloned().unwrap_or(Err(404));
    let failure = |code: u16| {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "no", "reason": "Reason", "code": code})
    };
    let json = |status, body: &Value| reply(status, body.to_string()).with("content-type", "application/json");
    match found {
        Err(status) => json(status, &failure(status)),
        Ok(_) if seen.target.contains("watch=") => {
            std::thread::sleep(Duration::from_millis(50));
            match world.lock().unwrap().get(WATCHES) {
                None => json(200, &json!({"type": "ERROR", "object": failure(410)})),
                Some(Ok(_)) => reply(200, "").with("content-type", "application/json"),
                Some(Err(status)) => json(*status, &failure(*status)),
            }
        }
        Ok(items) => json(
            200,
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
        ),
    }
}

impl Desk {
    fn start(world: &[(&'static str, Result<Vec<Value>, u16>)]) -> Self {
        let world: World = Arc::new(Mutex::new(world.iter().cloned().collect()));
        let shown = world.clone();
        let server = Server::plain(1, move |seen| answer(&shown, seen));
        let client = Client::try_from(kube::Config::new(format!("http://{}", server.host()).parse().unwrap())).unwrap();
        let (inputs, own) = (Arc::new(Inputs::new()), OwnSecrets::default());
        let metrics = Arc::new(Metrics::new());
        tokio::spawn(run(client, "registry-system".to_owned(), inputs.clone(), own.clone(), metrics));
        Self { world, server, inputs, own }
    }

    fn empty() -> [(&'static str, Result<Vec<Value>, u16>); 4] {
        [CLUSTER, NAMESPACED, MAPS, SECRETS].map(|resource| (resource, Ok(Vec::new())))
    }

    fn set(&self, resource: &'static str, found: Result<Vec<Value>, u16>) {
        self.world.lock().unwrap().insert(resource, found);
    }

    /// Waits until something is true of the snapshot.
    async fn until(&self, what: &str, holds: impl Fn(&super::super::Snapshot) -> bool) {
        for _ in 0..600 {
            if holds(&self.inputs.current()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}; {:?}", self.inputs.current().missing);
    }

    async fn ready(&self) {
        self.until("everything is known", |snapshot| snapshot.missing.is_empty()).await;
    }

    /// Long enough for several lists.
    async fn wait(&self) {
        let before = self.server.seen().len();
        for _ in 0..200 {
            if self.server.seen().len() > before + 12 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn checks(&self, image: &str) -> Vec<Check> {
        let repository = crate::domain::image::Repository::parse(image).unwrap();
        let snapshot = self.inputs.current();
        let Some(policies) = snapshot.policies.as_ref() else { return Vec::new() };
        let entries = policies.governing_namespaced("team", &repository);
        entries.iter().map(|entry| entry.check.clone()).collect()
    }
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "tmax.io/v1", "kind": "RegistrySecurityPolicy", "spec": spec,
        "metadata": {"name": name, "namespace": "team", "resourceVersion": "1"}})
}

fn unchecked(name: &str, registry: &str) -> Value {
    policy(name, &json!({"registries": [{"registry": registry, "signCheck": false}]}))
}

fn whitelist(lines: &str) -> Value {
    json!({"metadata": {"name": WHITELIST_NAME, "namespace": "registry-system", "resourceVersion": "1"},
        "data": {"whitelist-images": lines}})
}

#[tokio::test]
async fn h20_nothing_is_known_before_every_list_is_complete() {
    for missing in [CLUSTER, NAMESPACED, MAPS, SECRETS] {
        let mut world = Desk::empty();
        for (resource, found) in &mut world {
            if *resource == missing {
                *found = Err(500);
            }
        }
        let desk = Desk::start(&world);
        desk.until("the others are known", |snapshot| snapshot.missing.len() == 1).await;
        let policies = desk.inputs.current().policies.is_some();
        assert_eq!(policies, ![CLUSTER, NAMESPACED].contains(&missing), "{missing}");
        desk.set(missing, Ok(Vec::new()));
        desk.ready().await;
        assert!(desk.inputs.current().policies.is_some());
    }
}

#[tokio::test]
async fn i13_h19_a_malformed_object_stops_no_watch_and_hides_no_other() {
    let mut world = Desk::empty();
    let torn = [
        policy("a", &json!("text")),
        policy("b", &json!({"registries": 7})),
        policy("c", &json!({"registries": [7, {"registry": "torn.invalid", "signCheck": "no"}]})),
        json!({"metadata": {"name": "d", "namespace": "team", "resourceVersion": "1"}}),
    ];
    world[1].1 = Ok([&torn[..], &[unchecked("good", "good.invalid")]].concat());
    let desk = Desk::start(&world);
    desk.ready().await;
    assert_eq!(desk.checks("good.invalid/x"), [Check::Unchecked]);
    // Where the registry can be read, the entry governs and denies.
    assert!(matches!(desk.checks("torn.invalid/x")[..], [Check::Broken(_)]));
    assert!(desk.inputs.current().policies.as_ref().unwrap().any_for("team"));
    // Repaired, it is as good as any.
    desk.set(NAMESPACED, Ok(vec![unchecked("c", "torn.invalid")]));
    desk.until("the repair", |_| desk.checks("torn.invalid/x") == [Check::Unchecked]).await;
    assert!(desk.checks("good.invalid/x").is_empty(), "what is gone from the list is gone");
}

#[tokio::test]
async fn i3_i15_h20_a_list_that_is_gone_or_forbidden_is_not_an_empty_list() {
    for status in [404, 403] {
        let mut world = Desk::empty();
        world[1].1 = Ok(vec![unchecked("good", "good.invalid")]);
        let desk = Desk::start(&world);
        desk.ready().await;
        desk.set(NAMESPACED, Err(status));
        desk.until("policies are unknown", |snapshot| snapshot.policies.is_none()).await;
        assert_eq!(desk.inputs.current().missing, [NAMESPACED]);
        desk.set(NAMESPACED, Ok(Vec::new()));
        desk.ready().await;
        assert!(!desk.inputs.current().policies.as_ref().unwrap().any_for("team"));
    }
}

#[tokio::test]
async fn h20_a_broken_watch_leaves_the_last_state_in_force() {
    let mut world = Desk::empty();
    world[1].1 = Ok(vec![unchecked("good", "good.invalid")]);
    world[2].1 = Ok(vec![whitelist("listed.invalid/*")]);
    let desk = Desk::start(&world);
    desk.ready().await;
    for status in [500, 503, 429, 401] {
        desk.set(NAMESPACED, Err(status));
        desk.set(MAPS, Err(status));
        tokio::time::sleep(Duration::from_millis(400)).await;
        let snapshot = desk.inputs.current();
        assert!(snapshot.missing.is_empty() && snapshot.whitelist.len() == 1, "{status}: {:?}", snapshot.missing);
        assert_eq!(desk.checks("good.invalid/x"), [Check::Unchecked], "{status}");
    }
    desk.set(NAMESPACED, Ok(vec![unchecked("good", "other.invalid")]));
    desk.until("the change", |_| desk.checks("other.invalid/x") == [Check::Unchecked]).await;
    assert!(desk.checks("good.invalid/x").is_empty());
}

/// An API server that comes up answers so for a moment: it has not read its roles and resource definitions yet.
#[tokio::test]
async fn h20_a_watch_that_is_refused_begins_with_a_list_again() {
    for status in [403, 404] {
        let mut world = Desk::empty();
        world[1].1 = Ok(vec![unchecked("good", "good.invalid")]);
        let desk = Desk::start(&world);
        desk.set(WATCHES, Ok(Vec::new()));
        desk.ready().await;
        desk.set(WATCHES, Err(status));
        desk.set(NAMESPACED, Ok(vec![unchecked("good", "other.invalid")]));
        desk.until("the list is read again", |_| desk.checks("other.invalid/x") == [Check::Unchecked]).await;
        // The same with a list that is refused for a while as well.
        desk.set(NAMESPACED, Err(status));
        desk.until("policies are unknown", |snapshot| snapshot.policies.is_none()).await;
        desk.set(WATCHES, Ok(Vec::new()));
        desk.set(NAMESPACED, Ok(vec![unchecked("good", "good.invalid")]));
        desk.ready().await;
        assert_eq!(desk.checks("good.invalid/x"), [Check::Unchecked]);
    }
}

#[tokio::test]
async fn c22_a_deleted_whitelist_is_an_empty_one() {
    let mut world = Desk::empty();
    world[2].1 = Ok(vec![whitelist("listed.invalid/*\n:bad:line:\nother.invalid/x")]);
    let desk = Desk::start(&world);
    desk.ready().await;
    assert_eq!(desk.inputs.current().whitelist.len(), 2);
    desk.set(MAPS, Ok(Vec::new()));
    desk.until("the whitelist is empty", |snapshot| snapshot.whitelist.is_empty()).await;
    assert!(desk.inputs.current().whitelist_known());
    // Only the one name is asked for, in podseal's namespace.
    let asked = desk.server.lines().into_iter().find(|line| line.contains(MAPS)).unwrap();
    assert!(asked.starts_with("GET /api/v1/namespaces/registry-system/configmaps?"), "{asked}");
    assert!(asked.contains(&format!("fieldSelector=metadata.name%3D{WHITELIST_NAME}")), "{asked}");
}

#[tokio::test]
async fn f2_secrets_of_the_own_namespace_come_and_go() {
    let secret = |name: &str, labels: Value| {
        json!({"metadata": {"name": name, "namespace": "registry-system", "resourceVersion": "1", "labels": labels},
            "data": {"cosign.pub": "YQ=="}})
    };
    let mut world = Desk::empty();
    let label = json!({"podseal.io/key-file": "x"});
    world[3].1 =
        Ok(vec![secret("sigstore-key-a", label.clone()), secret("sigstore-key-b", json!({})), secret("other", label)]);
    let desk = Desk::start(&world);
    desk.ready().await;
    let synced = |name: &str| desk.own.load().as_ref().and_then(|own| own.get(name).map(|secret| secret.synced_key));
    // Name and label together make a synced key.
    assert_eq!(["sigstore-key-a", "sigstore-key-b", "other"].map(synced), [Some(true), Some(false), Some(false)]);
    desk.set(SECRETS, Ok(Vec::new()));
    for _ in 0..200 {
        if desk.own.load().as_ref().is_some_and(|own| own.is_empty()) {
            break;
        }
        desk.wait().await;
    }
    assert!(desk.own.load().as_ref().is_some_and(|own| own.is_empty()));
}

fn status(code: u16, message: &str) -> kube::core::Status {
    kube::core::Status::failure(message, "Reason").with_code(code)
}

#[test]
fn trouble_is_told_in_words_that_say_what_to_do() {
    let absent = words(Source::ClusterPolicies, &status(404, "page not found"));
    assert!(absent.starts_with("clusterregistrysecuritypolicies is not installed: podseal crds | kubectl apply -f -"));
    let forbidden = words(Source::Keys, &status(403, "secrets is forbidden"));
    assert_eq!(forbidden, "podseal's role lacks list and watch on secrets: secrets is forbidden");
    assert_eq!(words(Source::Keys, &status(500, "etcd is away")), "etcd is away");
    assert_eq!(words(Source::Whitelist, &status(404, "")), "Reason", "a ConfigMap is no definition");
}

#[test]
fn every_cause_is_told_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("the list failed: {0}")]
    struct Outer(#[source] Middle);
    #[derive(Debug, thiserror::Error)]
    #[error("no connection")]
    struct Middle(#[source] std::io::Error);
    let error = Outer(Middle(std::io::Error::other("refused by 127.0.0.1")));
    assert_eq!(causes(&error), "the list failed: no connection: refused by 127.0.0.1");
}

#[test]
fn the_same_trouble_is_told_once_a_minute_and_another_at_once() {
    let (mut said, start) = (Said::default(), Instant::now());
    let mut told = |text, seconds| said.is_new(text, start + Duration::from_secs(seconds));
    assert_eq!(
        [told("a", 0), told("a", 1), told("a", 59), told("a", 60), told("b", 61), told("a", 62)],
        [true, false, false, true, true, true]
    );
}
