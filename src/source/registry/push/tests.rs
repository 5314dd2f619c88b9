use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::source::testing::{Reply, Seen, Server, basic, insecure, insecure_with, keychain, reply, upstream};

const LARGE: usize = 20 << 20;

/// A registry with one session, that takes what it is sent.
#[derive(Default)]
struct State {
    session: Mutex<Vec<u8>>,
    blobs: Mutex<Vec<(String, Vec<u8>)>>,
    broken: AtomicU64,
}

impl State {
    fn answer(&self, seen: &Seen) -> Reply {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let session = |status: u16, length: usize| {
            let place = format!("/v2/a/b/blobs/uploads/1?_state={length}");
            reply(status, "").with("location", place).with("range", format!("0-{}", length.saturating_sub(1)))
        };
        let mut held = self.session.lock().expect("session");
        match seen.method.as_str() {
            "HEAD" => {
                let blobs = self.blobs.lock().expect("blobs");
                match blobs.iter().find(|(digest, _)| path.ends_with(digest)) {
                    Some((_, content)) => reply(200, content.clone()),
                    None => reply(404, ""),
                }
            }
            "POST" => session(202, 0),
            "GET" => session(204, held.len()),
            "PATCH" => {
                let from = seen.header("content-range").and_then(|r| r.split('-').next()?.parse().ok());
                if from != Some(held.len()) {
                    return reply(416, "");
                }
                // The second part arrives by half, and then the line is dead.
                if held.len() > 1 && self.broken.swap(1, Ordering::SeqCst) == 0 {
                    held.extend(&seen.body.as_bytes()[..seen.body.len() / 2]);
                    return Reply::HangUp;
                }
                held.extend(seen.body.as_bytes());
                session(202, held.len())
            }
            _ => {
                held.extend(seen.body.as_bytes());
                let stated = query.split("digest=").nth(1).unwrap_or_default().replace("%3A", ":");
                if stated != Digest::sha256(&held).as_str() {
                    return reply(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.lock().expect("blobs").push((stated, std::mem::take(&mut held)));
                reply(201, "")
            }
        }
    }
}

fn registry() -> Server {
    let state = State::default();
    Server::plain(1, move |seen| state.answer(seen))
}

async fn push(server: &Server, digest: &Digest, bytes: Bytes) -> Result<Pushed, Fault> {
    let access = Access { deadline: Instant::now() + Duration::from_secs(120), ..insecure() };
    upstream().push_blob(&server.repository("a/b"), digest, Arc::new(bytes), &access, &|_| {}).await
}

#[tokio::test]
async fn a_small_blob_goes_in_one_request_and_only_where_it_is_lacking() {
    let server = registry();
    let content = Bytes::from_static(b"small");
    let digest = Digest::sha256(&content);
    assert_eq!(push(&server, &digest, content.clone()).await, Ok(Pushed::Uploaded));
    let lines = server.lines();
    let methods: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD"], "{lines:?}");
    server.forget();
    assert_eq!(push(&server, &digest, content).await, Ok(Pushed::WasThere));
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_large_blob_goes_in_parts_and_goes_on_where_the_line_broke() {
    let server = registry();
    let content = Bytes::from("0123456789".repeat(LARGE / 10));
    let digest = Digest::sha256(&content);
    assert_eq!(push(&server, &digest, content).await, Ok(Pushed::Uploaded));
    let sent: usize = server.seen().iter().filter(|s| s.method == "PATCH").map(|s| s.body.len()).sum();
    let part = usize::try_from(PART).expect("a size");
    assert_eq!(sent, LARGE + part / 2, "half a part is sent again");
    assert!(server.lines().iter().any(|line| line.starts_with("GET ")), "the registry says how far it is");
}

#[tokio::test]
async fn content_of_another_digest_is_refused() {
    let server = registry();
    let fault = push(&server, &Digest::sha256(b"other"), Bytes::from_static(b"small")).await.expect_err("a fault");
    assert!(fault.message().contains("status 400 (DIGEST_INVALID)"), "{fault}");
}

#[tokio::test]
async fn an_upload_never_leads_to_another_server() {
    let thief = Server::plain(2, |_| reply(201, ""));
    for place in [format!("http://{}/x", thief.host()), "http://user:pw@127.0.0.1/x".into(), "file:///etc".into()] {
        let server = Server::plain(1, move |seen| match seen.method.as_str() {
            "POST" => reply(202, "").with("location", place.clone()),
            _ => reply(404, ""),
        });
        let content = Bytes::from_static(b"x");
        let fault = push(&server, &Digest::sha256(b"x"), content).await.expect_err("a fault");
        assert_eq!(fault.kind(), FaultKind::BadAnswer);
    }
    let to = format!("http://{}/v2/a/b/blobs/uploads/", thief.host());
    let server = Server::plain(1, move |seen| match seen.method.as_str() {
        "POST" => reply(307, "").with("location", to.clone()),
        _ => reply(404, ""),
    });
    let fault = push(&server, &Digest::sha256(b"x"), Bytes::from_static(b"x")).await.expect_err("a fault");
    assert!(fault.message().contains("a request that writes was redirected"), "{fault}");
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_registry_that_counts_wrongly_ends_the_upload() {
    for range in ["0-0", "0-99999999999"] {
        let server = Server::plain(1, move |seen| match seen.method.as_str() {
            "POST" => reply(202, "").with("location", "/v2/a/b/blobs/uploads/1"),
            "PATCH" => reply(202, "").with("location", "/v2/a/b/blobs/uploads/1").with("range", range),
            "PUT" => reply(400, ""),
            _ => reply(404, ""),
        });
        let content = Bytes::from(vec![b'x'; LARGE]);
        let digest = Digest::sha256(&content);
        let fault = push(&server, &digest, content).await.expect_err(range);
        assert!(fault.message().contains("counts the parts"), "{fault}");
    }
}

#[tokio::test]
async fn writing_asks_for_another_token_than_reading() {
    let server = Server::plain(1, |seen| {
        if seen.target.starts_with("/token") {
            let scope = if seen.target.contains("push") { "push" } else { "pull" };
            return reply(200, format!(r#"{{"token":"{scope}"}}"#));
        }
        let wanted = if seen.method == "HEAD" { "Bearer pull" } else { "Bearer push" };
        match seen.authorization() {
            token if token == wanted => match seen.method.as_str() {
                "HEAD" => reply(404, ""),
                "POST" => reply(202, "").with("location", "/v2/a/b/blobs/uploads/1"),
                _ => reply(201, ""),
            },
            _ => {
                let host = seen.header("host").unwrap_or_default();
                reply(401, "").with("www-authenticate", format!(r#"Bearer realm="http://{host}/token",service="r""#))
            }
        }
    });
    let access = insecure_with(keychain(&[(&server.host(), "u:p")]));
    let repository = server.repository("a/b");
    let content = Arc::new(Bytes::from_static(b"x"));
    let pushed = upstream().push_blob(&repository, &Digest::sha256(b"x"), content, &access, &|_| {}).await;
    // It takes the blob and then does not have it.
    assert!(pushed.expect_err("a fault").message().contains("does not have it"));
    let seen = server.seen();
    let tokens: Vec<_> = seen.iter().filter(|s| s.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 2, "one for reading, one for writing");
    assert!(tokens.iter().all(|token| token.authorization() == basic("u:p")));
    assert!(tokens[1].target.contains("repository%3Aa%2Fb%3Apull%2Cpush"), "{}", tokens[1].target);
}

#[tokio::test]
async fn refused_writing_names_the_way_out() {
    let server = Server::plain(1, |seen| match seen.method.as_str() {
        "HEAD" => reply(404, ""),
        _ => reply(403, ""),
    });
    let fault = push(&server, &Digest::sha256(b"x"), Bytes::from_static(b"x")).await.expect_err("a fault");
    assert_eq!(fault.kind(), FaultKind::Unauthorized);
    assert!(fault.message().contains("--authfile"), "{fault}");
}

#[tokio::test]
async fn a_manifest_that_a_registry_refuses_for_good_is_no_outage() {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let bytes = Bytes::from_static(b"{}");
    for (status, code, definite) in [
        (400, "MANIFEST_INVALID", true),
        (422, "MANIFEST_INVALID", true),
        (413, "", true),
        (400, "MANIFEST_BLOB_UNKNOWN", false),
        (404, "MANIFEST_BLOB_UNKNOWN", false),
        (500, "MANIFEST_INVALID", false),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        let server = Server::plain(1, move |_| reply(status, body.clone()).with("content-type", "application/json"));
        let pushed = upstream().push_manifest(&server.repository("a/b"), Some("1"), kind, &bytes, &insecure()).await;
        let fault = pushed.expect_err("refused");
        assert_eq!(fault.kind().retryable(), !definite, "{status} {code}: {fault}");
        assert!(!definite || fault.message().contains("refuses the manifest"), "{fault}");
    }
}

#[tokio::test]
async fn a_manifest_is_read_back_by_its_digest() {
    let manifest =
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let honest = Server::plain(1, move |seen| match seen.method.as_str() {
        "PUT" if seen.body == manifest => reply(201, ""),
        _ => reply(200, manifest).with("content-type", kind),
    });
    let bytes = Bytes::from_static(manifest.as_bytes());
    let pushed = upstream().push_manifest(&honest.repository("a/b"), Some("1"), kind, &bytes, &insecure()).await;
    assert_eq!(pushed, Ok(Digest::sha256(&bytes)));
    assert_eq!(honest.seen()[0].header("content-type"), Some(kind));
    let liar = Server::plain(1, move |seen| match seen.method.as_str() {
        "PUT" => reply(201, ""),
        _ => reply(200, manifest.replace("{}", "{ }")).with("content-type", kind),
    });
    let fault = upstream().push_manifest(&liar.repository("a/b"), Some("1"), kind, &bytes, &insecure()).await;
    assert_eq!(fault.expect_err("a fault").kind(), FaultKind::DigestMismatch);
    let bad = upstream().push_manifest(&honest.repository("a/b"), Some("../x"), kind, &bytes, &insecure()).await;
    assert_eq!(bad.expect_err("a fault").kind(), FaultKind::Configuration);
}
