use serde_json::{Value, json};

use super::*;
use crate::source::access::Transport;
use crate::source::credentials::Keychain;
use crate::source::testing::{Server, access, basic, insecure, insecure_with, keychain, reply, upstream};

fn digest() -> Digest {
    Digest::sha256(b"manifest")
}

fn listed(content: &[u8]) -> Value {
    json!({"schemaVersion": 2, "type": "atomic", "name": "sha256:x@1", "content": BASE64_STANDARD.encode(content)})
}

/// What is read of this answer.
async fn read(body: impl Into<Vec<u8>>) -> Result<OwnSignatures, FaultKind> {
    let body = body.into();
    let server = Server::plain(1, move |_| reply(200, body.clone()));
    let found = upstream().own_signatures(&server.repository("team/a"), &digest(), &insecure()).await;
    found.map_err(|fault| fault.kind())
}

async fn contents(signatures: &Value) -> Vec<Option<String>> {
    let found = read(json!({"signatures": signatures}).to_string()).await.expect("a list");
    found.signatures.iter().map(|s| s.as_ref().ok().map(|b| String::from_utf8_lossy(b).into_owned())).collect()
}

#[tokio::test]
async fn the_announcement_counts_with_and_without_access_and_is_asked_for_once() {
    for (status, value, offers) in [
        (200, "1", true),
        (401, "1", true),
        (200, "0", false),
        (401, "true", false),
        (200, "1, 1", false),
        (404, "1", false),
        (403, "1", false),
    ] {
        let server = Server::plain(1, move |_| reply(status, "").with("x-registry-supports-signatures", value));
        let (upstream, repository) = (upstream(), server.repository("team/a"));
        for _ in 0..3 {
            let asked = upstream.offers_signatures(&repository, &insecure()).await;
            assert_eq!(asked.expect("an answer"), offers, "{status} {value}");
        }
        let other = server.repository("team/b");
        assert_eq!(upstream.offers_signatures(&other, &insecure()).await.expect("an answer"), offers);
        assert_eq!(server.lines(), ["GET /v2/"]);
        // What was learned over one transport says nothing about others.
        let guarded = Transport { insecure: true, guarded: true, ..Transport::default() };
        let asked = upstream.offers_signatures(&repository, &access(guarded, Keychain::default())).await;
        assert_eq!(asked.expect_err("loopback").kind(), FaultKind::AddressRefused);
    }
}

#[tokio::test]
async fn h11_a_registry_that_cannot_say_is_an_obstacle_and_asked_again() {
    let server = Server::plain(1, |_| reply(501, "").with("x-registry-supports-signatures", "1"));
    let (upstream, repository) = (upstream(), server.repository("team/a"));
    for _ in 0..2 {
        let asked = upstream.offers_signatures(&repository, &insecure()).await;
        assert_eq!(asked.expect_err("no answer").kind(), FaultKind::BadAnswer);
    }
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn g1_the_registrys_own_credentials_are_used_and_not_for_the_announcement() {
    let server = Server::plain(1, |seen| match (seen.target.as_str(), seen.authorization()) {
        ("/v2/", "") => reply(401, "").with("x-registry-supports-signatures", "1"),
        (_, header) if header == basic("me:secret") => reply(200, json!({"signatures": [listed(b"x")]}).to_string()),
        _ => reply(401, "").with("www-authenticate", "Basic realm=x"),
    });
    let (upstream, repository) = (upstream(), server.repository("team/a"));
    let known = insecure_with(keychain(&[(&server.host(), "me:secret")]));
    assert!(upstream.offers_signatures(&repository, &known).await.expect("an answer"));
    let found = upstream.own_signatures(&repository, &digest(), &known).await.expect("a list");
    assert_eq!(found.signatures, [Ok(Bytes::from_static(b"x"))]);
    let path = format!("/extensions/v2/team/a/signatures/{}", digest());
    assert!(server.seen().iter().skip(1).all(|seen| seen.target == path), "{:?}", server.lines());
    let stranger = upstream.own_signatures(&repository, &digest(), &insecure()).await;
    assert_eq!(stranger.expect_err("no access").kind(), FaultKind::Unauthorized);
}

#[tokio::test]
async fn a_bad_entry_spoils_itself_alone() {
    let mut other_version = listed(b"x");
    other_version["schemaVersion"] = 1.into();
    let mut other_kind = listed(b"x");
    other_kind["type"] = "sigstore".into();
    let mut text = listed(b"x");
    text["schemaVersion"] = "2".into();
    let (mut broken, mut number, mut missing) = (listed(b"x"), listed(b"x"), listed(b"x"));
    broken["content"] = "*".into();
    number["content"] = json!([[{"content": 7}]]);
    missing.as_object_mut().expect("object").remove("content");
    let skipped =
        json!([other_version, other_kind, text, null, 1, -1, 0.5, true, "x", [], [[]], {}, {"type": {"type": 1}}]);
    assert!(contents(&skipped).await.is_empty());
    let found = contents(&json!([listed(b"first"), broken, number, null, missing, listed(b"last")])).await;
    let some = |text: &str| Some(text.to_owned());
    // What says to be a signature and holds nothing readable is shown as a bad one.
    assert_eq!(found, [some("first"), None, some(""), some(""), some("last")]);
    let wrapped = json!([{"schemaVersion": 2, "type": "atomic", "content": "eHh4\neHh4\r\n"}]);
    assert_eq!(contents(&wrapped).await, [some("xxxxxx")]);
}

#[tokio::test]
async fn an_answer_that_is_no_list_is_an_obstacle() {
    for good in [r#"{"signatures": []}"#, r#"{"signatures": null}"#, "{}"] {
        assert_eq!(read(good).await, Ok(OwnSignatures::default()), "{good}");
    }
    for bad in ["", "<html>", "null", "7", r#"{"signatures": {}}"#, r#"{"signatures": [1}"#, r#"{"signatures": []} x"#]
    {
        assert_eq!(read(bad).await, Err(FaultKind::BadAnswer), "{bad}");
    }
    let bad = FaultKind::BadAnswer;
    for (status, kind) in [(204, bad), (400, bad), (403, FaultKind::Unauthorized), (404, bad), (500, bad)] {
        let server = Server::plain(1, move |_| reply(status, r#"{"signatures": []}"#));
        let found = upstream().own_signatures(&server.repository("team/a"), &digest(), &insecure()).await;
        assert_eq!(found.expect_err("no list").kind(), kind, "{status}");
        let found = upstream().own_signatures_to_add_to(&server.repository("team/a"), &digest(), &insecure()).await;
        let kind = if status == 404 { FaultKind::Configuration } else { kind };
        assert_eq!(found.expect_err("no list").kind(), kind, "{status}, to sign");
    }
}

#[tokio::test]
async fn h23_the_number_and_the_size_of_signatures_are_bounded() {
    let many = |count: usize| json!({"signatures": vec![listed(b"x"); count]}).to_string();
    for (count, more) in [(127, false), (128, false), (129, true), (1000, true)] {
        let found = read(many(count)).await.expect("a list");
        assert_eq!((found.signatures.len(), found.more), (count.min(128), more));
    }
    let large = json!({"signatures": [listed(&vec![0; 2 << 20])]}).to_string();
    assert_eq!(read(large.clone()).await.expect("a list").signatures.len(), 1);
    let padding = " ".repeat(MAX_ANSWER + 1 - large.len());
    assert_eq!(read(large + &padding).await, Err(FaultKind::TooLarge));
}
