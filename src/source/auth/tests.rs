use std::net::SocketAddr;

use super::*;
use crate::domain::digest::Digest;
use crate::source::SourceConfig;
use crate::source::access::Transport;
use crate::source::credentials::Keychain;
use crate::source::testing::{
    Authority, Reply, Seen, Server, access, basic, insecure, insecure_with, keychain, reply, trusting, upstream,
};

const BODY: &str = "content";

fn content() -> Digest {
    Digest::sha256(BODY.as_bytes())
}

async fn fetch(upstream: &Upstream, server: &Server, access: &Access) -> Result<bool, Fault> {
    fetch_from(upstream, &server.repository("a/b"), access).await
}

async fn fetch_from(upstream: &Upstream, repository: &Repository, access: &Access) -> Result<bool, Fault> {
    upstream.blob(repository, &content(), 100, access).await.map(|blob| blob.is_some())
}

fn origin(seen: &Seen) -> String {
    format!("{}://{}", if seen.tls { "https" } else { "http" }, seen.header("host").unwrap_or_default())
}

fn challenge(realm: &str) -> Reply {
    reply(401, "")
        .with("www-authenticate", format!(r#"Bearer realm="{realm}",service="svc",scope="repository:a/b:pull,push""#))
}

/// A registry with its token service: a token for each of `good`, which gives access.
fn with_tokens(good: &'static [&'static str]) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |seen| {
        let given = seen.authorization();
        if seen.target.starts_with("/token") {
            return match good.iter().find(|g| basic(g) == given || (g.is_empty() && given.is_empty())) {
                Some(user) => reply(200, format!(r#"{{"token":"for-{user}"}}"#)),
                None => reply(401, ""),
            };
        }
        let fits = good.iter().any(|g| format!("Bearer for-{g}") == given);
        if fits { reply(200, BODY) } else { challenge(&format!("{}/token", origin(seen))) }
    }
}

fn with_basic(good: &'static str) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |seen| {
        let challenge = || reply(401, "").with("www-authenticate", "Basic realm=\"r\"");
        if seen.authorization() == basic(good) { reply(200, BODY) } else { challenge() }
    }
}

fn tokens_asked(server: &Server) -> usize {
    server.seen().iter().filter(|s| s.target.starts_with("/token")).count()
}

#[tokio::test]
async fn g17_asks_for_pull_only_and_keeps_the_token() {
    let server = Server::plain(1, with_tokens(&["u:p"]));
    let (upstream, access) = (upstream(), insecure_with(keychain(&[(&server.host(), "u:p")])));
    for _ in 0..3 {
        assert_eq!(fetch(&upstream, &server, &access).await, Ok(true));
    }
    assert_eq!(tokens_asked(&server), 1);
    let asked = server.lines()[1].clone();
    assert_eq!(asked, "GET /token?service=svc&scope=repository%3Aa%2Fb%3Apull");
    // Challenge, token, and three times the blob.
    assert_eq!(server.lines().len(), 5);
}

#[tokio::test]
async fn g10_anonymous_tokens_are_fetched_without_credentials() {
    let server = Server::plain(1, with_tokens(&[""]));
    assert_eq!(fetch(&upstream(), &server, &insecure()).await, Ok(true));
    assert!(server.seen().iter().all(|s| !s.authorization().starts_with("Basic")));
}

#[tokio::test]
async fn g12_a_wrong_credential_does_not_hide_a_right_one() {
    let tokens = Server::plain(1, with_tokens(&["u:right"]));
    let passwords = Server::plain(1, with_basic("u:right"));
    for server in [tokens, passwords] {
        let entries = [(&*server.host(), "u:wrong"), (&*server.host(), "u:right")];
        let upstream = upstream();
        assert_eq!(fetch(&upstream, &server, &insecure_with(keychain(&entries))).await, Ok(true));
        let wrong_only = fetch(&upstream, &server, &insecure_with(keychain(&entries[..1]))).await;
        assert_eq!(wrong_only.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
        assert_eq!(fetch(&upstream, &server, &insecure()).await.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
    }
}

#[tokio::test]
async fn g12_after_all_credentials_comes_the_anonymous_try() {
    let server = Server::plain(1, with_tokens(&[""]));
    let access = insecure_with(keychain(&[(&server.host(), "u:wrong")]));
    assert_eq!(fetch(&upstream(), &server, &access).await, Ok(true));
}

#[tokio::test]
async fn g12_what_is_hidden_from_one_credential_may_be_there_for_the_next() {
    let server = Server::plain(1, |seen| {
        if seen.authorization() == basic("u:other") { reply(404, "") } else { with_basic("u:right")(seen) }
    });
    let host = server.host();
    let upstream = upstream();
    let both = insecure_with(keychain(&[(&host, "u:other"), (&host, "u:right")]));
    for _ in 0..2 {
        assert_eq!(fetch(&upstream, &server, &both).await, Ok(true));
    }
    let one = insecure_with(keychain(&[(&host, "u:other")]));
    assert_eq!(fetch(&upstream, &server, &one).await, Ok(false));
    let hidden = insecure_with(keychain(&[(&host, "u:other"), (&host, "u:wrong")]));
    assert_eq!(fetch(&upstream, &server, &hidden).await, Ok(false));
}

#[tokio::test]
async fn g16_f9_one_tenants_token_never_serves_another() {
    let server = Server::plain(1, with_tokens(&["a:a", "b:b"]));
    let host = server.host();
    let upstream = upstream();
    let of = |entry: &str| insecure_with(keychain(&[(&host, entry)]));
    assert_eq!(fetch(&upstream, &server, &of("a:a")).await, Ok(true));
    assert_eq!(fetch(&upstream, &server, &insecure()).await.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
    assert_eq!(fetch(&upstream, &server, &of("a:x")).await.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
    assert_eq!(fetch(&upstream, &server, &of("b:b")).await, Ok(true));
    let last = server.seen().last().map(|s| s.authorization().to_owned());
    assert_eq!(last.as_deref(), Some("Bearer for-b:b"));
    // Nor does it serve another repository, or another way to reach the registry.
    let before = tokens_asked(&server);
    assert_eq!(fetch_from(&upstream, &server.repository("c"), &of("a:a")).await, Ok(true));
    let mut guarded = of("a:a");
    guarded.transport.ca = Some(Authority::new().pem().into());
    assert_eq!(fetch(&upstream, &server, &guarded).await, Ok(true));
    assert_eq!(tokens_asked(&server), before + 2);
}

#[tokio::test]
async fn what_anonymous_requests_found_does_not_bind_those_with_credentials() {
    let server = Server::plain(1, |seen| match seen.authorization() {
        "Bearer for-" => reply(404, ""),
        _ => with_tokens(&["", "u:p"])(seen),
    });
    let upstream = upstream();
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(false));
    let access = insecure_with(keychain(&[(&server.host(), "u:p")]));
    assert_eq!(fetch(&upstream, &server, &access).await, Ok(true));
}

#[tokio::test]
async fn a_token_that_ran_out_or_was_withdrawn_is_replaced() {
    let server = Server::plain(1, |seen| {
        if seen.target.starts_with("/token") {
            return reply(200, r#"{"token":"short","expires_in":1}"#);
        }
        if seen.authorization().is_empty() { challenge(&format!("{}/token", origin(seen))) } else { reply(200, BODY) }
    });
    let upstream = upstream();
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(true));
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(true));
    assert_eq!(tokens_asked(&server), 2);

    let withdrawn = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::plain(1, move |seen| {
        let serial = withdrawn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if seen.target.starts_with("/token") {
            return reply(200, r#"{"token":"t"}"#);
        }
        // The third blob request comes with a token that is no longer good.
        let refuse = seen.authorization().is_empty() || serial == 3;
        if refuse { challenge(&format!("{}/token", origin(seen))) } else { reply(200, BODY) }
    });
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(true));
    assert_eq!(fetch(&upstream, &server, &insecure()).await, Ok(true));
    assert_eq!(tokens_asked(&server), 2);
}

#[tokio::test]
async fn g18_access_token_alone_no_service_and_several_challenges_are_handled() {
    let server = Server::plain(1, |seen| {
        if seen.target.starts_with("/token?") {
            assert_eq!(seen.target, "/token?scope=repository%3Aa%2Fb%3Apull");
            return reply(200, r#"{"access_token":"x","token":""}"#);
        }
        let bearer = format!("Negotiate, Bearer realm={}/token", origin(seen));
        let challenge = || reply(401, "").with("www-authenticate", "Digest x=y").with("www-authenticate", bearer);
        if seen.authorization() == "Bearer x" { reply(200, BODY) } else { challenge() }
    });
    assert_eq!(fetch(&upstream(), &server, &insecure()).await, Ok(true));
}

#[tokio::test]
async fn identity_tokens_are_exchanged_by_post() {
    let server = Server::plain(1, |seen| {
        if seen.method == "POST" {
            let expected = "grant_type=refresh_token&client_id=podseal&service=svc\
                            &scope=repository%3Aa%2Fb%3Apull&refresh_token=s%26cret";
            return if seen.body == expected { reply(200, r#"{"access_token":"x"}"#) } else { reply(400, "") };
        }
        if seen.authorization() == "Bearer x" {
            reply(200, BODY)
        } else {
            challenge(&format!("{}/token", origin(seen)))
        }
    });
    let host = server.host();
    let good = insecure_with(keychain(&[(&host, "token:s&cret")]));
    assert_eq!(fetch(&upstream(), &server, &good).await, Ok(true));
    let bad = insecure_with(keychain(&[(&host, "token:other")]));
    let result = fetch(&upstream(), &server, &bad).await;
    assert!(result.is_err(), "{result:?}");
}

#[tokio::test]
async fn g2_credentials_do_not_go_to_a_foreign_token_service_unless_it_is_listed() {
    let authority = Authority::new();
    let service = Server::tls(2, &authority, |seen| {
        if seen.authorization() == basic("u:p") { reply(200, r#"{"token":"x"}"#) } else { reply(401, "") }
    });
    let realm = format!("https://{}/token", service.host());
    let server = Server::tls(1, &authority, move |seen| {
        if seen.authorization() == "Bearer x" { reply(200, BODY) } else { challenge(&realm) }
    });
    let access = access(trusting(&authority), keychain(&[(&server.host(), "u:p")]));
    let fault = fetch(&upstream(), &server, &access).await.expect_err("refused");
    assert_eq!(fault.kind(), FaultKind::Unauthorized);
    assert!(fault.message().contains("127.0.0.2") && fault.message().contains("permit"), "{fault}");
    assert!(service.seen().iter().all(|s| s.authorization().is_empty()));
    assert_eq!(service.seen().len(), 1, "one anonymous request");
    for host in ["127.0.0.2".to_owned(), service.host()] {
        let config = SourceConfig { token_realms: vec![(server.host(), host)], ..SourceConfig::default() };
        let upstream = Upstream::new(config).expect("upstream");
        assert_eq!(fetch(&upstream, &server, &access).await, Ok(true));
    }
    // Listed for another registry only.
    let config = SourceConfig { token_realms: vec![("x.example".into(), service.host())], ..SourceConfig::default() };
    assert!(fetch(&Upstream::new(config).expect("upstream"), &server, &access).await.is_err());
}

#[tokio::test]
async fn g2_a_foreign_token_service_is_still_asked_anonymously_and_basic_goes_to_the_registry() {
    let authority = Authority::new();
    let service = Server::tls(2, &authority, |_| reply(200, r#"{"token":"x"}"#));
    let realm = format!("https://{}/token", service.host());
    let bearer = realm.clone();
    let public = Server::tls(1, &authority, move |seen| {
        if seen.authorization() == "Bearer x" { reply(200, BODY) } else { challenge(&bearer) }
    });
    let either = Server::tls(1, &authority, move |seen| {
        if seen.authorization() == basic("u:p") {
            reply(200, BODY)
        } else {
            challenge(&realm).with("www-authenticate", "Basic realm=x")
        }
    });
    for server in [&public, &either] {
        let access = access(trusting(&authority), keychain(&[(&server.host(), "u:p")]));
        assert_eq!(fetch(&upstream(), server, &access).await, Ok(true));
    }
    assert!(service.seen().iter().all(|s| s.authorization().is_empty()));
}

#[test]
fn g2_the_known_pairs_are_for_their_registry_and_the_standard_port() {
    let config = SourceConfig::default();
    let is = |realm: &str, registry: &str| {
        let transport = Transport::default();
        let home = Home { host: registry.to_owned(), ..bare_home(&transport) };
        let mut headers = http::HeaderMap::new();
        let text = format!("Bearer realm=\"{realm}\"");
        headers.insert("www-authenticate", text.parse().expect("header"));
        let repository = Repository::new(registry, "a").expect("repository");
        let challenge = challenge::challenges(&headers).remove(0);
        TokenService::read(&challenge, &home, &repository, &config).map(|s| s.trusted)
    };
    assert_eq!(is("https://auth.docker.io/token", "docker.io"), Ok(true));
    assert_eq!(is("https://gitlab.com/jwt/auth", "registry.gitlab.com"), Ok(true));
    assert_eq!(is("https://r.example/token", "r.example"), Ok(true));
    for (realm, registry) in [
        ("https://auth.docker.io:8443/token", "docker.io"),
        ("https://auth.docker.io.evil.example/token", "docker.io"),
        ("https://auth.docker.io/token", "evil.example"),
        ("https://gitlab.com/jwt/auth", "docker.io"),
    ] {
        assert_eq!(is(realm, registry), Ok(false), "{realm}");
    }
    for realm in ["http://r.example/t", "https://u:p@r.example/t", "ftp://r.example/", "/token", "data:x", ""] {
        assert!(is(realm, "r.example").is_err(), "{realm}");
    }
}

fn bare_home(transport: &Transport) -> Home<'_> {
    Home {
        host: String::new(),
        port: None,
        insecure: false,
        plain: false,
        confined: false,
        transport,
        deadline: Instant::now(),
        kind: crate::source::UpstreamKind::Registry,
        subject: "".into(),
    }
}

#[tokio::test]
async fn g7_insecure_never_covers_the_token_service_of_another_host() {
    let authority = Authority::new();
    let unverified = Server::tls(2, &authority, |_| reply(200, r#"{"token":"x"}"#));
    let plain = Server::plain(3, |_| reply(200, r#"{"token":"x"}"#));
    for realm in [format!("https://{}/token", unverified.host()), format!("http://{}/token", plain.host())] {
        let server = Server::plain(1, move |_| challenge(&realm));
        let result = fetch(&upstream(), &server, &insecure()).await.map_err(|f| f.kind());
        assert!(matches!(result, Err(FaultKind::Unreachable | FaultKind::BadAnswer)), "{result:?}");
    }
    assert!(unverified.lines().is_empty() && plain.lines().is_empty());
    // On its own host it does.
    let own = Server::tls(1, &authority, with_tokens(&[""]));
    assert_eq!(fetch(&upstream(), &own, &insecure()).await, Ok(true));
}

#[tokio::test]
async fn g3_redirects_to_another_origin_go_without_authorization() {
    let authority = Authority::new();
    let storage = Server::tls(2, &authority, |_| reply(200, BODY));
    let target = storage.host();
    let server = Server::tls(1, &authority, move |seen| match seen.authorization() {
        "" => reply(401, "").with("www-authenticate", "Basic"),
        _ if seen.target.contains("a/b") => reply(307, "").with("location", format!("https://{target}/x")),
        _ if seen.target == "/moved" => reply(200, BODY),
        _ => reply(302, "").with("location", "/moved"),
    });
    let access = access(trusting(&authority), keychain(&[(&server.host(), "u:p")]));
    let upstream = upstream();
    assert_eq!(fetch(&upstream, &server, &access).await, Ok(true));
    assert_eq!(storage.seen().iter().map(Seen::authorization).collect::<Vec<_>>(), [""]);
    // Within the origin it stays.
    assert_eq!(fetch_from(&upstream, &server.repository("own"), &access).await, Ok(true));
    assert_eq!(server.seen().last().map(|s| s.authorization().to_owned()), Some(basic("u:p")));
}

#[tokio::test]
async fn g3_authorization_does_not_come_back_and_a_foreign_challenge_is_not_answered() {
    let authority = Authority::new();
    let back = std::sync::Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let address = back.clone();
    let hop = Server::tls(2, &authority, move |seen| match address.get() {
        Some(home) if seen.target == "/back" => reply(307, "").with("location", format!("https://{home}/final")),
        _ => reply(401, "").with("www-authenticate", "Basic"),
    });
    let target = hop.host();
    let server = Server::tls(1, &authority, move |seen| {
        let to = if seen.target.contains("/a/b/") { "back" } else { "challenge" };
        match seen.target.as_str() {
            "/final" => reply(200, BODY),
            _ if seen.authorization().is_empty() && to == "back" => reply(401, "").with("www-authenticate", "Basic"),
            _ => reply(307, "").with("location", format!("https://{target}/{to}")),
        }
    });
    back.set(server.address).expect("once");
    let access = access(trusting(&authority), keychain(&[(&server.host(), "u:p"), ("127.0.0.2", "u:p")]));
    assert_eq!(fetch(&upstream(), &server, &access).await, Ok(true));
    let last = server.seen().pop().expect("request");
    assert_eq!((last.target.as_str(), last.authorization()), ("/final", ""));
    let fault = fetch_from(&upstream(), &server.repository("c"), &access).await.expect_err("refused");
    assert_eq!(fault.kind(), FaultKind::Unauthorized);
    assert!(hop.seen().iter().all(|s| s.authorization().is_empty()));
}

#[tokio::test]
async fn g1_credentials_of_one_registry_are_not_sent_to_another() {
    let server = Server::plain(1, with_basic("u:p"));
    let access = insecure_with(keychain(&[("other.example", "u:p")]));
    assert_eq!(fetch(&upstream(), &server, &access).await.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
    assert!(server.seen().iter().all(|s| s.authorization().is_empty()));
}

#[tokio::test]
async fn h23_e32_a_token_answer_is_bounded_and_must_hold_a_token() {
    let endless = Server::plain(1, |seen| {
        if seen.target.starts_with("/token") {
            Reply::Endless { status: 200, headers: Vec::new() }
        } else {
            challenge(&format!("{}/token", origin(seen)))
        }
    });
    assert_eq!(fetch(&upstream(), &endless, &insecure()).await.map_err(|f| f.kind()), Err(FaultKind::TooLarge));
    let huge = format!(r#"{{"token":"{}"}}"#, "x".repeat(200_000));
    for body in ["", "{}", "[]", r#"{"token":7}"#, r#"{"token":"a\nb"}"#, r#"{"expires_in":-1,"token":"x"}"#, &huge] {
        let body = body.to_owned();
        let server = Server::plain(1, move |seen| {
            if seen.target.starts_with("/token") {
                reply(200, body.clone())
            } else {
                challenge(&format!("{}/token", origin(seen)))
            }
        });
        assert_eq!(fetch(&upstream(), &server, &insecure()).await.map_err(|f| f.kind()), Err(FaultKind::BadAnswer));
    }
}

#[tokio::test]
async fn a_token_service_that_fails_is_a_fault_and_no_rejection() {
    for (status, expected) in [(500, FaultKind::BadAnswer), (429, FaultKind::RateLimited), (418, FaultKind::BadAnswer)]
    {
        let server = Server::plain(1, move |seen| {
            if seen.target.starts_with("/token") {
                reply(status, "")
            } else {
                challenge(&format!("{}/token", origin(seen)))
            }
        });
        assert_eq!(fetch(&upstream(), &server, &insecure()).await.map_err(|f| f.kind()), Err(expected));
    }
}

#[tokio::test]
async fn g6_no_secret_is_in_what_can_be_printed() {
    let server = Server::plain(1, |seen| {
        if seen.target.starts_with("/token") {
            return reply(200, r#"{"token":"t0ken-secret"}"#);
        }
        if seen.authorization().is_empty() { challenge(&format!("{}/token", origin(seen))) } else { Reply::HangUp }
    });
    let signed = Server::plain(1, |_| reply(307, "").with("location", "https://127.0.0.1:9/x?X-Signature=s1gned"));
    let upstream = upstream();
    let access = insecure_with(keychain(&[(&server.host(), "user:passw0rd"), (&signed.host(), "user:passw0rd")]));
    for server in [&server, &signed] {
        let fault = fetch(&upstream, server, &access).await.expect_err("fault");
        let printed = format!("{fault} {fault:?} {:?} {upstream:?} {access:?}", fault.detail());
        for secret in ["t0ken-secret", "passw0rd", &basic("user:passw0rd")[6..], "s1gned"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(fault.message().contains("a/b") && fault.message().contains(&server.host()), "{fault}");
    }
    let request = Request {
        method: http::Method::GET,
        url: url::Url::parse("https://r.example/").expect("url"),
        accept: None,
        authorization: basic_header(&access.keychain.for_repository(&server.repository("a"))[0]),
        credential: [0; 32],
        form: Some(crate::source::http::Form("refresh_token=passw0rd".into())),
        content: None,
        limit: 0,
    };
    let printed = format!("{request:?}");
    assert!(!printed.contains("passw0rd") && !printed.contains(&basic("user:passw0rd")[6..]), "{printed}");
}

#[tokio::test]
async fn the_refusal_says_the_way_out() {
    let server = Server::plain(1, with_basic("u:p"));
    let fault = fetch(&upstream(), &server, &insecure()).await.expect_err("refused");
    assert!(fault.message().contains("image pull secret") && fault.message().contains(&server.host()), "{fault}");
    let access = access(Transport { insecure: true, ..Transport::default() }, Keychain::default());
    let none = Server::plain(1, |_| reply(401, ""));
    assert_eq!(fetch(&upstream(), &none, &access).await.map_err(|f| f.kind()), Err(FaultKind::Unauthorized));
}
