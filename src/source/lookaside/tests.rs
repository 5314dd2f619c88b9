use super::*;
use crate::source::access::Transport;
use crate::source::credentials::Keychain;
use crate::source::testing::{Authority, Reply, Server, access, insecure, insecure_with, keychain, reply, upstream};

fn digest() -> Digest {
    Digest::sha256(b"manifest")
}

fn hub() -> Repository {
    Repository::parse("busybox").expect("repository")
}

async fn first(store: &StoreUrl, repository: &Repository, access: &Access) -> Result<Option<Bytes>, FaultKind> {
    upstream().signature(store, repository, &digest(), 1, access).await.map_err(|f| f.kind())
}

fn policy(text: &str) -> StoreUrl {
    StoreUrl::from_policy(text).expect("store")
}

#[test]
fn policies_may_name_web_stores_only() {
    for good in ["http://s.example:81/sigstore/", "https://s.example", "HTTPS://S.example/x"] {
        assert!(StoreUrl::from_policy(good).is_ok(), "{good}");
        assert!(StoreUrl::from_administrator(good).is_ok(), "{good}");
    }
    for bad in [
        "file:///var/lib/sigstore",
        "ftp://s.example/",
        "s.example/x",
        "",
        "http://",
        "https://u@s.example/",
        "https://u:p@s.example/",
        "https://s.example/?q",
        "https://s.example/#f",
        "data:x",
        "unix:/x",
    ] {
        assert!(StoreUrl::from_policy(bad).is_err(), "{bad}");
    }
    assert!(StoreUrl::from_administrator("file:///var/lib/sigstore").is_ok());
    for bad in ["file:relative", "file://host/x", "ftp://s.example/", "https://u:p@s.example/"] {
        assert!(StoreUrl::from_administrator(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_path_has_no_registry_host() {
    let hex = digest().hex().to_owned();
    for base in ["http://s.example:81/sigstore/", "http://s.example:81/sigstore"] {
        let url = policy(base).signature(&hub(), &digest(), 2);
        assert_eq!(url.as_str(), format!("http://s.example:81/sigstore/library/busybox@sha256={hex}/signature-2"));
    }
    let url = policy("https://s.example").signature(&hub(), &digest(), 1);
    assert_eq!(url.path(), format!("/library/busybox@sha256={hex}/signature-1"));
}

#[tokio::test]
async fn h11_only_404_means_no_signature() {
    let server = Server::plain(1, |_| reply(200, "signature"));
    let store = policy(&format!("http://{}/s", server.host()));
    // Plain HTTP is what the URL says, so it needs no `insecure`.
    let strict = access(Transport::default(), Keychain::default());
    assert_eq!(first(&store, &hub(), &strict).await, Ok(Some("signature".into())));
    for (status, expected) in [
        (404, Ok(None)),
        (403, Err(FaultKind::BadAnswer)),
        (401, Err(FaultKind::BadAnswer)),
        (410, Err(FaultKind::BadAnswer)),
        (204, Err(FaultKind::BadAnswer)),
        (500, Err(FaultKind::BadAnswer)),
        (429, Err(FaultKind::RateLimited)),
    ] {
        let server = Server::plain(1, move |_| reply(status, ""));
        let store = policy(&format!("http://{}", server.host()));
        assert_eq!(first(&store, &hub(), &strict).await, expected, "{status}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address");
    assert_eq!(first(&policy(&format!("http://{closed}")), &hub(), &strict).await, Err(FaultKind::Unreachable));
}

#[tokio::test]
async fn e31_e32_signatures_are_bounded_in_number_and_size() {
    let server = Server::plain(1, |_| Reply::Endless { status: 200, headers: Vec::new() });
    let store = policy(&format!("http://{}", server.host()));
    assert_eq!(first(&store, &hub(), &insecure()).await, Err(FaultKind::TooLarge));
    let asked = server.lines().len();
    for number in [0, MAX_SIGNATURES + 1, usize::MAX] {
        let result = upstream().signature(&store, &hub(), &digest(), number, &insecure()).await;
        assert_eq!(result.map_err(|f| f.kind()), Err(FaultKind::TooLarge));
    }
    assert_eq!(server.lines().len(), asked, "numbers out of range cost no request");
    let exact = Server::plain(1, |_| reply(200, vec![0; MAX_SIGNATURE]));
    let store = policy(&format!("http://{}", exact.host()));
    let last = upstream().signature(&store, &hub(), &digest(), MAX_SIGNATURES, &insecure()).await;
    assert_eq!(last.map(|b| b.map(|b| b.len())), Ok(Some(MAX_SIGNATURE)));
}

#[tokio::test]
async fn g1_stores_never_get_credentials() {
    let server = Server::plain(1, |_| reply(401, "").with("www-authenticate", "Basic realm=x"));
    let store = policy(&format!("http://{}", server.host()));
    let access = insecure_with(keychain(&[(&server.host(), "u:p")]));
    let result = first(&store, &server.repository("a"), &access).await;
    assert_eq!(result, Err(FaultKind::BadAnswer));
    assert_eq!(server.seen().iter().map(|s| s.authorization().to_owned()).collect::<Vec<_>>(), [""]);
}

#[tokio::test]
async fn g7_insecure_covers_a_store_on_the_registrys_host_only() {
    let authority = Authority::new();
    let server = Server::tls(2, &authority, |_| reply(200, "signature"));
    let store = policy(&format!("https://{}", server.host()));
    let same = Repository::new("127.0.0.2:5000", "a").expect("repository");
    let other = Repository::new("127.0.0.1:5000", "a").expect("repository");
    assert_eq!(first(&store, &same, &insecure()).await, Ok(Some("signature".into())));
    assert_eq!(first(&store, &other, &insecure()).await, Err(FaultKind::Unreachable));
    let strict = access(Transport::default(), Keychain::default());
    assert_eq!(first(&store, &same, &strict).await, Err(FaultKind::Unreachable));
}

#[tokio::test]
async fn g5_a_guarded_store_may_not_be_at_a_refused_address() {
    let server = Server::plain(1, |_| reply(200, "signature"));
    let store = policy(&format!("http://{}", server.host()));
    let guarded = access(Transport { guarded: true, ..Transport::default() }, Keychain::default());
    assert_eq!(first(&store, &hub(), &guarded).await, Err(FaultKind::AddressRefused));
    assert!(server.lines().is_empty());
    let free = access(Transport::default(), Keychain::default());
    assert_eq!(first(&store, &hub(), &free).await, Ok(Some("signature".into())));
}

#[tokio::test]
async fn file_stores_are_read_within_bounds() {
    let base = tempfile::tempdir().expect("directory");
    let directory = base.path().join(format!("library/busybox@sha256={}", digest().hex()));
    std::fs::create_dir_all(&directory).expect("directory");
    std::fs::write(directory.join("signature-1"), "signature").expect("file");
    std::fs::write(directory.join("signature-2"), vec![0; MAX_SIGNATURE + 1]).expect("file");
    std::fs::create_dir(directory.join("signature-3")).expect("directory");
    let store = StoreUrl::from_administrator(&format!("file://{}", base.path().display())).expect("store");
    let (upstream, access) = (upstream(), insecure());
    let read = async |n| upstream.signature(&store, &hub(), &digest(), n, &access).await.map_err(|f| f.kind());
    assert_eq!(read(1).await, Ok(Some("signature".into())));
    assert_eq!(read(2).await, Err(FaultKind::TooLarge));
    assert_eq!(read(3).await, Err(FaultKind::Unreachable));
    assert_eq!(read(4).await, Ok(None));
}
