use std::sync::Mutex;

use super::*;
use crate::source::testing::{Reply, Seen, Server, insecure, reply, upstream};

fn line() -> Line {
    let Access { transport, keychain, .. } = insecure();
    Line { upstream: Arc::new(upstream()), transport, keychain, timeout: Duration::from_secs(10) }
}

fn repository() -> Repository {
    Repository::new("r.local", "a/b").expect("a repository")
}

fn digest() -> Digest {
    Digest::sha256(b"image")
}

fn uploading(server: &Server) -> Depot {
    let writer = StoreWriter::new(&format!("http://{}/sigstore", server.host())).expect("a store");
    Depot { line: line(), destination: Destination::Upload(writer) }
}

/// A store in memory; what comes first is somebody else's.
fn store(first: &[&str], late: Option<&'static str>) -> Server {
    let kept: Mutex<Vec<String>> = Mutex::new(first.iter().map(ToString::to_string).collect());
    Server::plain(1, move |seen: &Seen| {
        let mut kept = kept.lock().expect("kept");
        let number: usize = seen.target.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number");
        match seen.method.as_str() {
            "PUT" => {
                assert_eq!(seen.header("if-none-match"), Some("*"));
                // Another writer comes between the question and this.
                if let Some(late) = late.filter(|late| !kept.iter().any(|k| k == late)) {
                    kept.push(late.to_owned());
                }
                if number != kept.len() + 1 {
                    return reply(412, "");
                }
                kept.push(seen.body.clone());
                reply(201, "")
            }
            _ => kept.get(number - 1).map_or_else(|| reply(404, ""), |blob| reply(200, blob.clone())),
        }
    })
}

async fn put(depot: &Depot, blob: &'static str) -> Result<String, Fault> {
    depot.put(&repository(), &digest(), &Bytes::from_static(blob.as_bytes())).await
}

#[tokio::test]
async fn a_signature_goes_behind_those_that_are_there() {
    let server = store(&["one", "two"], None);
    let depot = uploading(&server);
    let place = put(&depot, "three").await.expect("put");
    assert!(place.ends_with("(signature-3)"), "{place}");
    let path = format!("/sigstore/a/b@sha256={}/signature-3", digest().hex());
    assert!(server.lines().contains(&format!("PUT {path}")));
    assert_eq!(depot.existing(&repository(), &digest()).await.expect("read"), ["one", "two", "three"]);
    let again = put(&depot, "two").await.expect("put");
    assert!(again.ends_with("(signature-2)"), "the same bytes are there: {again}");
}

#[tokio::test]
async fn what_a_store_has_that_nobody_signs_is_not_kept() {
    let large = "x".repeat(MAX_OWN + 1);
    let server = store(&["one", &large, &large[1..]], None);
    let depot = uploading(&server);
    let found = depot.existing(&repository(), &digest()).await.expect("read");
    assert_eq!(found.iter().map(Bytes::len).collect::<Vec<_>>(), [3, MAX_OWN]);
    let place = put(&depot, "own").await.expect("put");
    assert!(place.ends_with("(signature-4)"), "it has its number all the same: {place}");
}

#[tokio::test]
async fn a_faster_writer_keeps_its_number() {
    let server = store(&["one"], Some("other"));
    let depot = uploading(&server);
    let place = put(&depot, "own").await.expect("put");
    assert!(place.ends_with("(signature-3)"), "{place}");
    assert_eq!(depot.existing(&repository(), &digest()).await.expect("read"), ["one", "other", "own"]);
}

#[tokio::test]
async fn a_store_that_loses_what_it_took_is_found_out() {
    let server = Server::plain(1, |seen| reply(if seen.method == "PUT" { 201 } else { 404 }, ""));
    let fault = put(&uploading(&server), "x").await.expect_err("lost");
    assert!(fault.message().contains("took the signature") && fault.kind().retryable(), "{fault}");
}

#[tokio::test]
async fn a_store_that_has_every_number_and_shows_none_is_not_full() {
    let server = Server::plain(1, |seen| reply(if seen.method == "PUT" { 412 } else { 404 }, ""));
    let fault = put(&uploading(&server), "x").await.expect_err("hidden");
    assert!(fault.message().contains("says that it has signature-1 of a/b@"), "{fault}");
    assert!(!fault.message().contains("128") && fault.kind().retryable(), "{fault}");
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1, "nothing behind a gap");
}

#[tokio::test]
async fn what_a_store_refuses_is_said_with_the_way_out() {
    for (status, said) in [
        (401, "--token-file"),
        (403, "--token-file"),
        (405, "--staging"),
        (404, "look at the path of the URL"),
        (500, "the server failed with status 500"),
        (302, "a request that writes was redirected"),
    ] {
        let server = Server::plain(1, move |seen| match seen.method.as_str() {
            "PUT" => reply(status, "").with("location", "http://127.0.0.2/"),
            _ => reply(404, ""),
        });
        let fault = put(&uploading(&server), "x").await.expect_err("refused");
        assert!(fault.message().contains(said), "{status}: {fault}");
    }
    // A store that is full, or says so to everything.
    let full = Server::plain(1, |_| reply(200, "another"));
    let fault = put(&uploading(&full), "x").await.expect_err("full");
    assert_eq!(fault.kind(), FaultKind::TooLarge);
}

#[tokio::test]
async fn a_folder_gets_files_that_are_never_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = SignatureDir::open(folder.path(), crate::store::disk::DirLimits::default()).expect("a folder");
    let depot = Depot { line: line(), destination: Destination::Folder(opened) };
    let own = folder.path().join(format!("a/b@sha256={}", digest().hex()));
    assert_eq!(depot.existing(&repository(), &digest()).await.expect("none"), Vec::<Bytes>::new());
    for (number, blob) in [(1, "one"), (2, "two")] {
        let place = put(&depot, blob).await.expect("put");
        assert_eq!(place, own.join(format!("signature-{number}")).display().to_string());
    }
    assert_eq!(std::fs::read(own.join("signature-1")).expect("a file"), b"one");
    assert_eq!(depot.existing(&repository(), &digest()).await.expect("two"), ["one", "two"]);
    std::fs::remove_dir_all(folder.path()).expect("removed");
    let fault = put(&depot, "three").await;
    assert!(fault.is_err(), "{fault:?}");
}

#[tokio::test]
async fn a_registry_gets_a_document_with_a_name_of_its_own() {
    let kept: Mutex<Vec<String>> = Mutex::default();
    let server = Server::plain(1, move |seen: &Seen| -> Reply {
        let mut kept = kept.lock().expect("kept");
        match seen.method.as_str() {
            // The first name is taken.
            "PUT" if seen.header("content-type") == Some("application/json") && kept.is_empty() => {
                kept.push(String::new());
                reply(409, "")
            }
            "PUT" => {
                kept.push(seen.body.clone());
                reply(201, "")
            }
            _ => {
                let kept: Vec<_> = kept.iter().filter(|k| !k.is_empty()).cloned().collect();
                reply(200, format!(r#"{{"signatures":[{}]}}"#, kept.join(",")))
            }
        }
    });
    let depot = Depot { line: line(), destination: Destination::Registry };
    let repository = server.repository("a/b");
    let place = depot.put(&repository, &digest(), &Bytes::from_static(b"own")).await.expect("put");
    assert_eq!(place, format!("the registry {}", server.host()));
    assert_eq!(depot.existing(&repository, &digest()).await.expect("one"), ["own"]);
    let bodies: Vec<serde_json::Value> =
        server.seen().iter().filter_map(|s| serde_json::from_str(&s.body).ok()).collect();
    let names: Vec<_> = bodies.iter().map(|body| body["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
    for (name, body) in names.iter().zip(&bodies) {
        let (of, own) = name.split_once('@').expect("a digest and a name");
        assert_eq!((of, own.len()), (digest().as_str(), 32));
        assert_eq!((body["schemaVersion"].as_u64(), body["type"].as_str()), (Some(2), Some("atomic")));
    }
}

#[test]
fn tokens_are_not_printed_and_bad_ones_not_sent() {
    let writer = StoreWriter::new("https://s.local/sigstore").expect("a store").with_token("s3cret").expect("a token");
    assert!(writer.has_account() && !format!("{writer:?}").contains("s3cret"));
    for bad in ["", "two words", "line\nbreak"] {
        assert!(StoreWriter::new("https://s.local").expect("a store").with_token(bad).is_err(), "{bad:?}");
    }
    for bad in ["ftp://s.local", "file:///var", "https://user:pw@s.local", "s.local", "https://s.local/?x"] {
        assert!(StoreWriter::new(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn what_a_store_says_of_its_refusal_is_told_and_no_credential() {
    for (status, body, said) in [
        (
            409,
            "there are 16 signatures of this digest by the same key already\nand more\n",
            "(409): there are 16 signatures",
        ),
        (409, "red \u{1b}[31m\u{202e}", r"(409): red \u001b[31m\u202e"),
        (409, "Bearer secret-token is full", "(409): it does not say why"),
        (409, "", "(409): it does not say why"),
        (422, "no key of /keys verifies the signature", "status 422 for a signature: no key of /keys"),
        (200, "signature-1", "has the signature of a/b@sha256:"),
    ] {
        let server = Server::plain(1, move |seen| match seen.method.as_str() {
            "PUT" => reply(status, body).with("content-type", "text/plain; charset=utf-8"),
            _ => reply(404, ""),
        });
        let writer = StoreWriter::new(&format!("http://{}/sigstore", server.host())).expect("a store");
        let writer = writer.with_token("secret-token").expect("a token");
        let depot = Depot { line: line(), destination: Destination::Upload(writer) };
        let fault = put(&depot, "x").await.expect_err("refused");
        let text = fault.message();
        assert!(
            text.contains(said) && !text.contains("secret-token") && !text.contains("and more"),
            "{status}: {text}"
        );
        assert!(!text.contains("128"), "{text}");
        let puts = server.lines().iter().filter(|line| line.starts_with("PUT ")).count();
        assert_eq!(puts, 1, "{text}");
    }
    let long = "x".repeat(10_000);
    let server = Server::plain(1, move |seen| match seen.method.as_str() {
        "PUT" => reply(409, long.clone()).with("content-type", "text/plain"),
        _ => reply(404, ""),
    });
    assert!(put(&uploading(&server), "x").await.expect_err("refused").message().len() < 700);
}

#[tokio::test]
async fn a_conflict_with_a_faster_writer_is_no_refusal() {
    let kept: Mutex<Vec<String>> = Mutex::default();
    let server = Server::plain(1, move |seen: &Seen| {
        let mut kept = kept.lock().expect("kept");
        let number: usize = seen.target.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number");
        match seen.method.as_str() {
            "PUT" if kept.is_empty() => {
                kept.push("other".to_owned());
                reply(409, "conflicting request")
            }
            "PUT" => {
                kept.push(seen.body.clone());
                reply(201, "")
            }
            _ => kept.get(number - 1).map_or_else(|| reply(404, ""), |blob| reply(200, blob.clone())),
        }
    });
    let place = put(&uploading(&server), "own").await.expect("put");
    assert!(place.ends_with("(signature-2)"), "{place}");
}

#[tokio::test]
async fn a_registry_that_keeps_no_more_is_not_asked_for_other_names() {
    let server = Server::plain(1, |seen| match seen.method.as_str() {
        "PUT" => reply(409, r#"{"errors":[{"code":"DENIED","message":"full"}]}"#),
        _ => reply(200, r#"{"signatures":[]}"#),
    });
    let depot = Depot { line: line(), destination: Destination::Registry };
    let fault = depot.put(&server.repository("a/b"), &digest(), &Bytes::from_static(b"own")).await.expect_err("full");
    assert!(fault.message().contains("keeps no more signatures"), "{fault}");
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT ")).count(), 1);
}

#[tokio::test]
async fn a_url_that_takes_no_signatures_is_no_passing_trouble() {
    let server = Server::plain(1, |_| reply(404, ""));
    let fault = put(&uploading(&server), "x").await.expect_err("nothing there");
    assert!(!fault.kind().retryable() && fault.message().contains("look at the path of the URL"), "{fault}");
    let depot = Depot { line: line(), destination: Destination::Registry };
    let own = Bytes::from_static(b"own");
    let fault = depot.put(&server.repository("a/b"), &digest(), &own).await.expect_err("nothing there");
    assert!(!fault.kind().retryable() && fault.message().contains("has no API for signatures (404)"), "{fault}");
}
