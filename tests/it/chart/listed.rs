//! Key Secrets of tenants' namespaces, read by the webhook as its own account: where the installation lists the namespace,
//! where somebody has taken the right away again, and where it is not listed.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::rights::{Started, kubeconfig, start};
use super::{cluster, release};
use crate::support::cluster::Cluster;
use crate::support::http::Http;
use crate::support::pki::{Authority, LOCAL};
use crate::support::process::{eventually, within};
use crate::support::registry::{Image, Registry};
use crate::support::review::{Answer, Review};
use crate::support::signer::{CosignKey, Format};
use crate::support::tools::{self, Ran};

crate::tests! {
    needs [Cluster, Helm, Registry, Cosign];
    i8_keys_act_at_once_where_the_namespace_is_listed_and_in_time_elsewhere,
}

const NAME: &str = "podseal-listed";
/// Sooner than a Secret that was just read is read again, which is after five seconds.
const PROMPT: Duration = Duration::from_secs(2);
/// What is promised of all others.
const IN_TIME: Duration = Duration::from_secs(15);

struct World {
    cluster: &'static Cluster,
    webhook: Started,
    http: Http,
    registry: Registry,
    image: Image,
    /// Signed the image.
    good: CosignKey,
    /// Did not.
    other: CosignKey,
}

fn i8_keys_act_at_once_where_the_namespace_is_listed_and_in_time_elsewhere() {
    let cluster = cluster();
    let [listed, refused, elsewhere] = ["listed", "refused", "elsewhere"].map(|hint| cluster.bare_namespace(hint));
    let world = World::new(cluster, &listed, &refused);
    for namespace in [&listed, &refused, &elsewhere] {
        world.policy(namespace);
    }
    for _ in 0..4 {
        let acted = [true, false].map(|good| world.change(&listed, good));
        eprintln!("a key in a listed namespace: acted after {} ms, gone after {} ms", acted[0], acted[1]);
        assert!(acted.iter().all(|acted| u128::from(*acted) < PROMPT.as_millis()));
    }
    for (namespace, what) in [(&refused, "listed and refused"), (&elsewhere, "not listed")] {
        let acted = [true, false, true].map(|good| world.change(namespace, good));
        eprintln!("a key in a namespace that is {what}: changes acted after {acted:?} ms");
    }
    world.may_list_there_alone(&listed, &elsewhere);
    let log = world.webhook.process.log();
    let forbidden: Vec<_> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    assert!(!forbidden.is_empty() && forbidden.iter().all(|line| line.contains(&refused)), "{forbidden:?}");
}

impl World {
    /// The release, and its webhook with a certificate made by hand; in one of the listed namespaces its role is unbound.
    fn new(cluster: &'static Cluster, listed: &str, refused: &str) -> Self {
        let namespaces = format!("secrets.namespaces={{{listed},{refused}}}");
        let settings = [
            &namespaces,
            "sources.allowAddresses={127.0.0.0/8}",
            "certificates.source=secret",
            "certificates.secretName=by-hand",
        ];
        release(cluster, &["install"], NAME, &settings).succeeded();
        let binding = format!("{NAME}-secrets");
        cluster.kubectl(&["-n", refused, "delete", "rolebinding", &binding]).succeeded();
        let authority = Authority::new(NAME);
        let tls = authority.server(&LOCAL);
        let file = |file| std::fs::read(file).unwrap();
        let pair = [("tls.crt", file(tls.cert)), ("tls.key", file(tls.key)), ("ca.crt", authority.pem.clone().into())];
        cluster.secret(NAME, "by-hand", &pair.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())));
        let webhook = start(cluster, NAME, NAME, &settings);
        eventually("the webhook is ready", || webhook.is_ready());

        let (registry, good, other) = (Registry::start(), CosignKey::new(), CosignKey::new());
        let image = registry.push("listed/app:1");
        good.sign(&registry, &image, Format::Bundle, &[]).succeeded();
        let http = Http::trusting(&authority.pem);
        Self { cluster, webhook, http, registry, image, good, other }
    }

    /// A policy of the namespace and the Secret with the key it names, which did not sign the image.
    fn policy(&self, namespace: &str) {
        self.key(namespace, false);
        let policy = format!(
            "apiVersion: tmax.io/v1\nkind: RegistrySecurityPolicy\nmetadata: {{name: own, namespace: {namespace}}}\n\
             spec:\n  registries:\n  - {{registry: '{}', signCheck: true, insecure: true, cosignKeyRef: k8s://{namespace}/key}}\n",
            self.registry.host
        );
        self.cluster.apply(&policy).succeeded();
        eventually("the key is there and did not sign", || {
            self.review(namespace).message.contains("signed by an untrusted key")
        });
    }

    fn key(&self, namespace: &str, good: bool) {
        let key = if good { &self.good } else { &self.other };
        self.cluster.secret(namespace, "key", &[("cosign.pub", key.public.as_bytes())]);
    }

    /// Changes the key; how many milliseconds later the last review was asked that still went by the one before.
    fn change(&self, namespace: &str, good: bool) -> u64 {
        self.key(namespace, good);
        let changed = Instant::now();
        let mut last = Duration::ZERO;
        let acted = within(IN_TIME * 2, || {
            let asked = changed.elapsed();
            let acts = self.review(namespace).allowed == good;
            if !acts {
                last = asked;
            }
            acts.then_some(())
        });
        assert!(acted.is_some() && last < IN_TIME, "{namespace}: {last:?}");
        u64::try_from(last.as_millis()).unwrap()
    }

    fn review(&self, namespace: &str) -> Answer {
        let review = Review::pod(namespace).container("a", &self.image.pinned());
        let url = format!("{}/validate?timeout=10s", self.webhook.reviews);
        let reply = self.http.post(&url, "application/json", review.json.to_string().into_bytes()).unwrap();
        Answer::read(&reply.body)
    }

    /// The account's own token: what the listed namespaces have more, and no others.
    fn may_list_there_alone(&self, listed: &str, elsewhere: &str) {
        let account = kubeconfig(self.cluster, NAME, NAME);
        let as_account = |args: &[&str]| -> Ran {
            let mut command = tools::command("kubectl");
            tools::run(command.env_remove("KUBECONFIG").arg("--kubeconfig").arg(&account).args(args))
        };
        let list = |place: &[&str]| as_account(&[&["get", "secrets", "-o", "json"], place].concat());
        let found: Value = serde_json::from_slice(&list(&["-n", listed]).succeeded().bytes).unwrap();
        assert_eq!(found["items"][0]["metadata"]["name"], "key");
        as_account(&["-n", elsewhere, "get", "secret", "key"]).succeeded();
        for place in [&["-n", elsewhere][..], &["-n", "kube-system"], &["--all-namespaces"]] {
            let ran = list(place).failed();
            assert!(ran.stderr.contains("Forbidden") && ran.stderr.contains("cannot list resource"), "{ran}");
        }
        let written = as_account(&["-n", listed, "delete", "secret", "key"]).failed();
        assert!(written.stderr.contains("Forbidden"), "{written}");
    }
}
