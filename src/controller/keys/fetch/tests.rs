use std::net::SocketAddr;
use std::sync::Mutex;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::super::testing::gpg_key;
use super::*;

/// What the server says, and how often it was asked.
#[derive(Default)]
struct Server {
    answer: Mutex<(u16, Vec<u8>)>,
    asked: Mutex<Vec<u16>>,
}

async fn answer(Shared(server): Shared<Arc<Server>>, headers: HeaderMap) -> Response {
    let (status, body) = server.answer.lock().unwrap().clone();
    let tag = format!("\"{}\"", body.len());
    let same = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let status = if status == 200 && same { 304 } else { status };
    server.asked.lock().unwrap().push(status);
    let body = if status == 304 { Vec::new() } else { body };
    (StatusCode::from_u16(status).unwrap(), [(ETAG, tag)], body).into_response()
}

async fn serve(server: Arc<Server>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = axum::Router::new().route("/keys/{file}", get(answer)).with_state(server);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

impl Server {
    fn says(&self, status: u16, body: &[u8]) {
        *self.answer.lock().unwrap() = (status, body.to_vec());
    }
}

/// A source of a served file; the address expects this key.
async fn source(server: &Arc<Server>, expected: &str) -> (Source, Client) {
    let address = serve(server.clone()).await;
    let url = KeyUrl::from_str(&format!("http://{address}/keys/group1.pgp#{expected}")).unwrap();
    (Source::new(url), client(None).unwrap())
}

#[test]
fn addresses_are_https_or_say_which_key_is_expected() {
    let url = KeyUrl::from_str("https://sigstore.local:81/keys/group1.pgp?token=hunter2").unwrap();
    assert_eq!(url.name.secret, "sigstore-key-group1");
    assert_eq!(url.shown(), "https://sigstore.local:81/keys/group1.pgp");
    let print = "a".repeat(40);
    assert!(KeyUrl::from_str(&format!("http://sigstore.local/keys/group1.pgp#{print}")).is_ok());
    assert!(KeyUrl::from_str(&format!("https://sigstore.local/keys/group1.pgp#{print},{print}")).is_ok());
    for wrong in [
        "http://sigstore.local/keys/group1.pgp",
        "http://sigstore.local/keys/group1.pgp#",
        "https://sigstore.local/keys/group1.pgp#abc",
        "https://sigstore.local/keys/",
        "https://sigstore.local/keys/Group1.pgp",
        "https://sigstore.local/keys/group1.txt",
        "https://me:hunter2@sigstore.local/keys/group1.pgp",
        "file:///keys/group1.pgp",
        "group1.pgp",
    ] {
        let error = KeyUrl::from_str(wrong).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_fetched_twice_at_first_and_then_only_when_it_changed() {
    let (server, key) = (Arc::new(Server::default()), gpg_key("a@x.io", None));
    server.says(200, key.armored.as_bytes());
    let (mut source, client) = source(&server, &key.fingerprint).await;
    assert!(matches!(*source.file().state, FileState::Unreadable(_)));
    source.round(&client).await;
    assert!(matches!(*source.file().state, FileState::Held(_)), "{:?}", source.state);
    source.round(&client).await;
    assert!(matches!(*source.file().state, FileState::Held(_)));
    assert_eq!(*server.asked.lock().unwrap(), [200, 200, 304]);
}

#[tokio::test]
async fn what_fails_or_is_not_there_any_more_is_unreadable_and_not_empty() {
    let (server, key) = (Arc::new(Server::default()), gpg_key("a@x.io", None));
    let (mut source, client) = source(&server, &key.fingerprint).await;
    for status in [404, 410, 401, 500, 204, 304] {
        server.says(status, b"");
        source.round(&client).await;
        assert!(matches!(*source.file().state, FileState::Unreadable(_)), "{status}: {:?}", source.state);
        assert!(source.next > Instant::now());
    }
    server.says(200, &key.binary);
    source.round(&client).await;
    assert!(matches!(*source.file().state, FileState::Held(_)));
}

#[tokio::test]
async fn a_file_without_a_key_or_with_an_unexpected_one_is_refused() {
    let (server, key) = (Arc::new(Server::default()), gpg_key("a@x.io", None));
    let (mut source, client) = source(&server, &key.fingerprint).await;
    let other = gpg_key("b@x.io", None);
    for body in
        [&b"<html>"[..], &other.binary, &[key.binary.clone(), other.binary.clone()].concat(), &vec![0; MAX_FILE + 9]]
    {
        server.says(200, body);
        source.round(&client).await;
        assert!(matches!(*source.file().state, FileState::Refused(_)), "{:?}", source.state);
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_fetched_is_not_believed() {
    let (server, key) = (Arc::new(Server::default()), gpg_key("a@x.io", None));
    server.says(200, &key.binary[..key.binary.len() / 2]);
    let (mut source, client) = source(&server, &key.fingerprint).await;
    let complete = async {
        sleep(CONFIRM / 2).await;
        server.says(200, &key.binary);
    };
    tokio::join!(source.round(&client), complete);
    assert!(matches!(*source.file().state, FileState::Unreadable(_)), "{:?}", source.state);
    source.round(&client).await;
    assert!(matches!(*source.file().state, FileState::Held(_)));
}
