//! Against an API server that forgets, fails and refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::source::testing::{Reply, Seen, Server, reply};

fn client(server: &Server) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("http://{}", server.host()).parse().unwrap();
    Client::try_from(kube::Config::new(url)).unwrap()
}

/// A page of Pods, `namespace/name`, and the token for the next.
fn page(places: &[&str], token: &str) -> Reply {
    let pod = |place: &&str| {
        let (namespace, name) = place.split_once('/').unwrap();
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"fromTheFuture": true}})
    };
    let items: Vec<_> = places.iter().map(pod).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": token}, "items": items});
    reply(200, list.to_string()).with("content-type", "application/json")
}

fn status(code: u16, message: &str) -> Reply {
    let reason = if code == 404 { "NotFound" } else { "Whatever" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": reason, "code": code});
    reply(code, status.to_string()).with("content-type", "application/json")
}

fn token(seen: &Seen) -> &str {
    seen.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("continue=")).unwrap_or_default()
}

async fn all(server: &Server, namespace: Option<&str>) -> Result<Vec<String>, String> {
    let (mut pages, mut found) = (pods(&client(server), namespace), Vec::new());
    while let Some(page) = pages.next().await? {
        assert!(page.iter().all(|pod| pod.data["spec"]["fromTheFuture"] == true));
        found.extend(page.iter().map(place));
    }
    Ok(found)
}

#[tokio::test]
async fn pages_are_asked_for_one_after_the_other_and_bounded() {
    let server = Server::plain(1, |seen| match token(seen) {
        "" => page(&["a-b/x", "a/x"], "one"),
        "one" => page(&[], "two"),
        _ => page(&["b/x"], ""),
    });
    assert_eq!(all(&server, None).await.unwrap(), ["a-b/x", "a/x", "b/x"]);
    let lines = server.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.starts_with("GET /api/v1/pods?") && line.contains("limit=250")), "{lines:?}");
    assert!(lines[0].contains("fieldSelector=status.phase%21%3DSucceeded"), "{lines:?}");
    all(&server, Some("team")).await.unwrap();
    assert!(server.lines()[3].starts_with("GET /api/v1/namespaces/team/pods?"));
}

#[tokio::test]
async fn a_list_that_the_server_forgot_is_begun_anew_and_nothing_is_seen_twice() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::plain(1, move |seen| match (token(seen), count.fetch_add(1, Ordering::SeqCst)) {
        ("", 0) => page(&["a-b/x", "a/x"], "old"),
        ("old", _) => status(410, "The provided continue parameter is too old"),
        // Meanwhile one went, and two came, one of them where the list was already.
        ("", _) => page(&["a-b/new", "a/x", "a/y"], "new"),
        _ => page(&["b/x"], ""),
    });
    assert_eq!(all(&server, None).await.unwrap(), ["a-b/x", "a/x", "a/y", "b/x"]);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let hopeless = Server::plain(1, |seen| match token(seen) {
        "" => status(410, "too old"),
        _ => page(&[], ""),
    });
    assert!(all(&hopeless, None).await.is_err(), "not for ever");
}

#[tokio::test]
async fn i15_what_is_refused_is_no_empty_list_and_what_fails_is_asked_again() {
    let forbidden = Server::plain(1, |_| status(403, "pods is forbidden: user may not"));
    let error = all(&forbidden, None).await.unwrap_err();
    assert_eq!(error, "pods cannot be listed: pods is forbidden: user may not");
    assert_eq!(forbidden.lines().len(), 1);
    let error = policies(&client(&forbidden), None).await.unwrap_err();
    assert!(error.starts_with("clusterregistrysecuritypolicies cannot be listed: "), "{error}");
    assert!(whitelist(&client(&forbidden), "registry-system").await.unwrap_err().contains("cannot be read"));
    let absent = Server::plain(1, |_| status(404, "not found"));
    assert!(policies(&client(&absent), None).await.is_err(), "the kind is missing, which is not the same as none");
    assert!(whitelist(&client(&absent), "registry-system").await.unwrap().is_empty());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let shaky = Server::plain(1, move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => status(500, "etcd is away"),
        _ => page(&["a/x"], ""),
    });
    assert_eq!(all(&shaky, None).await.unwrap(), ["a/x"]);
}
